"""How many trials fit on a cluster at once, as its nodes come and go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.resources import Node, concurrent_trials
from orchestrator.settings import ResourceSettings


class Admission:
    """Asked before a trial is handed out: Ray would start, and keep waiting, what does not fit.

    Args:
        resources: of a trial.
        nodes: gives the cluster's nodes as they are now; another list where they changed.
        tell: takes a sentence whenever the number changes.
    """

    def __init__(
        self,
        resources: ResourceSettings,
        nodes: Callable[[], Sequence[Node]],
        tell: Callable[[str], None],
    ) -> None:
        self._resources = resources
        self._look = nodes
        self._tell = tell
        self._nodes = nodes()
        self._num_trials = concurrent_trials(resources, self._nodes)

    def __call__(self) -> int:
        """Trials that fit at once."""
        nodes = self._look()
        if nodes is not self._nodes:
            self._nodes = nodes
            num_trials = concurrent_trials(self._resources, nodes)
            if num_trials != self._num_trials:
                self._num_trials = num_trials
                self._tell(_sentence(len(nodes), num_trials))
        return self._num_trials


def _sentence(num_nodes: int, num_trials: int) -> str:
    nodes = f"the cluster has {num_nodes} node{'s' if num_nodes != 1 else ''} now"
    if num_trials == 0:
        return f"{nodes}, and no trial fits: waiting for others to join"
    return f"{nodes}, for {num_trials} trial{'s' if num_trials != 1 else ''} at once"
