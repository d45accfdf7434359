"""What one user's or one item's purchases say at any instant: the batch tables' aggregates, from the purchases themselves.

`training.tables` computes them for everybody at the starts of weeks; here they are for whom something just happened to. At the
start of a week both give the same bits, because both count in whole numbers: money in micros, fading in parts of `WHOLE`. Knows no
clock, no store, and not where purchases come from; which features it gives is `ranking.features.LIVE_FEATURES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.aggregates import tiers_among
from ranking.features import (
    AFFINITY_HALF_LIFE,
    DAY_WINDOWS,
    INTEREST_CATEGORIES,
    MAX_CATEGORIES,
    MAX_GROUPS,
    MAX_HISTORY,
    NEVER_DAYS,
    PRICE_STEP_PERCENT,
    SHORT_WINDOW,
    WHOLE,
    WINDOW,
)
from ranking.text import interest_text
from ranking.types import TIERS, IntArray

NOT_KNOWN = -1
"""A line's `unit_price` or `off_shelf` that nobody knows; it counts in no mean."""

_DAY_US = 86_400e6
_WHOLE_DAY_US = 86_400_000_000
_WEEK_US = 7 * 86_400_000_000
_WINDOW_US, _SHORT_US = (window.days * 86_400_000_000 for window in (WINDOW, SHORT_WINDOW))


@dataclass(frozen=True, slots=True)
class Lines:
    """``n`` purchase lines in any order, one per basket and item. Units: µs since 1970 (UTC), millionths of the currency unit.

    Raises:
        ValueError: a column has another length than the first.
    """

    item_key: IntArray  # (n,) stable_key of the item's id
    category_key: IntArray  # (n,) 0: has none; so are type and maker
    type_key: IntArray  # (n,)
    maker_key: IntArray  # (n,)
    is_private: NDArray[np.bool_]  # (n,)
    user_code: IntArray  # (n,) any number per user: only for items, whose buyers are counted
    basket: IntArray  # (n,) any number per basket of the user
    bought_at: IntArray  # (n,)
    value: IntArray  # (n,) paid for the line
    unit_price: IntArray  # (n,) per unit, or NOT_KNOWN
    off_shelf: IntArray  # (n,) share of the shelf price taken off, in millionths, or NOT_KNOWN

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name).shape != (len(self),):
                raise ValueError(f"{field.name}: must be of shape ({len(self)},), got {getattr(self, field.name).shape}")

    def __len__(self) -> int:
        return len(self.item_key)

    def take(self, rows: NDArray[Any] | slice) -> Lines:
        """The lines at `rows`: (k,) integers, (n,) booleans, or a slice, which copies nothing."""
        return Lines(*(getattr(self, field.name)[rows] for field in fields(self)))


def user_behaviour(lines: Lines, at_us: int, *, week_starts: IntArray, categories: Mapping[int, str]) -> dict[str, Any]:
    """All features of `USER_BEHAVIOUR` from one user's purchases before `at_us`.

    Args:
        lines: all purchases of one user; those at `at_us` and later are not looked at.
        at_us: the instant.
        week_starts: (w,) ascending starts of consecutive weeks, at least one; before and after them weeks are 7 days long.
        categories: category key -> its name, as `interest_text` says it.

    Returns:
        name -> float, str, or array (int64 keys, float32 numbers); the declared defaults where there is no purchase. O(n log n).

    Raises:
        KeyError: one of the largest categories has no name.
    """
    lines = lines.take(lines.bought_at < at_us)
    recent = lines.bought_at >= at_us - _WINDOW_US
    orders = np.sort(_first_per(lines.basket, lines.bought_at))  # when each basket was begun

    newest = np.lexsort((lines.item_key, -lines.bought_at))  # most recent first; equal instants by key
    _, first, counts = np.unique(lines.item_key[newest], return_index=True, return_counts=True)
    shown = np.argsort(first)[:MAX_HISTORY]
    history = newest[first[shown]]

    keys, sizes = _largest(*np.unique(lines.category_key[lines.category_key != 0], return_counts=True), MAX_CATEGORIES)
    ages = week_of(np.array([at_us - 1]), week_starts) - week_of(lines.bought_at, week_starts)
    affinities = {name: _affinities(column, ages) for name, column in (("type", lines.type_key), ("maker", lines.maker_key))}
    return {
        "orders_28d": float(np.count_nonzero(orders >= at_us - _WINDOW_US)),
        "spend_28d": _float32(total(lines.value[recent]) / 1e6),
        "orders_all": float(len(orders)),
        "days_since_order": _float32((at_us - int(orders[-1])) / _DAY_US) if len(orders) else NEVER_DAYS,
        "mean_unit_price": _float32(_mean(lines.unit_price) or 0.0),
        "private_share": _float32(np.count_nonzero(lines.is_private) / max(len(lines), 1)),
        "distinct_items": float(len(counts)),
        "history_item_keys": lines.item_key[history],
        "history_counts": counts[shown].astype(np.float32),
        "history_days": ((at_us - lines.bought_at[history]) / _DAY_US).astype(np.float32),
        "category_keys": keys,
        "category_shares": (sizes / max(len(lines), 1)).astype(np.float32),
        "type_keys": affinities["type"][0],
        "type_affinities": affinities["type"][1],
        "maker_keys": affinities["maker"][0],
        "maker_affinities": affinities["maker"][1],
        "interest_text": interest_text([categories[key] for key in keys[:INTEREST_CATEGORIES].tolist()]),
    }


