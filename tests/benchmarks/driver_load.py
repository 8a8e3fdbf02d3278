"""A load for the driver of a sweep: everything that it does for a report, a proposal and an end.

A sweep of 10,000 trials that report ten times each, 1,000 at a time where nothing else is said. All of
the driver is real: ledger, record, study, early stopping, retention, the queue to MLflow and its
database. Only Ray is replaced, by a loop that calls what Tune calls, in Tune's order, and the trainings,
by a formula.
"""

from __future__ import annotations

import gc
import json
import math
import multiprocessing
import os
import random
import resource
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import psutil
from rich.console import Console

from dashboards.live_pages import LivePages
from orchestrator.ask_and_tell import Known, Told
from orchestrator.budget import SweepStopper, used_up
from orchestrator.driver import Driver
from orchestrator.early_stopping import EarlyStopping
from orchestrator.events import Event, TrialReported
from orchestrator.ledger import encode
from orchestrator.mlflow_process import MlflowProcess
from orchestrator.paths import SweepPaths
from orchestrator.proposals import Proposals
from orchestrator.proposals_process import ProposalsProcess
from orchestrator.record import SweepRecord
from orchestrator.resume import Plan, read_history
from orchestrator.retention import OwnFront
from orchestrator.retries import RetryQueue
from orchestrator.search import TrialSearcher, searched_trials
from orchestrator.settings import SweepSettings, load_settings
from orchestrator.told import known_trials
from orchestrator.tune_events import TuneEvents
from orchestrator.watchdog import Watchdog
from trainables.ray_train import CONFIG_KEY, NAME_KEY, REPORT_KEY
from trainables.reports import METRICS, TRAINING_METRICS, EpochReport

P = ParamSpec("P")
T = TypeVar("T")

SPACE = Path(__file__).parents[2] / "search_spaces" / "cifar100.yaml"
NUM_TRIALS, NUM_CONCURRENT, NUM_REPORTS, EVERY = 10_000, 1_000, 10, 5
NUM_TOLD, NUM_ASKED = 1_000, 20
LOOK_EVERY_S = 0.002
"""Between two looks for a proposal: what a report takes."""
WINDOW = 1_000
"""Ended trials between two looks at the clock and the memory."""
FLOOR_EVERY = 50
"""Reports between two looks at what a line in a file and its fsync take by themselves."""
LOOP_LIMIT_S, _DRAIN_S = 240.0, 20.0


class Load(NamedTuple):
    """What the driver is put under.

    Attributes:
        trials: in all.
        mlflow: whether it works; else it is held still, and the queue takes all.
        evaluated: `evaluation.points`.
        resumes: whether the sweep is taken up again afterwards.
        concurrent: trials at a time.
    """

    trials: int = NUM_TRIALS
    mlflow: bool = True
    evaluated: str = "front"
    resumes: bool = False
    concurrent: int = NUM_CONCURRENT


class Window(NamedTuple):
    """A stretch of the loop.

    Attributes:
        trials: that have ended so far.
        reports: in the stretch.
        driver_s: of the stretch, in the driver's calls.
        cpu_s: of these, on a CPU.
        floor_s: mean of a report's line and its fsync alone.
        slowest_s: the longest of the driver's calls.
        rss_mib: at its end.
        waiting: operations in MLflow's queue at its end.
    """

    trials: int
    reports: int
    driver_s: float
    cpu_s: float
    floor_s: float
    slowest_s: float
    rss_mib: float
    waiting: int


class Cost(NamedTuple):
    """What a load cost.

    Attributes:
        windows: in order.
        shares_s: seconds in each part of the driver.
        drained_per_s: operations that MLflow took afterwards, undisturbed.
        resume_s: seconds of each part of taking the sweep up again.
        front: points on it.
        start_mib: memory when the driver was open.
        peak_mib: the most that it ever was, up to the last trial's end.
        line_bytes: of a report in the ledger.
    """

    windows: list[Window]
    shares_s: dict[str, float]
    drained_per_s: float
    resume_s: dict[str, float]
    front: int
    start_mib: float
    peak_mib: float
    line_bytes: int


class Ask(NamedTuple):
    """What a proposal costs.

    Attributes:
        took_s: from the question to the answer.
        blocked_s: of these, in the calls of the driver's loop that ask and fetch, and in one between.
        longest_s: the longest call.
    """

    took_s: float
    blocked_s: float
    longest_s: float


def num_reports(windows: Sequence[Window]) -> int:
    return sum(w.reports for w in windows)


def reports_per_s(windows: Sequence[Window]) -> float:
    return num_reports(windows) / sum(w.driver_s for w in windows)


