"""Search lists from data without searches: category queries derived from what a household bought in a week.

The query is the category's name in plain words; nobody typed it. It stands in for search until a source with real queries is used, and
every figure measured on it says "derived queries". Reads the canonical tables; knows nothing of features.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.features import stable_key
from ranking.text import query_text
from ranking.types import Surface
from training.lists.types import WEEKS, RankingLists, Split
from training.tables.duck import connect, views

POOL_WEEKS = 8  # an item is on offer if it sold in the eight weeks before the list's
BEST, DRAWN, OTHERS = 28, 12, 20  # places for the category's best sellers, for a draw from its rest, for other categories
_MIN_WORD = 3  # letters; shorter words of a query match nothing

_CHOSEN = """
CREATE TABLE chosen AS
WITH needs AS (
    SELECT DISTINCT e.user_code, e.user_id, e.week, i.category
    FROM events e JOIN items i USING (item_code)
    WHERE e.week BETWEEN $first AND $last AND e.event_type = 'purchase' AND i.category <> ''
)
SELECT *, (row_number() OVER (ORDER BY week, user_code, category) - 1)::INTEGER AS list
FROM (SELECT * FROM needs ORDER BY md5_number_lower($seed || ':' || user_id || ':' || week || ':' || category) LIMIT $count)
"""

_HEADS = """
SELECT c.list, any_value(c.user_id) AS user_id, any_value(c.week) AS week, any_value(c.category) AS category,
       any_value(epoch_us(w.start_time)) AS at,
       list(DISTINCT e.item_code) AS bought,
       list(DISTINCT e.item_code) FILTER (i.category = c.category) AS wanted
