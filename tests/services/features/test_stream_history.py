"""What the batch leaves is where the stream goes on from: with every batch anew, and nothing counted twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from ranking.errors import Unavailable
from ranking.features import ITEM_STATISTICS, ITEM_WINDOWS
from ranking.layout import Layout
from services.features.follower import Follower
from services.features.history import look
from services.features.keeper import Keeper
from services.features.purchases import basket_of
from services.features.state import State
from services.feedback.types import Event
from tests.services.features.stream_fakes import DAY, HOUR, NOON, Shop, bought

WATERMARK = NOON - DAY
LINES = [  # user, item, basket, seconds before the watermark, value, unit price, off shelf
    ("ann", "i1", 7, 5 * DAY, 3_000_000, 1_500_000, 100_000),
    ("ann", "i2", 7, 5 * DAY, 1_000_000, 1_000_000, 0),
    ("bob", "i1", 8, 60, 2_000_000, -1, -1),
]


def batch(home: Path, watermark: int = WATERMARK, lines: Sequence[tuple[str, str, int, int, int, int, int]] = LINES) -> None:
    """What a run of the batch leaves."""
    layout = Layout(home)
    layout.features.mkdir(exist_ok=True)
    columns = ["user_id", "item_id", "basket", "bought_at", "value", "unit_price", "off_shelf"]
    frame = pd.DataFrame([(*line[:3], at(watermark - line[3]), *line[4:]) for line in lines], columns=columns)
    frame.to_parquet(layout.history)
    pd.DataFrame({"item_id": ["i1", "i9"], "first_shown": [at(watermark - 90 * DAY)] * 2}).to_parquet(layout.first_shown)
    weeks = [at(watermark - days * DAY).isoformat() for days in (14, 7)]
    layout.feature_meta.write_text(json.dumps({"watermark": at(watermark).isoformat(), "week_starts": weeks}))


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def follow(shop: Shop, *events: Event) -> Follower:
    """Let a follower begin, take events in, and end."""
    shop.log.append(events)
    stop = threading.Event()
    keeper = Keeper(shop.store, shop.writer, refresh_s=60.0, batch=100, stop=stop)
    follower = Follower(
        shop.layout,
        shop.log,
        shop.store,
        keeper,
        shop.forgotten,
        stop,
        poll_s=0.005,
        look_s=0.01,
        keep_s=DAY,
        metrics=shop.metrics,
        clock=lambda: shop.now,
    )
    thread = threading.Thread(target=follower.run)
    thread.start()
    while not _done(shop, follower):
        stop.wait(0.005)
    stop.set()
    thread.join()
    return follower


def _done(shop: Shop, follower: Follower) -> bool:
    told = follower.status()
    return bool(told.get("error")) or (told.get("offset", -1) >= shop.log.last() and told.get("waiting") == 0)


def test_events_go_on_from_the_history(tmp_path: Path) -> None:
    """A user's and an item's rows have both, prices and discounts as the batch had them, and the item's age from its first promotion."""
    batch(tmp_path)
    with Shop(tmp_path) as shop:
        follow(shop, bought("a", "ann", "i1", order_id="new"))
        user, item = shop.user("ann"), shop.item("i1")
        assert (user["orders_all"], user["distinct_items"], user["spend_28d"]) == (2.0, 2.0, 6.5)
        assert user["mean_unit_price"] == pytest.approx((1.5 + 1.0 + 2.5) / 3)
        assert (item["purchases_all"], item["buyers_28d"], item["price_28d"]) == (3.0, 2.0, (1.5 + 2.5) / 2)
        assert item["discount_28d"] == pytest.approx(0.1)
        assert item["age_days"] == pytest.approx(91 + HOUR / DAY)
        assert item["popularity_rank"] == 0.5  # i1 sold more often than i2
        assert shop.user("bob") == {}  # nothing happened to him


