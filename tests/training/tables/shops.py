"""Made-up shops as canonical tables: a few users, items and weeks across a change of clocks, and any purchases and promotions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from ranking.features import stable_key

USERS, ITEMS, WEEKS, STORES = 4, 9, 8, 2
_MONDAY = datetime(2017, 2, 13, tzinfo=ZoneInfo("America/New_York"))  # clocks change four weeks later
STARTS = [(_MONDAY + timedelta(days=7 * i)).astimezone(UTC) for i in range(WEEKS)]  # local midnights: week 5 is an hour short
CATEGORIES = ("", "Bread", "MILK/CREAM", "Ice - cubed")


@dataclass(frozen=True)
class Line:
    """One product in a basket."""

    user: int
    basket: int
    item: int
    at: datetime
    quantity: int
    cents: int
    discount: int  # cents


@dataclass(frozen=True)
class Shop:
    """What happened."""

    lines: tuple[Line, ...]
    promotions: frozenset[tuple[int, int, int]]  # week from 1, store, item


@st.composite
def shops(draw: st.DrawFn) -> Shop:
    """Any shop. Instants at the very start of a week, and a basket that is still open when the next one begins, are not rare."""
    last = (STARTS[-1] - STARTS[0]) // timedelta(microseconds=1) - 1
    instants = st.one_of(
        st.integers(0, last),
        st.builds(
            lambda i, us: max(0, (STARTS[i] - STARTS[0]) // timedelta(microseconds=1) + us), st.integers(0, WEEKS - 2), st.integers(-1, 1)
        ),
    ).map(lambda us: STARTS[0] + timedelta(microseconds=us))
    baskets = draw(
        st.lists(
            st.tuples(
                st.integers(0, USERS - 1),
                instants,
                st.dictionaries(
                    st.integers(0, ITEMS - 1),
                    st.tuples(st.integers(0, 3), st.integers(0, 999), st.integers(0, 300), st.sampled_from([0, 0, 0, 90_000])),
                    min_size=1,
                    max_size=5,
                ),
            ),
            max_size=25,
        )
    )
    lines = tuple(
        Line(user, basket, item, min(at + timedelta(seconds=later), STARTS[-1] - timedelta(microseconds=1)), quantity, cents, discount)
        for basket, (user, at, items) in enumerate(baskets)
        for item, (quantity, cents, discount, later) in items.items()
    )
    promotions = draw(
        st.frozensets(st.tuples(st.integers(1, WEEKS - 1), st.integers(0, STORES - 1), st.integers(0, ITEMS - 1)), max_size=12)
    )
    return Shop(lines, promotions)


def write_shop(shop: Shop, out: Path) -> None:
    """Its canonical tables, into the directory `out`."""

    def write(name: str, columns: dict[str, pa.Array]) -> None:
        pq.write_table(pa.table(columns), out / f"{name}.parquet")

    instants = pa.timestamp("us", tz="UTC")
    write("weeks", {"week": pa.array(range(1, WEEKS + 1), pa.int32()), "start_time": pa.array(STARTS, instants)})
    unknown = pa.nulls(USERS, pa.float32())
    declared = dict.fromkeys(("age_code", "income_code", "household_size", "kids_count"), unknown)
    write("users", {"user_id": [f"u{u}" for u in range(USERS)], "user_code": pa.array(range(USERS), pa.int32()), **declared})
    category = [CATEGORIES[i % len(CATEGORIES)] for i in range(ITEMS)]
    kinds = [f"{category[i]} kind {i % 2}" if category[i] else "" for i in range(ITEMS)]
    makers = [f"{kinds[i]} | {i % 3}" if kinds[i] else "" for i in range(ITEMS)]
    ids = [f"i{i}" for i in range(ITEMS)]
    write(
        "items",
        {
            "item_id": ids,
            "item_code": pa.array(range(ITEMS), pa.int32()),
            "item_key": [stable_key(i) for i in ids],
            "title": [f"title {i % 3}" for i in range(ITEMS)],
            "category": category,
            "department": ["all"] * ITEMS,
            "brand": ["Private" if i % 3 == 0 else "National" for i in range(ITEMS)],
            "seller": [str(i % 3) for i in range(ITEMS)],
            "category_key": [stable_key(c) for c in category],
            "type_key": [stable_key(k) for k in kinds],
            "maker_key": [stable_key(m) for m in makers],
            "text_digest": [stable_key(f"title {i % 3}") for i in range(ITEMS)],
        },
    )
    lines = sorted(shop.lines, key=lambda x: (x.at, x.basket, x.item))
    write(
        "events",
        {
            "event_id": pa.array([f"{x.basket}-{x.item}" for x in lines], pa.string()),
            "event_time": pa.array([x.at for x in lines], instants),
            "user_id": pa.array([f"u{x.user}" for x in lines], pa.string()),
            "item_id": pa.array([f"i{x.item}" for x in lines], pa.string()),
            "event_type": pa.array(["purchase"] * len(lines), pa.string()),
            "value": pa.array([x.cents / 100 for x in lines], pa.float64()),
            "user_code": pa.array([x.user for x in lines], pa.int32()),
            "item_code": pa.array([x.item for x in lines], pa.int32()),
            "basket_id": pa.array([x.basket for x in lines], pa.int64()),
            "store_id": pa.array([x.user % STORES for x in lines], pa.int32()),
            "quantity": pa.array([x.quantity for x in lines], pa.int64()),
            "discount": pa.array([x.discount / 100 for x in lines], pa.float64()),
            "week": pa.array([sum(x.at >= s for s in STARTS) for x in lines], pa.int32()),
        },
    )
    promoted = sorted(shop.promotions)
    write(
        "promotions",
        {
            "week": pa.array([w for w, _, _ in promoted], pa.int32()),
            "store_id": pa.array([s for _, s, _ in promoted], pa.int32()),
            "item_code": pa.array([i for _, _, i in promoted], pa.int32()),
            "on_display": pa.array([True] * len(promoted), pa.bool_()),
            "in_mailer": pa.array([False] * len(promoted), pa.bool_()),
        },
    )
    (out / "meta.json").write_text(json.dumps({"first_event": STARTS[0].isoformat()}))
