"""The comparison arms by name: published re-rankers of one list, all called alike, to be held against `ranking.fairness.floors`.

`FairCo` remembers its lists and is therefore not among them.
"""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from ranking.baselines.deterministic import det_cons, det_const_sort, det_greedy, det_relaxed
from ranking.baselines.diversity import calibrated, mmr, xquad
from ranking.baselines.fa_star_ir import fa_star_ir
from ranking.types import FloatArray, IntArray


class Arm(Protocol):
    """One way of ranking one list."""

    def __call__(self, scores: FloatArray, groups: NDArray[Any], shares: FloatArray, k: int, *, strength: float = ...) -> IntArray:
        """Rank one list.

        Args:
            scores: (n,) finite, higher is better.
            groups: (n,) integer codes 0 … g-1.
            shares: (g,) floor shares, each in [0, 1], together at most 1.
            k: places to fill, at least 1.
            strength: what the arm can be tuned by; an arm that is not in `TUNABLE` ignores it.

        Returns:
            (min(k, n),) indices into the candidates, best first. Equal scores stand in input order where the arm is indifferent.

        Raises:
            ValueError: naming the argument that is wrong.
        """
        ...


ARMS: dict[str, Arm] = {
    "det_greedy": det_greedy,
    "det_cons": det_cons,
    "det_relaxed": det_relaxed,
    "det_const_sort": det_const_sort,
    "fa_star_ir": fa_star_ir,
    "xquad": xquad,
    "calibrated": calibrated,
    "mmr": mmr,
}

TUNABLE: dict[str, tuple[float, float]] = {"fa_star_ir": (0.0, 1.0), "xquad": (0.0, 1.0), "calibrated": (0.0, 1.0), "mmr": (0.0, 1.0)}
"""The range of strengths, from ranking by score upwards; of `fa_star_ir` without its ends."""
