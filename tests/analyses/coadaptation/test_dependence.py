"""The effect of pruning, predicted and measured, and the blocks of the matrix."""

import pytest
import torch

from runner.analyses.coadaptation.blocks import Blocks
from runner.analyses.coadaptation.dependence import dependence, passes, pruned_weights, spread_ranks
from runner.analyses.coadaptation.hutchinson import Squares, block_squares
from runner.pruning.apply import prune


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _study(surface, sparsity=0.5, members=None, probes=0):
    members = len(surface.theta) if members is None else members
    return dependence(surface, sparsity, members, probes, _generator())


@pytest.mark.parametrize("network", ["dense", "convolutional"])
def test_removed_are_the_weights_that_pruning_removes(network, request, surface_of):
    model, batches = request.getfixturevalue(network)
    surface = surface_of((model, batches))
    pruned = pruned_weights(surface, 0.6)
    before = surface.theta.clone()
    prune(model, 0.6)
    after = surface_of((model, batches)).theta
    torch.testing.assert_close(before * ~pruned, after, rtol=0, atol=0)
    assert 0 < int(pruned.sum()) == int((after == 0).sum())


def test_the_measured_change_is_that_of_a_pruned_model(dense, surface_of):
    found = _study(surface_of(dense), 0.6)
    prune(dense[0], 0.6)
    pruned = surface_of(dense)
    assert found.after == pruned.level(pruned.theta)
    assert found.measured == found.after.loss - found.before.loss != 0


def test_the_prediction_errs_in_the_third_order(dense, surface_of):
    """If a step d is scaled by ε, the error of eq. 3 scales with ε³."""
    surface = surface_of(dense)
    found = _study(surface, 0.5)
    removed = surface.theta * pruned_weights(surface, 0.5)

    def error(scale):
        change = surface.level(surface.theta - scale * removed).loss - found.before.loss
        return abs(change - scale * found.gradient_term - scale**2 * found.curvature_term)

    assert error(1.0) == pytest.approx(abs(found.measured - found.predicted))
    errors = [error(0.1 * 0.5**i) for i in range(3)]
    assert errors[0] > 1e-9
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(8, rel=0.1)


def test_the_matrix_is_sorted_and_sums_to_what_eq_3_has(dense, surface_of):
    surface = surface_of(dense)
    found = _study(surface, 0.5)
    shown = found.shown
    assert (shown.theta.abs().diff() <= 0).all()
    torch.testing.assert_close(shown.theta, surface.theta[shown.members])
    torch.testing.assert_close(shown.gradient, surface.gradient()[shown.members])
    assert sorted(shown.members.tolist()) == list(range(found.weights))
    hessian = surface.hessian(torch.arange(found.weights))
    i, j = 3, 17
    a, b = shown.members[i], shown.members[j]
    assert shown.matrix[i, j] == pytest.approx(float(surface.theta[a] * hessian[a, b] * surface.theta[b]))
    exact = Blocks.of(shown.matrix, shown.pruned)
    for part in ("kept", "between", "pruned"):
        assert getattr(found.sums, part) == pytest.approx(getattr(exact, part), rel=1e-9)
    assert found.curvature_term == pytest.approx(float(shown.matrix[shown.pruned][:, shown.pruned].sum()) / 2)
    assert found.gradient_term == pytest.approx(-float((shown.gradient * shown.theta)[shown.pruned].sum()))


def test_blocks_are_made_by_the_mask():
    matrix = torch.tensor([[1.0, 2, 3], [20, 40, 80], [7, 8, 16]])
    blocks = Blocks.of(matrix, torch.tensor([False, True, False]))
    assert blocks == Blocks(kept=1 + 3 + 7 + 16, between=2 + 20 + 80 + 8, pruned=40)
    assert blocks.total == matrix.sum()
    assert blocks.shares.pruned == pytest.approx(40 / 177)
    assert str(Blocks(0, 0, 0).shares.kept) == "nan"


