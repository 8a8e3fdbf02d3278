"""What may vary in a sweep: parameters, their ranges, and when they exist. Pure, torch-free.

Used by `orchestrator.settings` to read the YAML and by `orchestrator.proposals` to draw from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, model_validator

from trainables.config import TrialConfig

Value = str | int | float | bool | None
IntRange = tuple[int, int]
FloatRange = tuple[float, float]
KINDS = ("choice", "int", "uniform", "log_uniform")


class Parameter(BaseModel):
    """One parameter's distribution: exactly one of choice, int, uniform, log_uniform.

    Attributes:
        choice: the values to choose from.
        int: [low, high], both included.
        uniform: [low, high].
        log_uniform: [low, high], 0 < low, uniform in the logarithm.
        when: the parameter exists only where every parameter named here has one of the listed values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    choice: list[Value] | None = None
    int: IntRange | None = None
    uniform: FloatRange | None = None
    log_uniform: FloatRange | None = None
    when: dict[str, list[Value]] = {}

    @model_validator(mode="before")
    @classmethod
    def _listify(cls, data: Any) -> Any:
        """YAML has lists where a range is a pair, and a single value where a list has one element."""
        if not isinstance(data, Mapping):
            raise ValueError(
                f"a parameter is a mapping like {{uniform: [0.1, 0.5]}}, got {data!r}; "
                "a fixed value belongs under trial"
            )
        data = dict(data)
        for kind in KINDS[1:]:
            if data.get(kind) is not None:
                if not isinstance(data[kind], (list, tuple)) or len(data[kind]) != 2:
                    raise ValueError(f"{kind} takes [low, high], got {data[kind]!r}")
                data[kind] = tuple(data[kind])
        if isinstance(data.get("choice"), list):
            for value in data["choice"]:
                if isinstance(value, (list, dict)):
                    raise ValueError(f"choice takes single values, got {value!r}")
        if isinstance(data.get("when"), Mapping):
            data["when"] = {
                name: list(values) if isinstance(values, list) else [values]
                for name, values in data["when"].items()
            }
        return data

    @model_validator(mode="after")
    def _check(self) -> Parameter:
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise ValueError(f"a parameter has exactly one of {', '.join(KINDS)}; got {got}")
        if self.choice is not None and not self.choice:
            raise ValueError("choice is empty; list at least one value")
        if self.choice is not None and len({(isinstance(v, bool), v) for v in self.choice}) < len(
            self.choice
        ):
            raise ValueError(f"choice names a value twice: {self.choice}")
        if self.choice is None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}; swap them")
        if self.log_uniform is not None and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, got low {self.low:g}")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def low(self) -> float:
        return getattr(self, self.kind)[0]

    @property
    def high(self) -> float:
        return getattr(self, self.kind)[1]

    def extremes(self) -> Sequence[Value]:
        """The values that must all be legal for every drawn value to be: choices, or both ends."""
        return self.choice if self.choice is not None else [self.low, self.high]

    def quantile(self, share: float) -> Value:
        """The value that a share of the draws, in [0, 1), lies below."""
        if self.choice is not None:
            return self.choice[int(share * len(self.choice))]
        low, high = self.low, self.high
        if self.int is not None:
            return int(low + math.floor(share * (high - low + 1)))
        value = low * (high / low) ** share if self.log_uniform else low + share * (high - low)
        return min(max(value, low), high)

    def contains(self, value: Value) -> bool:
        """Whether `value` can be drawn."""
        if self.choice is not None:
            return any(
                value == v and isinstance(value, bool) == isinstance(v, bool) for v in self.choice
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        if self.kind == "int" and not float(value).is_integer():
            return False
        return self.low <= value <= self.high and math.isfinite(value)


class Fault(NamedTuple):
    """Something wrong in a search space: the parameter's key (and the key below it) and a message."""

    location: tuple[str, ...]
    message: str


def order(space: Mapping[str, Parameter]) -> list[str]:
    """Parameter names, each after the ones that its `when` names.

    Raises:
        ValueError: the conditions form a cycle; the message names it.
    """
    ordered: list[str] = []
    open_names: list[str] = []

    def visit(name: str) -> None:
        if name in ordered:
            return
        if name in open_names:
            cycle = [*open_names[open_names.index(name) :], name]
            raise ValueError(f"the conditions form a cycle: {' -> '.join(cycle)}")
        open_names.append(name)
        for parent in space[name].when:
            if parent in space:
                visit(parent)
        open_names.remove(name)
        ordered.append(name)

    for name in space:
        visit(name)
    return ordered


def is_active(parameter: Parameter, values: Mapping[str, Value]) -> bool:
    """Whether a parameter exists, given the values of those before it."""
    return all(name in values and values[name] in allowed for name, allowed in parameter.when.items())


def complete(
    space: Mapping[str, Parameter], base: TrialConfig, given: Mapping[str, Value]
) -> dict[str, Value]:
    """`given` with a value for every parameter that exists beside it; what it leaves out is `base`'s."""
    values: dict[str, Value] = {}
    for name in order(space):
        if is_active(space[name], values):
            values[name] = given.get(name, default_of(base, name))
    return values


def combinations(space: Mapping[str, Parameter], names: Iterable[str]) -> Iterator[dict[str, Value]]:
    """Every combination of the extremes of some parameters and of those that their `when`s name."""
    needed = set(names)
    pending = list(needed)
    while pending:
        parents = space[pending.pop()].when.keys() - needed
        needed |= parents
        pending += parents
    tested: dict[str, list[Value]] = {name: [] for name in needed}
    for name in needed:
        for parent, allowed in space[name].when.items():
            tested[parent] += allowed
    ordered = [name for name in order(space) if name in needed]
    return _product(space, ordered, lambda name: dict.fromkeys([*space[name].extremes(), *tested[name]]))


def grid(space: Mapping[str, Parameter]) -> Iterator[dict[str, Value]]:
    """Every point of a space of choices and integers; the last parameter changes first."""

    def values_of(name: str) -> Iterable[Value]:
        parameter = space[name]
        if parameter.choice is not None:
            return dict.fromkeys(parameter.choice)
        assert parameter.int is not None, f"{name} has no finite number of values"
        low, high = parameter.int
        return range(low, high + 1)

    return _product(space, order(space), values_of)


def _product(
    space: Mapping[str, Parameter], ordered: Sequence[str], values_of: Callable[[str], Iterable[Value]]
) -> Iterator[dict[str, Value]]:
    """Every combination of values, without those of parameters that do not exist in it."""

    def extend(values: dict[str, Value], index: int) -> Iterator[dict[str, Value]]:
        if index == len(ordered):
            yield values
            return
        name = ordered[index]
        if not is_active(space[name], values):
            yield from extend(values, index + 1)
            return
        for value in values_of(name):
            yield from extend({**values, name: value}, index + 1)

    return extend({}, 0)


def check(space: Mapping[str, Parameter]) -> list[Fault]:
    """Everything about the conditions that can be wrong in a space of well-formed parameters."""
    faults = [fault for name, p in space.items() for fault in _check_when(name, p, space)]
    if not faults:
        try:
            order(space)
        except ValueError as error:
            cycle_start = str(error).rsplit("-> ", 1)[-1]
            faults.append(Fault((cycle_start, "when"), f"{error}; remove one of these `when`s"))
    return faults


def _check_when(name: str, parameter: Parameter, space: Mapping[str, Parameter]) -> list[Fault]:
    faults = []
    for parent, allowed in parameter.when.items():
        location = (name, "when", parent)
        if parent not in space:
            known = ", ".join(other for other in space if other != name)
            message = f"`when` names {parent!r}, which is not a parameter of this space ({known})"
            faults.append(Fault(location, message))
            continue
        impossible = [value for value in allowed if not space[parent].contains(value)]
        if impossible or not allowed:
            message = f"{parent} never takes {impossible or 'a value of an empty list'}"
            faults.append(Fault(location, message))
    return faults


def default_of(config: TrialConfig, name: str) -> Value:
    """The value that a trial configuration has at a dotted name such as `optimizer.head_lr`.

    Raises:
        KeyError: there is no such setting, or it is a group of settings.
    """
    value: Any = config
    for part in name.split("."):
        if not isinstance(value, BaseModel) or part not in type(value).model_fields:
            raise KeyError(name)
        value = getattr(value, part)
    if isinstance(value, BaseModel):
        raise KeyError(name)
    return value


def setting_names(model: type[BaseModel] = TrialConfig, prefix: str = "") -> list[str]:
    """The dotted names of every setting of a trial."""
    names: list[str] = []
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names += setting_names(annotation, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def to_trial_config(base: TrialConfig, values: Mapping[str, Value]) -> TrialConfig:
    """The base configuration with dotted values put in their places.

    Raises:
        pydantic.ValidationError: a value is not legal for its setting.
    """
    data = base.model_dump()
    for name, value in values.items():
        *groups, last = name.split(".")
        target = data
        for group in groups:
            target = target[group]
        target[last] = value
    return TrialConfig.model_validate(data)
