"""The table of `ITEM_WINDOWS`: buyers, prices and promotions of items in windows before each snapshot.

Reads the tables of `facts`. What follows from purchases is `ranking.behaviour.item_windows`, in SQL and over everybody. What is of all
time is carried from snapshot to snapshot, and only the last 28 days are read at each: whole numbers, so that it comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ranking.features import DAY_WINDOWS, ITEM_WINDOWS, PRICE_STEP_PERCENT, PROMO_RATE_PRIOR, SHORT_WINDOW, WINDOW

# Each line: whether it is the first of its user and item, and when the next one comes. Before any instant, a user's last line of an item
# is the one whose next one comes later, so distinct buyers are counted as lines are, without telling them apart at every snapshot.
_PAIRED = """
CREATE TEMP TABLE paired AS
SELECT item_code, bought_at, unit_price, row_number() OVER pair = 1 AS is_first,
       lead(bought_at, 1, 'infinity'::TIMESTAMPTZ) OVER pair AS again
FROM lines WINDOW pair AS (PARTITION BY user_code, item_code ORDER BY bought_at, basket_id)
ORDER BY bought_at
"""

# The price of each whole day on which the item sold, and whether it is another one than before.
_DAILY = f"""
CREATE TEMP TABLE daily AS
SELECT item_code, make_timestamptz((day + 1) * 86400000000) AS over_at, price,
       coalesce(abs(price - lag(price) OVER item) * 100 > {PRICE_STEP_PERCENT} * lag(price) OVER item, false) AS changed
FROM (
    SELECT item_code, epoch_us(bought_at) // 86400000000 AS day, quantile_disc(unit_price, 0.5) AS price
    FROM lines WHERE unit_price IS NOT NULL GROUP BY ALL)
WINDOW item AS (PARTITION BY item_code ORDER BY day)
ORDER BY over_at
"""

_NOTHING = """
CREATE OR REPLACE TEMP TABLE ever (
    item_code INTEGER, buyers HUGEINT, paid HUGEINT, priced HUGEINT, changes HUGEINT, impressions HUGEINT, purchases HUGEINT,
    price BIGINT, over_at TIMESTAMPTZ)
"""
_EVER = """
CREATE OR REPLACE TEMP TABLE ever AS
SELECT item_code, sum(buyers) AS buyers, sum(paid) AS paid, sum(priced) AS priced, sum(changes) AS changes,
       sum(impressions) AS impressions, sum(purchases) AS purchases, arg_max(price, over_at) AS price, max(over_at) AS over_at
FROM (
    FROM ever
    UNION ALL BY NAME
    SELECT item_code, count(*) FILTER (is_first) AS buyers, sum(unit_price) AS paid, count(unit_price) AS priced
    FROM paired WHERE bought_at >= $since AND bought_at < $at GROUP BY item_code
    UNION ALL BY NAME
    SELECT item_code, count(*) FILTER (changed) AS changes, arg_max(price, over_at) AS price, max(over_at) AS over_at
    FROM daily WHERE over_at > $since AND over_at <= $at GROUP BY item_code
    UNION ALL BY NAME
    SELECT item_code, sum(impressions) AS impressions, sum(purchases) AS purchases
    FROM shown WHERE start_time >= $since AND start_time < $at GROUP BY item_code)
