from __future__ import annotations

import io
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from rich.console import Console
from tracked_sweeps import TEST_METRICS, TRUNCATED, TrackedTrial, make_store, params, track, uri

from dashboards.head_results import HeadResult, shown_configurations
from dashboards.paper_tables import TableInfo, TablesInfo, info, read_paper
from dashboards.sweep_results import Configuration, SelectedPoint, SweepRun, TrialRun
from dashboards.table_formats import render, show, to_csv, to_html, to_markdown
from dashboards.tables import main
from orchestrator.errors import UserError
from trainables.evaluation import TRUNCATIONS

PAPER = read_paper()
HOSTILE = "<script>hostile()</script>|`x`"
FILES = ["table_1a.csv", "table_2.csv", "table_3.csv", "tables.html", "tables.md"]


def trial(number: int, head: str = "none", seed: int = 42, **settings: Any) -> TrialRun:
    name = f"trial-{number:04d}"
    return TrialRun(name, f"id-{number}", "completed", params(head, seed, **settings), True)


def point(of: TrialRun, accuracy: float = 0.775, d_eff: float = 120.0, **more: Any) -> SelectedPoint:
    values = {**TEST_METRICS, "knn_accuracy": accuracy, "d_eff": d_eff}
    made = SelectedPoint(of, 5, None, {"knn_accuracy": accuracy + 0.01}, values, TRUNCATED)
    return replace(made, **more)


def result(points: Sequence[SelectedPoint], others: Sequence[TrialRun] = ()) -> HeadResult:
    trials = tuple(sorted([p.trial for p in points] + list(others), key=lambda t: t.name))
    return HeadResult(Configuration(trials[0].settings, trials), tuple(points))


def sweep(trials: Sequence[TrialRun], **more: Any) -> SweepRun:
    started = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return SweepRun("mine", "parent", more.pop("status", "completed"), started, tuple(trials), **more)


def drawn(*results: HeadResult, others: Sequence[TrialRun] = (), **more: Any) -> TablesInfo:
    trials = [t for r in results for t in r.configuration.trials]
    by_head = {r.configuration.head: r for r in results}
    return info(sweep([*trials, *others], **more), by_head, PAPER)


def table(of: TablesInfo, key: str) -> TableInfo:
    return next(t for t in of.tables if t.key == key)


def row(of: TableInfo, *labels: str) -> tuple[str, ...]:
    rows = [row for section in of.sections for row in section]
    return next(row[len(labels) :] for row in rows if row[: len(labels)] == labels)


def notes(of: TablesInfo, word: str) -> list[str]:
    return [note for t in (*of.tables, of) for note in t.notes if word in note]


def three_heads(*seeds: int, **settings: Any) -> list[HeadResult]:
    heads = ("none", "mlp", "monotonic")
    return [
        result([point(trial(3 * n + k, head, seed, **settings)) for n, seed in enumerate(seeds)])
        for k, head in enumerate(heads)
    ]


def test_cells_are_mean_and_sample_deviation_over_seeds() -> None:
    accuracies, sizes = (0.70, 0.72, 0.77), (10.0, 11.0, 15.0)
    points = [
        point(trial(n, seed=n), a, d) for n, (a, d) in enumerate(zip(accuracies, sizes, strict=True))
    ]
    one = table(drawn(result(points)), "table_1a")
    # Deviations -3, -1, 4 and -2, -1, 3: their squares' sum, halved, is 13 and 7.
    assert row(one, "5-NN accuracy, %")[0] == f"73.00 ± {13**0.5:.2f}"
    assert row(one, "the same on validation, %")[0] == f"74.00 ± {13**0.5:.2f}"
    assert row(one, "d_eff")[0] == f"12.0 ± {7**0.5:.1f}"
    assert row(one, "seeds")[0] == "3"


def test_one_seed_has_its_value_and_no_spread() -> None:
    one = table(drawn(result([point(trial(0))])), "table_1a")
    assert row(one, "5-NN accuracy, %")[0] == "77.50"
    assert row(one, "d_eff")[0] == "120"
    assert row(one, "reconstruction error, 10^-3")[0] == "6.40"


