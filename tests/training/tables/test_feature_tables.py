"""Batch feature tables: what they say, and that they cannot see the future."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranking.aggregates import smoothed_rate, tiers
from ranking.features import (
    HEAD_SHARE,
    INTEREST_CATEGORIES,
    MAX_CATEGORIES,
    MAX_HISTORY,
    MAX_ITEM_TOKENS,
    SIDE_VIEWS,
    VIEWS,
    View,
    stable_key,
)
from ranking.text import interest_text
from ranking.types import TIERS
from tests.training.tables.slices import FIRST_WEEK, LAST_WEEK, Slice, build
from training.tables.tokens import Tokens

_ARROW = {
    "float32": pa.float32(),
    "int64": pa.int64(),
    "string": pa.string(),
    "float32_list": pa.list_(pa.float32()),
    "int64_list": pa.list_(pa.int64()),
}
AT = datetime(2017, 12, 4, 5, tzinfo=UTC)  # the start of week 50


def _rows(small: Slice, name: str, where: str = "true") -> list[dict]:
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        return db.execute(f"SELECT * FROM '{small.layout.features}/{name}.parquet' WHERE {where}").to_arrow_table().to_pylist()


@pytest.mark.parametrize("view", [*VIEWS, *SIDE_VIEWS], ids=lambda v: v.name)
def test_a_table_has_the_declared_columns_and_types(small: Slice, view: View) -> None:
    """Names, order and types are the schema's; nothing is null; one row per entity and instant."""
    table = pq.read_table(small.layout.features / f"{view.name}.parquet")
    assert table.column_names == [f"{view.entity}_id", "event_timestamp", *(f.name for f in view)]
    assert table.schema.field("event_timestamp").type == pa.timestamp("us", tz="UTC")
    for feature in view:
        assert table.schema.field(feature.name).type.equals(_ARROW[feature.dtype]), feature.name
        if view.name != "user_profile":  # what users did not declare stays null and becomes its default later
            assert table[feature.name].null_count == 0, feature.name
    assert table.num_rows == table.group_by([f"{view.entity}_id", "event_timestamp"]).aggregate([]).num_rows
    assert table.num_rows > 0 or view.name in ("item_reviews", "item_embedding")  # nobody left a file of reviews here, nor read texts


def test_snapshots_stand_at_the_starts_of_all_weeks(small: Slice) -> None:
    """One snapshot per week of the range, at the week's own start."""
    starts = duckdb.sql(
        f"SELECT epoch_us(start_time) FROM '{small.canonical}/weeks.parquet' WHERE week BETWEEN {FIRST_WEEK} AND {LAST_WEEK} ORDER BY 1"
    ).fetchall()
    for name in ("user_behaviour", "item_statistics", "item_windows", "user_taste", "item_taste"):
        found = duckdb.sql(f"SELECT DISTINCT epoch_us(event_timestamp) FROM '{small.layout.features}/{name}.parquet' ORDER BY 1").fetchall()
        assert found == starts