def test_nothing_and_everything_pruned(dense, surface_of):
    surface = surface_of(dense)
    nothing, everything = _study(surface, 0.0), _study(surface, 1.0)
    assert nothing.predicted == nothing.measured == 0
    assert nothing.shown.absolute.shares == Blocks(1, 0, 0)
    assert everything.shown.absolute.shares == Blocks(0, 0, 1)


def test_some_weights_are_at_evenly_spaced_ranks():
    theta = torch.tensor([1.0, -9, 3, 5, -7, 4, 2, 8])
    assert theta[spread_ranks(theta, 8)].tolist() == [-9, 8, -7, 5, 4, 3, 2, 1]
    assert theta[spread_ranks(theta, 4)].tolist() == [8, 5, 3, 1]
    assert theta[spread_ranks(theta, 1)].tolist() == [4]
    assert spread_ranks(torch.ones(6), 3).tolist() == [1, 3, 5]


def test_a_part_of_the_matrix_is_that_of_the_whole(dense, surface_of):
    surface = surface_of(dense)
    whole, part = _study(surface), _study(surface, members=10)
    places = [whole.shown.members.tolist().index(member) for member in part.shown.members.tolist()]
    torch.testing.assert_close(part.shown.matrix, whole.shown.matrix[places][:, places])
    assert part.shown.pruned.tolist() == whole.shown.pruned[places].tolist()
    assert (part.predicted, part.measured) == (whole.predicted, whole.measured)
    assert part.squares is None
    assert _study(surface, members=0).shown is None


def test_hutchinson_meets_the_exact_squares(dense, surface_of):
    surface = surface_of(dense)
    exact = _study(surface).squares
    found = _study(surface, members=0, probes=400).squares
    assert (exact.probes, found.probes) == (0, 400)
    for part in ("kept", "between", "pruned"):
        for values, expected, errors in (
            (found.values, exact.values, found.errors),
            (found.values.shares, exact.values.shares, found.share_errors),
        ):
            value, error = getattr(values, part), getattr(errors, part)
            assert 0 < error < 0.15 * value
            assert abs(value - getattr(expected, part)) < 3 * error


def test_the_stated_errors_are_the_spread_of_estimates(dense, surface_of):
    surface = surface_of(dense)
    pruned = pruned_weights(surface, 0.5)
    found = [block_squares(surface, pruned, 16, _generator(seed)) for seed in range(60)]
    for part in ("kept", "between", "pruned"):
        for estimates, stated in (
            ([one.values for one in found], [one.errors for one in found]),
            ([one.values.shares for one in found], [one.share_errors for one in found]),
        ):
            spread = float(torch.tensor([getattr(one, part) for one in estimates]).std())
            assert spread == pytest.approx(sum(getattr(one, part) for one in stated) / len(found), rel=0.35)


def test_probes_may_come_in_groups(dense, surface_of):
    surface = surface_of(dense)
    pruned = pruned_weights(surface, 0.5)
    together = block_squares(surface, pruned, 5, _generator())
    surface.at_once = 2
    apart = block_squares(surface, pruned, 5, _generator())
    assert apart.probes == 5
    assert apart.values.kept == pytest.approx(together.values.kept, rel=1e-9)


def test_convolutions_in_float32_agree_with_float64(convolutional, surface_of):
    single, double = (_study(surface_of(convolutional, dtype=d), 0.5, 0, 4) for d in (torch.float32, torch.float64))
    assert single.predicted == pytest.approx(double.predicted, rel=1e-3)
    assert single.sums.between == pytest.approx(double.sums.between, rel=1e-3)
    assert single.squares.values.pruned == pytest.approx(double.squares.values.pruned, rel=1e-3)


def test_an_exact_sum_has_no_error():
    squares = Squares.exact(torch.tensor([[1.0, -2], [-2, 3]]), torch.tensor([False, True]))
    assert squares == Squares(Blocks(1, 8, 9), None, None, 0)


@pytest.mark.parametrize(("members", "probes"), [(114, 4), (10, 4), (0, 4), (10, 0)])
def test_progress_reaches_its_end(members, probes, dense, surface_of):
    work = []
    _study(surface_of(dense, advance=work.append), members=members, probes=probes)
    assert sum(work) == 17 * passes(114, members, probes)
