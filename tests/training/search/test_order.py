from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.search.order import Order
from training.search.samplers import SEARCHERS, Objectives, sampler
from training.search.space import Choice, Uniform, nested

SPACE = {"x": Uniform(0.0, 1.0), "options/rate": Uniform(0.001, 1.0, log=True), "kind": Choice(("a", "b", "c")), "rounds": 7}
NAMES = {"kind": Choice(("a", "b", "c")), "leaves": Choice((15, 31)), "rounds": 7}
BETTER = Objectives({"up": 1.0}, {"up": 1, "down": -1})
COUNT, LAG = 14, 3


def _result(config: Mapping[str, Any]) -> dict[str, float] | None:
    """A plain function of the configuration; kind c with a large x fails."""
    x = config.get("x", 0.5)
    if config["kind"] == "c" and x > 0.8:
        return None
    return {"up": 1.0 - (x - 0.3) ** 2 + (config["kind"] == "b"), "down": x}


def _order(searcher: str, finished: Mapping[int, Any] | None = None, *, lag: int = LAG) -> Order:
    space = NAMES if searcher == "grid" else SPACE
    count = 6 if searcher == "grid" else COUNT
    return Order(sampler(searcher, space, BETTER, 5, [{"kind": "a", "x": 0.25}]), count, lag, finished or {})


def _run(order: Order, rng: np.random.Generator, *, stop_after: int = 10**6) -> tuple[dict[int, Any], dict[int, Any]]:
    """Run as a cluster would, trials ending in any order; killed after so many have ended. Returns what was started and what ended."""
    started: dict[int, Any] = {}
    ended: dict[int, Any] = {}
    under_way: list[int] = []
    while len(ended) < stop_after:
        found = order.next()
        if found is not None:
            started[found[0]] = found[1]
            under_way.append(found[0])
            continue
        if not under_way:
            assert order.exhausted
            break
        number = under_way.pop(int(rng.integers(len(under_way))))
        ended[number] = _result(started[number])
        order.done(number, ended[number])
    return started, ended


@pytest.mark.parametrize("searcher", SEARCHERS)
@settings(max_examples=8, deadline=None)
@given(chance=st.integers(0, 2**16), kills=st.lists(st.integers(0, 6), max_size=4))
def test_a_search_that_is_killed_tries_what_an_unharmed_one_tries(searcher: str, chance: int, kills: list[int]) -> None:
    """Whoever ends first and whenever the driver dies: every trial that ended is started once, and all configurations are the same."""
    whole, _ = _run(_order(searcher), np.random.default_rng(0))
    rng, finished, tried = np.random.default_rng(chance), {}, {}
    for most in [*kills, 10**6]:
        started, ended = _run(_order(searcher, finished), rng, stop_after=most)
        assert not set(started) & set(finished)
        tried |= started
        finished |= ended
    assert tried == whole
    assert set(finished) == set(range(len(whole)))


def test_a_searcher_that_learns_waits_for_the_oldest(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With three at once, trial 3 is proposed when trial 0 has ended, whatever else has; drawn trials wait for nothing."""
    learning, drawn = _order("bayesian"), _order("random")
    first = [learning.next() for _ in range(4)]
    assert [found and found[0] for found in first] == [0, 1, 2, None]
    learning.done(1, {"up": 1.0, "down": 0.0})
    assert learning.next() is None
    learning.done(0, None)
    assert (learning.next() or (None,))[0] == 3
    assert [(drawn.next() or (None,))[0] for _ in range(COUNT)] == list(range(COUNT))
    assert drawn.exhausted


def test_first_configurations_come_first_and_what_they_leave_open_is_drawn() -> None:
    """The given point is trial 0; constants are in every configuration; nested names become dictionaries."""
    for searcher in ("bayesian", "pareto", "random"):
        found = _order(searcher).next()
        assert found is not None
        assert (found[1]["kind"], found[1]["x"], found[1]["rounds"]) == ("a", 0.25, 7)
        assert 0.001 <= found[1]["options"]["rate"] <= 1.0
    assert nested({"a/b": 1, "a/c/d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


def test_a_learning_searcher_learns() -> None:
    """Of 40 trials Bayesian search's last 15 lie nearer to the best x of 0.3, kind b, than its first 15, which are drawn."""
    order = Order(sampler("bayesian", SPACE, BETTER, 1), 40, 1, {})
    started, _ = _run(order, np.random.default_rng(0))
    regret = [2.0 - (found or {"up": 0.0})["up"] for found in map(_result, started.values())]
    assert np.mean(regret[-15:]) < np.mean(regret[:15])


def test_a_grid_is_every_combination_once() -> None:
    """Three kinds and two sizes are six trials; a range has no grid."""
    started, _ = _run(_order("grid"), np.random.default_rng(0))
    assert {(c["kind"], c["leaves"]) for c in started.values()} == {(k, n) for k in "abc" for n in (15, 31)}
    with pytest.raises(ValueError, match="x: a grid needs names to choose among, this is a range"):
        sampler("grid", SPACE, BETTER, 0)


@pytest.mark.parametrize(("low", "high", "log"), [(1.0, 0.0, False), (0.0, 1.0, True), (float("nan"), 1.0, False)])
def test_a_range_that_is_none_is_refused(low: float, high: float, log: bool) -> None:
    """The ends are named."""
    with pytest.raises(ValueError, match="range: need finite low ≤ high"):
        Uniform(low, high, log)
