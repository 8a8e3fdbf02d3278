"""python -m orchestrator.sweep SPACE.yaml: one sweep from its file to its front.

The composition root: the only place where Ray, Optuna, MLflow and the pages are put together. Each
step is a function with a name; heavy libraries are imported in the step that needs them, so that
`--help` and a validation error answer at once.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from orchestrator import process_environment
from orchestrator.command_line import overrides_of, parse
from orchestrator.environment import describe_environment
from orchestrator.errors import UserError
from orchestrator.events import Event, SweepEnded, SweepStarted, SweepStatus, TrialEnded
from orchestrator.ledger import Ledger
from orchestrator.local_files import with_absolute_paths
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.settings import SweepSettings, load_settings, locate, to_yaml
from orchestrator.tracking_check import check_tracking

if TYPE_CHECKING:
    from ray import tune

    from orchestrator.budget import SweepStopper
    from orchestrator.preparation import DataFacts
    from orchestrator.tracking import Tracker

EXIT_CODES: dict[SweepStatus, int] = {"completed": 0, "failed": 1, "interrupted": 130}
EXIT_USER_ERROR = 2
_TRACKING_PATIENCE_S = 60.0

Listener = Callable[[Event, SweepRecord], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parse(arguments)
    try:
        settings = load_settings(options.file, overrides_of(options))
        settings = with_absolute_paths(settings, must_exist=options.address is None)
        check_tracking(settings.tracking.uri)
        name = options.name or time.strftime(f"{settings.name}-%Y%m%d-%H%M%S")
        paths = SweepPaths.of(settings.storage, name)
        _require_new(paths)
        if options.dry_run:
            from orchestrator.dry_run import show

            show(settings, Console())
            return 0
        return run_sweep(settings, name, options.address, Console())
    except UserError as error:
        place = locate(options.file, overrides_of(options), error.location) if error.location else ""
        print(f"{place}{error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_CODES["interrupted"]


def _require_new(paths: SweepPaths) -> None:
    """Refuses a name that is taken and a storage that cannot be written, before anything starts."""
    if paths.root.exists():
        raise _taken(paths)
    parent = paths.root.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        text = f"storage: {parent} is not a folder; set storage to one"
        raise UserError(text, location=("storage",))


def _taken(paths: SweepPaths) -> UserError:
    return UserError(f"--name: {paths.root} already holds a sweep; choose another name")


def run_sweep(settings: SweepSettings, name: str, address: str | None, console: Console) -> int:
    """Runs a sweep and returns the exit code.

    Raises:
        UserError: the cluster or the tracking server cannot serve it; nothing was created.
    """
    process_environment.prepare(address)
    import ray

    from orchestrator.budget import SweepStopper, tidy_interrupts
    from orchestrator.cluster import connect, has_nodes
    from orchestrator.preparation import prepare
    from orchestrator.resources import concurrent_trials, require_fit

    paths = SweepPaths.of(settings.storage, name)
    record = SweepRecord(settings.objectives, settings.reference())
    console.print(f"sweep {name}: {settings.search.trials} trials, starting Ray", highlight=False)
    stopper = SweepStopper(settings.search.time_budget, has_nodes)
    try:
        with tidy_interrupts(stopper):
            nodes = connect(address)
        require_fit(settings.resources, nodes)
        if settings.evaluation.points != "none":
            require_fit(settings.evaluation_resources, nodes, "evaluation", "a final evaluation")
        data = prepare(settings)
        for facts in data:
            console.print(facts.sentence(), highlight=False, markup=False)
        # Ray has put handlers of its own in place.
        with tidy_interrupts(stopper), _Sweep(settings, name, paths, record, console, data) as sweep:
            stopper.start()
            sweep.run(stopper, concurrent_trials(settings.resources, nodes))
    finally:
        ray.shutdown()
    sweep.retention.finish(record)
    sweep.print_outcome()
    failed = sweep.status == "completed" and record.num_failed_evaluations
    return EXIT_CODES["failed" if failed else sweep.status]


class _Sweep:
    """An open sweep: its folder, its ledger, and those who listen to its events."""

    def __init__(
        self,
        settings: SweepSettings,
        name: str,
        paths: SweepPaths,
        record: SweepRecord,
        console: Console,
        data: Sequence[DataFacts],
    ) -> None:
        from dashboards.pareto_front import render
        from orchestrator.proposals import Proposals
        from orchestrator.retention import Retention, RetentionRule
        from orchestrator.search import ProposalListener
        from orchestrator.terminal import Progress
        from orchestrator.tracking import Tracker

        self.settings, self.name, self.paths, self.record = settings, name, paths, record
        self.console = console
        environment = describe_environment()
        if data:
            environment["data"] = "; ".join(facts.sentence() for facts in data)
            is_original = all(facts.is_original_order for facts in data)
            environment["data_order"] = "original" if is_original else "of the source"
        _make_folder(settings, paths)
        _log_to(paths.log)
        try:
            self.tracker = _open_tracker(
                lambda: Tracker(settings, name, paths, environment, render), settings
            )
        except BaseException:
            _remove_folder(paths)
            raise
        self.ledger = Ledger(paths.ledger)
        self.proposals = Proposals(settings)
        self.progress = Progress(console, name, settings.search.trials, settings.search.time_budget)
        self.retention = Retention(
            paths, RetentionRule(settings.tracking.embeddings, settings.evaluation.points)
        )
        self.listeners: list[Listener] = [
            ProposalListener(self.proposals),
            self.tracker,  # before what it no longer wants is removed
            self.retention,
            self.progress,
        ]
        self.num_unwritten = 0
        self.storage_error = ""
        self.emit(SweepStarted(name, settings.model_dump(mode="json"), environment, time.time()))

    def __enter__(self) -> _Sweep:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        """Ends what is open, whatever happened; a storage that fails is told, not raised."""
        self.progress.stop()
        try:
            if self.record.status == "running":
                self._end("interrupted" if kind is KeyboardInterrupt else "failed", _cause(kind, error))
        except OSError as failure:
            error = error or failure
        finally:
            if self.tracker.num_waiting:
                self.console.print("writing the rest to MLflow", highlight=False)
            self.num_unwritten = self.tracker.close(_TRACKING_PATIENCE_S)
            self.ledger.close()
        if isinstance(error, OSError):
            self.storage_error = f"{self.paths.root} cannot be written: {error.strerror or error}"
        return error is None or isinstance(error, (OSError, KeyboardInterrupt))

    @property
    def status(self) -> SweepStatus:
        """How the sweep ended."""
        if self.record.status == "running" or self.storage_error:
            return "failed"
        return self.record.status

    def print_outcome(self) -> None:
        """Tells how it ended, and where its results are."""
        from orchestrator.outcome import Outcome, print_outcome

        outcome = Outcome(
            record=self.record,
            status=self.status,
            paths=self.paths,
            storage_error=self.storage_error,
            tracking_uri=self.settings.tracking.uri,
            num_not_tracked=self.num_unwritten + self.tracker.num_refused,
            page=self.tracker.url,
        )
        print_outcome(outcome, self.console)

    def emit(self, event: Event) -> None:
        """Ledger first, then everyone who acts on it."""
        self.ledger.append(event)
        self.record.apply(event)
        for listener in self.listeners:
            listener(event, self.record)

    def run(self, stopper: SweepStopper, max_concurrent: int) -> None:
        """Runs the trials on Ray Tune and emits what happens, up to `SweepEnded`."""
        _tuner(self, stopper, max_concurrent).fit()
        self._stop_open_trials(stopper.reason or "the search ended")
        if stopper.status == "completed":
            self._evaluate(stopper)
        if stopper.status != "completed":
            self._end(stopper.status, stopper.reason)
        elif not self.record.front or not self.record.count("completed", "stopped"):
            self._end("failed", failure_reason(self.record, stopper.reason))
        else:
            self._end("completed", stopper.reason or f"all {self.settings.search.trials} trials ended")

    def _evaluate(self, stopper: SweepStopper) -> None:
        """Evaluates the points that are kept on the test set."""
        from orchestrator.final_evaluation import evaluate_points
        from orchestrator.retention import evaluated_points

        keys = sorted(evaluated_points(self.record, self.settings.evaluation.points))
        resources = self.settings.evaluation_resources
        for event in evaluate_points(keys, self.paths, resources, stopper.must_end):
            self.emit(event)

    def _stop_open_trials(self, reason: str) -> None:
        for trial in list(self.record.trials.values()):
            if not trial.is_ended:
                self.emit(TrialEnded(trial.name, "stopped", reason, time.time()))

    def _end(self, status: SweepStatus, reason: str) -> None:
        self._stop_open_trials(reason)
        assert "RUNNING" not in self.proposals.states().values(), "a trial was left open in Optuna"
        self.emit(SweepEnded(status, reason, time.time()))


def failure_reason(record: SweepRecord, stopped_because: str) -> str:
    """Why a sweep has nothing to show: its first failed trial, or what stopped it too early."""
    failed = [trial for trial in record.trials.values() if trial.status == "failed"]
    if failed:
        first = min(failed, key=lambda trial: trial.ended or 0.0)
        return f"no trial succeeded; first cause: {first.name}: {first.reason}"
    return "; ".join(["no trial reported anything", *([stopped_because] if stopped_because else [])])


def _cause(kind: type[BaseException] | None, error: BaseException | None) -> str:
    if kind is KeyboardInterrupt:
        return "interrupted twice"
    return f"{type(error).__name__}: {error}" if error else "it ended before its trials did"


def _make_folder(settings: SweepSettings, paths: SweepPaths) -> None:
    try:
        paths.root.mkdir(parents=True)
        paths.settings.write_text(to_yaml(settings))
    except FileExistsError:
        raise _taken(paths) from None
    except OSError as error:
        raise UserError(
            f"storage: cannot write to {paths.root} ({error.strerror}); set storage to another folder",
            location=("storage",),
        ) from None


def _remove_folder(paths: SweepPaths) -> None:
    shutil.rmtree(paths.root, ignore_errors=True)
    with contextlib.suppress(OSError):  # other sweeps are in it
        paths.root.parent.rmdir()


def _open_tracker(make: Callable[[], Tracker], settings: SweepSettings) -> Tracker:
    try:
        return make()
    except UserError:
        raise
    except Exception as error:
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"tracking.uri: {settings.tracking.uri} refuses the sweep ({message}); "
            "see that it is an MLflow store that you may write to",
            location=("tracking", "uri"),
        ) from error


def _log_to(path: Path) -> None:
    """Sends the log of our own code and the warnings of the libraries to the sweep's log file."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("orchestrator", "trainables", "dashboards", "mlflow", "ray", "py.warnings"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if name == "orchestrator" else logging.WARNING)
    logging.captureWarnings(True)


