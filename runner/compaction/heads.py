"""Trace attention: find the layers that produce queries, keys and values, and features that stay together."""

from collections.abc import Sequence
from functools import reduce

from torch import Tensor

from runner.compaction.coupling import Heads
from runner.compaction.followed import Followed
from runner.models.layers import matrices_in


def same_for_heads(followed: Followed, tensors: Sequence[Tensor]) -> Tensor | None:
    """Return the channels of queries or keys (N, heads, T, …) after multiplication by a tensor that all heads share.

    Such a tensor (rotary embeddings) is as wide as a head, so a head's features are kept or removed together. For other
    products, the result is None.
    """
    x, other = sorted(tensors, key=lambda tensor: id(tensor) not in followed.tracked)
    producers = followed.producers(followed.of(x))
    if x.dim() != 4 or len(producers) != 1 or (other.dim() > 2 and other.shape[-3] > 1):
        return None
    name, outputs = producers[0].name, producers[0].outputs
    heads = matrices_in(followed.modules[name])
    if heads != x.shape[1] or other.expand_as(x).shape != x.shape:
        return None
    if name not in followed.heads:
        followed.heads[name] = reduce(followed.channels.merge, outputs.view(heads, -1).unbind(1))
    return followed.heads[name][None, :, None, None].expand(x.shape)


def attention_channels(followed: Followed, q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
    """Record the heads of scaled dot-product attention and return the channels (heads, features) of its values.

    Args:
        q, k, v: queries, keys and values, with shape (N, heads, T, features).

    Returns:
        The channels, or None unless each of `q`, `k` and `v` is produced by one layer and all three layers are in the
        same module.
    """
    producers = [followed.producers(followed.of(tensor)) for tensor in (q, k, v)]
    names = [layer.name for layers in producers for layer in layers]
    parents = {name.rpartition(".")[0] for name in names}
    heads = {matrices_in(followed.modules[name]) for name in names}
    if [len(layers) for layers in producers] != [1, 1, 1] or len(parents) != 1 or heads != {q.shape[1]}:
        return None
    queries, keys, values = (followed.of(tensor)[0, :, 0] for tensor in (q, k, v))
    followed.channels.merge(queries, keys)
    query, key, value = names
    followed.found.heads.append(Heads(parents.pop(), query, key, value, q.shape[1], q.shape[2], k.shape[2]))
    return values
