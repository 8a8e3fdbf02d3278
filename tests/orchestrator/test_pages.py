from __future__ import annotations

from orchestrator.pages import RUN, point_links, run_address, run_place, runs_address

MODE = "?workflowType=machine_learning"


def test_a_runs_address_is_in_the_mode_for_training_behind_its_place() -> None:
    address = run_address("http://h:5000/", "7", "abc", "/artifacts/report.html")
    assert address == f"http://h:5000/#/experiments/7/runs/abc/artifacts/report.html{MODE}"
    assert run_place("7", "abc") == f"#/experiments/7/runs/abc{MODE}"


def test_an_id_stays_within_its_part_of_the_address() -> None:
    assert run_place("7", "a/b?c") == f"#/experiments/7/runs/a%2Fb%3Fc{MODE}"


def test_the_address_of_the_runs_is_that_of_each_with_its_id() -> None:
    assert runs_address("http://h", "7").replace(RUN, "abc") == run_address("http://h", "7", "abc")


def test_a_points_page_leads_to_its_own_run() -> None:
    links = {"runs": runs_address("http://host", "7"), "points": "/points/"}
    assert point_links(links, "a/b") == {"run": run_address("http://host", "7", "a/b")}
    assert point_links({}, "a/b") == {}
