import contextlib
import hashlib
import io
import logging
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from datasets import config
from PIL import Image
from pyarrow import parquet
from torchvision.datasets import CIFAR10

from trainables import image_sources, image_tables
from trainables.array_cache import cache_root
from trainables.errors import DataError
from trainables.image_sources import find_directory, read_images
from trainables.image_tables import default_source

REPO = Path(__file__).parents[2]
NUM_ROWS = {"train": 20, "test": 10}
NO_HUB = "http://127.0.0.1:9"
RNG = np.random.default_rng(0)
PIXELS = {split: RNG.integers(0, 256, (n, 32, 32, 3), np.uint8) for split, n in NUM_ROWS.items()}
Columns = dict[str, Any]


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A node on which the datasets are tiny, nothing has been downloaded and no hub is reachable."""
    monkeypatch.setattr(image_tables, "NUM_ROWS", NUM_ROWS)
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "downloads")
    monkeypatch.setattr(config, "HF_ENDPOINT", NO_HUB)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def encoded(pixels: np.ndarray, format: str = "PNG") -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, lossless=True)
    return {"bytes": buffer.getvalue(), "path": None}


def columns(split: str, format: str = "PNG") -> Columns:
    images = [encoded(pixels, format) for pixels in PIXELS[split]]
    return {"img": images, "label": [row % 10 for row in range(len(images))]}


def write(path: Path, columns: Columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for split in NUM_ROWS:
        write(tmp_path / "tiny" / f"{split}.parquet", columns(split))
    return tmp_path / "tiny"


def refusal(directory: Path | str) -> str:
    with pytest.raises(DataError) as caught:
        read_images("cifar10", str(directory))
    return str(caught.value)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_images_are_decoded_in_the_order_of_the_rows(tmp_path: Path, format: str) -> None:
    for split in NUM_ROWS:
        write(tmp_path / f"{split}.parquet", columns(split, format))
    raw = read_images("cifar10", str(tmp_path))
    assert np.array_equal(raw.train_images, PIXELS["train"].transpose(0, 3, 1, 2))
    assert np.array_equal(raw.test_images, PIXELS["test"].transpose(0, 3, 1, 2))
    assert raw.train_labels.tolist() == [*range(10), *range(10)] and raw.train_labels.dtype == np.int64
    assert raw.test_labels.tolist() == [*range(10)] and raw.train_images.dtype == np.uint8


@pytest.mark.parametrize("folder", [".", "data", "cifar10"])
@pytest.mark.parametrize("suffix", ["", "-00000-of-00001"])
def test_layouts_of_hub_repositories_are_read(tmp_path: Path, folder: str, suffix: str) -> None:
    for split in NUM_ROWS:
        write(tmp_path / folder / f"{split}{suffix}.parquet", columns(split))
    (tmp_path / "README.md").write_text("# CIFAR-10\n")
    assert read_images("cifar10", str(tmp_path)).test_labels.tolist() == [*range(10)]


def test_files_of_a_split_are_joined_in_the_order_of_their_names(directory: Path) -> None:
    for number, rows in enumerate([slice(0, 5), slice(5, 20)]):
        part = {name: column[rows] for name, column in columns("train").items()}
        write(directory / f"train-0000{number}-of-00002.parquet", part)
    (directory / "train.parquet").unlink()
    raw = read_images("cifar10", str(directory))
    assert np.array_equal(raw.train_images, PIXELS["train"].transpose(0, 3, 1, 2))


def test_cifar100_is_read_from_its_fine_labels(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_tables, "NUM_ROWS", {"train": 100, "test": 100})
    images = [encoded(pixels) for pixels in PIXELS["test"]] * 10
    for split in NUM_ROWS:
        label_columns = {"fine_label": [*range(100)], "coarse_label": [0] * 100}
        write(directory / f"{split}.parquet", {"img": images, **label_columns})
    assert read_images("cifar100", str(directory)).test_labels.tolist() == [*range(100)]


def test_further_splits_are_not_read(directory: Path) -> None:
    write(directory / "validation.parquet", {**columns("test"), "label": [77] * 10})
    assert len(read_images("cifar10", str(directory)).train_labels) == 20


def test_home_is_expanded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(directory.parent))
    assert find_directory("~/tiny") == directory


def test_existing_relative_path_is_a_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory.parent)
    assert find_directory("tiny") == directory
    assert find_directory("uoft-cs/cifar10") is find_directory("torchvision") is None


@pytest.mark.parametrize(
    "source", ["./absent", "/absent/data", "~/absent", "~no-such-user/data", "../x"]
)
def test_absent_directory_is_refused(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")  # beside which nothing is
    message = refusal(source)
    assert Path(source).name in message and "does not exist" in message


def test_file_in_place_of_the_directory_is_refused(directory: Path) -> None:
    assert "train.parquet is not a directory" in refusal(directory / "train.parquet")


def test_directory_without_parquet_files_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} has no Parquet files" in refusal(tmp_path)


def test_wildcards_in_the_directory_are_refused(directory: Path) -> None:
    message = refusal(directory.rename(directory.with_name("tiny[1]")))
    assert "tiny[1]" in message and "rename" in message


def test_missing_split_is_refused(directory: Path) -> None:
    (directory / "test.parquet").unlink()
    assert "has no split test, only train;" in refusal(directory)


def without(column: str) -> Callable[[Columns], Columns]:
    return lambda columns: {name: values for name, values in columns.items() if name != column}


def with_row(column: str, row: int, value: Any) -> Callable[[Columns], Columns]:
    def change(columns: Columns) -> Columns:
        values = list(columns[column])
        values[row] = value
        return {**columns, column: values}

    return change


def rows(start: int, stop: int) -> Callable[[Columns], Columns]:
    return lambda columns: {name: (values * 2)[start:stop] for name, values in columns.items()}


GREY = encoded(PIXELS["train"][0, :, :, 0])
LARGE = encoded(np.zeros((33, 32, 3), np.uint8))
TORN = {"bytes": encoded(PIXELS["train"][0])["bytes"][:1000], "path": None}
JPEG = encoded(PIXELS["train"][0], "JPEG")
REFUSED_ROWS = {
    "no column img, only label": without("img"),
    "no column label, only img": without("label"),
    "has 19 rows, cifar10 has 20": rows(0, 19),
    "has more than 20 rows, cifar10 has 20": rows(0, 30),
    "the image in row 3 of split train": with_row("img", 3, TORN),
    "row 4 of split train of .* not an undamaged PNG or WebP": with_row("img", 4, JPEG),
    "row 5 of split train of .* has no image bytes": with_row(
        "img", 5, {"bytes": None, "path": "x.png"}
    ),
    "row 6 of split train of .* is 32x32 L, not 32x32 RGB": with_row("img", 6, GREY),
    "row 19 of split train of .* is 32x33 RGB": with_row("img", 19, LARGE),
    "img holds int64": lambda columns: {**columns, "img": columns["label"]},
    "label holds string": lambda columns: {**columns, "label": ["cat"] * 20},
    "row 7 of split train of .* has label 10, cifar10 has labels 0 to 9": with_row("label", 7, 10),
    "row 8 of split train of .* has label -1": with_row("label", 8, -1),
    "1 rows have no label": with_row("label", 0, None),
    "has no image of 9 of the 10 classes .* the first is 1": lambda c: {**c, "label": [0] * 20},
}


@pytest.mark.parametrize("law", REFUSED_ROWS)
def test_wrong_rows_are_refused(directory: Path, law: str) -> None:
    write(directory / "train.parquet", REFUSED_ROWS[law](columns("train")))
    with pytest.raises(DataError, match=rf"^data\.source: .*{law}") as caught:
        read_images("cifar10", str(directory))
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize("num_bytes", [0, 300, 5000])
def test_truncated_file_is_named(directory: Path, num_bytes: int) -> None:
    os.truncate(directory / "test.parquet", num_bytes)
    assert f"{directory / 'test.parquet'} cannot be read: " in refusal(directory)


def test_damaged_file_is_named(directory: Path) -> None:
    content = bytearray((directory / "test.parquet").read_bytes())
    content[10:200] = b"\xff" * 190
    (directory / "test.parquet").write_bytes(content)
    assert f"{directory / 'test.parquet'} cannot be read: " in refusal(directory)


def test_files_of_several_datasets_are_refused(directory: Path) -> None:
    write(directory / "other" / "train.parquet", {"premise": ["a"]})
    assert "cannot be read as one dataset" in refusal(directory)


SCRIPT = """
import sys
from trainables import image_sources, image_tables
from trainables.errors import DataError
image_tables.NUM_ROWS = {"train": 20, "test": 10}
for source in sys.argv[1:]:
    try:
        image_sources.read_images("cifar10", source)
    except DataError:
        pass