def test_what_the_history_has_is_not_counted_again(tmp_path: Path) -> None:
    """By its order, or else by user, item and instant; another purchase of that time is one that came late."""
    batch(tmp_path)
    with Shop(tmp_path) as shop:
        follow(
            shop,
            bought("same order", "ann", "i2", WATERMARK - 5 * DAY + 30, order_id="7"),
            bought("same instant", "bob", "i1", WATERMARK - 60),
            bought("late", "bob", "i1", WATERMARK - 61),
            bought("another item", "ann", "i3", WATERMARK - 5 * DAY),
        )
        assert (shop.user("ann")["distinct_items"], shop.user("ann")["orders_all"]) == (3.0, 2.0)
        assert (shop.user("bob")["orders_all"], shop.item("i1")["purchases_all"]) == (2.0, 3.0)
        assert shop.item("i2") == shop.store.row("item_statistics", "i2")[1]
        assert shop.item("i2")["purchases_all"] == 5.0  # as the batch wrote it


def test_what_only_the_batch_knows_is_its_newest_word(tmp_path: Path) -> None:
    """Whatever row stands in the online store: that of the newest instant up to the clock; of items it lacks, what the store has."""
    batch(tmp_path)
    times = [at(WATERMARK - 7 * DAY), at(WATERMARK), at(WATERMARK + 9 * DAY)]
    names = [f.name for f in ITEM_STATISTICS if f.dtype == "float32"]
    frame = pd.DataFrame([{"item_id": "i1", "event_timestamp": time} | dict.fromkeys(names, float(k)) for k, time in enumerate(times)])
    frame.to_parquet(Layout(tmp_path).features / "item_statistics.parquet")
    with Shop(tmp_path) as shop:
        shop.store.write("item_statistics", "i3", {"promo_rate_28d": 0.5, "type_share": float("nan")}, NOON * 10**6)
        follow(shop, bought("a", "ann", "i1"), bought("b", "ann", "i2"), bought("c", "ann", "i3"))
        assert [shop.item(key)["promo_rate_28d"] for key in ("i1", "i2", "i3")] == [1.0, 0.25, 0.5]
        assert (shop.item("i1")["purchases_all"], shop.item("i3")["type_share"]) == (3.0, 0.0)


def test_windows_take_promotions_from_the_batch(tmp_path: Path) -> None:
    """What purchases do not say of an item's windows is the newest table's word; what they say is counted with the history's lines."""
    batch(tmp_path)
    names = [f.name for f in ITEM_WINDOWS]
    frame = pd.DataFrame([{"item_id": "i1", "event_timestamp": at(WATERMARK)} | dict.fromkeys(names, 7.0)])
    frame.to_parquet(Layout(tmp_path).features / "item_windows.parquet")
    with Shop(tmp_path) as shop:
        follow(shop, bought("a", "ann", "i1"))
        row = shop.store.row("item_windows", "i1")[1]
        assert (row["promo_impressions_7d"], row["promo_rate_all"]) == (7.0, 7.0)
        assert (row["buyers_all"], row["buyers_1d"], row["purchases_1d"]) == (2.0, 1.0, 1.0)


def test_history_can_be_replayed(tmp_path: Path) -> None:
    """With a clock that stands before the history's end, events it has make rows as of just after them, and count once."""
    batch(tmp_path)
    with Shop(tmp_path, now=WATERMARK - 6 * DAY) as shop:
        follow(shop, bought("a", "ann", "i1", WATERMARK - 5 * DAY, order_id="7"))
        assert (shop.user("ann")["orders_all"], shop.user("ann")["distinct_items"]) == (1.0, 2.0)
        assert shop.store.row("user_behaviour", "ann")[0] == (WATERMARK - 5 * DAY) * 10**6 + 1
        assert shop.item("i1")["purchases_all"] == 1.0  # bob's is yet to come


