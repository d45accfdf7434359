"""What the feature tables aggregate: purchases, baskets and promoted impressions in the form their SQL reads.

Made once per run from the canonical tables, as tables of the given database. Money is in whole micros: sums of integers are equal in
any order of addition, so two runs on any number of threads give the same bits. Of forgotten users there are no facts.

* ``lines``: one per (basket, item), by time: who, what (with its keys), basket_id, bought_at; value, unit_price, off_shelf (share of the
  shelf price taken off), each in millionths; NULL where the line has no positive quantity or value; nth of its user and item, and again,
  which is when the next of them comes, NULL if none does.
* ``baskets``: one per basket: user_code, bought_at, which is when it was begun.
* ``sales``: one per (item, week) sold: start_time of the week, lines.
* ``shown``: one per (item, week) promoted: start_time of the week, impressions (user-store-weeks that saw it) and purchases (those of
  them that bought it there); the same by what the user had bought before the week, as impressions_R and purchases_R for each relation
  R of `ranking.features.RELATIONS`.
* ``catalogue``: items with the columns the statistics need.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import duckdb

from ranking.features import WHOLE
from training.tables.duck import THREADS, together, views

CANONICAL = ("items", "users", "events", "promotions", "weeks")

# What counts of something in each week before a snapshot: all of it in the last one, then half every `half_life` weeks, in parts of
# `WHOLE`: integers for the same reason as money. Weeks begin at local midnight, hence the rounding to whole weeks. Between week starts it
# is `ranking.behaviour.fading`.
_FADING = f"""
CREATE MACRO fading(snapshot, half_life) AS TABLE
    SELECT start_time, round({WHOLE} * pow(0.5, (round((epoch(snapshot) - epoch(start_time)) / 604800) - 1) / half_life))::BIGINT AS faded
    FROM weeks WHERE start_time < snapshot
"""

# When each user first bought an item, and anything of its type and maker: what a purchase is to the user in the weeks after.
_FIRSTS = """
CREATE TABLE firsts AS
SELECT user_code, item_code, min(week) AS item_since,
       min(item_since) OVER (PARTITION BY user_code, maker_key) AS maker_since,
       min(item_since) OVER (PARTITION BY user_code, type_key) AS type_since,
       maker_key <> 0 AS has_maker, type_key <> 0 AS has_type
FROM bought GROUP BY user_code, item_code, maker_key, type_key
"""

_SINCE = """
CREATE TABLE since_{group} AS
SELECT user_code, {group}, min(week) AS since FROM bought WHERE {group} <> {none} GROUP BY ALL ORDER BY since
"""

_WEEKS_SHOWN = """
CREATE TABLE weeks_shown (
    start_time TIMESTAMPTZ, item_code INTEGER,
    impressions BIGINT, impressions_own BIGINT, impressions_maker BIGINT, impressions_type BIGINT, impressions_other BIGINT,
    purchases BIGINT, purchases_own BIGINT, purchases_maker BIGINT, purchases_type BIGINT, purchases_other BIGINT)
"""

# Of a week's visitors to a store, how many had bought an item, a type by a maker, a type. Counted for whole groups and joined to what
# was promoted: the pairs of visitor and promoted item, hundreds of millions, are never made.
_KNOWING = """knowing_{group} AS (
    SELECT v.store_id, k.{group}, count(*) AS users
    FROM visitors v JOIN (
        SELECT user_code, {group} FROM since_{group} WHERE since < $week AND {group} IN (FROM promoted_{group})
    ) k USING (user_code)
    GROUP BY ALL
)"""

# One week at a time: its joins then fit the processor's caches, which those over all weeks at once do not. The week's promotions are a
# table and no subquery, so that the planner knows how few they are and hashes them, not what all users ever bought.
_PROMOTED = """
CREATE OR REPLACE TEMP TABLE promoted AS
SELECT store_id, item_code, maker_key, type_key FROM promotions JOIN catalogue USING (item_code) WHERE week = $week
"""
_VISITORS = "CREATE OR REPLACE TEMP TABLE visitors AS SELECT store_id, user_code FROM visits WHERE week = $week"
_OF_PROMOTED = "CREATE OR REPLACE TEMP TABLE promoted_{group} AS SELECT DISTINCT {group} FROM promoted"
_SHOWN_IN_WEEK = f"""
INSERT INTO weeks_shown BY NAME
WITH {", ".join(_KNOWING.format(group=group) for group in ("item_code", "maker_key", "type_key"))}, buyers AS (
    SELECT store_id, item_code, count(*) AS buyers,
           count(*) FILTER (relation = 'own') AS own,
           count(*) FILTER (relation = 'maker') AS maker,
           count(*) FILTER (relation = 'type') AS type
    FROM (
        SELECT b.store_id, b.item_code,
               CASE WHEN f.item_since < $week THEN 'own'
                    WHEN f.has_maker AND f.maker_since < $week THEN 'maker'
                    WHEN f.has_type AND f.type_since < $week THEN 'type' ELSE 'other' END AS relation
        FROM bought b JOIN firsts f USING (user_code, item_code) WHERE b.week = $week)
    GROUP BY ALL
), every AS (
    SELECT p.item_code,
           coalesce(sum(v.users), 0)::BIGINT AS impressions,
           coalesce(sum(i.users), 0)::BIGINT AS own,
           coalesce(sum(greatest(m.users, i.users)), 0)::BIGINT AS own_or_maker,  -- greatest(): an item without a type has no group
           coalesce(sum(greatest(t.users, m.users, i.users)), 0)::BIGINT AS known,
           coalesce(sum(b.buyers), 0)::BIGINT AS purchases,
           coalesce(sum(b.own), 0)::BIGINT AS purchases_own,
           coalesce(sum(b.maker), 0)::BIGINT AS purchases_maker,
           coalesce(sum(b.type), 0)::BIGINT AS purchases_type
    FROM promoted p
    LEFT JOIN (SELECT store_id, count(*) AS users FROM visitors GROUP BY ALL) v USING (store_id)
    LEFT JOIN knowing_item_code i USING (store_id, item_code)
    LEFT JOIN knowing_maker_key m USING (store_id, maker_key)
    LEFT JOIN knowing_type_key t USING (store_id, type_key)
    LEFT JOIN buyers b USING (store_id, item_code)
    GROUP BY p.item_code
)
SELECT $start::TIMESTAMPTZ AS start_time, item_code, impressions, purchases,
       own AS impressions_own, own_or_maker - own AS impressions_maker, known - own_or_maker AS impressions_type,
       impressions - known AS impressions_other,
       purchases_own, purchases_maker, purchases_type, purchases - purchases_own - purchases_maker - purchases_type AS purchases_other
