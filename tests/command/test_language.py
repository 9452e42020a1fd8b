"""A language model on a user's own text, from the command line to its compact network."""

import json

import pytest

from runner.compaction.saving import load_compact
from runner.files import read_rows
from runner.models.foreign.transformers import import_transformers
from runner.runs import Run

SMALL = ("model=gpt", "debug=smoke", "model.layers=1", "data.context=16", "prune.splits=[test]", "task.longer=4")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"{i} times {i} is {i * i}.\n" for i in range(400)))
    return "data.train=[text.txt]"


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_model_brings_text_task_and_schedule(call, text, tmp_path, positions):
    asked = "prune.granularity=[weight,n_of_m,feature,head,block]"
    rotary = [] if positions == "learned" else [f"model.positions={positions}"]
    done = call("train", *SMALL, text, "model.width=0.5", "prune.sparsities=[0,0.5]", asked, "folder=one", *rotary)
    assert done.code == 0, done.err
    assert "bits per byte" in done.out
    run = Run(tmp_path / "one")
    rows = {(row["granularity"], float(row["sparsity"])): row for row in read_rows(run.pruning_file)}
    for granularity in ("weight", "n_of_m", "feature", "head", "block"):
        assert float(rows[granularity, 0.5]["actual_sparsity"]) == pytest.approx(0.5, abs=0.01)
        assert 0 < float(rows[granularity, 0.5]["bits_per_byte"]) < 20
        assert float(rows[granularity, 0.5]["perplexity"]) > 1
    (epoch,) = read_rows(run.metrics_file)
    assert float(epoch["validation_bits_per_byte"]) == pytest.approx(float(epoch["validation_loss"]) / 0.6931, rel=1e-3)
    samples = (tmp_path / "one" / "samples.txt").read_text()
    assert samples.count("prompt '") == samples.count("output '") == 3 * 6  # once unpruned, five times pruned
    status = json.loads((tmp_path / "one" / "status.json").read_text())
    assert status["headline"] == {"metric": "bits_per_byte", "higher_is_better": False}

    for granularity in ("feature", "head", "weight"):
        made = call(
            "compact",
            "one",
            f"granularity={granularity}",
            "sparsity=0.5",
            "rounds=6",
            "turn=0",
            "batches=[1]",
            "onnxruntime=false",
        )
        assert made.code == 0, made.err


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_heads_of_a_model_that_is_not_trained_are_inspected(call, positions):
    done = call(
        "inspect", "model=gpt", f"model.positions={positions}", "model.layers=1", "granularity=head", "sparsity=0.5"
    )
    assert done.code == 0, done.err
    assert "64/128 x 128/128" in done.out


TINY = {
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16},
    "llama": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
    },
}
LANGUAGE = ("task=language_modelling", "data=text", "debug=smoke", "data.context=16", "prune.splits=[test]")


@pytest.fixture
def folder(tmp_path):
    """Create a folder with a Llama, as saved by transformers and tokenizers."""
    tokenizers = pytest.importorskip("tokenizers")
    pytest.importorskip("transformers")
    transformers = import_transformers()
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=270, show_progress=False, initial_alphabet=alphabet)
    made.train_from_iterator(["times is 12 times 34 is"], trainer)
    config = transformers.LlamaConfig(**TINY["llama"], vocab_size=made.get_vocab_size() + 2)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    made.save(str(tmp_path / "llama" / "tokenizer.json"))
    return tmp_path / "llama"


def swept(run):
    return {(r["granularity"], r["scores"], float(r["sparsity"])): r for r in read_rows(run.pruning_file)}


def compacted(call, run, granularity):
    return call(
        "compact", run, f"granularity={granularity}", "sparsity=0.5", "rounds=6", "turn=0", "batches=[1]",
        "onnxruntime=false",
    )  # fmt: skip


