from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stores import URL, MemoryStore
from sweep_events import ended, imported, proposed, reported, settings_of, started

from orchestrator import storage_check
from orchestrator.environment import DATA_DIGEST
from orchestrator.errors import UserError
from orchestrator.events import Event, SweepEnded, SweepResumed, SweepStarted, TrialEnded
from orchestrator.ledger import Ledger, encode
from orchestrator.paths import SweepPaths
from orchestrator.record import SweepRecord
from orchestrator.resume import (
    differences,
    find_sweep,
    read_history,
    require_imports,
    require_same,
    require_same_data,
)
from orchestrator.settings import SweepSettings
from trainables.places import write_object


def begun(settings: SweepSettings, time: float = 0.0) -> SweepStarted:
    return SweepStarted("s", settings.model_dump(mode="json"), {}, time, "id")


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    paths = SweepPaths.of(str(tmp_path), "s")
    paths.root.mkdir()
    paths.ledger.touch()
    return paths


def test_a_sweep_is_found_by_name_and_by_folder(paths: SweepPaths, tmp_path: Path) -> None:
    assert find_sweep("s", str(tmp_path)) == paths
    assert find_sweep(str(paths.root), "elsewhere") == paths


def test_a_sweep_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--resume: there is no such sweep in .*nobody"):
        find_sweep("nobody", str(tmp_path))


def test_a_ledger_that_a_driver_holds_is_refused(paths: SweepPaths) -> None:
    ledger = Ledger(paths.ledger)
    with pytest.raises(UserError, match="another process works on this sweep"):
        read_history(paths)
    ledger.close()
    assert read_history(paths) == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"search": {"trials": 65}},
        {"search": {"time_budget": "3h"}},
        {"search": {"time_budget": None}},
        {"search": {"epochs": None}},
        {"search": {"epochs": 200}},
        {"search": {"stall": {"trials": 5, "growth": 0.1}}},
        {"search": {"stall": None}},
        {"storage": "moved"},
        {"checkpoint_every": "5s"},
        {"checkpoint_every": None},
        {"max_retries": 9},
        {"trial_timeout": "5m"},
        {"evaluation": {"timeout": "5m", "cpus": 3, "gpus": 1}},
        {"confirm": {"seeds": 2}},
        {"confirm": {"seeds": 5}},
    ],
    ids=str,
)
def test_budgets_may_grow_and_what_no_result_depends_on_may_change(changes: dict[str, Any]) -> None:
    budgets = {"time_budget": "2h", "epochs": 100, "stall": {"trials": 4, "growth": 0.1}}
    changed = {"confirm": {"seeds": 2}, **changes, "search": budgets | changes.get("search", {})}
    require_same([begun(settings_of(search=budgets, confirm={"seeds": 2}))], settings_of(**changed))


def test_a_confirmation_may_be_asked_for_afterwards() -> None:
    before = begun(settings_of())
    require_same([before], settings_of(confirm={"seeds": 2}))
    del before.settings["confirm"]  # as before there was such a thing
    require_same([before], settings_of(confirm={"seeds": 2}))
    require_same([before], settings_of())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"search": {"trials": 9}}, "search.trials: 64 before, 9 now"),
        ({"search": {"time_budget": "1h"}}, "search.time_budget: None before, 3600.0 now"),
        ({"search": {"epochs": 9}}, "search.epochs: None before, 9 now"),
        ({"search": {"seed": 1}}, "search.seed: 42 before, 1 now"),
        ({"trial": {"temperature": 0.2}}, "trial.temperature: 0.1 before, 0.2 now"),
        ({"objectives": {"knn_accuracy": "max"}}, "objectives.d_eff: 'min' before, not there now"),
    ],
)
def test_anything_else_is_refused_with_the_difference(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match="only its budgets may grow") as error:
        require_same([begun(settings_of())], settings_of(**changes))
    assert f"  {line}\n" in str(error.value)


def test_a_sweep_from_before_a_setting_existed_is_resumed_with_its_default() -> None:
    settings = settings_of(objectives={"recall_at_1": "max"})
    event = begun(settings)
    for name in ("constraints", "pick", "confirm", "checkpoint_every"):
        del event.settings[name]
    del event.settings["search"]["stall"]
    del event.settings["trial"]["warmup"]["epochs"]
    require_same([event], settings)
    changed = settings_of(objectives={"recall_at_1": "max"}, constraints=["d_eff <= 3"])
    with pytest.raises(UserError, match=r"constraints: \[\] before, \['d_eff <= 3'\] now"):
        require_same([event], changed)


def test_what_a_resumed_driver_worked_by_counts() -> None:
    first, longer = settings_of(), settings_of(search={"trials": 80})
    resumed = SweepResumed(longer.model_dump(mode="json"), {}, 5.0)
    with pytest.raises(UserError, match=r"search\.trials: 80 before, 70 now"):
        require_same([begun(first), resumed], settings_of(search={"trials": 70}))