def test_the_papers_value_stands_beside_ours() -> None:
    two = table(drawn(*three_heads(42)), "table_2")
    printed = PAPER["table_2"]["cifar100"]
    assert two.heads == ("none", "mlp", "monotonic") and two.has_paper
    expected = [f"{printed[head]['knn_accuracy']:.2f}" for head in two.heads]
    assert list(row(two, "5-NN accuracy, %")[1::2]) == expected
    assert list(row(two, "d_eff")[1::2]) == [str(printed[head]["d_eff"]) for head in two.heads]
    assert row(two, "the same on validation, %")[1::2] == ("-", "-", "-")
    assert row(two, "seeds")[1::2] == ("1", "1", "1")


def test_table_1a_is_the_baseline_and_the_monotonic_head() -> None:
    assert table(drawn(*three_heads(42)), "table_1a").heads == ("none", "monotonic")


def cut(head: str, metric: str) -> str:
    """The paper's value at 16 components, as it prints it."""
    return f"{PAPER['table_3']['cifar100'][16][head][metric]:.2f}"


def test_table_3_has_a_section_for_each_size_and_the_papers_recall_at_the_dot() -> None:
    three = table(drawn(*three_heads(42)), "table_3")
    sizes = [section[0][0] for section in three.sections]
    assert sizes == [str(size) for size in TRUNCATIONS]
    assert row(three, "16", "Recall@1, dot, %")[:2] == ("47.00", cut("none", "recall_at_1"))
    assert row(three, "16", "Recall@1, cosine, %")[:2] == ("76.00", "-")
    assert row(three, "16", "Recall@1, Euclidean, %")[:2] == ("75.00", "-")
    assert row(three, "16", "reconstr. error, 10^-3")[0] == "16.00"
    assert row(three, "8", "5-NN accuracy, %")[:2] == ("77.00", "-")


def test_a_seed_without_its_truncation_is_told_and_not_counted() -> None:
    points = [point(trial(0)), point(trial(1, seed=43), truncation=None), point(trial(2, seed=44))]
    page = drawn(result(points))
    assert row(table(page, "table_3"), "64", "5-NN accuracy, %")[0] == "77.00 ± 0.00 (n=2)"
    assert notes(page, "truncation.parquet") == ["MLflow has no truncation.parquet of none trial-0001."]


def test_sizes_above_the_embedding_are_told() -> None:
    narrow = TRUNCATED.loc[TRUNCATED["components"] <= 16]
    page = drawn(result([point(trial(0), truncation=narrow)]))
    assert [section[0][0] for section in table(page, "table_3").sections] == ["16", "8"]
    assert notes(page, "No rows") == ["No rows for 128, 64 components: the embeddings have no more."]


def test_the_papers_own_setting_is_called_so() -> None:
    page = drawn(*three_heads(42, 43, device="cuda", compile=True))
    assert notes(page, "settings that act") and not notes(page, "orientation only")
    assert not any("not the paper's setting" in t.title for t in page.tables)


def test_a_sweep_from_before_there_were_sentences_has_the_same_page() -> None:
    newer = ("bucketing", "encoder_dim", "data.scored_pairs", "data.max_length", "data.image_size")
    old = {n: v for n, v in params().items() if n not in (*newer, "data.distinct_sentences")}
    assert set(newer) <= params().keys()
    page = drawn(result([point(replace(trial(0), params=old))]))
    assert page == drawn(result([point(trial(0))]))
    assert notes(page, "settings that act")


def test_a_subset_is_no_reproduction() -> None:
    subset: dict[str, Any] = {"data__num_classes": 20, "data__num_training_items": 5000}
    page = drawn(*three_heads(42, **subset, encoder="resnet8", encoder_weights="none", epochs=20))
    assert all(t.title.endswith("(not the paper's setting, see the notes)") for t in page.tables)
    (note,) = notes(page, "orientation only")
    for part in (
        "only the first 20 of 100 classes",
        "only the first 5000 training images",
        "encoder resnet8 (paper: resnet34)",
        "encoder_weights none (paper: imagenet)",
        "epochs 20 (paper: 200)",
    ):
        assert part in note
    assert notes(page, "started from random weights") and notes(page, "training images in use")


