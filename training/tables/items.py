"""The item views' tables: what the catalogue says, and how items sold before each snapshot.

Reads the tables of `facts`; the declarations are `ranking.features.ITEM_PROFILE` and `ITEM_STATISTICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from ranking.features import (
    HEAD_SHARE,
    ITEM_PROFILE,
    ITEM_STATISTICS,
    MAX_ITEM_TOKENS,
    PROMO_RATE_PRIOR,
    RELATION_HALF_LIFE,
    RELATION_PRIORS,
    RELATIONS,
    SHARE_HALF_LIFE,
    SHORT_WINDOW,
    WHOLE,
    WINDOW,
)
from training.tables.duck import write
from training.tables.tokens import Tokens

# Per relation R: faded impressions and purchases im_R, bu_R of each item (a whole one is `WHOLE`), and their rate over all items mean_R.
# What an item is worth to those who did not own it, against what such people buy of other items, is its `appeal`; an item's own rates
# are drawn to the means times that appeal.
_OTHERS = tuple(name for name in RELATIONS if name != "own")
_FADED = ", ".join(
    f"sum({what}_{name} * faded)::BIGINT AS {short}_{name}"
    for name in RELATIONS
    for what, short in (("impressions", "im"), ("purchases", "bu"))
)
_MEANS = ", ".join(f"coalesce(sum(bu_{name}) / nullif(sum(im_{name}), 0), 0) AS mean_{name}" for name in RELATIONS)
_BOUGHT, _EXPECTED = (" + ".join(form.format(r=r) for r in _OTHERS) for form in ("bu_{r}", "im_{r} * mean_{r}"))
_IMPRESSIONS = " + ".join(f"im_{r}" for r in _OTHERS)
_RATE = "(coalesce({bought}, 0) + {prior} * {mean}) / (coalesce({shown}, 0) + {prior})"
_RATES = ", ".join(
    f"({_RATE.format(bought=bought, shown=shown, prior=prior * WHOLE, mean=mean)})::FLOAT AS {name}"
    for name, bought, shown, prior, mean in (
        *(
            (f"promo_rate_{r}", f"f.bu_{r}", f"f.im_{r}", prior, f"m.mean_{r} * coalesce(f.appeal, 1)")
            for r, prior in zip(RELATIONS, RELATION_PRIORS, strict=True)
        ),
        ("first_purchase_rate", "f.firsts", "f.chances", PROMO_RATE_PRIOR, "m.mean_first"),
    )
)

_SNAPSHOT = f"""
WITH before AS (
    SELECT *, bought_at >= $at - to_days($window) AS recent FROM lines WHERE bought_at < $at
), sold AS (
    SELECT item_code, min(bought_at) AS first_at, count(*) AS purchases_all,
           count(*) FILTER (bought_at >= $at - to_days($short_window)) AS purchases_7d,
           count(*) FILTER (recent) AS purchases_28d,
           sum(unit_price) FILTER (recent) / nullif(count(unit_price) FILTER (recent), 0) / 1e6 AS price_recent,
           sum(unit_price) / nullif(count(unit_price), 0) / 1e6 AS price_ever,
           sum(off_shelf) FILTER (recent) / nullif(count(off_shelf) FILTER (recent), 0) / 1e6 AS discount
    FROM before GROUP BY item_code
), buyers AS (
    SELECT item_code, count(*) AS buyers_28d
    FROM (SELECT DISTINCT item_code, user_code FROM before WHERE recent) GROUP BY item_code
), ranked AS (
    SELECT item_code, (rank() OVER (ORDER BY purchases_all) - 1) / count(*) OVER () AS popularity_rank,
           CASE WHEN rank() OVER (ORDER BY purchases_all DESC) - 1 < $head_share * count(*) OVER () THEN 'head' ELSE 'tail' END AS tier
    FROM sold
), promoted AS (
    SELECT item_code, min(start_time) AS first_at,
           -- Weeks begin at local midnight: across a change of clocks one of them began an hour more or less than 28 days ago.
           coalesce(sum(impressions) FILTER (start_time >= $at - to_days($window) - INTERVAL 2 HOUR), 0)::DOUBLE AS impressions,
           coalesce(sum(purchases) FILTER (start_time >= $at - to_days($window) - INTERVAL 2 HOUR), 0)::DOUBLE AS purchases
    FROM shown WHERE start_time < $at GROUP BY item_code
), mean AS (
    SELECT coalesce(sum(purchases) / nullif(sum(impressions), 0), 0) AS rate FROM promoted
), counted AS (
    SELECT item_code, {_FADED}
    FROM shown JOIN fading($at, {RELATION_HALF_LIFE}) USING (start_time) GROUP BY item_code
), means AS (
    SELECT {_MEANS}, coalesce(sum({_BOUGHT}) / nullif(sum({_IMPRESSIONS}), 0), 0) AS mean_first FROM counted
), faded AS (
    SELECT counted.*, ({_BOUGHT} + {WHOLE}) / ({_EXPECTED} + {WHOLE}) AS appeal, {_BOUGHT} AS firsts, {_IMPRESSIONS} AS chances
    FROM counted CROSS JOIN means
), share AS (
    SELECT item_code,
           sold / nullif(CASE WHEN type_key <> 0 THEN sum(sold) OVER (PARTITION BY type_key) END, 0) AS of_type,
           sold / nullif(CASE WHEN maker_key <> 0 THEN sum(sold) OVER (PARTITION BY maker_key) END, 0) AS of_maker
    FROM (
        SELECT item_code, type_key, maker_key, sum(lines * faded)::BIGINT AS sold
        FROM sales JOIN fading($at, {SHARE_HALF_LIFE}) USING (start_time) GROUP BY ALL)
)
SELECT c.item_id, $at AS event_timestamp,
       coalesce(s.purchases_7d, 0)::FLOAT AS purchases_7d,
       coalesce(s.purchases_28d, 0)::FLOAT AS purchases_28d,
       coalesce(s.purchases_all, 0)::FLOAT AS purchases_all,
       coalesce(b.buyers_28d, 0)::FLOAT AS buyers_28d,
       coalesce(p.impressions, 0)::FLOAT AS promo_impressions_28d,
       ((coalesce(p.purchases, 0) + $prior * n.rate) / (coalesce(p.impressions, 0) + $prior))::FLOAT AS promo_rate_28d,
       {_RATES},
       coalesce(f.appeal, 1)::FLOAT AS promo_appeal,
       coalesce(h.of_type, 0)::FLOAT AS type_share,
       coalesce(h.of_maker, 0)::FLOAT AS maker_share,
       coalesce(s.price_recent, s.price_ever, 0)::FLOAT AS price_28d,
       coalesce(s.discount, 0)::FLOAT AS discount_28d,
       coalesce(r.popularity_rank, 0)::FLOAT AS popularity_rank,
       ((epoch_us($at) - epoch_us(least(s.first_at, p.first_at))) / 86400e6)::FLOAT AS age_days,
       coalesce(r.tier, 'new') AS popularity_tier
