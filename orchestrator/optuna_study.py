"""A sweep as an Optuna study, which Optuna's dashboard and plots can read: what `orchestrator.export`
writes. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.ask_and_tell import Told
from orchestrator.events import Event, TrialImported, TrialProposed
from orchestrator.proposals import DIRECTIONS, distribution
from orchestrator.record import SweepRecord
from orchestrator.settings import SweepSettings
from orchestrator.told import told
from orchestrator.trials import Trial


class StudyDescription(NamedTuple):
    """All that an Optuna study holds.

    Attributes:
        name: the sweep's.
        directions: one an objective.
        metric_names: of the objectives.
        user_attrs: how the sweep stands.
        trials: one a trial, in the order of their numbers; then those imported from earlier sweeps.
    """

    name: str
    directions: list[StudyDirection]
    metric_names: list[str]
    user_attrs: dict[str, Any]
    trials: list[FrozenTrial]


def describe(name: str, settings: SweepSettings, history: Sequence[Event]) -> StudyDescription:
    """The study of a sweep as its events so far tell it; the sweep may be running, or have been killed.

    Args:
        name: the sweep's.
        settings: the sweep's.
        history: its events.
    """
    record = SweepRecord.of(settings, history)
    known_since = {e.trial: e.time for e in history if isinstance(e, (TrialProposed, TrialImported))}
    trials = [*record.trials.values(), *record.imported.values()]
    picked = record.front.picked
    user_attrs: dict[str, Any] = {"status": record.status, "reason": record.reason}
    if record.front.reference is not None:
        user_attrs["hypervolume"] = record.front.hypervolume()
        user_attrs["hypervolume reference"] = record.front.reference
    if picked is not None:
        user_attrs[f"picked ({record.front.pick})"] = f"{picked.trial}, epoch {picked.epoch}"
    return StudyDescription(
        name,
        [DIRECTIONS[direction] for direction in settings.objectives.values()],
        list(settings.objectives),
        user_attrs,
        [
            _frozen(number, trial, record, settings, known_since[trial.name])
            for number, trial in enumerate(trials)
        ],
    )


def _frozen(
    number: int, trial: Trial, record: SweepRecord, settings: SweepSettings, known_since: float
) -> FrozenTrial:
    now = told(trial, record)
    state = _state(trial, now)
    started, ended = trial.started or known_since, trial.ended
    # Optuna takes values by epoch from a study of one objective only.
    has_steps = len(record.front.objectives) == 1
    frozen = FrozenTrial(
        number=number,
        trial_id=number,
        state=state,
        value=None,
        values=now.values if now and state.is_finished() else None,
        datetime_start=datetime.fromtimestamp(started),
        datetime_complete=datetime.fromtimestamp(ended or started) if state.is_finished() else None,
        params=dict(trial.parameters),
        distributions={n: distribution(settings.search_space[n]) for n in trial.parameters},
        user_attrs=_user_attrs(trial, record),
        system_attrs={},
        intermediate_values=_by_epoch(trial, next(iter(record.front.objectives))) if has_steps else {},
    )
    if now and state.is_finished():
        for constraint, excess in now.excesses.items():
            frozen.set_constraint(constraint, excess)
    frozen._validate()
    return frozen


def _state(trial: Trial, now: Told | None) -> TrialState:
    """An ended trial without values gave nothing; one that did not train to its end is a pruned one."""
    if not trial.is_ended:
        return TrialState.RUNNING
    if now is None:
        return TrialState.FAIL
    was_cut_short = trial.status in ("stopped", "interrupted")
    return TrialState.PRUNED if was_cut_short else TrialState.COMPLETE


def _user_attrs(trial: Trial, record: SweepRecord) -> dict[str, Any]:
    """What Optuna has no place for; without what there is nothing of."""
    representative = record.front.representative(trial)
    front = sorted(point.epoch for point in record.front if point.trial == trial.name)
    curves = {
        f"{name} by epoch": {str(epoch): value for epoch, value in _by_epoch(trial, name).items()}
        for name in record.front.objectives
    }
    attrs = {
        "trial": trial.name,
        "source": trial.source,
        "status": trial.status,
        "reason": trial.reason,
        "seed": trial.config["seed"],
        "epoch": representative.epoch if representative else "",
        "front epochs": ", ".join(map(str, front)),
        "MLflow run": record.run_ids.get(trial.name, ""),
        **(curves if len(record.front.objectives) > 1 else {}),
    }
    return {name: value for name, value in attrs.items() if value not in ("", {})}


def _by_epoch(trial: Trial, metric: str) -> dict[int, float]:
    return {point.epoch: point.metrics[metric] for point in trial.points}
