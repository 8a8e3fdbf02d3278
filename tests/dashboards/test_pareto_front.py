from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.image import imread

from dashboards.front_info import FrontInfo, info
from dashboards.front_page import plot, to_html
from dashboards.front_picture import to_png
from dashboards.pareto_front import render
from orchestrator.front_table import FrontTable
from trainables.reports import Direction

ROOT = Path(__file__).parents[2]
OBJECTIVES: dict[str, Direction] = {"knn_accuracy": "max", "d_eff": "min"}
HOSTILE = '</script><script>hostile()</script><img src="http://evil.example/x" onerror="hostile()">'


def row(trial: str, accuracy: float, d_eff: float, on_front: bool, **more: Any) -> dict[str, Any]:
    flags = {"on_front": on_front, "is_picked": False, "is_feasible": True}
    values = {"trial": trial, "epoch": 5, **flags, "status": "completed"}
    return {**values, "knn_accuracy": accuracy, "d_eff": d_eff, "param.head.kind": "mlp", **more}


def table(*rows: dict[str, Any], title: str = "digits", objectives: Any = OBJECTIVES) -> FrontTable:
    flags = ["on_front", "is_picked", "is_feasible"]
    columns = ["trial", "epoch", *flags, "status", "knn_accuracy", "d_eff"]
    points = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    return FrontTable(title, objectives, points.astype(dict.fromkeys(flags, bool)))


THREE = table(
    row("trial-0002", 0.95, 40.0, True, **{"param.head.kind": "none"}),
    row("trial-0000", 0.90, 10.0, True),
    row("trial-0001", 0.60, 3.0, True),
    row("trial-0003", 0.50, 30.0, False),
)


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text of its table's cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_cell = tag == "td"
        if self._in_cell:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def pages() -> dict[str, bytes]:
    return render(THREE.with_run_ids({f"trial-000{number}": f"id-{number}" for number in range(4)}))


@pytest.fixture(scope="module")
def page(pages: dict[str, bytes]) -> Page:
    return Page(pages["pareto_front.html"].decode())


def test_a_sweep_has_three_files(pages: dict[str, bytes]) -> None:
    assert sorted(pages) == ["pareto_front.csv", "pareto_front.html", "pareto_front.png"]


def test_the_page_loads_nothing_from_elsewhere(page: Page) -> None:
    loads = [(tag, a) for tag, a in page.tags if {"src", "href", "srcset", "data"} & a.keys()]
    assert loads == []
    assert [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "img")] == []
    assert ("meta", {"charset": "utf-8"}) in page.tags


def test_the_page_brings_its_own_plotly(pages: dict[str, bytes], page: Page) -> None:
    assert sum(tag == "script" for tag, _ in page.tags) >= 2
    assert len(pages["pareto_front.html"]) > 1_000_000
    assert b"Plotly.newPlot(" in pages["pareto_front.html"]


def test_the_pages_table_is_the_front_in_order_along_d_eff(page: Page) -> None:
    rows = [page.cells[start : start + 6] for start in range(0, len(page.cells), 6)]
    assert rows == [
        ["0.6", "3", "mlp", "trial-0001", "5", "id-1"],
        ["0.9", "10", "mlp", "trial-0000", "5", "id-0"],
        ["0.95", "40", "none", "trial-0002", "5", "id-2"],
    ]


def test_the_csv_is_the_front(pages: dict[str, bytes]) -> None:
    read = pd.read_csv(io.BytesIO(pages["pareto_front.csv"]), keep_default_na=False)
    front = THREE.front.drop(columns="on_front").assign(run_id=["id-2", "id-0", "id-1"])
    pd.testing.assert_frame_equal(read, front.reset_index(drop=True))


def test_the_picture_is_a_png_of_some_size(pages: dict[str, bytes]) -> None:
    assert pages["pareto_front.png"].startswith(b"\x89PNG\r\n\x1a\n")
    picture = imread(io.BytesIO(pages["pareto_front.png"]))
    assert picture.shape[0] > 400 and picture.shape[1] > 800
    assert len(set(picture.reshape(-1, picture.shape[2])[:, 0].tolist())) > 10


def test_the_x_axis_of_d_eff_is_logarithmic_with_readable_ticks() -> None:
    axis = json.loads(str(plot(info(THREE)).to_json()))["layout"]["xaxis"]
    assert axis["type"] == "log"
    assert axis["tickvals"] == [2, 5, 10, 20, 50]
    assert axis["ticktext"] == ["2", "5", "10", "20", "50"]


