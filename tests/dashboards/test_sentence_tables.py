from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from rich.console import Console
from tracked_sweeps import (
    SENTENCE_TEST_METRICS,
    TrackedTrial,
    cut_pairs,
    params,
    sentence_params,
    track,
    tracked_pairs,
    uri,
)

from dashboards.head_results import HeadResult, read_results
from dashboards.paper_tables import TableInfo, TablesInfo, info, read_paper
from dashboards.sweep_results import Configuration, SelectedPoint, SweepRun, TrialRun
from dashboards.sweep_store import SweepStore
from dashboards.table_formats import show, to_csv, to_html, to_markdown
from dashboards.tables import main
from dashboards.tracked_results import read_sweep
from trainables.similarity_evaluation import Truncation

PAPER = read_paper()
PRINTED = PAPER["table_1b"]["snli"]
SPEARMAN = "STSb Spearman, x100"
SUBSET: dict[str, Any] = {
    "data__num_training_items": 20000,
    "epochs": 3,
    "optimizer__head_lr": 1e-3,
    "optimizer__encoder_lr_ratio": 0.01,
}


def point(number: int, head: str = "none", seed: int = 42, **more: Any) -> SelectedPoint:
    """A seed's point; settings and test metrics are told apart by their names."""
    test = {name: more.pop(name, value) for name, value in SENTENCE_TEST_METRICS.items()}
    tables = {"truncation": cut_pairs(0.81, 100), "untouched": cut_pairs(0.80, 384, 100)}
    tables |= {name: more.pop(name) for name in tables if name in more}
    given = sentence_params(head, seed, **more)
    trial = TrialRun(f"trial-{number:04d}", f"id-{number}", "completed", given, True)
    validation = {"spearman": test["spearman"] + 0.05}
    return replace(SelectedPoint(trial, 1, None, validation, test), **tables)


def drawn(*points: SelectedPoint, data_order: str = "") -> TablesInfo:
    by_head: dict[str, list[SelectedPoint]] = {}
    for each in points:
        by_head.setdefault(each.trial.head, []).append(each)
    trials = tuple(each.trial for each in points)
    sweep = SweepRun("mine", "parent", "completed", datetime(2026, 1, 2, tzinfo=UTC), trials)
    results = {
        head: HeadResult(Configuration(of[0].trial.settings, tuple(p.trial for p in of)), tuple(of))
        for head, of in by_head.items()
    }
    return info(replace(sweep, data_order=data_order), results, PAPER)


def table(of: TablesInfo, key: str) -> TableInfo:
    return next(t for t in of.tables if t.key == key)


def rows(of: TableInfo) -> dict[tuple[str, ...], tuple[str, ...]]:
    num_labels = len(of.labels)
    return {row[:num_labels]: row[num_labels:] for section in of.sections for row in section}


def notes(of: TablesInfo, word: str) -> list[str]:
    return [note for t in (*of.tables, of) for note in t.notes if word in note]


def test_a_sweep_of_sentence_pairs_has_table_1b_and_the_truncations() -> None:
    page = drawn(point(0), point(1, "monotonic"))
    assert [t.key for t in page.tables] == ["table_1b", "table_3"]
    assert [t.has_paper for t in page.tables] == [True, False]
    assert list(rows(page.tables[0])) == [
        ("seeds",),
        (SPEARMAN,),
        ("the same on validation, x100",),
        ("d_eff",),
        ("reconstruction error, 10^-3",),
        ("untouched encoder, x100",),
        ("untouched + PCA to d_eff, x100",),
    ]


def test_cells_are_mean_and_sample_deviation_over_seeds() -> None:
    values = ((0.80, 90.0), (0.82, 91.0), (0.87, 95.0))
    points = [point(n, seed=n, spearman=s, d_eff=d) for n, (s, d) in enumerate(values)]
    found = rows(table(drawn(*points), "table_1b"))
    # Deviations -3, -1, 4 and -2, -1, 3: their squares' sum, halved, is 13 and 7.
    assert found[(SPEARMAN,)][0] == f"83.00 ± {13**0.5:.2f}"
    assert found[("the same on validation, x100",)][0] == f"88.00 ± {13**0.5:.2f}"
    assert found[("d_eff",)][0] == f"92.0 ± {7**0.5:.1f}"
    assert found[("seeds",)] == ("3", "1")


