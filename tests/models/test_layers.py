import pytest
from torch import nn

from runner.models.layers import prunable_layers


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
    ("names", "message"), [(["33"], "did you mean"), (["2"], "no weight matrix"), ([], "name some")]
)
def test_bad_names(names, message):
    with pytest.raises(ValueError, match=message):
        prunable_layers(mlp(), names)


def test_one_linear_layer_is_its_own_logits():
    with pytest.raises(ValueError, match="no prunable layer"):
        prunable_layers(nn.Sequential(nn.Linear(3, 2)))
