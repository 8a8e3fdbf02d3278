"""The driver of a sweep: its folder, its ledger, and those who listen to its events.

Every event is in the ledger before anyone acts on it; what a killed driver knew is rebuilt from there.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from rich.console import Console

from orchestrator.confirmation import repeats
from orchestrator.environment import describe_environment
from orchestrator.errors import UserError
from orchestrator.events import (
    Event,
    RunOpened,
    SearchEnded,
    SweepEnded,
    SweepResumed,
    SweepStarted,
    SweepStatus,
    TrialEnded,
    TrialImported,
    TrialReported,
)
from orchestrator.lease import LeaseLostError
from orchestrator.ledger import Ledger
from orchestrator.mlflow_process import MlflowProcess
from orchestrator.mlflow_runs import MlflowRuns
from orchestrator.outcome import Outcome, print_outcome
from orchestrator.pages import MakePages, RemotePages
from orchestrator.preparation import DataFacts, describe_data
from orchestrator.proposals_process import ProposalsProcess
from orchestrator.record import SweepRecord
from orchestrator.resume import Plan
from orchestrator.retention import Retention, RetentionRule
from orchestrator.search import ProposalListener
from orchestrator.settings import SweepSettings
from orchestrator.settings_text import to_yaml
from orchestrator.shared_storage import SharedStorage
from orchestrator.stopping_rule import StoppingRule
from orchestrator.sweep_folder import make_folder, remove_folder, write_whole
from orchestrator.sweep_log import log_to
from orchestrator.terminal import Progress
from orchestrator.told import imported_trials, known_trials
from orchestrator.tracking import Tracker
from orchestrator.trials import Trial
from trainables.disk import cannot_write

logger = logging.getLogger(__name__)

Listener = Callable[[Event, SweepRecord], None]
_OF_JOBS = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""What Ray's job server gives the environment of each job's driver."""
_PATIENCE_S = 60.0
"""So long the end waits for a server, MLflow's or the storage's, that makes no progress."""