def item_statistics(lines: Lines, at_us: int, *, first_shown_us: int | None = None) -> dict[str, float]:
    """The live features of `ITEM_STATISTICS` but for the item's place among all items (`popularity`), from its purchases before `at_us`.

    Args:
        lines: all purchases of one item; those at `at_us` and later are not looked at.
        at_us: the instant.
        first_shown_us: when the item was first promoted; None: never, or not before `at_us`.

    Returns:
        name -> value; the declared defaults where there is nothing to count. O(n log n).
    """
    lines = lines.take(lines.bought_at < at_us)
    recent = lines.bought_at >= at_us - _WINDOW_US
    known_since = [int(lines.bought_at.min())] if len(lines) else []
    known_since += [first_shown_us] if first_shown_us is not None and first_shown_us < at_us else []
    price = _mean(lines.unit_price[recent])
    return {
        "purchases_7d": float(np.count_nonzero(lines.bought_at >= at_us - _SHORT_US)),
        "purchases_28d": float(np.count_nonzero(recent)),
        "purchases_all": float(len(lines)),
        "buyers_28d": float(len(np.unique(lines.user_code[recent]))),
        "price_28d": _float32(_mean(lines.unit_price) or 0.0 if price is None else price),
        "discount_28d": _float32(_mean(lines.off_shelf[recent]) or 0.0),
        "age_days": _float32((at_us - min(known_since)) / _DAY_US) if known_since else 0.0,
    }


def item_windows(lines: Lines, at_us: int) -> dict[str, float]:
    """The live features of `ITEM_WINDOWS` from an item's purchases before `at_us`.

    Args:
        lines: all purchases of one item; those at `at_us` and later are not looked at.
        at_us: the instant.

    Returns:
        name -> value; the declared defaults where there is nothing to count. O(n log n).
    """
    lines = lines.take(lines.bought_at < at_us)
    since = {window: at_us - days * _WHOLE_DAY_US for window, days in DAY_WINDOWS.items()}
    buyers = {w: float(len(np.unique(lines.user_code[lines.bought_at >= since[w]]))) for w in ("1d", "7d")}
    ends, prices = _daily_prices(lines, at_us)
    changes = ends[1:][np.abs(np.diff(prices)) * 100 > PRICE_STEP_PERCENT * prices[:-1]]  # when the days of a change were over
    known = lines.unit_price >= 0
    recent = known & (lines.bought_at >= at_us - _WINDOW_US)
    paid = lines.unit_price[recent if recent.any() else known]
    return {
        "purchases_1d": float(np.count_nonzero(lines.bought_at >= since["1d"])),
        "buyers_1d": buyers["1d"],
        "buyers_7d": buyers["7d"],
        "buyers_all": float(len(np.unique(lines.user_code))),
        "price_last": _float32(int(prices[-1]) / 1e6) if len(prices) else 0.0,
        "price_to_mean_28d": _float32(int(prices[-1]) / (total(paid) / len(paid))) if len(prices) and paid.any() else 1.0,
        **{f"price_changes_{window}": float(np.count_nonzero(changes > first)) for window, first in since.items()},
        "price_changes_all": float(len(changes)),
    }