def test_a_newer_batch_takes_the_place_of_the_state(tmp_path: Path) -> None:
    """The log is read again from its beginning: what the new history has counts once, what it lacks counts too, and all is pushed anew."""
    batch(tmp_path)
    events = [bought("a", "ann", "i1", NOON - HOUR, order_id="x"), bought("b", "ann", "i3", NOON + DAY // 2, order_id="y")]
    with Shop(tmp_path, now=NOON + DAY) as shop:
        follow(shop, *events)
        assert shop.user("ann")["orders_all"] == 3.0
        moved = [(*line[:3], line[3] + DAY, *line[4:]) for line in LINES]
        counted = ("ann", "i1", 9, HOUR, 2_500_000, 2_500_000, 0)  # the first event, which has another basket there
        batch(tmp_path, WATERMARK + DAY, [*moved, counted])
        before = shop.store.row("user_behaviour", "ann")[0]
        follow(shop)
        after, row = shop.store.row("user_behaviour", "ann")
        assert (row["orders_all"], row["distinct_items"]) == (3.0, 3.0)
        assert after >= before


def test_a_state_is_kept_for_the_same_batch(tmp_path: Path) -> None:
    """A follower that starts again goes on where the last one was."""
    batch(tmp_path)
    with Shop(tmp_path) as shop:
        follow(shop, bought("a", "ann", "i1"))
        inode = shop.layout.feature_state.stat().st_ino
        follow(shop, bought("b", "ann", "i1", NOON + 1))
        assert shop.layout.feature_state.stat().st_ino == inode
        assert shop.user("ann")["orders_all"] == 3.0


def test_a_batch_that_cannot_be_read_is_reported_and_overwrites_nothing(tmp_path: Path) -> None:
    """Without its lines a user's row would forget them: events wait, and the status says why; later they count."""
    batch(tmp_path)
    Layout(tmp_path).history.unlink()
    with Shop(tmp_path) as shop:
        follower = follow(shop, bought("a", "ann", "i1"))
        assert "history.parquet: cannot be read" in follower.status()["error"]
        assert shop.user("ann") == {}
        batch(tmp_path)
        follow(shop)
        assert shop.user("ann")["orders_all"] == 2.0


@pytest.mark.parametrize("meta", ["", "{}", '{"watermark": "yesterday", "week_starts": []}', '{"watermark": "2026-01-01T00:00:00Z"}'])
def test_tables_without_a_watermark_are_named(tmp_path: Path, meta: str) -> None:
    """Made by an older version, or damaged: the message has the file and what to do."""
    layout = Layout(tmp_path)
    layout.features.mkdir()
    layout.feature_meta.write_text(meta)
    with pytest.raises(Unavailable, match=r"meta\.json: does not say up to when .*: compute them again"):
        look(layout)


def test_a_killed_beginning_is_begun_again(tmp_path: Path) -> None:
    """Whatever a process left that was killed while it took the history in, or while it put the new state in place."""
    batch(tmp_path)
    layout = Layout(tmp_path)
    draft = State(layout.feature_state.with_name(f".{layout.feature_state.name}.draft"))
    draft.note(history="half of it")
    layout.feature_state.with_name(layout.feature_state.name + "-wal").write_bytes(b"of a file that is gone" * 100)
    with Shop(tmp_path) as shop:
        follow(shop, bought("a", "ann", "i1"))
        assert shop.user("ann")["orders_all"] == 2.0
    draft.close()


def test_baskets_of_the_history_are_those_of_orders(tmp_path: Path) -> None:
    """An order has one number, whether the batch or an event names it; another user's order of that name is another one."""
    batch(tmp_path)
    found = look(Layout(tmp_path))
    lines = found.lines()
    assert {(lines.users[user], basket) for user, basket in zip(lines.user, lines.basket, strict=True)} == {
        ("ann", basket_of("ann", "7")),
        ("bob", basket_of("bob", "8")),
    }
    assert basket_of("ann", "7") != basket_of("bob", "7")
    assert (found.complete_before, found.week_starts.tolist()) == (WATERMARK * 10**6, [(WATERMARK - d * DAY) * 10**6 for d in (14, 7)])


def test_a_home_without_a_batch_starts_with_nothing(tmp_path: Path) -> None:
    """Events alone make the rows."""
    with Shop(tmp_path) as shop:
        follow(shop, bought("a", "ann", "i1"))
        assert shop.user("ann")["orders_all"] == 1.0
