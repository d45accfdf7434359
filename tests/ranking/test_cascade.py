"""The candidate budget: who is within it, and that nobody gains by being beyond it."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from ranking.calibrate import logit
from ranking.cascade import continued, within
from ranking.fairness.floors import rank_by_score

probability = st.floats(1e-6, 1 - 1e-6)
maybe = st.one_of(st.just(float("nan")), probability)


def test_the_best_are_within() -> None:
    """By score, then by input order; those without a score last, by their retrieval score."""
    nan = np.nan
    assert within(np.array([0.1, 0.3, 0.3, 0.2]), 2).tolist() == [False, True, True, False]
    assert within(np.array([0.3, 0.3, 0.3]), 2).tolist() == [True, True, False]
    assert within(np.array([nan, nan, 0.1, nan]), 2).tolist() == [True, False, True, False]
    assert within(np.array([nan, nan, 0.1, nan]), 2, np.array([1.0, 2.0, 3.0, 9.0])).tolist() == [False, False, True, True]
    assert within(np.array([0.1, 0.2]), 5).tolist() == [True, True]


def test_those_beyond_are_lowered_together_in_log_odds() -> None:
    """With the last within at 0.2 and the best beyond at 0.5, everything beyond loses logit 0.5 - logit 0.2 and stays in its order."""
    p = np.array([0.6, 0.2, 0.5, 0.3])
    out = continued(p, np.array([True, True, False, False]))
    assert out[:2].tolist() == [0.6, 0.2]
    assert out[2] < 0.2
    np.testing.assert_allclose(logit(out[2:]), logit(p[2:]) - (logit(p[2]) - logit(p[1])), atol=1e-9)


def test_where_nobody_would_pass_nothing_changes() -> None:
    """Everything beyond stands below already: the probabilities are those of the cheap members, bit for bit."""
    p = np.array([0.6, 0.4, 0.3, 0.2])
    assert continued(p, np.array([True, True, False, False])) is p


@example([(0.5, False), (0.5, True), (0.25, False)])  # lowered by nothing, a quarter comes back from its log-odds a little larger
@given(st.lists(st.tuples(maybe, st.booleans()), min_size=1, max_size=40))
def test_nobody_beyond_stands_above_somebody_within(candidates: list[tuple[float, bool]]) -> None:
    """Whatever the scores: sorted, all with a score within come before those beyond, who keep their order; those within keep their
    probability, and nobody's rises.
    """
    p, chosen = np.array([c[0] for c in candidates]), np.array([c[1] for c in candidates])
    out = continued(p, chosen)
    scored = ~np.isnan(p)
    assert (np.isnan(out) == ~scored).all()
    assert (out[chosen & scored] == p[chosen & scored]).all()
    assert (out[scored] <= p[scored]).all()
    order = [i for i in rank_by_score(np.nan_to_num(out, nan=-1.0)).tolist() if scored[i]]
    places = [bool(chosen[i]) for i in order]
    assert places == sorted(places, reverse=True)
    beyond = ~chosen & scored
    assert (np.diff(out[beyond][np.argsort(p[beyond], kind="stable")]) >= 0).all()
