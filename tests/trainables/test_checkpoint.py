import contextlib
import errno
import os
import pickle
import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import CONTEXT
from gloo_group import run_in_group
from resumable_trials import (
    LONG,
    NUM_EPOCHS,
    RESUMABLE,
    Killed,
    deadly_clock,
    go_on_in_group,
    train_in_group,
    train_in_group_until_killed_in_warm_up,
    train_on,
)
from short_trials import FROZEN, assert_same, colour_trial, fit_reports, fit_with, short_trial
from stores import URL, MemoryStore
from torch import Tensor
from torch.multiprocessing.spawn import ProcessRaisedException

from trainables.checkpoint import CheckpointError, CheckpointFile, Keeper
from trainables.config import HeadConfig, TrialConfig, WarmupConfig
from trainables.distributed import SINGLE, WorkerGroup
from trainables.places import StoreError, read_object, write_object
from trainables.reports import EpochReport
from trainables.training import fit
from trainables.validation import Validation


@pytest.fixture
def file(tmp_path: Path) -> CheckpointFile:
    return CheckpointFile(tmp_path / "trial" / "state.pt", every_s=0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[EpochReport], dict[str, Any]]:
    """Reports and last checkpoint of RESUMABLE, never killed."""
    torch.set_num_threads(1)
    return fit_with(CheckpointFile(tmp_path_factory.mktemp("whole") / "state.pt", 0.0), RESUMABLE)


def kill(file: CheckpointFile, config: TrialConfig, num_readings: int) -> None:
    with pytest.raises(Killed):
        fit_with(replace(file, clock=deadly_clock(num_readings)), config)


def live_as_often_as_it_takes(file: CheckpointFile, config: TrialConfig) -> Any:
    """Kills the training after each epoch; what its last life tells, and the number of lives."""
    for num_lives in range(1, 100):
        with contextlib.suppress(Killed):
            return fit_with(replace(file, clock=deadly_clock(2)), config), num_lives
    raise AssertionError("it never ends")


def test_checkpoints_change_nothing(whole: tuple[list[EpochReport], dict[str, Any]]) -> None:
    assert_same(whole[0], fit_reports(RESUMABLE))


@pytest.mark.parametrize("num_readings", range(1, 2 * NUM_EPOCHS + 1))
def test_training_killed_at_any_epoch_equals_the_uninterrupted_one(
    file: CheckpointFile, whole: tuple[list[EpochReport], dict[str, Any]], num_readings: int
) -> None:
    kill(file, RESUMABLE, num_readings)
    assert_same(fit_with(file, RESUMABLE), whole)


def test_training_killed_after_each_epoch_equals_the_uninterrupted_one(
    file: CheckpointFile, whole: tuple[list[EpochReport], dict[str, Any]]
) -> None:
    resumed, num_lives = live_as_often_as_it_takes(file, RESUMABLE)
    assert_same(resumed, whole)
    assert num_lives == NUM_EPOCHS + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"head": HeadConfig(kind="none")},
        {"head": HeadConfig(kind="mlp", depth=2)},
        {"precision": "bf16"},
        {"deterministic": True},
        {"channels_last": False, "num_views": 2},
        {"warmup": WarmupConfig(epochs=0)},
        {"optimizer": {"head_lr": 2e-3, "encoder_lr_ratio": 0.1}},
    ],
    ids=str,
)
def test_every_kind_of_training_is_resumed_exactly(
    file: CheckpointFile, changes: dict[str, Any]
) -> None:
    config = TrialConfig.model_validate(RESUMABLE.model_dump() | {"epochs": 3} | changes)
    expected = fit_with(replace(file, path=Path(file.path).with_name("whole.pt")), config)
    resumed, num_lives = live_as_often_as_it_takes(file, config)
    assert_same(resumed, expected)
    assert num_lives > 3


