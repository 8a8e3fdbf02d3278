"""python -m orchestrator.sweep SPACE.yaml: one sweep from its file to its front.

The composition root: the only place where Ray, Optuna, MLflow and the pages are put together. Each
step is a function with a name; heavy libraries are imported in the step that needs them, so that
`--help` and a validation error answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from orchestrator import process_environment
from orchestrator.command_line import overrides_of, parse, storage_of, tell
from orchestrator.confirmation import confirms_nothing, unconfirmed
from orchestrator.errors import UserError
from orchestrator.events import SweepStatus, TrialImported
from orchestrator.lease import Lease, await_expiry
from orchestrator.ledger_copy import fetch
from orchestrator.local_files import with_absolute_paths
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.resume import (
    Plan,
    find_sweep,
    is_there,
    read_history,
    require_idle,
    require_imports,
    require_same,
    require_same_data,
)
from orchestrator.settings import SweepSettings, load_settings
from orchestrator.sweep_folder import is_begun, require_new
from orchestrator.tracking_access import require_access
from orchestrator.tracking_check import check_tracking

if TYPE_CHECKING:
    from orchestrator.budget import SweepStopper
    from orchestrator.driver import Driver
    from orchestrator.pages import Pages
    from orchestrator.resources import Node

EXIT_CODES: dict[SweepStatus, int] = {"completed": 0, "failed": 1, "interrupted": 130}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parse(arguments)
    try:
        settings = _load(options)
        check_tracking(settings.tracking.uri)
        require_access(settings.tracking.uri, settings.experiment)
        with contextlib.ExitStack() as held:
            plan = _plan(options, settings, held)
            if options.dry_run:
                from orchestrator.dry_run import show

                show(settings, Console(), plan.imports)
                return 0
            return run_sweep(plan, options.address, Console())
    except UserError as error:
        return tell(error, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_CODES["interrupted"]


def _load(options: argparse.Namespace) -> SweepSettings:
    """The settings of the file, or of the sweep to resume where no file is given."""
    if options.file is None:
        options.file = find_sweep(options.resume, storage_of(options)).settings
    settings = load_settings(options.file, overrides_of(options))
    return with_absolute_paths(settings, must_exist=options.address is None)


def _plan(options: argparse.Namespace, settings: SweepSettings, held: contextlib.ExitStack) -> Plan:
    """A new sweep, or the rest of one; its lease, where it is at a URL, is held until it is over.

    Raises:
        UserError: the name is taken, or the sweep cannot be resumed.
    """
    resumed = options.resume
    if not resumed:
        name = options.name or time.strftime(f"{settings.name}-%Y%m%d-%H%M%S")
        paths = SweepPaths.of(settings.storage, name)
        if options.or_resume and paths.url and not options.dry_run:
            await_expiry(paths, _say)
        if not (options.or_resume and is_there(paths) and is_begun(paths)):
            require_new(paths)
            imports = _imports(options, settings)
            return Plan(settings, name, paths, (), imports, _lease(options, paths, held))
        resumed = name
    paths = find_sweep(resumed, settings.storage)
    require_idle(paths)
    lease = _lease(options, paths, held)
    if lease:
        fetch(paths)  # what another driver told until it gave the lease back
    history = read_history(paths)
    if history:
        require_same(history, settings)
        require_imports(history, paths)
    return Plan(settings, paths.name, paths, history, lease=lease)


def _lease(options: argparse.Namespace, paths: SweepPaths, held: contextlib.ExitStack) -> Lease | None:
    is_wanted = paths.url and not options.dry_run
    return held.enter_context(Lease(paths)) if is_wanted else None


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
        _say(text)
    return events


def _say(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def run_sweep(plan: Plan, address: str | None, console: Console) -> int:
    """Runs a sweep and returns the exit code.

    Raises:
        UserError: the cluster or the tracking server cannot serve it, or it goes on and its data
            changed; nothing was created or written.
    """
    process_environment.prepare(address)
    from ray import shutdown

    from orchestrator.budget import SweepStopper, tidy_interrupts, used_up
    from orchestrator.cluster import ClusterWatch, await_nodes, connect, describe_gpus, room_asked
    from orchestrator.driver import Driver
    from orchestrator.mlflow_process import MlflowProcess
    from orchestrator.preparation import describe_data, prepare, sentences
    from orchestrator.resources import require_fit

    settings = plan.settings
    console.print(_first_line(plan), highlight=False)
    used_s = SweepRecord.of(settings, plan.history).searched_s
    stopper = SweepStopper(settings.search.time_budget, used_s)
    tell = partial(console.print, highlight=False, markup=False)

    def is_interrupted() -> bool:
        return bool(stopper.reason)

    mlflow = MlflowProcess(settings.tracking.uri, plan.paths.log)
    try:
        mlflow.start()  # it is imported there while Ray starts
        with tidy_interrupts(stopper):
            connect(address)
        # Ray has put handlers of its own in place.
        with tidy_interrupts(stopper), room_asked(settings.resources):
            nodes = await_nodes(settings, tell, is_interrupted)
            require_fit(settings.resources, nodes, may_grow=address is not None)
            shares = {settings.resources.gpus: ("resources", "gpus")}
            if settings.evaluation.points != "none":
                require_fit(settings.evaluation_resources, nodes, "evaluation", "a final evaluation")
                shares.setdefault(settings.evaluation_resources.gpus, ("evaluation", "gpus"))
            for share, setting in shares.items():
                if share:
                    tell(describe_gpus(share, setting, tell, is_interrupted))
            data = prepare(settings, tell, is_interrupted)
            require_same_data(plan.name, plan.history, describe_data(data))
            for sentence in sentences(data):
                tell(sentence)
            if is_interrupted():
                raise KeyboardInterrupt  # nothing has begun
            with (
                contextlib.closing(ClusterWatch(nodes)) as watch,
                Driver(plan, data, mlflow, _live_pages, console) as driver,
            ):
                stopper.start(lambda: used_up(settings.search, driver.record), watch.lost)
                _run(driver, stopper, lambda: watch.nodes)
    finally:
        mlflow.close()
        shutdown()
    driver.tidy()
    driver.print_outcome(address)
    record = driver.record
    lacks = record.num_failed_evaluations or confirms_nothing(record)
    return EXIT_CODES["failed" if driver.status == "completed" and lacks else driver.status]


def _live_pages(paths: SweepPaths) -> Pages:
    """Called in the process that draws them: nobody else needs what they import."""
    from dashboards.live_pages import LivePages

    return LivePages(paths)


def _first_line(plan: Plan) -> str:
    num_trials = plan.settings.num_trials
    if not plan.history:
        return f"sweep {plan.name}: {num_trials} trials, starting Ray"
    record = SweepRecord.of(plan.settings, plan.history)
    num_ended = sum(not trial.is_unfinished for trial in record.trials.values())
    return f"sweep {plan.name}: going on after {num_ended} of {num_trials} trials, starting Ray"


def _run(driver: Driver, stopper: SweepStopper, nodes: Callable[[], Sequence[Node]]) -> None:
    """Searches, confirms and evaluates, and emits what happens, up to `SweepEnded`."""
    from orchestrator import phases
    from orchestrator.admission import Admission

    max_concurrent = Admission(driver.settings.resources, nodes, driver.tell)
    if driver.num_to_run and not stopper.stop_all():
        phases.tuner(driver, stopper, phases.search(driver), max_concurrent).fit()
    used_up = stopper.reason
    if stopper.status == "completed":
        driver.end_search(used_up or f"all {driver.settings.num_trials} trials ended")
        stopper.lift_budgets()
        _confirm(driver, stopper, max_concurrent)
    if stopper.status == "completed":
        _evaluate(driver, stopper, nodes)
    has_points = any(trial.points for trial in driver.record.trials.values())
    if stopper.status != "completed":
        driver.end(stopper.status, stopper.reason)
    elif not has_points or not driver.record.count("completed", "stopped", "interrupted"):
        driver.end("failed", failure_reason(driver.record, used_up))
    else:
        driver.end("completed", used_up or f"all {driver.settings.num_trials} trials ended")


def _confirm(driver: Driver, stopper: SweepStopper, max_concurrent: Callable[[], int]) -> None:
    """Trains the front's configurations under further seeds, but those that already were."""
    from orchestrator import phases

    driver.leave_unwanted()
    left = unconfirmed(driver.record, driver.settings.confirm)
    if left:
        text = f"confirming the front: {len(left)} trials under further seeds"
        driver.tell(text)
        phases.tuner(driver, stopper, phases.confirmation(driver), max_concurrent).fit()


