"""Ordinary dropout at feature places."""

import pytest
import torch
from torch import nn

from runner.dropout import FeatureDropout
from runner.models.layers import FeaturePlace


class Network(nn.Module):
    """One layer that passes its input on, so that the output shows the input of the layer."""

    def __init__(self, dim, shape):
        super().__init__()
        self.last = nn.Conv2d(8, 8, 1, bias=False) if dim == 1 else nn.Linear(8, 8, bias=False)
        with torch.no_grad():
            self.last.weight.copy_(torch.eye(8).view_as(self.last.weight))
        self.feature_places = [FeaturePlace("last", "last", dim)]
        self.inputs = torch.ones(shape)

    def forward(self):
        return self.last(self.inputs)


@pytest.mark.parametrize(("dim", "shape"), [(1, (500, 8, 3, 3)), (-1, (500, 8)), (-1, (100, 5, 8))])
def test_each_example_and_feature_by_itself_and_rescaled(dim, shape):
    torch.manual_seed(0)
    model = Network(dim, shape)
    variant = FeatureDropout(0.25)
    variant.attach(model)
    y = model()
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (y == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    if dim == 1:
        assert torch.equal(y, y[:, :, :1, :1].expand_as(y))
        y = y[:, :, 0, 0]
    rows = y.reshape(-1, 8)
    assert len(rows.unique(dim=0)) > 50
    model.eval()
    assert torch.equal(model(), model.inputs)
    variant.detach()
    assert torch.equal(model.train()(), model.inputs)
    assert variant.scores() == {}


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"^p=1\.5: expected a number from 0 to 1$"):
        FeatureDropout(1.5)
    with pytest.raises(ValueError, match=r"^places='first': expected one of the model's feature places, last$"):
        FeatureDropout(places=["first"]).attach(Network(-1, (2, 8)))
    variant = FeatureDropout()
    variant.attach(Network(-1, (2, 8)))
    with pytest.raises(ValueError, match=r"^this FeatureDropout is attached already; detach\(\) it first$"):
        variant.attach(Network(-1, (2, 8)))
