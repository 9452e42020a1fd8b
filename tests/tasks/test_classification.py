import torch
from torch import nn

from runner.tasks.classification import Classification


def logits_of(classes: list[int]) -> torch.Tensor:
    return nn.functional.one_hot(torch.tensor(classes), 6).float()


def test_within_counts_neighbours_of_the_label() -> None:
    batches = [(logits_of([0, 1, 2]), torch.tensor([0, 2, 5])), (logits_of([5]), torch.tensor([3]))]
    plain, near = Classification(), Classification(within=1)
    assert [metric.name for metric in plain.metrics] == ["accuracy"]
    assert [metric.label for metric in near.sweep_metrics] == ["accuracy", "accuracy within 1"]
    assert (plain.headline, near.headline) == ("accuracy", "within")
    found = near.evaluate(nn.Identity(), batches)
    assert (found["accuracy"], found["within"], found["examples"]) == (0.25, 0.5, 4)
    assert Classification(within=2).evaluate(nn.Identity(), batches)["within"] == 0.75
    whole = plain.evaluate(nn.Identity(), batches)
    assert whole == {name: found[name] for name in ("accuracy", "loss", "examples")}
    _, sums, count = near.training_loss(nn.Identity(), batches[0])
    assert ({name: int(total) for name, total in sums.items()}, count) == ({"accuracy": 1, "within": 2}, 3)
