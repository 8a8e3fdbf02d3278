import json
from pathlib import Path

import pytest

from trainables import bench_sharing
from trainables.bench_sharing import summarise
from trainables.bench_together import Measured, Trained, together


def test_what_runs_at_once_is_summed_and_the_largest_peak_counts() -> None:
    assert together([Trained(10, 5), Trained(12, 7)]) == Measured(22, 7, "")
    assert together([Trained(10, None), Trained(0, None, "full")]).fault == "full"


def test_the_ratio_is_to_one_alone_in_the_same_turn() -> None:
    turns = [
        {1: Measured(10, 5, ""), 2: Measured(15, 6, "")},
        {1: Measured(20, 5, ""), 2: Measured(50, 8, "")},
    ]
    row = summarise(2, turns)
    assert row.ratio and (row.ratio.low, row.ratio.high) == (1.5, 2.5)
    assert row.images_per_s and row.images_per_s.median == 32.5
    assert row.peak_mib == 8


def test_what_does_not_fit_has_no_figure() -> None:
    row = summarise(4, [{1: Measured(10, 5, ""), 4: Measured(8, 5, "its share of the GPU is full")}])
    assert row.images_per_s is None and "full" in row.fault
    assert row.cells() == ("4", "-", "-", "-", "-")


@pytest.mark.slow
def test_two_trainings_at_once_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    arguments = ["--at-once", "2", "--device", "cpu", "--batch-size", "16", "--seconds", "1"]
    assert bench_sharing.main([*arguments, "--repeats", "1", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["num"] for row in rows] == [1, 2]
    assert all(row["images_per_s"][0] > 0 and row["peak_mib"] > 1 for row in rows)
    assert "times one alone" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--at-once", "0"], ["--seconds", "0"], ["--batch-size", "1"]])
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench_sharing.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
