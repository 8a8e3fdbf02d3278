"""The page of a sweep, with the picture and the table of its front: what is in them, and in which order.

Made by the driver while the sweep runs (`dashboards.live_pages`), from MLflow alone by
`dashboards.report`, and live by `dashboards.serve`.
"""

from __future__ import annotations

from collections.abc import Mapping

from dashboards import sweep_words
from dashboards.figures import (
    front,
    head_kinds,
    hypervolume,
    importance,
    occupation,
    parallel_coordinates,
    stopping,
    trajectories,
)
from dashboards.front_picture import to_png
from dashboards.page import Page, Section, to_html
from dashboards.paper_points import paper_points
from dashboards.paper_tables import read_paper
from dashboards.sweep_story import SweepStory
from dashboards.trial_panel import trial_panel
from orchestrator.front_table import FrontTable, front_table
from orchestrator.pages import SWEEP_PAGE
from orchestrator.settings_text import to_yaml

PICTURE = "pareto_front.png"
FRONT_CSV = "pareto_front.csv"


def render(story: SweepStory, links: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a sweep: name to content.

    Args:
        story: the sweep as it is now.
        links: see `dashboards.page.Page`.
    """
    table = story_table(story)
    drawn = front_info(story, table)
    return {
        SWEEP_PAGE: to_html(_page(story, table, drawn, links)).encode(),
        PICTURE: to_png(drawn),
        FRONT_CSV: table.front.drop(columns=["on_front"]).to_csv(index=False).encode(),
    }


def sweep_page(story: SweepStory, links: Mapping[str, str], state_path: str = "") -> Page:
    """The page alone."""
    table = story_table(story)
    return _page(story, table, front_info(story, table), links)._replace(state_path=state_path)


def story_table(story: SweepStory) -> FrontTable:
    """Every point of the sweep."""
    return front_table(story.name, story.record).with_run_ids(story.record.run_ids)


def front_info(story: SweepStory, table: FrontTable) -> front.FrontInfo:
    """The front as it is drawn."""
    paper = paper_points(read_paper(), story.settings.trial)
    return front.info(table, story.record.front, story.record.baseline, paper)


def _page(
    story: SweepStory, table: FrontTable, drawn: front.FrontInfo, links: Mapping[str, str]
) -> Page:
    sections = [
        *_front(drawn),
        *_figures(story, table),
        _failures(story),
        _resources(story),
        Section("settings", "Settings", sweep_words.settings_html(to_yaml(story.settings))),
    ]
    kept = [s for s in sections if s.html or s.figure is not None]
    return Page(story.name, sweep_words.summary(story, drawn), kept, trial_panel(story), links)


def _front(drawn: front.FrontInfo) -> list[Section]:
    """Figure and table, or a word on why there are none."""
    if not drawn.num_points:
        return [Section("front", "", "<p>No trial has a validated epoch.</p>")]
    caption = (
        "Every validated epoch of every trial; outlined the Pareto front. A click on a point shows its "
        "trial."
    )
    if drawn.view is not None:
        caption += " A double click shows all points, those far from the front too."
    if len(drawn.points) < drawn.num_points:
        caption += (
            f" Drawn are {len(drawn.points):,} of {drawn.num_points:,} points: the whole front, and of "
            "those that would cover each other one."
        )
    return [
        Section("front", "", figure=front.plot(drawn), caption=caption, height=430),
        Section("points", "The front", sweep_words.front_table_html(drawn)),
    ]


def _figures(story: SweepStory, table: FrontTable) -> list[Section]:
    """Those that there is something for."""
    sections = [
        _hypervolume(story),
        _trajectories(table),
        _heads(story, table),
        _parallel(story),
        _importance(story),
        _stopping(story),
    ]
    return [section for section in sections if section is not None]


def _hypervolume(story: SweepStory) -> Section | None:
    if (drawn := hypervolume.info(story)) is None:
        return None
    reference = ", ".join(f"{name} {value:.4g}" for name, value in drawn.reference.items())
    return Section(
        "hypervolume",
        "Hypervolume so far",
        figure=hypervolume.plot(drawn),
        caption=f"Of the front over all epochs, against the reference point {reference}.",
        height=520,
    )


def _trajectories(table: FrontTable) -> Section | None:
    drawn = trajectories.info(table)
    if not drawn.trajectories:
        return None
    return Section(
        "trajectories",
        "Training trajectories",
        figure=trajectories.plot(drawn),
        caption="Each trial's path from epoch to epoch: the front is made of the best places on all. "
        f"Drawn are {len(drawn.trajectories)} of {drawn.num_trials} trials: those on the front, and of "
        "the others what can be told apart; one point makes no path.",
        height=420,
    )


def _heads(story: SweepStory, table: FrontTable) -> Section | None:
    if (drawn := head_kinds.info(table, story.record)) is None:
        return None
    return Section(
        "heads",
        "Head kinds",
        sweep_words.heads_table(drawn),
        head_kinds.plot(drawn),
        "The front that each kind has by itself.",
        height=360,
    )


def _parallel(story: SweepStory) -> Section | None:
    if (drawn := parallel_coordinates.info(story)) is None:
        return None
    return Section(
        "parallel",
        "Parameters and objectives",
        figure=parallel_coordinates.plot(drawn),
        caption="One line a trial, through the point that stands for it (the largest hypervolume by "
        f"itself); drawn are {drawn.num_lines} of {drawn.num_trials} trials. Drag along an axis to "
        "choose some; absent stands for trials without the parameter.",
        height=400,
    )


def _importance(story: SweepStory) -> Section | None:
    title = "Importance of parameters"
    if (drawn := importance.info(story)) is None:
        few = (
            f"<p>Too few trials to tell: it takes {importance.MIN_TRIALS} with the same parameters.</p>"
        )
        return Section("importance", title, few)
    return Section(
        "importance",
        title,
        figure=importance.plot(drawn),
        caption=f"fANOVA over the points that stand for {drawn.num_trials} trials, or "
        f"{importance.MAX_TRIALS} drawn from more; sizes by their logarithm, and parameters that exist "
        "in some trials only among those.",
        height=120 + 46 * len(drawn.parameters),
    )


def _stopping(story: SweepStory) -> Section | None:
    if (drawn := stopping.info(story)) is None:
        return None
    return Section(
        "stopping",
        "What ended trials, and when",
        sweep_words.endings(story),
        stopping.plot(drawn),
        f"The dotted line is the most that a trial is trained, {drawn.max_epochs} epochs; a trial that "
        "ended below it as completed ran out of patience.",
        height=340,
    )


def _failures(story: SweepStory) -> Section:
    return Section("failures", "Failures and warnings", sweep_words.failures(story))


def _resources(story: SweepStory) -> Section:
    occupied = occupation.info(story)
    return Section(
        "resources",
        "Time and resources",
        sweep_words.resources(story, occupied),
        None if occupied is None else occupation.plot(occupied),
        height=260,
    )
