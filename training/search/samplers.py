"""Searchers by name: each proposes the configuration of a numbered trial, and may be told how trials went. Knows no Ray and no order.

What a searcher proposes follows from its seed and from what it was told when, and from nothing else.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from training.search.space import Choice, Domain, Space, constants, every, searched

SEARCHERS = ("bayesian", "pareto", "random", "grid")


@dataclass(frozen=True, slots=True)
class Objectives:
    """What is better.

    Attributes:
        weights: metric -> weight in the sum that `bayesian` maximises; negative where less is better.
        front: metric -> 1 or -1: what `pareto` trades off, and what the front of a result is about.
    """

    weights: Mapping[str, float]
    front: Mapping[str, int]

    def __post_init__(self) -> None:
        if not any(self.weights.values()) or not all(map(math.isfinite, self.weights.values())):
            raise ValueError(f"objective_weights: need finite numbers that are not all 0, got {dict(self.weights)}")

    def score(self, metrics: Mapping[str, float]) -> float:
        """The weighted sum; NaN where a metric is missing or is no number."""
        return sum(weight * metrics.get(name, math.nan) for name, weight in self.weights.items() if weight)

    def sides(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The metrics of the front, turned so that more is better; NaN where one is missing."""
        return tuple(sign * metrics.get(name, math.nan) for name, sign in self.front.items())


class Sampler(Protocol):
    """A searcher. Trials are asked for in order of their numbers."""

    lags: bool  # whether what it proposes depends on what it was told

    def ask(self, number: int) -> dict[str, Any]:
        """The configuration, flat, of trial `number`."""

    def tell(self, number: int, metrics: Mapping[str, float] | None) -> None:
        """How it went; None: it failed."""


class Grid:
    """Every combination once."""

    lags = False

    def __init__(self, space: Space) -> None:
        self._all = every(space)

    def ask(self, number: int) -> dict[str, Any]:
        return self._all[number]

    def tell(self, number: int, metrics: Mapping[str, float] | None) -> None:
        pass


class Random:
    """Each trial drawn by itself; the first ones as given."""

    lags = False

    def __init__(self, space: Space, seed: int, first: Sequence[Mapping[str, Any]] = ()) -> None:
        self._space, self._seed, self._first = space, seed, list(first)

    def ask(self, number: int) -> dict[str, Any]:
        rng = np.random.default_rng([self._seed, number])
        drawn = {name: domain.draw(rng) for name, domain in searched(self._space).items()}
        return {**constants(self._space), **drawn, **(self._first[number] if number < len(self._first) else {})}

    def tell(self, number: int, metrics: Mapping[str, float] | None) -> None:
        pass


class Tpe:
    """Optuna's tree-structured Parzen estimator, for one sum or for a front of several metrics.

    Ray's own wrapper of it saves its state now and then and is told results as they come: after a kill it has forgotten some, and
    which trials it proposes depends on which of them ended first.
    """

    lags = True

    def __init__(self, space: Space, objectives: Objectives, seed: int, first: Sequence[Mapping[str, Any]] = (), *, front: bool) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._fixed = constants(space)
        self._distributions = {name: _distribution(domain) for name, domain in searched(space).items()}
        self._value = objectives.sides if front else lambda metrics: (objectives.score(metrics),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental parts
            self._study = optuna.create_study(
                directions=["maximize"] * (len(objectives.front) if front else 1),
                sampler=optuna.samplers.TPESampler(seed=seed),
            )
        for point in first:
            self._study.enqueue_trial(dict(point))
        self._open: dict[int, Any] = {}

    def ask(self, number: int) -> dict[str, Any]:
        trial = self._open[number] = self._study.ask(self._distributions)
        return {**self._fixed, **trial.params}

    def tell(self, number: int, metrics: Mapping[str, float] | None) -> None:
        from optuna.trial import TrialState

        values = None if metrics is None else self._value(metrics)
        trial = self._open.pop(number)
        if values is None or not all(map(math.isfinite, values)):  # a fusion has no entropy: it lies on no front
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._study.tell(trial, values)


def sampler(name: str, space: Space, objectives: Objectives, seed: int, first: Sequence[Mapping[str, Any]] = ()) -> Sampler:
    """The searcher of that name.

    Args:
        name: of `SEARCHERS`.
        space: what may be tried.
        objectives: what is better.
        seed: of everything drawn.
        first: values of the first trials; what they leave open is drawn.

    Raises:
        ValueError: there is none of that name, or a grid over a range.
    """
    if name == "grid":
        return Grid(space)
    if name == "random":
        return Random(space, seed, first)
    if name in ("bayesian", "pareto"):
        return Tpe(space, objectives, seed, first, front=name == "pareto")
    raise ValueError(f"searcher: {name!r} is not known; known: {', '.join(SEARCHERS)}")


def _distribution(domain: Domain) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    return FloatDistribution(domain.low, domain.high, log=domain.log)
