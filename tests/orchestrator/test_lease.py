from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from lease_clock import Clock
from stores import URL, MemoryStore

from orchestrator import lease as module
from orchestrator.errors import UserError
from orchestrator.lease import Lease, LeaseLostError, await_expiry
from orchestrator.paths import SweepPaths
from trainables.places import StoreError, read_object, write_object


def paths_of(folder: Path, machine: str) -> SweepPaths:
    root = folder / machine / "s"
    root.mkdir(parents=True, exist_ok=True)
    return SweepPaths(root, f"{URL}/s")


@pytest.fixture
def paths(tmp_path: Path, memory: MemoryStore) -> SweepPaths:
    return paths_of(tmp_path, "machine-1")


def age(paths: SweepPaths, seconds: float) -> None:
    """Makes the lease as old as if its driver had been dead for so long."""
    holder = json.loads(read_object(paths.at_url(paths.lease)))
    holder["renewed"] -= seconds
    write_object(paths.at_url(paths.lease), json.dumps(holder).encode())


def killed(paths: SweepPaths) -> Lease:
    """A lease whose process did not live to give it back."""
    lease = Lease(paths)
    lease._take()
    return lease


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_lease_is_there_as_long_as_it_is_held(paths: SweepPaths, memory: MemoryStore) -> None:
    with Lease(paths) as lease:
        assert memory.names == {"s/driver.json"} and paths.lease.exists()
        lease.require_mine()
    assert memory.names == set() and not paths.lease.exists()


def test_a_second_machine_is_told_who_works_and_how_long_to_wait(
    paths: SweepPaths, tmp_path: Path
) -> None:
    killed(paths)
    age(paths, 10.0)
    with (
        pytest.raises(
            UserError, match=r"a driver on .* works on this sweep, last heard of 1\d s ago"
        ) as it,
        Lease(paths_of(tmp_path, "machine-2")),
    ):
        pass
    assert re.search(r"try again in (1\d|20) s", str(it.value))


def test_a_lease_that_expired_is_taken_over_and_the_late_one_notices(
    paths: SweepPaths, tmp_path: Path
) -> None:
    late = killed(paths)
    age(paths, module.EXPIRES_S + 1)
    with Lease(paths_of(tmp_path, "machine-2")) as lease:
        late.require_not_lost()  # it has not asked yet
        late._renewed_at -= module.EXPIRES_S
        with pytest.raises(LeaseLostError, match="took the sweep over"):
            late.require_mine()
        with pytest.raises(LeaseLostError):
            late.require_not_lost()
        lease._renew()


def test_who_was_taken_over_by_one_that_has_ended_since_notices(
    paths: SweepPaths, memory: MemoryStore, tmp_path: Path
) -> None:
    late = killed(paths)
    age(paths, module.EXPIRES_S + 1)
    with Lease(paths_of(tmp_path, "machine-2")):
        pass
    assert memory.names == set()
    with pytest.raises(LeaseLostError, match="another driver, which has ended since, took the sweep"):
        late._renew()
    assert late.is_lost and memory.names == set()


def test_an_object_that_is_no_lease_is_not_taken_for_ones_own(paths: SweepPaths) -> None:
    lease = killed(paths)
    write_object(paths.at_url(paths.lease), b"{")
    with pytest.raises(StoreError, match=r"driver\.json is no lease"):
        lease._renew()
    assert not lease.is_lost and read_object(paths.at_url(paths.lease)) == b"{"


def test_a_machine_need_not_wait_for_its_own_dead_driver(paths: SweepPaths) -> None:
    killed(paths)
    with Lease(paths) as lease:
        lease.require_mine()