def test_other_axes_are_linear() -> None:
    drawn = info(table(row("t", 0.9, 3.0, True), objectives={"d_eff": "min", "knn_accuracy": "max"}))
    assert (drawn.x.metric, drawn.x.logarithmic) == ("knn_accuracy", False)
    assert "type" not in json.loads(str(plot(drawn).to_json()))["layout"]["xaxis"]


def test_the_fronts_line_is_in_order_along_x() -> None:
    front = json.loads(str(plot(info(THREE)).to_json()))["data"][-2]
    drawn = info(THREE).front
    assert drawn["d_eff"].tolist() == [3.0, 10.0, 40.0]
    assert drawn["knn_accuracy"].tolist() == [0.6, 0.9, 0.95]
    assert (front["name"], front["line"]["shape"]) == ("front", "hv")


def test_where_x_is_maximised_a_value_holds_to_the_left() -> None:
    drawn = info(table(row("t", 0.9, 3.0, True), objectives={"d_eff": "min", "knn_accuracy": "max"}))
    assert json.loads(str(plot(drawn).to_json()))["data"][-2]["line"]["shape"] == "vh"


def test_every_point_is_drawn_by_its_head() -> None:
    *clouds, front, _legend = json.loads(str(plot(info(THREE)).to_json()))["data"]
    assert [(cloud["name"], len(cloud["hovertext"])) for cloud in clouds] == [("mlp", 1)]
    assert len(front["hovertext"]) == 3
    assert front["marker"]["color"][-1] != clouds[0]["marker"]["color"]


SPEARMAN: dict[str, Direction] = {"spearman": "max", "d_eff": "min"}


def pairs(trial: str, spearman: float, d_eff: float, on_front: bool, **more: Any) -> dict[str, Any]:
    """A point of a sweep over pairs of sentences: without an accuracy."""
    values = {**row(trial, 0.0, d_eff, on_front), "spearman": spearman, **more}
    del values["knn_accuracy"]
    return values


@pytest.mark.parametrize(
    ("scored_on", "label"),
    [("STSb", "STSb Spearman (validation)"), ("", "Spearman (validation)")],
)
def test_a_correlation_is_called_after_its_pairs(scored_on: str, label: str) -> None:
    points = table(pairs("t", 0.84, 90.0, True), objectives=SPEARMAN)
    drawn = info(replace(points, scored_on=scored_on))
    assert (drawn.y.label, drawn.y.logarithmic) == (label, False)
    text = to_html(drawn)
    assert label in text and "accuracy" not in _texts(plot(drawn))
    assert Page(text).cells == ["0.84", "90", "mlp", "t", "5"]
    assert drawn.points["hover"].tolist()[0].split("<br>")[1:3] == ["spearman = 0.84", "d_eff = 90"]


def _texts(figure: Any) -> str:
    """The traces and axes, without Plotly's templates."""
    found = json.loads(str(figure.to_json()))
    return json.dumps([found["data"], found["layout"]["xaxis"], found["layout"]["yaxis"]])


def test_accuracies_are_not_called_after_pairs() -> None:
    assert info(replace(THREE, scored_on="STSb")).y.label == "5-NN accuracy (validation)"


@pytest.mark.parametrize(
    ("values", "told"), [((0.8203, 0.8203), "is 0.8203;"), ((0.8203, 0.79), "is 0.79 to 0.8203;")]
)
def test_the_untouched_encoder_is_told_and_not_drawn(values: tuple[float, float], told: str) -> None:
    rows = [
        pairs(f"t{n}", 0.84 - n, 90.0 - n, True, test_untouched_spearman=v)
        for n, v in enumerate((*values, math.nan))
    ]
    drawn = info(table(*rows, objectives=SPEARMAN))
    assert drawn.note.startswith(
        f"The untouched encoder's Spearman correlation on the test pairs {told}"
    )
    bare = table(
        *(pairs(r["trial"], r["spearman"], r["d_eff"], True) for r in rows), objectives=SPEARMAN
    )
    assert info(bare).note == "" and to_png(drawn) == to_png(info(bare))


def test_where_points_coincide_the_fronts_tells_its_name() -> None:
    tied = table(row("trial-0000", 0.9, 3.0, True), row("trial-0001", 0.9, 3.0, False))
    front, _legend = json.loads(str(plot(info(tied)).to_json()))["data"]
    assert [text.split(",")[0] for text in front["hovertext"]] == ["<b>trial-0000</b>"]


