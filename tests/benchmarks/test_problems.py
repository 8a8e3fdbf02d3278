from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.proposals import low_discrepancy_point
from orchestrator.search_space import Value
from orchestrator.settings import load_settings
from tests.benchmarks.problems import (
    RecordedTrainings,
    digits_problem,
    function_problem,
    group_of,
    place_of,
    read_trainings,
    share_of,
)
from tests.benchmarks.record_digits import METRICS, SPACE, trainings
from tests.benchmarks.simulator import Arm, simulate

SPACE_OF_DIGITS = load_settings(SPACE).search_space


def values_of(kind: str, temperature: float, depth: int = 1) -> dict[str, Value]:
    head = {"head.kind": kind, "head.depth": depth, "head.width_ratio": 1.0}
    rates = {"optimizer.head_lr": 1e-3, "optimizer.encoder_lr_ratio": 0.5}
    return {**(head if kind != "none" else {"head.kind": kind}), "temperature": temperature, **rates}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three configurations of two epochs, told apart by their accuracy; the last diverged after one."""
    drawn = [values_of("none", 0.1), values_of("mlp", 0.1), values_of("mlp", 0.3)]
    rows = [
        {"configuration": i, "seed": 42, "epoch": epoch, **values}
        | {**dict.fromkeys(METRICS, 1.0), "knn_accuracy": i / 10}
        for i, values in enumerate(drawn)
        for epoch in ((1, 2) if i < 2 else (1,))
    ]
    path = tmp_path / "table.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def test_a_proposal_gets_the_nearest_training_of_its_head_that_is_left(table: Path) -> None:
    lookup = RecordedTrainings(read_trainings(table, SPACE_OF_DIGITS), SPACE_OF_DIGITS)
    asked = [values_of("mlp", 0.29), values_of("mlp", 0.29), values_of("mlp", 0.29)]
    found = [lookup(values).metrics[0]["knn_accuracy"] for values in asked]
    assert found == [0.2, 0.1, 0.2], "the nearest, the other one of its head, and again the nearest"


def test_a_training_that_diverged_has_fewer_epochs(table: Path) -> None:
    curves = [t.curve for t in read_trainings(table, SPACE_OF_DIGITS)]
    assert [len(curve.metrics) for curve in curves] == [2, 2, 1]


@given(st.integers(0, 500))
def test_shares_invert_the_quantiles_of_a_draw(index: int) -> None:
    point = low_discrepancy_point(SPACE_OF_DIGITS, 7, index)
    for name in ("temperature", "optimizer.head_lr", "optimizer.encoder_lr_ratio"):
        parameter = SPACE_OF_DIGITS[name]
        assert parameter.quantile(share_of(parameter, point[name])) == pytest.approx(point[name])
    assert all(0 <= place <= 1 for place in place_of(SPACE_OF_DIGITS, point))


def test_the_trainings_to_record_are_one_draw_with_every_seed() -> None:
    wanted = trainings(num_configurations=12)
    assert [t.values for t in wanted[:12]] == [t.values for t in wanted[12:]]
    assert len({t.part for t in wanted}) == 24
    assert {group_of(t.values)[0] for t in wanted} == {"none", "mlp", "monotonic"}


def test_the_functions_best_is_what_their_score_is_a_share_of() -> None:
    problem = function_problem("park")
    assert problem.score([]) == 0
    assert problem.score([(-1.0, -problem.best)]) == pytest.approx(1)


def test_a_search_of_the_recorded_trainings_adds_up() -> None:
    problem = digits_problem()
    found = simulate(problem, Arm("pareto", "random", {"kind": "pareto"}), 0, budget=150)
    assert found.num_epochs.sum() == 150
    assert 0 < found.hypervolumes[-1] <= 1
    all_points = [
        [-metrics["knn_accuracy"], metrics["d_eff"]]
        for t in read_trainings(Path(__file__).parent / "digits_trainings.parquet", SPACE_OF_DIGITS)
        for metrics in t.curve.metrics
    ]
    assert problem.score(all_points) == pytest.approx(1)