def test_differences_go_into_groups() -> None:
    before = {"a": 1, "b": {"c": 2, "d": 3}}
    now = {"a": 1, "b": {"c": 4, "d": 3}, "e": None}
    assert [name for name, _, _ in differences(before, now)] == ["b.c", "e"]


HISTORY: list[Event] = [
    begun(settings_of(), time=100.0),
    proposed("trial-0000", 0),
    started("trial-0000", time=101.0),
    reported("trial-0000", 5, accuracy=0.5, d_eff=9.0),
    ended("trial-0000", "completed"),
    proposed("trial-0001", 1),
    started("trial-0001", time=103.0),
    reported("trial-0001", 5, accuracy=0.6, d_eff=8.0),
    TrialEnded("trial-0001", "interrupted", "the time budget", 110.0),
    SweepEnded("completed", "the time budget", 110.0),
]


def test_a_resume_takes_up_what_was_interrupted_and_nothing_else() -> None:
    record = SweepRecord.of(settings_of(), HISTORY)
    assert record.status == "completed"
    record.apply(SweepResumed({}, {}, 500.0))
    assert record.status == "running"
    assert [trial.status for trial in record.trials.values()] == ["completed", "pending"]
    assert record.trials["trial-0001"].last_epoch == 5
    assert record.count("pending") == record.count("completed") == record.num_ended == 1
    assert len(record.front) == 1


def test_the_time_between_two_drivers_is_not_the_sweeps() -> None:
    record = SweepRecord.of(settings_of(), HISTORY)
    assert record.active_s == 10.0
    record.apply(SweepResumed({}, {}, 500.0))
    record.apply(started("trial-0001", time=507.0))
    assert record.active_s == 17.0


def test_a_sweep_that_was_killed_while_it_imported_is_not_resumed(paths: SweepPaths) -> None:
    begun = SweepStarted("s", {}, {}, 0.0, "id", num_imported=2)
    events = [begun, imported("import-0000", (0.5, 5.0)), imported("import-0001", (0.5, 5.0))]
    require_imports(events, paths)
    with pytest.raises(UserError, match=r"with 1 of 2 trials written and none trained; remove .*/s and"):
        require_imports(events[:2], paths)


@pytest.mark.parametrize(
    ("confirm", "line"),
    [
        ({"seeds": 1}, "confirm.seeds: 2 before, 1 now"),
        (None, "confirm: {'seeds': 2, 'of': 'front'} before"),
    ],
)
def test_a_confirmation_is_not_taken_back(confirm: Any, line: str) -> None:
    with pytest.raises(UserError) as error:
        require_same([begun(settings_of(confirm={"seeds": 2}))], settings_of(confirm=confirm))
    assert line in str(error.value)


A, B = f"{DATA_DIGEST}data.source a.csv", f"{DATA_DIGEST}data.source b.csv"


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([], {A: "1"}),
        ([{}], {A: "1"}),
        ([{"data": "old words"}], {"data": "new words", A: "1"}),
        ([{A: "1", B: "2"}], {A: "1", B: "2"}),
        ([{A: "1", "python": "3.11"}], {A: "1", "python": "3.12"}),
        ([{A: "1"}], {B: "2"}),
        ([{A: "1"}], {}),
        ([{}, {A: "1"}], {A: "1"}),
    ],
)
def test_data_are_compared_where_both_drivers_have_a_digest(
    before: list[dict[str, str]], now: dict[str, str]
) -> None:
    require_same_data("s", drivers(before), now)


@pytest.mark.parametrize("before", [[{A: "1", B: "2"}], [{}, {A: "1", B: "2"}], [{A: "1", B: "2"}, {}]])
def test_data_that_changed_are_refused_by_name(before: list[dict[str, str]]) -> None:
    with pytest.raises(UserError) as refusal:
        require_same_data("s", drivers(before), {A: "1", B: "3"})
    message = str(refusal.value)
    assert "  data.source b.csv: digest 2 before, 3 now" in message.splitlines()
    assert "a.csv" not in message
    assert "one front; put the data back" in message and "--import s" in message


def drivers(environments: list[dict[str, str]]) -> list[Event]:
    """A sweep's events: what each driver, the first and those that went on, said of what it ran with."""
    events: list[Event] = [SweepResumed({}, environment, 1.0) for environment in environments[1:]]
    return [
        *(SweepStarted("s", {}, environment, 0.0, "id") for environment in environments[:1]),
        *events,
    ]


@pytest.mark.parametrize("name", ["s", f"{URL}/s"])
def test_a_sweep_at_a_url_is_found_and_fetched(
    name: str, memory: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_check, "_NOT_SHARED", ())
    monkeypatch.setenv("MONOCON_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=f"--resume: there is no such sweep in {URL}/s"):
        find_sweep(name, URL)
    write_object(f"{URL}/s/ledger/{0:012d}.jsonl", encode(ended("trial-0000")))
    write_object(f"{URL}/s/sweep.yaml", b"name: s\n")
    paths = find_sweep(name, URL)
    assert paths == SweepPaths.of(URL, "s")
    assert read_history(paths) == [ended("trial-0000")]
    assert paths.settings.read_text() == "name: s\n"
