import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from runner.config.compose import Composer
from runner.config.identity import identity
from runner.data.arrays import Arrays
from runner.errors import ConfigError, ParameterError
from runner.experiment import Experiment
from runner.running import content_of, settle

COUNT, CLASSES = 40, 4


def examples(shape: tuple[int, ...] = (3, 2), dtype: Any = np.float32, seed: int = 0) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    inputs = (random.standard_normal((COUNT, *shape)) * 3 + 100).astype(dtype)
    inputs[:, 0, 0] = np.arange(COUNT)  # identifies the example
    return {"inputs": inputs, "labels": np.arange(COUNT) % CLASSES}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.savez(tmp_path / "all.npz", **examples())
    return tmp_path / "all.npz"


def numbers(data: Arrays, split: str) -> list[int]:
    return getattr(data, split).inputs[:, 0, 0].int().tolist()


def test_fractions_part_one_file_the_same_for_everybody(file: Path) -> None:
    data = Arrays(str(file))
    assert data.sizes() == {"train": 29, "validation": 3, "test": 8}
    assert data.test.labels.bincount().tolist() == [2, 2, 2, 2]
    assert sorted(number for split in data.splits for number in numbers(data, split)) == list(range(COUNT))
    assert numbers(Arrays(str(file)), "test") == numbers(data, "test")
    assert Arrays(str(file), validation=0).splits == ("train", "test")


def test_files_of_their_own_and_names_of_arrays(file: Path) -> None:
    test = examples(seed=1)
    np.savez_compressed(file.with_name("other.npz"), x=test["inputs"], y=test["labels"].astype(np.uint8))
    with pytest.raises(
        ConfigError, match=r"test=other.npz: it has no array 'inputs', only x, y; choose one with inputs="
    ):
        Arrays("all.npz", test="other.npz", root=file.parent)
    np.savez(file, x=test["inputs"], y=test["labels"])
    data = Arrays("all.npz", "other.npz", "other.npz", root=file.parent, inputs="x", labels="y")
    assert data.sizes() == {"train": COUNT, "validation": COUNT, "test": COUNT}
    x, y = next(data.eval_batches("test"))
    assert torch.equal(x, torch.from_numpy(test["inputs"])) and torch.equal(y, torch.from_numpy(test["labels"]))


def test_batches_are_those_of_seed_and_step(file: Path) -> None:
    data = Arrays(str(file))
    batches = data.train_batches(8, seed=3)
    again = data.train_batches(8, seed=3)
    later = again.batch(5)
    for step in range(6):
        x, y = batches.batch(step)
        assert x.dtype == torch.float32 and x.shape == (8, 3, 2)
        assert torch.equal(y, x[:, 0, 0].long() % CLASSES)
    assert torch.equal(x, later[0])
    epoch = [int(n) for step in range(batches.steps_per_epoch) for n in batches.batch(step)[0][:, 0, 0]]
    assert len(set(epoch)) == len(epoch) == 24
    assert not torch.equal(data.train_batches(8, seed=4).batch(5)[0], x)
    in_order = next(data.eval_batches("train", 5))
    assert torch.equal(next(data.augmented_batches(5, seed=1))[0], in_order[0])


