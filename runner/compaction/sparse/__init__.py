"""Sparse execution of pruned networks on the CPU.

    sparse = sparsify(model.eval(), images)      # a whole network for images
    sparse = sparsify_linear(model.eval())       # the linear layers of any network, where that is faster
    for row in layer_times(sparse, images): ...  # the times of each layer, dense and sparse

The kernels are written in C and compiled at first use with the system's compiler. Without a compiler, networks stay
dense and the log says why.
"""

from runner.compaction.sparse.compiler import NoKernels, kernels
from runner.compaction.sparse.linear import SparseLinear, sparsify_linear
from runner.compaction.sparse.network import SparseNetwork, sparsify
from runner.compaction.sparse.rules import Unsupported
from runner.compaction.sparse.table import LayerTime, layer_times

__all__ = [
    "LayerTime",
    "NoKernels",
    "SparseLinear",
    "SparseNetwork",
    "Unsupported",
    "kernels",
    "layer_times",
    "sparsify",
    "sparsify_linear",
]
