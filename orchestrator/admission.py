"""How many trials, or final evaluations, fit on a cluster at once, as its nodes come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.resources import Node, concurrent_trials
from orchestrator.settings import ResourceSettings


class Admission:
    """Asked before a trial is handed out: Ray would start, and keep waiting, what does not fit.

    Args:
        resources: of one.
        nodes: gives the cluster's nodes as they are now; another list where they changed.
        tell: takes a sentence whenever the number changes, and where nothing fits from the start.
        what: one is called.
    """

    def __init__(
        self,
        resources: ResourceSettings,
        nodes: Callable[[], Sequence[Node]],
        tell: Callable[[str], None],
        what: str = "trial",
    ) -> None:
        self._resources = resources
        self._look = nodes
        self._tell = tell
        self._what = what
        self._nodes = nodes()
        self._num = concurrent_trials(resources, self._nodes)
        if not self._num:
            tell(_sentence(len(self._nodes), 0, what))

    def __call__(self) -> int:
        """As many as fit at once."""
        nodes = self._look()
        if nodes is not self._nodes:
            self._nodes = nodes
            num = concurrent_trials(self._resources, nodes)
            if num != self._num:
                self._num = num
                self._tell(_sentence(len(nodes), num, self._what))
        return self._num


def _sentence(num_nodes: int, num: int, what: str) -> str:
    nodes = f"the cluster has {num_nodes} node{'s' if num_nodes != 1 else ''} now"
    if num == 0:
        return f"{nodes}, and no {what} fits: waiting for others to join"
    return f"{nodes}, for {num} {what}{'s' if num != 1 else ''} at once"
