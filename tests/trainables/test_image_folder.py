from __future__ import annotations

import logging
import multiprocessing
import os
import random
import shutil
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import Counts, noise, write_images
from PIL import Image

from trainables import array_cache, image_folder
from trainables.errors import DataError
from trainables.image_folder import (
    PARTS,
    LabelledFiles,
    find_images,
    hold_out,
    open_image_folder,
    shuffled,
)

CLASSES = {"cat": 20, "ant": 15, "bee": 15}
WHOLE = {f"{part}/{name}": count for part in ("train", "test") for name, count in CLASSES.items()}


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "cache"))
    image_folder._open.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    paths: list[Path] = []
    read = image_folder.read_image

    def count(path: Path, size: int) -> np.ndarray:
        paths.append(path)
        return read(path, size)

    monkeypatch.setattr(image_folder, "read_image", count)
    return paths


def paths_of(files: LabelledFiles) -> dict[str, list[Path]]:
    return {part: [path for path, _ in rows] for part, rows in files}


def test_a_folder_of_classes_is_split_8_to_1_to_1(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    expected = sorted(folder.glob("*/*.png"))
    random.Random(42).shuffle(expected)
    parts = paths_of(find_images(folder))
    assert parts == {"train": expected[:40], "validation": expected[40:45], "test": expected[45:]}


def test_the_last_tenth_of_the_training_images_validates(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", WHOLE)
    expected = sorted(folder.glob("train/*/*.png"))
    random.Random(42).shuffle(expected)
    parts = paths_of(find_images(folder))
    assert parts["train"] == expected[:45] and parts["validation"] == expected[45:]
    assert sorted(parts["test"]) == sorted(folder.glob("test/*/*.png"))


def test_a_folder_of_validation_images_is_taken(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", WHOLE | {"validation/ant": 2, "validation/cat": 1})
    parts = paths_of(find_images(folder))
    assert {part: sorted(paths) for part, paths in parts.items()} == {
        part: sorted(folder.glob(f"{part}/*/*.png")) for part in PARTS
    }


@pytest.mark.parametrize("counts", [CLASSES, WHOLE])
def test_labels_are_places_among_the_sorted_classes(tmp_path: Path, counts: Counts) -> None:
    files = find_images(write_images(tmp_path / "own", counts))
    assert files.classes == ("ant", "bee", "cat")
    for _, rows in files:
        assert rows and all(files.classes[label] == path.parent.name for path, label in rows)


def test_a_part_may_lack_a_class(tmp_path: Path) -> None:
    files = find_images(write_images(tmp_path / "own", {"train/a": 9, "train/b": 9, "test/b": 3}))
    assert [label for _, label in files.parts[2]] == [1, 1, 1]


def test_every_part_is_in_mixed_order(tmp_path: Path) -> None:
    """So that the first items of one are of all classes."""
    counts = WHOLE | {"validation/ant": 15, "validation/cat": 15}
    for _, rows in find_images(write_images(tmp_path / "own", counts)):
        labels = [label for _, label in rows]
        assert labels != sorted(labels)


@given(st.lists(st.text("abc01", min_size=1), unique=True, max_size=200), st.randoms())
@settings(max_examples=60, deadline=None)
def test_split_is_a_partition_that_names_alone_decide(names: list[str], order: random.Random) -> None:
    paths = [Path(name) for name in names]
    rest, held_out = hold_out(shuffled(paths))
    assert sorted(rest + held_out) == sorted(paths)
    assert len(held_out) == min(len(paths), max(2, len(paths) // 10))
    order.shuffle(paths)
    assert hold_out(shuffled(paths)) == (rest, held_out)


def test_the_split_is_the_same_in_another_place(tmp_path: Path) -> None:
    first = write_images(tmp_path / "own", CLASSES)
    other = write_images(tmp_path / "zoo/deeper", CLASSES)
    relative = [
        [(path.relative_to(folder), label) for part in find_images(folder).parts for path, label in part]
        for folder in (first, other)
    ]
    assert relative[0] == relative[1]


def test_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    before = find_images(folder)
    for name in ("notes.txt", "cat/labels.csv", "cat/._0001.png", ".git/a.png", "__MACOSX/cat/a.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no image")
    shutil.copy(folder / "cat/0000.png", folder / "preview.png")
    assert find_images(folder) == before


def test_trains_may_be_a_class_among_others(tmp_path: Path) -> None:
    files = find_images(write_images(tmp_path / "own", {"train": 10, "bus": 10}))
    assert files.classes == ("bus", "train")


def test_arrays_are_the_files_pixels_and_labels(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", CLASSES, size=(20, 12))
    arrays = open_image_folder(str(folder), 9).arrays
    for part, rows in find_images(folder):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        assert images.shape == (len(rows), 3, 9, 9) and images.dtype == np.uint8
        assert labels.tolist() == [label for _, label in rows] and labels.dtype == np.int64
        for pixels, (path, _) in zip(images, rows, strict=True):
            colour = Image.open(path).getpixel((0, 0))
            assert (pixels == np.array(colour)[:, None, None]).all()


def test_another_process_does_not_decode_again(tmp_path: Path, reads: list[Path]) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    first = open_image_folder(str(folder), 8)
    assert len(reads) == 50
    image_folder._open.cache_clear()
    again = open_image_folder(f"{folder}/../own", 8)
    assert len(reads) == 50
    assert all(np.array_equal(first.arrays[name], again.arrays[name]) for name in first.arrays)


def test_cache_is_verified_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    first = open_image_folder(str(folder), 8)
    monkeypatch.delattr(array_cache, "_verify")
    assert open_image_folder(str(folder), 8) is first


def renamed(folder: Path) -> None:
    (folder / "cat").rename(folder / "dog")


def removed(folder: Path) -> None:
    (folder / "cat/0000.png").unlink()


def newer(folder: Path) -> None:
    os.utime(folder / "cat/0000.png", (0, 0))


def another(folder: Path) -> None:
    shutil.copy2(folder / "cat/0000.png", folder / "cat/a.png")


@pytest.mark.parametrize("change", [renamed, removed, newer, another])
def test_changed_files_are_decoded_anew(
    tmp_path: Path, reads: list[Path], change: Callable[[Path], None]
) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    open_image_folder(str(folder), 8)
    change(folder)
    open_image_folder(str(folder), 8)
    assert 50 < len(reads) <= 101


def test_sizes_have_their_own_caches(tmp_path: Path, root: Path) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    for size in (8, 9, 8):
        assert open_image_folder(str(folder), size).arrays["test_images"].shape == (5, 3, size, size)
    assert len([path for path in root.iterdir() if path.is_dir()]) == 2


def test_decoding_is_announced_with_its_extent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    with caplog.at_level(logging.INFO):
        open_image_folder(str(folder), 8)
    assert caplog.messages[0] == f"{folder}: decoding 50 images"


def open_at_once(barrier: Barrier, folder: Path) -> None:
    """What each process of the race does; leaves a file if it decodes."""
    read = image_folder.read_image

    def mark(path: Path, size: int) -> np.ndarray:
        (folder.parent / f"decoded_by_{os.getpid()}").touch()
        return read(path, size)

    image_folder.read_image = mark
    barrier.wait()
    assert open_image_folder(str(folder), 8).arrays["train_images"].shape == (40, 3, 8, 8)


def test_two_processes_at_once_decode_once(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=open_at_once, args=(barrier, folder)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len([*tmp_path.glob("decoded_by_*")]) == 1


NO_IMAGES = r"has no images \(\.png, .*\) in its folders; images are in a folder for each class, or"
REFUSALS: dict[str, tuple[Counts, str]] = {
    "nothing": ({}, "has no folders in it; images are in a folder for each class, or in such"),
    "empty class": ({"a": 0, "b": 0}, NO_IMAGES),
    "one class": ({"a": 30}, r"has images of one class alone, a; contrast needs a second one"),
    "one class with images": ({"a": 30, "b": 0}, "has images of one class alone, a; contrast needs"),
    "one class in train": ({"train/a": 9, "test/a": 9}, "own/train has images of one class alone, a"),
    "one image": ({"a": 30, "b": 1}, r"has \d image\(s\) of class b to train on, 1 with those"),
    "no image": ({"a": 30, "b": 30, "c": 0}, r"has 0 image\(s\) of class c to train on, 0 with those"),
    "few images": ({"a": 2, "b": 2}, r"to train on, 2 with .* contrast needs 2, add some or remove it"),
    "one to train on": ({"train/a": 30, "train/b": 1, "test/a": 2}, r"image\(s\) of class b to train"),
    "no test": ({"train/a": 9, "train/b": 9}, "has train but no test; images are in a folder for each"),
    "no train": ({"test/a": 9, "validation/a": 9}, "has test, validation but no train; images are in"),
    "no test images": ({"train/a": 9, "train/b": 9, "test/a": 0}, r"own/test has 0 image\(s\); add"),
    "one to validate on": (
        WHOLE | {"validation/ant": 1},
        r"own/validation has 1 image\(s\); add some, 2",
    ),
    "no classes in train": ({"train": 9, "test": 9}, "own/train has no folders in it; images are in"),
    "class of the test": (WHOLE | {"test/dog": 1}, r"own/test/dog is a class that .*own/train does not"),
    "class of validation": (
        WHOLE | {"validation/dog": 1},
        "validation/dog is a class .*outside the set",
    ),
    "another part": (
        WHOLE | {"val/ant": 1},
        "has images in val beside those in train and test; call it",
    ),
    "too deep": (
        {"a/b": 9, "a/c": 9},
        r"own/a/b has images, and lies in .*own/a, which should .* name ",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_an_unfit_folder_is_refused(tmp_path: Path, root: Path, case: str) -> None:
    counts, message = REFUSALS[case]
    (tmp_path / "own").mkdir()
    folder = write_images(tmp_path / "own", counts)
    with pytest.raises(DataError, match=rf"^data\.source: {folder}") as caught:
        open_image_folder(str(folder), 8)
    assert caught.match(message)
    assert not root.exists()


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^data\.source: {tmp_path}/absent does not exist; name the"):
        open_image_folder(f"{tmp_path}/absent", 8)
    with pytest.raises(DataError, match="~no-such-user/data does not exist"):
        open_image_folder("~no-such-user/data", 8)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "own.zip").touch()
    with pytest.raises(DataError, match=rf"^data\.source: {tmp_path}/own.zip is not a folder; name"):
        open_image_folder(f"{tmp_path}/own.zip", 8)


def test_an_image_that_leads_nowhere_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    (folder / "cat/lost.png").symlink_to(folder / "absent.png")
    with pytest.raises(DataError, match=r"own cannot be read: .*No such file.*cat/lost\.png"):
        open_image_folder(str(folder), 8)


def test_a_damaged_image_is_refused_and_nothing_cached(tmp_path: Path, root: Path) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    Image.fromarray(noise(32, 32)).save(folder / "cat/torn.png")
    content = (folder / "cat/torn.png").read_bytes()
    (folder / "cat/torn.png").write_bytes(content[:-100])
    with pytest.raises(DataError, match=rf"^data\.source: the image {folder}/cat/torn.png is damaged"):
        open_image_folder(str(folder), 8)
    assert [path.suffix for path in root.iterdir()] == [".lock"]


def test_digest_is_that_of_the_pixels_and_not_of_the_files(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "own", CLASSES)
    first = open_image_folder(str(folder), 8).digest
    assert open_image_folder(str(folder), 9).digest != first
    newer(folder)
    assert open_image_folder(str(folder), 8).digest == first
    removed(folder)
    assert open_image_folder(str(folder), 8).digest != first
