"""What the feature tables aggregate: purchases, baskets and promoted impressions in the form their SQL reads.

Made once per run from the canonical tables, as tables of the given database. Money is in whole micros: sums of integers are equal in
any order of addition, so two runs on any number of threads give the same bits.

* ``lines``: one per (basket, item): who, what (with its keys), basket_id, bought_at; value, unit_price, off_shelf (share of the shelf
  price taken off), each in millionths; NULL where the line has no positive quantity or value.
* ``baskets``: one per basket: user_code, bought_at, value.
* ``shown``: one per (item, week) promoted: start_time of the week, impressions (user-store-weeks that saw it) and purchases (those of
  them that bought it there).
* ``catalogue``: items with the columns the statistics need.
"""

from __future__ import annotations

from pathlib import Path

import duckdb

from training.tables.duck import views

CANONICAL = ("items", "users", "events", "promotions", "weeks")


def load(db: duckdb.DuckDBPyConnection, canonical: Path) -> None:
    """Create the tables described above from the Parquet files in `canonical`."""
    views(db, canonical, *CANONICAL)
    db.execute("""
        CREATE TABLE catalogue AS
        SELECT item_id, item_code, item_key, category, category_key, brand = 'Private' AS is_private FROM items""")
    db.execute("""
        CREATE TABLE lines AS
        SELECT user_code, item_code, basket_id, min(event_time) AS bought_at,
               any_value(c.item_key) AS item_key, any_value(c.category_key) AS category_key, any_value(c.is_private) AS is_private,
               round(sum(value) * 1e6)::BIGINT AS value,
               round(sum(value) FILTER (quantity > 0 AND value > 0) / sum(quantity) FILTER (quantity > 0 AND value > 0) * 1e6)::BIGINT
                   AS unit_price,
               round(sum(discount) / nullif(sum(value + discount), 0) * 1e6)::BIGINT AS off_shelf
        FROM events JOIN catalogue c USING (item_code) WHERE event_type = 'purchase'
        GROUP BY user_code, item_code, basket_id
        ORDER BY bought_at""")  # by time: a snapshot's filter then skips whole row groups
    db.execute("""
        CREATE TABLE baskets AS
        SELECT user_code, basket_id, min(bought_at) AS bought_at, sum(value)::BIGINT AS value FROM lines GROUP BY ALL""")
    db.execute("""
        CREATE TABLE shown AS
        WITH visits AS (
            SELECT week, store_id, count(DISTINCT user_code) AS users FROM events GROUP BY ALL
        ), bought AS (
            SELECT week, store_id, item_code, count(DISTINCT user_code) AS buyers FROM events WHERE event_type = 'purchase' GROUP BY ALL
        )
        SELECT w.start_time, p.item_code, coalesce(sum(v.users), 0)::BIGINT AS impressions, coalesce(sum(b.buyers), 0)::BIGINT AS purchases
        FROM promotions p JOIN weeks w USING (week)
        LEFT JOIN visits v USING (week, store_id) LEFT JOIN bought b USING (week, store_id, item_code)
        GROUP BY ALL""")
