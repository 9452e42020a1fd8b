import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from runner.dropout import Targeted
from runner.models.layers import matrices_in, prunable_layers
from runner.pruning.apply import prune


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def test_an_mlp_gives_all_but_its_logits():
    assert list(prunable_layers(mlp())) == ["1", "3"]


def test_a_convolutional_network_also_keeps_its_stem():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 3))
    assert list(prunable_layers(model)) == ["1", "3"]


def test_named_layers_go_before_the_rule_and_the_models_own_list():
    model = mlp()
    assert list(prunable_layers(model, ["5"])) == ["5"]
    model.prunable = ["3"]
    assert list(prunable_layers(model)) == ["3"]


@pytest.mark.parametrize(
    ("names", "message"), [(["33"], "did you mean"), (["2"], "no weight matrix"), ([], "name the layers")]
)
def test_bad_names(names, message):
    with pytest.raises(ValueError, match=message):
        prunable_layers(mlp(), names)


def test_one_linear_layer_is_its_own_logits():
    with pytest.raises(ValueError, match="no prunable layer"):
        prunable_layers(nn.Sequential(nn.Linear(3, 2)))


class HeadFirst(nn.Module):
    """A network that registers its layers in a different order than it computes them."""

    def __init__(self):
        super().__init__()
        self.head, self.second, self.stem = nn.Linear(6, 3), nn.Conv2d(4, 6, 3), nn.Conv2d(3, 4, 3)
        self.norm, self.dropout = nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x):
        return self.head(self.second(self.dropout(self.norm(self.stem(x)))).mean((2, 3)))


class Tied(nn.Module):
    """Logits by the embedding matrix, as in this package's Transformer, so that no linear layer computes them."""

    def __init__(self):
        super().__init__()
        self.embedding, self.inner, self.outer = nn.Embedding(9, 4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, tokens, scale=1.0):
        return F.linear(self.outer(self.inner(self.embedding(tokens))), self.embedding.weight) * scale


class Shared(nn.Module):
    """One weight with two names, and a layer whose weight is read without calling the layer."""

    def __init__(self):
        super().__init__()
        self.logits, self.read, self.inner = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.also_logits = nn.Linear(4, 4)
        self.also_logits.weight = self.logits.weight

    def forward(self, x):
        return self.logits(self.inner(x) @ self.read.weight.T)


@pytest.mark.parametrize(
    ("model", "example", "registered", "computed"),
    [
        (HeadFirst(), torch.zeros(1, 3, 8, 8), ["head"], ["second"]),
        (Tied(), (torch.zeros(1, 5, dtype=torch.long), 2.0), ["inner"], ["inner", "outer"]),
        (Tied(), {"tokens": torch.zeros(1, 5, dtype=torch.long)}, ["inner"], ["inner", "outer"]),
        (Shared(), torch.zeros(1, 4), ["logits", "read", "inner"], ["read", "inner"]),
    ],
    ids=["head first", "tied", "tied, by name", "shared"],
)
def test_first_and_last_are_those_of_the_computation_if_there_is_an_example(model, example, registered, computed):
    assert list(prunable_layers(model)) == registered
    assert list(prunable_layers(model, example=example)) == computed
    attached = Targeted()
    attached.attach(model, example=example)
    assert list(attached.layers) == computed
    assert list(prunable_layers(model, example=example)) == computed  # also if a parametrization precedes the weights
    attached.detach()
    assert list(prune(model, 0.5, example=example)) == computed


def test_a_declared_list_goes_before_the_computation():
    model = HeadFirst()
    model.prunable = ["stem"]
    assert list(prunable_layers(model, example=torch.zeros(1, 3, 8, 8))) == ["stem"]
    assert list(prunable_layers(model, ["head"], torch.zeros(1, 3, 8, 8))) == ["head"]


def test_looking_at_the_computation_leaves_everything_as_it_was():
    model = HeadFirst()
    model.norm.eval()
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(0)
    prunable_layers(model, example=torch.ones(2, 3, 8, 8))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), drawn)
    assert (model.training, model.dropout.training, model.norm.training) == (True, True, False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_projections_of_attention_are_layers_too():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)
    names = ["layers.0.self_attn.in_proj_weight", "layers.0.self_attn.out_proj", "layers.0.linear1"]
    assert list(prunable_layers(model)) == names
    assert list(prunable_layers(model, example=torch.zeros(1, 3, 8))) == names
    assert matrices_in(prunable_layers(model)[names[0]]) == 2 * 3  # each head of each input has its own matrix
    other = nn.MultiheadAttention(8, 2, kdim=4, vdim=6)
    assert list(prunable_layers(other)) == ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
    with pytest.raises(ValueError, match=r"an nn\.MultiheadAttention; name its parts: .*in_proj_weight, .*out_proj$"):
        prunable_layers(model, ["layers.0.self_attn"])


def test_transposed_convolutions_are_layers_if_they_are_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 6, 3), nn.Conv2d(6, 4, 3), nn.Conv2d(4, 2, 3))
    assert list(prunable_layers(model)) == ["2"]
    assert list(prunable_layers(model, ["1"])) == ["1"]
    with pytest.raises(ValueError, match="layer '0' is a grouped transposed convolution"):
        prunable_layers(nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=2)), ["0"])
