"""Starts or joins Ray, quietly. `orchestrator.process_environment` is prepared before."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray._private.services import canonicalize_bootstrap_address
from ray.autoscaler.sdk import request_resources
from ray.exceptions import AuthenticationError, RayError, RayTaskError

from orchestrator.errors import UserError
from orchestrator.ray_tasks import result_of
from orchestrator.ray_token import find_token, no_token, wrong_token
from orchestrator.resources import Node, bundles, concurrent_trials
from orchestrator.settings import ResourceSettings, SweepSettings
from trainables.errors import GpuMemoryError, NoGpuError

logger = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5.0
_LOOK_EVERY_S = 2.0
_LOST_AFTER_S = 30.0
_PRIVATE = "private_to_one_sweep"
"""The resource that marks a Ray which a sweep started for itself."""


def connect(address: str | None) -> None:
    """Joins the Ray cluster at `address` ("auto": the one on this machine), or starts a local one.

    Raises:
        UserError: there is no cluster at `address`, or it is of another version, or refuses the token.
    """
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init(
            address="local",
            include_dashboard=False,
            _temp_dir=None if "RAY_TMPDIR" in os.environ else str(_private_folder()),
            resources={_PRIVATE: 1},
            runtime_env=_worker_environment(),
            **options,
        )
    else:
        _join(address, options)
        _refuse_private(address)


def _private_folder() -> Path:
    """Where our own Ray has its sockets and logs: Ray lets every user of the machine write in them, so
    they are inside a folder that nobody else enters.

    Raises:
        UserError: somebody else made it.
    """
    folder = Path(tempfile.gettempdir()) / f"monocon-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise UserError(
            f"{folder} is not a folder that only you can enter, and Ray would put its sockets there; "
            "remove it, or set RAY_TMPDIR to a folder of your own"
        )
    return folder / "ray"  # which Ray opens to everybody


@contextlib.contextmanager
def room_asked(resources: ResourceSettings) -> Iterator[None]:
    """Asks a cluster that grows by itself for room for trials, while the block runs.

    There is one request a cluster, the last one that was made: another sweep's takes its place.
    """
    is_joined = _PRIVATE not in ray.cluster_resources()
    if not is_joined or not (resources.max_concurrent or resources.wait_for_nodes):
        yield
        return
    request_resources(bundles=bundles(resources, resources.max_concurrent or 1))
    try:
        yield
    finally:
        thread = threading.Thread(target=_ask_for_nothing, name="room", daemon=True)
        thread.start()
        thread.join(_CONNECT_TIMEOUT_S)  # a cluster that is lost does not answer


def _ask_for_nothing() -> None:
    with contextlib.suppress(Exception):  # whatever a cluster that is lost leads to
        request_resources(bundles=[])


def await_nodes(
    settings: SweepSettings, tell: Callable[[str], None], is_stopped: Callable[[], bool]
) -> list[Node]:
    """Waits for nodes that a trial, and a final evaluation, fit on, as long as the settings say.

    Returns:
        The resources of each node that is alive.

    Raises:
        KeyboardInterrupt: they are no longer wanted.
    """
    patience_s = settings.resources.wait_for_nodes or 0.0
    deadline = time.monotonic() + patience_s
    nodes, told = _alive_nodes(), ""
    while time.monotonic() < deadline and (what := _without_room(settings, nodes)):
        if what != told:
            tell(f"waiting up to {patience_s:g} s for a node that {what} fits on")
            told = what
        if is_stopped():
            raise KeyboardInterrupt
        time.sleep(_LOOK_EVERY_S)
        nodes = _alive_nodes()
    return nodes


def _without_room(settings: SweepSettings, nodes: Sequence[Node]) -> str:
    """What of a sweep fits on no node; empty where all does."""
    if not concurrent_trials(settings.resources, nodes):
        return "a trial"
    is_evaluated = settings.evaluation.points != "none"
    if is_evaluated and not concurrent_trials(settings.evaluation_resources, nodes):
        return "a final evaluation"
    return ""


def _alive_nodes() -> list[Node]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _join(address: str, options: dict[str, Any]) -> None:
    try:
        _require_listener(address)
        _require_token(address)
        ray.init(address=address, runtime_env=_worker_environment(), **options)
    except AuthenticationError:
        token = find_token(os.environ, Path.home())
        option = f"--address {address}"
        raise (wrong_token(option, token) if token else no_token(option, os.environ)) from None
    except (OSError, RuntimeError, ValueError, RayError) as error:
        if "Version mismatch" in str(error):  # Ray's RuntimeError has no type of its own
            raise UserError(_other_version(address, str(error))) from None
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({_first_line(error)}); "
            "start one with `ray start --head`, or leave --address out"
        ) from None


def _require_listener(address: str) -> None:
    """Fails at once where nothing listens; Ray itself would try for minutes. It takes "auto" for any Ray
    of this machine, and loopback for the machine's own address, where our own Ray does not listen.
    """
    if address.startswith(("http://", "https://")):
        raise ValueError(
            "that is a dashboard's address, which orchestrator.submit takes; give HOST:PORT"
        )
    place = address if "://" in address else canonicalize_bootstrap_address(address)
    if place is None:
        return  # nothing is found, which Ray says
    host, colon, port = place.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("an address is auto or HOST:PORT")
    socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()


def _require_token(address: str) -> None:
    """Fails at once where the cluster refuses the token; `ray.init` itself would ask for 20 s.

    Raises:
        AuthenticationError: it does.
    """
    from ray._private.services import canonicalize_bootstrap_address_or_die
    from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue] - compiled

    GcsClient(address=canonicalize_bootstrap_address_or_die(address))


def _other_version(address: str, text: str) -> str:
    """What differs, out of Ray's own text of several lines."""
    versions = " ".join(text.partition("Version mismatch:")[2].split())
    return (
        f"--address {address}: Ray or Python is of another version there ({versions}); "
        "install the same ones here and on the cluster"
    )


