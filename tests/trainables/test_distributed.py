from functools import cache
from pathlib import Path

import pytest
import torch
from gloo_group import run_in_group
from group_work import FIT_CONFIG, GroupResult, group_work
from hypothesis import given
from hypothesis import strategies as st
from short_trials import relative_error, without_times
from torch import nn

from trainables.distributed import SINGLE, WorkerGroup, current_group


@pytest.fixture(scope="module", params=[2, 3, 4], ids=["2 workers", "3 workers", "4 workers"])
def group_results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[GroupResult]:
    folder: Path = tmp_path_factory.mktemp("group")
    return run_in_group(group_work, request.param, folder)


@cache
def alone() -> GroupResult:
    torch.set_num_threads(1)
    return group_work(SINGLE)


@given(num_items=st.integers(0, 40), size=st.integers(1, 7))
def test_shares_are_contiguous_and_even(num_items: int, size: int) -> None:
    batch = torch.arange(num_items)
    shares = [WorkerGroup(rank, size).share(batch) for rank in range(size)]
    assert torch.equal(torch.cat(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert max(map(len, shares)) == -(-num_items // size)


def test_group_of_one_does_nothing() -> None:
    value, model = torch.randn(3, requires_grad=True), nn.BatchNorm2d(2)
    assert current_group() == SINGLE == WorkerGroup(rank=0, size=1)
    assert torch.equal(SINGLE.share(value), value)
    assert SINGLE.gather(value, 3) is value
    assert SINGLE.sum(value) is value
    assert SINGLE.broadcast(value) is value
    assert SINGLE.synchronize_batch_norm(model) is model
    assert SINGLE.data_parallel(model) is model


@pytest.mark.slow
def test_workers_know_their_place_and_agree(group_results: list[GroupResult]) -> None:
    size = len(group_results)
    total = size * (size + 1) / 2
    expected = [(rank, size, total, 0) for rank in range(size)]
    assert [result.place for result in group_results] == expected


@pytest.mark.slow
def test_gather_gives_the_batch_and_the_sum_of_all_gradients(group_results: list[GroupResult]) -> None:
    # Worker r weighs x^2 with r + 1, so that the gradient is 2 x times the sum of the weights.
    size = len(group_results)
    values = torch.arange(7, dtype=torch.float64)
    assert all(torch.equal(result.gathered, values) for result in group_results)
    gradient = torch.cat([result.gathered_gradient for result in group_results])
    assert torch.equal(gradient, 2 * values * size * (size + 1) / 2)


@pytest.mark.slow
def test_loss_is_that_of_one_worker(group_results: list[GroupResult]) -> None:
    for result in group_results:
        assert result.losses == pytest.approx(alone().losses, rel=1e-12)
        assert result.lonely == pytest.approx(alone().lonely, rel=1e-6)


@pytest.mark.slow
def test_gradient_is_that_of_one_worker(group_results: list[GroupResult]) -> None:
    for result in group_results:
        for got, expected in zip(result.gradients, alone().gradients, strict=True):
            assert got.keys() == expected.keys()
            for name, gradient in expected.items():
                scale = torch.linalg.vector_norm(gradient)
                assert torch.linalg.vector_norm(got[name] - gradient) <= 1e-10 * scale, name


@pytest.mark.slow
def test_gradient_would_differ_without_the_gather(group_results: list[GroupResult]) -> None:
    expected = torch.cat([gradient.flatten() for gradient in alone().gradients[0].values()])
    for result in group_results:
        got = torch.cat([gradient.flatten() for gradient in result.local_gradients.values()])
        assert relative_error(got, expected) > 0.1


@pytest.mark.slow
def test_batch_norm_statistics_are_those_of_one_worker(group_results: list[GroupResult]) -> None:
    for result in group_results:
        assert result.statistics.keys() == alone().statistics.keys()
        for name, expected in alone().statistics.items():
            torch.testing.assert_close(result.statistics[name], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_embeddings_are_those_of_one_worker(group_results: list[GroupResult]) -> None:
    for result in group_results:
        assert result.embeddings.shape == (101, 128)
        torch.testing.assert_close(result.embeddings, alone().embeddings, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_metrics_are_those_of_one_worker_on_every_worker(group_results: list[GroupResult]) -> None:
    expected = without_times(alone().metrics)
    for result in group_results:
        assert without_times(result.metrics) == pytest.approx(expected, rel=1e-8)


@pytest.mark.slow
def test_epoch_of_training_moves_parameters_as_one_worker_does(group_results: list[GroupResult]) -> None:
    # 101 items in batches of 16: the last batch has 5.
    for result in group_results:
        for name, expected in alone().steps.items():
            assert torch.linalg.vector_norm(expected) > 1e-6
            assert relative_error(result.steps[name], expected) <= 1e-9, name


def tolerance(name: str) -> float:
    """Float32 sums of another order move a vote or a component at most."""
    if "d_eff" in name:
        return 1.0
    return 0.01 if name == "knn_accuracy" or name.startswith("recall") else 0.0


@pytest.mark.slow
def test_training_is_that_of_one_worker(group_results: list[GroupResult]) -> None:
    for result in group_results:
        assert [report.epoch for report in result.reports] == list(range(1, FIT_CONFIG.epochs + 1))
        for got, expected in zip(result.reports, alone().reports, strict=True):
            assert list(got.training) == list(expected.training)
            for name, value in without_times(expected.metrics).items():
                assert got.metrics[name] == pytest.approx(value, rel=1e-3, abs=tolerance(name)), name
