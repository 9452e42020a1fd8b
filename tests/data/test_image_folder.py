import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.data.errors import DataError
from runner.data.image_folder import ImageFolder


def save(path: Path, shade: int, mode: str = "RGB", size: tuple[int, int] = (9, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, shade if mode == "L" else (shade, 0, 255)).save(path)


def fill(folder: Path, counts: dict[str, int], first: int = 0, **options: object) -> None:
    for index, (name, count) in enumerate(counts.items()):
        for number in range(count):
            save(folder / name / f"{number}.png", first + 50 * index + number, **options)  # type: ignore[arg-type]


def shades(images: object) -> list[int]:
    return sorted(np.asarray(images)[:, 0, 0, 0].tolist())


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_folders_for_training_and_testing(tmp_path: Path, held_out: str) -> None:
    fill(tmp_path / "train", {"cat": 5, "dog": 4})
    fill(tmp_path / held_out, {"cat": 2, "dog": 3}, first=100)
    data = ImageFolder(tmp_path, size=8, validation=0)
    assert data.class_names == ("cat", "dog")
    assert data.model_arguments() == {"channels": 3, "image_size": 8, "classes": 2}
    assert shades(data.train.images) == [0, 1, 2, 3, 4, 50, 51, 52, 53]
    assert shades(data.test.images) == [100, 101, 150, 151, 152]
    for split, border in ((data.train, 50), (data.test, 150)):
        assert [int(shade >= border) for shade in split.images[:, 0, 0, 0]] == split.labels.tolist()
        assert split.images[:, 1].max() == 0 and split.images[:, 2].min() == 255


def test_one_set_of_class_folders_is_split_by_class(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 20, "b": 10})
    data = ImageFolder(tmp_path, test=0.2, validation=0.25)
    assert data.sizes() == {"train": 18, "validation": 6, "test": 6}
    assert data.test.labels.bincount().tolist() == [4, 2]
    assert data.validation.labels.bincount().tolist() == [4, 2]
    everything = [*data.train.images, *data.validation.images, *data.test.images]
    assert shades(np.stack(everything)) == [*range(20), *range(50, 60)]


def test_training_folder_alone_is_split_too(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"a": 10, "b": 10})
    assert ImageFolder(tmp_path, test=0.3, validation=0).sizes() == {"train": 14, "test": 6}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, {"plane": 5, "train": 5})
    assert ImageFolder(tmp_path).class_names == ("plane", "train")


def test_first_images_of_a_split_are_of_several_classes_and_always_the_same(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 40, "b": 40})
    data, again = ImageFolder(tmp_path, size=4), ImageFolder(tmp_path, size=4)
    for split, other in ((data.train, again.train), (data.test, again.test)):
        assert split.labels[:10].unique().tolist() == [0, 1]
        assert np.array_equal(split.images, other.images)


def test_gray_only_if_all_are(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3}, mode="L")
    gray = ImageFolder(tmp_path, size=5, validation=0)
    assert gray.model_arguments()["channels"] == 1
    assert shades([*gray.train.images, *gray.test.images]) == [0, 1, 2, 50, 51, 52]
    save(tmp_path / "a" / "colour.jpg", 200)
    mixed = ImageFolder(tmp_path, size=5, validation=0)
    assert mixed.model_arguments()["channels"] == 3
    images = np.concatenate([mixed.train.images, mixed.test.images])
    grays = [image for image in images if image[0, 0, 0] < 100]
    assert len(grays) == 6
    assert all(np.array_equal(image[0], channel) for image in grays for channel in image)


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 2, "b": 2}, mode="L")
    Image.fromarray(np.full((4, 4), 128 * 256, dtype=np.uint16)).save(tmp_path / "a" / "deep.png")
    data = ImageFolder(tmp_path, size=4, validation=0)
    assert 128 in shades([*data.train.images, *data.test.images])


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 2, "b": 2}, mode="L")
    photograph = Image.fromarray(np.array([[255, 0], [255, 0]], dtype=np.uint8).repeat(8, 0).repeat(8, 1))
    tags = Image.Exif()
    tags[0x0112] = 6  # to be displayed rotated to the right: its left side becomes the top
    photograph.save(tmp_path / "a" / "photograph.png", exif=tags)
    data = ImageFolder(tmp_path, size=2, validation=0)
    bright = [image for image in [*data.train.images, *data.test.images] if image.max() > 200]
    assert len(bright) == 1 and np.array_equal(bright[0][0] > 127, [[True, True], [False, False]])


