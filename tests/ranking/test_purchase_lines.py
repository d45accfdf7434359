"""Aggregates of purchases at any instant: windows, weeks that are not over, and what nobody bought."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.aggregates import tiers
from ranking.behaviour import NOT_KNOWN, Lines, fading, item_statistics, item_windows, popularity, user_behaviour, week_of
from ranking.features import (
    AFFINITY_HALF_LIFE,
    ITEM_STATISTICS,
    ITEM_WINDOWS,
    LIVE_FEATURES,
    MAX_CATEGORIES,
    MAX_GROUPS,
    MAX_HISTORY,
    SIDE_VIEWS,
    USER_BEHAVIOUR,
    VIEWS,
    WHOLE,
)
from ranking.types import TIERS

HOUR, DAY = 3_600_000_000, 86_400_000_000
WEEK = 7 * DAY
STARTS = np.array([0, WEEK, 2 * WEEK - HOUR, 3 * WEEK - HOUR])  # clocks were put forward in the second week
NAMES = {1: "one", 2: "two"}


def _lines(**columns: list[Any]) -> Lines:
    """Lines with the given columns; the others 1, or not known."""
    n = len(next(iter(columns.values())))
    rest = {f.name: [NOT_KNOWN if f.name in ("unit_price", "off_shelf") else 1] * n for f in fields(Lines)}
    return Lines(**{k: np.array(v, np.bool_ if k == "is_private" else np.int64) for k, v in (rest | columns).items()})


NONE = _lines(bought_at=[])


def _user(lines: Lines, at: int) -> dict[str, Any]:
    return user_behaviour(lines, at, week_starts=STARTS, categories=NAMES)


def test_live_features_are_declared_ones() -> None:
    """Every live feature stands in its view, and together they are what the functions give."""
    declared = {v.name: {f.name for f in v} for v in (*VIEWS, *SIDE_VIEWS)}
    assert all(set(names) <= declared[view] for view, names in LIVE_FEATURES.items())
    assert tuple(_user(NONE, 0)) == LIVE_FEATURES[USER_BEHAVIOUR.name]
    assert tuple(item_windows(NONE, 0)) == LIVE_FEATURES[ITEM_WINDOWS.name]
    assert {**item_statistics(NONE, 0), **popularity(0, np.array([1]))}.keys() == set(LIVE_FEATURES[ITEM_STATISTICS.name])


def test_who_bought_nothing_has_the_declared_defaults() -> None:
    """No purchase, or only later ones, is every feature's default and empty lists."""
    for lines in (NONE, _lines(bought_at=[5, 9])):
        assert all(v == f.default for f in ITEM_STATISTICS for k, v in item_statistics(lines, 5).items() if k == f.name)
        assert item_windows(lines, 5) == {f.name: f.default for f in ITEM_WINDOWS if not f.name.startswith("promo_")}
        found = _user(lines, 5)
        for feature in USER_BEHAVIOUR:
            value = found[feature.name]
            assert len(value) == 0 if feature.default is None else value == feature.default, feature.name
    assert popularity(0, np.array([1, 2])) == {"popularity_rank": 0.0, "popularity_tier": "new"}


def test_windows_hold_what_is_no_older_than_they_are_long() -> None:
    """Exactly 28 days ago is in the window, a microsecond earlier is not; the instant itself is the future."""
    at = 100 * DAY
    lines = _lines(bought_at=[at - 28 * DAY - 1, at - 28 * DAY, at - 7 * DAY, at - 1, at], basket=[1, 2, 3, 4, 5], value=[1e6] * 5)
    user, item = _user(lines, at), item_statistics(lines, at)
    assert (user["orders_28d"], user["orders_all"], user["spend_28d"]) == (3.0, 4.0, 3.0)
    assert (item["purchases_7d"], item["purchases_28d"], item["purchases_all"], item["buyers_28d"]) == (2.0, 3.0, 4.0, 1.0)
    assert user["days_since_order"] == np.float32(1 / DAY)


