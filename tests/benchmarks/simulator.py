"""A search on a virtual clock: slots train recorded curves side by side, and what proposes, stops and
keeps record is the product's own.

Asynchronous as the product is: a slot whose trial ends asks for the next at once, and the answer knows
what was told until then. The budget is in epochs; what is under way when it is spent is cut off.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.events import Event, TrialEnded, TrialProposed, TrialReported, TrialStarted
from orchestrator.front import Front
from orchestrator.pareto import Values, hypervolume_history, minimised
from orchestrator.proposals import Proposals
from orchestrator.record import SweepRecord
from orchestrator.search import ProposalListener, trial_name
from orchestrator.search_space import Value
from orchestrator.settings import EarlyStoppingSettings, SearchSettings, SweepSettings
from orchestrator.stopping_rule import StoppingRule
from tests.benchmarks.problems import Curve, Problem

NUM_SLOTS = 4


class Arm(NamedTuple):
    """A way to search.

    Attributes:
        stopping: of `early_stopping`, without the rungs, which are a problem's.
    """

    name: str
    sampler: str
    stopping: Mapping[str, Any] = {"kind": "none"}


class Search(NamedTuple):
    """A search that was simulated.

    Attributes:
        hypervolumes: after each epoch spent, as a share of the best, of all points so far.
        last_hypervolumes: the same of last epochs alone, as a share of theirs.
        times: the virtual time, in s, of each epoch's end.
        num_epochs: of each trial, in order of number.
        statuses: of each trial.
    """

    hypervolumes: Values
    last_hypervolumes: Values
    times: Values
    num_epochs: NDArray[np.int64]
    statuses: list[str]


def settings_of(problem: Problem, arm: Arm, seed: int) -> SweepSettings:
    """A problem's settings with an arm's sampler and rule: rungs at 1/9 and 1/3 of a training."""
    rule: dict[str, Any] = {"grace_epochs": max(problem.num_epochs // 9, 1), "reduction_factor": 3.0}
    if problem.stratify_by is not None:
        rule["stratify_by"] = problem.stratify_by
    given = problem.settings
    search = {**given.search.model_dump(exclude={"time_budget"}), "sampler": arm.sampler, "seed": seed}
    stopping = {**given.early_stopping.model_dump(), **rule, **arm.stopping}
    update = {
        "search": SearchSettings.model_validate(search),
        "early_stopping": EarlyStoppingSettings.model_validate(stopping),
    }
    return given.model_copy(update=update)


def simulate(problem: Problem, arm: Arm, seed: int, budget: int, num_slots: int = NUM_SLOTS) -> Search:
    """One search of `budget` epochs."""
    return _Simulation(problem, settings_of(problem, arm, seed)).run(budget, num_slots)


class _Running(NamedTuple):
    """A trial in its slot; the first to end its epoch comes first, of several the oldest.

    Attributes:
        time: when its epoch ends.
        epoch: that it is in, from 1.
    """

    time: float
    number: int
    epoch: int
    curve: Curve


class _Simulation:
    def __init__(self, problem: Problem, settings: SweepSettings) -> None:
        self._problem = problem
        self._lookup = problem.lookup()
        self._proposals = Proposals(settings)
        self._rule = StoppingRule(settings)
        self._record = SweepRecord(Front(settings.objectives, problem.reference))
        self._listener = ProposalListener(self._proposals)
        self._config = settings.trial.model_dump() | {"epochs": problem.num_epochs}
        self._slots: list[_Running] = []

    def run(self, budget: int, num_slots: int) -> Search:
        times: list[float] = []
        hypervolumes: list[float] = []
        front, volume = self._record.front.points, 0.0
        for _ in range(num_slots):
            self._start_trial(0.0)
        for _ in range(budget):
            running = heapq.heappop(self._slots)
            times.append(running.time)
            self._end_epoch(running)
            if self._record.front.points is not front:
                front = self._record.front.points
                volume = self._problem.score([point.values for point in front])
            hypervolumes.append(volume)
        trials = sorted(self._record.trials.values(), key=lambda trial: trial.number)
        return Search(
            np.array(hypervolumes),
            self._of_last_epochs(times),
            np.array(times),
            np.array([trial.last_epoch for trial in trials]),
            [trial.status for trial in trials],
        )

    def _start_trial(self, time: float) -> None:
        number, values, state = self._proposals.ask()
        name = trial_name(number)
        config = _with_values(self._config, values)
        self._emit(TrialProposed(name, number, values, config, time, state))
        self._emit(TrialStarted(name, time))
        curve = self._lookup(values)
        self._begin_epoch(_Running(time, number, 0, curve))

    def _begin_epoch(self, last: _Running) -> None:
        """Puts the trial's next epoch into its slot; one that diverges takes as long as the last did."""
        times = last.curve.epoch_time_s
        duration = times[min(last.epoch, len(times) - 1)] if times else 1.0
        heapq.heappush(self._slots, last._replace(time=last.time + duration, epoch=last.epoch + 1))

    def _end_epoch(self, running: _Running) -> None:
        name, time, epoch = trial_name(running.number), running.time, running.epoch
        if epoch > len(running.curve.metrics):
            self._end_trial(TrialEnded(name, "failed", "training diverged", time))
            return
        metrics = running.curve.metrics[epoch - 1]
        report = {"epoch": epoch, "metrics": metrics, "training": {}}
        reason = self._rule.observe(name, report, self._record)
        self._emit(TrialReported(name, report, time))
        if reason is not None:
            self._end_trial(TrialEnded(name, "stopped", reason, time))
        elif epoch == self._problem.num_epochs:
            self._end_trial(TrialEnded(name, "completed", "", time))
        else:
            self._begin_epoch(running)

    def _end_trial(self, event: TrialEnded) -> None:
        self._emit(event)
        self._start_trial(event.time)

    def _emit(self, event: Event) -> None:
        self._record.apply(event)
        self._listener(event, self._record)

    def _of_last_epochs(self, times: list[float]) -> Values:
        """The share of the best, after each epoch spent, of the trials trained to their end by then."""
        ended = [t for t in self._record.trials.values() if t.status == "completed"]
        ended.sort(key=lambda trial: (trial.ended or 0.0, trial.number))
        points = [minimised(trial.points[-1].metrics, self._record.front.objectives) for trial in ended]
        scored_from = minimised(self._problem.scored_from, self._record.front.objectives)
        volumes = [0.0, *hypervolume_history(points, scored_from)]
        num_ended = np.searchsorted([trial.ended or 0.0 for trial in ended], times, side="right")
        return np.array(volumes)[num_ended] / self._problem.best_last


def _with_values(config: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """The configuration with dotted values put in their places, for what strata are told apart by."""
    data: dict[str, Any] = dict(config)
    for name, value in values.items():
        group, _, last = name.rpartition(".")
        if group:
            data[group] = {**data[group], last: value}
        else:
            data[name] = value
    return data
