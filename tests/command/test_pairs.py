"""Every task with every model: they fit together, or one line explains why not before anything is written."""

import pytest

from runner.config.compose import Composer, options
from runner.errors import ConfigError
from runner.experiment import Experiment
from runner.running import settle
from runner.tasks.classification import Classification
from runner.tasks.reconstruction import Reconstruction

AUTOENCODERS = {"autoencoder", "autoencoder_conv"}
TRANSFORMERS = {"transformer", "transformer_base"}
LANGUAGE = {"gpt"}
FOREIGN = {"torchvision", "timm", "transformers", "module", "sentence_encoder"}
FITS = {
    "classification": set(options("model")) - FOREIGN - AUTOENCODERS - TRANSFORMERS - LANGUAGE,
    "reconstruction": AUTOENCODERS,
    "translation": TRANSFORMERS,
    "embedding": set(),
    "language_modelling": LANGUAGE,
}


@pytest.mark.parametrize("task", options("task"))
@pytest.mark.parametrize("model", [name for name in options("model") if name not in FOREIGN])
def test_fits_or_says_why_not(model, task):
    data = "numbers" if model in TRANSFORMERS else "text" if model in LANGUAGE else "digits"
    words = (f"model={model}", f"task={task}", f"data={data}", "model.width=0.25")
    config = settle(Composer("train").single(words))
    if model in FITS[task]:
        parts = Experiment.from_config(config)
        assert parts.task.metrics
        assert parts.model.training, "as it was built"
    else:
        with pytest.raises(ConfigError, match=f"task={task} .*model={model}|model={model}.*task={task}") as caught:
            Experiment.from_config(config)
        assert len(str(caught.value).splitlines()) == 1


def test_what_an_image_becomes():
    about = {"channels": 3, "image_size": 8, "classes": 10}
    assert Classification.output_shape(**about) == (10,)
    assert Reconstruction.output_shape(**about) == (3, 8, 8)


def test_a_model_of_ones_own_that_fails_on_the_images(call, tmp_path):
    folder = tmp_path / "own"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "broken.yaml").write_text("_target_: broken_model.Broken\nwidth: 1.0\n")
    (folder / "broken_model.py").write_text(
        "from torch import nn\n"
        "class Broken(nn.Module):\n"
        "    def __init__(self, channels, image_size, classes, width):\n"
        "        super().__init__()\n"
        "        self.logits = nn.Linear(7, classes)\n"
        "    def forward(self, x):\n"
        "        return self.logits(x.flatten(1))\n"
    )
    result = call("train", "debug=smoke", "model=broken", "--config-dir", "own")
    assert result.code == 2
    assert result.err.startswith("run: model=broken fails on an image of 8x8 px of data=digits: ")
    assert "broken_model.py, line 7: RuntimeError: mat1 and" in result.err, "where, in the user's own file"
    assert len(result.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