def test_a_causal_model_of_transformers_from_a_small_configuration(call, text, tmp_path):
    pytest.importorskip("transformers")
    sizes = ",".join(f"{name}:{value}" for name, value in TINY["gpt2"].items())
    done = call(
        *("train", "model=transformers", "model.architecture=gpt2", f"model.arguments={{{sizes}}}", *LANGUAGE, text),
        *("task.longer=4", "prune.sparsities=[0,0.5]", "prune.granularity=[weight,n_of_m,feature,head]"),
        *("prune.criterion=[magnitude,wanda,sparsegpt]", "folder=one"),
    )
    assert done.code == 0, done.err
    rows = swept(Run(tmp_path / "one"))
    for granularity in ("weight", "n_of_m", "feature", "head"):
        for criterion in ("magnitude", "wanda", "sparsegpt"):
            row = rows[granularity, criterion, 0.5]
            assert float(row["actual_sparsity"]) == pytest.approx(0.5, abs=0.01)
            assert 0 < float(row["bits_per_byte"]) < 20 and float(row["perplexity"]) > 1
    assert "output '" in (tmp_path / "one" / "samples.txt").read_text()
    for granularity, left in (("feature", 32), ("head", 64), ("weight", 64)):
        made = compacted(call, "one", granularity)
        assert made.code == 0, made.err
        # Features are cut. The certificate says that the reshape to heads is in the network's own code.
        kept = tmp_path / "one" / "compact" / f"{granularity}-0.5"
        assert load_compact(kept).network.transformer.h[0].mlp.c_fc.out_features == left
        certificate = (kept / "certificate.md").read_text()
        assert ("zero filters stay: goes through reshaping" in certificate) == (granularity == "head")
        found = call("evaluate", f"one/compact/{granularity}-0.5")
        assert found.code == 0, found.err
        assert "bits per byte" in found.out


def test_a_causal_model_of_transformers_from_a_folder_with_its_tokenizer(call, text, folder, tmp_path):
    words = ("train", "model=transformers", f"model.architecture={folder}", f"data.tokens={folder}", *LANGUAGE, text)
    sweep = ("prune.granularity=[feature,head]", "prune.sparsities=[0,0.5]", "prune.criterion=[magnitude,wanda]")
    done = call(*words, "dropout=tail", *sweep, "schedule.length=0it")
    assert done.code == 0, done.err
    run = Run(tmp_path / done.out.splitlines()[-1])
    rows = swept(run)
    for granularity in ("feature", "head"):
        assert rows[granularity, "wanda", 0.5]["bits_per_byte"] != rows[granularity, "wanda", 0.0]["bits_per_byte"]
    made = compacted(call, str(run.folder), "feature")
    assert made.code == 0, made.err
    # The same files at another location are the same run, and a stored run does not need the weights.
    (tmp_path / "moved").mkdir()
    folder.rename(tmp_path / "moved" / "llama")
    words = tuple(word.replace(str(folder), "moved/llama") for word in words)
    again = call(*words, "dropout=tail", *sweep, "schedule.length=0it")
    assert again.code == 0, again.err
    assert again.out.splitlines()[-1] == done.out.splitlines()[-1]


def test_text_with_a_task_of_images_and_sizes_that_do_not_fit_are_one_line(call, text, folder, tmp_path):
    cases = {
        "task=classification works with images, but data=text with text": ("data=text", text),
        "has a vocab_size of": (*LANGUAGE, text, "data.tokens=subwords", "data.vocabulary=400"),
        "data.context=64: model.architecture=llama has 32 positions": (*LANGUAGE, text, "data.context=64"),
        "data.tokens=nowhere: expected one of": (*LANGUAGE, text, "data.tokens=nowhere"),
    }
    for said, words in cases.items():
        done = call("train", "model=transformers", f"model.architecture={folder}", *words)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert said in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_language_model_of_transformers_is_inspected(call):
    pytest.importorskip("transformers")
    sizes = ",".join(f"{name}:{value}" for name, value in TINY["llama"].items())
    words = ("model=transformers", "model.architecture=llama", f"model.arguments={{{sizes}}}", "data=text")
    done = call("inspect", *words, "granularity=unit")
    assert done.code == 0, done.err
    assert "goes through reshaping to" in done.out and "lm_head" in done.out