@pytest.mark.usefixtures("tiles")
def test_augmentation_is_resumed_exactly(file: CheckpointFile) -> None:
    config = colour_trial(epochs=2, warmup=WarmupConfig(epochs=2), head=HeadConfig(kind="mlp"))
    assert config.augmentation == "trivial_augment_wide"
    expected = fit_with(replace(file, path=Path(file.path).with_name("whole.pt")), config)
    assert_same(live_as_often_as_it_takes(file, config)[0], expected)
    other = fit_reports(config.model_copy(update={"augmentation": "none"}))
    assert other[-1].metrics["train_loss"] != expected[0][-1].metrics["train_loss"]


def test_patience_goes_on_counting(file: CheckpointFile) -> None:
    # Weights rest, and after some epochs so do the BatchNorm statistics and the accuracy.
    config = short_trial(head=HeadConfig(kind="none"), optimizer=FROZEN, epochs=60, patience_epochs=3)
    expected = fit_reports(config)
    (reports, _), num_lives = live_as_often_as_it_takes(file, config)
    assert_same(reports, expected)
    assert num_lives == len(reports) < 60


def test_training_whose_listener_raises_tells_that_epoch_again(file: CheckpointFile) -> None:
    def listener(validation: Validation) -> None:
        if validation.report.epoch == 4:
            raise Killed

    with pytest.raises(Killed):
        fit(RESUMABLE, listener, checkpoint=file)
    again: list[int] = []
    fit(RESUMABLE, lambda validation: again.append(validation.report.epoch), checkpoint=file)
    assert again == [4]


def test_reports_of_the_checkpoint_are_sent_again_before_training_goes_on(
    file: CheckpointFile, whole: tuple[list[EpochReport], dict[str, Any]]
) -> None:
    kill(file, RESUMABLE, 2 * 5)  # its fifth epoch, the third of the main phase, is written
    sent: list[tuple[str, EpochReport]] = []
    fit(
        RESUMABLE,
        lambda validation: sent.append(("new", validation.report)),
        checkpoint=replace(file, resend=lambda report: sent.append(("again", report))),
    )
    assert [(kind, report.epoch) for kind, report in sent] == [("again", 2), ("new", 4)]
    assert_same([report for _, report in sent], whole[0])


def test_finished_training_is_told_again_and_not_trained(
    file: CheckpointFile, whole: tuple[list[EpochReport], dict[str, Any]]
) -> None:
    fit_with(file, RESUMABLE)
    before = Path(file.path).read_bytes()
    assert_same(fit_with(file, RESUMABLE), whole)
    assert Path(file.path).read_bytes() == before


def test_checkpoint_is_written_once_its_time_has_come(file: CheckpointFile) -> None:
    # 4 s an epoch: 12 s after the start is the first multiple from 10 s on, 24 s the next.
    now = 0.0
    found: dict[int, int] = {}

    def listener(validation: Validation) -> None:
        nonlocal now
        now += 4.0
        if Path(file.path).exists():
            found[validation.report.epoch] = file.read()["progress"]["epoch"]

    fit(short_trial(epochs=7), listener, checkpoint=replace(file, every_s=10.0, clock=lambda: now))
    assert found == {4: 3, 5: 3, 6: 3, 7: 6}


def test_nothing_but_the_file_is_left(file: CheckpointFile) -> None:
    Path(file.path).parent.mkdir()
    (Path(file.path).parent / f".{Path(file.path).name}.0badc0de").write_bytes(b"half")
    fit_with(file, RESUMABLE)
    assert list(Path(file.path).parent.iterdir()) == [Path(file.path)]


@pytest.mark.slow
def test_process_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path: Path) -> None:
    moments = random.Random(0)
    path = tmp_path / "killed.pt"
    num_killed, written = 0, 0
    for _ in range(4):
        life = CONTEXT.Process(target=train_on, args=(path, LONG))
        life.start()
        deadline = time.monotonic() + 60
        while life.is_alive() and (path.stat().st_mtime_ns if path.exists() else 0) == written:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.3))
        life.kill()
        life.join()
        num_killed += life.exitcode != 0
        written = path.stat().st_mtime_ns
    assert num_killed >= 3
    got = fit_with(CheckpointFile(path, 0.0), LONG)
    assert_same(got, fit_with(CheckpointFile(tmp_path / "whole.pt", 0.0), LONG))


