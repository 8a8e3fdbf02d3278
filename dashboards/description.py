"""The front as Markdown, for the description of a sweep's run in MLflow, whose links work there."""

from __future__ import annotations

import html
import re

from dashboards.figures.axes import number
from dashboards.sweep_story import SweepStory
from orchestrator.pages import SWEEP_PAGE, run_place
from orchestrator.trials import Point

MAX_LENGTH = 4500
"""MLflow cuts the value of a tag off at 5,000 characters, or refuses it."""
_ROOM_FOR_MORE = 40
"""What the last line takes."""


def front_description(story: SweepStory, experiment_id: str) -> str:
    """How the sweep stands, and its front, best first objective first, as far as there is room for."""
    record = story.record
    front = record.front
    text = (
        f"**{_markdown(record.status)}**: {record.num_ended} of {story.settings.num_trials} trials "
        f"ended, {len(front)} points on the front. "
        f"The interactive page is the artifact `{SWEEP_PAGE}`.\n"
    )
    if not len(front):
        return text
    text += f"\n{_row(*map(_markdown, front.objectives), 'head', 'trial', 'epoch')}"
    text += "|" + "---:|" * len(front.objectives) + "---|---|---:|\n"
    for place, point in enumerate(front.sorted()):
        row = _point_row(story, point, experiment_id)
        if len(text) + len(row) + _ROOM_FOR_MORE > MAX_LENGTH:
            return f"{text}\nand {len(front) - place} more.\n"
        text += row
    return text


def _point_row(story: SweepStory, point: Point, experiment_id: str) -> str:
    record = story.record
    trial = record.trial(point.trial)
    name = _markdown(trial.source or trial.name)
    run_id = record.run_ids.get(trial.name)
    link = f"[{name}]({run_place(experiment_id, run_id)})" if run_id else name
    star = " (picked)" if point is record.front.picked else ""
    values = [number(point.metrics[objective]) for objective in record.front.objectives]
    return _row(*values, _markdown(str(trial.config["head"]["kind"])), link + star, str(point.epoch))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _markdown(text: str) -> str:
    """The text as itself: neither markup nor HTML, neither a link nor the end of a cell."""
    escaped = re.sub(r"([\\`*_{}\[\]()#+.!~|:])", r"\\\1", " ".join(text.split()))
    return html.escape(escaped, quote=False)
