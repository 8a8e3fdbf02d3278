"""python -m dashboards.compare SWEEP_A SWEEP_B: two fronts together, in a picture and in numbers."""

from __future__ import annotations

import argparse
import csv
import html
import io
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dashboards.command_line import add_uri_option, exit_code, write_files
from dashboards.comparison import Comparison, compare
from dashboards.comparison_words import reference_words, verdict
from dashboards.figures import front, two_fronts
from dashboards.page import Page, Section, table, to_html
from dashboards.sweep_page import story_table
from dashboards.sweep_store import SweepStore
from dashboards.sweep_story import SweepStory
from dashboards.tracked_sweep import TrackedSweep
from dashboards.two_fronts_picture import to_png
from orchestrator.errors import UserError

PAGE, PICTURE, TEXT, NUMBERS = "compare.html", "compare.png", "compare.md", "compare.csv"
_DEFAULT_FOLDER = Path("compare")
_ID_LENGTH = 8
_CAPTION = "Strong the fronts, faint the other points of both sweeps."

Stories = tuple[SweepStory, SweepStory]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    return exit_code(lambda: _compare(options))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.compare",
        description="Draws the fronts of two sweeps together, with their hypervolumes in one box, which "
        "share of each the other covers, and what further seeds say of the difference.",
    )
    parser.add_argument("first", metavar="SWEEP_A", help="a sweep's name, or the id of its run")
    parser.add_argument("second", metavar="SWEEP_B", help="another one")
    add_uri_option(parser)
    parser.add_argument("--uri-b", metavar="URI", help="where the second is; as --uri where left out")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=_DEFAULT_FOLDER,
        help="the folder for page, picture and numbers; ./%(default)s",
    )
    return parser.parse_args(arguments)


def _compare(options: argparse.Namespace) -> None:
    stories, labels = _read(options)
    compared = compare(stories, labels)
    write_files(options.out, render(stories, compared))
    console = Console()
    console.print(to_markdown(compared), end="", highlight=False, markup=False, soft_wrap=True)
    console.print(f"\npage: {options.out / PAGE}", highlight=False, markup=False, soft_wrap=True)


def _read(options: argparse.Namespace) -> tuple[Stories, tuple[str, str]]:
    """Both sweeps and what they are called."""
    first = TrackedSweep(SweepStore(options.uri), options.first)
    second = TrackedSweep(SweepStore(options.uri_b or options.uri), options.second)
    parents = (first.parent, second.parent)
    names, ids = [parent.name for parent in parents], [parent.run_id for parent in parents]
    if ids[0] == ids[1]:
        raise UserError(
            f"{options.first} and {options.second} are both the run {ids[0]}; where two sweeps have one "
            "name, give the ids of their runs"
        )
    for tracked in (first, second):
        tracked.refresh()
    if names[0] == names[1]:
        names = [f"{name} ({run_id[:_ID_LENGTH]})" for name, run_id in zip(names, ids, strict=True)]
    return (first.story(), second.story()), (names[0], names[1])


def render(stories: Stories, compared: Comparison) -> dict[str, bytes]:
    """The files of a comparison: name to content."""
    first, second = (front.info(story_table(story), story.record.front) for story in stories)
    drawn = two_fronts.info((first, second), compared.labels)
    return {
        PAGE: to_html(_page(compared, drawn)).encode(),
        PICTURE: to_png(drawn),
        TEXT: to_markdown(compared).encode(),
        NUMBERS: _to_csv(compared).encode(),
    }


def _page(compared: Comparison, drawn: two_fronts.TwoFrontsInfo) -> Page:
    numbers = table(["", *compared.labels], rows(compared), [False, True, True])
    sections = [
        Section("fronts", "", "", two_fronts.plot(drawn), _CAPTION, 430),
        Section("numbers", "In numbers", numbers, caption=reference_words(compared)),
    ]
    if compared.warnings:
        warned = Section("warnings", "Mind this", caption=" ".join(compared.warnings))
        sections.insert(1, warned)
    seeds = f"<p>{html.escape(' '.join(verdict(compared)))}</p>"
    return Page(" and ".join(compared.labels), seeds, sections)


def rows(compared: Comparison) -> list[list[str]]:
    """What is in the table, as people read it: a name and a value for each sweep."""
    lines = [
        ["status", *compared.statuses],
        ["trials that ended", *map(str, compared.num_trials)],
        ["points on the front", *map(str, compared.num_points)],
        *[[f"best {name}", *map(_number, values)] for name, values in compared.best.items()],
        ["hypervolume", *map(_number, compared.hypervolumes)],
        ["front covered by the other's", *map(_percent, compared.coverage)],
    ]
    if any(compared.seed_hypervolumes):
        spreads = [_spread(values) for values in compared.seed_hypervolumes]
        lines.append(["hypervolume under further seeds", *spreads])
    return lines


def to_markdown(compared: Comparison) -> str:
    """The numbers and what they say."""
    head = ["", *compared.labels]
    lines = [_line(head), "|---|---:|---:|", *map(_line, rows(compared)), "", reference_words(compared)]
    said = [*compared.warnings, *verdict(compared)]
    return "\n".join([*lines, *[f"\n{sentence}" for sentence in said]]) + "\n"


def _line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("\\", "\\\\").replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _to_csv(compared: Comparison) -> str:
    """The numbers unrounded, shares as fractions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["quantity", *compared.labels])
    writer.writerow(["num_trials", *compared.num_trials])
    writer.writerow(["num_front_points", *compared.num_points])
    for name, values in compared.best.items():
        writer.writerow([f"best_{name}", *values])
    for name, value in compared.reference.items():
        writer.writerow([f"reference_{name}", value, value])
    writer.writerow(["hypervolume", *compared.hypervolumes])
    writer.writerow(["coverage_by_other", *compared.coverage])
    for place in range(max(map(len, compared.seed_hypervolumes))):
        of_seed = [str(own[place]) if place < len(own) else "" for own in compared.seed_hypervolumes]
        writer.writerow([f"hypervolume_seed_{place + 1}", *of_seed])
    if compared.test is not None:
        writer.writerow(["p", compared.test.p, compared.test.p])
        superiority = compared.test.superiority
        writer.writerow(["superiority", superiority, 1 - superiority])
    return text.getvalue()


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.5g}"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.0%}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.5g} (n = 1)"
    return f"{statistics.fmean(values):.5g} ± {statistics.stdev(values):.2g} (n = {len(values)})"


if __name__ == "__main__":
    sys.exit(main())