def _refuse_private(address: str) -> None:
    """A Ray that another sweep started for itself ends with that sweep."""
    if _PRIVATE in ray.cluster_resources():
        ray.shutdown()
        raise UserError(
            f"--address {address}: the Ray that runs here belongs to another sweep and ends with it; "
            "start one with `ray start --head`, or leave --address out"
        )


def describe_gpus(
    gpus: float, setting: tuple[str, str], tell: Callable[[str], None], is_stopped: Callable[[], bool]
) -> str:
    """Which GPU trials train or final evaluations run on, or how much memory their share of one is, as a
    node with one tells.

    Args:
        gpus: the share.
        setting: of the share.
        tell: takes a sentence where it takes long.
        is_stopped: whether it is no longer wanted.

    Raises:
        UserError: torch finds none there, or the share is too little for anything.
        KeyboardInterrupt: it is no longer wanted.
    """
    task = ray.remote(num_cpus=0, num_gpus=gpus)(_describe_gpus).remote(gpus, ".".join(setting))
    try:
        return result_of(task, f"a node with {gpus:g} GPU free, which says what it is", tell, is_stopped)
    except RayTaskError as error:
        if isinstance(error.cause, (NoGpuError, GpuMemoryError)):
            raise UserError(str(error.cause), location=setting) from None
        raise


def _describe_gpus(gpus: float, setting: str) -> str:
    from trainables.gpu_share import read_gpu_memory, require_gpu, share_sentence

    require_gpu(setting)
    return share_sentence(gpus, read_gpu_memory(), setting)


class ClusterWatch:
    """Knows which nodes a cluster has, from a thread that asks its head: one that does not answer would
    hold whoever asks.

    Args:
        nodes: those that there were at the start.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._own_node = ray.get_runtime_context().get_node_id()
        self._is_cut_off = False
        self._seen = time.monotonic()
        self._is_over = threading.Event()
        threading.Thread(target=self._look, name="nodes", daemon=True).start()

    @property
    def nodes(self) -> Sequence[Node]:
        """Of the head's last answer."""
        return self._nodes

    def lost(self) -> str:
        """Why no trial can run any more; empty while one can."""
        if self._is_cut_off:  # Ray starts nothing for a driver whose node died, and never will
            return "the Ray node that this driver works on died"
        if time.monotonic() - self._seen >= _LOST_AFTER_S:
            return f"the Ray cluster has had no node for {_LOST_AFTER_S:g} s"
        return ""

    def close(self) -> None:
        self._is_over.set()

    def _look(self) -> None:
        while not self._is_over.wait(_LOOK_EVERY_S):
            try:
                alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
            except Exception:  # the head is gone, in one way or another
                logger.warning("the head of the Ray cluster does not answer", exc_info=True)
                continue
            if not alive:
                continue
            self._seen, self._is_cut_off = time.monotonic(), self._own_node not in alive
            if list(alive.values()) != self._nodes:
                self._nodes = list(alive.values())


def _worker_environment() -> dict[str, dict[str, str]]:
    return {"env_vars": {"PYTHONWARNINGS": "ignore", "RAY_CHDIR_TO_TRIAL_DIR": "0"}}


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
