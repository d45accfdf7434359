"""From events to rows: what a purchase changes, in which order events may come, and what stops the stream (nothing does)."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranking.errors import Unavailable
from ranking.features import CLICK_PRIOR, CLICK_RATE, ITEM_SCALARS, MAX_RECENT, stable_key
from ranking.live import CODES
from ranking.privacy import tombstone
from ranking.types import TIERS
from services.features import stream
from services.features.purchases import PoisonError, happening
from services.features.rows import user_row
from services.features.state import Bought
from services.feedback.types import MAX_VALUE_MICROS, Event, EventType, beyond_belief
from tests.services.features.stream_fakes import DAY, HOUR, NOON, Shop, bought, said

US = 10**6


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Shop(tmp_path) as made:
        yield made


def test_a_purchase_is_in_the_users_row(shop: Shop) -> None:
    """Two lines of one order an hour ago: one basket, the money of both, the mean of their prices, their categories by name."""
    shop.record(
        bought("a", "ann", "i1", order_id="o", quantity=2.0, value_micros=5_000_000),
        bought("b", "ann", "i2", order_id="o", value_micros=1_000_000),
    )
    row = shop.user("ann")
    assert (row["orders_28d"], row["orders_all"], row["distinct_items"]) == (1.0, 1.0, 2.0)
    assert (row["spend_28d"], row["mean_unit_price"]) == (6.0, (2.5 + 1.0) / 2)
    assert row["days_since_order"] == np.float32(HOUR / DAY)
    assert sorted(row["history_item_keys"]) == sorted([stable_key("i1"), stable_key("i2")])
    assert row["private_share"] == 0.5  # i1 is, i2 is not
    assert (row["type_keys"], row["type_affinities"]) == ([2, 3], [1.0, 1.0])
    assert sorted(row["interest_text"].removeprefix("buys ").split(", ")) == ["c1", "c2"]
    assert shop.store.row("user_behaviour", "ann")[0] == (NOON + HOUR) * US  # as of now
    assert shop.changed == ["ann"]


def test_a_purchase_is_in_the_items_row_and_in_the_snapshot(shop: Shop) -> None:
    """What purchases say is computed anew, what only the batch knows stands; the snapshot has it too, its other views as they were."""
    before, times, _ = shop.snapshot.gather(["i3"])
    shop.record(bought("a", "ann", "i3"), bought("b", "bob", "i3", NOON - 10 * DAY))
    row = shop.item("i3")
    assert (row["purchases_7d"], row["purchases_28d"], row["purchases_all"], row["buyers_28d"]) == (1.0, 2.0, 2.0, 2.0)
    assert (row["price_28d"], row["age_days"]) == (2.5, np.float32((10 * DAY + HOUR) / DAY))
    assert (row["promo_rate_28d"], row["type_share"]) == (0.25, 0.5)
    assert (row["popularity_tier"], row["popularity_rank"]) == ("head", 0.0)  # the only item there are purchases of
    after, now, _ = shop.snapshot.gather(["i3"])
    assert [float(after.scalars[0, ITEM_SCALARS.index(n)]) for n in ("purchases_28d", "promo_rate_28d")] == [2.0, 0.25]
    assert TIERS[after.tiers[0]] == "head"
    assert after.token_ids.tolist() == before.token_ids.tolist()
    assert now[:, 0].tolist()[:2] == [times[0, 0], NOON + HOUR]


def test_a_purchase_is_in_the_items_windows(shop: Shop) -> None:
    """Buyers told apart, prices of whole days, and declared defaults for what only the batch knows."""
    shop.record(
        bought("a", "ann", "i3", NOON - 2 * DAY, value_micros=2_000_000),
        bought("b", "bob", "i3", NOON - DAY, value_micros=3_000_000),
        bought("c", "bob", "i3", NOON, value_micros=9_000_000),
    )
    row = shop.store.row("item_windows", "i3")[1]
    assert (row["purchases_1d"], row["buyers_1d"], row["buyers_7d"], row["buyers_all"]) == (1.0, 1.0, 2.0, 2.0)
    assert (row["price_last"], row["price_to_mean_28d"]) == (3.0, np.float32(3 / ((2 + 3 + 9) / 3)))
    assert (row["price_changes_1d"], row["price_changes_all"], row["promo_rate_all"]) == (1.0, 1.0, 0.0)


def test_rows_that_stood_still_wait_for_no_other(shop: Shop) -> None:
    """Nothing is pushed of whom nothing happened to, and no purchases of who only looked; what lists need most comes first."""
    shop.record(bought("a", "ann", "i1"))
    shop.store.pushes.clear()
    shop.record(bought("b", "bob", "i2"), Event("c", EventType.CLICK, NOON * 10**9, "cid", "i3"))
    assert shop.store.pushes == [
        ("item_statistics", ("i2",)),
        ("user_behaviour", ("bob",)),
        ("item_windows", ("i2",)),
        ("item_live", ("i2", "i3")),
        ("user_session", ("bob", "cid")),
    ]


def test_whatever_happens_is_in_the_live_rows(shop: Shop) -> None:
    """Counts of each type by window, a smoothed rate, stars and dislikes for the item; what the user did last, without what was shown."""

    def event(name: str, kind: EventType, days: float, **fields: object) -> Event:
        return Event(name, kind, round((NOON - days * DAY) * 10**9), "ann", "i4")._replace(**fields)

    shop.record(
        *(event(f"shown {k}", EventType.IMPRESSION, days) for k, days in enumerate([0, 0, 3, 20, 40])),
        event("click", EventType.CLICK, 3),
        event("cart", EventType.ADD_TO_CART, 0.5),
        *(event(f"stars {k}", EventType.RATING, 100 + k, rating=rating) for k, rating in enumerate([4.0, 1.5])),
        event("no", EventType.DISLIKE, 1, user_id=""),
        bought("bought", "ann", "i4", NOON),
    )
    row = shop.store.row("item_live", "i4")[1]
    assert [row[f"impressions_{window}"] for window in ("1d", "7d", "28d", "ever")] == [2.0, 3.0, 4.0, 5.0]
    assert [row[f"clicks_{window}"] for window in ("1d", "7d", "28d", "ever")] == [0.0, 1.0, 1.0, 1.0]
    assert (row["add_to_carts_1d"], row["purchase_events_1d"], row["dislikes"]) == (1.0, 1.0, 1.0)
    assert (row["ratings"], row["mean_rating"]) == (2.0, (4.0 + 1.5) / 2)
    assert row["click_rate_28d"] == np.float32((1 + CLICK_PRIOR * CLICK_RATE) / (4 + CLICK_PRIOR))
    session = shop.store.row("user_session", "ann")[1]
    assert session["recent_item_keys"] == [stable_key("i4")] * 5
    assert session["recent_types"] == [CODES[kind] for kind in ("purchase", "add_to_cart", "click", "rating", "rating")]
    assert session["recent_times"] == [NOON, NOON - DAY // 2, NOON - 3 * DAY, NOON - 100 * DAY, NOON - 101 * DAY]


def test_a_session_keeps_the_latest(shop: Shop) -> None:
    """However many events there are and in whatever order they come."""
    times = [NOON - 60 * k for k in range(MAX_RECENT + 20)]
    events = [Event(f"e{k}", EventType.CLICK, at * 10**9, "ann", "i1") for k, at in enumerate(times)]
    shop.record(*events[1::2])
    shop.record(*events[0::2])
    assert shop.store.row("user_session", "ann")[1]["recent_times"] == times[:MAX_RECENT]


def test_a_session_is_as_old_as_its_newest_event(shop: Shop) -> None:
    """What was done days ago and is told only now, or pushed anew since others wrote, is dated then: no lifetime begins again."""
    clicks = [Event(f"e{k}", EventType.CLICK, (NOON - days * DAY) * 10**9, "ann", "i1") for k, days in enumerate([5, 3, 4])]
    shop.record(clicks[0])
    assert shop.store.row("user_session", "ann")[0] == (NOON - 5 * DAY) * US
    shop.record(clicks[1])
    shop.record(clicks[2])  # late: the row changes, its time does not
    at, row = shop.store.row("user_session", "ann")
    assert (at, row["recent_times"]) == ((NOON - 3 * DAY) * US, [NOON - days * DAY for days in (3, 4, 5)])
    shop.stream.overwritten("another revision")
    shop.settle()
    assert shop.store.row("user_session", "ann") == (at, row)
    shop.record(Event("now", EventType.CLICK, NOON * 10**9, "ann", "i2"))
    assert shop.store.row("user_session", "ann")[0] == NOON * US


def test_a_late_event_makes_a_newer_row(shop: Shop) -> None:
    """It changes what was counted, its row is dated later than the one before, and the latest purchase stays the latest."""
    shop.record(bought("a", "ann", "i1"))
    first = shop.store.row("user_behaviour", "ann")[0]
    shop.record(bought("b", "ann", "i2", NOON - 3 * DAY))
    second, row = shop.store.row("user_behaviour", "ann")
    assert second > first
    assert (row["orders_all"], row["days_since_order"]) == (2.0, np.float32(HOUR / DAY))
    assert row["history_item_keys"] == [stable_key("i1"), stable_key("i2")]


def test_an_event_ahead_of_the_clock_counts_at_once(shop: Shop) -> None:
    """The row is then as of just after the event, and a clock that falls back dates no row back."""
    ahead = NOON + HOUR + 200
    shop.record(bought("a", "ann", "i1", ahead))
    assert shop.user("ann")["orders_all"] == 1.0
    assert shop.store.row("user_behaviour", "ann")[0] == ahead * US + 1
    shop.now -= DAY
    shop.record(bought("b", "ann", "i1", ahead - DAY))
    assert shop.user("ann")["orders_all"] == 2.0
    assert shop.store.row("user_behaviour", "ann")[0] == ahead * US + 2


def test_nobody_known_counts_for_the_item_alone(shop: Shop) -> None:
    """Every such purchase is a basket; no row of nobody is pushed."""
    shop.record(bought("a", "", "i1"), bought("b", "", "i1"))
    assert shop.item("i1")["purchases_all"] == 2.0
    assert [view for view, _ in shop.store.pushes] == ["item_statistics", "item_windows", "item_live"]


def test_an_item_the_catalogue_lacks_still_counts(shop: Shop) -> None:
    """It gets a row of its own with declared defaults for the rest, is in the user's history, and in no category."""
    shop.record(bought("a", "ann", "stranger"))
    assert shop.user("ann")["history_item_keys"] == [stable_key("stranger")]
    assert shop.user("ann")["category_keys"] == []
    assert (shop.item("stranger")["purchases_all"], shop.item("stranger")["promo_appeal"]) == (1.0, 1.0)
    assert shop.snapshot.gather(["stranger"])[2].tolist() == [True]


