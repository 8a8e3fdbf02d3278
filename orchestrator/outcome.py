"""What a sweep prints once it ended: its front, why it ended, and how to open it in MLflow."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from orchestrator.confirmation import unreproduced
from orchestrator.events import SweepStatus
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.terminal import confirmed_as_table, format_duration, front_as_table
from trainables.places import Place, is_url


class Outcome(NamedTuple):
    """A sweep that ended.

    Attributes:
        record: its story.
        status: how it ended.
        paths: its folder.
        storage_error: why the folder could not be written; empty where it could.
        tracking_uri: of the MLflow store.
        num_not_tracked: operations that the store did not take.
        num_undrawn: pages that could not be drawn.
        num_not_copied: events that the ledger's copy lacks, where the storage is a URL.
        is_tidy: whether what is no longer wanted was removed there.
        address: of the cluster that the driver joined; None where Ray was its own.
        is_job: whether the driver is a Ray job, and so not where whoever reads this is.
        page: the address of the front's page on an MLflow server at a host.
    """

    record: SweepRecord
    status: SweepStatus
    paths: SweepPaths
    storage_error: str
    tracking_uri: str
    num_not_tracked: int
    num_undrawn: int
    page: Callable[[str], str]
    num_not_copied: int = 0
    is_tidy: bool = True
    address: str | None = None
    is_job: bool = False


def print_outcome(outcome: Outcome, console: Console) -> None:
    """The front as a table, why the sweep ended, and the command that opens MLflow on it."""
    record = outcome.record
    if record.front:
        console.print(front_as_table(record, record.front.sorted()))
    if confirmed := confirmed_as_table(record):
        console.print("\nthe front under further seeds (front: the probability to be on it then)")
        console.print(confirmed)
    if outcome.storage_error:
        console.print(Text(f"storage: {outcome.storage_error}", style="red"))
    is_failed = outcome.status == "failed"
    console.print(
        Text(_summary(outcome), style="red" if is_failed else ""), highlight=False, soft_wrap=True
    )
    for line in _choices(outcome):
        console.print(Text(line), highlight=False, soft_wrap=True)
    for text in _warnings(outcome):
        console.print(Text(text, style="red"), soft_wrap=True)
    for line in [*_advice(outcome), *_places(outcome)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _summary(outcome: Outcome) -> str:
    record = outcome.record
    counts = ", ".join(
        f"{record.count(status)} {status}"
        for status in ("completed", "stopped", "interrupted", "failed")
        if record.count(status)
    )
    confirming = Counter(trial.status for trial in record.confirming.values())
    confirmed = ", ".join(f"{number} {status}" for status, number in confirming.items())
    took = format_duration(record.active_s)
    reason = record.reason or outcome.storage_error
    num_imported = len(record.front) - len(record.own_front())
    imported = f" ({num_imported} imported)" if num_imported else ""
    return (
        f"{outcome.status} after {took}: {reason}. Trials: {counts or 'none'}; "
        f"front: {len(record.front)} points{imported}, hypervolume {record.front.hypervolume():.4g}"
        + (f"; confirming trials: {confirmed}" if confirmed else "")
    )


def _choices(outcome: Outcome) -> list[str]:
    """What was wanted of the points, and which one the settings name."""
    record = outcome.record
    lines = []
    if record.front.constraints:
        texts = " and ".join(record.front.constraints.texts())
        if not record.front:
            lines.append(f"no point was judged by {texts}")
        elif not record.front.is_feasible:
            lines.append(f"no point holds {texts}; the front shows the one that is nearest to it")
        else:
            lines.append(f"the front holds {texts}")
    if record.front.baseline is not None:
        values = ", ".join(
            f"{n} {record.front.baseline.metrics[n]:.4g}" for n in record.front.objectives
        )
        lines.append(
            f"baseline: {record.front.baseline.trial} epoch {record.front.baseline.epoch}, {values}"
        )
        if record.front.reference is None:
            lines.append("reference_point has no value at the baseline, so there is no hypervolume")
    elif record.front.names_baseline:
        text = "no trial that could be the baseline completed, so what names it was not applied"
        lines.append(text)
    if (point := record.front.picked) is not None:
        values = ", ".join(f"{n} {point.metrics[n]:.4g}" for n in record.front.objectives)
        source = record.trial(point.trial).source
        folder = _relative(outcome.paths.snapshot(point.trial, point.epoch))
        place = f"from {source}" if source else f"in {folder}"
        lines.append(
            f"picked ({record.front.pick}): {point.trial} epoch {point.epoch}, {values}, {place}"
        )
    elif record.front.pick and record.front:
        lines.append(f"picked ({record.front.pick}): no point of the front")
    return lines + _imported_note(record)


def _imported_note(record: SweepRecord) -> list[str]:
    num_imported = len(record.front) - len(record.own_front())
    if not num_imported:
        return []
    return [f"{num_imported} points of the front are imported: they are neither confirmed nor evaluated"]


def _warnings(outcome: Outcome) -> list[str]:
    warnings = [
        f"{trial} failed under every further seed: nothing confirms its points; {outcome.paths.ledger} "
        "says why"
        for trial in unreproduced(outcome.record)
    ]
    num_failed = outcome.record.num_failed_evaluations
    if num_failed:
        warnings.append(f"{num_failed} final evaluations failed; {outcome.paths.ledger} says why")
    if num_left := _num_unevaluated(outcome) - num_failed:
        warnings.append(f"{num_left} points are not evaluated on the test set")
    if outcome.num_not_tracked:
        warnings.append(
            f"MLflow at {outcome.tracking_uri} did not take {outcome.num_not_tracked} operations; "
            f"{outcome.paths.log} says why, {outcome.paths.ledger} holds everything, and "
            f"--resume {outcome.paths.name} sends it"
        )
    if outcome.num_not_copied:
        warnings.append(
            f"{outcome.paths.url} did not take the last {outcome.num_not_copied} events of "
            f"{outcome.paths.ledger}; --resume {outcome.paths.name} on this machine copies them"
        )
    if not outcome.is_tidy:
        warnings.append(
            f"not all that is no longer wanted could be removed from {outcome.paths.url}; "
            f"{outcome.paths.log} says why, --resume {outcome.paths.name} removes it"
        )
    if outcome.num_undrawn:
        warnings.append(f"{outcome.num_undrawn} pages could not be drawn; {outcome.paths.log} says why")
    return warnings


def _num_unevaluated(outcome: Outcome) -> int:
    """Of a sweep whose search is over, whose final evaluation follows."""
    return 0 if outcome.record.search_ended is None else outcome.record.num_unevaluated


def _advice(outcome: Outcome) -> list[str]:
    """How to go on with what is unfinished, or not evaluated."""
    is_unfinished = any(trial.is_unfinished for trial in outcome.record.own_trials)
    if outcome.storage_error or not (is_unfinished or _num_unevaluated(outcome)):
        return []
    if outcome.is_job:
        return [f"go on with it:     python -m orchestrator.submit --resume {outcome.paths.name}"]
    place = shlex.quote(str(_relative(outcome.paths.place)))
    joins = f" --address {shlex.quote(outcome.address)}" if outcome.address else ""
    return [f"go on with it:     {_python()} -m orchestrator.sweep --resume {place}{joins}"]


def _places(outcome: Outcome) -> list[str]:
    uri = outcome.tracking_uri
    folder = f"folder:            {_relative(outcome.paths.place)}"
    if uri.startswith("http"):
        return [f"see it in MLflow: {outcome.page(uri)}", folder]
    return [
        f"see it in MLflow: {_python()} -m mlflow ui --backend-store-uri {shlex.quote(uri)}",
        f"then open          {outcome.page('http://127.0.0.1:5000')}",
        folder,
    ]


def _python() -> str:
    """The interpreter as the user would type it."""
    return str(_relative(Path(sys.executable)))


def _relative(place: Place) -> Place:
    """A path from here where it is below; a URL stays as it is."""
    if is_url(place):
        return place
    path = Path(place)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