def _tuner(sweep: _Sweep, stopper: SweepStopper, max_concurrent: int) -> tune.Tuner:
    from ray import tune

    from orchestrator.retention import OwnFront
    from orchestrator.search import ProposalSearcher
    from orchestrator.tune_events import TuneEvents
    from trainables.ray_train import NAME_KEY, SnapshotRule, TrialResources, make_trainable

    settings = sweep.settings
    resources = TrialResources(
        settings.resources.workers, settings.resources.cpus, settings.resources.gpus
    )
    rule = SnapshotRule(
        folder=sweep.paths.snapshot,
        trace=sweep.paths.trace,
        is_wanted=OwnFront(settings.objectives),
        with_embeddings=settings.tracking.embeddings != "none",
    )
    return tune.Tuner(
        make_trainable(resources, rule),
        tune_config=tune.TuneConfig(
            search_alg=ProposalSearcher(
                settings, sweep.record, sweep.proposals, sweep.emit, max_concurrent
            ),
            num_samples=settings.search.trials,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config[NAME_KEY],
            trial_dirname_creator=lambda trial: trial.config[NAME_KEY],
        ),
        run_config=tune.RunConfig(
            name=sweep.paths.tune.name,
            storage_path=str(sweep.paths.tune.parent),
            callbacks=[TuneEvents(sweep.emit, sweep.record, stopper)],
            stop=stopper,
            verbose=0,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
