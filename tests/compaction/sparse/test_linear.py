"""Sparse linear layers."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from runner.compaction.sparse import SparseLinear, linear, sparsify_linear
from runner.models.transformer import Transformer


def pruned(inputs, outputs, density, bias=True):
    layer = nn.Linear(inputs, outputs, bias)
    layer.weight.data *= torch.rand_like(layer.weight) < density
    return layer.eval()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 90),
    st.integers(1, 70),
    st.integers(1, 150),
    st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    st.booleans(),
    st.sampled_from([1, 2, 3]),
)
def test_equals_the_dense_layer(inputs, outputs, tokens, density, bias, threads):
    torch.manual_seed(0)
    layer, x, before = pruned(inputs, outputs, density, bias), torch.randn(tokens, inputs), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            expected, found = layer(x), SparseLinear(layer)(x)
    finally:
        torch.set_num_threads(before)
    assert (found - expected).abs().max() <= 1e-5 * max(1e-3, expected.abs().max())


def test_any_leading_shape_and_memory_order():
    torch.manual_seed(0)
    layer = pruned(12, 7, 0.3)
    sparse, x = SparseLinear(layer), torch.randn(12, 5, 4).permute(1, 2, 0)
    assert torch.allclose(sparse(x), layer(x), atol=1e-6)
    assert sparse(x[0, 0]).shape == (7,)
    assert sparse(x[:0]).shape == (0, 4, 7)


@pytest.mark.parametrize("x", [torch.zeros(2, 5), torch.zeros(2, 4, dtype=torch.float16), torch.tensor(1.0)])
def test_refuses_other_inputs(x):
    with pytest.raises(ValueError, match=r"expects \(…, 4\) float32 on the cpu"):
        SparseLinear(nn.Linear(4, 3))(x)


def test_refuses_training():
    with pytest.raises(ValueError, match="can't be trained"):
        SparseLinear(nn.Linear(4, 3)).train()
    with pytest.raises(ValueError, match="eval"):
        sparsify_linear(nn.Sequential(nn.Linear(4, 3)))


def test_copies_and_pickles():
    torch.manual_seed(0)
    sparse, x = SparseLinear(pruned(9, 5, 0.5)), torch.randn(3, 9)
    for other in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert torch.equal(other(x), sparse(x))


def test_replaces_the_layers_that_are_faster(monkeypatch):
    """The times are given, so that the choice is known."""
    torch.manual_seed(0)
    model = Transformer(20, layers=1, features=16, heads=2, feed_forward=32).eval()
    source, target = torch.randint(3, 20, (2, 5)), torch.randint(3, 20, (2, 4))
    monkeypatch.setattr(
        linear, "in_turn", lambda calls, rounds: [[2.0 if calls[1].func.in_features == 32 else 1.0], [1.0]]
    )
    sparse = sparsify_linear(model)
    names = [name for name, module in sparse.named_modules() if isinstance(module, SparseLinear)]
    assert names == ["encoder.0.feed_forward.outer", "decoder.0.feed_forward.outer"]
    assert not any(isinstance(module, SparseLinear) for module in model.modules())
    assert torch.allclose(sparse(source, target), model(source, target), atol=1e-5)
