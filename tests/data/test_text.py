import gzip
import shutil
import sys

import pytest
import torch

from runner.data import tokens
from runner.data.errors import DataError
from runner.data.text import Text
from runner.errors import ConfigError, ParameterError

POEM = "".join(f"Zeile {i}: ein Maß für {i * i} — größer.\n" for i in range(60))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poem.txt").write_bytes(POEM.encode())
    return tmp_path


def text_of(data, split):
    """Return the joined content of the windows of a split."""
    batches = list(data.eval_batches(split))
    ids = [batches[0].inputs[0, 0].item(), *(int(i) for batch in batches for i in batch.targets.flatten())]
    return data.tokens.decode(ids)


@pytest.mark.parametrize("tokens", ["characters", "bytes", "subwords"])
def test_the_last_tenths_are_test_and_validation_and_windows_predict_each_token_once(tokens):
    if tokens == "subwords":
        pytest.importorskip("tokenizers")
    data = Text("poem.txt", tokens=tokens, context=7, vocabulary=300)
    parts = [text_of(data, split) for split in ("train", "validation", "test")]
    assert "".join(parts) == POEM
    assert [len(part) for part in parts[1:]] == [round(len(POEM) / 10)] * 2
    for split, part in zip(data.splits, parts, strict=True):
        batches = list(data.eval_batches(split))
        first = len(data.tokens.decode([batches[0].inputs[0, 0].item()]).encode())
        assert first + sum(int(batch.sizes.sum()) for batch in batches) == len(part.encode())
        assert data.sizes()[split] == sum(len(batch.inputs) for batch in batches)
        for inputs, targets, *_ in batches:
            assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert len(next(iter(data.eval_batches("train", limit=3))).inputs) == 3


def test_an_epoch_shows_each_token_once_at_most_and_follows_from_the_seed():
    data = Text("poem.txt", tokens="bytes", context=8)
    data._ids["train"] = torch.arange(200, dtype=torch.int32)
    data._sizes = torch.ones(200, dtype=torch.int64)
    batches = data.train_batches(batch_size=4, seed=0)
    epochs = [
        [batches.batch(e * batches.steps_per_epoch + s)[1] for s in range(batches.steps_per_epoch)] for e in (0, 1)
    ]
    for epoch in epochs:
        seen = torch.cat(epoch).flatten()
        assert len(seen.unique()) == len(seen) == batches.steps_per_epoch * batches.examples_per_step >= 160
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    assert torch.equal(data.train_batches(4, seed=0).batch(3)[0], batches.batch(3)[0])
    assert not torch.equal(data.train_batches(4, seed=1).batch(3)[0], batches.batch(3)[0])


def test_files_of_their_own_and_gzip_and_characters_that_training_lacks(folder, caplog):
    with gzip.open(folder / "more.gz", "wb") as file:
        file.write("ein Ж".encode())
    data = Text(["poem.txt", "poem.txt"], validation=0, test=["more.gz"], context=7)
    assert data.splits == ("train", "test")
    assert text_of(data, "train") == POEM * 2
    assert text_of(data, "test") == "ein \ufffd"
    assert "data.test: 1 characters are not in the vocabulary" in caplog.text


def test_the_content_of_files_counts_not_their_names_or_packing(folder):
    with gzip.open(folder / "packed", "wb") as file:
        file.write(POEM.encode())
    plain = Text.fingerprint("poem.txt")
    assert Text.fingerprint(["packed"]) == plain == Text.fingerprint("poem.txt", root=str(folder))
    assert Text.fingerprint("poem.txt", test="packed") != plain != Text.fingerprint(["packed", "packed"])
    assert Text.fingerprint() == Text.fingerprint(None) != plain


def test_without_files_it_reads_pythons_own_topics():
    data = Text()
    assert data.model_arguments()["vocabulary"] < 150
    assert "lambda" in text_of(data, "train")
    assert sum(data.sizes().values()) * data.context > 300_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": "none.txt"}, "train=none.txt: none.txt: no such file; expected UTF-8 files"),
        ({"train": ["poem.txt", "latin"]}, r"train=\[poem.txt,latin\]: latin, line 2: not UTF-8"),
        ({"train": "poem.txt", "test": "empty"}, "test=empty: fewer than two tokens"),
        ({"train": "empty", "validation": "poem.txt", "test": "poem.txt"}, "train=empty: the training text is empty"),
        ({"train": "poem.txt", "context": 5000}, "train=poem.txt: .* are too few for data.context=5000"),
    ],
)
def test_files_that_can_not_be_used_are_named(folder, given, message):
    (folder / "latin").write_bytes(b"a\n\xe4b")
    (folder / "empty").write_bytes(b"")
    with pytest.raises(DataError, match=message):
        Text(**given)


