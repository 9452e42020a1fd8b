"""Every variant learns digits with one tiny network, and leaves the number of zeros that its family guarantees."""

import pytest

from runner.config.choices import builtin
from runner.config.compose import Composer, options
from runner.experiment import Experiment
from runner.pruning.apply import prune, recalibrated
from runner.running import settle

NETWORK = [
    *("model=resnet32_narrow", "model.blocks=1", "model.widths=[16]"),
    *("schedule.length=12ep", "schedule.batch_size=64", "precision=float32"),
]
# One percent of a filter's 144 entries is one, and ten percent of 16 filters are one. The last two learn more slowly.
GENTLER = {
    "ramping": ["dropout.gamma=0.9"],
    "ramping_unit": ["dropout.gamma=0.5"],
    "ordered": ["dropout.widths=[0.5,1]"],
    "matryoshka": ["schedule.length=16ep"],
    "xtreme": ["schedule.length=20ep"],
}
# The fraction of weights (or filters) that are exactly zero in the detached network.
ZEROS = {
    "delayed": (0.48, 0.5),
    "delayed_unit": (0.5, 0.5),
    "gradual_magnitude": (0.88, 0.9),
    "rigl": (0.899, 0.9),
    "xtreme": (0.94, 0.99),
}
# These drop half of the members in training, but all or none in evaluation, without rescaling, so that BatchNorm's
# statistics must be measured again. (Dropping by magnitude removes weights that matter less.)
SHIFTED = {"random_targeted", "random_targeted_unit", "targeted_ard"}
# Without a guarantee: gates and log α determine the number of zeros.
FREE = {"hard_concrete", "hard_concrete_unit", "variational", "variational_unit", "smallify", "smallify_unit"}


@pytest.mark.slow
@pytest.mark.parametrize("name", options("dropout"))
def test_learns_digits_and_keeps_its_promise(name, tmp_path):
    config = settle(Composer("train").single([f"dropout={name}", *NETWORK, *GENTLER.get(name, [])]))
    parts = Experiment.from_config(config)
    training = parts.training()
    training.fit()
    attached = training.evaluate("test")["accuracy"]
    if name in SHIFTED:
        with recalibrated(parts.model, parts.data.eval_batches("train")):
            assert training.evaluate("test")["accuracy"] > 0.9
    else:
        assert attached > 0.9

    own, granularity = parts.variant.scores(), parts.variant.granularities[-1]
    floor = parts.variant.floor(granularity)
    parts.variant.detach()
    actual = builtin("granularity", granularity).members(parts.model).sparsity()
    low, high = ZEROS.get(name, (0.0, 1.0) if name in FREE else (0.0, 0.0))
    assert low - 1e-9 <= actual <= high + 1e-9

    prune(parts.model, floor, granularity, scores=own.get(granularity))
    plain = parts.task.evaluate(parts.model.eval(), parts.data.eval_batches("test"))["accuracy"]
    assert plain == pytest.approx(attached, abs=0.01)
