import hashlib
import io
import json
import logging
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import fields
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from trainables import array_cache, image_cache
from trainables.array_cache import MANIFEST
from trainables.errors import DataError
from trainables.image_cache import ARRAYS, CachedImages, open_folder, open_images, split_order
from trainables.image_sources import RawImages
from trainables.image_tables import ImageDataset

CIFAR100 = Path(__file__).parents[3] / "shared/data/cifar100"
HUB_ID = "uoft-cs/cifar10"


def raw_images() -> RawImages:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (num_rows, 3, 32, 32), np.uint8) for num_rows in (20, 10)]
    return RawImages(images[0], np.arange(20) % 10, images[1], np.arange(10))


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that were read and decoded."""
    sources: list[str] = []

    def read(dataset: ImageDataset, source: str) -> RawImages:
        sources.append(source)
        return raw_images()

    monkeypatch.setattr(image_cache, "read_images", read)
    return sources


@pytest.fixture
def folder(root: Path, reads: list[str]) -> Path:
    """A sound cache, as another process left it."""
    open_images("cifar10", HUB_ID)
    open_folder.cache_clear()
    reads.clear()
    return next(root.glob("cifar10-*/"))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def tensors(images: CachedImages) -> list[torch.Tensor]:
    return [getattr(images, name) for name in ARRAYS]


def assert_is_raw(images: CachedImages) -> None:
    raw, order = raw_images(), split_order(20)
    assert np.array_equal(images.train_images.numpy(), raw.train_images[order])
    assert np.array_equal(images.train_labels.numpy(), raw.train_labels[order])
    assert np.array_equal(images.test_images.numpy(), raw.test_images)
    assert np.array_equal(images.test_labels.numpy(), raw.test_labels)


def test_split_order_is_the_protocols() -> None:
    order = split_order()
    expected = list(range(50_000))
    random.Random(42).shuffle(expected)
    assert order == expected
    validation = np.array(order[45_000:], dtype="<i8").tobytes()
    assert hashlib.sha256(validation).hexdigest().startswith("484aae7c022ff616")


@pytest.mark.usefixtures("root", "reads")
def test_training_images_and_labels_are_in_split_order() -> None:
    assert_is_raw(open_images("cifar10", HUB_ID))


@pytest.mark.usefixtures("root", "reads")
def test_tensors_are_uint8_images_and_int64_labels() -> None:
    images = open_images("cifar10", HUB_ID)
    dtypes = [tensor.dtype for tensor in tensors(images)]
    assert dtypes == [torch.uint8, torch.int64, torch.uint8, torch.int64]
    assert [*ARRAYS, "source", "is_original_order", "digest"] == [field.name for field in fields(images)]


@pytest.mark.usefixtures("root")
def test_no_source_is_the_usual_hub_id(reads: list[str]) -> None:
    assert open_images("cifar10", None) is open_images("cifar10", HUB_ID)
    assert reads == ["uoft-cs/cifar10"]


@pytest.mark.usefixtures("root", "reads")
@pytest.mark.parametrize(("source", "is_original"), [(HUB_ID, False), ("torchvision", True)])
def test_only_torchvision_has_the_original_order(source: str, is_original: bool) -> None:
    for _ in range(2):
        images = open_images("cifar10", source)
        assert images.is_original_order is is_original and images.source == source
        open_folder.cache_clear()


def test_manifest_says_what_the_arrays_are(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["kind"] == "cifar10" and manifest["source"] == HUB_ID
    for name in ARRAYS:
        array, facts = np.load(folder / f"{name}.npy"), manifest["arrays"][name]
        assert facts["shape"] == list(array.shape) and facts["dtype"] == str(array.dtype)
        content = (folder / f"{name}.npy").read_bytes()
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.usefixtures("folder")
def test_digest_is_the_same_for_every_process_and_source_of_the_same_images() -> None:
    first = open_images("cifar10", HUB_ID).digest
    open_folder.cache_clear()
    assert first and open_images("cifar10", HUB_ID).digest == first
    assert open_images("cifar10", "torchvision").digest == first


@pytest.mark.usefixtures("folder")
def test_another_process_does_not_decode_again(reads: list[str]) -> None:
    assert_is_raw(open_images("cifar10", HUB_ID))
    assert reads == []


def test_cache_is_verified_once_a_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_images("cifar10", HUB_ID)
    monkeypatch.delattr(array_cache, "_verify")
    assert open_images("cifar10", HUB_ID) is first


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's list of mappings")
def test_tensors_lie_in_the_mapped_files(folder: Path) -> None:
    images = open_images("cifar10", HUB_ID)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    for name, tensor in zip(ARRAYS, tensors(images), strict=True):
        ranges = [line[0].split("-") for line in lines if line[-1] == str(folder / f"{name}.npy")]
        assert any(int(start, 16) <= tensor.data_ptr() < int(stop, 16) for start, stop in ranges)


def test_writing_into_a_tensor_leaves_the_cache_alone(folder: Path) -> None:
    open_images("cifar10", HUB_ID).train_images.zero_()
    open_folder.cache_clear()
    assert_is_raw(open_images("cifar10", HUB_ID))


def flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "train_images.npy").read_bytes())
    content[-1] ^= 1
    (folder / "train_images.npy").write_bytes(content)


def make_older(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 0}))


def forget_an_array(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["arrays"]["test_labels"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "train_images.npy does not have the checksum": flip_a_byte,
    "test_images.npy does not have the checksum": lambda f: os.truncate(f / "test_images.npy", 999),
    "train_labels.npy does not have the checksum": lambda f: os.truncate(f / "train_labels.npy", 0),
    "test_labels.npy does not have the checksum": forget_an_array,
    "train_labels.npy cannot be read: No such file": lambda f: (f / "train_labels.npy").unlink(),
    "manifest.json cannot be read: No such file": lambda f: (f / MANIFEST).unlink(),
    "manifest.json is not one of format 1": make_older,
    "json is not one of format 1": lambda f: (f / MANIFEST).write_bytes(b'{"format": \xff'),
}


@pytest.mark.parametrize("fault", BREAKAGES)
def test_broken_cache_is_built_anew(
    folder: Path, reads: list[str], caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    BREAKAGES[fault](folder)
    assert_is_raw(open_images("cifar10", HUB_ID))
    warned = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 1 and str(folder) in warned[0] and fault in warned[0]
    assert reads == [HUB_ID] and names(folder.parent) == {folder.name, f"{folder.name}.lock"}


@pytest.mark.usefixtures("reads")
def test_building_is_logged_without_a_warning(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=array_cache.__name__):
        open_images("cifar10", HUB_ID)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "cached cifar10 from uoft-cs/cifar10" in record.message and str(root) in record.message


def test_leftovers_of_killed_builders_are_removed(folder: Path) -> None:
    for leftover in (f".{folder.name}.123", f".{folder.name}.123.replaced"):
        (folder.parent / leftover).mkdir()
        (folder.parent / leftover / "train_images.npy").write_bytes(b"torn")
    (folder / MANIFEST).unlink()
    open_images("cifar10", HUB_ID)
    assert names(folder.parent) == {folder.name, f"{folder.name}.lock"}


def test_failed_write_leaves_the_root_as_it_was(
    root: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, array: np.ndarray) -> None:
        path.write_bytes(b"torn")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(DataError, match=r"No space left on device.* MONOCON_CACHE .* 200 MB"):
        open_images("cifar10", HUB_ID)
    assert [path.suffix for path in root.iterdir()] == [".lock"]


@pytest.mark.usefixtures("reads")
def test_unwritable_root_is_refused(root: Path) -> None:
    root.write_text("a file in place of the folder")
    with pytest.raises(DataError, match=f"{root}: .* MONOCON_CACHE"):
        open_images("cifar10", HUB_ID)


def test_sound_cache_is_opened_without_its_lock(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(array_cache, "FileLock")
    assert_is_raw(open_images("cifar10", HUB_ID))


def test_unreadable_source_leaves_no_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(dataset: ImageDataset, source: str) -> RawImages:
        raise DataError("data.source: gone")

    monkeypatch.setattr(image_cache, "read_images", refuse)
    with pytest.raises(DataError, match=r"^data\.source: gone$"):
        open_images("cifar10", HUB_ID)
    assert [path.suffix for path in root.iterdir()] == [".lock"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train.parquet").write_bytes(b"train")
    return tmp_path / "data"


@pytest.mark.usefixtures("root")
def test_directory_is_named_by_its_absolute_path(
    directory: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory.parent)
    assert open_images("cifar10", "data") is open_images("cifar10", str(directory))
    assert reads == [str(directory)] and open_images("cifar10", "./data").source == str(directory)


def longer(file: Path) -> None:
    time_ns = file.stat().st_mtime_ns
    file.write_bytes(b"train and more")
    os.utime(file, ns=(time_ns, time_ns))


def newer(file: Path) -> None:
    os.utime(file, (0, 0))


def another(file: Path) -> None:
    file.with_name("test.parquet").write_bytes(b"test")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("change", [longer, newer, another])
def test_changed_directory_makes_a_new_cache(
    directory: Path, reads: list[str], change: Callable[[Path], None]
) -> None:
    open_images("cifar10", str(directory))
    change(directory / "train.parquet")
    open_images("cifar10", str(directory))
    assert len(reads) == 2


@pytest.mark.usefixtures("reads")
def test_datasets_and_sources_have_their_own_caches(root: Path) -> None:
    open_images("cifar10", HUB_ID)
    open_images("cifar100", HUB_ID)
    open_images("cifar10", "torchvision")
    kinds = sorted(path.name.split("-")[0] for path in root.iterdir() if path.is_dir())
    assert kinds == ["cifar10", "cifar10", "cifar100"]


def open_at_once(barrier: Barrier, root: Path) -> None:
    """What each process of the race does; leaves a file for each decoding."""

    def read(dataset: ImageDataset, source: str) -> RawImages:
        (root.parent / f"decoded_by_{os.getpid()}").touch()
        return raw_images()

    os.environ["MONOCON_CACHE"] = str(root)
    image_cache.read_images = read
    barrier.wait()
    assert_is_raw(open_images("cifar10", HUB_ID))


def test_two_processes_at_once_build_once(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=open_at_once, args=(barrier, root)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len([*root.parent.glob("decoded_by_*")]) == 1


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CachedImages]:
    """The real dataset, decoded once for this file's tests."""
    if not CIFAR100.is_dir():
        pytest.skip(f"needs the Parquet files of CIFAR-100 in {CIFAR100}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONOCON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_images("cifar100", str(CIFAR100))
    open_folder.cache_clear()


@pytest.mark.parametrize(("split", "order"), [("train", split_order()), ("test", [*range(10_000)])])
def test_real_rows_are_those_of_the_files(cifar100: CachedImages, split: str, order: list[int]) -> None:
    images, labels = getattr(cifar100, f"{split}_images"), getattr(cifar100, f"{split}_labels")
    table = parquet.read_table(sorted(CIFAR100.glob(f"{split}-*.parquet")))
    for place in [0, 1, 4_999, 9_999, len(order) - 5_000, len(order) - 1]:
        row = table.slice(order[place], 1).to_pylist()[0]
        pixels = np.asarray(Image.open(io.BytesIO(row["img"]["bytes"])))
        assert np.array_equal(images[place].permute(1, 2, 0).numpy(), pixels)
        assert int(labels[place]) == row["fine_label"]


def test_real_dataset_is_whole_and_balanced(cifar100: CachedImages) -> None:
    assert cifar100.train_images.shape == (50_000, 3, 32, 32)
    assert cifar100.test_images.shape == (10_000, 3, 32, 32)
    assert cifar100.train_labels.bincount().tolist() == [500] * 100
    assert cifar100.test_labels.bincount().tolist() == [100] * 100
    assert not cifar100.is_original_order
