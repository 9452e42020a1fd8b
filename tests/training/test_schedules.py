import itertools

import pytest
from torch import nn

from runner.training.schedules import OneCycle, StepDecay, decay_groups


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


def test_everything_decays_but_normalisation():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    decaying, plain = decay_groups(model, 2e-4)
    assert [id(p) for p in decaying["params"]] == [id(p) for m in (model[0], model[2]) for p in m.parameters()]
    assert [id(p) for p in plain["params"]] == [id(p) for p in model[1].parameters()]
    assert (decaying["weight_decay"], plain["weight_decay"]) == (2e-4, 0)
