"""Slow, independent ways of finding what `rank_with_floors` should find: an assignment solver, an integer program, all permutations.

None of them shares a line with the code under test; each turns the definition into somebody else's problem.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linear_sum_assignment, milp
from scipy.sparse import csr_array

FORBIDDEN = 1e6


def prefix_minima(groups: Sequence[int], shares: Sequence[Fraction], k: int) -> list[list[int]]:
    """[g][j] = min(floor(j · share_g), how many of g there are), in exact rational arithmetic; j = 0 … k."""
    return [[min(math.floor(j * p), list(groups).count(g)) for j in range(k + 1)] for g, p in enumerate(shares)]


def meets(order: Sequence[int], groups: Sequence[int], minima: list[list[int]]) -> bool:
    """Whether every prefix holds every group's minimum."""
    return all(sum(groups[i] == g for i in order[:j]) >= low[j] for g, low in enumerate(minima) for j in range(len(order) + 1))


def best_by_permutation(
    scores: NDArray[np.float64], groups: Sequence[int], minima: list[list[int]], discount: NDArray[np.float64]
) -> float:
    """The best Σ d_t s over all permutations that meet the minima. For n of at most 7."""
    k = len(discount)
    feasible = (list(o) for o in itertools.permutations(range(len(scores)), k) if meets(o, groups, minima))
    return max(float(scores[o] @ discount) for o in feasible)


def best_by_assignment(scores: NDArray[np.float64], groups: Sequence[int], minima: list[list[int]], discount: NDArray[np.float64]) -> float:
    """The best Σ d_t s as an assignment of items to places in which the j-th best of a group may not stand behind its deadline.

    Items are never dropped by hand: places behind the list, worth nothing, take whom the solver does not want, except those a
    floor needs.
    """
    n, k = len(scores), len(discount)
    value = np.zeros((n, n))
    value[:, :k] = np.outer(scores, discount)
    for g, low in enumerate(minima):
        members = sorted((i for i in range(n) if groups[i] == g), key=lambda i: -scores[i])
        for j in range(1, low[k] + 1):
            deadline = min(t for t in range(1, k + 1) if low[t] >= j)
            value[members[j - 1], deadline:] = -FORBIDDEN
    rows, places = linear_sum_assignment(value, maximize=True)
    total = float(value[rows, places].sum())
    assert total > -FORBIDDEN / 2, "the oracle found no feasible order"
    return total


def best_by_integer_program(
    scores: NDArray[np.float64], groups: Sequence[int], minima: list[list[int]], discount: NDArray[np.float64]
) -> float:
    """The best Σ d_t s as a 0/1 program over x[i, t] that states the prefix minima as they are defined, with no deadlines."""
    n, k = len(scores), len(discount)
    index = np.arange(n * k).reshape(n, k)
    member = np.asarray(groups)
    rows: list[tuple[NDArray[np.int64], float, float]] = [(index[i], 0, 1) for i in range(n)]
    rows += [(index[:, t], 1, 1) for t in range(k)]
    rows += [(index[member == g][:, :j].ravel(), low[j], np.inf) for g, low in enumerate(minima) for j in range(1, k + 1) if low[j]]
    matrix = csr_array(
        (
            np.ones(sum(len(r) for r, _, _ in rows)),
            (np.repeat(np.arange(len(rows)), [len(r) for r, _, _ in rows]), np.concatenate([r for r, _, _ in rows])),
        ),
        shape=(len(rows), n * k),
    )
    found = milp(
        -np.outer(scores, discount).ravel(),
        integrality=np.ones(n * k),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix, [r[1] for r in rows], [r[2] for r in rows]),
        options={"mip_rel_gap": 0.0},
    )
    assert found.success, found.message
    return -float(found.fun)
