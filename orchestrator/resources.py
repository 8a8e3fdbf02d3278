"""How many trials a cluster can hold at once, and whether it can hold one at all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import UserError
from orchestrator.settings import ResourceSettings

Node = Mapping[str, float]
_ROUNDING = 1e-9  # 1 / (1 / 3) is a little below 3

_PATIENCE = ", or give nodes that are still to join time with resources.wait_for_nodes"


def concurrent_trials(resources: ResourceSettings, nodes: Sequence[Node]) -> int:
    """Trials that fit at once on nodes with so many CPU and GPU, at most `max_concurrent`."""
    places = sum(_places(resources, node) for node in nodes)
    fitting = places // max(1, resources.workers)
    return min(fitting, resources.max_concurrent or fitting)


def _places(resources: ResourceSettings, node: Node) -> int:
    places = int(node.get("CPU", 0) // resources.cpus)
    if not resources.gpus:
        return places
    num_gpus = int(node.get("GPU", 0))
    if resources.gpus < 1:  # a fraction stays on one GPU
        return min(places, num_gpus * int(1 / resources.gpus + _ROUNDING))
    return min(places, int(num_gpus // resources.gpus))


def bundles(resources: ResourceSettings, num_trials: int) -> list[dict[str, float]]:
    """What so many trials ask a cluster for, one entry a process, as Ray names it."""
    one = {"CPU": float(resources.cpus), **({"GPU": resources.gpus} if resources.gpus else {})}
    return [one] * (num_trials * max(1, resources.workers))


def require_fit(
    resources: ResourceSettings,
    nodes: Sequence[Node],
    place: str = "resources",
    who: str = "a trial",
    may_grow: bool = False,
) -> None:
    """Checks that at least one trial fits.

    Args:
        resources: what it asks for.
        nodes: what there is.
        place: the group of settings that asks.
        who: what asks.
        may_grow: whether other nodes may join.

    Raises:
        UserError: it can never run; the message names the largest node, and the largest group of
            workers that there can be.
    """
    if concurrent_trials(resources, nodes) > 0:
        return
    kinds = ("GPU", "CPU") if resources.gpus else ("CPU", "GPU")
    largest = max(nodes, key=lambda node: [node.get(kind, 0) for kind in kinds], default={})
    workers = f"{resources.workers} workers with " if resources.workers else ""
    raise UserError(
        f"{place}: {who} asks for {workers}{_text(resources.cpus, resources.gpus)}"
        f"{' each' if resources.workers else ''}, but the cluster has {len(nodes)} node(s), the largest "
        f"with {_text(largest.get('CPU', 0), largest.get('GPU', 0))}{_most(resources, nodes)}; "
        f"lower {_lowered(resources, place)}"
        f"{_PATIENCE if may_grow and not resources.wait_for_nodes else ''}",
        location=(place,),
    )


def _lowered(resources: ResourceSettings, place: str) -> str:
    """The settings that ask for more than the least."""
    asked = {"workers": resources.workers, "cpus": resources.cpus > 1, "gpus": resources.gpus}
    names = [f"{place}.{name}" for name, is_more in asked.items() if is_more] or [f"{place}.cpus"]
    return " or ".join([part for part in (", ".join(names[:-1]), names[-1]) if part])


def _most(resources: ResourceSettings, nodes: Sequence[Node]) -> str:
    """How many such workers fit at once, where some do."""
    places = sum(_places(resources, node) for node in nodes)
    return f", where {places} such worker{'s' if places != 1 else ''} fit" if places else ""


def _text(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU and {gpus:g} GPU" if gpus else f"{cpus:g} CPU"
