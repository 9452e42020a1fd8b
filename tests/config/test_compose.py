"""Precedence of overrides, suggestions for misspelled names, and the jobs of a sweep."""

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from runner.config.build import PACKAGES
from runner.config.compose import Composer, options
from runner.config.near import ABBREVIATIONS
from runner.config.paths import CONF
from runner.config.rules import leaves
from runner.errors import ConfigError


def error_of(*words: str, command: str = "train") -> str:
    with pytest.raises(ConfigError) as caught:
        Composer(command).single(words)
    return str(caught.value)


def test_the_defaults(compose):
    config = compose()
    names = {group: config[group]["name"] for group in ("data", "task", "dropout", "schedule", "model")}
    assert names == {
        "data": "digits",
        "task": "classification",
        "dropout": "none",
        "schedule": "fast",
        "model": "resnet32",
    }
    assert (config["seed"], config["force"], config["folder"], config["outputs"]) == (0, False, None, "outputs")
    assert "hydra" not in config


def test_values_are_plain_and_resolved(compose):
    config = compose()
    assert type(config) is dict and type(config["model"]) is dict and type(config["model"]["widths"]) is list
    assert config["schedule"]["length"] == config["data"]["length"] == "50ep"


def test_a_value_on_the_command_line_wins_over_every_file(compose):
    config = compose("debug=smoke", "schedule.length=7it", "model.width=0.5", "prune.sparsities=[0.1]")
    assert config["schedule"]["length"] == "7it"
    assert config["model"]["width"] == 0.5
    assert config["prune"]["sparsities"] == [0.1]
    assert config["outputs"] == "outputs/smoke", "apart from results"
    assert compose("debug=smoke", "outputs=here")["outputs"] == "here"


def test_the_order_of_words_does_not_matter_between_options(compose):
    assert compose("seed=3", "dropout=targeted", "dropout.alpha=0.5") == compose(
        "dropout.alpha=0.5", "dropout=targeted", "seed=3"
    )


def test_the_last_of_two_values_wins(compose):
    assert compose("seed=1", "seed=2")["seed"] == 2


def test_debug_wins_over_an_experiment_and_the_choices(compose):
    config = compose("experiment=paper_resnet32", "debug=smoke")
    assert config["schedule"]["length"] == "4it"
    assert config["schedule"]["name"] == "paper"


def test_an_experiment_wins_over_the_defaults_and_the_command_line_over_it(compose):
    assert compose("experiment=paper_resnet32")["data"]["name"] == "cifar10"
    config = compose("experiment=paper_resnet32", "data=digits", "model.batch_norm_momentum=0.5")
    assert config["data"]["name"] == "digits"
    assert config["model"]["batch_norm_momentum"] == 0.5


def test_the_data_tells_the_length_unless_the_schedule_or_the_user_does(compose):
    assert compose("data=cifar10")["schedule"]["length"] == "8ep"
    assert compose("data=cifar10", "schedule=paper")["schedule"]["length"] == "100000it"
    assert compose("data=cifar10", "schedule.length=3ep")["schedule"]["length"] == "3ep"
    assert compose("data=cifar10", "data.length=2ep")["schedule"]["length"] == "2ep"


def test_another_choice_brings_its_own_options(compose):
    assert "alpha" not in compose()["dropout"]
    assert compose("dropout=targeted")["dropout"]["alpha"] == 0.66
    assert "drops" in compose("schedule=paper")["schedule"]


def test_arguments_beyond_the_file_may_be_added(compose):
    assert compose("dropout=targeted", "+dropout.ramp=[0.1,0.2,0.3]")["dropout"]["ramp"] == [0.1, 0.2, 0.3]


def test_paths_are_text_and_begin_at_home(compose, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    config = compose("outputs=2024", "folder='~/x'")
    assert (config["outputs"], config["folder"]) == ("2024", "/home/of/somebody/x")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("dropout=targetted", "targeted"),
        ("dropout=Ramping", "ramping"),
        ("data=cifar-10", "cifar10"),
        ("model=resnet_32", "resnet32"),
        ("schdule=fast", "schedule"),
        ("schedule.lenght=3ep", "schedule.length"),
        ("learning_rate=0.1", "schedule.learning_rate"),
        ("batch_size=3", "schedule.batch_size"),
        ("sparsities=[0.5]", "prune.sparsities"),
        ("ouputs=x", "outputs"),
        ("momentm=0.9", "schedule.momentum"),
        ("lr=0.1", "schedule.learning_rate"),
        ("schedule.lr=0.1", "schedule.learning_rate"),
        ("bs=64", "schedule.batch_size"),
        ("epochs=3", "schedule.length"),
        ("sparsity=0.5", "prune.sparsities"),
        ("dataset=cifar10", "data"),
        ("alpha=0.66", "dropout.alpha"),  # dropout=none has no alpha
        ("code=8", "model.code"),
    ],
)
def test_the_nearest_is_named(word, near):
    assert f"did you mean {near}?" in error_of(word)


