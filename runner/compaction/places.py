"""Where the features of a network that declares no places can be cut, found by the trace."""

from collections import Counter

from runner.compaction.coupling import FIXED, Coupling
from runner.models.layers import FeaturePlace


def find_places(coupling: Coupling) -> tuple[FeaturePlace, ...]:
    """The inputs of layers whose every feature is one filter of one other layer, and that nothing else reads or makes.

    Between the two may lie what keeps channels apart: BatchNorm, activations, pooling, depthwise convolutions.
    """
    made, read = Counter[int](), Counter[int]()
    for layer in coupling.layers.values():
        made.update(coupling.group[layer.outputs].tolist())
        read.update(coupling.group[layer.inputs].tolist())
    producers = {
        tuple(coupling.group[layer.outputs].tolist()): layer
        for layer in coupling.layers.values()
        if layer.filter_dim == 0
    }
    places = []
    for consumer in coupling.layers.values():
        groups = tuple(coupling.group[consumer.inputs].tolist())
        producer = producers.get(groups)
        alone = all(group != FIXED and made[group] == read[group] == 1 for group in groups)
        if producer is not None and alone and consumer.filter_dim == 0:
            places.append(FeaturePlace(consumer.name, producer.name, 1 if consumer.convolution else -1))
    return tuple(places)
