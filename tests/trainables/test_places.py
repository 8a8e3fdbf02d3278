from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from stores import URL, MemoryStore

from trainables.disk import DiskFullError
from trainables.places import (
    COMPLETING,
    Place,
    StoreError,
    create_object,
    exists,
    is_url,
    list_files,
    local_copy,
    read_object,
    remove,
    remove_object,
    rename,
    require_shared,
    write_object,
)
from trainables.whole_folder import whole_folder

FILES = {"snapshot.json": b"{}", "weights.safetensors": b"weights", "encoder/config.json": b"{}"}


@pytest.fixture(params=["path", "url"])
def place(request: pytest.FixtureRequest, tmp_path: Path, memory: MemoryStore) -> Place:
    """Of a folder that is not there yet."""
    return tmp_path / "trial" / "epoch-0001" if request.param == "path" else f"{URL}/trial/epoch-0001"


def write(place: Place, files: dict[str, bytes] = FILES) -> None:
    with whole_folder(place) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)


def read(place: Place) -> dict[str, bytes]:
    with local_copy(place, must_be_whole=True) as folder:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("text", ["s3://bucket/prefix", "memory://sweeps"])
def test_urls_are_told_from_paths(text: str, tmp_path: Path) -> None:
    assert is_url(text)
    assert not is_url(Path(text)) and not is_url(str(tmp_path)) and not is_url("runs:8/x")


def test_a_folder_is_read_as_it_was_written(place: Place) -> None:
    write(place)
    assert read(place) == FILES


def test_a_folder_takes_the_place_of_the_one_that_is_there(place: Place) -> None:
    write(place)
    write(place, {"snapshot.json": b"new"})
    assert read(place) == {"snapshot.json": b"new"}


def test_a_writer_that_fails_leaves_what_was_there(place: Place) -> None:
    write(place)

    def fail() -> None:
        with whole_folder(place) as folder:
            (folder / "snapshot.json").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert read(place) == FILES


def test_a_removed_folder_is_not_there(place: Place) -> None:
    write(place)
    remove(place)
    remove(place)
    assert not exists(f"{place}/snapshot.json")


def test_a_full_disk_is_told_also_of_what_is_written_for_a_store(place: Place) -> None:
    with pytest.raises(DiskFullError, match="its disk is full"), whole_folder(place):
        raise OSError(28, "No space left on device")


def test_a_file_gets_another_name_in_place_of_another(place: Place) -> None:
    write(place)
    rename(f"{place}/weights.safetensors", "snapshot.json")
    assert read(place) == {"snapshot.json": b"weights", "encoder/config.json": b"{}"}
    with pytest.raises(FileNotFoundError):
        rename(f"{place}/weights.safetensors", "snapshot.json")


def test_a_writer_killed_at_any_call_leaves_the_old_the_new_or_nothing_whole(
    memory: MemoryStore,
) -> None:
    place, new = f"{URL}/epoch-0001", {name: content + b"new" for name, content in FILES.items()}
    num_calls, is_killed = -1, True
    while is_killed and num_calls < 100:
        write(place)
        num_calls += 1
        memory.num_left = num_calls
        is_killed = False
        try:
            write(place, new)
        except StoreError:
            is_killed = True
        memory.num_left = None
        try:
            found = read(place)
        except FileNotFoundError:
            assert is_killed
        else:
            assert found == (FILES if is_killed else new)
    assert 6 <= num_calls < 100, "a listing, two removals and three uploads are meant"


def test_a_removal_killed_half_way_leaves_nothing_whole(memory: MemoryStore) -> None:
    place, left = f"{URL}/epoch-0001", set[int]()
    for num_calls in range(100):
        write(place)
        memory.num_left = num_calls
        with contextlib.suppress(StoreError):
            remove(place)
        memory.num_left = None
        left.add(len(memory.names))
        if len(memory.names) < len(FILES):
            assert not memory.names & {f"epoch-0001/{name}" for name in COMPLETING}
        if not memory.names:
            break
    assert left == {0, 2, 3} or left == {0, 1, 2, 3}


def test_objects_are_put_read_listed_and_removed(memory: MemoryStore) -> None:
    for name in ("b/2", "b/1", "a"):
        write_object(f"{URL}/{name}", name.encode())
    assert list_files(URL) == ["a", "b/1", "b/2"]
    assert list_files(f"{URL}/b") == ["1", "2"]
    assert list_files(f"{URL}/none") == []
    remove_object(f"{URL}/a")
    assert list_files(URL) == ["b/1", "b/2"]
    assert read_object(f"{URL}/b/2") == b"b/2"
    with local_copy(f"{URL}/b/1") as path:
        assert (path.name, path.read_bytes()) == ("1", b"b/1")


def test_nothing_is_read_from_where_nothing_is(memory: MemoryStore) -> None:
    with pytest.raises(FileNotFoundError):
        read_object(f"{URL}/none")
    with pytest.raises(FileNotFoundError), local_copy(f"{URL}/none"):
        pass


def test_an_object_is_created_once(memory: MemoryStore) -> None:
    create_object(f"{URL}/lease", b"first")
    with pytest.raises(FileExistsError):
        create_object(f"{URL}/lease", b"second")
    assert read_object(f"{URL}/lease") == b"first"


def test_a_store_without_conditions_is_asked_first(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipe_file(
        filesystem: MemoryFileSystem, path: str, value: bytes, mode: str = "overwrite"
    ) -> None:
        if mode == "create":
            raise NotImplementedError
        filesystem.store[path] = filesystem.open(path, "wb")
        with filesystem.open(path, "wb") as file:
            file.write(value)  # pyright: ignore[reportArgumentType]  # it is binary

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    create_object(f"{URL}/lease", b"first")
    with pytest.raises(FileExistsError):
        create_object(f"{URL}/lease", b"second")


def test_a_store_that_is_away_is_an_os_error_that_names_the_place(memory: MemoryStore) -> None:
    place = f"{URL}/trial/state.pt"
    memory.is_away = True
    for act in (
        lambda: read_object(place),
        lambda: write_object(place, b""),
        lambda: list_files(place),
        lambda: exists(place),
        lambda: remove(place),
        lambda: rename(place, "other"),
    ):
        with pytest.raises(OSError, match=rf"^{place} cannot be \w+: no answer$"):
            act()


def test_what_is_forbidden_stays_a_permission_error(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(*_: object, **__: object) -> None:
        raise PermissionError("Forbidden")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", forbid)
    with pytest.raises(PermissionError, match=rf"^{URL}/x cannot be written: Forbidden$"):
        write_object(f"{URL}/x", b"")


def test_a_folder_without_its_witness_is_not_the_sweeps(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=rf"^storage: {tmp_path} on .+ is not the sweep's folder; every"
    ):
        require_shared(tmp_path / "ledger.jsonl")
    (tmp_path / "ledger.jsonl").touch()
    require_shared(tmp_path / "ledger.jsonl")
