"""Requests as a backend would send them, made from the prepared data: what the demo and `longtail rank` ask.

Everything but the bids (`bids.py`) is real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.text import query_text
from ranking.types import Surface
from training.lists.bids import bids
from training.lists.retrieval import first_stage
from training.tables.duck import connect, views

if TYPE_CHECKING:
    from training.lists.frames import Frame  # brings torch, which asking a question does not need

_PRICE = MODEL_COLUMNS.index("price_28d")

_PROMOTED = """
WITH home AS (
    SELECT coalesce(
        (SELECT store_id FROM events WHERE user_id = $user AND event_time < $as_of ORDER BY event_time DESC LIMIT 1),
        (SELECT store_id FROM events WHERE event_time < $as_of GROUP BY store_id ORDER BY count(*) DESC LIMIT 1)) AS store_id
), here AS (
    SELECT p.item_code, max(p.on_display) AS on_display, max(p.in_mailer) AS in_mailer
    FROM promotions p JOIN home USING (store_id) JOIN weeks w USING (week) WHERE w.start_time = $as_of GROUP BY p.item_code
)
SELECT i.item_id, i.title, h.on_display::FLOAT AS on_display, h.in_mailer::FLOAT AS in_mailer,
       coalesce(s.price_28d, 0) AS price, coalesce(s.promo_rate_28d, 0) AS score
FROM here h JOIN items i USING (item_code) LEFT JOIN statistics s USING (item_id)
"""

_MATCHING = """
SELECT i.item_id, i.title, 0::FLOAT AS on_display, 0::FLOAT AS in_mailer, coalesce(s.price_28d, 0) AS price,
       (SELECT count(*) FROM unnest($words) w(word) WHERE list_contains(string_split(i.title, ' '), word))
         + s.popularity_rank * 0.5 AS score
FROM items i JOIN statistics s USING (item_id) WHERE s.purchases_28d > 0 AND score >= 1
"""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One request with what is known about it.

    Attributes:
        name: for people.
        surface, query, user_id: as asked.
        item_ids, titles, retrieval_scores, columns: the candidates.
        bid_micros: empty for search.
        bought: item ids the user bought that week, where the truth is known.
    """

    name: str
    surface: str
    query: str
    user_id: str
    item_ids: list[str]
    titles: list[str]
    retrieval_scores: list[float]
    columns: dict[str, list[float]] = field(default_factory=dict)
    bid_micros: list[int] = field(default_factory=list)
    bought: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_frame(frame: Frame, which: Sequence[int], titles: dict[str, str]) -> list[SampleRequest]:
    """The test lists at `which`, exactly as they were scored offline."""
    lists, out = frame.lists, []
    for i in which:
        span = slice(int(lists.offsets[i]), int(lists.offsets[i + 1]))
        ids = [lists.items[c] for c in lists.item_codes[span]]
        x = frame.assembled.x[span]
        ads = lists.surface == Surface.ADS
        out.append(
            SampleRequest(
                name=f"{lists.surface.value}, household {lists.user_ids[i]}, week {lists.weeks[i]}",
                surface=lists.surface.value,
                query=lists.queries[i],
                user_id=lists.user_ids[i],
                item_ids=ids,
                titles=[titles[item] for item in ids],
                retrieval_scores=[float(s) for s in first_stage(x)],
                columns={name: [float(v) for v in column[span]] for name, column in lists.columns.items()},
                bid_micros=bids(x[:, _PRICE]) if ads else [],
                bought=[item for item, label in zip(ids, lists.labels[span], strict=True) if label],
            )
        )
    return out


def for_user(
    layout: Layout, canonical: Path, as_of: datetime, surface: Surface, *, user_id: str, query: str = "", n: int = 100, seed: int = 0
) -> SampleRequest:
    """Candidates a backend could send for anybody at `as_of`, by a plain first stage.

    ADS: what is promoted this week in the store the user went to last (unknown users: the busiest store), by promoted purchase
    rate. SEARCH: items sold lately whose text shares words with the query, by shared words and popularity. Either way 70 % of the
    places go to the best and 30 % to the rest at random, so that tail items are among the candidates.

    Raises:
        ValueError: SEARCH without a query, or nothing matches it.
    """
    words = query_text(query, "").split()
    if surface == Surface.SEARCH and not words:
        raise ValueError("query: SEARCH needs words to find candidates by")
    with connect(layout.training) as db:
        views(db, canonical, "events", "promotions", "items", "weeks")
        statistics = layout.features / "item_statistics.parquet"
        db.execute(
            "CREATE TEMP TABLE statistics AS SELECT * FROM read_parquet(?) WHERE event_timestamp <= ? "
            "QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY event_timestamp DESC) = 1",
            [str(statistics), as_of],
        )
        if surface == Surface.ADS:
            rows = db.execute(_PROMOTED, {"user": user_id, "as_of": as_of}).fetchall()
        else:
            rows = db.execute(_MATCHING, {"words": words}).fetchall()
    if not rows:
        raise ValueError(
            f"query: no item that sold lately matches {query!r}" if words else f"as_of: nothing is promoted in {as_of:%Y-%m-%d}'s week"
        )
    rows.sort(key=lambda r: (-r[5], r[0]))
    best, rest = rows[: round(0.7 * n)], rows[round(0.7 * n) :]
    drawn = np.random.default_rng(seed).permutation(len(rest))[: n - len(best)]
    chosen = best + [rest[i] for i in drawn]
    columns = {"on_display": [float(r[2]) for r in chosen], "in_mailer": [float(r[3]) for r in chosen]}
    ads = surface == Surface.ADS
    return SampleRequest(
        name=f"{surface.value}, user {user_id or 'unknown'}",
        surface=surface.value,
        query=query,
        user_id=user_id,
        item_ids=[r[0] for r in chosen],
        titles=[r[1] for r in chosen],
        retrieval_scores=[float(r[5]) for r in chosen],
        columns=columns if ads else {},
        bid_micros=bids(np.array([r[4] for r in chosen])) if ads else [],
    )
