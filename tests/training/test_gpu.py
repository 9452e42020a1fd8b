"""A few steps of every variant on a GPU, compared with the same steps on the CPU. Skipped without a GPU."""

import pytest
import torch

from runner.config.compose import Composer, options
from runner.experiment import Experiment
from runner.running import settle

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GPU = "cuda"
TINY = ["debug=smoke", "model=resnet32_he", "precision=float32", "schedule.learning_rate=0.01"]
# Their masks or noise are drawn on the device, whose generator gives other numbers than the CPU's.
RANDOM = set(options("dropout")) - {"none", "delayed", "delayed_unit", "gradual_magnitude", "masked"}


@pytest.mark.parametrize("name", options("dropout"))
def test_trains_as_on_the_processor(name):
    losses = {}
    for device in ("cpu", GPU):
        words = [*TINY, f"dropout={name}", f"device={device}"]
        training = Experiment.from_config(settle(Composer("train").single(words))).training()
        training.fit()
        assert all(parameter.device.type == torch.device(device).type for parameter in training.model.parameters())
        losses[device] = training.evaluate("test")["loss"]
        assert losses[device] == losses[device], "not a number"
    if name not in RANDOM:
        assert losses[GPU] == pytest.approx(losses["cpu"], rel=0.05)
