"""What a person can look at: lists before and after training, and errors by group and tier. Knows lists and one way of training."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranking.fairness.floors import rank_by_score
from ranking.text import SpecialTokens
from ranking.types import FloatArray
from training.bert.compare import Encoder, ndcg, ranked, trained
from training.bert.fit import Settings
from training.bert.heads import task
from training.bert.lists import HEAD, Lists
from training.bert.model import Heads

_SHOWN, _PLACES = 4, 6


def told(made: Encoder, train: Lists, test: Lists, special: SpecialTokens, *, settings: Settings) -> dict[str, Any]:
    """Train the list head and say what it changed.

    Returns:
        `examples`: lists that gained and lost most, their first places after training with scores, places and gains before and after;
        `errors`: by group of lists and by tier of items: mean NDCG@10, or the mean place of what is wanted, before and after.
    """
    before = ranked(Heads(made(), [task("list")]), test, special)
    model, *_ = trained(made(), train.pairs, [task("list")], special, settings=settings)
    after = ranked(model, test, special)
    return {"examples": examples(test, before, after), "errors": errors(test, before, after)}


def examples(lists: Lists, before: FloatArray, after: FloatArray) -> list[dict[str, Any]]:
    """The lists that gained most and that lost most, half each."""
    change = np.nan_to_num(ndcg(after, lists) - ndcg(before, lists))
    order = np.argsort(-change, kind="stable")
    chosen = dict.fromkeys([*order[: _SHOWN // 2].tolist(), *order[::-1][: _SHOWN // 2].tolist()])
    return [_example(lists, i, float(change[i]), before, after) for i in chosen]


def _example(lists: Lists, i: int, change: float, before: FloatArray, after: FloatArray) -> dict[str, Any]:
    rows = np.arange(lists.pairs.offsets[i], lists.pairs.offsets[i + 1])
    was = {int(rows[r]): place for place, r in enumerate(rank_by_score(before[rows]), 1)}
    return {
        "query": lists.queries[i],
        "change": round(change, 4),
        "items": [
            {
                "title": lists.titles[rows[r]],
                "tier": lists.tiers[rows[r]],
                "gain": round(float(lists.gains[rows[r]]), 3),
                "was": was[int(rows[r])],
                "before": round(float(before[rows[r]]), 3),
                "after": round(float(after[rows[r]]), 3),
            }
            for r in rank_by_score(after[rows])[:_PLACES]
        ],
    }


def errors(lists: Lists, before: FloatArray, after: FloatArray) -> list[dict[str, Any]]:
    """By group, NDCG@10; by tier, the share of the first ten gains' mass that lies in that tier and is among the first half of places."""
    groups = np.array(lists.groups)
    a, b = ndcg(before, lists), ndcg(after, lists)
    out = [
        {
            "by": "group",
            "name": str(name),
            "count": int((groups == name).sum()),
            "before": _mean(a[groups == name]),
            "after": _mean(b[groups == name]),
        }
        for name in np.unique(groups)
    ]
    tail = np.array([tier != HEAD for tier in lists.tiers])
    for name, of in ((HEAD, ~tail), ("tail", tail)):
        out.append(
            {"by": "tier", "name": name, "count": int(of.sum()), "before": _found(lists, before, of), "after": _found(lists, after, of)}
        )
    return out


def _found(lists: Lists, scores: FloatArray, of: FloatArray) -> float | None:
    """Share of the gains of these items that stand in the upper half of their lists."""
    upper = np.zeros(len(scores), bool)
    for start, end in zip(lists.pairs.offsets[:-1], lists.pairs.offsets[1:], strict=True):
        upper[start + rank_by_score(scores[start:end])[: (end - start + 1) // 2]] = True
    total = float(lists.gains[of].sum())
    return round(float(lists.gains[of & upper].sum()) / total, 4) if total else None


def _mean(values: FloatArray) -> float | None:
    return None if np.isnan(values).all() else round(float(np.nanmean(values)), 4)
