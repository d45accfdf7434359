"""Why each result stands where it stands: members' scores and weights, price, the floor that lifted it and its cost, feature attributions.

Everything said here was computed on the way to the answer; nothing is estimated afterwards, and no order is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ranking.blend import Blended
from ranking.fairness.floors import FairRanking
from ranking.fairness.groups import ListGroups
from ranking.features import MODEL_COLUMNS
from ranking.types import ConstraintCost, Explain, Explanation, Float32Array, FloatArray, IntArray, MemberScore


@dataclass(frozen=True, slots=True)
class Attributed:
    """One member's log-odds of the K results, split among the features.

    Attributes:
        member: whose.
        values: (K, len(MODEL_COLUMNS)) each feature's part; a row and `base` add up to the member's raw output.
        base: the member's mean log-odds.
    """

    member: str
    values: FloatArray
    base: float


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
    rules: Sequence[ListGroups],
    prices: FloatArray | None = None,
    costs: Sequence[ConstraintCost] = (),
    objectives: Mapping[str, FloatArray] | None = None,
    rows: Float32Array | None = None,
    freshness: Mapping[str, Sequence[str]] | None = None,
    attributions: Attributed | None = None,
) -> tuple[Explanation, ...]:
    """One explanation per result, in the order of the results.

    Args:
        level: NONE gives (); SCORES everything but costs, the model's input and attributions; FULL those, too.
        fair: the returned ranking of K results.
        item_ids: (n,) ids of the candidates.
        members: (m,) names, the row order of `logits`.
        logits: (m, n) raw outputs, NaN where a member could not score.
        blended: from `ranking.blend.blend` of the same logits.
        scores: (n,) what the list is sorted by before prices and floors.
        before: (n,) all candidates ranked by score alone, from `floors.rank_by_score(scores)`.
        rules: at least one; an explanation's `group` is its group in the first.
        prices: (n,) added to each candidate's score for exposure owed to its groups; None: nothing.
        costs: from `ranking.fairness.costs.promise_costs` of this list; read at FULL only.
        objectives: outcome -> (n,) probabilities, where the policy weighs several.
        rows: (n, len(MODEL_COLUMNS)) the models' input; read at FULL only.
        freshness: view name -> (n,) `Freshness` values; read at FULL only.
        attributions: of the K results in their order; read at FULL only. Features without any part are left out.

    Raises:
        ValueError: `before` does not rank every candidate, or `attributions` are not of K results.

    O(n + K · (m + columns)).
    """
    if level is Explain.NONE:
        return ()
    if len(before) != len(scores):
        raise ValueError(f"before: must rank all {len(scores)} candidates, got {len(before)}")
    full = level is Explain.FULL
    attributed = attributions if full else None
    if attributed is not None and len(attributed.values) != len(fair.order):
        raise ValueError(f"attributions: need one row per result ({len(fair.order)}), got {len(attributed.values)}")
    rank_before = np.empty(len(before), np.int64)
    rank_before[before] = np.arange(1, len(before) + 1)
    flat = [(rule.attribute, name) for rule in rules for name in rule.names]
    cost_of = {c.index: c.cost for c in costs if c.kind == "floor"} if full else {}
    first = rules[0]
    out = []
    for rank, (i, floor, prefix) in enumerate(zip(fair.order.tolist(), fair.binding.tolist(), fair.prefix.tolist(), strict=True), start=1):
        attribute, group = flat[floor] if floor >= 0 else ("", "")
        out.append(
            Explanation(
                item_id=item_ids[i],
                group=first.names[first.codes[i]],
                members=tuple(
                    MemberScore(name, float(logits[j, i]), float(blended.member_probabilities[j, i]), float(blended.weights[j, i]))
                    for j, name in enumerate(members)
                ),
                probability=float(blended.probabilities[i]),
                score=float(scores[i]),
                rank_before=int(rank_before[i]),
                rank=rank,
                binding_floor=group,
                binding_attribute=attribute,
                binding_prefix=prefix,
                price=0.0 if prices is None else float(prices[i]),
                cost=cost_of.get(i, 0.0),
                objectives={name: float(p[i]) for name, p in (objectives or {}).items()},
                features=dict(zip(MODEL_COLUMNS, rows[i].tolist(), strict=True)) if full and rows is not None else {},
                freshness={view: str(values[i]) for view, values in freshness.items()} if full and freshness else {},
                attributed_member="" if attributed is None else attributed.member,
                attributions={} if attributed is None else _parts(attributed.values[rank - 1]),
                attribution_base=0.0 if attributed is None else attributed.base,
            )
        )
    return tuple(out)


def _parts(values: FloatArray) -> dict[str, float]:
    return {name: value for name, value in zip(MODEL_COLUMNS, values.tolist(), strict=True) if value}