def test_a_value_beyond_belief_is_left_out(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted as refused and logged once; the events around it count, and it stays in the log."""
    with caplog.at_level(logging.WARNING):
        shop.record(bought("a", "ann", "i1"), bought("bad", "ann", "i1", value_micros=10**15), bought("c", "ann", "i2", NOON + 1))
    assert shop.user("ann")["orders_all"] == 2.0
    assert shop.stream.progress().refused == 1
    assert [getattr(record, "event_id", "") for record in caplog.records] == ["bad"]
    assert len(shop.log.read(0, 10)) == 3


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("type", "wishlist", "type: 'wishlist' is not known here"),  # of a newer gateway
        ("quantity", "abc", "quantity: must be a number"),
        ("quantity", float("inf"), "quantity: must be a number"),
        ("event_time_ns", "not a time", "event_time_ns: must be a whole number"),
    ],
)
def test_an_event_that_cannot_be_read_is_set_aside(
    shop: Shop, caplog: pytest.LogCaptureFixture, field: str, value: object, reason: str
) -> None:
    """It is counted as refused and logged with its place, its id and the reason; everybody else's events go on, before and after it."""
    shop.log.append([bought("a", "ann", "i1"), bought("bad", "ann", "i1"), bought("c", "bob", "i2")])
    shop.log.close()
    with closing(sqlite3.connect(shop.layout.events)) as db:
        db.execute(f"UPDATE event SET {field} = ? WHERE event_id = 'bad'", (value,))
        db.commit()
    with caplog.at_level(logging.WARNING):
        shop.settle()
    shop.record(bought("d", "bob", "i3", NOON + 1))
    assert (shop.user("ann")["orders_all"], shop.user("bob")["orders_all"]) == (1.0, 2.0)
    progress = shop.stream.progress()
    assert (progress.offset, progress.behind, progress.waiting, progress.refused) == (4, 0, 0, 1)
    (said,) = caplog.records
    assert [getattr(said, name) for name in ("message", "event_id", "offset")] == ["event_refused", "bad", 2]
    assert getattr(said, "detail", "").startswith(reason)
    assert "stays in the event log" in getattr(said, "detail", "")
    assert shop.log.read(1, 1)[0].event.event_id == "bad"


def test_the_largest_prices_add_up(shop: Shop) -> None:
    """As many lines as once overflowed, each at the largest price that is accepted: the mean is that price; one beyond it is refused."""
    largest = {"quantity": 1.0, "value_micros": MAX_VALUE_MICROS}
    shop.record(*(bought(f"{i}", "ann", f"i{i}", NOON + i, **largest) for i in range(63)))
    shop.record(bought("bad", "ann", "i1", quantity=1e-6, value_micros=MAX_VALUE_MICROS))  # of a log from before the limit
    row = shop.user("ann")
    assert (row["mean_unit_price"], row["spend_28d"], row["orders_all"]) == (1e6, 63e6, 63.0)
    assert shop.item("i1")["price_28d"] == 1e6
    assert shop.stream.progress().refused == 1


@given(st.floats(0.0, 1e6), st.integers(0, 2 * MAX_VALUE_MICROS))
def test_what_is_believed_has_a_price_within_the_limit(quantity: float, value: int) -> None:
    """Whatever the door lets in counts, at no more than the limit a unit."""
    event = bought("a", "ann", "i1", quantity=quantity, value_micros=value)
    if beyond_belief(quantity, value):
        with pytest.raises(PoisonError, match="value_micros"):
            happening(1, event)
    else:
        line = happening(1, event).purchase
        assert line is not None
        assert line.value <= MAX_VALUE_MICROS
        assert line.paid * 10**6 <= MAX_VALUE_MICROS * line.quantity


def test_a_row_that_cannot_be_computed_holds_up_no_other(
    shop: Shop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong is logged with the entity's name, a user's as a digest; the others are pushed, and its next event tries again."""

    def fails_for_two(bought: Bought, *rest: Any) -> dict[str, Any]:
        if len(bought.basket) == 2:
            raise OverflowError("too much")
        return user_row(bought, *rest)

    monkeypatch.setattr(stream, "user_row", fails_for_two)
    shop.record(bought("a", "ann", "i1"), bought("b", "ann", "i2"), bought("c", "bob", "i2"))
    assert (shop.user("ann"), shop.user("bob")["orders_all"]) == ({}, 1.0)
    assert [getattr(record, "entity", "") for record in caplog.records] == [tombstone("ann").hex()]
    shop.record(bought("d", "ann", "i3"))
    assert shop.user("ann")["distinct_items"] == 3.0


def test_a_row_the_store_refuses_holds_up_no_other(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out by name, the others that were to be pushed with it are pushed, and nothing waits."""
    shop.store.refuses = {"ann"}
    shop.record(bought("a", "ann", "i1"), bought("b", "bob", "i2"), bought("c", "cid", "i3"))
    assert (shop.user("ann"), shop.user("bob")["orders_all"], shop.user("cid")["orders_all"]) == ({}, 1.0, 1.0)
    assert {getattr(record, "entity", "") for record in caplog.records} == {tombstone("ann").hex()}
    assert shop.stream.progress().waiting == 0


def test_a_store_that_is_down_is_waited_for(shop: Shop) -> None:
    """Events are taken in meanwhile, nothing is lost or counted twice, and it is said how much waits."""
    shop.store.down = True
    for name in "ab":
        with pytest.raises(Unavailable):
            shop.record(bought(name, "ann", "i1", NOON + ord(name)))
    assert (shop.stream.progress().behind, shop.stream.progress().waiting) == (0, 5)
    shop.store.down = False
    shop.settle()
    assert (shop.user("ann")["orders_all"], shop.stream.progress().waiting) == (2.0, 0)


def test_rows_that_others_wrote_over_are_pushed_again(shop: Shop) -> None:
    """When the store says it changed, whatever had an event is pushed anew, dated later; the same change is one."""
    shop.record(bought("a", "ann", "i1"))
    shop.stream.overwritten("r1")
    shop.settle()
    before = shop.store.row("user_behaviour", "ann")[0]
    shop.store.write("user_behaviour", "ann", {"orders_all": 0.0}, before)  # as a batch row of another time that overwrites blindly
    for _ in range(2):
        shop.stream.overwritten("r2")
        shop.settle()
    assert shop.user("ann")["orders_all"] == 1.0
    assert shop.store.pushes.count(("user_behaviour", ("ann",))) == 3


PURCHASES = st.lists(
    st.builds(
        lambda i, user, item, days, order, value, quantity: bought(
            f"e{i}", user, item, NOON - days * DAY, order_id=order, value_micros=value, quantity=quantity
        ),
        st.integers(0, 10**6),
        st.sampled_from(["", "ann", "bob"]),
        st.sampled_from(["i1", "i2", "i3", "stranger"]),
        st.integers(0, 40),
        st.sampled_from(["", "o1", "o2"]),
        st.none() | st.integers(0, 10**8),
        st.none() | st.floats(0.0, 50.0),
    ),
    max_size=12,
    unique_by=lambda event: event.event_id,
)


@given(PURCHASES, st.randoms(use_true_random=False), st.lists(st.integers(1, 5), max_size=6))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_order_and_batches_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, events: list[Event], random: object, sizes: list[int]
) -> None:
    """However events are shuffled and cut into appends, with ticks between, the rows are those of one append in the order of time."""
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    with Shop(tmp_path_factory.mktemp("shop")) as one, Shop(tmp_path_factory.mktemp("shop")) as other:
        one.record(*sorted(events, key=lambda event: event.event_time_ns))
        for size in [*sizes, len(shuffled)]:
            other.record(*shuffled[:size])
            del shuffled[:size]
        assert said(other.store) == said(one.store)
