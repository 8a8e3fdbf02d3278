from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from resumable_trials import RESUMABLE, Killed, deadly_clock
from short_trials import assert_same, fit_reports

from trainables.checkpoint import CheckpointFile
from trainables.config import WarmupConfig
from trainables.ray_train import SnapshotRule, TrialListener
from trainables.reports import EpochReport
from trainables.training import fit

TRIAL = RESUMABLE.model_copy(update={"validate_every": 1, "warmup": WarmupConfig(epochs=1)})
NUM_EPOCHS = 4


class Sweep:
    """A trial of a sweep whose driver notes what it is sent; all epochs are worth a snapshot.

    Attributes:
        sent: the reports, in order.
        asked: the epochs that the rule was asked about, by each life of the trial.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sent: list[EpochReport] = []
        self.asked: list[list[int]] = []

    def train(self, known_epoch: int, stores: bool = True, **options: Any) -> None:
        rule = SnapshotRule(self.snapshot, self.trace, self._make_rule, with_embeddings=False)
        rule = rule if stores else None
        listener = TrialListener("trial", TRIAL, rule, known_epoch, self.sent.append)
        fit(
            TRIAL,
            listener,
            checkpoint=CheckpointFile(self.root / "state.pt", 0.0, listener.take_up, **options),
        )

    def snapshot(self, trial: str, epoch: int) -> Path:
        return self.root / trial / f"{epoch}"

    def trace(self, trial: str, epoch: int) -> Path:
        return self.root / trial / f"{epoch}.npz"

    def _make_rule(self) -> Callable[[EpochReport], bool]:
        asked: list[int] = []
        self.asked.append(asked)

        def is_wanted(report: EpochReport) -> bool:
            asked.append(report.epoch)
            return True

        return is_wanted

    @property
    def stored(self) -> set[int]:
        return {int(folder.name) for folder in (self.root / "trial").iterdir() if folder.is_dir()}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """The trial is killed once the third of four main epochs is written; its warm-up has one."""
    sweep = Sweep(tmp_path)
    with pytest.raises(Killed):
        sweep.train(0, clock=deadly_clock(2 * (1 + 3)))
    assert [report.epoch for report in sweep.sent] == [1, 2, 3]
    sweep.sent.clear()
    return sweep


@pytest.mark.parametrize("known_epoch", range(NUM_EPOCHS + 1))
def test_driver_gets_each_report_that_it_does_not_know_once(sweep: Sweep, known_epoch: int) -> None:
    sweep.train(known_epoch)
    assert_same(sweep.sent, fit_reports(TRIAL)[known_epoch:])


def test_known_epochs_that_are_trained_again_are_neither_sent_nor_stored(sweep: Sweep) -> None:
    (sweep.root / "state.pt").unlink()
    for epoch in (1, 2, 3):
        for path in sweep.snapshot("trial", epoch).iterdir():
            path.unlink()
        sweep.snapshot("trial", epoch).rmdir()
        sweep.trace("trial", epoch).unlink(missing_ok=True)
    sweep.train(known_epoch=2)
    assert [report.epoch for report in sweep.sent] == [3, 4]
    assert sweep.stored == {3, 4}
    assert not sweep.trace("trial", 2).exists()
    assert sweep.trace("trial", 4).exists()


def test_rule_for_snapshots_hears_of_every_epoch_in_every_life(sweep: Sweep) -> None:
    sweep.train(known_epoch=2)
    assert sweep.asked == [[1, 2, 3], [1, 2, 3, 4]]


def test_without_a_rule_reports_are_sent_and_nothing_is_stored(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    sweep.train(0, stores=False)
    assert_same(sweep.sent, fit_reports(TRIAL))
    assert not (tmp_path / "trial").exists()


@pytest.mark.slow
def test_a_driver_imports_no_torch() -> None:
    driver = "driver, preparation, search, early_stopping, tune_events, final_evaluation"
    imports = f"import sys, trainables.ray_train; from orchestrator import {driver}"
    code = f"{imports}; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "False"


@pytest.mark.slow
def test_a_trial_on_the_cpu_imports_neither_scikit_learn_nor_the_compiler() -> None:
    heavy = ["sklearn", "torch._inductor.cudagraph_trees", "torch._inductor.compile_fx"]
    code = f"""
import sys, trainables.ray_train
from trainables.config import TrialConfig
from trainables.training import fit
fit(TrialConfig.model_validate_json({TRIAL.model_dump_json()!r}), lambda validation: None)
print([name for name in {heavy} if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    result = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
