"""How many trials a cluster can hold at once, and whether it can hold one at all. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.errors import UserError
from orchestrator.settings import ResourceSettings

Node = Mapping[str, float]
_ROUNDING = 1e-9  # 1 / (1 / 3) is a little below 3


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


def require_fit(
    resources: ResourceSettings, nodes: Sequence[Node], place: str = "resources", who: str = "a trial"
) -> None:
    """Checks that at least one trial fits.

    Args:
        resources: what it asks for.
        nodes: what there is.
        place: the group of settings that asks.
        who: what asks.

    Raises:
        UserError: it can never run; the message names the largest node.
    """
    if concurrent_trials(resources, nodes) > 0:
        return
    kinds = ("GPU", "CPU") if resources.gpus else ("CPU", "GPU")
    largest = max(nodes, key=lambda node: [node.get(kind, 0) for kind in kinds], default={})
    names = (
        ["workers", "cpus", "gpus"] if resources.workers or place == "resources" else ["cpus", "gpus"]
    )
    workers = f"{resources.workers} workers with " if resources.workers else ""
    raise UserError(
        f"{place}: {who} asks for {workers}{_text(resources.cpus, resources.gpus)}"
        f"{' each' if resources.workers else ''}, but the cluster has {len(nodes)} node(s), the largest "
        f"with {_text(largest.get('CPU', 0), largest.get('GPU', 0))}; "
        f"lower {', '.join(f'{place}.{name}' for name in names[:-1])} or {place}.{names[-1]}",
        location=(place,),
    )


def _text(cpus: float, gpus: float) -> str:
    return f"{cpus:g} CPU and {gpus:g} GPU" if gpus else f"{cpus:g} CPU"
