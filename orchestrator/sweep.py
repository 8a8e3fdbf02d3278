"""python -m orchestrator.sweep SPACE.yaml: one sweep from its file to its front.

The composition root: the only place where Ray, Optuna, MLflow and the pages are put together. Each
step is a function with a name; heavy libraries are imported in the step that needs them, so that
`--help` and a validation error answer at once.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console

from orchestrator import process_environment
from orchestrator.command_line import overrides_of, parse, storage_of
from orchestrator.confirmation import confirms_nothing, unconfirmed
from orchestrator.errors import UserError
from orchestrator.events import SweepStatus, TrialImported
from orchestrator.local_files import with_absolute_paths
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.resume import (
    Plan,
    find_sweep,
    read_history,
    require_imports,
    require_same,
    require_same_data,
)
from orchestrator.settings import SweepSettings, load_settings, locate
from orchestrator.sweep_folder import require_new
from orchestrator.tracking_check import check_tracking
from orchestrator.trials import Trial

if TYPE_CHECKING:
    from ray import tune
    from ray.tune.schedulers import TrialScheduler

    from orchestrator.budget import SweepStopper
    from orchestrator.driver import Driver
    from trainables.ray_train import SnapshotRule

EXIT_CODES: dict[SweepStatus, int] = {"completed": 0, "failed": 1, "interrupted": 130}
EXIT_USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parse(arguments)
    try:
        settings = _load(options)
        check_tracking(settings.tracking.uri)
        plan = _plan(options, settings)
        if options.dry_run:
            from orchestrator.dry_run import show

            show(settings, Console(), plan.imports)
            return 0
        return run_sweep(plan, options.address, Console())
    except UserError as error:
        place = ""
        if error.location and options.file:
            place = locate(options.file, overrides_of(options), error.location)
        print(f"{place}{error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_CODES["interrupted"]


def _load(options: argparse.Namespace) -> SweepSettings:
    """The settings of the file, or of the sweep to resume where no file is given."""
    if options.file is None:
        options.file = find_sweep(options.resume, storage_of(options)).settings
    settings = load_settings(options.file, overrides_of(options))
    return with_absolute_paths(settings, must_exist=options.address is None)


def _plan(options: argparse.Namespace, settings: SweepSettings) -> Plan:
    """A new sweep, or the rest of one.

    Raises:
        UserError: the name is taken, or the sweep cannot be resumed.
    """
    if not options.resume:
        name = options.name or time.strftime(f"{settings.name}-%Y%m%d-%H%M%S")
        paths = SweepPaths.of(settings.storage, name)
        require_new(paths)
        return Plan(settings, name, paths, imports=_imports(options, settings))
    paths = find_sweep(options.resume, settings.storage)
    history = read_history(paths)
    if history:
        require_same(history, settings)
        require_imports(history, paths)
    return Plan(settings, paths.root.name, paths, history)


def _imports(options: argparse.Namespace, settings: SweepSettings) -> Sequence[TrialImported]:
    """What the new sweep takes from earlier ones, told on the terminal.

    Raises:
        UserError: an earlier sweep cannot be read, or nothing of it fits.
    """
    if not options.imports:
        return ()
    process_environment.prepare(options.address)
    from orchestrator.earlier_sweeps import read_earlier
    from orchestrator.imports import import_sweeps

    sweeps = [read_earlier(name, settings) for name in options.imports]
    events, texts = import_sweeps(sweeps, settings, time.time())
    for text in texts:
        Console().print(text, highlight=False, markup=False, soft_wrap=True)
    return events


def run_sweep(plan: Plan, address: str | None, console: Console) -> int:
    """Runs a sweep and returns the exit code.

    Raises:
        UserError: the cluster or the tracking server cannot serve it, or it goes on and its data
            changed; nothing was created or written.
    """
    process_environment.prepare(address)
    import ray

    from dashboards.pareto_front import render
    from orchestrator.budget import SweepStopper, tidy_interrupts, used_up
    from orchestrator.cluster import connect, has_nodes
    from orchestrator.driver import Driver
    from orchestrator.preparation import describe_data, prepare, sentences
    from orchestrator.resources import concurrent_trials, require_fit

    settings = plan.settings
    console.print(_first_line(plan), highlight=False)
    used_s = SweepRecord.of(settings, plan.history).searched_s
    stopper = SweepStopper(settings.search.time_budget, has_nodes, used_s)
    try:
        with tidy_interrupts(stopper):
            nodes = connect(address)
        require_fit(settings.resources, nodes)
        if settings.evaluation.points != "none":
            require_fit(settings.evaluation_resources, nodes, "evaluation", "a final evaluation")
        data = prepare(settings)
        require_same_data(plan.name, plan.history, describe_data(data))
        for sentence in sentences(data):
            console.print(sentence, highlight=False, markup=False)
        # Ray has put handlers of its own in place.
        with tidy_interrupts(stopper), Driver(plan, data, render, console) as driver:
            stopper.start(lambda: used_up(settings.search, driver.record))
            _run(driver, stopper, concurrent_trials(settings.resources, nodes))
    finally:
        ray.shutdown()
    driver.retention.finish(driver.record)
    driver.print_outcome()
    record = driver.record
    lacks = record.num_failed_evaluations or confirms_nothing(record)
    return EXIT_CODES["failed" if driver.status == "completed" and lacks else driver.status]


def _first_line(plan: Plan) -> str:
    num_trials = plan.settings.num_trials
    if not plan.history:
        return f"sweep {plan.name}: {num_trials} trials, starting Ray"
    record = SweepRecord.of(plan.settings, plan.history)
    num_ended = sum(not trial.is_unfinished for trial in record.trials.values())
    return f"sweep {plan.name}: going on after {num_ended} of {num_trials} trials, starting Ray"


def _run(driver: Driver, stopper: SweepStopper, max_concurrent: int) -> None:
    """Searches, confirms and evaluates, and emits what happens, up to `SweepEnded`."""
    if driver.num_to_run and not stopper.stop_all():
        _tuner(driver, stopper, _search(driver), max_concurrent).fit()
    used_up = stopper.reason
    if stopper.status == "completed":
        driver.end_search(used_up or f"all {driver.settings.num_trials} trials ended")
        stopper.lift_budgets()
        _confirm(driver, stopper, max_concurrent)
    if stopper.status == "completed":
        _evaluate(driver, stopper)
    has_points = any(trial.points for trial in driver.record.trials.values())
    if stopper.status != "completed":
        driver.end(stopper.status, stopper.reason)
    elif not has_points or not driver.record.count("completed", "stopped", "interrupted"):
        driver.end("failed", failure_reason(driver.record, used_up))
    else:
        driver.end("completed", used_up or f"all {driver.settings.num_trials} trials ended")


def _confirm(driver: Driver, stopper: SweepStopper, max_concurrent: int) -> None:
    """Trains the front's configurations under further seeds, but those that already were."""
    driver.leave_unwanted()
    left = unconfirmed(driver.record, driver.settings.confirm)
    if left:
        text = f"confirming the front: {len(left)} trials under further seeds"
        driver.console.print(text, highlight=False)
        _tuner(driver, stopper, _confirmation(driver, len(left)), max_concurrent).fit()


