"""Every file in conf/ has a description, can be composed, and its class can be built with its arguments."""

import inspect
from pathlib import Path

import pytest
import yaml

from runner.config.build import PACKAGES, arguments, target
from runner.config.compose import CONF, Composer, options
from runner.config.paths import groups
from runner.multirun import PARALLEL

FILES = sorted(path for path in CONF.rglob("*.yaml") if "hydra" not in path.relative_to(CONF).parts)
NAMES = [str(path.relative_to(CONF)) for path in FILES]
CHOICES = [
    (path.parent.name, path.stem) for path in FILES if path.parent.name in (*PACKAGES, "prune", "experiment", "debug")
]
# Arguments that a choice requires.
NEEDS = {
    ("data", "image_folder"): ["data.root=images"],
    ("data", "imagenet"): ["data.root=images"],
    ("data", "multi30k"): ["data.root=text"],
    ("data", "wmt14"): ["data.root=text"],
    **{("model", name): [f"model.architecture={name}"] for name in ("torchvision", "timm", "transformers", "module")},
    ("data", "sentences"): [f"data.{name}=a" for name in ("train", "validation", "test", "encoder")],
    ("model", "sentence_encoder"): [
        "model.architecture=bert",
        *(f"data.{n}=a" for n in ("train", "validation", "test", "encoder")),
    ],
    ("data", "arrays"): ["data.train=examples.npz"],
    ("data", "parallel"): ["data.train=[a,b]", "data.validation=[a,b]", "data.test=[a,b]"],
}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_begins_with_a_one_line_description(path):
    lines = [line for line in path.read_text().splitlines() if "@package" not in line]
    assert lines[0].startswith("# ")
    assert 5 < len(lines[0]) <= 118
    if path.parent != CONF:
        assert options(path.parent.name)[path.stem] == lines[0].removeprefix("# ")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_is_plain_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()) or {}, dict)
    assert "\t" not in path.read_text()


def test_every_folder_is_listed_by_run_list():
    folders = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    assert folders == set(groups())


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_composes_with_train_and_fits_its_class(group, name, compose):
    config = compose(f"{group}={name}", *NEEDS.get((group, name), []))
    for part in PACKAGES:
        cls = target(config, part)
        signature = inspect.signature(cls)
        if part == "model":  # the data provides the other arguments
            pairs = {"vocabulary": 300}
            images = {"channels": 1, "image_size": 8, "classes": 10}
            text = {**pairs, "context": 16}
            about = {"Transformer": pairs, "GPT": text, "SentenceEncoder": {}}.get(cls.__name__, images)
            signature.bind(**arguments(config, part), **about)
        else:
            signature.bind(**arguments(config, part))
    if group in PACKAGES:
        foreign = group == "model" and "architecture" in config[group]
        assert config[group]["name"] == (config[group]["architecture"] if foreign else name)


@pytest.mark.parametrize(("group", "name"), [choice for choice in CHOICES if choice[0] in ("data", "schedule")])
def test_smoke_is_as_short_with_every_choice(group, name, compose):
    config = compose(f"{group}={name}", "debug=smoke", *NEEDS.get((group, name), []))
    assert config["schedule"]["length"] == "4it"


@pytest.mark.parametrize("command", [path.stem for path in CONF.glob("*.yaml")])
def test_every_primary_configuration_composes(command):
    assert Composer(command).single([])


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "table").glob("*.yaml")])
def test_every_table_composes(name):
    assert Composer("table").single([f"table={name}"])["table"]["name"]


def test_the_names_that_users_type(compose):
    """These names must not change, because scripts rely on them."""
    config = compose("data=cifar10", "dropout=targeted")
    for name in (
        *("data.root", "data.download", "data.validation", "schedule.length", "schedule.batch_size"),
        *("schedule.learning_rate", "dropout.alpha", "dropout.gamma", "prune.sparsities", "prune.criterion"),
        *("prune.scope", "prune.floor", "seed", "device", "precision", "compile", "force", "folder"),
    ):
        part = config
        for key in name.split("."):
            assert key in part, name
            part = part[key]


def test_the_launcher_for_sweeps_composes():
    jobs, launcher = Composer("train").jobs(["seed=0,1", "hydra/launcher=parallel"])
    assert [job["seed"] for job in jobs] == [0, 1]
    assert launcher == {"_target_": PARALLEL, "n_jobs": -1}


def test_conf_is_beside_the_package_in_a_checkout():
    assert Path(__file__).resolve().parents[2] / "conf" == CONF


def test_make_train_composes_the_quickstart_and_the_default_is_as_long_as_the_reference_tables_say(compose):
    (line,) = (line for line in (CONF.parent / "Makefile").read_text().splitlines() if "run train -m exp" in line)
    *words, parallel = line.split("-m ")[1].split()
    assert parallel == "hydra/launcher=parallel"
    jobs, _ = Composer("train").jobs(words)
    assert [(job["model"]["name"], job["dropout"]["name"]) for job in jobs] == [
        ("resnet32", "none"),
        ("resnet32", "targeted"),
    ]
    quick, usual = jobs[0], compose("model=resnet32")
    assert (usual["schedule"]["length"], usual["schedule"]["batch_size"]) == ("50ep", 128)
    assert {**quick, "schedule": None, "prune": None} == {**usual, "schedule": None, "prune": None}
    assert {0, 0.75} <= set(quick["prune"]["sparsities"]) < set(usual["prune"]["sparsities"]) | {0.25}