def test_a_difference_of_one_head_is_told_of_that_head() -> None:
    page = drawn(result([point(trial(0))]), result([point(trial(1, "mlp", head__depth=2))]))
    assert notes(page, "orientation only")[0].endswith(": head.depth 2 (paper: 1) for mlp.")
    assert [t.key for t in page.tables if "not the paper's setting" in t.title] == ["table_2", "table_3"]


def test_what_has_no_effect_without_a_head_is_no_difference() -> None:
    assert not notes(drawn(result([point(trial(0, warmup__epochs=3))])), "orientation only")


def test_all_classes_named_are_all_classes() -> None:
    assert notes(drawn(result([point(trial(0, data__num_classes=100))])), "all classes")


def digits(number: int, head: str) -> HeadResult:
    settings: dict[str, Any] = {
        "preset": None,
        "dataset": "digits",
        "encoder": "digits_cnn",
        "encoder_weights": "none",
    }
    return result([point(trial(number, head, augmentation="none", **settings))])


def test_digits_have_no_columns_of_the_paper() -> None:
    page = drawn(digits(0, "none"), digits(1, "monotonic"))
    assert [t.has_paper for t in page.tables] == [False, False, False]
    assert row(table(page, "table_1a"), "5-NN accuracy, %") == ("77.50", "77.50")
    assert len(notes(page, "for digits, so it has no columns here")) == 3
    assert not notes(page, "Gokhale") and "paper" not in to_csv(table(page, "table_1a"))


def test_cifar10_is_in_the_papers_table_1a_only() -> None:
    settings: dict[str, Any] = {"preset": "paper_cifar10"}
    page = drawn(
        result([point(trial(0, **settings))]), result([point(trial(1, "monotonic", **settings))])
    )
    assert [t.has_paper for t in page.tables] == [True, False, False]
    assert not notes(page, "orientation only")


def test_a_head_that_the_sweep_lacks_is_told() -> None:
    page = drawn(result([point(trial(0))]))
    assert table(page, "table_2").heads == ("none",)
    assert notes(page, "No trial") == [
        "No trial of the sweep has the head monotonic.",
        "No trial of the sweep has the head mlp.",
        "No trial of the sweep has the head monotonic.",
        "No trial of the sweep has the head mlp.",
        "No trial of the sweep has the head monotonic.",
    ]


def test_seeds_without_an_evaluation_are_told() -> None:
    page = drawn(result([point(trial(0))], [replace(trial(1, seed=43), status="running")]))
    assert row(table(page, "table_1a"), "seeds")[0] == "1 of 2"
    (note,) = notes(page, "without a final evaluation")
    assert "trial-0001 (seed 43, running)" in note and "evaluation.points: best" in note


def test_a_head_that_was_not_evaluated_keeps_its_empty_column() -> None:
    page = drawn(result([point(trial(0))]), result([], [trial(1, "mlp")]))
    assert row(table(page, "table_2"), "5-NN accuracy, %")[2] == "-"
    assert row(table(page, "table_2"), "seeds")[2] == "0 of 1"
    assert notes(page, "mlp: head.depth 1, head.width_ratio 2, temperature 0.1; not evaluated.")


def test_the_caption_names_configuration_seeds_and_epochs() -> None:
    page = drawn(*three_heads(42, 43), others=[trial(9, "mlp", optimizer__head_lr=1e-3)])
    assert notes(page, "mlp: head.depth")[0] == (
        "mlp: head.depth 1, head.width_ratio 2, temperature 0.1, optimizer.head_lr 0.0002; "
        "seeds 42 (trial-0001 epoch 5), 43 (trial-0004 epoch 5)."
    )
    assert notes(page, "proposed first")[0].endswith("The sweep has 1 more, which are not shown.")


def test_doubts_about_single_trials_are_told() -> None:
    stopped = replace(trial(1, seed=43), status="stopped")
    made = result([point(trial(0), better_epoch=10), point(stopped)])
    page = drawn(made._replace(repeats=(trial(7),)), status="running", num_of_this_name=2)
    assert notes(page, "not evaluated: trial-0000 epoch 10.")
    assert notes(page, "not completed: trial-0001 (stopped).")
    assert notes(page, "repeat a seed: trial-0007.")
    assert notes(page, "still running, or was killed")
    assert notes(page, "2 sweeps have this name; this is the newest.")