def test_a_point_tells_its_configuration_without_what_does_not_exist() -> None:
    values = {"param.head.depth": float("nan"), "param.temperature": 0.123456, "param.seed": None}
    (hover,) = info(table(row("trial-0000", 0.9, 3.0, True, **values))).points["hover"]
    assert hover.split("<br>") == [
        "<b>trial-0000</b>, epoch 5",
        "knn_accuracy = 0.9",
        "d_eff = 3",
        "head.kind = mlp",
        "temperature = 0.1235",
    ]


def test_hostile_names_stay_text() -> None:
    hostile = row(HOSTILE, 0.9, 3.0, True, **{"param.head.kind": HOSTILE, f"param.{HOSTILE}": HOSTILE})
    drawn = info(table({**hostile, "run_id": HOSTILE}, title=HOSTILE))
    text = to_html(drawn)
    page = Page(text)
    assert [tag for tag, _ in Page(str(drawn.points["hover"].tolist()[0])).tags] == [
        "b",
        "br",
        "br",
        "br",
        "br",
        "br",
    ]
    assert "<script>hostile" not in text
    assert [attributes for tag, attributes in page.tags if tag == "img" or "onerror" in attributes] == []
    assert page.cells.count(HOSTILE) == 3


def test_a_hostile_metric_stays_text() -> None:
    objectives: dict[str, Direction] = {HOSTILE: "max", "d_eff": "min"}
    text = to_html(info(table(row("t", 0.9, 3.0, True, **{HOSTILE: 1.0}), objectives=objectives)))
    assert "<script>hostile" not in text
    assert [tag for tag, _ in Page(text).tags if tag == "img"] == []


def test_a_sweep_without_points_has_its_pages() -> None:
    empty = render(table())
    assert b"0 points on the front, of 0 validated epochs of 0 trials" in empty["pareto_front.html"]
    assert empty["pareto_front.png"].startswith(b"\x89PNG")
    assert empty["pareto_front.csv"].decode().splitlines() == [
        "trial,epoch,is_picked,is_feasible,status,knn_accuracy,d_eff"
    ]


def test_one_objective_is_drawn_over_epochs() -> None:
    rows = [row("t", 0.5, 3.0, False, epoch=1), row("t", 0.9, 3.0, True, epoch=7)]
    drawn = info(table(*rows, objectives={"knn_accuracy": "max"}))
    assert (drawn.x.metric, drawn.y.metric) == ("epoch", "knn_accuracy")
    assert drawn.front["epoch"].tolist() == [7]
    assert Page(to_html(drawn)).cells == ["0.9", "7", "mlp", "t"]
    assert to_png(drawn).startswith(b"\x89PNG")


def test_without_a_head_parameter_all_points_are_of_one_kind() -> None:
    rows = row("t", 0.9, 3.0, True)
    del rows["param.head.kind"]
    drawn: FrontInfo = info(table(rows))
    assert drawn.points["kind"].tolist() == ["trial"]
    assert to_png(drawn).startswith(b"\x89PNG")


