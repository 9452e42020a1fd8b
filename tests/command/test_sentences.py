"""A sentence encoder from transformers, fine-tuned towards its own dense embeddings and pruned by any criterion."""

import json

import pytest

from runner.files import read_rows
from runner.models.foreign.transformers import import_transformers
from runner.runs import Run

WORDS = ["a", "man", "dog", "runs", "sleeps", "red", "ball", "two", "on", "grass"]
SIZES = {"vocab_size": 15, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24}


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    """Create a folder with a tiny BERT, in the format of sentence-transformers."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("transformers")
    transformers = import_transformers()
    folder = tmp_path / "tiny encoder"
    config = transformers.BertConfig(**SIZES, max_position_embeddings=16)
    transformers.BertModel(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    lines = [f"{a} {b} {c}" for a in WORDS[:5] for b in WORDS[3:8] for c in WORDS[5:]]
    for split, part in {"train": lines[:64], "validation": lines[64:80], "test": lines[80:100]}.items():
        (tmp_path / f"{split}.txt").write_text("\n\n".join(part) + "\n")
    return folder


def words(encoder, *more):
    files = (f"data.{split}={split}.txt" for split in ("train", "validation", "test"))
    return [
        "train",
        "model=sentence_encoder",
        f"model.architecture={encoder}",
        f"data.encoder={encoder}",
        *files,
        *more,
    ]


def test_an_encoder_is_fine_tuned_and_pruned_by_weights_features_and_heads(encoder, call, tmp_path):
    sweep = ("prune.splits=[test]", "prune.sparsities=[0,0.5]", "prune.granularity=[weight,feature,head]")
    result = call(
        *words(encoder, "schedule.length=2it", "schedule.batch_size=8", "prune.criterion=[magnitude,wanda]", *sweep)
    )
    assert result.code == 0, result.err
    run = Run(tmp_path / result.out.splitlines()[-1])
    rows = {(r["granularity"], r["scores"], float(r["sparsity"])): r for r in read_rows(run.pruning_file)}
    for granularity in ("weight", "feature", "head"):
        for criterion in ("magnitude", "wanda"):
            row = rows[granularity, criterion, 0.5]
            assert float(row["actual_sparsity"]) == pytest.approx(0.5, abs=0.01)
            assert -1 <= float(row["cosine"]) <= 1 and row["cosine"] != rows[granularity, criterion, 0.0]["cosine"]
            assert 0 <= float(row["nearest"]) <= 1
    assert len(list((tmp_path / "cache" / "run" / "embeddings").iterdir())) == 3


def test_without_training_the_network_is_the_dense_one(encoder, call, tmp_path):
    result = call(*words(encoder, "schedule.length=0it", "prune.splits=[test]", "prune.sparsities=[0]", "folder=run"))
    assert result.code == 0, result.err
    (row, *_) = read_rows(tmp_path / "run" / "pruning.csv")
    assert float(row["cosine"]) == pytest.approx(1, abs=1e-5) and float(row["nearest"]) == 1
    assert json.loads((tmp_path / "run" / "status.json").read_text())["steps"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["data.encoder=nowhere"], "data.encoder=nowhere: expected a folder with config.json"),
        (["data.train=missing.txt"], "data.train=missing.txt: "),
        (["task=classification"], "task=classification works with images, but model=tiny_encoder with sentences"),
    ],
    ids=["encoder", "file", "task"],
)
def test_bad_input_is_one_line(change, said, encoder, call, tmp_path):
    result = call(*words(encoder, *change))
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert said in result.err
    assert not (tmp_path / "outputs").exists()