def fit_anew(file: CheckpointFile, config: TrialConfig = RESUMABLE) -> tuple[Any, str]:
    """What a training tells that cannot go on from its checkpoint, and the one warning that it gives."""
    warnings: list[str] = []
    told = fit_with(replace(file, warn=warnings.append), config)
    (warning,) = warnings
    assert "; it is set aside as state.pt.unusable, and the training starts from its beg" in warning
    return told, warning


@pytest.mark.parametrize("length", [0, 1, 1000, -1000, -1])
def test_training_whose_checkpoint_is_cut_short_starts_again(
    file: CheckpointFile, whole: tuple[list[EpochReport], dict[str, Any]], length: int
) -> None:
    kill(file, RESUMABLE, 2 * 5)
    damaged = Path(file.path).read_bytes()[:length]
    Path(file.path).write_bytes(damaged)
    told, warning = fit_anew(file)
    assert_same(told, whole)
    assert f"{file.path} is not a whole checkpoint (" in warning
    assert Path(file.path).with_name("state.pt.unusable").read_bytes() == damaged


def test_unusable_checkpoint_is_a_warning_in_the_log(
    file: CheckpointFile, caplog: pytest.LogCaptureFixture
) -> None:
    Path(file.path).parent.mkdir()
    Path(file.path).write_bytes(b"")
    fit_with(file, RESUMABLE)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "state.pt is not a whole checkpoint" in caplog.text


def test_checkpoint_that_is_damaged_again_replaces_the_one_set_aside(file: CheckpointFile) -> None:
    for content in (b"first", b"second"):
        Path(file.path).parent.mkdir(exist_ok=True)
        Path(file.path).write_bytes(content)
        fit_anew(file)
    names = {path.name: path for path in Path(file.path).parent.iterdir()}
    assert names.keys() == {"state.pt", "state.pt.unusable"}
    assert names["state.pt.unusable"].read_bytes() == b"second"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_training_whose_checkpoint_cannot_be_read_starts_again(file: CheckpointFile) -> None:
    kill(file, RESUMABLE, 2)
    Path(file.path).chmod(0)
    assert "cannot be read (Permission denied)" in fit_anew(file)[1]


def test_altered_byte_is_noticed_or_without_effect(file: CheckpointFile) -> None:
    kill(file, RESUMABLE, 2)
    content, data = file.read(), Path(file.path).read_bytes()
    moments = random.Random(0)
    num_refused = 0
    for place in moments.sample(range(len(data)), 100):
        Path(file.path).write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            assert_same(file.read(), content)
        except CheckpointError:
            num_refused += 1
    assert num_refused > 90


def test_training_whose_file_holds_something_else_starts_again(file: CheckpointFile) -> None:
    file.write({"weights": torch.zeros(3)})
    assert "it holds something else" in fit_anew(file)[1]


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("as_torch_file", [True, False])
def test_nothing_is_unpickled(file: CheckpointFile, tmp_path: Path, as_torch_file: bool) -> None:
    trace = tmp_path / "executed"
    Path(file.path).parent.mkdir()
    if as_torch_file:
        torch.save({"config": _Touch(trace), "progress": {}, "states": {}}, file.path)
    else:
        Path(file.path).write_bytes(pickle.dumps(_Touch(trace)))
    fit_anew(file)
    assert not trace.exists()


def test_checkpoint_of_other_settings_is_not_gone_on_from(file: CheckpointFile) -> None:
    kill(file, RESUMABLE, 2 * 5)
    before = Path(file.path).read_bytes()
    other = RESUMABLE.model_copy(update={"temperature": 0.2, "seed": 7})
    (reports, _), warning = fit_anew(file, other)
    assert_same(reports, fit_reports(other))
    assert f"{file.path} is of another training, whose temperature, seed differ" in warning
    assert Path(file.path).with_name("state.pt.unusable").read_bytes() == before


