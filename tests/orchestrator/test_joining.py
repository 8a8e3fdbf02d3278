from __future__ import annotations

from typing import Any

import pytest
from ray._private.utils import check_version_info
from ray.exceptions import AuthenticationError, RpcError
from sweep_events import settings_of

from orchestrator import cluster
from orchestrator.errors import UserError


def other_version() -> None:
    """What `ray.init` raises where the cluster runs another Ray."""
    check_version_info({"ray_version": "2.40.0", "python_version": "3.9.1"}, "node 10.0.0.1:1")


def refused() -> None:
    raise AuthenticationError("RPC error: InvalidAuthToken")


def no_ray() -> None:
    raise RpcError("Timed out while waiting for GCS to become available.")


@pytest.mark.parametrize(
    ("fault", "environment", "message"),
    [
        (
            other_version,
            {},
            r"Ray or Python is of another version there \(.* Ray: 2\.40\.0 Python: 3\.9",
        ),
        (refused, {"RAY_AUTH_TOKEN": "s3cret"}, "the cluster refuses the token of RAY_AUTH_TOKEN"),
        (refused, {"RAY_AUTH_MODE": "token"}, "the cluster asks for a token, and none was found"),
        (
            refused,
            {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": "s3cret"},
            "the cluster asks for a token, and RAY_AUTH_MODE=disabled keeps it; set it to token",
        ),
        (no_ray, {}, r"no Ray cluster answers there \(Timed out while waiting for GCS"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_said(
    fault: Any, environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cluster, "_require_listener", lambda address: None)
    monkeypatch.setattr(cluster, "_require_token", lambda address: None)
    monkeypatch.setattr(cluster.ray, "init", lambda **options: fault())
    with pytest.raises(UserError, match=f"--address auto: {message}") as caught:
        cluster.connect("auto")
    assert "\n" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_the_address_of_a_dashboard_is_told_from_a_clusters() -> None:
    with pytest.raises(
        UserError, match=r"that is a dashboard's address, which orchestrator\.submit takes"
    ):
        cluster.connect("http://127.0.0.1:8265")


def test_a_start_waits_for_a_trials_node_and_for_a_final_evaluations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_of(resources={"wait_for_nodes": "10m"}, evaluation={"gpus": 1})
    growing = iter([[], [], [{"CPU": 4.0}], [{"CPU": 4.0}], [{"CPU": 4.0}, {"CPU": 4.0, "GPU": 1.0}]])
    monkeypatch.setattr(cluster, "_alive_nodes", lambda: next(growing))
    monkeypatch.setattr(cluster, "_LOOK_EVERY_S", 0.0)
    told: list[str] = []
    assert len(cluster.await_nodes(settings, told.append, lambda: False)) == 2
    assert told == [
        "waiting up to 600 s for a node that a trial fits on",
        "waiting up to 600 s for a node that a final evaluation fits on",
    ]