@pytest.mark.parametrize(
    "given", [{"train": 0.5}, {"train": []}, {"validation": 1}, {"tokens": "words"}, {"context": 1}, {"vocabulary": 9}]
)
def test_bad_values_name_the_parameter(given):
    (name,) = given
    with pytest.raises(ParameterError, match=name):
        Text(**{"train": "poem.txt", **given})


def test_subwords_without_the_library_are_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"needs tokenizers, which is not installed: pip install"):
        Text("poem.txt", tokens="subwords")


def tokenizer(folder, kind):
    """Save tokenizers as GPT-2 and Llama have them, and one whose tokens do not correspond to bytes."""
    tokenizers = pytest.importorskip("tokenizers")
    folder.mkdir()
    models, before, decoders = tokenizers.models, tokenizers.pre_tokenizers, tokenizers.decoders
    special = {"special_tokens": ["<s>"], "vocab_size": 320, "show_progress": False}
    made = tokenizers.Tokenizer(models.WordLevel({"Zeile": 0, "?": 1}, unk_token="?"))
    if kind == "byte-level":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = before.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(**special, initial_alphabet=before.ByteLevel.alphabet())
        made.train_from_iterator([POEM], trainer)
    elif kind == "metaspace":
        made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<s>"))
        made.pre_tokenizer = before.Metaspace(prepend_scheme="never")
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        made.train_from_iterator([POEM], tokenizers.trainers.BpeTrainer(**special))
    made.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    made.enable_truncation(5)
    made.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("kind", ["byte-level", "metaspace"])
def test_the_tokens_of_a_stored_tokenizer(folder, kind, caplog):
    tokenizer(folder / "own", kind)
    data = Text("poem.txt", tokens="own", context=7)
    assert "".join(text_of(data, split) for split in ("train", "validation", "test")) == POEM
    for split in data.splits:
        batches = list(data.eval_batches(split))
        first = len(data.tokens.decode([batches[0].inputs[0, 0].item()]).encode())
        assert first + sum(int(batch.sizes.sum()) for batch in batches) == len(text_of(data, split).encode())
    assert not caplog.records
    assert len(data.tokens.encode("")) == 0
    assert data.tokens.decode(data.tokens.encode("Zeile <s>")) == "Zeile <s>"
    assert int(data.tokens.sizes[data.tokens.encode("<s>").long()].sum()) == 3


def test_long_texts_are_encoded_in_pieces_that_end_with_a_line(folder, monkeypatch):
    tokenizer(folder / "own", "byte-level")
    whole = Text("poem.txt", tokens="own", context=7).tokens
    monkeypatch.setattr(tokens, "_PIECE", 50)
    assert len(list(tokens._pieces(POEM))) > 20
    assert whole.decode(whole.encode(POEM)) == POEM


def test_the_content_of_a_tokenizer_counts_not_its_folder(folder):
    tokenizer(folder / "own", "byte-level")
    tokenizer(folder / "other", "metaspace")
    shutil.copytree(folder / "own", folder / "moved")
    found = {name: Text.fingerprint("poem.txt", tokens=name) for name in ("own", "moved", "other", "characters")}
    assert found["own"] == found["moved"]
    assert len(set(found.values())) == 3
    assert found["characters"] == Text.fingerprint("poem.txt")
    assert Text.named_contents({"tokens": "own"}) == ("tokens",) and Text.named_contents({"tokens": "bytes"}) == ()


def test_tokenizers_that_can_not_be_used_are_named(folder):
    tokenizer(folder / "own", "words")
    with pytest.raises(DataError, match=r"tokens=own: own/tokenizer.json: can't tell the bytes of its tokens"):
        Text("poem.txt", tokens="own")
    (folder / "own" / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokens=own: own/tokenizer.json can't be read"):
        Text("poem.txt", tokens="own")
    with pytest.raises(ParameterError, match=r"tokens='nowhere': expected one of .*, subwords or a folder with"):
        Text("poem.txt", tokens="nowhere")
