"""The data behind the figures of a code, in the order of its features."""

import torch

from runner.analyses.scree import codes
from runner.models.autoencoder import Autoencoder
from runner.pruning.granularities.feature import Feature
from runner.pruning.sweep import Sweeper
from runner.tasks.reconstruction import Reconstruction


class Data:
    """Three interleaved classes, and a fourth without examples."""

    class_names = ("a", "b", "c", "d")
    images = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 3

    def eval_batches(self, split, limit=None):
        assert split == "test"
        return zip(self.images[:limit].split(20), self.labels[:limit].split(20), strict=True)


def test_directions_and_codes_are_in_the_order_in_which_features_are_kept(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model, drawn = Autoencoder(1, 4, widths=(), code=5, linear=True), {}
    for name in ("_directions", "_code", "_grid"):
        monkeypatch.setattr(codes, name, lambda *words, name=name: drawn.setdefault(name, words)[-1])
    own = {"feature": {"decoder.0": torch.tensor([2.0, 9, 1, 7, 5])}}
    place = {"decoder.0": Feature(["decoder.0"])}
    sweeper = Sweeper(model, Reconstruction(), Data(), own_scores=own, granularities=place)
    paths = codes.pictures(sweeper, "decoder.0", [1, 3, 5], tmp_path)
    assert [path.name for path in paths] == ["reconstructions.png", "reconstructions.gif", "code.png", "directions.png"]
    kept = [1, 3, 4, 0, 2]
    with torch.no_grad():
        code = model.encode(Data.images)
        expected = (code.std(0) * model.decoder[0].weight).T[kept].view(5, 1, 4, 4)
        whole = model(Data.images)
    torch.testing.assert_close(drawn["_directions"][0], expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(drawn["_code"][0]), code[:, kept])
    pixels = drawn["_grid"][0]
    assert list(pixels) == [0, 1, 3, 5]
    # The first image of each class, then the second, …, which here are the first ten images as they are.
    rows = Data.images[:10]
    low, high = rows.min(), rows.max()
    torch.testing.assert_close(pixels[0], (rows - low) / (high - low))
    torch.testing.assert_close(pixels[5], ((whole[:10] - low) / (high - low)).clamp(0, 1))
