"""What a point must hold to count: `knn_accuracy >= 0.99 * baseline`, read without eval. Pure.

A constraint compares an expression over a point's metrics, on the left, with one over numbers and the
baseline's metrics, on the right. `baseline.METRIC` is a metric of the baseline trial's best point, and
`baseline` alone is the left side there. Used by the record (front), early stopping, the sampler,
retention, the pages and `orchestrator.pick`; the reference point's expressions are of the same language.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.settings_sentences import nearest
from trainables.reports import METRIC_NAMES_IN_SHORT, METRICS

Metrics = Mapping[str, float]

BASELINE = "baseline"
_MAX_LENGTH = 200
_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}
_EXAMPLE = "d_eff <= 0.5 * baseline"


class Names(NamedTuple):
    """The metrics that an expression reads: of the point, and of the baseline."""

    own: frozenset[str]
    of_baseline: frozenset[str]


@dataclass(frozen=True)
class Expression:
    """Numbers, metrics and `baseline.METRIC` with + - * / and brackets.

    Attributes:
        text: as it was written.
    """

    text: str
    _node: ast.expr = field(compare=False, repr=False)

    @property
    def names(self) -> Names:
        found = list(_names(self._node))
        return Names(
            frozenset(name for is_baseline, name in found if not is_baseline),
            frozenset(name for is_baseline, name in found if is_baseline),
        )

    def value(self, metrics: Metrics, baseline: Metrics) -> float:
        """Its value for a point; NaN where a metric is absent or a division is by zero."""
        try:
            return _value(self._node, metrics, baseline)
        except (KeyError, ZeroDivisionError, OverflowError):
            return math.nan


@dataclass(frozen=True)
class Constraint:
    """`left >= right` or `left <= right`.

    Attributes:
        text: as it was written.
        left: over the point's metrics.
        right: over numbers and the baseline's metrics.
        is_lower_bound: whether it is `>=`.
    """

    text: str
    left: Expression
    right: Expression
    is_lower_bound: bool

    @property
    def needs_baseline(self) -> bool:
        return bool(self.right.names.of_baseline)

    def minimised(self, metrics: Metrics) -> float:
        """The left side, smaller where the constraint is easier to hold, whatever the baseline is."""
        value = self.left.value(metrics, {})
        return -value if self.is_lower_bound else value

    def excess(self, metrics: Metrics, baseline: Metrics) -> float:
        """How far a point is from holding it, as a share of the bound; 0 or less where it does.

        Infinite where it cannot be judged since a value is not a number.
        """
        bound = self.right.value(metrics, baseline)
        difference = self.left.value(metrics, baseline) - bound
        excess = (-difference if self.is_lower_bound else difference) / (abs(bound) or 1.0)
        return math.inf if math.isnan(excess) else excess


class Constraints:
    """All constraints of a sweep.

    Args:
        constraints: each of them must hold.
    """

    def __init__(self, constraints: Sequence[Constraint] = ()) -> None:
        self._all = tuple(constraints)

    @staticmethod
    def of(texts: Sequence[str]) -> Constraints:
        """The constraints of a sweep's settings, which were found legal."""
        return Constraints([parse_constraint(text) for text in texts])

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Constraint]:
        return iter(self._all)

    @property
    def need_baseline(self) -> bool:
        return any(constraint.needs_baseline for constraint in self._all)

    def texts(self) -> list[str]:
        return [constraint.text for constraint in self._all]

    def minimised(self, metrics: Metrics) -> tuple[float, ...]:
        """The left sides. Of two points of equal objectives the one that is nowhere larger here is
        feasible whenever the other is, so only non-dominated ones can ever matter.
        """
        return tuple(constraint.minimised(metrics) for constraint in self._all)

    def excesses(self, metrics: Metrics, baseline: Metrics | None) -> list[float]:
        """Per constraint, how far a point is from holding it; 0 or less where it does.

        Args:
            metrics: the point's.
            baseline: the baseline's; None while it is not known, where a constraint that names it
                counts as held.
        """
        return [
            0.0 if baseline is None and c.needs_baseline else c.excess(metrics, baseline or {})
            for c in self._all
        ]

    def violation(self, metrics: Metrics, baseline: Metrics | None) -> float:
        """The sum of the excesses of the constraints that a point breaks; 0 where it is feasible."""
        return sum((max(excess, 0.0) for excess in self.excesses(metrics, baseline)), 0.0)