def test_only_trials_of_one_task_are_shown() -> None:
    other = trial(1, "mlp", data__num_classes=10)
    trials = [replace(other, is_evaluated=False), trial(2), trial(3, "mlp")]
    shown = shown_configurations(sweep(trials))
    assert {head: c.trials[0].name for head, c in shown.items()} == {
        "none": "trial-0002",
        "mlp": "trial-0003",
    }
    page = drawn(result([point(trial(2))]), others=[other])
    assert notes(page, "left out: trial-0001.")


@pytest.mark.parametrize(
    ("data_order", "note"),
    [
        ("original", "Training and validation images are those of the paper's split"),
        ("of the source", "The order of the source's rows may be another"),
        ("", "The order of the source's rows is not recorded and may be another"),
    ],
)
def test_a_split_is_called_the_papers_only_where_it_is(data_order: str, note: str) -> None:
    assert notes(drawn(*three_heads(42), data_order=data_order), note)
    claims = notes(drawn(*three_heads(42), data_order=data_order), "the paper's split")
    assert bool(claims) == (data_order == "original")


def test_a_sweep_without_evaluations_is_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no trial with a final evaluation.*evaluation\.points=best"):
        shown_configurations(sweep([replace(trial(0), is_evaluated=False)]))


def test_the_papers_numbers_are_whole() -> None:
    metrics = {"knn_accuracy", "recall_at_1", "recall_at_5", "d_eff", "reconstruction_error"}
    for head, values in PAPER["table_1a"]["cifar100"].items():
        assert PAPER["table_2"]["cifar100"][head] == values
    vision = [*PAPER["table_1a"].values(), *PAPER["table_2"].values()]
    assert all(values.keys() == metrics for by_head in vision for values in by_head.values())
    assert list(PAPER["table_3"]["cifar100"]) == [128, 64, 16]
    for by_head in PAPER["table_3"]["cifar100"].values():
        assert list(by_head) == ["none", "mlp", "monotonic"]
        assert all(values.keys() == metrics - {"d_eff"} for values in by_head.values())
    assert PAPER["table_1b"]["snli"].keys() == {"untouched", "none", "monotonic"}


def test_the_csv_holds_every_seeds_number_in_the_tables_unit() -> None:
    page = drawn(*three_heads(42, 43))
    read: Any = pd.read_csv(io.StringIO(to_csv(table(page, "table_2"))))
    ours = read.loc[(read["source"] == "ours") & (read["metric"] == "knn_accuracy")]
    assert ours.groupby(["head", "split"])["seed"].agg(list).to_dict() == {
        (head, split): [42, 43]
        for head in ("mlp", "monotonic", "none")
        for split in ("test", "validation")
    }
    assert ours.loc[ours["split"] == "test", "value"].tolist() == pytest.approx([77.5] * 6)
    assert (read["source"] == "paper").sum() == 15


def test_the_csv_of_an_empty_table_has_its_header() -> None:
    page = drawn(digits(0, "none"))
    empty = replace(table(page, "table_3"), values=())
    assert to_csv(empty).startswith("dataset,head,components,metric,") and to_csv(empty).count("\n") == 1


