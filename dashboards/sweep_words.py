"""The words, numbers and tables of a sweep's page: HTML in which what came from outside is escaped."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from dashboards.figures.axes import is_missing, number
from dashboards.figures.front import BESIDE, FrontInfo
from dashboards.figures.front_texts import has_source
from dashboards.figures.head_kinds import HeadKindsInfo
from dashboards.figures.occupation import OccupationInfo
from dashboards.figures.style import STATUS_COLOURS
from dashboards.page import table
from dashboards.sweep_story import SweepStory
from orchestrator.confirmation import repeats
from orchestrator.events import TrialRetried
from orchestrator.front_table import FRONT_PROBABILITY, NUM_SEEDS
from orchestrator.record import SweepRecord
from orchestrator.terminal import format_duration
from orchestrator.trials import Trial

_MAX_NAMED = 8


def summary(story: SweepStory, drawn: FrontInfo) -> str:
    """How the sweep stands, in numbers and in one or two sentences."""
    record = story.record
    counts = {
        status: record.count(status)
        for status in ("completed", "stopped", "running", "pending", "interrupted", "failed")
    }
    trials = ", ".join(f"{n} {status}" for status, n in counts.items() if n) or "none yet"
    numbers = [
        (str(len(record.front)), "points on the front"),
        (f"{drawn.num_points:,}", "validated epochs"),
        (f"{record.num_ended} of {story.settings.num_trials}", "trials ended"),
        (f"{record.num_epochs:,}", "epochs of the search"),
        (format_duration(record.active_until(story.latest)), "working time"),
    ]
    if record.front.has_hypervolume:
        numbers.insert(1, (number(record.front.hypervolume()), "hypervolume"))
    figures = "".join(f"<div><b>{html.escape(n)}</b><span>{what}</span></div>" for n, what in numbers)
    reason = f": {html.escape(record.reason)}" if record.reason else ""
    if record.status == "running":
        reason = datetime.fromtimestamp(story.latest, UTC).strftime("; last news %Y-%m-%d %H:%M:%S UTC")
    colour = STATUS_COLOURS[record.status]
    note = f"<p>{html.escape(drawn.note)}</p>" if drawn.note else ""
    return (
        f'<p><span class="badge" style="color:{colour}">{record.status}</span>{reason}</p>'
        f'<div class="figures">{figures}</div>'
        f'<p class="soft">Trials: {html.escape(trials)}.{_confirming(story)}</p>{note}'
    )


def _confirming(story: SweepStory) -> str:
    """How far the confirmation of the front is, which follows the search."""
    trials = list(story.record.confirming.values())
    if not trials:
        return ""
    wanted = max(len(trials), len(repeats(story.record, story.settings.confirm)))
    ended = sum(trial.is_ended for trial in trials)
    return f" The front under further seeds: {ended} of {wanted} trials ended."


def front_table_html(drawn: FrontInfo) -> str:
    """The front in its order along x, each point a button that shows its trial."""
    rows = drawn.front.to_dict("records")
    columns = {
        **{metric: metric for metric in drawn.objectives},
        BESIDE: "against the baseline",
        "kind": "head",
        "epoch": "epoch",
        NUM_SEEDS: "further seeds",
        **{f"{metric}_spread": f"{metric} under them" for metric in drawn.objectives},
        FRONT_PROBABILITY: "probability on the front",
        **{f"test_{metric}": f"{metric} (test)" for metric in drawn.objectives},
        **({"source": "from"} if any(map(has_source, rows)) else {}),
        "run_id": "run id",
    }
    present = {
        column: name
        for column, name in columns.items()
        if column in drawn.front and not all(is_missing(row[column]) for row in rows)
    }
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("point", *present.values()))
    body = "".join(
        f'<tr data-trial="{html.escape(str(row["trial"]))}" data-epoch="{row["epoch"]}">'
        f"<td>{point_button(str(row['trial']), int(row['epoch']), is_picked=row['is_picked'])}</td>"
        + "".join(_cell(column, row[column]) for column in present)
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def point_button(trial: str, epoch: int | None = None, *, is_picked: bool = False) -> str:
    """A button that shows a trial."""
    at = "" if epoch is None else f' data-epoch="{epoch}"'
    star = " ★" if is_picked else ""
    name = html.escape(trial)
    return f'<button type="button" class="point" data-trial="{name}"{at}>{name}</button>{star}'


def _cell(column: str, value: object) -> str:
    if is_missing(value):
        return "<td></td>"
    text = f"{value:.0%}" if column == FRONT_PROBABILITY else html.escape(number(value))
    if column == "run_id":
        return f"<td><code>{text}</code></td>"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f'<td class="number">{text}</td>' if is_number else f"<td>{text}</td>"


def heads_table(drawn: HeadKindsInfo) -> str:
    """What each head kind reached."""
    y, x = drawn.y.metric, drawn.x.metric
    head = ["head", "trials", "points on the front", f"best {y}", f"{x} there", "own hypervolume"]
    rows = [
        [
            kind.kind,
            str(kind.num_trials),
            str(kind.num_on_front),
            number(kind.best),
            number(kind.x_at_best),
            "" if kind.hypervolume is None else number(kind.hypervolume),
        ]
        for kind in drawn.kinds
    ]
    return table(head, rows, [False, True, True, True, True, True])


def failures(story: SweepStory) -> str:
    """Why trials failed, the most frequent reason first; then what was wrong in trials that went on."""
    failed: dict[str, list[Trial]] = {}
    for trial in story.record.own_trials:
        if trial.status == "failed":
            failed.setdefault(trial.reason or "no reason known", []).append(trial)
    parts = [
        f"<h3>{_counted(len(trials), 'trial')}: {html.escape(reason)}</h3>"
        f"<p>{_named([trial.name for trial in trials])}</p>{_traceback(trials[0])}"
        for reason, trials in sorted(failed.items(), key=lambda item: -len(item[1]))
    ]
    parts += [
        f"<h3>final evaluation of {html.escape(trial)}, epoch {epoch}: {html.escape(reason)}</h3>"
        for (trial, epoch), reason in sorted(story.failed_evaluations.items())
    ]
    retried: dict[str, list[TrialRetried]] = {}
    for retry in story.retries:
        retried.setdefault(retry.reason, []).append(retry)
    parts += [
        f"<h3>{_counted(len(retries), 'attempt')} that another one followed: {html.escape(reason)}</h3>"
        f"<p>{_named([retry.trial for retry in retries])}</p>"
        for reason, retries in sorted(retried.items(), key=lambda item: -len(item[1]))
    ]
    warned: dict[str, list[str]] = {}
    for name, warning in story.warnings.items():
        warned.setdefault(warning, []).append(name)
    parts += [
        f"<h3>warning: {html.escape(warning)}</h3><p>{_named(names)}</p>"
        for warning, names in warned.items()
    ]
    return "".join(parts)


def _traceback(trial: Trial) -> str:
    if not trial.details:
        return ""
    return (
        f"<details><summary>traceback of {html.escape(trial.name)}</summary>"
        f"<pre>{html.escape(trial.details)}</pre></details>"
    )


def _named(trials: Sequence[str]) -> str:
    more = len(trials) - _MAX_NAMED
    named = ", ".join(point_button(trial) for trial in trials[:_MAX_NAMED])
    return named + (f" and {more} more" if more > 0 else "")


def endings(story: SweepStory) -> str:
    """How trials ended, and after how many epochs, as a table; empty before the first did."""
    trials = [trial for trial in story.record.trials.values() if trial.is_ended]
    if not trials:
        return ""
    found = Counter(trial.status for trial in trials)
    epochs: Counter[str] = Counter()
    for trial in trials:
        epochs[trial.status] += trial.last_epoch
    rows = [
        [status, str(count), f"{epochs[status] / count:.1f}", f"{epochs[status]:,}"]
        for status, count in found.most_common()
    ]
    names = ["ended as", "trials", "mean epochs", "epochs together"]
    return table(names, rows, [False, True, True, True])


def resources(story: SweepStory, occupation: OccupationInfo | None) -> str:
    """Where the time went, and what the sweep ran on."""
    parts = [_times(story.record)]
    if occupation is not None:
        parts.append(
            f"<p>Up to {_counted(occupation.most, 'trial')} at the same time; their slots were in use "
            f"{occupation.busy_share:.0%} of the time from the first start to the last end, "
            f"{format_duration(60 * occupation.slot_minutes)} together.</p>"
        )
    worker = story.settings.resources
    parts.append(
        f'<p class="soft">Each trial: {_counted(worker.workers or 1, "worker")} of '
        f"{_counted(worker.cpus, 'CPU core')} and {_counted(worker.gpus, 'GPU')}.</p>"
    )
    facts = [[name, value] for name, value in sorted(story.environment.items())]
    environment = table(["what", "value"], facts)
    parts.append(f"<details><summary>versions, commit, hardware</summary>{environment}</details>")
    return "".join(parts)


def _times(record: SweepRecord) -> str:
    """What the trials of each head kind took, those that confirm included, as a table."""
    trained: dict[str, list[Trial]] = {}
    for trial in record.own_trials:
        if trial.last_epoch:
            trained.setdefault(str(trial.config["head"]["kind"]), []).append(trial)
    rows = []
    for kind, trials in sorted(trained.items()):
        epochs = sum(trial.last_epoch for trial in trials)
        seconds = sum(trial.training_time_s for trial in trials)
        per_epoch = f"{seconds / epochs:.3g}"
        rows.append([kind, str(len(trials)), f"{epochs:,}", format_duration(seconds), per_epoch])
    names = ["head", "trials", "epochs", "training and validation", "seconds an epoch"]
    return table(names, rows, [False, True, True, True, True]) if rows else ""


def _counted(number_of: float, what: str) -> str:
    return f"{number_of:g} {what}{'' if number_of == 1 else 's'}"


def settings_html(yaml_text: str) -> str:
    """The sweep's file, folded."""
    text = html.escape(yaml_text)
    return f"<details><summary>the sweep's settings, resolved</summary><pre>{text}</pre></details>"
