"""Why each result stands where it stands: members' scores and weights, rank without the policy, the floor that lifted it.

Everything said here was computed on the way to the answer; nothing is estimated afterwards, and no order is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.blend import Blended
from ranking.features import MODEL_COLUMNS
from ranking.floors import FairRanking
from ranking.types import Explain, Explanation, Float32Array, FloatArray, IntArray, MemberScore


def explain(
    level: Explain,
    fair: FairRanking,
    *,
    item_ids: Sequence[str],
    members: Sequence[str],
    logits: FloatArray,
    blended: Blended,
    scores: FloatArray,
    before: IntArray,
    groups: NDArray[Any],
    names: Sequence[str],
    rows: Float32Array | None = None,
    freshness: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Explanation, ...]:
    """One explanation per result, in the order of the results.

    Args:
        level: NONE gives (); SCORES everything but the model's input; FULL that, too.
        fair: the returned ranking of K results.
        item_ids: (n,) ids of the candidates.
        members: (m,) names, the row order of `logits`.
        logits: (m, n) raw outputs, NaN where a member could not score.
        blended: from `ranking.blend.blend` of the same logits.
        scores: (n,) what the list is sorted by before floors.
        before: (n,) all candidates ranked by score alone, from `floors.rank_by_score(scores)`.
        groups: (n,) integer codes into `names`.
        names: (g,) group names.
        rows: (n, len(MODEL_COLUMNS)) the models' input; read at FULL only.
        freshness: view name -> (n,) `Freshness` values; read at FULL only.

    Raises:
        ValueError: `before` does not rank every candidate.

    O(n + K · (m + columns)).
    """
    if level is Explain.NONE:
        return ()
    if len(before) != len(scores):
        raise ValueError(f"before: must rank all {len(scores)} candidates, got {len(before)}")
    rank_before = np.empty(len(before), np.int64)
    rank_before[before] = np.arange(1, len(before) + 1)
    full = level is Explain.FULL
    return tuple(
        Explanation(
            item_id=item_ids[i],
            group=names[groups[i]],
            members=tuple(
                MemberScore(name, float(logits[j, i]), float(blended.member_probabilities[j, i]), float(blended.weights[j, i]))
                for j, name in enumerate(members)
            ),
            probability=float(blended.probabilities[i]),
            score=float(scores[i]),
            rank_before=int(rank_before[i]),
            rank=rank,
            binding_floor="" if floor < 0 else names[floor],
            features=dict(zip(MODEL_COLUMNS, rows[i].tolist(), strict=True)) if full and rows is not None else {},
            freshness={view: str(values[i]) for view, values in freshness.items()} if full and freshness else {},
        )
        for rank, (i, floor) in enumerate(zip(fair.order.tolist(), fair.binding.tolist(), strict=True), start=1)
    )