class Page(HTMLParser):
    """The tags of a page, and the cells of its tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_page() -> TablesInfo:
    bad = replace(trial(0, encoder_weights=HOSTILE), name=HOSTILE)
    page = drawn(result([point(bad)]))
    return replace(page, title=HOSTILE)


def test_hostile_names_stay_text_on_the_page() -> None:
    text = to_html(hostile_page())
    page = Page(text)
    assert "<script>" not in text and HOSTILE in page.text
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "link", "iframe")]
    assert not [attrs for _, attrs in page.tags if {"src", "href", "onerror"} & attrs.keys()]


def test_hostile_names_stay_text_in_markdown() -> None:
    text = to_markdown(hostile_page())
    assert "<script>" not in text
    assert "# &lt;script&gt;hostile()&lt;/script&gt;\\|\\`x\\`\n" in text


def test_the_page_has_a_scrolling_table_each_and_both_colour_schemes() -> None:
    page = Page(to_html(drawn(*three_heads(42))))
    assert [a.get("class") for tag, a in page.tags if tag == "div"] == ["scroll"] * 3
    assert sum(tag == "table" for tag, _ in page.tags) == 3
    assert "prefers-color-scheme: dark" in page.text


def test_rows_of_a_markdown_table_have_equally_many_cells() -> None:
    lines = to_markdown(drawn(*three_heads(42, 43))).splitlines()
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]
    # Header, rule and rows of Tables 1a, 2 and 3.
    assert widths == [6] * (2 + 7) + [8] * (2 + 7) + [9] * (2 + 4 * 8)


def printed(page: TablesInfo, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(page, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_terminals_tables_fit_100_columns() -> None:
    text = printed(drawn(*three_heads(42, 43)))
    assert max(map(len, text.splitlines())) <= 100
    line = next(line for line in text.splitlines() if line.startswith("16 ") and "reconstr" in line)
    pairs = [("16.00 ± 0.00", cut(h, "reconstruction_error")) for h in ("none", "mlp", "monotonic")]
    cells = ["16", "reconstr. error, 10^-3", *(cell for pair in pairs for cell in pair)]
    assert re.split(r"\s{2,}", line.strip()) == cells


def test_markup_in_names_is_printed_as_it_is() -> None:
    named = replace(drawn(result([point(trial(0))])), title="[bold]a[/bold]")
    assert printed(named).startswith("[bold]a[/bold]")


def test_the_files_are_these() -> None:
    assert sorted(render(drawn(*three_heads(42)))) == FILES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with sweeps of several fates."""
    folder = tmp_path_factory.mktemp("store")
    heads = ("none", "mlp", "monotonic")
    track(folder, "whole", [TrackedTrial(params(h, seed)) for seed in (42, 43, 42) for h in heads])
    track(folder, "unevaluated", [TrackedTrial(params(), test={})], status="interrupted")
    first, later = TrackedTrial(params(), test={}), TrackedTrial(params(temperature=0.2))
    track(folder, "later", [first, later])
    half = [TrackedTrial(params()), TrackedTrial(params("mlp"), {}, {}, None, "running")]
    track(folder, "killed", half, status="running")
    return folder


def run(*arguments: str) -> int:
    return main(arguments)


def test_the_command_prints_writes_and_logs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("whole", "--uri", uri(folder), "--out", str(tmp_path / "a" / "b")) == 0
    captured = capsys.readouterr()
    assert "Table 2: the three heads, cifar100" in captured.out and captured.err == ""
    assert sorted(file.name for file in (tmp_path / "a" / "b").iterdir()) == FILES
    client = MlflowClient(uri(folder))
    (parent,) = client.search_runs(["1"], "attributes.run_name = 'whole'")
    for name in FILES:
        logged = Path(client.download_artifacts(parent.info.run_id, f"tables/{name}"))
        assert logged.read_bytes() == (tmp_path / "a" / "b" / name).read_bytes()
    text = (tmp_path / "a" / "b" / "tables.md").read_text()
    assert "| 5-NN accuracy, % | 77.50 ± 0.00 | 77.75 |" in text
    assert "mlp: left out, since they repeat a seed: trial-0007." in text


def test_the_uri_may_come_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri(folder))
    assert run("whole") == 0
    assert capsys.readouterr().out.startswith("Tables of the sweep whole")


def test_a_killed_sweep_has_its_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("killed", "--uri", uri(folder)) == 0
    out = capsys.readouterr().out
    assert "still running, or was killed" in out and "mlp: head.depth 1" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whol"], "has no sweep 'whol'; it has whole, "),
        (["unevaluated"], r"\(interrupted\) has no trial with a final evaluation; .*points=best"),
        (["later"], r"no final evaluation of .* proposed first \(none trial-0000\).*points=best"),
        (["whole", "--out", "/dev/null/x"], "--out: cannot write to /dev/null/x "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--uri", uri(folder)) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_a_server_that_does_not_answer_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert run("any", "--uri", f"http://127.0.0.1:{port}") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"--uri: no answer from http://127.0.0.1:{port}") and error.count("\n") == 1


def test_a_store_without_a_sweep_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_store(tmp_path)
    for place in (tmp_path, tmp_path.parent):
        assert run("any", "--uri", uri(place)) == 2
        error = capsys.readouterr().err
        assert "has no experiment with a sweep" in error and error.count("\n") == 1
