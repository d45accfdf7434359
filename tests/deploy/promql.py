"""As much of Prometheus as our alert rules need: expressions over series written as in promtool's unit tests, and alerts with their `for`.

promtool itself comes in no Python package (`make alerts` fetches it where it can), so its file of tests is run here as well: the syntax by
promql-parser, the meaning by these lines, after promql/functions.go (rates are extrapolated as there). What a rule uses and this does not
know is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import promql_parser as pp

Labels = frozenset[tuple[str, str]]
Series = Mapping[Labels, Sequence[tuple[float, float]]]
Vector = dict[Labels, float]
_LOOKBACK_S = 300.0
_STEP = re.compile(r"(?P<first>-?[\d.]+)(?P<by>[+-][\d.]+)?x(?P<times>\d+)|(?P<plain>-?[\d.]+)")
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b if b else (math.nan if not a or math.isnan(a) else math.copysign(math.inf, a)),
}
_COMPARISON: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}
_AGGREGATE: dict[str, Callable[[list[float]], float]] = {"sum": sum, "max": max, "min": min, "count": len, "avg": lambda v: sum(v) / len(v)}


def series(given: Sequence[Mapping[str, str]], interval_s: float) -> Series:
    """`input_series` of a test: labels (with `__name__`) -> (time, value), from time 0 on."""
    return {_labels(pp.parse(one["series"])): list(_samples(one["values"], interval_s)) for one in given}


def evaluate(expression: str, of: Series, at: float) -> Vector | float:
    """The value of an expression at an instant."""
    return _eval(pp.parse(expression), of, at)


def firing(rule: Mapping[str, Any], of: Series, at: float, every_s: float) -> list[dict[str, dict[str, str]]]:
    """Alerts of a rule that fire at an instant, evaluated from time 0 on: their labels and annotations."""
    since: dict[Labels, float] = {}
    expression, hold_s = pp.parse(rule["expr"]), (pp.parse_duration(rule["for"]).total_seconds() if "for" in rule else 0.0)
    for i in range(int(at // every_s) + 1):
        now = i * every_s
        found = _eval(expression, of, now)
        assert isinstance(found, dict), rule["alert"]
        active = {_without(labels, {"__name__"}) for labels in found}
        since = {labels: since.get(labels, now) for labels in active}
    out = []
    for labels, began in since.items():
        if at - began >= hold_s:
            shown = dict(labels)
            out.append(
                {
                    "exp_labels": shown | rule["labels"],
                    "exp_annotations": {k: _rendered(text, shown) for k, text in rule["annotations"].items()},
                }
            )
    return sorted(out, key=by_labels)


def by_labels(alert: Mapping[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    """An order of alerts."""
    return sorted(alert["exp_labels"].items())


def walk(expression: str) -> list[Any]:
    """Every node of an expression."""
    nodes: list[Any] = []
    pp.walk(pp.parse(expression), nodes.append)
    return nodes


def _rendered(text: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda m: labels[m.group(1)], text)


def _samples(values: str, interval_s: float) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    n = 0
    for part in values.split():
        absent = re.fullmatch(r"_(x(\d+))?", part)
        if absent:
            n += int(absent.group(2) or 1)
            continue
        found = _STEP.fullmatch(part)
        assert found, part
        first, by = float(found["first"] or found["plain"]), float(found["by"] or 0.0)
        for k in range(int(found["times"] or 0) + 1):
            out.append((n * interval_s, first + k * by))
            n += 1
    return out


def _labels(selector: Any) -> Labels:
    return frozenset({("__name__", selector.name)} | {(m.name, m.value) for m in selector.matchers.matchers})


def _without(labels: Labels, names: set[str]) -> Labels:
    return frozenset((k, v) for k, v in labels if k not in names)


def _matches(matcher: Any, labels: Mapping[str, str]) -> bool:
    value, op = labels.get(matcher.name, ""), matcher.op
    if op in (pp.MatchOp.Equal, pp.MatchOp.NotEqual):
        return (value == matcher.value) == (op == pp.MatchOp.Equal)
    return (re.fullmatch(matcher.value, value) is not None) == (op == pp.MatchOp.Re)


def _chosen(selector: Any, of: Series) -> list[tuple[Labels, Sequence[tuple[float, float]]]]:
    out = []
    for labels, samples in of.items():
        own = dict(labels)
        if own["__name__"] == selector.name and all(_matches(m, own) for m in selector.matchers.matchers):
            out.append((labels, samples))
    return out


def _offset(selector: Any) -> float:
    return selector.offset.total_seconds() if selector.offset is not None else 0.0


def _eval(node: Any, of: Series, at: float) -> Vector | float:
    if isinstance(node, pp.NumberLiteral):
        return float(node.val)
    if isinstance(node, pp.ParenExpr):
        return _eval(node.expr, of, at)
    if isinstance(node, pp.VectorSelector):
        until = at - _offset(node)
        latest = {labels: [v for t, v in samples if until - _LOOKBACK_S < t <= until] for labels, samples in _chosen(node, of)}
        return {labels: values[-1] for labels, values in latest.items() if values}
    if isinstance(node, pp.AggregateExpr):
        return _aggregated(node, _vector(node.expr, of, at))
    if isinstance(node, pp.Call):
        return _called(node, of, at)
    if isinstance(node, pp.BinaryExpr):
        return _binary(node, _eval(node.lhs, of, at), _eval(node.rhs, of, at))
    raise NotImplementedError(f"{type(node).__name__}: {node.prettify()}")


def _vector(node: Any, of: Series, at: float) -> Vector:
    found = _eval(node, of, at)
    assert isinstance(found, dict), node.prettify()
    return found


def _aggregated(node: Any, found: Vector) -> Vector:
    by = None if node.modifier is None else set(node.modifier.labels)
    assert node.modifier is None or node.modifier.type == pp.AggModifierType.By, "without is not known here"
    groups: dict[Labels, list[float]] = {}
    for labels, value in found.items():
        groups.setdefault(frozenset((k, v) for k, v in labels if by is not None and k in by), []).append(value)
    return {labels: float(_AGGREGATE[str(node.op)](values)) for labels, values in groups.items()}


def _called(node: Any, of: Series, at: float) -> Vector:
    name = node.func.name
    if name in ("rate", "increase"):
        (matrix,) = node.args
        window_s = matrix.range.total_seconds()
        until = at - _offset(matrix.vector_selector)
        out = {}
        for labels, samples in _chosen(matrix.vector_selector, of):
            inside = [(t, v) for t, v in samples if until - window_s <= t <= until]
            if len(inside) >= 2:
                grown = _increase(inside, until - window_s, until)
                out[_without(labels, {"__name__"})] = grown / window_s if name == "rate" else grown
        return out
    if name == "abs":
        return {_without(labels, {"__name__"}): abs(v) for labels, v in _vector(node.args[0], of, at).items()}
    if name == "histogram_quantile":
        return _quantiles(float(node.args[0].val), _vector(node.args[1], of, at))
    raise NotImplementedError(name)


def _increase(inside: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """promql/functions.go, extrapolatedRate of a counter."""
    grown = inside[-1][1] - inside[0][1] + sum(a[1] for a, b in pairwise(inside) if b[1] < a[1])
    sampled = inside[-1][0] - inside[0][0]
    average = sampled / (len(inside) - 1)
    to_start, to_end, beyond = inside[0][0] - start, end - inside[-1][0], average * 1.1
    to_start = average / 2 if to_start >= beyond else to_start
    if grown > 0 and inside[0][1] >= 0:
        to_start = min(to_start, sampled * inside[0][1] / grown)
    to_end = average / 2 if to_end >= beyond else to_end
    return grown * (sampled + to_start + to_end) / sampled


def _quantiles(q: float, found: Vector) -> Vector:
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    for labels, value in found.items():
        buckets.setdefault(_without(labels, {"le"}), []).append((float(dict(labels)["le"]), value))
    out = {}
    for labels, of in buckets.items():
        steps = sorted(of)
        rank = q * steps[-1][1]
        i = next((k for k, (_, count) in enumerate(steps) if count >= rank), len(steps) - 1)
        if i == len(steps) - 1:
            out[labels] = steps[-2][0]
            continue
        low, below = steps[i - 1] if i else (0.0, 0.0)
        out[labels] = low + (steps[i][0] - low) * (rank - below) / (steps[i][1] - below) if steps[i][1] > below else math.nan
    return out


def _binary(node: Any, left: Vector | float, right: Vector | float) -> Vector | float:
    op = str(node.op)
    if isinstance(left, dict) and isinstance(right, dict):
        pairs = _joined(node, left, right)
    elif isinstance(left, dict):
        pairs = [(labels, value, right) for labels, value in left.items()]
    elif isinstance(right, dict):
        pairs = [(labels, left, value) for labels, value in right.items()]
    else:
        return _ARITHMETIC[op](left, right)
    if op in _COMPARISON:
        return {labels: (a if isinstance(left, dict) else b) for labels, a, b in pairs if _COMPARISON[op](a, b)}
    return {_without(labels, {"__name__"}): _ARITHMETIC[op](a, b) for labels, a, b in pairs}


def _joined(node: Any, left: Vector, right: Vector) -> list[tuple[Labels, float, float]]:
    """Pairs of samples whose labels agree; several on the left may share one on the right only under `group_left`."""
    on = None if node.modifier is None or node.modifier.matching is None else set(node.modifier.matching.labels)

    def key(labels: Labels) -> Labels:
        return _without(labels, {"__name__"}) if on is None else frozenset((k, v) for k, v in labels if k in on)

    other = {key(labels): value for labels, value in right.items()}
    assert len(other) == len(right), "many-to-many"
    out = [(labels, value, other[key(labels)]) for labels, value in left.items() if key(labels) in other]
    many = node.modifier is not None and node.modifier.card == pp.VectorMatchCardinality.ManyToOne
    assert many or len({key(labels) for labels, _, _ in out}) == len(out), "many-to-one without group_left"
    return out
