"""How many trials a cluster can hold at once, and whether it can hold one at all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import UserError
from orchestrator.settings import ResourceSettings

Node = Mapping[str, float]


def concurrent_trials(resources: ResourceSettings, nodes: Sequence[Node]) -> int:
    """Trials that fit at once on nodes with so many CPU and GPU, at most `max_concurrent`."""
    places = sum(_places(resources, node) for node in nodes)
    fitting = places // max(1, resources.workers)
    return min(fitting, resources.max_concurrent or fitting)


def _places(resources: ResourceSettings, node: Node) -> int:
    places = int(node.get("CPU", 0) // resources.cpus)
    if resources.gpus:
        places = min(places, int(node.get("GPU", 0) / resources.gpus + 1e-9))
    return places


def require_fit(resources: ResourceSettings, nodes: Sequence[Node]) -> None:
    """Checks that at least one trial fits.

    Raises:
        UserError: no trial can ever run; the message names the largest node.
    """
    if concurrent_trials(resources, nodes) > 0:
        return
    largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), default={})
    workers = f"{resources.workers} workers with " if resources.workers else ""
    raise UserError(
        f"resources: a trial asks for {workers}{_text(resources.cpus, resources.gpus)}"
        f"{' each' if resources.workers else ''}, but the cluster has {len(nodes)} node(s), the largest "
        f"with {_text(largest.get('CPU', 0), largest.get('GPU', 0))}; "
        "lower resources.workers, resources.cpus or resources.gpus"
    )


def _text(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU and {gpus:g} GPU" if gpus else f"{cpus:g} CPU"