GROUP BY item_code
"""
_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        *((feature.name, pa.float32()) for feature in ITEM_WINDOWS),
    ]
)
_BEFORE_ALL = datetime(1, 1, 2, tzinfo=UTC)

_CHANGES = ", ".join(f"count(*) FILTER (over_at > $at - to_days({days})) AS price_changes_{window}" for window, days in DAY_WINDOWS.items())
_CHANGED = ", ".join(f"coalesce(d.price_changes_{window}, 0)::FLOAT AS price_changes_{window}" for window in DAY_WINDOWS)
_RATE = "((coalesce({of}purchases, 0) + $prior * n.rate_{w}) / (coalesce({of}impressions, 0) + $prior))::FLOAT AS promo_rate_{w}"

# Weeks begin at local midnight: across a change of clocks one of them began an hour more or less than 7 days ago.
_SNAPSHOT = f"""
WITH recent AS (
    SELECT item_code, count(*) FILTER (bought_at >= $at - to_days(1)) AS purchases_1d,
           count(*) FILTER (again >= $at AND bought_at >= $at - to_days(1)) AS buyers_1d,
           count(*) FILTER (again >= $at AND bought_at >= $at - to_days($short_window)) AS buyers_7d,
           sum(unit_price) / nullif(count(unit_price), 0) AS price
    FROM paired WHERE bought_at < $at AND bought_at >= $at - to_days($window) GROUP BY item_code
), days AS (
    SELECT item_code, {_CHANGES}
    FROM daily WHERE changed AND over_at <= $at AND over_at > $at - to_days({max(DAY_WINDOWS.values())}) GROUP BY item_code
), promoted AS (
    SELECT item_code, sum(impressions) AS impressions, sum(purchases) AS purchases
    FROM shown WHERE start_time < $at AND start_time >= $at - to_days($short_window) - INTERVAL 2 HOUR GROUP BY item_code
), mean AS (
    SELECT coalesce((SELECT sum(purchases) / nullif(sum(impressions), 0) FROM promoted), 0) AS rate_7d,
           coalesce((SELECT sum(purchases) / nullif(sum(impressions), 0) FROM ever), 0) AS rate_all
)
SELECT item_code, c.item_id, $at AS event_timestamp,
       coalesce(r.purchases_1d, 0)::FLOAT AS purchases_1d,
       coalesce(r.buyers_1d, 0)::FLOAT AS buyers_1d,
       coalesce(r.buyers_7d, 0)::FLOAT AS buyers_7d,
       coalesce(e.buyers, 0)::FLOAT AS buyers_all,
       coalesce(p.impressions, 0)::FLOAT AS promo_impressions_7d,
       coalesce(e.impressions, 0)::FLOAT AS promo_impressions_all,
       {_RATE.format(of="p.", w="7d")},
       {_RATE.format(of="e.", w="all")},
       (coalesce(e.price, 0) / 1e6)::FLOAT AS price_last,
       coalesce(e.price / nullif(coalesce(r.price, e.paid / nullif(e.priced, 0)), 0), 1)::FLOAT AS price_to_mean_28d,
       {_CHANGED},
       coalesce(e.changes, 0)::FLOAT AS price_changes_all
FROM ever e
JOIN catalogue c USING (item_code)
LEFT JOIN recent r USING (item_code)
LEFT JOIN days d USING (item_code)
LEFT JOIN promoted p USING (item_code)
CROSS JOIN mean n
"""


def write_item_windows(
    db: duckdb.DuckDBPyConnection, out: Path, snapshots: Sequence[datetime], done: Callable[[], None] = lambda: None
) -> int:
    """One row per item sold or promoted before the snapshot, per snapshot (ascending), using what happened before it only.

    `done` is called after each snapshot.
    """
    for query in (_PAIRED, _DAILY, _NOTHING):
        db.execute(query)
    parameters = {"short_window": SHORT_WINDOW.days, "window": WINDOW.days, "prior": PROMO_RATE_PRIOR}
    rows = 0
    with pq.ParquetWriter(out / f"{ITEM_WINDOWS.name}.parquet", _SCHEMA, compression="zstd") as writer:
        for i, at in enumerate(snapshots):
            db.execute(_EVER, {"since": snapshots[i - 1] if i else _BEFORE_ALL, "at": at})
            found = db.execute(_SNAPSHOT, parameters | {"at": at}).to_arrow_table()
            table = found.take(pc.sort_indices(found["item_code"])).select(_SCHEMA.names).cast(_SCHEMA)  # ORDER BY takes ten times as long
            writer.write_table(table)  # a row group per snapshot: a reader of one week skips the others
            rows += len(table)
            done()
    for name in ("paired", "daily", "ever"):
        db.execute(f"DROP TABLE {name}")
    return rows
