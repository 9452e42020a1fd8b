"""run ticket: masked networks trained from finished runs, and their table."""

import shutil
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from runner.cli import main
from runner.commands.prune import main as prune
from runner.commands.table import main as table
from runner.commands.ticket import main as ticket
from runner.errors import ConfigError, DamagedRun
from runner.experiment import Experiment
from runner.runs import Run
from runner.training import checkpoint
from runner.training.callbacks import MetricsFile
from runner.training.loop import Training
from runner.training.schedules import OneCycle

pytestmark = pytest.mark.usefixtures("undrawn")

# Two hidden layers that can be pruned; three epochs of four steps, with momentum and weight decay.
TINY = (
    *("debug=smoke", "data=digits", "model=mlp", "model.widths=[32,24]", "model.width=0.5", "schedule.length=12it"),
    *("schedule.batch_size=323", "precision=float32", "prune.sparsities=[0,0.5]"),
)
OUT = Path("outputs/ticket/digits-mlp-weight-0.5")
LAYERS = ("hidden.0", "hidden.2")


def trained_run(*words):
    with pytest.raises(SystemExit) as ended:
        main(["train", *words])
    assert ended.value.code == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds without dropout and one with, which tests must not change."""
    folder = tmp_path_factory.mktemp("sources")
    runs = {"none0": ["dropout=none"], "none1": ["dropout=none", "seed=1"], "targeted0": ["dropout=targeted"]}
    for name, words in runs.items():
        trained_run(*TINY, *words, f"folder={folder / name}")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def begun(monkeypatch):
    """Return every training's first step and weights, in the shapes of its layers, by the dropout's name."""
    found, fit = {}, Training.fit

    def spy(self, callbacks):
        masked = {f"{name}.weight": layer.weight.detach().clone() for name, layer in self.variant.layers.items()}
        plain = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        (run,) = {callback.run for callback in callbacks if isinstance(callback, MetricsFile)}
        found[run.folder.parent.name.rpartition("-")[0]] = (self.step, {**plain, **masked})
        fit(self, callbacks)

    monkeypatch.setattr(Training, "fit", spy)
    return found


def made(name, seed=0):
    """Return the only run with this dropout."""
    (folder,) = Path("outputs/train").glob(f"digits-mlp-{name}-*/seed{seed}")
    return Run(folder)


def weights(run):
    return load_file(run.weights_file)


def masks(run):
    """Return where the pruned layers are zero."""
    return {name: weights(run)[f"{name}.weight"] == 0 for name in LAYERS}


def rows(out=OUT):
    frame = pd.read_csv(out / "table.csv", keep_default_na=False, na_values=[""])
    return frame[frame["split"] == "test"].set_index(["column", "method"])


def initial(run, **changes):
    return Experiment.from_config({**run.config(), **changes}).model.state_dict()


def test_a_table_of_all_ways_and_what_they_cost(trained, tree, capsys, drawn):
    before = tree(trained)
    words = ["sparsity=0.5", "finetune=1ep", "iterations=2"]
    assert ticket([str(trained)], words) == 0
    said = capsys.readouterr().out
    text = (OUT / "table.md").read_text()
    assert text in said
    assert said.endswith(f"{OUT / 'table.csv'}\n{OUT / 'table.md'}\n")
    found = rows()
    ways = ["dense", "pruned", "finetuned", "ticket", "fresh", "random"]
    assert found.index.tolist() == [
        *(("none", way) for way in [*ways[:3], "finetuned iteratively", *ways[3:], "iterative"]),
        *(("targeted", way) for way in ways),
    ]
    assert found["n"].tolist() == [2] * 8 + [1] * 6
    epochs = found[["epochs", "total_epochs"]].to_numpy().tolist()
    assert epochs[:8] == [[3, 3], [0, 3], [1, 4], [2, 5], [3, 6], [3, 6], [3, 3], [6, 9]]
    assert epochs[8:] == [*epochs[:3], *epochs[4:7]]
    assert found["saved_epochs"].tolist() == pytest.approx([1 - total / 9 for _, total in epochs])
    # The run with targeted dropout is pruned at least at its γ, as in its sweep.
    gone = [0.0] + [0.5] * 7 + [0.75] * 6
    assert found["actual_sparsity"].tolist() == pytest.approx(gone, abs=0.01)
    seconds = [Run(trained / name).status()["seconds"] for name in ("none0", "none1")]
    assert found["seconds"].iloc[0] == pytest.approx(sum(seconds) / 2)
    assert "- targeted: its masks have sparsity γ, 75 %, as in its own sweep.\n" in text
    status = made("none-ticket").status()
    assert status["command"] == f"run ticket {trained / 'none0'} {' '.join(words)}"
    assert tree(trained) == before

    # When repeated, nothing is trained, and the tickets next to the runs are not taken as runs to prune.
    shutil.copytree(trained, "outputs/train/sources")
    finished = tree(Path("outputs/train"))
    assert ticket(["outputs/train"], [*words, "out=again"]) == 0
    assert tree(Path("outputs/train")) == finished
    assert Path("again/table.csv").read_text() == (OUT / "table.csv").read_text()


def test_dense_and_pruned_are_what_the_runs_own_sweep_measured(trained):
    ticket([str(trained / "none0")], ["sparsity=0.5", "kinds=[]"])
    points = pd.read_csv(Run(trained / "none0").pruning_file)
    points = points[(points["split"] == "test") & (points["granularity"] == "weight")]
    assert rows()["mean"].tolist() == pytest.approx(points["accuracy"].tolist())
    assert not Path("outputs/train").exists()


def test_what_each_training_begins_with(trained, begun):
    source = Run(trained / "targeted0")
    ticket([str(source.folder)], ["sparsity=0.75", "finetune=4it", "finetune_rate=0.5"])
    final, first = weights(source), initial(source)
    mask = {}
    for name in LAYERS:
        weight = final[f"{name}.weight"]
        smallest = weight.abs().argsort(dim=1)[:, : weight.shape[1] * 3 // 4]
        mask[f"{name}.weight"] = torch.ones_like(weight).scatter(1, smallest, 0)
    for kind, start in (("targeted-ticket", first), ("targeted-finetuned", final)):
        step, state = begun[f"digits-mlp-{kind}"]
        assert step == 0
        for name, tensor in start.items():
            assert torch.equal(state[name], tensor * mask.get(name, 1)), (kind, name)
        assert all(torch.equal(gone, mask[f"{name}.weight"] == 0) for name, gone in masks(made(kind)).items())
    # Different weights, the same mask.
    _, fresh = begun["digits-mlp-targeted-fresh"]
    for name, kept in mask.items():
        assert torch.equal(fresh[name] == 0, kept == 0)
        assert not (fresh[name] == first[name])[kept == 1].any()
    assert not torch.equal(fresh["logits.weight"], first["logits.weight"])
    # The same weights, but another mask, which keeps the same number of weights in every filter.
    _, random = begun["digits-mlp-any-random"]
    assert torch.equal(random["logits.weight"], first["logits.weight"])
    for name, kept in mask.items():
        assert torch.equal((random[name] != 0).sum(1), kept.sum(1).long())
        assert not torch.equal(random[name] != 0, kept == 1)
        assert torch.equal(random[name], torch.where(random[name] != 0, first[name], 0))
    schedule = made("targeted-finetuned").config()["schedule"]
    assert (schedule["length"], schedule["learning_rate"]) == ("4it", 0.1)
    rate = pd.read_csv(made("targeted-finetuned").metrics_file)["learning_rate"].item()
    assert rate == OneCycle(0.1).rate(3, 4)  # over its own four steps


def test_without_a_mask_the_ticket_is_the_run_again(trained):
    """The same initial weights, order of the data and schedule."""
    ticket([str(trained / "none0")], ["sparsity=0", "kinds=[ticket]", "rewind=5it"])
    ticket([str(trained / "none0")], ["sparsity=0", "kinds=[ticket]"])
    source = weights(Run(trained / "none0"))
    runs = [Run(folder) for folder in Path("outputs/train").glob("*-none-ticket-*/seed0")]
    (whole,) = (run for run in runs if run.config()["dropout"]["rewind"] == 0)
    assert all(torch.equal(tensor, source[name]) for name, tensor in weights(whole).items())
    assert len(runs) == 2  # the other one has lost its momentum


def test_rewound_weights_are_the_runs_at_that_step(trained, begun, monkeypatch):
    """From the run's own checkpoint at that step. Training continues to the end of the run, in the run's own order."""
    original, calls = checkpoint.save, count(1)

    def save(path, state):
        original(path, state)
        if next(calls) == 5:
            shutil.copy(path, "early.pt")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        trained_run(*TINY, "dropout=targeted", "checkpoint_minutes=1e-9", "folder=run")
    assert weights(Run(Path("run"))).keys() == weights(Run(trained / "targeted0")).keys()
    early = checkpoint.load(Path("early.pt"), torch.device("cpu"))
    assert early["step"] == 5
    kept = {name.replace("parametrizations.weight.original", "weight"): t for name, t in early["model"].items()}
    ticket(["run"], ["sparsity=0.5", "rewind=5it", "kinds=[ticket,random]"])
    for kind in ("targeted-ticket", "targeted-random"):
        step, state = begun[f"digits-mlp-{kind}"]
        gone = masks(made(kind))
        assert step == 5
        for name, tensor in kept.items():
            zero = gone.get(name.removesuffix(".weight"), torch.tensor(False))
            assert torch.equal(state[name], tensor.masked_fill(zero, 0)), name
        metrics = pd.read_csv(made(kind).metrics_file)
        assert metrics["step"].tolist() == [8, 12]
        assert (
            metrics["learning_rate"].tolist()
            == pd.read_csv(Run(Path("run")).metrics_file)["learning_rate"].tolist()[1:]
        )
    assert rows()[["epochs", "total_epochs"]].to_numpy().tolist()[2:] == [[1.75, 4.75], [1.75, 3.0]]
    random, seconds = rows().loc[("targeted", "random")], Run(Path("run")).status()["seconds"]
    assert random["total_seconds"] == pytest.approx(random["seconds"] + seconds * 5 / 12)


def test_weights_of_a_later_point_are_kept_when_asked(trained):
    words = ["sparsity=0.5", "rewind=5it", "kinds=[ticket]"]
    steps = []
    original = Training.one_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "one_step", lambda self: (steps.append(self.step), original(self))[1])
        ticket([str(trained / "none0")], words)
        assert not Path("outputs/ticket/early").exists()
        ticket([str(trained / "none0")], [*words, "keep=true", "outputs=kept"])
        (file,) = Path("kept/ticket/early").iterdir()
        assert file.name == f"digits-mlp-none-{Run(trained / 'none0').status()['hash'][:8]}-seed0-5it.safetensors"
        assert steps == [*range(12)] * 2
        ticket([str(trained / "none0")], [*words, "outputs=kept", "sparsity=0.75"])
        assert steps[24:] == [*range(5, 12)]
    file.write_text("nothing")
    with pytest.raises(DamagedRun, match=r"5it\.safetensors is damaged"):
        ticket([str(trained / "none0")], [*words, "outputs=kept", "sparsity=0.25"])
    ticket([str(trained / "none0")], [*words, "outputs=kept", "sparsity=0.25", "keep=true", "force=true"])
    assert load_file(file).keys() == weights(Run(trained / "none0")).keys()


def test_pruning_and_fine_tuning_again_and_again(trained, begun):
    words = ["sparsity=0.9", "kinds=[]", "iterations=3", "length=4it", "finetune=2it"]
    ticket([str(trained / "none0")], words)
    final = weights(Run(trained / "none0"))
    for r in (1, 2, 3):
        run = made(f"none-tuning{r}of3")
        step, state = begun[f"digits-mlp-none-tuning{r}of3"]
        gone = masks(run)
        assert step == 0
        for name, tensor in final.items():
            zero = gone.get(name.removesuffix(".weight"), torch.tensor(False))
            assert torch.equal(state[name], tensor.masked_fill(zero, 0)), (r, name)
        final = weights(run)
    found = rows(Path("outputs/ticket/digits-mlp-weight-0.9"))
    assert found["total_epochs"].tolist() == [3, 3, 3.5, 4.5, 6]
    assert found["actual_sparsity"].nunique() == 2


def test_rounds_are_nested_and_end_exactly_where_asked(trained):
    ticket([str(trained / "none0")], ["sparsity=0.9", "kinds=[]", "iterations=3", "length=4it"])
    rounds = [masks(made(f"none-round{r}of3")) for r in (1, 2, 3)]
    for name in LAYERS:
        n = rounds[0][name].shape[1]
        zeros = [mask[name].sum(1) for mask in rounds]
        assert [set(z.tolist()) for z in zeros] == [{int((1 - 0.1 ** (r / 3)) * n)} for r in (1, 2)] + [{int(0.9 * n)}]
        assert (rounds[1][name] | ~rounds[0][name]).all()
        assert (rounds[2][name] | ~rounds[1][name]).all()
    sources = [made(f"none-round{r}of3").config()["dropout"]["source"] for r in (1, 2, 3)]
    hashes = [
        run.status()["hash"][:8] for run in (Run(trained / "none0"), *(made(f"none-round{r}of3") for r in (1, 2)))
    ]
    assert [source.rpartition("-")[2] for source in sources] == hashes
    assert rows(Path("outputs/ticket/digits-mlp-weight-0.9"))["total_epochs"].tolist() == [3, 3, 6]


@contextmanager
def interruption(n):
    """Raise KeyboardInterrupt at the n-th step."""
    original, calls = Training.one_step, count(1)

    def one_step(self):
        if next(calls) == n:
            raise KeyboardInterrupt
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "one_step", one_step)
        yield


@pytest.mark.parametrize("n", [1, 6])
def test_an_interrupted_training_goes_on_to_the_same_weights(n, trained):
    words = [str(trained / "none0")], ["sparsity=0.5", "kinds=[ticket]"]
    with interruption(n), pytest.raises(KeyboardInterrupt):
        ticket(*words)
    run = made("none-ticket")
    assert run.state() == "interrupted"
    with pytest.raises(ConfigError, match="is not finished"):
        prune([str(run.folder)], [])
    ticket(*words)
    assert run.status()["resumed"]
    ticket(words[0], [*words[1], "outputs=whole"])
    (whole,) = Path("whole").glob("train/*/seed0")
    assert Run(whole).status()["resumed"] is None
    assert run.weights_file.read_bytes() == Run(whole).weights_file.read_bytes()
    assert run.pruning_file.read_text() == Run(whole).pruning_file.read_text()


def test_filters_of_a_network_with_batch_norm(finished_once):
    ticket([str(finished_once.folder)], ["granularity=unit", "sparsity=0.5", "kinds=[ticket]", "scores=magnitude"])
    (folder,) = Path("outputs/train").glob("*-targeted-ticket-*/seed0")
    assert Run(folder).config()["dropout"]["granularity"] == "unit"
    for name, weight in weights(Run(folder)).items():
        if name.startswith("blocks") and weight.dim() == 4:
            assert int((~weight.flatten(1).any(1)).sum()) == len(weight) // 2
    out = Path("outputs/ticket/digits-resnet32-unit-0.5")
    assert rows(out)["batch_norm"].tolist() == ["kept", "recalibrated"] * 3
    assert "| recalibrated | validation |" in (out / "table.md").read_text()


def test_features_of_a_run_that_put_them_in_order():
    trained_run(*TINY, "dropout=tail", "folder=tail")
    ticket(["tail"], ["sparsity=0.5", "kinds=[ticket]"])
    run = made("tail-ticket")
    assert run.config()["dropout"]["scores"] == "own"
    last = weights(run)["logits.weight"]
    assert torch.equal((last == 0).all(0), torch.arange(12) >= 6)
    assert rows(Path("outputs/ticket/digits-mlp-feature-0.5"))["actual_sparsity"].tolist() == [0, 0.5, 0.5]


def test_a_ticket_needs_its_source_no_more(trained, capsys):
    shutil.copytree(trained / "none0", "source")
    ticket(["source"], ["sparsity=0.5", "kinds=[ticket,fresh]"])
    shutil.rmtree("source")
    before = pd.read_csv(made("none-ticket").pruning_file)
    assert prune([str(made("none-ticket").folder)], ["prune.sparsities=[0,0.5,0.75]", "prune.splits=[test]"]) == 0
    after = pd.read_csv(made("none-ticket").pruning_file)
    assert before["sparsity"].tolist() == [0, 0, 0.5, 0.5], "the network as it was trained, and as it was asked for"
    assert len(after) == len(before) + 1
    assert after["actual_sparsity"].tolist() == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.75], abs=0.01)
    test = before[before["split"] == "test"].set_index("sparsity")["accuracy"]
    assert test[0.0] == test[0.5]
    capsys.readouterr()
    assert table(["outputs/train"], ["table=tickets"]) == 0
    said = capsys.readouterr().out
    assert "| sparsity | none-fresh | none-ticket |" in said


def test_force_trains_again_but_once(trained, begun):
    words = [str(trained / "none0"), str(trained / "targeted0")], ["sparsity=0.8", "kinds=[random]"]
    ticket(*words)
    fits = []
    original = Training.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "fit", lambda self, *rest: (fits.append(self), original(self, *rest)))
        ticket(*words)
        assert fits == []
        ticket(words[0], [*words[1], "force=true"])
    assert len(fits) == 1  # one random mask serves both runs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sparsity=1.5"], "sparsity=1.5: expected a number from 0 to 1"),
        (["granularity=layer"], "granularity=layer: expected auto, weight, unit, feature"),
        (["scores=best"], "scores=best: expected own, magnitude, random"),
        (["rewind=2"], "rewind=2: expected 0ep or a positive whole number of epochs or iterations"),
        (["rewind=12it"], r"rewind=12it: expected a point before the end of training, at step 12 \(.*none0\)"),
        (["rewind=4it", "length=1ep"], "rewind=4it: expected a point before the end of training, at step 4"),
        (["kinds=[tickets]"], "kinds=.tickets.: expected a list of ticket, fresh, random"),
        (["iterations=0"], "iterations=0: expected a whole number of at least 1"),
        (["finetune=1"], "finetune=1: expected null or a positive whole number of epochs"),
        (["finetune_rate=0"], "finetune_rate=0: expected a number above 0"),
        (["length=0ep"], "length=0ep: expected null or a positive whole number of epochs"),
        (["spasity=0.5"], "there is no option spasity; did you mean sparsity"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(words, said, trained):
    with pytest.raises(ConfigError, match=said) as raised:
        ticket([str(trained / "none0")], words)
    assert "\n" not in str(raised.value)
    assert list(Path().iterdir()) == []


def test_runs_that_give_no_tickets(trained, monkeypatch):
    with pytest.raises(ConfigError, match="iterations=2: this loop trains without dropout"):
        ticket([str(trained / "targeted0")], ["iterations=2"])
    with monkeypatch.context() as patch:
        patch.setattr("runner.pruning.granularities.feature.feature_places", lambda model: ())
        with pytest.raises(ConfigError, match=r"granularity=feature: MLP declares no feature places \(.*none0\)"):
            ticket([str(trained / "none0")], ["granularity=feature"])
    shutil.copytree(trained / "none0", "run")
    run = Run(Path("run"))
    config = run.config()
    run.write_status(state="running", checksums={})
    with pytest.raises(ConfigError, match=r"run is not finished \(interrupted\)"):
        ticket([str(trained / "none1"), "run"], [])
    run.write_status(state="finished", hash="nothing")
    with pytest.raises(DamagedRun, match=r"status.json is damaged"):
        ticket(["run"], [])
    run.write_status(hash="0" * 64)
    dropout = {"name": "unit_dropout", "_target_": "runner.dropout.standard.UnitDropout"}
    run.config_file.write_text(yaml.safe_dump({**config, "dropout": dropout}))
    with pytest.raises(ConfigError, match="granularity=auto: the runs have none in common; choose weight or unit"):
        ticket(["run", str(trained / "targeted0")], [])
    masked = {"name": "none-ticket", "_target_": "runner.dropout.masked.Masked"}
    run.config_file.write_text(yaml.safe_dump({**config, "dropout": masked}))
    with pytest.raises(ConfigError, match="run is a masked training itself; expected the runs to take masks from"):
        ticket(["run"], [])
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    ("group", "part", "said"),
    [
        ("dropout", {"_target_": "os.system", "command": "touch trace"}, "dropout._target_=os.system"),
        ("model", {"_target_": "torch.load", "f": "x"}, "model._target_=torch.load"),
        ("data", {"name": "../../../escaped"}, "data.name can't be part of a file name"),
        ("dropout", {"name": "/escaped"}, "dropout.name can't be part of a file name"),
    ],
)
def test_nothing_that_a_strangers_run_names_is_called_or_written_to(group, part, said, trained, tree):
    shutil.copytree(trained / "none0", "a/run")
    run = Run(Path("a/run"))
    config = run.config()
    run.write_status(checksums={})
    run.config_file.write_text(yaml.safe_dump({**config, group: {**config[group], **part}}))
    before = tree(Path())
    with pytest.raises((ConfigError, DamagedRun), match=said):
        ticket(["a/run"], ["sparsity=0.5"])
    assert tree(Path()) == before


@pytest.mark.slow
def test_side_by_side_gives_the_same_as_one_after_another(trained, monkeypatch, capsys):
    """Random masks on initial weights are the same training for both runs of a seed, which is done once."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["sparsity=0.8", "kinds=[ticket,random]"]
    folders = [str(trained / name) for name in ("none0", "targeted0")]
    tables = []
    for jobs, outputs in ((1, "one"), (2, "two")):
        ticket(folders, [*words, f"jobs={jobs}", f"outputs={outputs}"])
        table = pd.read_csv(f"{outputs}/ticket/digits-mlp-weight-0.8/table.csv")
        tables.append(table.drop(columns=[name for name in table if "seconds" in name]))
    assert tables[0].equals(tables[1])
    said = capsys.readouterr().out
    assert "3 runs, 2 at a time" in said
    assert f"finished  {trained / 'targeted0'}: ticket" in said
    sides = [sorted(Path(outputs).rglob("weights.safetensors")) for outputs in ("one", "two")]
    assert len(sides[0]) == 3
    for one, two in zip(*sides, strict=True):
        assert one.relative_to("one") == two.relative_to("two")
        assert one.read_bytes() == two.read_bytes()