class Clock:
    """Adds up the seconds of named parts of the driver."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.slowest_s = 0.0

    def timed(self, part: str, function: Callable[P, T]) -> Callable[P, T]:
        """The function, with its seconds added up under the name of its part."""

        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - started

        return call

    @contextmanager
    def call_of_tune(self) -> Iterator[None]:
        started, cpu = time.perf_counter(), time.thread_time()
        yield
        self.seconds["CPU"] += time.thread_time() - cpu
        took = time.perf_counter() - started
        self.seconds["all"] += took
        self.slowest_s = max(self.slowest_s, took)


class Training:
    """A trial as Tune knows it, whose validations come from a formula instead of a training.

    Accuracy grows with the epochs and with d_eff, and both depend on the configuration, so that the
    front comes to some tens of points.
    """

    def __init__(self, config: dict[str, Any], seed: int) -> None:
        self.config = config
        self.last_result = {"done": True}
        self.error_file = None
        self.num_reports = 0
        self._random = random.Random(seed)
        trial = config[CONFIG_KEY]
        quality = math.exp(-0.2 * math.log(trial["temperature"] / 0.1) ** 2)
        quality *= math.exp(-0.1 * math.log(trial["optimizer"]["head_lr"] / 3e-4) ** 2)
        size = {"none": 90.0, "mlp": 40.0, "monotonic": 15.0}[trial["head"]["kind"]]
        self._d_eff = max(2.0, size * math.exp(self._random.gauss(0.0, 0.5)))
        self._accuracy = 0.75 * quality * (1 - math.exp(-self._d_eff / 12))

    def report(self) -> EpochReport:
        """The next validation's."""
        self.num_reports += 1
        draw, share = self._random, self.num_reports / NUM_REPORTS
        epoch = self.num_reports * EVERY
        accuracy = min(1.0, self._accuracy * (1 - 0.5 * math.exp(-3 * share)) + draw.gauss(0, 0.005))
        metrics = {name: draw.random() for name in METRICS}
        metrics["knn_accuracy"] = accuracy
        metrics["d_eff"] = float(round(self._d_eff * (2 - share)))
        training = {
            e: {name: draw.random() for name in TRAINING_METRICS} for e in range(epoch - EVERY, epoch)
        }
        return EpochReport(epoch, metrics, {e + 1: values for e, values in training.items()})


def settings_of(folder: Path, load: Load, sampler: str = "random") -> SweepSettings:
    """`search_spaces/cifar100.yaml` with early stopping, everything written below a folder."""
    return load_settings(
        SPACE,
        [
            f"search.sampler={sampler}",
            f"search.trials={load.trials}",
            f"trial.epochs={NUM_REPORTS * EVERY}",
            f"trial.validate_every={EVERY}",
            f"evaluation.points={load.evaluated}",
            "early_stopping.kind=pareto",
            "early_stopping.grace_epochs=15",
            "early_stopping.stratify_by=head.kind",
            f"tracking.uri=sqlite:///{folder}/mlflow.db",
            f"storage={folder}/runs",
        ],
    )


def measure(load: Load) -> Cost:
    """Puts a driver under a load, in this process."""
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name), load)


def _measure(folder: Path, load: Load) -> Cost:
    settings = settings_of(folder, load)
    paths = SweepPaths.of(settings.storage, "sweep")
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere)
        mlflow = MlflowProcess(settings.tracking.uri, paths.log)
        driver = Driver(Plan(settings, "sweep", paths), [], mlflow, LivePages, console)
        gate = threading.Event()
        if not load.mlflow:
            vars(driver.tracker.runs)["create_child"] = lambda trial, at: gate.wait()
        start_mib = _rss_mib()
        clock = Clock()
        windows = _Loop(driver, load, clock).run()
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        waiting = driver.tracker.num_waiting
        time.sleep(_DRAIN_S if load.mlflow else 0)
        drained = waiting - driver.tracker.num_waiting
        driver.close(0)
        gate.set()
        return Cost(
            windows=windows,
            shares_s=dict(clock.seconds),
            drained_per_s=drained / _DRAIN_S,
            resume_s=_resume(settings, paths, console) if load.resumes else {},
            front=len(driver.record.front),
            start_mib=start_mib,
            peak_mib=peak_mib,
            line_bytes=len(_line_of_a_report()),
        )