def test_the_papers_values_stand_beside_ours() -> None:
    found = rows(table(drawn(point(0), point(1, "monotonic")), "table_1b"))
    heads = [PRINTED[head] for head in ("none", "monotonic")]
    assert list(found[(SPEARMAN,)][1::2]) == [f"{head['stsb_score']:.2f}" for head in heads]
    assert list(found[("d_eff",)][1::2]) == [str(head["d_eff"]) for head in heads]
    error = found[("reconstruction error, 10^-3",)]
    assert error == ("7.20", f"{heads[0]['reconstruction_error']:.2f}", "7.20", error[3])
    assert found[("the same on validation, x100",)][1::2] == ("-", "-")


def test_the_untouched_encoder_stands_in_the_column_of_each_head() -> None:
    pca = {"none": 0.8190, "monotonic": 0.8010}
    page = drawn(*(point(n, h, untouched_pca_spearman=v) for n, (h, v) in enumerate(pca.items())))
    found = rows(table(page, "table_1b"))
    printed = f"{PRINTED['untouched']['stsb_score']:.2f}"
    assert found[("untouched encoder, x100",)] == ("82.03", printed, "82.03", printed)
    assert found[("untouched + PCA to d_eff, x100",)] == ("81.90", "-", "80.10", "-")
    assert notes(page, "as many as d_eff of the trial in whose column")


def test_the_ablation_has_a_column_where_it_is_and_no_word_where_not() -> None:
    page = drawn(point(0), point(1, "mlp"), point(2, "monotonic"))
    assert table(page, "table_1b").heads == ("none", "mlp", "monotonic")
    assert rows(table(page, "table_1b"))[(SPEARMAN,)][2:4] == ("81.50", "-")
    assert not notes(drawn(point(0), point(1, "monotonic")), "No trial")
    assert notes(drawn(point(0)), "No trial") == ["No trial of the sweep has the head monotonic."] * 2


def test_truncations_have_a_section_a_size_beside_the_untouched_encoder() -> None:
    three = table(drawn(point(0), point(1, "monotonic", d_eff=30.0)), "table_3")
    assert [section[0][0] for section in three.sections] == ["128", "64", "16", "8"]
    found = rows(three)
    # Sizes after the first, 100, and of the untouched encoder after 384 and 100: 0.01 lower each.
    assert found["128", "Spearman, cosine, x100"] == ("80.00", "80.00")
    assert found["8", "Spearman, Euclidean, x100"] == ("76.50", "76.50")
    assert found["128", "untouched, cosine, x100"] == ("78.00", "78.00")
    assert found["16", "untouched, reconstr. error, 10^-3"] == ("1.60", "1.60")


def test_a_size_that_is_a_trials_own_d_eff_is_no_section() -> None:
    three = table(drawn(point(0, truncation=cut_pairs(0.81, 100))), "table_3")
    assert "100" not in {section[0][0] for section in three.sections}
    assert {value.components for value in three.values} == {128, 64, 16, 8}


def test_missing_tables_are_told_and_not_counted() -> None:
    page = drawn(point(0), point(1, seed=43, untouched=None), point(2, seed=44))
    found = rows(table(page, "table_3"))
    assert found["64", "Spearman, cosine, x100"] == ("79.00 ± 0.00",)
    assert found["64", "untouched, cosine, x100"] == ("77.00 ± 0.00 (n=2)",)
    assert notes(page, "MLflow has no") == ["MLflow has no untouched.parquet of none trial-0001."]


def test_the_papers_own_setting_is_called_so() -> None:
    page = drawn(point(0, device="cuda", bucketing=False), point(1, "monotonic", encoder_dim=384))
    assert notes(page, "settings that act") and not notes(page, "orientation only")
    assert not any("not the paper's setting" in t.title for t in page.tables)


