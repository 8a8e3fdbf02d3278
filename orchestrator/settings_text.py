"""SweepSettings as a sweep file again, and out of a ledger."""

from __future__ import annotations

import io
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ruamel.yaml import YAML

from orchestrator.settings import SweepSettings

_DURATIONS = ("time_budget", "checkpoint_every", "trial_timeout", "timeout", "wait_for_nodes")


def to_yaml(settings: SweepSettings) -> str:
    """The resolved settings as a sweep file that `load_settings` reads back to the same settings."""
    data = settings.model_dump(mode="json")
    data["search_space"] = {
        name: parameter.model_dump(mode="json", exclude_defaults=True)
        for name, parameter in settings.search_space.items()
    }
    data = _with_units(data)
    text = io.StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # pyright: ignore[reportAttributeAccessIssue]
    yaml.dump(data, text)
    return text.getvalue()


def from_data(data: Mapping[str, Any]) -> SweepSettings:
    """Inverts `model_dump`, as a ledger has it.

    Raises:
        pydantic.ValidationError: they are of a version that had other settings.
    """
    return SweepSettings.model_validate(_with_units(data))


def _with_units(data: Mapping[str, Any]) -> dict[str, Any]:
    """Dumped settings as people write them: with a unit to each duration."""
    return {
        name: _with_units(value)
        if isinstance(value, Mapping)
        else _duration_text(value)
        if name in _DURATIONS
        else value
        for name, value in data.items()
    }


def _duration_text(seconds: float | None) -> str | None:
    """Inverts `parse_duration`."""
    return None if seconds is None else f"{Decimal(repr(seconds)):f}s"