class _Loop:
    """What Tune's loop does with a driver, up to the last trial's end or the limit of time.

    Between its calls it does the workers' part: draws the next validation, writes its snapshot.
    """

    def __init__(self, driver: Driver, load: Load, clock: Clock) -> None:
        self._driver, self._load, self._clock = driver, load, clock
        _time_parts(driver, clock)
        settings, record = driver.settings, driver.record
        self._stopper = SweepStopper(None)
        self._stopper.start(lambda: used_up(settings.search, record))
        early_stopping = EarlyStopping(driver.stopping, record)
        self._callback = TuneEvents(
            driver.emit,
            record,
            self._stopper,
            early_stopping.reasons,
            RetryQueue(),
            settings.max_retries,
            Watchdog(settings.trial_timeout),
        )
        trials = searched_trials(settings, record, driver.proposals.ask, driver.emit)
        self._searcher = TrialSearcher(trials, lambda: load.concurrent, RetryQueue())
        self._decide = clock.timed("early stopping", early_stopping.on_trial_result)
        self._make_rule = OwnFront(settings.objectives)
        self._floor = _Floor(driver.paths.root / "floor")
        self._live: list[tuple[Any, Callable[[EpochReport], bool]]] = []
        self._windows: list[Window] = []
        self._num_reports = 0
        self._before = 0.0, 0.0

    def run(self) -> list[Window]:
        draw = random.Random(0)
        num_proposed, num_ended = int(self._start(0)), 0
        self._clock.slowest_s = 0.0  # the first proposal waits for the study's process to be ready
        begun = time.perf_counter()
        while num_ended < self._load.trials and time.perf_counter() - begun < LOOP_LIMIT_S:
            has_room = num_proposed < self._load.trials and len(self._live) < self._load.concurrent
            if has_room and self._start(num_proposed):
                num_proposed += 1
                continue
            place = draw.randrange(len(self._live))
            trial, is_wanted = self._live[place]
            self._report(trial, is_wanted)
            if trial.num_reports == NUM_REPORTS:
                self._live[place] = self._live[-1]
                self._live.pop()
                with self._clock.call_of_tune():
                    self._callback.on_trial_complete(0, [], trial)
                num_ended += 1
                if num_ended % WINDOW == 0:
                    self._look(num_ended)
        if self._num_reports >= FLOOR_EVERY:  # the limit of time came first
            self._look(num_ended)
        return self._windows

    def _start(self, number: int) -> bool:
        """Starts the next trial, unless it is not there yet."""
        with self._clock.call_of_tune():
            config = self._searcher.suggest("")
        if config is None:
            return False
        trial: Any = Training(config, number)
        self._live.append((trial, self._make_rule()))
        with self._clock.call_of_tune():
            self._callback.on_trial_start(0, [], trial)
        return True

    def _report(self, trial: Any, is_wanted: Callable[[EpochReport], bool]) -> None:
        report: EpochReport = trial.report()
        if is_wanted(report):
            _write_snapshot(Path(self._driver.paths.snapshot(trial.config[NAME_KEY], report.epoch)))
        result = {REPORT_KEY: json.dumps(report.to_dict())}
        with self._clock.call_of_tune():
            self._stopper.stop_all()
            self._decide(None, trial, result)  # not obeyed, so that every trial reports as often
            self._callback.on_trial_result(0, [], trial, result)
        self._num_reports += 1
        if self._num_reports % FLOOR_EVERY == 0:
            self._floor.write()

    def _look(self, num_ended: int) -> None:
        driver_s, cpu_s = self._clock.seconds["all"], self._clock.seconds["CPU"]
        self._windows.append(
            Window(
                trials=num_ended,
                reports=self._num_reports,
                driver_s=driver_s - self._before[0],
                cpu_s=cpu_s - self._before[1],
                floor_s=self._floor.mean_s(),
                slowest_s=self._clock.slowest_s,
                rss_mib=_rss_mib(),
                waiting=self._driver.tracker.num_waiting,
            )
        )
        self._before = driver_s, cpu_s
        self._num_reports, self._clock.slowest_s = 0, 0.0