@pytest.mark.slow
def test_importing_the_page_loads_neither_ray_nor_torch() -> None:
    heavy = ("ray", "torch", "optuna", "mlflow")
    code = (
        f"import sys, dashboards.pareto_front; print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]"


def test_constraints_and_the_picked_point_are_named() -> None:
    points = table(
        row("trial-0002", 0.95, 40.0, True, is_picked=True),
        row("trial-0003", 0.5, 3.0, False, is_feasible=False),
    )
    drawn = info(replace(points, constraints=("knn_accuracy >= 0.9",), pick="knee"))
    assert drawn.note == (
        "1 of 2 points hold knn_accuracy >= 0.9. Hollow points break them. "
        "Picked by knee: trial-0002, epoch 5."
    )
    assert list(drawn.picked["trial"]) == ["trial-0002"]
    assert [("breaks" in text) for text in drawn.points["hover"]] == [False, True]
    assert "knn_accuracy &gt;= 0.9" in to_html(drawn)
    traces = plot(drawn).to_dict()["data"]
    markers = [trace["marker"] for trace in traces if trace["name"] == "front"]
    assert markers[0]["symbol"] == ["star"]
    assert traces[0]["marker"]["symbol"] == ["circle-open"]


def test_a_front_that_breaks_the_constraints_says_so() -> None:
    points = table(row("trial-0003", 0.5, 3.0, True, is_feasible=False))
    drawn = info(replace(points, constraints=("knn_accuracy >= 0.9",), pick="knee"))
    assert drawn.note.endswith("Shown as the front is the one that is nearest to it.")


def test_an_imported_point_says_where_it_is_from() -> None:
    own = row("trial-0000", 0.9, 3.0, True, source="")
    other = row("import-0000", 0.8, 2.0, True, source="<earlier>/trial-0007")
    drawn = info(table(own, other))
    hovers = dict(zip(drawn.points["trial"], drawn.points["hover"], strict=True))
    assert hovers["import-0000"].split("<br>")[-1] == "from &lt;earlier&gt;/trial-0007"
    assert "from" not in hovers["trial-0000"]
    picked = replace(table(own, {**other, "is_picked": True}), pick="knee")
    assert info(picked).note == "Picked by knee: import-0000 from <earlier>/trial-0007, epoch 5."
    assert "<earlier>/trial-0007" in Page(to_html(drawn)).cells
    assert "<th>from</th>" not in to_html(info(table(own)))


def confirmed(accuracy: float, d_eff: float, seeds: int | None = 2, **more: float) -> dict[str, Any]:
    values = {"knn_accuracy_mean": accuracy, "d_eff_mean": d_eff, "num_seeds": seeds}
    return {"knn_accuracy_std": 0.02, "d_eff_std": 1.5, "front_probability": 0.75, **values, **more}


CONFIRMED = table(
    row("trial-0000", 0.95, 10.0, True, **confirmed(0.90, 11.0)),
    row("trial-0001", 0.60, 3.0, True, **confirmed(0.50, 4.0, 1, knn_accuracy_std=math.nan)),
    row("trial-0002", 0.50, 2.0, True),
    row("trial-0003", 0.40, 30.0, False),
)


CONFIRMED.points["num_seeds"] = CONFIRMED.points["num_seeds"].astype("Int64")  # as the table has them


def test_means_and_deviations_under_further_seeds_are_drawn() -> None:
    drawn = info(CONFIRMED).confirmed
    assert drawn[["x", "y", "x_std", "y_std"]].to_numpy().tolist() == [
        [4.0, 0.50, 1.5, 0.0],
        [11.0, 0.90, 1.5, 0.02],
    ]
    *_, trace, _front, _legend = json.loads(str(plot(info(CONFIRMED)).to_json()))["data"]
    assert trace["name"] == "mean under further seeds"
    assert (trace["error_x"]["array"], trace["error_y"]["array"]) == ([1.5, 1.5], [0.0, 0.02])
    assert to_png(info(CONFIRMED)) != to_png(info(THREE))


def test_a_confirmed_point_tells_what_its_seeds_say() -> None:
    hovers = dict(zip(info(CONFIRMED).points["trial"], info(CONFIRMED).points["hover"], strict=True))
    assert hovers["trial-0000"].split("<br>")[3:6] == [
        "knn_accuracy under 2 further seeds: 0.9 ± 0.02",
        "d_eff under 2 further seeds: 11 ± 1.5",
        "probability to be on the front then: 75%",
    ]
    assert "knn_accuracy under 1 further seeds: 0.5<br>" in hovers["trial-0001"]
    assert "further seeds" not in hovers["trial-0002"]


def test_the_pages_table_has_what_is_confirmed() -> None:
    cells = Page(to_html(info(CONFIRMED))).cells
    rows = [cells[start : start + 9] for start in range(0, len(cells), 9)]
    assert rows == [
        ["0.5", "2", "mlp", "trial-0002", "5", "", "", "", ""],
        ["0.6", "3", "mlp", "trial-0001", "5", "1", "0.5", "4 ± 1.5", "0.75"],
        ["0.95", "10", "mlp", "trial-0000", "5", "2", "0.9 ± 0.02", "11 ± 1.5", "0.75"],
    ]


def test_what_is_not_confirmed_has_no_bars() -> None:
    assert len(info(THREE).confirmed) == 0
    assert "further seeds" not in to_html(info(THREE))


def test_one_confirmed_objective_has_bars_along_it_alone() -> None:
    rows = row("t", 0.9, 3.0, True, epoch=7, knn_accuracy_mean=0.8, knn_accuracy_std=0.1, num_seeds=2)
    drawn = info(table({**rows, "front_probability": 1.0}, objectives={"knn_accuracy": "max"}))
    assert drawn.confirmed[["x", "y", "x_std", "y_std"]].to_numpy().tolist() == [[7.0, 0.8, 0.0, 0.1]]