"""


def test_reading_prints_nothing(directory: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(directory, torn)
    os.truncate(torn / "test.parquet", 300)
    command = [sys.executable, "-c", SCRIPT, str(directory), str(torn), "some/tiny"]
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path),
        "HF_ENDPOINT": NO_HUB,
        "PYTHONPATH": str(REPO),
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_verbosity_is_left_as_it_was(directory: Path, request: pytest.FixtureRequest) -> None:
    request.addfinalizer(partial(datasets.logging.set_verbosity, datasets.logging.get_verbosity()))
    datasets.logging.set_verbosity_info()
    read_images("cifar10", str(directory))
    assert datasets.logging.get_verbosity() == logging.INFO
    assert not datasets.are_progress_bars_disabled()


def test_reading_a_directory_leaves_no_copy(directory: Path) -> None:
    read_images("cifar10", str(directory))
    assert [*directory.parent.iterdir()] == [directory]


# The library by itself would retry for 24 s.
@pytest.mark.timeout(15)
@pytest.mark.parametrize("is_declared", [False, True])
def test_without_the_hub_the_message_says_what_helps(
    monkeypatch: pytest.MonkeyPatch, is_declared: bool
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", is_declared)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", is_declared)
    message = refusal("some/tiny")
    assert "some/tiny cannot be had from the hub: " in message
    assert "network access to the hub, or set data.source to a directory" in message
    assert config.HF_HUB_OFFLINE is is_declared


@pytest.mark.timeout(15)
def test_without_the_hub_an_earlier_download_is_read(directory: Path, tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    datasets.load_dataset(str(directory))
    datasets.enable_progress_bars()
    (tmp_path / "downloads/tiny").rename(tmp_path / "downloads/some___tiny")
    assert read_images("cifar10", "some/tiny").test_labels.tolist() == [*range(10)]


def test_source_that_can_be_nothing_is_refused() -> None:
    assert "neither a directory nor a hub id" in refusal("my data/cifar")


class NoRepository(BaseHTTPRequestHandler):
    """The hub's answer for every id."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Files(SimpleHTTPRequestHandler):
    """Serves a directory."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serving(NoRepository) as address:
        monkeypatch.setattr(config, "HF_ENDPOINT", address)
        yield


@pytest.mark.usefixtures("empty_hub")
def test_unknown_hub_id_is_refused() -> None:
    message = refusal("some/typo")
    assert "the hub has no dataset some/typo" in message
    assert "a relative path begins with ./" in message and "uoft-cs/cifar10" in message


def test_hub_id_is_read_by_the_same_call(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = datasets.load_dataset(str(directory), streaming=True)

    def load_dataset(source: str) -> Any:
        assert source == "some/tiny" and datasets.are_progress_bars_disabled()
        return splits

    monkeypatch.setattr(image_sources, "hub_fault", lambda name, kind: {"some/tiny": None}[name])
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read_images("cifar10", "some/tiny").test_labels.tolist() == [*range(10)]


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An archive in the format of the authors', as if downloaded by hand; nothing else can be."""
    folder = cache_root() / "torchvision"
    folder.mkdir(parents=True)
    files: Columns = {"meta": {"label_names": ["a"]}}
    for split, pixels in PIXELS.items():
        data = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
        files[split] = {"data": data, "labels": columns(split)["label"]}
    contents = {name: pickle.dumps(value) for name, value in files.items()}
    with tarfile.open(folder / CIFAR10.filename, "w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(CIFAR10, "url", f"{NO_HUB}/archive")
    monkeypatch.setattr(
        CIFAR10, "tgz_md5", hashlib.md5((folder / CIFAR10.filename).read_bytes()).hexdigest()
    )
    monkeypatch.setattr(CIFAR10, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "meta", "key": "label_names", "md5": md5["meta"]})
    return folder / CIFAR10.filename