def test_epochs_pairs_and_learning_rates_that_differ_are_told() -> None:
    page = drawn(point(0, **SUBSET), point(1, "monotonic", **SUBSET))
    assert table(page, "table_1b").title.endswith("(not the paper's setting, see the notes)")
    (note,) = notes(page, "orientation only")
    assert note.partition("only: ")[2].split("; ") == [
        "only the first 20000 of 183416 training pairs",
        "encoder learning rate 1e-05 (paper: 2e-07)",
        "epochs 3 (paper: 40)",
        "optimizer.head_lr 0.001 (paper: 0.0002) for monotonic.",
    ]
    assert notes(page, "of all training pairs in use, each once")
    assert not notes(page, "images") and not notes(page, "5-NN")


def test_one_encoder_rate_is_the_papers_however_it_is_written() -> None:
    page = drawn(point(0, optimizer__head_lr=2e-7, optimizer__encoder_lr_ratio=1.0))
    assert not notes(page, "orientation only")


def test_all_pairs_named_are_all_pairs() -> None:
    assert notes(drawn(point(0, data__num_training_items=183_416)), "snli, all training pairs.")


def test_other_scored_pairs_are_not_called_stsb() -> None:
    page = drawn(point(0, data__scored_pairs="/data/mine.csv", data__max_length=64))
    assert ("Spearman, x100",) in rows(table(page, "table_1b"))
    (note,) = notes(page, "orientation only")
    assert "scored on /data/mine.csv, which may be other pairs (paper: STSb)" in note
    assert "data.max_length 64 (paper: 128)" in note
    assert notes(page, "test pairs: /data/mine.csv.")


def test_a_copy_of_snli_is_not_called_whole() -> None:
    page = drawn(point(0, data__source="/data/snli", data__num_training_items=50))
    assert notes(page, "only the first 50 training pairs")
    assert notes(page, "read from /data/snli: nothing says that they are all of SNLI")
    assert not notes(drawn(point(0)), "nothing says")


def test_the_order_of_images_is_no_matter_of_sentences() -> None:
    for order in ("original", "of the source", ""):
        page = drawn(point(0), data_order=order)
        assert not notes(page, "order of the source") and not notes(page, "paper's split")


def test_pairs_of_ones_own_have_no_columns_of_the_paper() -> None:
    own: dict[str, Any] = {"dataset": "sentence_pairs", "data__source": "a.csv"}
    page = drawn(*(point(n, head, **own) for n, head in enumerate(("none", "monotonic"))))
    assert [t.has_paper for t in page.tables] == [False, False]
    assert rows(table(page, "table_1b"))[(SPEARMAN,)] == ("81.50", "81.50")
    assert len(notes(page, "for sentence_pairs, so it has no columns here")) == 2
    assert "paper" not in to_csv(table(page, "table_1b"))


def test_the_csv_holds_every_seeds_number() -> None:
    page = drawn(point(0), point(1, seed=43, spearman=0.82), point(2, "monotonic"))
    read = pd.read_csv(io.StringIO(to_csv(table(page, "table_1b"))))
    chosen = read.loc[(read["metric"] == "spearman") & (read["split"] == "test")]
    found = list(zip(chosen["source"], chosen["head"], chosen["value"].round(6), strict=True))
    assert found == [
        ("ours", "none", 81.5),
        ("ours", "none", 82.0),
        ("paper", "none", PRINTED["none"]["stsb_score"]),
        ("ours", "monotonic", 81.5),
        ("paper", "monotonic", PRINTED["monotonic"]["stsb_score"]),
    ]


def test_the_terminals_tables_fit_100_columns() -> None:
    heads = ("none", "mlp", "monotonic")
    page = drawn(*(point(9 * n + seed, h, seed) for n, h in enumerate(heads) for seed in range(3)))
    console = Console(file=io.StringIO(), width=100)
    show(page, console)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    (line,) = (line for line in lines if line.startswith(SPEARMAN))
    assert line.split() == [
        *SPEARMAN.split(),
        *("81.50 ± 0.00 {} " * 3)
        .format(*(f"{PRINTED[h]['stsb_score']:.2f}" if h in PRINTED else "-" for h in heads))
        .split(),
    ]
    assert max(map(len, lines)) <= 100