def test_hidden_and_other_files_are_left_aside_and_folders_in_a_class_belong_to_it(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    fill(tmp_path, {".hidden": 2})
    save(tmp_path / "a" / ".thumbnails" / "0.png", 99)
    save(tmp_path / "a" / "more" / "0.PNG", 30)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    data = ImageFolder(tmp_path, validation=0)
    assert data.class_names == ("a", "b")
    assert shades([*data.train.images, *data.test.images]) == [0, 1, 2, 30, 50, 51, 52]


def test_an_unread_folder_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("train", "val", "test"):
        fill(tmp_path / name, {"a": 3, "b": 3}, first={"train": 0, "val": 100, "test": 10}[name])
    with caplog.at_level(logging.WARNING):
        data = ImageFolder(tmp_path)
    assert shades(data.test.images) == [10, 11, 12, 60, 61, 62]
    assert f"{tmp_path / 'val'} is not read" in caplog.text


@pytest.mark.parametrize("how", ["truncated", "text", "float"])
def test_an_unreadable_image_is_named(tmp_path: Path, how: str) -> None:
    fill(tmp_path, {"a": 3, "b": 3}, size=(64, 64))
    path = tmp_path / "b" / ("broken.tiff" if how == "float" else "broken.png")
    if how == "float":
        Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(path)
    elif how == "text":
        path.write_text("this is no image")
    else:
        save(path, 9, size=(64, 64))
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=rf"^root=[^\n]*{path} can't be read as an image: [^\n]+$"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize(
    ("counts", "empty", "message"),
    [
        (None, None, "no such folder"),
        ({}, None, "holds 0 class folders"),
        ({"a": 3}, None, "holds 1 class folders"),
        ({"a": 3}, "b", "b holds no image files"),
        ({"train/a": 3, "train/b": 3}, "test", "test holds no class folders"),
        ({"train/a": 3, "train/b": 3, "test/c": 3}, None, "c is not one of the training classes a, b"),
    ],
)
def test_folders_that_are_no_image_set(
    tmp_path: Path, counts: dict[str, int] | None, empty: str | None, message: str
) -> None:
    root = tmp_path / "images"
    if counts is not None:
        save(root / "beside.png", 0)
        fill(root, counts)
    if empty:
        (root / empty).mkdir()
    with pytest.raises(DataError, match=rf"^root={root}: [^\n]*{message}[^\n]*$"):
        ImageFolder(root)


@pytest.mark.parametrize(
    ("option", "value"), [("size", 0), ("size", 2.5), ("test", 0), ("test", 1), ("validation", -1)]
)
def test_a_bad_option_is_named(tmp_path: Path, option: str, value: object) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    with pytest.raises(ValueError, match=rf"^{option}={value!r}: expected [^\n]+$"):
        ImageFolder(tmp_path, **{option: value})  # type: ignore[arg-type]


def test_the_fingerprint_tells_contents_apart_and_folders_not(tmp_path):
    from PIL import Image

    def write(root, shade):
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
            Image.new("L", (4, 4), shade).save(root / name / "0.png")

    write(tmp_path / "one", 10)
    write(tmp_path / "same", 10)
    write(tmp_path / "other", 11)
    prints = [ImageFolder.fingerprint(root=tmp_path / name, size=8) for name in ("one", "same", "other")]
    assert prints[0] == prints[1] != prints[2]


def test_the_inventory_reads_no_image_and_lists_those_that_are_used(tmp_path):
    fill(tmp_path / "train", {"a": 3, "b": 3})
    fill(tmp_path / "test", {"a": 2, "b": 2})
    first = ImageFolder.inventory(root=tmp_path, size=8)
    assert (first["classes"], first["files"]) == (["a", "b"], 10)
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    path = tmp_path / "train" / "a" / "0.png"
    path.write_bytes(bytes(path.stat().st_size))
    assert ImageFolder.inventory(root=tmp_path) == first
    path.write_bytes(b"")
    second = ImageFolder.inventory(root=tmp_path)
    path.rename(path.with_name("9.png"))
    assert first != second != ImageFolder.inventory(root=tmp_path) != first