def test_user_behaviour_is_what_the_raw_lines_say(small: Slice) -> None:
    """Every column of every user at one instant equals a plain recount of the source's transactions."""
    lines = duckdb.sql(f"""
        SELECT t.household_id::VARCHAR AS user, t.product_id::VARCHAR AS item, t.basket_id, t.transaction_timestamp,
               t.sales_value, t.quantity, coalesce(p.brand, '') = 'Private' AS private, coalesce(p.product_category, '') AS category
        FROM '{small.raw}/transactions.parquet' t LEFT JOIN '{small.raw}/products.parquet' p USING (product_id)""").fetchall()
    found = {row["user_id"]: row for row in _rows(small, "user_behaviour", f"event_timestamp = TIMESTAMPTZ '{AT.isoformat()}'")}
    now = AT.replace(tzinfo=None)
    by_user: dict[str, list[tuple]] = {}
    for line in lines:
        if line[3] < now:
            by_user.setdefault(line[0], []).append(line)
    assert found.keys() == by_user.keys()
    for user, own in by_user.items():
        row, recent = found[user], [x for x in own if x[3] >= now - timedelta(days=28)]
        count, last = Counter(x[1] for x in own), {}
        for _, item, _, at, *_ in own:
            last[item] = max(at, last.get(item, at))
        history = sorted(last, key=lambda i: (-last[i].timestamp(), stable_key(i)))[:MAX_HISTORY]
        categories = Counter(x[7] for x in own if x[7])
        largest = sorted(categories, key=lambda c: (-categories[c], stable_key(c)))[:MAX_CATEGORIES]
        prices = [x[4] / x[5] for x in own if x[5] > 0 and x[4] > 0]
        day = timedelta(days=1)
        assert row["orders_28d"] == len({x[2] for x in recent})
        assert row["orders_all"] == len({x[2] for x in own})
        assert row["spend_28d"] == pytest.approx(sum(x[4] for x in recent), rel=1e-6)
        assert row["days_since_order"] == pytest.approx((now - max(last.values())) / day, rel=1e-6)
        assert row["mean_unit_price"] == pytest.approx(sum(prices) / len(prices), rel=1e-5)
        assert row["private_share"] == pytest.approx(sum(x[6] for x in own) / len(own), rel=1e-6)
        assert row["distinct_items"] == len(count)
        assert row["history_item_keys"] == [stable_key(i) for i in history]
        assert row["history_counts"] == [count[i] for i in history]
        assert row["history_days"] == pytest.approx([(now - last[i]) / day for i in history], rel=1e-6)
        assert row["category_keys"] == [stable_key(c) for c in largest]
        assert row["category_shares"] == pytest.approx([categories[c] / len(own) for c in largest], rel=1e-6)
        assert row["interest_text"] == interest_text(largest[:INTEREST_CATEGORIES])


def test_item_statistics_are_what_the_raw_lines_say(small: Slice) -> None:
    """Counts, prices and promoted rates of every item at one instant equal a plain recount of the source's files."""
    now, window = AT.replace(tzinfo=None), timedelta(days=28)
    lines = duckdb.sql(f"""
        SELECT product_id::VARCHAR, household_id, transaction_timestamp, sales_value, quantity,
               retail_disc + coupon_match_disc, week, store_id
        FROM '{small.raw}/transactions.parquet'""").fetchall()
    visitors: dict[tuple, set] = {}
    buyers: dict[tuple, set] = {}
    for item, user, _, _, _, _, week, store in lines:
        visitors.setdefault((week, store), set()).add(user)
        buyers.setdefault((week, store, item), set()).add(user)
    shown, bought = Counter(), Counter()
    promotions = duckdb.sql(
        f"SELECT DISTINCT week, store_id, product_id::VARCHAR FROM '{small.raw}/promotions.parquet' WHERE week BETWEEN 46 AND 49"
    ).fetchall()
    for week, store, item in promotions:
        shown[item] += len(visitors.get((week, store), ()))
        bought[item] += len(buyers.get((week, store, item), ()))
    mean = sum(bought.values()) / sum(shown.values())
    before = [x for x in lines if x[2] < now]
    by_item: dict[str, list[tuple]] = {}
    for line in before:
        by_item.setdefault(line[0], []).append(line)
    found = _rows(small, "item_statistics", f"event_timestamp = TIMESTAMPTZ '{AT.isoformat()}'")
    purchases = {row["item_id"]: len(by_item.get(row["item_id"], ())) for row in found}
    codes = dict(zip(purchases, tiers(np.array(list(purchases.values()), np.float32)), strict=True))
    assert by_item.keys() <= purchases.keys()
    for row in found:
        item = row["item_id"]
        own = by_item.get(item, [])
        recent = [x for x in own if x[2] >= now - window]
        prices = [x[3] / x[4] for x in recent or own if x[3] > 0 and x[4] > 0]
        assert row["purchases_all"] == len(own)
        assert row["purchases_28d"] == len(recent)
        assert row["purchases_7d"] == sum(x[2] >= now - timedelta(days=7) for x in own)
        assert row["buyers_28d"] == len({x[1] for x in recent})
        assert row["promo_impressions_28d"] == shown[item]
        expected = smoothed_rate(np.array([float(bought[item])]), np.array([float(shown[item])]), mean)[0]
        assert row["promo_rate_28d"] == pytest.approx(expected, rel=1e-6)
        if prices:
            assert row["price_28d"] == pytest.approx(sum(prices) / len(prices), rel=1e-4, abs=1e-5)
        off = [x[5] / (x[3] + x[5]) for x in recent if x[3] + x[5]]
        assert row["discount_28d"] == pytest.approx(sum(off) / len(off) if off else 0.0, rel=1e-5, abs=1e-6)
        assert row["popularity_tier"] == TIERS[codes[item]]
    sold = [n for n in purchases.values() if n]
    assert sum(row["popularity_tier"] == "head" for row in found) >= HEAD_SHARE * len(sold)


