"""Ads lists: what was promoted where a household shopped in a week, and whether the household bought it that week.

Reads the canonical tables; knows nothing of features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ranking.types import Surface
from training.lists.types import WEEKS, RankingLists, Split
from training.tables.duck import connect, views

# The households and weeks of a split that went to a store with promotions, by the stable hash of their names and the seed.
_CHOSEN = """
CREATE TABLE chosen AS
SELECT user_code, week, (row_number() OVER (ORDER BY week, user_code) - 1)::BIGINT AS list
FROM (SELECT DISTINCT user_code, user_id, week
      FROM events SEMI JOIN (SELECT DISTINCT week, store_id FROM promotions WHERE week BETWEEN $first AND $last) USING (week, store_id)
      ORDER BY md5_number_lower($seed || ':' || user_id || ':' || week) LIMIT $count)
"""

# One number per promotion a list saw: list, item and placement packed, so that sorting it is all the grouping there is to do.
_SEEN = """
SELECT ((v.list * $items + p.item_code) << 2) | (p.on_display::BIGINT << 1) | p.in_mailer::BIGINT AS packed
FROM (SELECT * FROM promotions WHERE week BETWEEN $first AND $last) p
JOIN (SELECT DISTINCT c.list, c.week, e.store_id FROM chosen c JOIN events e USING (user_code, week)) v USING (week, store_id)
"""

_BOUGHT = """
SELECT DISTINCT c.list * $items + e.item_code AS pair
FROM chosen c JOIN events e USING (user_code, week) WHERE e.event_type = 'purchase'
"""


def ads_lists(canonical: Path, split: Split, *, count: int, seed: int = 0, spill: Path | None = None) -> RankingLists:
    """At most `count` ads lists of a split, uncut.

    A list is a household and a week in which it went to at least one store with promotions; its candidates are the distinct products
    on display or in the mailer of a store it went to, in the order of their codes, which says nothing about them. About 3,900
    candidates, 0.12 % of them bought.

    Args:
        canonical: folder of the canonical tables.
        split: which weeks.
        count: lists wanted; the stable hash of (seed, household, week) chooses them.
        seed: another seed, other lists.
        spill: a writable folder for what does not fit in memory; `canonical` by default.
    """
    first, last = WEEKS[split]
    with connect(spill or canonical) as db:
        views(db, canonical, "events", "promotions", "items", "users", "weeks")
        catalogue = db.execute("SELECT item_id, item_key FROM items ORDER BY item_code").fetchnumpy()
        n = len(catalogue["item_id"])
        db.execute(_CHOSEN, {"first": first, "last": last, "seed": str(seed), "count": count})
        packed = np.sort(db.execute(_SEEN, {"first": first, "last": last, "items": n}).fetchnumpy()["packed"])
        bought = np.sort(db.execute(_BOUGHT, {"items": n}).fetchnumpy()["pair"])
        heads = db.execute("""
            SELECT c.list, c.week, u.user_id, epoch_us(w.start_time) AS at
            FROM chosen c JOIN users u USING (user_code) JOIN weeks w USING (week) ORDER BY c.list""").fetchnumpy()
    pairs = packed >> 2
    begins = np.flatnonzero(np.concatenate(([True], pairs[1:] != pairs[:-1]))) if len(pairs) else np.zeros(0, np.int64)
    placed = np.bitwise_or.reduceat(packed & 3, begins) if len(begins) else begins  # a product's placements in all stores of the list
    pairs = pairs[begins]
    offsets = np.searchsorted(pairs, np.arange(len(heads["list"]) + 1) * n).astype(np.int64)
    labels = np.isin(pairs, bought, assume_unique=True).astype(np.int8)
    return RankingLists(
        surface=Surface.ADS,
        split=split,
        times=heads["at"].astype("datetime64[us]"),
        weeks=heads["week"].astype(np.int32),
        user_ids=tuple(heads["user_id"].tolist()),
        queries=("",) * len(heads["list"]),
        offsets=offsets,
        item_codes=(pairs % n).astype(np.int32),
        items=tuple(catalogue["item_id"].tolist()),
        item_keys=np.asarray(catalogue["item_key"], np.int64),
        labels=labels,
        columns={"on_display": (placed >> 1).astype(np.float32), "in_mailer": (placed & 1).astype(np.float32)},
        retrieval_scores=np.zeros(len(labels), np.float32),
        weights=np.ones(len(labels), np.float32),
        ideal_positives=np.diff(np.concatenate(([0], np.cumsum(labels)))[offsets]).astype(np.int64),
    )
