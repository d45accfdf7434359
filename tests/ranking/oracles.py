"""Slow, independent ways of finding what the solvers of `ranking.fairness` should find: an assignment solver, integer programs, a dynamic
program, all permutations.

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


def prefix_counts(order: list[int], codes: NDArray[np.int64], g: int) -> NDArray[np.int64]:
    """(g, K) how many of each flat group are among the first 1 … K of the list; codes is (A, n)."""
    return np.cumsum((codes[:, None, order] == np.arange(g)[:, None]).any(axis=0), axis=1)


def shares_as_bounds(floors: Sequence[Fraction], ceilings: Sequence[Fraction], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two (g, k) tables: floor(j · floor_g) and ceil(j · ceiling_g) for j = 1 … k, in exact rational arithmetic."""
    lower = np.array([[math.floor(j * p) for j in range(1, k + 1)] for p in floors])
    return lower, np.array([[math.ceil(j * q) for j in range(1, k + 1)] for q in ceilings])


def best_in_windows(
    scores: NDArray[np.float64],
    groups: NDArray[np.int64],
    lower: NDArray[np.int64],
    upper: NDArray[np.int64],
    discount: NDArray[np.float64],
) -> tuple[int, float]:
    """The fewest places above the ceilings, summed over prefixes, and the best Σ d_t s of a list with so few that keeps the floors.

    An assignment of items to places in which the j-th best of a group pays for every place before its ceiling allows j, and may not
    stand behind its deadline. Items are dropped to places behind the list, except those a floor needs.
    """
    n, k = len(scores), len(discount)
    early, late = np.zeros((n, n)), np.zeros((n, n), bool)
    for g, (low, high) in enumerate(zip(lower, upper, strict=True)):
        members = sorted((i for i in range(n) if groups[i] == g), key=lambda i: -scores[i])
        for j, i in enumerate(members, 1):
            early[i, :k] = np.maximum(np.count_nonzero(high < j) - np.arange(k), 0)
            late[i, np.count_nonzero(low < j) + 1 :] = low[-1] >= j
    value = np.zeros((n, n))
    value[:, :k] = np.outer(scores - scores.min(), discount)
    unit = value.sum() + 1.0
    rows, places = linear_sum_assignment(value - unit * early - unit * n**3 * late, maximize=True)
    assert not late[rows, places].any(), "the oracle found no feasible order"
    return int(early[rows, places].sum()), float(value[rows, places].sum() + scores.min() * discount.sum())


def best_of_cells(
    scores: NDArray[np.float64],
    codes: NDArray[np.int64],
    lower: NDArray[np.int64],
    upper: NDArray[np.int64],
    discount: NDArray[np.float64],
) -> float | None:
    """The best Σ d_t s under bounds on overlapping groups, or None: a dynamic program over how many of each kind of item are used."""
    kinds = sorted({tuple(c) for c in codes.T.tolist()})
    members = [sorted((scores[i] for i in range(len(scores)) if tuple(codes[:, i]) == kind), reverse=True) for kind in kinds]
    belongs = np.array([[g in kind for kind in kinds] for g in range(len(lower))], int)  # (G, kinds)
    best: dict[tuple[int, ...], float] = {(0,) * len(kinds): 0.0}
    for t, d in enumerate(discount):
        longer: dict[tuple[int, ...], float] = {}
        for used, value in best.items():
            for c, of_kind in enumerate(members):
                if used[c] < len(of_kind):
                    state = (*used[:c], used[c] + 1, *used[c + 1 :])
                    longer[state] = max(longer.get(state, -np.inf), value + float(d * of_kind[used[c]]))
        states = np.array(list(longer)).reshape(-1, len(kinds))
        counts = states @ belongs.T
        inside = ((counts >= lower[:, t]) & (counts <= upper[:, t])).all(axis=1)
        best = {state: value for (state, value), ok in zip(longer.items(), inside.tolist(), strict=True) if ok}
    return max(best.values(), default=None)


def best_within_by_integer_program(
    scores: NDArray[np.float64],
    codes: NDArray[np.int64],
    lower: NDArray[np.int64],
    upper: NDArray[np.int64],
    discount: NDArray[np.float64],
) -> float | None:
    """The same as a 0/1 program over x[i, t] that states the bounds on every prefix as they are defined."""
    n, k = len(scores), len(discount)
    x = np.arange(n * k).reshape(n, k)
    rows = [(x[i], 0, 1) for i in range(n)] + [(x[:, t], 1, 1) for t in range(k)]
    for g in range(len(lower)):
        members = (codes == g).any(axis=0)
        rows += [(x[members][:, : t + 1].ravel(), int(lower[g, t]), int(upper[g, t])) for t in range(k)]
    matrix = np.zeros((len(rows), n * k))
    for r, (variables, _, _) in enumerate(rows):
        matrix[r, variables] = 1
    found = milp(
        -np.outer(scores, discount).ravel(),
        integrality=np.ones(n * k),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(matrix, [r[1] for r in rows], [r[2] for r in rows]),
        options={"mip_rel_gap": 0.0},
    )
    return -float(found.fun) if found.success else None