def test_token_ids_are_the_titles_without_special_tokens(small: Slice) -> None:
    """Each item's ids are its title's, cut at the limit, neither framed nor padded."""
    rows = _rows(small, "item_profile")[:500]
    expected = Tokens()([row["title"] for row in rows], MAX_ITEM_TOKENS)
    assert [row["token_ids"] for row in rows] == [ids.tolist() for ids in expected]
    assert Tokens()(["", "a" * 5000], 3)[0].tolist() == []


def test_a_future_purchase_changes_no_earlier_feature(small: Slice, tmp_path: Path) -> None:
    """A purchase planted in week 50, by a household that never bought the item, leaves every row stamped until then bit for bit.

    Later rows change.
    """
    raw = tmp_path / "raw"
    shutil.copytree(small.raw, raw)
    planted = AT.replace(tzinfo=None) + timedelta(seconds=1)
    some = (
        f"(SELECT product_id FROM '{small.raw}/transactions.parquet' GROUP BY 1 HAVING count(DISTINCT household_id) = 5 ORDER BY 1 LIMIT 1)"
    )
    buyers = f"SELECT household_id FROM '{small.raw}/transactions.parquet' WHERE product_id = {some}"
    duckdb.sql(f"""
        COPY (SELECT * FROM '{small.raw}/transactions.parquet' UNION ALL
              SELECT household_id, store_id, 1 AS basket_id, {some} AS product_id, 50 AS quantity, 999.0 AS sales_value, 0.0, 0.0, 0.0, 50,
                     TIMESTAMP '{planted.isoformat()}'
              FROM (SELECT * FROM '{small.raw}/transactions.parquet' WHERE household_id NOT IN ({buyers})
                    ORDER BY household_id, basket_id LIMIT 1))
        TO '{raw}/transactions.parquet' (FORMAT parquet)""")
    other = build(tmp_path / "home", raw)
    for name in ("user_behaviour", "item_statistics", "item_windows", "user_taste", "item_taste"):
        ours, theirs = (f"'{x.layout.features}/{name}.parquet'" for x in (small, other))
        for clause, change in ((f"<= TIMESTAMPTZ '{AT.isoformat()}'", False), (f"> TIMESTAMPTZ '{AT.isoformat()}'", True)):
            rows = [f"(SELECT * FROM {t} WHERE event_timestamp {clause})" for t in (ours, theirs)]
            moved = duckdb.sql(f"SELECT count(*) FROM ({rows[0]} EXCEPT ALL {rows[1]})").fetchone()[0]
            assert (moved > 0) is change, (name, clause)
            if not change:
                counts = [duckdb.sql(f"SELECT count(*) FROM {r}").fetchone() for r in rows]
                assert counts[0] == counts[1]
