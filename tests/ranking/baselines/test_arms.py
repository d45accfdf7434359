"""What holds for every comparison arm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.baselines.arms import ARMS, TUNABLE
from ranking.metrics import infeasible_index


@pytest.mark.parametrize("name", ARMS)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_arm_fills_the_list(name: str, seed: int) -> None:
    """k distinct candidates, or all, best first within each group: scarce and empty groups, ties, k > n, shares below 1, no candidates."""
    rng = np.random.default_rng(seed)
    g, n, k = int(rng.integers(1, 7)), int(rng.integers(0, 30)), int(rng.integers(1, 40))
    groups = rng.choice(g, n, p=rng.dirichlet(np.full(g, 0.3)))
    scores = rng.integers(0, 4, n).astype(float) if rng.random() < 0.5 else rng.normal(size=n)
    shares = rng.multinomial(int(rng.integers(0, 11)), rng.dirichlet(np.full(g, 0.5))) / 10
    low, high = TUNABLE.get(name, (0.0, 1.0))
    strength = float(np.clip(rng.uniform(low, high), 0.01, 0.99))
    order = ARMS[name](scores, groups, shares, k, strength=strength)
    assert order.dtype == np.int64
    assert order.shape == (min(k, n),)
    assert len(set(order.tolist())) == len(order)
    for group in range(g):
        members = sorted(np.flatnonzero(groups == group), key=lambda i: (-scores[i], i))
        shown = [i for i in order.tolist() if groups[i] == group]
        assert shown == members[: len(shown)]


@pytest.mark.parametrize("name", ["det_cons", "det_relaxed", "det_const_sort"])
@given(seed=st.integers(0, 2**32 - 1))
def test_up_to_three_groups_meet_every_floor(name: str, seed: int) -> None:
    """With candidates enough no prefix misses a floor (Geyik et al., theorems of section 4.1)."""
    rng = np.random.default_rng(seed)
    g, k = int(rng.integers(1, 4)), int(rng.integers(1, 40))
    groups = np.repeat(np.arange(g), k)
    shares = rng.dirichlet(np.ones(g)) * (1.0 if rng.random() < 0.5 else 0.9)
    order = ARMS[name](rng.random(len(groups)), groups, shares, k)
    assert infeasible_index(groups[order], shares) == 0


@pytest.mark.parametrize("name", sorted(set(ARMS) - set(TUNABLE)))
def test_arms_without_a_strength_ignore_it(name: str) -> None:
    """The order is the same at any value."""
    rng = np.random.default_rng(0)
    scores, groups, shares = rng.random(40), rng.integers(0, 3, 40), np.array([0.5, 0.3, 0.2])
    assert ARMS[name](scores, groups, shares, 10, strength=0.0).tolist() == ARMS[name](scores, groups, shares, 10, strength=9.0).tolist()


@pytest.mark.parametrize("name", sorted(set(TUNABLE) - {"mmr"}))
def test_a_strength_moves_the_mix_towards_the_shares(name: str) -> None:
    """Two of three groups get nothing by score; at the strong end of the range they have more places than at the weak end."""
    scores, groups, shares = np.arange(60.0, 0.0, -1.0), np.repeat([0, 1, 2], 20), np.array([0.4, 0.3, 0.3])
    least = [np.bincount(groups[ARMS[name](scores, groups, shares, 12, strength=s)], minlength=3)[1:].sum() for s in (0.01, 0.99)]
    assert least[0] < least[1]


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("scores", ([1.0, np.nan], [0, 1], [0.5, 0.5], 2)),
        ("scores", ([[1.0, 2.0]], [0, 1], [0.5, 0.5], 2)),
        ("groups", ([1.0, 2.0], [0], [0.5, 0.5], 2)),
        ("groups", ([1.0, 2.0], [0.0, 1.0], [0.5, 0.5], 2)),
        ("groups", ([1.0, 2.0], [0, 2], [0.5, 0.5], 2)),
        ("groups", ([1.0, 2.0], [0, -1], [0.5, 0.5], 2)),
        ("shares", ([1.0, 2.0], [0, 1], [0.5, 0.6], 2)),
        ("shares", ([1.0, 2.0], [0, 1], [-0.1, 0.6], 2)),
        ("shares", ([1.0, 2.0], [0, 1], [], 2)),
        ("k", ([1.0, 2.0], [0, 1], [0.5, 0.5], 0)),
    ],
)
def test_bad_arguments_are_refused_by_name(name: str, key: str, arguments: tuple[list[float], list[int], list[float], int]) -> None:
    """A ValueError whose message begins with the argument."""
    scores, groups, shares, k = arguments
    with pytest.raises(ValueError, match=f"^{key}: "):
        ARMS[name](np.array(scores), np.array(groups), np.array(shares), k)