def _without_a_tensor(content: dict[str, Any]) -> None:
    content["states"]["model"].popitem()


def _without_a_state(content: dict[str, Any]) -> None:
    del content["states"]["schedule"]


def _with_other_reports(content: dict[str, Any]) -> None:
    content["progress"]["reports"] = [{"step": 1}]


@pytest.mark.parametrize("alter", [_without_a_tensor, _without_a_state, _with_other_reports])
def test_checkpoint_of_another_version_is_not_gone_on_from(
    file: CheckpointFile,
    whole: tuple[list[EpochReport], dict[str, Any]],
    alter: Callable[[dict[str, Any]], None],
) -> None:
    kill(file, RESUMABLE, 2 * 5)
    content = file.read()
    alter(content)
    file.write(content)
    told, warning = fit_anew(file)
    assert_same(told, whole)  # of the file's reports none is told
    assert "does not fit its own settings" in warning


def test_file_that_cannot_be_read_is_not_called_damaged(file: CheckpointFile) -> None:
    Path(file.path).mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"state\.pt cannot be read \(Is a directory\)"):
        file.read()


@contextlib.contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Makes the system refuse what is longer, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_is_raised_and_leaves_the_old_checkpoint(
    file: CheckpointFile, whole: tuple[list[EpochReport], dict[str, Any]]
) -> None:
    kill(file, RESUMABLE, 2)
    before = Path(file.path).read_bytes()
    with files_of_at_most(len(before) // 2), pytest.raises(OSError, match="too large"):
        fit_with(file, RESUMABLE)
    assert Path(file.path).read_bytes() == before
    assert list(Path(file.path).parent.iterdir()) == [Path(file.path)]
    assert_same(fit_with(file, RESUMABLE), whole)


def test_folder_that_cannot_be_written_is_raised(tmp_path: Path) -> None:
    (tmp_path / "trial").write_text("a file, not a folder")
    with pytest.raises(OSError):  # noqa: PT011 - the message is the system's
        fit_with(CheckpointFile(tmp_path / "trial" / "state.pt", 0.0), RESUMABLE)


def test_a_checkpoint_in_a_store_is_gone_on_from_exactly(
    memory: MemoryStore, whole: tuple[list[EpochReport], dict[str, Any]]
) -> None:
    stored = CheckpointFile(f"{URL}/trial/state.pt", every_s=0.0)
    (reports, content), num_lives = live_as_often_as_it_takes(stored, RESUMABLE)
    assert num_lives > 2
    assert_same((reports, content), whole)
    assert memory.names == {"trial/state.pt"}


def test_a_damaged_checkpoint_in_a_store_is_set_aside(memory: MemoryStore) -> None:
    write_object(f"{URL}/trial/state.pt", b"damaged")
    fit_anew(CheckpointFile(f"{URL}/trial/state.pt", every_s=0.0))
    assert memory.names == {"trial/state.pt", "trial/state.pt.unusable"}
    assert read_object(f"{URL}/trial/state.pt.unusable") == b"damaged"


def test_a_checkpoint_in_a_store_that_is_away_is_not_called_damaged(memory: MemoryStore) -> None:
    stored = CheckpointFile(f"{URL}/trial/state.pt", every_s=0.0)
    kill(stored, RESUMABLE, 4)
    memory.is_away = True
    with pytest.raises(OSError, match=f"{URL}/trial/state.pt cannot be read: no answer"):
        fit_with(stored, RESUMABLE)
    memory.is_away = False
    assert memory.names == {"trial/state.pt"}


def test_first_worker_decides_for_all_whether_there_is_a_checkpoint(
    file: CheckpointFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(file, RESUMABLE, 4)
    monkeypatch.setattr(WorkerGroup, "collect", lambda group, value: [value, value])
    monkeypatch.setattr(WorkerGroup, "broadcast", lambda group, value: False)
    assert Keeper(RESUMABLE, file, WorkerGroup(1, 2)).progress.epoch == 0
    monkeypatch.setattr(WorkerGroup, "broadcast", lambda group, value: True)
    assert Keeper(RESUMABLE, file, WorkerGroup(1, 2)).progress.epoch == 2
    Path(file.path).unlink()
    with pytest.raises(FileNotFoundError):  # it may be there in a moment
        Keeper(RESUMABLE, file, WorkerGroup(1, 2))


def test_a_checkpoint_on_a_disk_that_is_away_is_not_called_damaged(
    file: CheckpointFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(file, RESUMABLE, 4)

    def fail(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(OSError, match="Stale file handle"):
            Keeper(RESUMABLE, file, WorkerGroup())
    assert Keeper(RESUMABLE, file, WorkerGroup()).progress.epoch == 2


def test_no_training_begins_anew_where_its_checkpoint_is_on_a_disk_that_is_away(
    file: CheckpointFile,
) -> None:
    folder = Path(file.path).parent
    folder.mkdir(parents=True, exist_ok=True)
    witness = folder.parent / "sweep.yaml"
    witness.touch()
    file = replace(file, witness=witness)
    assert Keeper(RESUMABLE, file, WorkerGroup()).progress.epoch == 0
    witness.unlink()
    with pytest.raises(StoreError, match="is not the sweep's folder"):
        Keeper(RESUMABLE, file, WorkerGroup())


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_worker_writes(
    file: CheckpointFile, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    monkeypatch.setattr(WorkerGroup, "broadcast", lambda group, value: value)
    assert list(Keeper(RESUMABLE, file, WorkerGroup(rank, 2)).epochs("main", 3, {})) == [1, 2, 3]
    assert Path(file.path).exists() == (rank == 0)


def test_without_a_file_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keeper = Keeper(RESUMABLE, None, SINGLE)
    assert list(keeper.epochs("warm-up", 2, {})) == [1, 2]
    assert list(keeper.epochs("main", 2, {})) == [1, 2]
    assert os.listdir() == []  # noqa: PTH208


@pytest.fixture(scope="module")
def group_results(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What `train_in_group` returns in each of two workers."""
    folder = tmp_path_factory.mktemp("group")
    return run_in_group(partial(train_in_group, folder=folder), 2, folder)


@pytest.mark.slow
def test_group_that_is_killed_in_the_main_phase_equals_the_uninterrupted_one(
    group_results: list[Any],
) -> None:
    for whole, resumed, num_told, *_ in group_results:
        assert_same(resumed, whole)
        assert num_told == 1


@pytest.mark.slow
def test_group_of_which_one_worker_cannot_use_the_checkpoint_starts_again(
    group_results: list[Any],
) -> None:
    for whole, *_, told, warnings in group_results:
        assert_same(told, whole)
        (warning,) = warnings
        assert "seen_by_1.pt is not a whole checkpoint" in warning


@pytest.mark.slow
def test_group_that_is_killed_in_the_warm_up_goes_on(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    with pytest.raises(ProcessRaisedException, match="Killed"):
        run_in_group(partial(train_in_group_until_killed_in_warm_up, folder=tmp_path), 2, folders[0])
    assert CheckpointFile(tmp_path / "killed.pt", 0.0).read()["progress"]["phase"] == "warm-up"
    for resumed, whole in run_in_group(partial(go_on_in_group, folder=tmp_path), 2, folders[1]):
        assert_same(resumed, whole)
        assert [report.epoch for report in resumed[0]] == [2, 4]


def test_tensors_of_a_checkpoint_are_on_the_cpu(file: CheckpointFile) -> None:
    kill(file, RESUMABLE, 2)
    model = file.read()["states"]["model"]
    assert all(isinstance(value, Tensor) and value.device.type == "cpu" for value in model.values())