FROM every
"""


def load(db: duckdb.DuckDBPyConnection, canonical: Path, forgotten: Sequence[str] = ()) -> None:
    """Create the tables described above from the Parquet files in `canonical`.

    Args:
        db: empty.
        canonical: folder of the canonical tables.
        forgotten: ids of users whose events are left out; their codes are in the table ``forgotten``, and in ``users`` still, whose
            rows are found by their codes.
    """
    views(db, canonical, *CANONICAL)
    known = "SELECT user_code FROM users WHERE user_id IN (SELECT unnest($ids::VARCHAR[]))"
    db.execute(f"CREATE TABLE forgotten AS {known}", {"ids": list(forgotten)})
    if forgotten:
        db.execute("ALTER VIEW events RENAME TO told; CREATE VIEW events AS FROM told ANTI JOIN forgotten USING (user_code)")
    db.execute(_FADING)
    db.execute("""
        CREATE TABLE catalogue AS
        SELECT item_id, item_code, item_key, category, category_key, type_key, maker_key, brand = 'Private' AS is_private FROM items""")
    db.execute("""
        CREATE TABLE lines AS
        SELECT user_code, item_code, basket_id, min(event_time) AS bought_at,
               any_value(c.item_key) AS item_key, any_value(c.category_key) AS category_key,
               any_value(c.type_key) AS type_key, any_value(c.maker_key) AS maker_key,
               any_value(c.is_private) AS is_private, any_value(week) AS week,
               round(sum(value) * 1e6)::BIGINT AS value,
               round(sum(value) FILTER (quantity > 0 AND value > 0) / sum(quantity) FILTER (quantity > 0 AND value > 0) * 1e6)::BIGINT
                   AS unit_price,
               round(sum(discount) / nullif(sum(value + discount), 0) * 1e6)::BIGINT AS off_shelf,
               row_number() OVER pair AS nth, lead(bought_at) OVER pair AS again
        FROM events JOIN catalogue c USING (item_code) WHERE event_type = 'purchase'
        GROUP BY user_code, item_code, basket_id
        WINDOW pair AS (PARTITION BY user_code, item_code ORDER BY bought_at, basket_id)
        ORDER BY bought_at""")  # by time: a snapshot's filter then skips whole row groups
    db.execute("""
        CREATE TABLE baskets AS
        SELECT user_code, basket_id, min(bought_at) AS bought_at FROM lines GROUP BY ALL""")
    db.execute("""
        CREATE TABLE sales AS
        SELECT item_code, start_time, count(*) AS lines FROM lines JOIN weeks USING (week) GROUP BY ALL""")
    _load_shown(db)


def _load_shown(db: duckdb.DuckDBPyConnection) -> None:
    db.execute("""
        CREATE TABLE visits AS
        SELECT DISTINCT week, store_id, user_code FROM events
        WHERE store_id IN (SELECT DISTINCT store_id FROM promotions) ORDER BY week""")
    db.execute("""
        CREATE TABLE bought AS
        SELECT DISTINCT e.week, e.store_id, e.user_code, e.item_code, c.maker_key, c.type_key
        FROM events e JOIN catalogue c USING (item_code) WHERE event_type = 'purchase' ORDER BY e.week""")
    db.execute(_FIRSTS)
    groups = {"item_code": -1, "maker_key": 0, "type_key": 0}  # column -> what stands for none
    for group, none in groups.items():
        db.execute(_SINCE.format(group=group, none=none))
    db.execute(_WEEKS_SHOWN)
    weeks = db.execute("SELECT week, start_time FROM weeks ORDER BY week").fetchall()
    together(db, *(partial(_count_shown, weeks[part::THREADS], tuple(groups)) for part in range(THREADS)))
    db.execute("CREATE TABLE shown AS SELECT * FROM weeks_shown ORDER BY item_code, start_time")  # as snapshots group it
    for name in ("visits", "bought", "firsts", "weeks_shown", *(f"since_{group}" for group in groups)):
        db.execute(f"DROP TABLE {name}")


def _count_shown(weeks: Sequence[tuple[int, datetime]], groups: Sequence[str], db: duckdb.DuckDBPyConnection) -> None:
    for week, start in weeks:
        for query in (_PROMOTED, _VISITORS):
            db.execute(query, {"week": week})
        for group in groups:
            db.execute(_OF_PROMOTED.format(group=group))
        db.execute(_SHOWN_IN_WEEK, {"week": week, "start": start})
