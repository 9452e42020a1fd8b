"""Every dropout with a few models, and every model with two dropouts. A new file in conf/ is covered, too."""

import copy

import pytest
import torch

from runner.config.compose import Composer, options
from runner.experiment import Experiment
from runner.models.layers import prunable_layers
from runner.pruning.apply import prune
from runner.running import settle
from runner.runs import Run
from runner.training import checkpoint

DROPOUTS = list(options("dropout"))
FOREIGN = {
    "torchvision",
    "timm",
    "transformers",
    "module",
    "sentence_encoder",
}  # defined by other libraries, see tests/models/test_foreign.py
MODELS = [name for name in options("model") if name not in FOREIGN]
# Residual blocks with projections and BatchNorm; attention and embeddings; convolutions and dense layers, with biases.
FEW_MODELS = ("resnet32", "transformer", "gpt", "lenet")
TWO_DROPOUTS = ("targeted", "tail")  # on weights, and on features
PAIRS = [(d, m) for d in DROPOUTS for m in MODELS if d in TWO_DROPOUTS or m in FEW_MODELS]
# Small enough for a step in well under a second, large enough that every fraction prunes something.
TINY = ["debug=smoke", "schedule.length=3it", "schedule.batch_size=8", "precision=float32"]


@pytest.fixture(scope="session")
def choices(tmp_path_factory):
    """Compose each model once and read the dropouts' files, because composing takes as long as training here."""
    composer = Composer("train")
    composed = {name: composer.single([f"model={name}", *TINY]) for name in MODELS}
    text = _sentences(tmp_path_factory.mktemp("text"))
    for config in composed.values():
        if config["task"]["name"] == "translation":
            config["data"] = text
            config["schedule"]["batch_size"] = 64  # tokens
        elif config["task"]["name"] == "language_modelling":
            config["data"] = {**config["data"], "train": text["train"], "context": 16}
    return {name: settle(config) for name, config in composed.items()}


def _sentences(folder):
    """Write a small corpus of a user, which is faster to read than the number words."""
    for side in ("source", "target"):
        (folder / side).write_text("".join(f"{side} {i} {'ab'[i % 2] * (i % 7)}\n" for i in range(40)))
    files = [str(folder / "source"), str(folder / "target")]
    names = {"name": "parallel", "_target_": "runner.data.parallel.ParallelText", "length": "1ep"}
    return {**names, "train": files, "validation": files, "test": files, "vocabulary": 300}


@pytest.fixture(params=PAIRS, ids="-".join)
def config(request, choices, dropout_of):
    dropout, model = request.param
    config = {**choices[model], "dropout": dropout_of(dropout)}
    # One residual unit per stage contains every kind of layer of the model.
    given = config["model"]
    shallow = {"blocks": 1, "layers": 1, "stages": [1] * len(given.get("stages", [])), "depth": 10, "widen": 1}
    config["model"] = {key: shallow.get(key, value) for key, value in given.items()}
    return config


def inputs_of(parts):
    """Return the model's inputs for eight examples."""
    batch = next(iter(parts.data.eval_batches("train", limit=8)))
    return (batch.source, batch.target[:, :-1]) if parts.data.kind == "pairs" else batch[:1]


def test_trains_resumes_detaches_prunes_saves_and_loads(config, tmp_path):
    parts = Experiment.from_config(config)
    initial = copy.deepcopy(parts.model.state_dict())
    keys, types = list(initial), [type(module) for module in parts.model.modules()]

    through, interrupted = Run(tmp_path / "through"), Run(tmp_path / "interrupted")
    for run in (through, interrupted):
        run.folder.mkdir()
    training = parts.training()
    training.fit()
    assert training.step == 3

    first = Experiment.from_config(config).training()
    first.one_step()
    checkpoint.save(interrupted.checkpoint_file, first.state_dict())
    second_parts = Experiment.from_config(config)
    second = second_parts.training()
    second.restore(interrupted)
    assert second.step == 1
    second.fit()

    floors = {g: parts.variant.floor(g) for g in parts.variant.granularities}
    own = parts.variant.scores()
    parts.model.eval()
    inputs = inputs_of(parts)
    with torch.no_grad():
        attached = parts.model(*inputs)
    parts.variant.detach()
    second_parts.variant.detach()

    trained = parts.model.state_dict()
    assert list(trained) == keys
    assert [type(module) for module in parts.model.modules()] == types
    assert all(torch.equal(t, second_parts.model.state_dict()[name]) for name, t in trained.items())
    assert not all(torch.equal(t, initial[name]) for name, t in trained.items())

    # The model, detached and pruned at the variant's floor, equals the attached model in evaluation.
    for granularity, floor in floors.items():
        prune(parts.model, floor, granularity, scores=own.get(granularity))
    with torch.no_grad():
        assert torch.allclose(parts.model(*inputs), attached, atol=1e-5)

    fresh = Experiment.from_config(config)
    fresh.model.load_state_dict(parts.model.state_dict())
    fresh.model.eval()
    with torch.no_grad():
        assert torch.equal(fresh.model(*inputs), parts.model(*inputs))


def test_deepcopy_of_an_attached_model_computes_the_same(config):
    parts = Experiment.from_config(config)
    parts.training()
    parts.model.eval()
    inputs = inputs_of(parts)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(parts.model)(*inputs), parts.model(*inputs))


def test_the_optimiser_holds_every_parameter_once_and_a_variants_own_without_decay(config):
    parts = Experiment.from_config(config)
    plain = {id(p) for p in parts.model.parameters()}
    training = parts.training()
    held = [id(p) for group in training.optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in parts.model.parameters())
    for group in training.optimizer.param_groups:
        if group["weight_decay"]:
            assert {id(p) for p in group["params"]} <= plain


@pytest.mark.parametrize("config", [("none", m) for m in MODELS], ids="-".join, indirect=True)
def test_prunable_layers_are_all_matrices_but_stem_embeddings_and_logits(config):
    parts = Experiment.from_config(config)
    layers = prunable_layers(parts.model)
    assert "logits" not in layers
    assert not any(name.startswith(("stem", "embedding")) for name in layers)
    assert all(layer.weight.dim() >= 2 for layer in layers.values())