def test_a_basket_open_at_the_instant_counts_with_what_it_holds_so_far() -> None:
    """It is one order since its first line; later lines add nothing yet."""
    lines = _lines(bought_at=[10, 20, 30], basket=[7, 7, 7], item_key=[1, 2, 3], value=[1_000_000, 2_000_000, 4_000_000])
    found = _user(lines, 25)
    assert (found["orders_all"], found["spend_28d"], found["distinct_items"]) == (1.0, 3.0, 2.0)
    assert found["days_since_order"] == np.float32(15 / DAY)


def test_the_week_that_is_not_over_counts_whole_as_the_one_just_over_does() -> None:
    """From a week's first instant to the start of the next its lines count 1, and the step comes when the next week has begun."""
    lines = _lines(bought_at=[WEEK + 5, WEEK + 5], item_key=[1, 2], type_key=[3, 0])
    for at, weeks in ((WEEK + 6, 0), (2 * WEEK - HOUR, 0), (2 * WEEK - HOUR + 1, 1), (3 * WEEK - HOUR, 1), (3 * WEEK - HOUR + 1, 2)):
        found = _user(lines, at)
        assert found["type_keys"].tolist() == [3]  # 0 is no type
        assert found["type_affinities"][0] == np.float32(round(WHOLE * 0.5 ** (weeks / AFFINITY_HALF_LIFE)) / WHOLE)


@given(st.integers(-5, 12), st.integers(0, WEEK - HOUR - 1))
def test_an_instant_lies_in_one_week(week: int, later: int) -> None:
    """Each week begins where the one before ends, before and after the known ones too."""
    start = STARTS[week] if 0 <= week < 4 else STARTS[0] + week * WEEK if week < 0 else STARTS[3] + (week - 3) * WEEK
    assert week_of(np.array([start, start - 1]), STARTS).tolist() == [week, week - 1]
    assert week_of(np.array([start + later]), STARTS)[0] == week