def _evaluate(driver: Driver, stopper: SweepStopper, nodes: Callable[[], Sequence[Node]]) -> None:
    """Evaluates the points that are kept on the test set, but those that already are."""
    from orchestrator.admission import Admission
    from orchestrator.cluster import room_asked
    from orchestrator.final_evaluation import evaluate_points

    record, settings = driver.record, driver.settings
    keys = [key for key in sorted(record.evaluated_points()) if not record.evaluations.get(key)]
    if not keys:
        return
    driver.tell(f"evaluating {len(keys)} point{'s' if len(keys) > 1 else ''} on the test set")
    resources = settings.evaluation_resources
    room = Admission(resources, nodes, driver.tell, "final evaluation")
    with room_asked(resources):
        for event in evaluate_points(keys, driver.paths, settings, room, stopper.stop_all, driver.tell):
            driver.emit(event)


def failure_reason(record: SweepRecord, stopped_because: str) -> str:
    """Why a sweep has nothing to show: its first failed trial, or what stopped it too early."""
    failed = [trial for trial in record.trials.values() if trial.status == "failed"]
    if failed:
        first = min(failed, key=lambda trial: trial.ended or 0.0)
        return f"no trial succeeded; first cause: {first.name}: {first.reason}"
    return "; ".join(["no trial reported anything", *([stopped_because] if stopped_because else [])])


if __name__ == "__main__":
    sys.exit(main())