class Driver:
    """An open sweep.

    Args:
        plan: what to run.
        data: what is known of the data.
        mlflow: of the settings' tracking store; closed with the driver.
        pages: makes what draws the pages, in a process of its own.
        console: the terminal.

    Raises:
        UserError: the folder cannot be written, another driver has it, or the tracking server refuses
            the sweep; a new sweep leaves nothing then.
    """

    def __init__(
        self,
        plan: Plan,
        data: Sequence[DataFacts],
        mlflow: MlflowProcess,
        pages: MakePages,
        console: Console,
    ) -> None:
        self.settings, self.name, self.paths, history, imports, lease = plan
        self.console = console
        self.record = SweepRecord.of(self.settings, history)
        environment = _environment(data)
        self.num_unwritten = 0
        self.storage_error = ""
        if not history:
            make_folder(self.settings, self.paths)
        log_to(self.paths.log)
        try:
            self.ledger = Ledger(self.paths.ledger)
        except UserError:
            if not history:
                remove_folder(self.paths)
            raise
        rule = RetentionRule(self.settings.tracking.embeddings, self.settings.evaluation.points)
        self.proposals = ProposalsProcess(
            self.settings,
            known_trials(self.settings, history),
            imported_trials(self.settings, [*history, *imports]),
            self.paths.log,
        )
        self.stopping = StoppingRule(self.settings)
        self.progress = Progress(
            console,
            self.name,
            self.settings.num_trials,
            self.settings.search.time_budget,
            confirm=self.settings.confirm,
        )
        self.storage = SharedStorage(self.paths, lease)
        self.retention = Retention(self.paths, rule, self.storage.put)
        self.listeners: list[Listener] = []
        sweep_id = self.record.id or uuid.uuid4().hex
        self.mlflow = mlflow
        runs = MlflowRuns(
            self.mlflow.client, self.settings, self.name, sweep_id, environment, self._note_run
        )
        self.pages = RemotePages(pages, self.paths)
        self.tracker = Tracker(runs, self.paths, rule, self.pages, self.storage.held_back)
        try:
            self.proposals.start()  # it gets ready while MLflow does
            begun = self._begin(sweep_id, environment, history, imports)
            self.storage.start()
            _open(runs, self.settings, [*history, *begun])
            if history:
                self.tracker.resume(history, SweepRecord.of(self.settings), self.record)
            self.listeners = [
                ProposalListener(self.proposals),
                self.tracker,  # before what it no longer wants is removed
                self.retention,
                self.progress,
            ]
            if history:
                self._take_up(history)
        except BaseException as error:
            self.close(0)
            if not history:
                remove_folder(self.paths)
            if isinstance(error, OSError):
                text = f"storage: {self._sentence(error)}; make room or set another folder"
                raise UserError(text, location=("storage",)) from error
            raise

    def _begin(
        self,
        sweep_id: str,
        environment: dict[str, str],
        history: Sequence[Event],
        imports: Sequence[TrialImported],
    ) -> list[Event]:
        """Emits the first events of this driver, and returns them."""
        settings = self.settings.model_dump(mode="json")
        if not history:
            now, num_imported = time.time(), len(imports)
            started = SweepStarted(self.name, settings, environment, now, sweep_id, num_imported)
            # What is imported was read before Ray was started.
            events: list[Event] = [started, *[replace(event, time=now) for event in imports]]
        else:
            write_whole(self.paths.settings, to_yaml(self.settings))
            events = [SweepResumed(settings, environment, time.time())]
        for event in events:
            self.emit(event)
        return events

    def _take_up(self, history: Sequence[Event]) -> None:
        """Rebuilds rungs and snapshots; ends the trials that the last driver had decided to stop."""
        self.retention.resume(self.record)
        replayed = SweepRecord.of(self.settings)
        reasons: dict[str, str] = {}
        for event in history:
            if isinstance(event, TrialReported) and event.trial in replayed.trials:
                reason = self.stopping.observe(event.trial, event.report, replayed)
                if reason is not None:
                    reasons[event.trial] = reason
            replayed.apply(event)
        for name, reason in reasons.items():
            if self.record.trials[name].is_unfinished:
                self.emit(TrialEnded(name, "stopped", reason, time.time()))

    def __enter__(self) -> Driver:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        """Ends what is open, whatever happened; a storage that fails is told, not raised.

        Tune raises its own error for one of ours, so `storage_error` says more than `error`.
        """
        self.progress.stop()
        if isinstance(error, OSError):
            self._note_storage_error(error)
        try:
            if self.record.status == "running":
                cause = self.storage_error or _cause(kind, error)
                self.end("interrupted" if kind is KeyboardInterrupt else "failed", cause)
        except OSError as failure:
            self._note_storage_error(failure)
        finally:
            patience_s = _PATIENCE_S if self.storage.flush(_PATIENCE_S) else 0.0
            if self.tracker.num_waiting:
                self.console.print("writing the rest to MLflow", highlight=False)
            self.close(patience_s)
        return error is None or bool(self.storage_error) or isinstance(error, KeyboardInterrupt)

    def close(self, patience_s: float) -> None:
        """Ends all parts and their processes.

        Args:
            patience_s: without progress, as long as something waits for MLflow or the storage.
        """
        self.proposals.close()
        self.num_unwritten = self.tracker.close(patience_s)
        self.storage.close(patience_s)
        self.pages.close()
        self.mlflow.close()
        self.ledger.close()

    def _note_storage_error(self, error: OSError) -> None:
        """The first one counts: what follows from it may read otherwise."""
        advice = f"mend that, then go on with --resume {self.name}"
        self.storage_error = self.storage_error or f"{self._sentence(error)}; {advice}"

    def _sentence(self, error: OSError) -> str:
        """What a store's errors say already, as those of a lease do."""
        is_of_disk = error.errno is not None
        return cannot_write(self.paths.root, error) if is_of_disk else str(error)

    @property
    def status(self) -> SweepStatus:
        """How the sweep ended."""
        if self.record.status == "running" or self.storage_error:
            return "failed"
        return self.record.status

    @property
    def num_to_run(self) -> int:
        """Trials that are unfinished or not proposed yet."""
        unfinished = sum(trial.is_unfinished for trial in self.record.trials.values())
        return unfinished + max(0, self.settings.num_trials - len(self.record.trials))

    def emit(self, event: Event) -> None:
        """Ledger first, then everyone who acts on it.

        Whoever fails at that hears nothing more; the others hear this event and the sweep's end.
        """
        try:
            self.storage.require_not_lost()
            self.ledger.append(event)
        except OSError as error:
            self._note_storage_error(error)
            raise
        self.record.apply(event)
        errors = []
        for listener in list(self.listeners):
            try:
                listener(event, self.record)
            except Exception as error:  # noqa: BLE001 - raised below, once all have heard
                self.listeners.remove(listener)
                errors.append(error)
        if errors:
            raise errors[0]

    def end_search(self, reason: str) -> None:
        """The search's last events."""
        self._interrupt(self.record.trials.values(), reason)
        self.emit(SearchEnded(reason, time.time()))

    def leave_unwanted(self) -> None:
        """Ends the trials that an earlier driver began for a configuration that has left the front."""
        wanted = {repeat.name for repeat in repeats(self.record, self.settings.confirm)}
        others = [trial for trial in self.record.confirming.values() if trial.name not in wanted]
        self._interrupt(others, "what it confirms is no longer on the front")

    def end(self, status: SweepStatus, reason: str) -> None:
        """The sweep's last events."""
        self._interrupt(self.record.own_trials, reason)
        if status != "failed" and not self.storage_error:
            states = self.proposals.states()
            assert "RUNNING" not in states.values(), "a trial was left open in Optuna"
        self.emit(SweepEnded(status, reason, time.time()))

    def _interrupt(self, trials: Iterable[Trial], reason: str) -> None:
        """Ends those that are still open; a resume goes on with them."""
        for trial in list(trials):
            if not trial.is_ended:
                self.emit(TrialEnded(trial.name, "interrupted", reason, time.time()))

    def tell(self, sentence: str) -> None:
        """On the terminal, and in the log."""
        logger.info("%s", sentence)
        self.console.print(sentence, highlight=False, markup=False)

    def tidy(self) -> None:
        """Leaves exactly what is wanted of what workers wrote; where a store is away that is told."""
        try:
            self.storage.require_mine()
            self.retention.finish(self.record)
        except LeaseLostError:
            return  # who took the sweep over does that
        except OSError as error:
            logger.warning("what is no longer wanted stays: %s", error)
            self.storage.num_not_removed += 1

    def print_outcome(self, address: str | None = None) -> None:
        """Tells how it ended, and where its results are.

        Args:
            address: of the cluster that it ran on; None for a Ray of its own.
        """
        outcome = Outcome(
            record=self.record,
            status=self.status,
            paths=self.paths,
            storage_error=self.storage_error,
            tracking_uri=self.settings.tracking.uri,
            num_not_tracked=self.num_unwritten + self.tracker.num_refused,
            num_undrawn=self.tracker.num_undrawn,
            num_not_copied=self.storage.num_not_copied,
            is_tidy=not self.storage.num_not_removed,
            page=self.tracker.url,
            address=address,
            is_job=_OF_JOBS in os.environ,
        )
        print_outcome(outcome, self.console)

    def _note_run(self, trial: str, run_id: str) -> None:
        """Called by the tracker's thread too, so it changes nothing but the ledger."""
        if self.record.run_ids.get(trial) != run_id:
            self.ledger.append(RunOpened(trial, run_id, time.time()))


def _cause(kind: type[BaseException] | None, error: BaseException | None) -> str:
    if kind is KeyboardInterrupt:
        return "interrupted twice"
    return f"{type(error).__name__}: {error}" if error else "it ended before its trials did"


def _environment(data: Sequence[DataFacts]) -> dict[str, str]:
    return {**describe_environment(), **describe_data(data)}


def _open(runs: MlflowRuns, settings: SweepSettings, events: Sequence[Event]) -> None:
    try:
        runs.open(to_yaml(settings), events)
    except UserError:
        raise
    except Exception as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"tracking.uri: {settings.tracking.uri} refuses the sweep ({message}); "
            "see that it is an MLflow store that you may write to",
            location=("tracking", "uri"),
        ) from error
