"""What the feature tables aggregate: purchases, baskets and promoted impressions in the form their SQL reads.

Made once per run from the canonical tables, as tables of the given database. Money is in whole micros: sums of integers are equal in
any order of addition, so two runs on any number of threads give the same bits.

* ``lines``: one per (basket, item): who, what (with its keys), basket_id, bought_at; value, unit_price, off_shelf (share of the shelf
  price taken off), each in millionths; NULL where the line has no positive quantity or value.
* ``baskets``: one per basket: user_code, bought_at, which is when it was begun.
* ``sales``: one per (item, week) sold: start_time of the week, lines, with the item's type_key and maker_key.
* ``shown``: one per (item, week) promoted: start_time of the week, impressions (user-store-weeks that saw it) and purchases (those of
  them that bought it there); the same by what the user had bought before the week, as impressions_R and purchases_R for each relation
  R of `ranking.features.RELATIONS`.
* ``catalogue``: items with the columns the statistics need.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from ranking.features import WHOLE
from training.tables.duck import views

CANONICAL = ("items", "users", "events", "promotions", "weeks")

# What counts of something in the week that began at `since`: all of it in the week before the snapshot, then half every
# `half_life` weeks, in parts of `WHOLE`: integers for the same reason as money. Weeks begin at local midnight, hence the rounding to whole
# weeks. The same between week starts: `ranking.behaviour.fading`.
_FADING = f"""
CREATE MACRO fading(snapshot, since, half_life) AS
    round({WHOLE} * pow(0.5, (round((epoch(snapshot) - epoch(since)) / 604800) - 1) / half_life))::BIGINT
"""

# Of a week's visitors to a store, how many had bought an item, a type by a maker, a type. Counted for whole groups and joined to what
# was promoted afterwards: the pairs of visitor and promoted item, hundreds of millions, are never made.
_KNOWING = """
CREATE TABLE knowing_{group} AS
SELECT v.week, v.store_id, k.{group}, count(*) AS users
FROM visits v JOIN (SELECT user_code, {group}, min(week) AS since FROM bought GROUP BY ALL) k
ON k.user_code = v.user_code AND k.since < v.week
WHERE k.{group} <> {nothing}
GROUP BY ALL
"""

_SHOWN = """
CREATE TABLE shown AS
WITH firsts AS (
    SELECT user_code, item_code, min(week) AS item_since,
           min(item_since) OVER (PARTITION BY user_code, maker_key) AS maker_since,
           min(item_since) OVER (PARTITION BY user_code, type_key) AS type_since,
           maker_key <> 0 AS has_maker, type_key <> 0 AS has_type
    FROM bought GROUP BY user_code, item_code, maker_key, type_key
), buyers AS (
    SELECT week, store_id, item_code, count(*) AS buyers,
           count(*) FILTER (relation = 'own') AS own,
           count(*) FILTER (relation = 'maker') AS maker,
           count(*) FILTER (relation = 'type') AS type
    FROM (
        SELECT b.week, b.store_id, b.item_code,
               CASE WHEN f.item_since < b.week THEN 'own'
                    WHEN f.has_maker AND f.maker_since < b.week THEN 'maker'
                    WHEN f.has_type AND f.type_since < b.week THEN 'type' ELSE 'other' END AS relation
        FROM bought b JOIN firsts f USING (user_code, item_code))
    GROUP BY ALL
), every AS (
    SELECT p.week, p.item_code,
           coalesce(sum(v.users), 0)::BIGINT AS impressions,
           coalesce(sum(i.users), 0)::BIGINT AS own,
           coalesce(sum(greatest(m.users, i.users)), 0)::BIGINT AS own_or_maker,  -- greatest(): an item without a type has no group
           coalesce(sum(greatest(t.users, m.users, i.users)), 0)::BIGINT AS known,
           coalesce(sum(b.buyers), 0)::BIGINT AS purchases,
           coalesce(sum(b.own), 0)::BIGINT AS purchases_own,
           coalesce(sum(b.maker), 0)::BIGINT AS purchases_maker,
           coalesce(sum(b.type), 0)::BIGINT AS purchases_type
    FROM promotions p JOIN catalogue c USING (item_code)
    LEFT JOIN (SELECT week, store_id, count(*) AS users FROM visits GROUP BY ALL) v USING (week, store_id)
    LEFT JOIN knowing_item_code i USING (week, store_id, item_code)
    LEFT JOIN knowing_maker_key m USING (week, store_id, maker_key)
    LEFT JOIN knowing_type_key t USING (week, store_id, type_key)
    LEFT JOIN buyers b USING (week, store_id, item_code)
    GROUP BY ALL
)
SELECT w.start_time, item_code, impressions, purchases,
       own AS impressions_own, own_or_maker - own AS impressions_maker, known - own_or_maker AS impressions_type,
       impressions - known AS impressions_other,
       purchases_own, purchases_maker, purchases_type, purchases - purchases_own - purchases_maker - purchases_type AS purchases_other
FROM every JOIN weeks w USING (week)
"""


def load(db: duckdb.DuckDBPyConnection, canonical: Path) -> None:
    """Create the tables described above from the Parquet files in `canonical`."""
    views(db, canonical, *CANONICAL)
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
               round(sum(discount) / nullif(sum(value + discount), 0) * 1e6)::BIGINT AS off_shelf
        FROM events JOIN catalogue c USING (item_code) WHERE event_type = 'purchase'
        GROUP BY user_code, item_code, basket_id
        ORDER BY bought_at""")  # by time: a snapshot's filter then skips whole row groups
    db.execute("""
        CREATE TABLE baskets AS
        SELECT user_code, basket_id, min(bought_at) AS bought_at FROM lines GROUP BY ALL""")
    db.execute("""
        CREATE TABLE sales AS
        SELECT l.item_code, c.type_key, c.maker_key, w.start_time, count(*) AS lines
        FROM lines l JOIN catalogue c USING (item_code) JOIN weeks w USING (week) GROUP BY ALL""")
    db.execute("CREATE TEMP TABLE visits AS SELECT DISTINCT week, store_id, user_code FROM events")
    db.execute("""
        CREATE TEMP TABLE bought AS
        SELECT DISTINCT e.week, e.store_id, e.user_code, e.item_code, c.maker_key, c.type_key
        FROM events e JOIN catalogue c USING (item_code) WHERE event_type = 'purchase'""")
    for group, nothing in (("item_code", -1), ("maker_key", 0), ("type_key", 0)):
        db.execute(_KNOWING.format(group=group, nothing=nothing))
    db.execute(_SHOWN)
    for name in ("visits", "bought", "knowing_item_code", "knowing_maker_key", "knowing_type_key"):
        db.execute(f"DROP TABLE {name}")