def _daily_prices(lines: Lines, at_us: int) -> tuple[IntArray, IntArray]:
    """Ends of whole days (UTC) up to `at_us` on which something was paid, ascending; each day's median price, the lower one of two."""
    day = lines.bought_at // _WHOLE_DAY_US
    whole = (lines.unit_price >= 0) & ((day + 1) * _WHOLE_DAY_US <= at_us)
    day, price = day[whole], lines.unit_price[whole]
    order = np.lexsort((price, day))
    days, first, counts = np.unique(day[order], return_index=True, return_counts=True)
    return (days + 1) * _WHOLE_DAY_US, price[order][first + (counts - 1) // 2]


def popularity(purchases: int, sold: NDArray[Any]) -> dict[str, Any]:
    """`popularity_rank` and `popularity_tier` of an item with so many purchases, O(log s).

    Args:
        purchases: `purchases_all` of the item.
        sold: (s,) ascending `purchases_all` of every item ever sold, this one's among them.
    """
    fewer = int(np.searchsorted(sold, purchases, side="left"))
    return {
        "popularity_rank": _float32(fewer / len(sold)) if purchases > 0 else 0.0,
        "popularity_tier": str(TIERS[tiers_among(np.array([purchases]), sold)[0]]),
    }


def week_of(instants: IntArray, week_starts: IntArray) -> IntArray:
    """(n,) the week each instant lies in, as an index into `week_starts`; before the first and after the last, weeks are 7 days long."""
    index = np.searchsorted(week_starts, instants, side="right") - 1
    last = len(week_starts) - 1
    index = np.where(index == last, last + (instants - week_starts[last]) // _WEEK_US, index)
    return np.where(index < 0, (instants - week_starts[0]) // _WEEK_US, index)


@cache
def fading(weeks: int, half_life: float) -> int:
    """What counts of something `weeks` weeks before the newest one begun, in parts of `WHOLE`: all, then half every `half_life` weeks.

    The week an instant lies in counts whole, as the week just over does at the start of the next: nothing jumps when a week begins but
    what then gets older.
    """
    return math.floor(WHOLE * math.pow(0.5, weeks / half_life) + 0.5)  # libm's pow, as the database's: numpy's may differ in the last bit


def _affinities(column: IntArray, ages: IntArray) -> tuple[IntArray, NDArray[np.float32]]:
    """Keys and faded lines of the strongest groups. Groups are ordered before they are cut to single precision."""
    known = column != 0
    keys, of = np.unique(column[known], return_inverse=True)
    weights, which = np.unique(ages[known], return_inverse=True)
    faded = np.zeros(len(keys), np.int64)
    np.add.at(faded, of, np.array([fading(week, AFFINITY_HALF_LIFE) for week in weights.tolist()], np.int64)[which])
    keys, kept = _largest(keys, faded / WHOLE, MAX_GROUPS)
    return keys, kept.astype(np.float32)


def _largest(keys: IntArray, sizes: NDArray[Any], limit: int) -> tuple[IntArray, NDArray[Any]]:
    """The `limit` largest, equals by key."""
    order = np.lexsort((keys, -sizes))[:limit]
    return keys[order], sizes[order]


def _first_per(groups: IntArray, values: IntArray) -> IntArray:
    """The smallest value of each group."""
    order = np.lexsort((values, groups))
    _, first = np.unique(groups[order], return_index=True)
    return values[order][first]


def _mean(millionths: IntArray) -> float | None:
    """Mean of what is known, in units; None where nothing is."""
    known = millionths[millionths >= 0]
    return total(known) / len(known) / 1e6 if len(known) else None


def total(values: IntArray) -> int:
    """The sum of 64-bit numbers, none negative, exact however large: their halves are summed apart."""
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFF_FFFF).sum())


def _float32(value: float) -> float:
    """The nearest number of single precision: what the declared type holds."""
    return float(np.float32(value))
