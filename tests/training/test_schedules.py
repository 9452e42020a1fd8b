import itertools
import math

import pytest
import torch
from torch import nn

from runner.training.schedules import Adam, OneCycle, StepDecay, decay_groups


def test_one_cycle_rises_to_its_peak_and_falls_to_nearly_nothing():
    rates = [OneCycle(0.1, warmup=0.25).rate(step, 400) for step in range(400)]
    assert max(rates) == rates[99] == pytest.approx(0.1)
    assert rates[:100] == pytest.approx([0.1 * (step + 1) / 100 for step in range(100)])
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[100:]))
    assert 0 < rates[-1] < 1e-5


@pytest.mark.parametrize("warmup", [0.0, 1.0])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_one_cycle_at_its_edges(warmup, total):
    rates = [OneCycle(0.1, warmup=warmup).rate(step, total) for step in range(total)]
    assert all(0 < rate <= 0.1 for rate in rates)
    assert max(rates) == pytest.approx(0.1)


def test_the_papers_steps():
    """PAPER.md 3.2: 0.4 (<40k), 0.04 (<60k), 0.004 (<80k), 0.0004 after."""
    schedule = StepDecay()
    for step, rate in ((0, 0.4), (39_999, 0.4), (40_000, 0.04), (60_000, 0.004), (79_999, 0.004), (80_000, 0.0004)):
        assert schedule.rate(step, 100_000) == pytest.approx(rate)


def test_the_wide_resnets_steps():
    """PAPER.md 3.7: 0.1, times 0.2 at 60, 120 and 160 of 200 epochs."""
    schedule = StepDecay(0.1, drops=(0.3, 0.6, 0.8), factor=0.2)
    assert [schedule.rate(epoch, 200) for epoch in (59, 60, 120, 199)] == pytest.approx([0.1, 0.02, 0.004, 0.0008])


def test_adams_rates():
    cosine, root, none = (Adam(0.1, warmup=0.1, decay=decay) for decay in ("cosine", "inverse_square_root", "none"))
    for schedule in (cosine, root, none):
        assert [schedule.rate(step, 100) for step in range(10)] == pytest.approx([0.01 * (s + 1) for s in range(10)])
    # Vaswani et al., eq. 3, up to its constant factor: step^-0.5 after the warm-up.
    assert root.rate(39, 100) == pytest.approx(0.1 * (10 / 40) ** 0.5)
    assert none.rate(99, 100) == 0.1
    assert cosine.rate(54, 100) == pytest.approx(0.1 * (1 + math.cos(math.pi * 44 / 90)) / 2)
    assert 0 < cosine.rate(99, 100) < 1e-4
    without = Adam(0.1, warmup=0.0, decay="inverse_square_root")
    assert [without.rate(step, 100) for step in (0, 3)] == pytest.approx([0.1, 0.05])
    with pytest.raises(ValueError, match=r"^decay='linear': expected one of cosine"):
        Adam(decay="linear")


def test_adams_settings_reach_the_optimizer():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = Adam(0.1, betas=[0.5, 0.6], epsilon=1e-3).optimizer([{"params": [parameter], "weight_decay": 0.2}])
    group = optimizer.param_groups[0]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.1, (0.5, 0.6), 1e-3, 0.2)


def test_everything_decays_but_normalisation():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decaying, plain = decay_groups(model, 2e-4)
    assert [id(p) for p in decaying["params"]] == [id(p) for m in (model[0], model[2]) for p in m.parameters()]
    assert [id(p) for p in plain["params"]] == [id(p) for p in model[1].parameters()]
    assert (decaying["weight_decay"], plain["weight_decay"]) == (2e-4, 0)