def test_a_lease_is_renewed(paths: SweepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWED_EVERY_S", 0.05)
    with Lease(paths):
        age(paths, 100.0)
        deadline = time.monotonic() + 30
        while time.time() - json.loads(read_object(paths.at_url(paths.lease)))["renewed"] > 50:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_who_was_not_heard_of_for_long_is_not_certain_while_the_store_is_away(
    paths: SweepPaths, memory: MemoryStore
) -> None:
    lease = killed(paths)
    memory.is_away = True
    lease.require_mine()
    lease._renewed_at -= module.EXPIRES_S
    with pytest.raises(OSError, match="no answer"):
        lease.require_mine()
    memory.is_away = False
    lease.require_mine()


def test_a_lease_that_was_lost_is_not_given_back(paths: SweepPaths, tmp_path: Path) -> None:
    with Lease(paths):
        age(paths, module.EXPIRES_S + 1)
        other = killed(paths_of(tmp_path, "machine-2"))
    assert json.loads(read_object(paths.at_url(paths.lease)))["id"] == other._id


def test_a_store_that_takes_no_lease_is_told_with_the_setting(
    paths: SweepPaths, memory: MemoryStore
) -> None:
    memory.is_away = True
    with (
        pytest.raises(UserError, match=f"storage: {URL}/s/driver.json cannot be written") as raised,
        Lease(paths),
    ):
        pass
    assert raised.value.location == ("storage",)


def test_a_lease_that_is_renewed_no_more_is_waited_for(
    paths: SweepPaths, clock: Clock, tmp_path: Path
) -> None:
    killed(paths)
    clock.sleep(8.0)
    clock.slept.clear()
    other, told = paths_of(tmp_path, "machine-2"), list[str]()
    await_expiry(other, told.append)
    assert sum(clock.slept) == 22.0
    assert max(clock.slept) <= module.RENEWED_EVERY_S
    (text,) = told
    assert re.search(
        r"worked on this sweep, last heard of 8 s ago; waiting up to 22 s for another sign", text
    )
    with Lease(other) as lease:
        lease.require_mine()


def test_a_lease_that_is_renewed_is_not_waited_for(
    paths: SweepPaths, clock: Clock, tmp_path: Path
) -> None:
    clock.meanwhile = killed(paths)._renew
    told = list[str]()
    with pytest.raises(UserError, match="works on this sweep, last heard of 0 s ago; end it first"):
        await_expiry(paths_of(tmp_path, "machine-2"), told.append)
    assert (len(clock.slept), len(told)) == (1, 1)


def test_a_lease_that_another_one_took_meanwhile_is_not_waited_for(
    paths: SweepPaths, clock: Clock, tmp_path: Path
) -> None:
    killed(paths)
    others = [paths_of(tmp_path, name) for name in ("machine-2", "machine-3")]
    clock.sleep(29.0)
    clock.meanwhile = lambda: killed(others[0])
    with pytest.raises(UserError, match="works on this sweep, last heard of 0 s ago"):
        await_expiry(others[1], lambda _: None)


def test_a_lease_that_is_given_back_is_waited_for_no_longer(
    paths: SweepPaths, clock: Clock, memory: MemoryStore, tmp_path: Path
) -> None:
    lease = killed(paths)
    clock.meanwhile = lease.__exit__
    lease._thread.start()
    await_expiry(paths_of(tmp_path, "machine-2"), lambda _: None)
    assert len(clock.slept) == 1
    assert memory.names == set()


@pytest.mark.parametrize("seconds", [module.EXPIRES_S, module.EXPIRES_S + 1])
def test_a_lease_that_expired_is_not_waited_for(
    paths: SweepPaths, clock: Clock, tmp_path: Path, seconds: float
) -> None:
    killed(paths)
    age(paths, seconds)
    await_expiry(paths_of(tmp_path, "machine-2"), pytest.fail)
    assert not clock.slept


def test_nothing_is_waited_for_where_no_other_machine_has_the_lease_or_the_store_is_away(
    paths: SweepPaths, clock: Clock, memory: MemoryStore, tmp_path: Path
) -> None:
    await_expiry(paths, pytest.fail)
    killed(paths)
    await_expiry(paths, pytest.fail)
    memory.is_away = True
    await_expiry(paths_of(tmp_path, "machine-2"), pytest.fail)
    assert not clock.slept
