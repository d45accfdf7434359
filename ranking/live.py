"""What the last events say of an item and of a user: counts in windows, rates, what was done last. Knows no clock and no store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ranking.features import CLICK_PRIOR, CLICK_RATE, LIVE_TYPES, LIVE_WINDOWS, MAX_RECENT, stable_key

CODES = {"impression": 0, "click": 1, "add_to_cart": 2, "purchase": 3, "rating": 4, "dislike": 5}
"""What `recent_types` says of each type of event."""
_HOUR_US = 3600 * 10**6
_MILLION = 10**6


def item_live(tally: Iterable[tuple[str, int, int, int]], at_us: int) -> dict[str, float]:
    """All features of `ITEM_LIVE` as of an instant. An hour is in a window when some of it is.

    Args:
        tally: type of event, hours since 1970, events, sum of their ratings in millionths.
        at_us: the instant, µs since 1970.

    Returns:
        name -> value, of single precision. O(n · windows).
    """
    since = {window: (at_us - days * 24 * _HOUR_US) // _HOUR_US for window, days in LIVE_WINDOWS.items()}
    counts = {f"{name}_{window}": 0 for name in LIVE_TYPES.values() for window in (*since, "ever")}
    ratings = stars = dislikes = 0
    for kind, hour, events, total in tally:
        if kind == "rating":
            ratings, stars = ratings + events, stars + total
        elif kind == "dislike":
            dislikes += events
        else:
            counts[f"{LIVE_TYPES[kind]}_ever"] += events
            for window, first in since.items():
                if hour >= first:
                    counts[f"{LIVE_TYPES[kind]}_{window}"] += events
    found = {name: float(count) for name, count in counts.items()}
    found["click_rate_28d"] = (counts["clicks_28d"] + CLICK_PRIOR * CLICK_RATE) / (counts["impressions_28d"] + CLICK_PRIOR)
    found |= {"ratings": ratings, "mean_rating": stars / ratings / _MILLION if ratings else 0.0, "dislikes": dislikes}
    return {name: float(np.float32(value)) for name, value in found.items()}


def user_session(recent: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    """All features of `USER_SESSION`.

    Args:
        recent: item id, type of event, µs since 1970; the latest first.

    Returns:
        name -> (k,) int64, k at most `MAX_RECENT`.
    """
    kept = recent[:MAX_RECENT]
    return {
        "recent_item_keys": np.array([stable_key(item) for item, _, _ in kept], np.int64),
        "recent_types": np.array([CODES[kind] for _, kind, _ in kept], np.int64),
        "recent_times": np.array([at // _MILLION for _, _, at in kept], np.int64),
    }