FROM chosen c JOIN weeks w USING (week) JOIN events e USING (user_code, week) JOIN items i USING (item_code)
WHERE e.event_type = 'purchase'
GROUP BY c.list ORDER BY c.list
"""

_SOLD = """
WITH weekly AS (
    SELECT week, item_code, count(DISTINCT basket_id) AS baskets FROM events
    WHERE event_type = 'purchase' AND week BETWEEN $first - $pool AND $last - 1 GROUP BY ALL
)
SELECT (week + ago)::INTEGER AS week, item_code, sum(baskets) AS baskets
FROM weekly, (SELECT unnest(range(1, $pool + 1)) AS ago)
WHERE week + ago BETWEEN $first AND $last
GROUP BY ALL ORDER BY ALL
"""


def search_lists(canonical: Path, split: Split, *, count: int, seed: int = 0, spill: Path | None = None) -> RankingLists:
    """At most `count` search lists of a split, with derived category queries.

    A list is a household, a week and a category the household bought from that week. At most 60 candidates, all sold in the eight weeks
    before: the category's 28 best sellers, 12 drawn from its other items, 20 drawn from other categories of the same department or
    sharing a word with the query; labels play no part. `weights` undo the draws; `ideal_positives` also counts what was bought of the
    category and is no candidate. A candidate's label is 1 if the household bought it that week.

    Args:
        canonical: folder of the canonical tables.
        split: which weeks.
        count: lists wanted; the stable hash of (seed, household, week, category) chooses them.
        seed: another seed, other lists and draws.
        spill: a writable folder for what does not fit in memory; `canonical` by default.
    """
    first, last = WEEKS[split]
    with connect(spill or canonical) as db:
        views(db, canonical, "events", "items", "users", "weeks")
        db.execute(_CHOSEN, {"first": first, "last": last, "seed": str(seed), "count": count})
        items = db.execute("SELECT item_id, item_key, category, department, title FROM items ORDER BY item_code").fetchnumpy()
        pools = _Pools(items, db.execute(_SOLD, {"first": first, "last": last, "pool": POOL_WEEKS}).fetchnumpy())
        found = db.execute(_HEADS)
        names = [column[0] for column in found.description]
        heads = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    codes, labels, weights, sizes, ideals = [], [], [], [], []
    for head in heads:
        draw = np.random.default_rng(stable_key(f"{seed}:{head['user_id']}:{head['week']}:{head['category']}") & 0xFFFFFFFF)
        candidates, weight = _candidates(*pools(head["week"], head["category"]), draw)
        label = np.isin(candidates, head["bought"]).astype(np.int8)
        unseen = np.setdiff1d(head["wanted"], candidates)
        codes.append(candidates)
        labels.append(label)
        weights.append(weight)
        sizes.append(len(candidates))
        ideals.append(int(label.sum()) + len(unseen))
    return RankingLists(
        surface=Surface.SEARCH,
        split=split,
        times=np.array([h["at"] for h in heads], np.int64).astype("datetime64[us]"),
        weeks=np.array([h["week"] for h in heads], np.int32),
        user_ids=tuple(h["user_id"] for h in heads),
        queries=tuple(query_text(h["category"], "") for h in heads),
        offsets=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        item_codes=_joined(codes, np.int32),
        items=tuple(items["item_id"].tolist()),
        item_keys=np.asarray(items["item_key"], np.int64),
        labels=_joined(labels, np.int8),
        columns={},
        retrieval_scores=np.zeros(sum(sizes), np.float32),
        weights=_joined(weights, np.float32),
        ideal_positives=np.array(ideals, np.int64),
    )


class _Pools:
    """What was on offer: per (week, category) the category's items, best sellers first, and the related items of other categories."""

    def __init__(self, items: dict[str, NDArray[Any]], sold: dict[str, NDArray[Any]]) -> None:
        """`sold` has one row per week and item that is on offer in it, with the baskets that make it a best seller."""
        names, self._category = np.unique(items["category"].astype(str), return_inverse=True)
        _, self._department = np.unique(items["department"].astype(str), return_inverse=True)
        self._code = {str(name): code for code, name in enumerate(names)}
        self._sold = {int(w): np.flatnonzero(sold["week"] == w) for w in np.unique(sold["week"])}
        self._items, self._baskets = sold["item_code"], sold["baskets"]
        self._by_word: dict[str, list[int]] = defaultdict(list)
        for item, title in enumerate(items["title"].tolist()):
            for word in title.split():
                self._by_word[word].append(item)
        self._masks: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}

    def __call__(self, week: int, category: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Item codes of the category and of others that share a department or a word of the category's name with it."""
        if category not in self._masks:
            self._masks[category] = self._related(category)
        own_mask, other_mask = self._masks[category]
        rows = self._sold.get(week, np.zeros(0, np.int64))
        codes = self._items[rows]
        inside = own_mask[codes]
        own = codes[inside]
        order = np.lexsort((own, -self._baskets[rows][inside]))
        return own[order].astype(np.int32), codes[other_mask[codes]].astype(np.int32)

    def _related(self, category: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Masks over the catalogue: the category's items, and the others near it."""
        inside = self._category == self._code[category]
        near = np.isin(self._department, np.unique(self._department[inside]))
        for word in query_text(category, "").split():
            if len(word) >= _MIN_WORD:
                near[self._by_word.get(word, [])] = True
        return inside, near & ~inside


def _candidates(
    own: NDArray[np.int32], others: NDArray[np.int32], draw: np.random.Generator
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """One list's candidates in random order, and their weights."""
    parts, weights = [own[:BEST]], [np.ones(len(own[:BEST]), np.float32)]
    for pool, places in ((own[BEST:], DRAWN), (others, OTHERS)):
        drawn = draw.choice(pool, min(places, len(pool)), replace=False)
        parts.append(drawn)
        weights.append(np.full(len(drawn), len(pool) / max(len(drawn), 1), np.float32))
    order = draw.permutation(sum(len(p) for p in parts))
    return np.concatenate(parts)[order], np.concatenate(weights)[order]


def _joined(parts: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype) if parts else np.zeros(0, dtype)