def test_fading_halves_each_half_life() -> None:
    """All, then half after one half-life, a quarter after two."""
    assert [fading(w, 8.0) for w in (0, 8, 16)] == [WHOLE, WHOLE // 2, WHOLE // 4]


def test_lists_are_cut_at_their_limits_largest_first() -> None:
    """The most recent items, the largest categories and the strongest groups stay; equals stand by key."""
    n = 600
    keys = list(range(1, n + 1))
    lines = _lines(bought_at=keys, basket=keys, item_key=keys, category_key=[k % 100 + 1 for k in keys], type_key=keys, maker_key=keys)
    found = user_behaviour(lines, n + 1, week_starts=STARTS, categories={k: f"c{k}" for k in keys})
    assert found["distinct_items"] == n
    assert found["history_item_keys"].tolist() == keys[::-1][:MAX_HISTORY]
    assert found["category_keys"].tolist() == list(range(1, MAX_CATEGORIES + 1))  # six lines in each
    assert found["category_shares"].tolist() == [np.float32(6 / n)] * MAX_CATEGORIES
    assert found["type_keys"].tolist() == found["maker_keys"].tolist() == keys[:MAX_GROUPS]
    assert found["interest_text"] == "buys c1, c2, c3"


def test_what_nobody_knows_counts_in_no_mean() -> None:
    """Prices and discounts are means over the lines that have them; a price of the last 28 days goes before older ones."""
    at = 100 * DAY
    lines = _lines(
        bought_at=[1, 2, at - 1], basket=[1, 2, 3], unit_price=[1_000_000, 2_000_000, NOT_KNOWN], off_shelf=[9, NOT_KNOWN, NOT_KNOWN]
    )
    assert item_statistics(lines, at)["price_28d"] == 1.5  # none in the window: of all
    assert item_statistics(lines, at)["discount_28d"] == 0.0  # of the window only
    assert _user(lines, at)["mean_unit_price"] == 1.5
    later = _lines(bought_at=[1, at - 2, at - 1], unit_price=[1_000_000, 3_000_000, 4_000_000], off_shelf=[NOT_KNOWN, 0, 500_000])
    assert (item_statistics(later, at)["price_28d"], item_statistics(later, at)["discount_28d"]) == (3.5, 0.25)


def test_a_price_changes_when_a_whole_days_median_leaves_the_one_before_by_more_than_the_step() -> None:
    """Days on which it did not sell are passed over; the day that is not over yet counts in no change and is not the last price."""
    days = {1: [1.00, 1.00, 9.00], 2: [1.05], 4: [1.11, 1.11], 5: [2.00]}  # 5 % is none, 5.7 % is one
    times = [day * DAY + i for day, prices in days.items() for i in range(len(prices))]
    lines = _lines(bought_at=times, unit_price=[round(p * 1e6) for prices in days.values() for p in prices])
    found = item_windows(lines, 5 * DAY + 1)  # 2.00 is a microsecond old
    assert (found["price_changes_1d"], found["price_changes_all"], found["price_last"]) == (1.0, 1.0, np.float32(1.11))
    assert found["price_to_mean_28d"] == np.float32(1_110_000 / ((1 + 1 + 9 + 1.05 + 1.11 + 1.11 + 2) * 1e6 / 7))
    over = item_windows(lines, 6 * DAY)
    assert (over["price_changes_1d"], over["price_changes_7d"], over["price_last"]) == (1.0, 2.0, 2.0)
    later = item_windows(lines, 13 * DAY)  # the change of day 4 was over 8 days ago, that of day 5 exactly 7
    assert (later["price_changes_1d"], later["price_changes_7d"], later["price_changes_28d"]) == (0.0, 0.0, 2.0)


def test_buyers_are_told_apart_in_each_window() -> None:
    """One who bought again counts once, in each window in which they bought."""
    at = 100 * DAY
    lines = _lines(bought_at=[0, at - 3 * DAY, at - DAY, at - 1], user_code=[1, 2, 3, 3], basket=[1, 2, 3, 4])
    found = item_windows(lines, at)
    assert (found["purchases_1d"], found["buyers_1d"], found["buyers_7d"], found["buyers_all"]) == (2.0, 1.0, 2.0, 3.0)


def test_an_item_is_as_old_as_what_is_first_known_of_it() -> None:
    """Sold or promoted, whichever came first; a promotion to come is not known yet."""
    sold = _lines(bought_at=[3 * DAY])
    assert [item_statistics(sold, 5 * DAY, first_shown_us=t)["age_days"] for t in (None, DAY, 4 * DAY, 9 * DAY)] == [2.0, 4.0, 2.0, 2.0]
    assert [item_statistics(NONE, 5 * DAY, first_shown_us=t)["age_days"] for t in (None, DAY, 5 * DAY)] == [0.0, 4.0, 0.0]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_an_items_place_is_that_in_the_whole_catalogue(purchases: list[int]) -> None:
    """The tier is the one `tiers` gives in the whole catalogue, the rank the share of sold items that sold less."""
    counts = np.array(purchases)
    sold = np.sort(counts[counts > 0])
    for own, code in zip(purchases, tiers(counts), strict=True):
        found = popularity(own, sold)
        assert found["popularity_tier"] == TIERS[code]
        assert found["popularity_rank"] == (np.float32((sold < own).sum() / len(sold)) if own else 0.0)


def test_columns_of_unlike_length_are_refused() -> None:
    """The error names the column."""
    with pytest.raises(ValueError, match=r"value: must be of shape \(2,\), got \(1,\)"):
        _lines(bought_at=[1, 2], value=[1])


def test_a_large_category_without_a_name_is_an_error() -> None:
    """It names the key."""
    with pytest.raises(KeyError, match="77"):
        _user(_lines(bought_at=[1], category_key=[77]), 2)


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=80))
def test_sums_are_exact_however_large(prices: list[int]) -> None:
    """Means and spending are those of Python's own whole numbers, where 64 bits would have overflowed."""
    lines = _lines(bought_at=[DAY] * len(prices), unit_price=prices, value=prices)
    row = user_behaviour(lines, 2 * DAY, week_starts=STARTS, categories=NAMES)
    assert row["mean_unit_price"] == float(np.float32(sum(prices) / len(prices) / 1e6))
    assert row["spend_28d"] == float(np.float32(sum(prices) / 1e6))
    assert item_statistics(lines, 2 * DAY)["price_28d"] == row["mean_unit_price"]