def test_normalisation(tmp_path: Path) -> None:
    held = examples((6, 5))
    held["inputs"][:, 5, 4] = 7
    np.savez(tmp_path / "f.npz", **held)
    np.savez(tmp_path / "b.npz", **examples((6, 5), np.uint8))

    def train(file: str, normalize: str) -> torch.Tensor:
        data = Arrays(str(tmp_path / file), normalize=normalize)
        return torch.cat([x for x, _ in data.eval_batches("train", batch_size=10)])

    flat = train("f.npz", "example").flatten(1)
    assert flat.mean(1).abs().max() < 1e-4 and torch.allclose(flat.std(1, correction=0), torch.ones(len(flat)))
    by_feature = train("f.npz", "feature").flatten(1)
    assert by_feature.mean(0).abs().max() < 1e-3
    assert torch.allclose(by_feature.std(0, correction=0)[:-1], torch.ones(29), atol=1e-3)
    assert by_feature[:, -1].abs().max() == 0, "the same everywhere"
    pixels = train("b.npz", "none")
    assert pixels.max() <= 1 and torch.equal((pixels * 255).round(), pixels * 255)
    assert train("b.npz", "feature").flatten(1).mean(0).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("shape", "about"),
    [
        ((12,), {"classes": CLASSES, "input_shape": [12]}),
        ((3, 2), {"classes": CLASSES, "input_shape": [3, 2]}),
        ((3, 4, 4), {"classes": CLASSES, "input_shape": [3, 4, 4], "channels": 3, "image_size": 4}),
    ],
)
def test_what_a_model_is_told(tmp_path: Path, shape: tuple[int, ...], about: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", inputs=np.zeros((COUNT, *shape), np.float32), labels=np.arange(COUNT) % CLASSES)
    assert Arrays(str(tmp_path / "a.npz")).model_arguments() == about
    assert Arrays(str(tmp_path / "a.npz"), classes=9).model_arguments()["classes"] == 9


def spoiled(**changes: Any) -> dict[str, Any]:
    return {**examples(), **changes}


def with_value(value: float) -> NDArray[Any]:
    inputs = examples()["inputs"]
    inputs[17, 2, 1] = value
    return inputs


LABELS = examples()["labels"]
BAD = {
    "float64": (
        spoiled(inputs=examples()["inputs"].astype(float)),
        "inputs is float64 (40, 3, 2); expected float32 or",
    ),
    "no shape": (spoiled(inputs=np.zeros(COUNT, np.float32)), "inputs is float32 (40,); expected float32 or uint8 (N,"),
    "no examples": (spoiled(inputs=np.zeros((0, 3), np.float32)), "inputs is float32 (0, 3); expected"),
    "NaN": (spoiled(inputs=with_value(np.nan)), "inputs[17] holds NaN or an infinite number"),
    "infinity": (spoiled(inputs=with_value(-np.inf)), "inputs[17] holds NaN or an infinite number"),
    "real labels": (spoiled(labels=LABELS / 2), "labels is float64 (40,); expected integers (40,)"),
    "fewer labels": (spoiled(labels=LABELS[1:]), "labels is int64 (39,); expected integers (40,)"),
    "negative label": (spoiled(labels=LABELS - 1), "labels[0] is -1; expected 0 or above"),
    "pickled": (spoiled(labels=LABELS.astype(object)), "can't be read as an .npz file of plain arrays: Object arrays"),
}


@pytest.mark.parametrize(("arrays", "expected"), BAD.values(), ids=BAD.keys())
def test_refuses_what_is_no_such_array(tmp_path: Path, arrays: dict[str, Any], expected: str) -> None:
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays)
    with pytest.raises(ConfigError) as error:
        Arrays(str(file))
    assert f"train={file}: {expected}" in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_damaged_files_and_never_unpickles(tmp_path: Path, file: Path) -> None:
    whole = file.read_bytes()

    class Evil:
        def __reduce__(self) -> Any:
            return (tmp_path.joinpath("ran").touch, ())

    contents = {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:300] + bytes([whole[300] ^ 1]) + whole[301:],
        "text": b"inputs",
        "empty": b"",
        "pickle": pickle.dumps(Evil()),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=f"train={tmp_path / name}: can't be read as an .npz"):
            Arrays(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()
    np.save(tmp_path / "one.npy", LABELS)
    with pytest.raises(ConfigError, match=r"one.npy: a single array; expected an .npz file"):
        Arrays(str(tmp_path / "one.npy"))
    with pytest.raises(ConfigError, match=r"train=gone.npz: .*gone.npz: no such file"):
        Arrays("gone.npz", root=tmp_path)
    with pytest.raises(ConfigError, match="root=nowhere: no such folder"):
        Arrays("gone.npz", root="nowhere")
    with pytest.raises(ConfigError, match=r"labels\[3\] is 3; expected 0 to 2, for 3 classes"):
        Arrays(str(file), classes=3)
    np.savez(tmp_path / "other.npz", **examples((4, 2)))
    with pytest.raises(ConfigError, match=r"test=.*other.npz: an example is float32 \(4, 2\), but one of data"):
        Arrays(str(file), test=str(tmp_path / "other.npz"))
    for name, value in (
        ("test", 0),
        ("validation", 1),
        ("validation", 0.999),
        ("classes", 1),
        ("normalize", "pixel"),
    ):
        with pytest.raises(ParameterError, match=name):
            Arrays(str(file), **{name: value})  # type: ignore[arg-type]


def test_content_makes_the_identity_not_names_or_compression(file: Path) -> None:
    settled = settle(Composer("train").single(["data=arrays", f"data.train={file}", "model=mlp"]))

    def hash_of(name: str, **more: Any) -> str:
        config = {**settled, "data": {**settled["data"], "train": str(file.with_name(name)), **more}}
        return identity(config, content_of(config))

    first = hash_of(file.name)
    np.savez_compressed(file.with_name("same.npz"), **examples(), more=np.zeros(3))
    assert hash_of("same.npz") == first
    np.savez(file.with_name("other.npz"), **examples(seed=1))
    np.savez(file.with_name("relabelled.npz"), **{**examples(), "labels": LABELS[::-1]})
    others = [hash_of("other.npz"), hash_of("relabelled.npz"), hash_of(file.name, test=0.3)]
    assert len({first, *others, hash_of(file.name, test=str(file))}) == 5


def test_a_split_is_a_file_or_a_fraction_on_the_command_line(file: Path) -> None:
    words = ["data=arrays", f"data.train={file}", f"data.validation={file}", f"data.test={file}", "model=mlp"]
    experiment = Experiment.from_config(settle(Composer("train").single(words)))
    assert experiment.data.sizes() == {"train": COUNT, "validation": COUNT, "test": COUNT}
    with pytest.raises(ConfigError, match=r"data.validation=x.npz: expected a number from 0 to below 1"):
        settle(Composer("train").single(["data=digits", "data.validation=x.npz"]))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=resnet32"], "model=resnet32 reads images (C, S, S), but an example of data=arrays is (3, 2)"),
        (["model=mlp", "model.input_size=8"], "model.input_size=8: expected null: arrays are not resized"),
        (["model=mlp", "data.normalize=pixel"], "data.normalize=pixel: expected one of none, example, feature"),
        (["model=mlp", "data.test=0"], "data.test=0: expected a file or a number between 0 and 1"),
        (["model=mlp", "task=reconstruction"], "task=reconstruction expects a reconstruction"),
    ],
)
def test_what_does_not_fit_is_one_line(file: Path, words: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        Experiment.from_config(settle(Composer("train").single(["data=arrays", f"data.train={file}", *words])))
    assert expected in str(error.value)
