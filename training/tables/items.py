"""The item views' tables: what the catalogue says, and how items sold before each snapshot.

Reads the tables of `facts`; the declarations are `ranking.features.ITEM_PROFILE` and `ITEM_STATISTICS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ranking.aggregates import smoothed_rate, tiers_among
from ranking.features import (
    ITEM_PROFILE,
    ITEM_STATISTICS,
    MAX_ITEM_TOKENS,
    PROMO_RATE_PRIOR,
    RELATION_HALF_LIFE,
    RELATION_PRIORS,
    RELATIONS,
    SHARE_HALF_LIFE,
    SHORT_WINDOW,
    WHOLE,
    WINDOW,
)
from ranking.types import TIERS
from training.tables.duck import write
from training.tables.snapshots import ItemRows, write_items
from training.tables.sold import BEFORE_ALL, IntArray, Sold, ratio, us
from training.tables.tokens import Tokens
from training.tables.weekly import Weeks, mean_rate

_DAY = 86_400e6  # µs


def write_item_profile(db: duckdb.DuckDBPyConnection, out: Path, known_at: datetime, tokens: Tokens) -> int:
    """One row per item, stamped `known_at`. Each distinct title is tokenised once."""
    titles = db.execute("SELECT DISTINCT title FROM items").to_arrow_table()
    ids = tokens(titles["title"].to_pylist(), MAX_ITEM_TOKENS)
    db.register("tokenised", titles.append_column("token_ids", pa.array(ids, pa.list_(pa.int64()))))
    columns = {f.name: f"i.{f.name}" for f in ITEM_PROFILE}
    columns |= {"is_private": "(i.brand = 'Private')::FLOAT", "token_ids": "t.token_ids"}
    selected = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    return write(
        db,
        f"SELECT i.item_id, TIMESTAMPTZ '{known_at.isoformat()}' AS event_timestamp, {selected}"
        " FROM items i JOIN tokenised t USING (title) ORDER BY i.item_code",
        out / f"{ITEM_PROFILE.name}.parquet",
    )


def write_item_statistics(
    db: duckdb.DuckDBPyConnection, out: Path, snapshots: Sequence[datetime], done: Callable[[], None] = lambda: None
) -> int:
    """One row per item sold or promoted before the snapshot, per snapshot, using what happened before it only.

    `done` is called after each snapshot.
    """
    return write_items(db, ITEM_STATISTICS, out, snapshots, _statistics(db, [us(at) for at in snapshots]), done)


def _statistics(db: duckdb.DuckDBPyConnection, snapshots: Sequence[int]) -> Iterator[ItemRows]:
    sold, weeks = Sold.read(db), Weeks.read(db)
    impressions, purchases = weeks.of_items(db, "shown", "impressions", "purchases")
    shown = weeks.of_items(db, "shown", *(f"impressions_{relation}" for relation in RELATIONS))
    bought = weeks.of_items(db, "shown", *(f"purchases_{relation}" for relation in RELATIONS))
    (lines,) = weeks.of_items(db, "sales", "lines")
    groups = {name: _groups(db, f"{name}_key") for name in ("type", "maker")}
    known_since = np.minimum(sold.first_at(), weeks.first(impressions))
    for at in snapshots:
        month, ever = at - us(WINDOW), sold.lines(BEFORE_ALL, at)
        seen, taken = (counts @ weeks.before(at, WINDOW) for counts in (impressions, purchases))
        share = lines @ weeks.fading(at, SHARE_HALF_LIFE)
        faded = weeks.fading(at, RELATION_HALF_LIFE)
        yield (
            np.flatnonzero(known_since < at),
            {
                "purchases_7d": sold.lines(at - us(SHORT_WINDOW), at),
                "purchases_28d": sold.lines(month, at),
                "purchases_all": ever,
                "buyers_28d": sold.buyers(month, at),
                "promo_impressions_28d": seen,
                "promo_rate_28d": smoothed_rate(taken, seen, mean_rate(taken, seen)),
                **_promo_rates(*(np.array([counts @ faded for counts in of]) for of in (shown, bought))),
                **{f"{name}_share": _share(share, *group) for name, group in groups.items()},
                "price_28d": sold.mean_price(at) / 1e6,
                "discount_28d": np.nan_to_num(sold.mean(sold.off_shelf, month, at)) / 1e6,
                **_places(ever),
                "age_days": (at - known_since) / _DAY,
            },
        )


def _promo_rates(shown: IntArray, bought: IntArray) -> dict[str, NDArray[np.float64]]:
    """What became of promotions, from (R, I) faded impressions and purchases of each relation, in parts of `WHOLE`.

    What an item is worth to those who did not own it, against what such people buy of other items, is its appeal; an item's own rates are
    drawn to the means of all items times that appeal.
    """
    means = np.array([mean_rate(*counts) for counts in zip(bought, shown, strict=True)])
    others = [i for i, relation in enumerate(RELATIONS) if relation != "own"]
    firsts, chances = bought[others].sum(axis=0), shown[others].sum(axis=0)
    appeal = (firsts + WHOLE) / ((shown[others] * means[others, None]).sum(axis=0) + WHOLE)
    rates = {"first_purchase_rate": _drawn(firsts, chances, PROMO_RATE_PRIOR, mean_rate(firsts, chances))}
    for i, (relation, prior) in enumerate(zip(RELATIONS, RELATION_PRIORS, strict=True)):
        rates[f"promo_rate_{relation}"] = _drawn(bought[i], shown[i], prior, means[i], appeal)
    return {**rates, "promo_appeal": appeal}


def _drawn(
    successes: IntArray, trials: IntArray, prior: float, mean: float, times: NDArray[np.float64] | float = 1.0
) -> NDArray[np.float64]:
    """Rates drawn to a mean by so many trials of it; all but the mean in parts of `WHOLE`."""
    return (successes + prior * WHOLE * mean * times) / (trials + prior * WHOLE)


def _groups(db: duckdb.DuckDBPyConnection, column: str) -> tuple[NDArray[np.bool_], IntArray]:
    """(I,) whether each item has a group, (I,) which."""
    keys = db.execute(f"SELECT {column} AS key FROM catalogue ORDER BY item_code").fetchnumpy()["key"]
    return keys != 0, np.unique(keys, return_inverse=True)[1]


def _share(lines: IntArray, has_group: NDArray[np.bool_], group: IntArray) -> NDArray[np.float64]:
    """(I,) share of each item's lines in those of its group; 0 where it has none."""
    sums = np.zeros(len(lines), np.int64)
    np.add.at(sums, group, lines)
    return ratio(lines, np.where(has_group, sums[group], 0))


def _places(purchases: IntArray) -> dict[str, Any]:
    """What `ranking.behaviour.popularity` says, of all items at once."""
    ever_sold = np.sort(purchases[purchases > 0])
    fewer = np.searchsorted(ever_sold, purchases, side="left")
    return {
        "popularity_rank": fewer / max(len(ever_sold), 1),
        "popularity_tier": pa.array(TIERS).take(pa.array(tiers_among(purchases, ever_sold))),
    }