def test_what_is_near_nothing_has_no_suggestion():
    assert "did you mean" not in error_of("dropout=qqqqqq")
    assert "did you mean" not in error_of("qqqqqq=1")


def test_an_option_of_another_choice_says_whose_it_is():
    assert "dropout=none has none, but dropout=feature_dropout, tail" in error_of("p=0.5")
    assert "dropout=none has none; it is one of dropout=feature_dropout, tail" in error_of("dropout.p=0.5")


def test_every_abbreviation_is_one_of_something():
    known = [*(name for name, _ in leaves(Composer("train").single([]))), *PACKAGES]
    assert set(ABBREVIATIONS.values()) <= set(known)
    assert not set(ABBREVIATIONS) & set(known)


@pytest.mark.parametrize(
    "words",
    [
        ["experiment=toy", "schedule.length=7it", "+data.more={a: 1}"],
        ["model.widths=[8,16]", "seed=3", "schedule=paper", "seed=4", "hydra.verbose=true"],
        ["dropout=ramping", "dropout.alpha=0.1", "dropout={gamma: 0.2}"],
    ],
)
def test_options_are_set_as_hydra_sets_them(words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = OmegaConf.to_container(hydra_compose("train", words), resolve=True)
    composer = Composer("train")
    with composer._hydra():
        ours = composer._plain(words)
    for group in PACKAGES:
        del ours[group]["name"]
    assert ours == composed


def test_a_configuration_leaves_no_trace_in_the_next():
    before = Composer("train").single(["dropout=targeted"])
    changed = Composer("train").single(["dropout=targeted", "dropout.alpha=0.1", "model.widths=[8]", "+data.more=1"])
    changed["model"]["widths"].append(16)
    assert Composer("train").single(["dropout=targeted"]) == before


def test_the_jobs_of_a_sweep_in_hydras_order():
    jobs, _ = Composer("train").jobs(["dropout=none,targeted", "seed=range(2)", "schedule.length=3it"])
    assert [(job["dropout"]["name"], job["seed"]) for job in jobs] == [
        ("none", 0),
        ("none", 1),
        ("targeted", 0),
        ("targeted", 1),
    ]
    assert {job["schedule"]["length"] for job in jobs} == {"3it"}


def test_a_sweep_over_lists():
    jobs, _ = Composer("train").jobs(["prune.sparsities=[0],[0.5,0.9]"])
    assert [job["prune"]["sparsities"] for job in jobs] == [[0], [0.5, 0.9]]


def test_one_bad_job_spoils_a_sweep():
    with pytest.raises(ConfigError, match=r"seed=-1: expected"):
        Composer("train").jobs(["dropout=targeted", "seed=0,-1"])


def test_what_a_model_sets_for_data_is_left_out_where_data_has_no_such_option():
    config = Composer("train").single(["model=autoencoder", "data=imagenet", "data.root=x"])
    assert not {"crop", "flip"} & set(config["data"])
    assert config["data"]["normalize"] == "pixel"
    assert Composer("train").single(["model=autoencoder", "data=mnist"])["data"]["crop"] == 0


def test_an_option_that_only_one_job_has():
    with pytest.raises(ConfigError, match=r"there is no option dropout\.alpha"):
        Composer("train").jobs(["dropout=none,targeted", "dropout.alpha=0.5"])


def test_prune_has_its_own_options():
    config = Composer("prune").single(["prune.scores=random", "data.root=5"])
    assert set(config) == {"prune", "device", "data"}
    assert [part["key"] for part in config["prune"]["criterion"]] == ["random"], "the older name of the option"
    assert "there is no option seed" in error_of("seed=1", command="prune")


def test_descriptions_of_a_folder(tmp_path):
    (tmp_path / "dropout").mkdir()
    (tmp_path / "dropout" / "b.yaml").write_text("# @package _global_\n# what it is\n# more\nx: 1\n")
    (tmp_path / "dropout" / "a.yaml").write_text("x: 1\n")
    assert options("dropout", tmp_path) == {"a": "", "b": "what it is"}
    assert options("nothing", tmp_path) == {}
