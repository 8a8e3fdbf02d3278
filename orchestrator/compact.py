"""Metrics by name in a fraction of a dict's memory, for the record that keeps those of every point."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

_SHARED_PLACES: dict[tuple[str, ...], dict[str, int]] = {}
"""Name to place, once for all metrics that have the same names in the same order."""


class CompactMetrics(Mapping[str, float]):
    """What a dict of floats holds, unchangeable; reports have few sets of names and many values."""

    __slots__ = ("_places", "_values")

    def __init__(self, metrics: Mapping[str, float]) -> None:
        names = tuple(metrics)
        places = _SHARED_PLACES.get(names)
        if places is None:
            places = _SHARED_PLACES[names] = {name: place for place, name in enumerate(names)}
        self._places = places
        self._values = array("d", list(metrics.values()))  # from an iterator it takes more than it needs

    def __getitem__(self, name: str) -> float:
        return self._values[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"CompactMetrics({dict(self)})"
