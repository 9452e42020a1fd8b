"""The training loop alone: a linear network on eight points, with a minimal task and data."""

import math

import pytest
import torch
from torch import nn

from runner.dropout.base import Variant
from runner.errors import DamagedRun, UserError
from runner.training.callbacks import Callback, FiniteLoss, Guarded
from runner.training.loop import Training
from runner.training.schedules import OneCycle, decay_groups

POINTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0], [0.5, 3.0], [1.5, 0.5], [0.0, 2.0], [3.0, 1.0]])
TARGETS = POINTS @ torch.tensor([[2.0], [-1.0]]) + 0.5


class Batches:
    """Batches of three, three and two of the eight points, so that epochs have three steps."""

    steps_per_epoch, examples_per_step = 3, 3

    def batch(self, step):
        rows = slice(3 * (step % 3), 3 * (step % 3) + 3)
        return POINTS[rows], TARGETS[rows]


class Data:
    splits = ("train", "validation")

    def eval_batches(self, split, limit=None):
        assert split == "validation"
        yield POINTS[:limit], TARGETS[:limit]


class Task:
    def training_loss(self, model, batch):
        inputs, targets = batch
        squares = (model(inputs) - targets) ** 2
        return squares.mean(), {"largest": squares.detach().sum()}, len(inputs)

    def validate(self, model, batches):
        assert not model.training
        (inputs, targets) = next(iter(batches))
        with torch.no_grad():
            return {"loss": float(((model(inputs) - targets) ** 2).mean()), "examples": len(inputs)}


class Noise(Variant):
    """Adds numbers from the global generator to the weight, and stores them."""

    granularities = ("weight",)

    def __init__(self):
        super().__init__()
        self.gate = nn.Parameter(torch.ones(1))
        self.drawn = []

    def attach(self, model, layers=None, example=None):
        model.gate = self.gate

    def detach(self):
        return None

    def before_step(self, step, total):
        self.drawn.append(torch.rand(1).item())

    def penalty(self):
        return 0.01 * self.gate.square().sum()


class Events(Callback):
    def __init__(self):
        self.seen = []

    def on_start(self, training):
        self.seen.append("start")

    def on_step(self, training):
        self.seen.append(training.step)

    def on_epoch(self, training, row):
        self.seen.append(("epoch", row["epoch"], row["step"]))

    def on_end(self, training):
        self.seen.append("end")


class Stop(Callback):
    def __init__(self, at):
        self.at = at

    def on_step(self, training):
        if training.step == self.at and not training.ends_epoch:
            raise KeyboardInterrupt

    def on_epoch(self, training, row):
        if training.step == self.at:  # where checkpoints at the end of an epoch are written, too
            raise KeyboardInterrupt


def training(steps=7, variant=None, clip_norm=None, learning_rate=0.05, limit=None, features=2):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(features, 1))
    schedule = OneCycle(learning_rate=learning_rate, weight_decay=0.1, clip_norm=clip_norm)
    return Training(
        model=model,
        variant=variant or Noise(),
        data=Data(),
        task=Task(),
        schedule=schedule,
        batches=Batches(),
        steps=steps,
        groups=decay_groups(model, 0.1),
        seed=3,
        device=torch.device("cpu"),
        precision="float32",
        examples_per_step=3,
        limit=limit,
    ).attach()


def test_callbacks_are_told_of_every_step_of_whole_epochs_and_of_the_last_one():
    events = Events()
    training(steps=7).fit([events])
    epochs = [("epoch", 1, 3), ("epoch", 2, 6), ("epoch", 3, 7)]
    assert events.seen == ["start", 1, 2, 3, epochs[0], 4, 5, 6, epochs[1], 7, epochs[2], "end"]


def test_callbacks_are_told_of_the_end_when_another_one_stops_the_training():
    events = Events()
    with pytest.raises(KeyboardInterrupt):
        training().fit([events, Stop(at=2)])
    assert events.seen == ["start", 1, 2, "end"]


