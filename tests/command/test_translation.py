"""A user's own parallel text files, from the command line to samples.txt."""

import csv
import gzip
import json

import pytest

from runner import experiment
from runner.compaction.sparse import NoKernels, kernels, linear
from runner.files import read_rows
from runner.training.progress import Progress

TINY = ["model=transformer", "debug=smoke", "data=parallel", "data.vocabulary=300", "schedule.batch_size=64"]


@pytest.fixture
def text(tmp_path):
    """Return the options that name a small corpus."""
    options = []
    for split, lines in (("train", 40), ("validation", 5), ("test", 6)):
        names = [f"{split}.de", f"{split}.en.gz"]
        (tmp_path / names[0]).write_text("".join(f"quelle {i}\n" for i in range(lines)))
        with gzip.open(tmp_path / names[1], "wt") as file:
            file.write("".join(f"target {i}\n" for i in range(lines)))
        options.append(f"data.{split}=[{','.join(names)}]")
    return [*options, f"data.root={tmp_path}"]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_own_files(call, text, tmp_path, monkeypatch):
    units = []
    monkeypatch.setattr(experiment, "Progress", lambda unit="": units.append(unit) or Progress())
    folder = tmp_path / "one"
    words = ["train", *TINY, *text, f"folder={folder}", "prune.granularity=weight"]
    done = call(*words)
    assert done.code == 0, done.err
    assert units[0] == "tok", "what the bar counts while training"
    assert "BLEU" in done.out
    found = rows(folder / "pruning.csv")
    assert {row["sparsity"] for row in found} == {"0.0", "0.5", "0.9"}
    assert {row["batch_norm"] for row in found} == {"none"}
    assert all(0 <= float(row["exact_match"]) <= float(row["token_accuracy"]) + 1 for row in found)
    assert all(0 <= float(row["bleu"]) <= 100 for row in found)
    status = json.loads((folder / "status.json").read_text())
    assert status["signatures"]["bleu"].startswith("nrefs:1|case:mixed")
    assert status["examples"] == {"train": 40, "validation": 5, "test": 6}
    samples = (folder / "samples.txt").read_text()
    assert samples.count("== weight sparsity") == 3
    assert samples.count("source    quelle") == samples.count("reference target") == 3 * 6

    more = call("prune", str(folder), "prune.sparsities=[0.3]", "prune.granularity=weight", "prune.splits=[test]")
    assert more.code == 0, more.err
    assert (folder / "samples.txt").read_text().startswith(samples)
    assert "== weight sparsity 0.3" in (folder / "samples.txt").read_text()[len(samples) :]

    monkeypatch.setattr(linear, "_FASTER", 0)  # every linear layer becomes sparse
    certified = call("compact", str(folder), "sparsity=0.9", "granularity=weight", "rounds=6", "turn=0")
    assert certified.code == 0, certified.err
    (certificate,) = folder.glob("compact/weight-0.9/certificate.csv")
    found = {(row["part"], row["network"], row["way"]) for row in read_rows(certificate)}
    parts = ("whole network", "feed-forward layers")
    assert {(part, "dense", "eager") for part in parts} <= found
    try:
        kernels()
    except NoKernels:
        return
    assert {(part, "compact", "sparse linear layers") for part in parts} <= found
    assert "not possible" not in certified.out


def test_where_files_lie_and_what_they_are_called_makes_no_other_run(call, text, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in list(tmp_path.glob("*.de")) + list(tmp_path.glob("*.gz")):
        (elsewhere / f"my-{path.name}").write_bytes(path.read_bytes())
    moved = [option.replace("=[", "=[my-").replace(",", ",my-") for option in text[:3]] + [f"data.root={elsewhere}"]
    for options in (text, moved):
        done = call("train", *TINY, *options, f"outputs={tmp_path / 'outputs'}")
        assert done.code == 0, done.err
    assert len(list((tmp_path / "outputs" / "train").iterdir())) == 1
    (elsewhere / "my-test.de").write_text("".join(f"andere {i}\n" for i in range(6)))
    assert call("train", *TINY, *moved, f"outputs={tmp_path / 'outputs'}").code == 0
    assert len(list((tmp_path / "outputs" / "train").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=transformer", "data=digits"], "data=digits works with images, but model=transformer with pairs"),
        (
            ["model=mlp", "task=translation"],
            "task=translation works with pairs of sentences, but model=mlp with images",
        ),
        (["model=transformer", "data=parallel"], "data.train must be given"),
        (
            ["model=transformer", "data=parallel", *(f"data.{name}=a.txt" for name in ("train", "validation", "test"))],
            "data.train=a.txt: not a pair of file names; expected [SOURCE,TARGET]",
        ),
        (["model=transformer", "model.features=100"], "model.features=100: expected a multiple of"),
        (["model=transformer", "task.beam=0"], "task.beam=0: expected a whole number of at least 1"),
        (["model=transformer", "data.vocabulary=3"], "data.vocabulary=3: expected a whole number of at least 259"),
    ],
)
def test_bad_input(call, words, message, tmp_path):
    done = call("train", *words, f"outputs={tmp_path / 'outputs'}")
    assert done.code == 2
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "outputs").exists()
