from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sweep_events import DIGITS, settings_of

from orchestrator.cluster_settings import require_remote, require_remote_storage, warnings
from orchestrator.errors import UserError

SHARED: dict[str, Any] = {
    "storage": "/shared/runs",
    "tracking": {"uri": "sqlite:////shared/mlflow.db"},
}
IMAGES = {"dataset": "cifar100", "encoder": "resnet8", "encoder_weights": "none"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"storage": "s3://bucket/runs"},
        {"storage": "~/runs"},
        {"tracking": {"uri": "http://tracking:5000"}},
        {"tracking": {"uri": "postgresql://host/mlflow"}},
        {"trial": IMAGES},
        {"trial": {**IMAGES, "data": {"source": "/data/not/on/this/machine"}}},
        {"trial": {**DIGITS, "encoder_weights": "/data/not/on/this/machine.pt"}},
    ],
)
def test_places_that_mean_the_same_everywhere_are_accepted(changes: dict[str, Any]) -> None:
    require_remote(settings_of(**{**SHARED, **changes}))


@pytest.mark.parametrize(
    ("changes", "location", "message"),
    [
        ({"storage": "runs"}, "storage", "storage: runs is relative.*an absolute path that all nodes"),
        ({"tracking": {}}, "tracking.uri", "tracking.uri: sqlite:///mlflow.db is relative.*HOST:PORT"),
        (
            {"tracking": {"uri": "http://user:secret@host:5000"}},
            "tracking.uri",
            "tracking.uri holds a password",
        ),
        (
            {"storage": "s3://key:secret@bucket/runs"},
            "storage",
            "storage holds a password.*AWS_SECRET_ACCESS_KEY",
        ),
        (
            {"trial": {**IMAGES, "data": {"source": "./images"}}},
            "trial.data.source",
            "trial.data.source: ./images is relative.*that every node has",
        ),
        (
            {"trial": {**DIGITS, "encoder_weights": "weights.pt"}},
            "trial.encoder_weights",
            "trial.encoder_weights: weights.pt is relative",
        ),
        (
            {
                "trial": DIGITS,
                "search_space": {"encoder_weights": {"choice": ["none", "/all/have.pt", "here.pt"]}},
            },
            "search_space.encoder_weights.choice",
            "search_space.encoder_weights.choice: here.pt is relative",
        ),
    ],
)
def test_what_only_this_machine_has_is_refused_with_its_place(
    changes: dict[str, Any], location: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        require_remote(settings_of(**{**SHARED, **changes}))
    assert ".".join(caught.value.location) == location
    assert "secret" not in str(caught.value)


def test_a_folder_beside_the_sweep_is_no_data_of_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        (tmp_path / "photographs" / name / "1.png").touch()
    monkeypatch.chdir(tmp_path)
    trial = {**IMAGES, "dataset": "image_folder", "data": {"source": "photographs"}}
    with pytest.raises(UserError, match=r"trial\.data\.source: photographs is relative"):
        require_remote(settings_of(**SHARED, trial=trial))


def test_storage_alone_is_judged_the_same() -> None:
    require_remote_storage("/shared/runs")
    with pytest.raises(UserError, match=r"storage: \./runs is relative"):
        require_remote_storage("./runs")


@pytest.mark.parametrize(
    ("uri", "address", "num_warnings"),
    [
        ("http://127.0.0.1:5000", "http://head:8265", 1),
        ("http://localhost:5000", "http://10.0.0.1:8265", 1),
        ("http://127.0.0.1:5000", "http://127.0.0.1:8265", 0),
        ("http://tracking:5000", "http://head:8265", 0),
        ("sqlite:////shared/mlflow.db", "http://head:8265", 0),
    ],
)
def test_a_server_on_loopback_is_warned_of_where_the_cluster_is_elsewhere(
    uri: str, address: str, num_warnings: int
) -> None:
    assert len(warnings(settings_of(tracking={"uri": uri}), address)) == num_warnings
