"""What the feature tables aggregate: purchases, baskets and promoted impressions in the form they read.

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
from pathlib import Path

import duckdb

from training.tables.duck import views
from training.tables.shown import load_shown

CANONICAL = ("items", "users", "events", "promotions", "weeks")


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
    load_shown(db)
