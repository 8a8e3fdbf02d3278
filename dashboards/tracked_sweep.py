"""A sweep in MLflow as its story, which follows the sweep while it runs: only what is new is read again.

For `dashboards.report` and `dashboards.compare`, which read once, and `dashboards.serve`, which asks
every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dashboards.metric_histories import GROUP_ROWS, GROUP_RUNS
from dashboards.sweep_store import SweepStore
from dashboards.sweep_story import SweepStory
from dashboards.tracked_events import (
    Failures,
    in_order,
    moment,
    read_events,
    sweep_events,
    trial_events,
)
from dashboards.tracked_runs import ChildRun, Histories, ParentRun, in_groups
from orchestrator.events import Event, TrialImported, TrialRetried
from orchestrator.mlflow_values import (
    EVALUATION_FAILED,
    FAILURE,
    IMPORTED,
    NUM_RETRIES,
    REPORTED,
    RETRIES,
    evaluation_folder,
)
from orchestrator.settings import SweepSettings
from trainables.reports import METRICS

_EVALUATED = ("metrics.test_d_eff >= 0", f"metrics.{EVALUATION_FAILED} > 0")
"""The trials that may have changed after they ended."""


class TrackedSweep:
    """A sweep as MLflow has it. One thread at a time uses it.

    Args:
        store: where it is.
        sweep: its name, of which the newest is meant, or the id of its run.

    Attributes:
        parent: the sweep's own run, as it was read last.

    Raises:
        UserError: there is no such sweep.
    """

    def __init__(self, store: SweepStore, sweep: str) -> None:
        self.parent: ParentRun = store.parent(sweep)
        self._store = store
        self._settings: SweepSettings | None = None
        self._imported: list[TrialImported] = []
        self._children: dict[str, ChildRun] = {}
        self._sweep_events: list[Event] = []
        self._events: dict[str, list[Event]] = {}
        self._story: SweepStory | None = None
        self._latest = (0, 0)

    def story(self) -> SweepStory:
        """What was read last; `refresh` changes it."""
        assert self._story is not None, "refresh comes first"
        return self._story

    def refresh(self) -> bool:
        """Reads what is new; returns whether the story changed.

        Raises:
            UserError: MLflow does not answer, or the sweep's settings are not there yet. The next call
                reads what this one did not.
        """
        parent = self._store.reread(self.parent)
        if self._settings is not None and parent == self.parent and parent.status != "running":
            return False
        children = self._look(parent)
        settings, imported = self._settings, self._imported
        if settings is None or len(parent.drivers) != len(self.parent.drivers):
            settings = self._store.settings(parent)
            imported = read_events(self._store.text(parent.run_id, IMPORTED) or "", TrialImported)
        changed = [child for child in children if self._children.get(child.run_id) != child]
        events = self._read(changed, settings)
        told = sweep_events(parent, settings, imported)
        fresh = [_news(self._sweep_events, told)]
        fresh += [_news(self._events.get(run_id, []), new) for run_id, new in events.items()]
        self.parent, self._settings, self._imported = parent, settings, imported
        self._children |= {child.run_id: child for child in changed}
        self._sweep_events = told
        self._events |= events
        return self._tell(fresh)

    def _look(self, parent: ParentRun) -> list[ChildRun]:
        """The trials' runs, of those that may have changed: at first and at the end of a driver all."""
        if self._settings is None or parent.status != "running" or parent.drivers != self.parent.drivers:
            return self._store.children(parent)
        latest_end = max((child.ended or 0.0 for child in self._children.values()), default=0.0)
        conditions = ["attributes.status = 'RUNNING'", f"attributes.end_time >= {latest_end * 1000:.0f}"]
        if parent.drivers[-1].search_ended is not None:
            conditions += _EVALUATED
        found: dict[str, ChildRun] = {}
        for condition in conditions:
            found |= {child.run_id: child for child in self._store.children(parent, condition)}
        open_before = {child.run_id for child in self._children.values() if child.is_open}
        return [*found.values(), *map(self._store.child, sorted(open_before - found.keys()))]

    def _read(self, changed: Sequence[ChildRun], settings: SweepSettings) -> dict[str, list[Event]]:
        """Run id to events of the trials that changed, in the order of proposal; a group's metrics are
        in memory at a time.
        """
        children = {c.run_id: c for c in sorted(changed, key=lambda c: (c.proposed, c.trial))}
        lengths = {run_id: child.num_epochs for run_id, child in children.items()}
        read: dict[str, list[Event]] = {}
        for run_ids in in_groups(lengths, GROUP_RUNS, GROUP_ROWS):
            group = [children[run_id] for run_id in run_ids]
            histories = self._store.histories(run_ids, _names(child.latest for child in group))
            for child in group:
                read[child.run_id] = self._trial_events(child, settings, histories[child.run_id])
        return read

    def _trial_events(
        self, child: ChildRun, settings: SweepSettings, histories: Histories
    ) -> list[Event]:
        details = ""
        if child.tags.get("status") == "failed":
            details = self._store.text(child.run_id, FAILURE) or ""
        failures, retries = self._failures(child, histories), []
        if NUM_RETRIES in child.tags:
            retries = read_events(self._store.text(child.run_id, RETRIES) or "", TrialRetried)
        return trial_events(child, settings, histories, details, failures, retries)

    def _failures(self, child: ChildRun, histories: Histories) -> Failures:
        found = {}
        for epoch in histories.get(EVALUATION_FAILED, {}):
            text = self._store.text(child.run_id, f"{evaluation_folder(epoch)}/{FAILURE}")
            if text is not None:
                reason, _, details = text.partition("\n\n")
                found[epoch] = (reason, details)
        return found

    def _tell(self, fresh: Sequence[list[Event] | None]) -> bool:
        """Goes on with the story, or begins it anew where what is new came before what is told."""
        new = in_order(event for events in fresh for event in events or ())
        if None in fresh or self._story is None or (new and moment(new[0]) < self._latest):
            events = in_order([*self._sweep_events, *[e for own in self._events.values() for e in own]])
            self._story = SweepStory(events)
            self._latest = moment(events[-1])
            return True
        for event in new:
            self._story.apply(event)
        self._latest = moment(new[-1]) if new else self._latest
        return bool(new)


def _news(before: list[Event], now: list[Event]) -> list[Event] | None:
    """What came after; None where something of before has changed."""
    return now[len(before) :] if now[: len(before)] == before else None


def _names(latest: Iterable[Mapping[str, float | None]]) -> list[str]:
    """The metrics that some run has, the one that makes a report first: it is read first."""
    present = {name for metrics in latest for name in metrics}
    names = [name for name in METRICS if name in present] + sorted(present - METRICS.keys())
    return sorted(names, key=lambda name: name != REPORTED)