def test_a_resumed_training_ends_with_the_same_weights_and_rows():
    whole, rows = training(), []

    class Rows(Callback):
        def on_epoch(self, training, row):
            rows.append({key: value for key, value in row.items() if key not in ("seconds", "examples_per_second")})

    whole.fit([Rows()])
    expected = list(rows)
    for at in (1, 3, 5):  # within an epoch, at the end of one, within the next
        rows.clear()
        first = training()
        with pytest.raises(KeyboardInterrupt):
            first.fit([Rows(), Stop(at)])
        second = training()
        second.resume(first.state_dict(), "checkpoint.pt")
        second.fit([Rows()])
        assert rows == expected
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(second.model.state_dict()[name], tensor), name


def test_what_a_step_draws_does_not_depend_on_what_was_drawn_before():
    plain, other = Noise(), Noise()
    training(variant=plain).fit()

    class Draws(Callback):
        def on_step(self, training):
            torch.rand(5)

    training(variant=other).fit([Draws()])
    assert plain.drawn == other.drawn
    assert len(set(plain.drawn)) == 7


def test_averages_weigh_examples_alike_whatever_the_size_of_their_batch():
    one = training(learning_rate=1e-9)
    for _ in range(3):
        one.one_step()
    with torch.no_grad():
        squares = (one.model(POINTS) - TARGETS) ** 2
    averages = one.averages()
    assert averages["loss"] == pytest.approx(float(squares.mean()), rel=1e-5)
    assert averages["largest"] == pytest.approx(float(squares.mean()), rel=1e-5)
    assert averages["penalty"] == pytest.approx(0.01, rel=1e-5)


def test_parameters_of_the_variant_learn_without_weight_decay():
    one = training()
    owners = {
        id(parameter): group["weight_decay"] for group in one.optimizer.param_groups for parameter in group["params"]
    }
    assert owners[id(one.variant.gate)] == 0.0
    assert owners[id(one.model[0].weight)] == 0.1
    one.one_step()
    assert one.variant.gate.item() < 1  # only its penalty changes it


def test_gradients_are_clipped_to_the_norm_of_the_schedule():
    one = training(clip_norm=0.01)
    before = [parameter.detach().clone() for parameter in one.model.parameters()]
    one.one_step()
    norm = math.sqrt(sum(float(parameter.grad.square().sum()) for parameter in one.model.parameters()))
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert any(not torch.equal(old, new) for old, new in zip(before, one.model.parameters(), strict=True))


def test_a_loss_that_is_not_finite_stops_with_its_step():
    one = training(learning_rate=1e30)
    with pytest.raises(UserError, match=r"step [23] of 7"):
        one.fit([FiniteLoss()])


def test_rows_hold_the_rate_training_and_validation():
    one, rows = training(limit=5), []

    class Rows(Callback):
        def on_epoch(self, training, row):
            rows.append(dict(row))

    one.fit([Rows()])
    assert list(rows[0]) == [
        *("epoch", "step", "learning_rate", "train_loss", "train_penalty", "train_largest", "examples_per_second"),
        *("validation_loss", "seconds"),
    ]
    with torch.no_grad():
        last = float(((one.model(POINTS[:5]) - TARGETS[:5]) ** 2).mean())
    assert rows[-1]["validation_loss"] == pytest.approx(last)
    assert [row["learning_rate"] for row in rows] == [one.schedule.rate(step - 1, 7) for step in (3, 6, 7)]


@pytest.mark.parametrize("spoil", ["step", "optimizer", "model"])
def test_a_checkpoint_that_lacks_a_part_or_is_another_models_is_refused(spoil, tmp_path):
    state = training().state_dict()
    if spoil == "model":
        state["model"] = training(features=3).state_dict()["model"]
    else:
        del state[spoil]
    with pytest.raises(DamagedRun, match=r"checkpoint\.pt"):
        training().resume(state, tmp_path / "checkpoint.pt")


def test_a_training_can_begin_later_and_be_longer():
    one, events = training(steps=4), Events()
    one.skip_to(5, steps=8)
    one.fit([events])
    assert events.seen == ["start", 6, ("epoch", 2, 6), 7, 8, ("epoch", 3, 8), "end"]


def test_a_logger_that_cannot_store_its_state_is_a_warning(caplog):
    class Failing:
        calls = 0

        def state_dict(self):
            self.calls += 1
            raise OSError("no connection")

    logger = Failing()
    guarded = Guarded(logger, "mine")
    assert guarded.state_dict() == {} and guarded.state_dict() == {}
    assert logger.calls == 1, "it is not called again"
    assert caplog.text.count("logger mine failed and is disabled: OSError: no connection") == 1