@pytest.mark.usefixtures("archive")
def test_torchvision_reads_the_archive_in_its_order() -> None:
    raw = read_images("cifar10", "torchvision")
    assert np.array_equal(raw.train_images, PIXELS["train"].transpose(0, 3, 1, 2))
    assert raw.test_labels.tolist() == [*range(10)] and raw.test_labels.dtype == np.int64
    assert raw.train_images.flags.c_contiguous


def test_archive_is_downloaded_without_a_progress_bar(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    archive.rename(tmp_path / "archive")
    with serving(partial(Files, directory=str(tmp_path))) as address:
        monkeypatch.setattr(CIFAR10, "url", f"{address}/archive")
        assert read_images("cifar10", "torchvision").test_labels.tolist() == [*range(10)]
    assert capfd.readouterr() == ("", "")


def test_failed_download_says_what_helps(archive: Path) -> None:
    os.truncate(archive, 100)
    message = refusal("torchvision")
    assert f"{NO_HUB}/archive" in message and str(archive.parent) in message
    assert "MONOCON_CACHE" in message and "uoft-cs/cifar10" in message


def test_data_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(DataError("data.source: gone")))
    assert isinstance(error, DataError) and str(error) == "data.source: gone"


def test_default_sources_are_the_usual_hub_ids() -> None:
    assert default_source("cifar10") == "uoft-cs/cifar10"
    assert default_source("cifar100") == "uoft-cs/cifar100"


def test_cache_root_is_the_nodes_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/node/xdg")
    monkeypatch.setenv("HOME", "/node/home")
    monkeypatch.setenv("MONOCON_CACHE", "/node/named")
    assert cache_root() == Path("/node/named")
    monkeypatch.delenv("MONOCON_CACHE")
    assert cache_root() == Path("/node/xdg/monocon")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == Path("/node/home/.cache/monocon")