def _evaluate(driver: Driver, stopper: SweepStopper) -> None:
    """Evaluates the points that are kept on the test set, but those that already are."""
    from orchestrator.final_evaluation import evaluate_points
    from orchestrator.retention import evaluated_points

    record, settings = driver.record, driver.settings
    keys = [
        key
        for key in sorted(evaluated_points(record, settings.evaluation.points))
        if not record.evaluations.get(key)
    ]
    resources = settings.evaluation_resources
    for event in evaluate_points(keys, driver.paths, resources, stopper.stop_all):
        driver.emit(event)


def failure_reason(record: SweepRecord, stopped_because: str) -> str:
    """Why a sweep has nothing to show: its first failed trial, or what stopped it too early."""
    failed = [trial for trial in record.trials.values() if trial.status == "failed"]
    if failed:
        first = min(failed, key=lambda trial: trial.ended or 0.0)
        return f"no trial succeeded; first cause: {first.name}: {first.reason}"
    return "; ".join(["no trial reported anything", *([stopped_because] if stopped_because else [])])


class _Phase(NamedTuple):
    """Trials that Ray Tune runs in one go.

    Attributes:
        trials: hands them out.
        num_trials: how many it will.
        snapshots: which of their points are worth one; None for none.
        scheduler: says which of them go on.
        stopped: those that do not, each with the reason.
    """

    trials: Iterator[Trial | None]
    num_trials: int
    snapshots: SnapshotRule | None
    scheduler: TrialScheduler
    stopped: Mapping[str, str]


def _search(driver: Driver) -> _Phase:
    """The trials that are unfinished, and those that will be proposed."""
    from orchestrator.early_stopping import EarlyStopping
    from orchestrator.retention import OwnFront
    from orchestrator.search import searched_trials
    from trainables.ray_train import SnapshotRule

    settings = driver.settings
    snapshots = SnapshotRule(
        folder=driver.paths.snapshot,
        trace=driver.paths.trace,
        is_wanted=OwnFront(settings.objectives, driver.record.front.constraints),
        with_embeddings=settings.tracking.embeddings != "none",
    )
    early_stopping = EarlyStopping(driver.stopping, driver.record)
    trials = searched_trials(settings, driver.record, driver.proposals.ask, driver.emit)
    return _Phase(trials, driver.num_to_run, snapshots, early_stopping, early_stopping.reasons)


def _confirmation(driver: Driver, num_trials: int) -> _Phase:
    """The trials that confirm the front: of them only the reports matter, and none is stopped early."""
    from ray.tune.schedulers import FIFOScheduler

    from orchestrator.search import confirming_trials

    trials = confirming_trials(driver.settings, driver.record, driver.emit)
    return _Phase(trials, num_trials, None, FIFOScheduler(), {})


def _tuner(driver: Driver, stopper: SweepStopper, phase: _Phase, max_concurrent: int) -> tune.Tuner:
    from ray import tune

    from orchestrator.search import TrialSearcher
    from orchestrator.tune_events import TuneEvents
    from trainables.ray_train import NAME_KEY, CheckpointRule, TrialResources, make_trainable

    given, every_s = driver.settings.resources, driver.settings.checkpoint_every
    every_s = math.inf if every_s is None else every_s
    resources = TrialResources(given.workers, given.cpus, given.gpus)
    return tune.Tuner(
        make_trainable(resources, phase.snapshots, CheckpointRule(driver.paths.checkpoint, every_s)),
        tune_config=tune.TuneConfig(
            search_alg=TrialSearcher(phase.trials, max_concurrent, stopper.stop_all),
            scheduler=phase.scheduler,
            num_samples=phase.num_trials,
            reuse_actors=True,
            trial_name_creator=lambda trial: trial.config[NAME_KEY],
            trial_dirname_creator=lambda trial: trial.config[NAME_KEY],
        ),
        run_config=tune.RunConfig(
            name=driver.paths.tune.name,
            storage_path=str(driver.paths.tune.parent),
            callbacks=[TuneEvents(driver.emit, driver.record, stopper, phase.stopped)],
            stop=stopper,
            verbose=0,
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
