import json
import pickle
from typing import get_args

from trainables.reports import (
    METRICS,
    NUM_RECALLS,
    TRAINING_METRICS,
    VARIANCE_SHARES,
    Direction,
    DivergedError,
    EpochReport,
)


def test_report_survives_json() -> None:
    report = EpochReport(
        epoch=6,
        metrics={"knn_accuracy": 0.1 + 0.2, "d_eff": 14.0},
        training={5: {"train_loss": 1.5}, 6: {"train_loss": 1 / 3}},
    )
    assert EpochReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    assert EpochReport.from_dict(report.to_dict()) == report


def test_report_read_back_shares_nothing_with_its_source() -> None:
    data = {"epoch": 1, "metrics": {"d_eff": 2.0}, "training": {"1": {"train_loss": 3.0}}}
    report = EpochReport.from_dict(data)
    report.metrics["d_eff"] = 0.0
    report.training[1]["train_loss"] = 0.0
    assert data == {"epoch": 1, "metrics": {"d_eff": 2.0}, "training": {"1": {"train_loss": 3.0}}}


def test_every_metric_has_direction_and_description() -> None:
    for metric in METRICS.values():
        assert metric.direction in get_args(Direction)
        assert metric.description and "\n" not in metric.description


def test_metrics_hold_every_recall_share_and_training_metric() -> None:
    recalls = {f"recall_at_{k}" for k in range(1, NUM_RECALLS + 1)}
    assert recalls | set(VARIANCE_SHARES) | set(TRAINING_METRICS) <= set(METRICS)


def test_diverged_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(DivergedError(epoch=7, phase="warm-up")))
    assert isinstance(error, DivergedError)
    assert (error.epoch, error.phase) == (7, "warm-up")
    assert str(error) == str(DivergedError(epoch=7, phase="warm-up"))
    assert "not finite in warm-up epoch 7" in str(error)
