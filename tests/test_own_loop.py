"""The claim of README and docs/own-loop.md: three lines add any weight variant to any model and training loop."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.data.torchvision_import import import_torchvision
from runner.dropout import Targeted, TargetedUnit, UnitDropout, WeightDropout
from runner.pruning.apply import prune

ROOT = Path(__file__).parent.parent


def resnet():
    """torchvision's ResNet with one block in each stage, half of ResNet-18."""
    import_torchvision()
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5), torch.randn(4, 3, 32, 32)


def mlp():
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 5))
    return model, torch.randn(4, 20)


@pytest.mark.slow
@pytest.mark.parametrize("make", [resnet, mlp])
@pytest.mark.parametrize(
    "variant",
    [Targeted(0.5, 0.75), TargetedUnit(0.5, 0.75), WeightDropout(0.5), UnitDropout(0.5)],
    ids=lambda v: type(v).__name__,
)
def test_three_lines_in_an_own_loop(make, variant):
    torch.manual_seed(0)
    model, inputs = make()
    keys = list(model.state_dict())
    labels = torch.arange(4)

    variant.attach(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    variant.detach()

    assert min(losses[-3:]) < losses[0]
    assert list(model.state_dict()) == keys
    model.eval()
    assert torch.equal(model(inputs), model(inputs))
    masks = prune(model, 0.75, variant.granularities[0])
    for name, mask in masks.items():
        weight = model.get_submodule(name).weight
        assert not weight[mask.expand_as(weight)].any()


def blocks_of(page):
    """Return the page's Python code that attaches a variant."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.S)
    return [block for block in code if "variant.attach(model)" in block or "FixedMask" in block]


def test_the_loops_on_the_pages_run():
    loop, tuning, trained = blocks_of("docs/own-loop.md")
    assert blocks_of("README.md") == [loop]
    torch.manual_seed(0)
    model, inputs = mlp()
    names = {"model": model, "loader": [(inputs, torch.arange(4))] * 2, "F": F, "torch": torch}
    exec(loop, names)
    assert int((model[0].weight == 0).sum()) == 16 * 15
    pruned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    exec(tuning, names)
    assert torch.equal(model[0].weight == 0, pruned["0.weight"] == 0)
    assert not torch.equal(model[0].weight, pruned["0.weight"])
    exec(trained, names)
    assert int((model[0].weight == 0).sum()) == 16 * 18


def test_a_checkpoint_in_between_holds_the_model_and_the_variant(tmp_path):
    """As described in docs/own-loop.md. Saving the module itself fails with an error from PyTorch."""
    torch.manual_seed(0)
    (model, inputs), (other, _) = mlp(), mlp()
    first, second = Targeted(0.5, 0.75, ramp=[0.2, 0.4, 0.4]), Targeted(0.5, 0.75, ramp=[0.2, 0.4, 0.4])
    first.attach(model)
    first.before_step(1, 5)
    with pytest.raises(RuntimeError, match="state_dict"):
        torch.save(model, tmp_path / "model.pt")
    torch.save({"model": model.state_dict(), "variant": first.state_dict()}, tmp_path / "checkpoint.pt")
    second.attach(other)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    other.load_state_dict(saved["model"])
    second.load_state_dict(saved["variant"])
    assert torch.equal(model.eval()(inputs), other.eval()(inputs))
