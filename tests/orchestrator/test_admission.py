from __future__ import annotations

from orchestrator.admission import Admission
from orchestrator.settings import ResourceSettings


def test_what_fits_follows_the_nodes_and_is_told_when_it_changes() -> None:
    nodes: list[dict[str, float]] = [{"CPU": 4.0}]
    told: list[str] = []
    admission = Admission(ResourceSettings(cpus=2), lambda: nodes, told.append)
    assert [admission(), admission()] == [2, 2]
    nodes = [{"CPU": 4.0}, {"CPU": 3.0}]
    assert [admission(), admission()] == [3, 3]
    nodes = [{"CPU": 4.0}, {"CPU": 2.0}]  # as many as before
    assert admission() == 3
    nodes = [{"CPU": 1.0}]
    assert admission() == 0
    nodes = [{"CPU": 2.0}]
    assert admission() == 1
    assert told == [
        "the cluster has 2 nodes now, for 3 trials at once",
        "the cluster has 1 node now, and no trial fits: waiting for others to join",
        "the cluster has 1 node now, for 1 trial at once",
    ]


def test_no_more_than_asked_for() -> None:
    admission = Admission(ResourceSettings(max_concurrent=2), lambda: [{"CPU": 8.0}], print)
    assert admission() == 2


def test_what_is_admitted_has_its_own_name_and_a_start_without_room_is_told() -> None:
    nodes: list[dict[str, float]] = [{"CPU": 8.0}]
    told: list[str] = []
    admission = Admission(ResourceSettings(gpus=1), lambda: nodes, told.append, "final evaluation")
    assert told == [
        "the cluster has 1 node now, and no final evaluation fits: waiting for others to join"
    ]
    nodes = [{"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}]
    assert admission() == 2
    assert told[1:] == ["the cluster has 2 nodes now, for 2 final evaluations at once"]