def parse_constraint(text: str) -> Constraint:
    """Reads a constraint.

    Raises:
        ValueError: it is none; the message says why and what to write.
    """
    node = _parse(text)
    if not isinstance(node, ast.Compare):
        raise ValueError(f"a constraint compares with >= or <=, such as {_EXAMPLE!r}; got {text!r}")
    if len(node.ops) > 1:
        raise ValueError(f"a constraint has one comparison; write {text!r} as two")
    if not isinstance(node.ops[0], (ast.GtE, ast.LtE)):
        raise ValueError(f"a constraint compares with >= or <=; got {text!r}")
    left_node, right_node = node.left, node.comparators[0]
    left, right = _expression(text, left_node), _expression(text, right_node)
    if right.names.own or not left.names.own or left.names.of_baseline:
        raise ValueError(
            "the metrics of a point stand on the left, numbers and the baseline's on the right, such "
            f"as {_EXAMPLE!r}; got {text!r}"
        )
    _require_a_number(text, right, left)
    bound = _Substitute(left_node).visit(right_node)
    right = Expression(right.text, bound)
    return Constraint(text, left, right, isinstance(node.ops[0], ast.GtE))


def parse_bound(text: str, metric: str) -> Expression:
    """Reads an expression over numbers and the baseline, whose own value of `metric` `baseline` is.

    Raises:
        ValueError: it is none; the message says why and what to write.
    """
    node = _parse(text)
    found = _expression(text, node)
    if found.names.own:
        raise ValueError(
            f"it is a number, or an expression over the baseline such as '1.5 * baseline'; got {text!r}"
        )
    _require_a_number(text, found)
    return Expression(text, _Substitute(ast.Name(metric)).visit(node))


def _require_a_number(text: str, *expressions: Expression) -> None:
    """Checks that what reads no metric has a value."""
    for expression in expressions:
        if not any(expression.names) and not math.isfinite(expression.value({}, {})):
            raise ValueError(f"{text!r} has no value: {expression.text!r} is not a finite number")


def _parse(text: str) -> ast.expr:
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"it has {len(text)} characters, and at most {_MAX_LENGTH} are read")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} cannot be read; write it like {_EXAMPLE!r}") from None


def _expression(text: str, node: ast.expr) -> Expression:
    """Checks that a tree has nothing in it but what the language knows."""
    _check(node, text)
    return Expression(ast.get_source_segment(text.strip(), node) or text, node)


def _check(node: ast.expr, text: str) -> None:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if not math.isfinite(value):
                raise ValueError(f"{text!r} has a number that is not finite")
        case ast.Name(id=name):
            if name != BASELINE:
                _check_metric(name)
        case ast.Attribute(value=ast.Name(id="baseline"), attr=name):
            _check_metric(name)
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), left=left, right=right):
            _check(left, text)
            _check(right, text)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, text)
        case _:
            part = ast.get_source_segment(text.strip(), node)
            raise ValueError(
                f"{text!r} has {part!r}; it may have numbers, metrics, baseline, baseline.METRIC, "
                "+ - * / and brackets"
            )


def _check_metric(name: str) -> None:
    if name not in METRICS:
        raise ValueError(f"no metric is called {name!r}{nearest(name, METRICS, METRIC_NAMES_IN_SHORT)}")


class _Substitute(ast.NodeTransformer):
    """Puts an expression's value at the baseline in the place of `baseline` alone."""

    def __init__(self, left: ast.expr) -> None:
        self._at_baseline = _AtBaseline().visit(_copy(left))

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._at_baseline if node.id == BASELINE else node


class _AtBaseline(ast.NodeTransformer):
    """Makes each metric of a point the baseline's."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Attribute(ast.Name(BASELINE), node.id)


def _copy(node: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(node), mode="eval").body


def _names(node: ast.expr) -> Iterator[tuple[bool, str]]:
    """Whether it is the baseline's, and the name, of each metric; `baseline` alone names itself."""
    match node:
        case ast.Name(id=name):
            yield name == BASELINE, name
        case ast.Attribute(attr=name):
            yield True, name
        case ast.BinOp(left=left, right=right):
            yield from _names(left)
            yield from _names(right)
        case ast.UnaryOp(operand=operand):
            yield from _names(operand)
        case _:
            pass


def _value(node: ast.expr, metrics: Metrics, baseline: Metrics) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id=name):
            return metrics[name]
        case ast.Attribute(attr=name):
            return baseline[name]
        case ast.BinOp(left=left, op=op, right=right):
            operation = _OPERATIONS[type(op)]
            return operation(_value(left, metrics, baseline), _value(right, metrics, baseline))
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, metrics, baseline)
            return -value if isinstance(op, ast.USub) else value
    raise AssertionError(f"{ast.dump(node)} was checked")