class _Floor:
    """The least that "on disk before anyone acts on it" takes: a line in a file, and its fsync."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self._line = _line_of_a_report()
        self._took_s: list[float] = []

    def write(self) -> None:
        started = time.perf_counter()
        self._file.write(self._line)
        os.fsync(self._file.fileno())
        self._took_s.append(time.perf_counter() - started)

    def mean_s(self) -> float:
        """Since the last time."""
        took_s, self._took_s = self._took_s, []
        return sum(took_s) / len(took_s)


def _line_of_a_report() -> bytes:
    config = {CONFIG_KEY: load_settings(SPACE).trial.model_dump()}
    report = json.loads(json.dumps(Training(config, 0).report().to_dict()))
    return encode(TrialReported("trial-0000", report, time.time()))


def _time_parts(driver: Any, clock: Clock) -> None:
    driver.ledger.append = clock.timed("ledger", driver.ledger.append)
    driver.record.apply = clock.timed("record", driver.record.apply)
    driver.proposals.ask = clock.timed("ask", driver.proposals.ask)
    driver.listeners = [clock.timed(_name(each), each) for each in driver.listeners]


def _name(listener: object) -> str:
    words = {"ProposalListener": "tell", "Tracker": "queue to MLflow", "Progress": "terminal"}
    return words.get(type(listener).__name__, type(listener).__name__.lower())


def _write_snapshot(folder: Path) -> None:
    """What a worker leaves; small, since a worker's time is not the driver's."""
    folder.mkdir(parents=True)
    for name in ("weights.safetensors", "embeddings.safetensors", "snapshot.json"):
        (folder / name).write_bytes(b"x")


def _resume(settings: SweepSettings, paths: SweepPaths, console: Console) -> dict[str, float]:
    """Seconds of each part of what a new driver does before its first trial, and of all of it."""
    took: dict[str, float] = {}

    @contextmanager
    def timed(part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        took[part] = time.perf_counter() - started

    with timed("ledger"):
        history: list[Event] = read_history(paths)
    with timed("record"):
        record = SweepRecord.of(settings, history)
    with timed("study"):
        Proposals(settings, known_trials(settings, history))
    del record
    with timed("driver"):
        mlflow = MlflowProcess(settings.tracking.uri, paths.log)
        driver = Driver(Plan(settings, "sweep", paths, history), [], mlflow, LivePages, console)
    driver.close(0)
    return took


def ask(sampler: str, num_asked: int = NUM_ASKED) -> Ask:
    """A sampler's proposals with `NUM_TOLD` trials told, while the loop looks as often as it reports."""
    space = load_settings(SPACE).search_space
    flat = {name: parameter for name, parameter in space.items() if not parameter.when}
    settings = settings_of(Path(os.devnull), Load(), "random").model_copy(
        update={"search_space": flat if sampler == "gp" else space}
    )
    random_ones = Proposals(settings)
    draw = random.Random(0)
    history = []
    for _ in range(NUM_TOLD):
        _, values, state = random_ones.ask()
        history.append(Known(values, state, _draw_told(draw)))
    search = settings.search.model_copy(update={"sampler": sampler})
    settings = settings.model_copy(update={"search": search})
    proposals = ProposalsProcess(settings, history, (), Path(os.devnull))
    try:
        _ask(proposals, draw)  # the process starts, and the study is built
        asked = [_ask(proposals, draw) for _ in range(num_asked)]
    finally:
        proposals.close()
    return Ask(*(statistics.median(times) for times in zip(*asked, strict=True)))


def _ask(proposals: ProposalsProcess, draw: random.Random) -> Ask:
    """One proposal, which is told of at once."""
    begun, blocked = time.perf_counter(), []
    proposal = None
    while proposal is None:
        started = time.perf_counter()
        proposal = proposals.ask()
        blocked.append(time.perf_counter() - started)
        time.sleep(0 if proposal else LOOK_EVERY_S)
    took = time.perf_counter() - begun
    proposals.tell(proposal.number, _draw_told(draw))
    looks = blocked[1:-1]
    look_s = sum(looks) / len(looks) if looks else 0.0
    return Ask(took, blocked[0] + look_s + blocked[-1], max(blocked))


def _draw_told(draw: random.Random) -> Told:
    return Told([draw.random(), float(draw.randrange(2, 100))])


def _rss_mib() -> float:
    gc.collect()
    return psutil.Process().memory_info().rss / 2**20


def in_own_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls a function where nothing else has taken memory."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="One load, window by window.")
    parser.add_argument("trials", type=int)
    parser.add_argument("--held", action="store_true", help="MLflow held still")
    parser.add_argument("--evaluated", default="front")
    parser.add_argument("--concurrent", type=int, default=NUM_CONCURRENT)
    parser.add_argument("--ask", nargs="*", default=[], metavar="SAMPLER", help="proposals besides")
    options = parser.parse_args()
    load = Load(options.trials, not options.held, options.evaluated, True, options.concurrent)
    cost = measure(load)
    for window in cost.windows:
        print(f"{reports_per_s([window]):.0f}/s", window)
    print(dict(sorted(cost.shares_s.items(), key=lambda part: -part[1])))
    print(cost._replace(windows=[], shares_s={}))
    print(f"a report: {1e3 / reports_per_s(cost.windows):.2f} ms")
    for name in options.ask:
        print(name, in_own_process(ask, name, 3 if name == "gp" else NUM_ASKED))