def test_hostile_sources_stay_text() -> None:
    hostile = "<script>hostile()</script>"
    page = drawn(point(0, data__scored_pairs=hostile, data__source=hostile))
    assert "<script>" not in to_html(page) and "<script>" not in to_markdown(page)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with sweeps over sentences of several fates, and one over images."""
    folder = tmp_path_factory.mktemp("store")
    heads = ("none", "mlp", "monotonic")
    track(folder, "pairs", [tracked_pairs(h, s) for s in (42, 43) for h in heads])
    track(folder, "few", [tracked_pairs(data__num_training_items=5000)])
    last = tracked_pairs("monotonic", 43, data__num_training_items=10_000)
    track(folder, "few", [tracked_pairs(data__num_training_items=10_000), replace(last, test={})])
    track(folder, "half", [tracked_pairs(), replace(tracked_pairs(seed=43), untouched=None)])
    longer = {1: 0.80, 2: 0.90, 3: 0.85}
    tested = {epoch: {**SENTENCE_TEST_METRICS, "spearman": 0.7 + epoch / 100} for epoch in longer}
    track(folder, "longer", [replace(tracked_pairs(), validation=longer, test=tested)])
    track(folder, "images", [TrackedTrial(params())])
    return folder


def read(folder: Path, name: str) -> Mapping[str, HeadResult]:
    store = SweepStore(uri(folder))
    return read_results(store, read_sweep(store, name))


def test_a_trial_on_pairs_is_known_as_evaluated(folder: Path) -> None:
    trials = read_sweep(SweepStore(uri(folder)), "few").trials
    assert [(t.task, t.is_evaluated) for t in trials] == [("similarity", True), ("similarity", False)]
    (image,) = read_sweep(SweepStore(uri(folder)), "images").trials
    assert (image.task, image.is_evaluated) == ("classification", True)


def test_of_an_unknown_dataset_images_are_supposed() -> None:
    assert TrialRun("t", "id", "completed", {"dataset": "of later"}, True).task == "classification"
    assert TrialRun("t", "id", "completed", {}, True).task == "classification"


def test_the_epoch_is_the_best_by_spearman_on_validation(folder: Path) -> None:
    (only,) = read(folder, "longer")["none"].points
    assert (only.epoch, only.validation["spearman"], only.test["spearman"]) == (2, 0.90, 0.72)


def test_both_tables_of_an_evaluation_are_read(folder: Path) -> None:
    first, second = read(folder, "half")["none"].points
    assert first.truncation is not None and first.untouched is not None and second.untouched is None
    assert list(first.truncation.columns) == list(Truncation._fields)
    assert first.untouched["components"].tolist() == [384, 100, 128, 64, 16, 8]


def test_an_image_sweep_has_no_table_of_the_untouched_encoder(folder: Path) -> None:
    (only,) = read(folder, "images")["none"].points
    assert only.truncation is not None and only.untouched is None


def test_the_command_prints_writes_and_logs_table_1b(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pairs", "--uri", uri(folder), "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "Table 1b: baseline and monotonic head, snli\n" in captured.out and captured.err == ""
    files = ["table_1b.csv", "table_3.csv", "tables.html", "tables.md"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == files
    client = MlflowClient(uri(folder))
    (parent,) = client.search_runs(["1"], "attributes.run_name = 'pairs'")
    assert [Path(f.path).name for f in client.list_artifacts(parent.info.run_id, "tables")] == files
    text = (tmp_path / "out" / "tables.md").read_text()
    assert f"| {SPEARMAN} | 81.50 ± 0.00 | {PRINTED['none']['stsb_score']:.2f} |" in text


def test_the_newest_of_several_sweeps_is_shown_with_what_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["few", "--uri", uri(folder)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "only the first 10000 of 183416 training pairs" in text and "5000 of" not in text
    assert "2 sweeps have this name; this is the newest." in text
    assert "monotonic: without a final evaluation, so not in the table: trial-0001 (seed 43," in text
    assert "0 of 1" in text


def test_the_tables_of_an_image_sweep_beside_them_are_as_ever(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", "--uri", uri(folder)]) == 0
    out = capsys.readouterr().out
    assert [word for word in ("Table 1a", "Table 2", "Table 3", "Table 1b") if word in out] == [
        "Table 1a",
        "Table 2",
        "Table 3",
    ]
    assert "Spearman" not in out and "untouched" not in out and "STSb" not in out