FROM catalogue c
LEFT JOIN sold s USING (item_code)
LEFT JOIN buyers b USING (item_code)
LEFT JOIN ranked r USING (item_code)
LEFT JOIN promoted p USING (item_code)
LEFT JOIN faded f USING (item_code)
LEFT JOIN share h USING (item_code)
CROSS JOIN mean n
CROSS JOIN means m
WHERE s.item_code IS NOT NULL OR p.item_code IS NOT NULL
ORDER BY c.item_code
"""


def write_item_profile(db: duckdb.DuckDBPyConnection, out: Path, known_at: datetime, tokens: Tokens) -> int:
    """One row per item, stamped `known_at`. Each distinct title is tokenised once."""
    titles = db.execute("SELECT DISTINCT title FROM items").to_arrow_table()
    ids = tokens(titles["title"].to_pylist(), MAX_ITEM_TOKENS)
    db.register("tokenised", titles.append_column("token_ids", pa.array(ids, pa.list_(pa.int64()))))
    columns = {f.name: f"i.{f.name}" for f in ITEM_PROFILE}
    columns |= {"is_private": "(i.brand = 'Private')::FLOAT", "token_ids": "t.token_ids"}
    selected = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    return write(
        db,
        f"SELECT i.item_id, TIMESTAMPTZ '{known_at.isoformat()}' AS event_timestamp, {selected}"
        " FROM items i JOIN tokenised t USING (title) ORDER BY i.item_code",
        out / f"{ITEM_PROFILE.name}.parquet",
    )


def write_item_statistics(
    db: duckdb.DuckDBPyConnection, out: Path, snapshots: Sequence[datetime], done: Callable[[], None] = lambda: None
) -> int:
    """One row per item sold or promoted before the snapshot, per snapshot, using what happened before it only.

    `done` is called after each snapshot.
    """
    parameters = {
        "short_window": SHORT_WINDOW.days,
        "window": WINDOW.days,
        "head_share": HEAD_SHARE,
        "prior": PROMO_RATE_PRIOR,
    }
    for i, at in enumerate(snapshots):
        verb = "INSERT INTO statistics" if i else "CREATE TABLE statistics AS"
        db.execute(f"{verb} {_SNAPSHOT}", parameters | {"at": at})
        done()
    rows = write(db, "SELECT * FROM statistics", out / f"{ITEM_STATISTICS.name}.parquet")
    db.execute("DROP TABLE statistics")
    return rows
