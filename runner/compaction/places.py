"""Find feature places by tracing, for networks that don't declare any."""

from collections import Counter

from runner.compaction.coupling import FIXED, Coupling
from runner.models.layers import FeaturePlace


def find_places(coupling: Coupling) -> tuple[FeaturePlace, ...]:
    """Find layer inputs whose features are each produced by one filter of one other layer and have no other reader.

    Operations that keep channels apart may lie between the two: BatchNorm, activations, pooling or depthwise
    convolutions. If the filters of several layers are multiplied, as in a gated feed-forward sublayer, the last one is
    the producer.
    """
    read = Counter[int]()
    made: dict[int, list[str]] = {}
    producers: dict[tuple[int, ...], list[str]] = {}
    for layer in coupling.layers.values():
        groups = tuple(coupling.group[layer.outputs].tolist())
        read.update(coupling.group[layer.inputs].tolist())
        for group in groups:
            made.setdefault(group, []).append(layer.name)
        if layer.filter_dim == 0:
            producers.setdefault(groups, []).append(layer.name)
    sums = [step.made for step in coupling.steps if step.depthwise is None and not step.product]
    summed = {group for made_channels in sums for group in coupling.group[made_channels].tolist()}
    places = []
    for consumer in coupling.layers.values():
        groups = tuple(coupling.group[consumer.inputs].tolist())
        makers = producers.get(groups, [])
        alone = all(group != FIXED and made.get(group) == makers and read[group] == 1 for group in groups)
        if makers and alone and consumer.filter_dim == 0 and (len(makers) == 1 or not summed & set(groups)):
            places.append(FeaturePlace(consumer.name, makers[-1], 1 if consumer.convolution else -1))
    return tuple(places)
