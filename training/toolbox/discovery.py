"""What each discovery method finds by itself: purchases of promoted products that the household never bought before.

Methods are fitted on the purchases before a week and rank that week's promoted products new to each household by their score alone, on
validation weeks, which is where the method served is chosen. Knows no ranker: what a method adds to one is the ads part's ablation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.features import TASTE_WIDTH, stable_key
from ranking.layout import Layout
from ranking.metrics import bootstrap_interval, paired_bootstrap_interval
from ranking.types import FloatArray
from training.discovery import METHODS, factorise
from training.lists.impressions import ads_lists
from training.lists.types import RankingLists
from training.progress import Bar
from training.release.evaluate import Row, as_row
from training.tables.duck import connect, views
from training.toolbox.ads_data import SOURCE, FirstPurchases
from training.toolbox.outcome import GAIN, Outcome

DATA = "discovery"
POPULARITY = "popularity"
HALF_LIFE = 3.0  # weeks, of the popularity that methods are held against
_LISTS, _WEEKS = 600, 3  # of the validation weeks: household-weeks drawn, and the weeks among them that are measured
_SEED = 29


@dataclass(frozen=True, slots=True)
class Lines:
    """Purchase lines by time."""

    users: NDArray[np.int64]  # (n,) codes
    items: NDArray[np.int64]  # (n,) codes
    times: NDArray[np.datetime64]  # (n,) us, ascending

    @classmethod
    def of(cls, canonical: Path) -> Lines:
        with connect(canonical) as db:
            views(db, canonical, "events")
            found = db.execute(
                "SELECT user_code, item_code, epoch_us(event_time) AS at FROM events WHERE event_type = 'purchase'"
                " ORDER BY event_time, user_code, item_code"
            ).fetchnumpy()
        return cls(found["user_code"].astype(np.int64), found["item_code"].astype(np.int64), found["at"].astype("datetime64[us]"))

    def before(self, time: np.datetime64) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
        """Users, items and ages in weeks of the lines before an instant."""
        n = int(np.searchsorted(self.times, time))
        return self.users[:n], self.items[:n], (time - self.times[:n]) / np.timedelta64(7, "D")


def measure(layout: Layout, *, quick: bool = False, seed: int = 0) -> tuple[list[Outcome], dict[str, float]]:
    """One outcome per method and one of popularity; no figure has a mark.

    Args:
        layout: a state directory with Complete Journey's canonical tables.
        quick: fewer lists of one week.
        seed: of what methods draw.
    """
    canonical = layout.canonical(SOURCE)
    lists = ads_lists(canonical, "valid", count=60 if quick else _LISTS, seed=_SEED, spill=layout.training)
    weeks = np.unique(lists.weeks)
    weeks = weeks[np.linspace(0, len(weeks) - 1, 1 if quick else min(_WEEKS, len(weeks))).astype(np.int64)]
    lists = lists.select(np.flatnonzero(np.isin(lists.weeks, weeks)))
    return compare(lists, Lines.of(canonical), FirstPurchases.of(canonical), seed=seed)


def compare(
    lists: RankingLists, lines: Lines, bought: FirstPurchases, *, seed: int, width: int = TASTE_WIDTH
) -> tuple[list[Outcome], dict[str, float]]:
    """`measure` on lists that are there."""
    repeat = bought.before(lists)
    fresh = (lists.labels * ~repeat).astype(np.float64)
    askers = np.array([bought.users[user] for user in lists.user_ids], np.int64)
    households = np.array([stable_key(user) for user in lists.user_ids], np.int64)
    shape = (len(bought.users), bought.items)

    def popularity(time: np.datetime64) -> Score:
        _, items, ages = lines.before(time)
        sold = np.bincount(items, 0.5 ** (ages / HALF_LIFE), shape[1])
        return lambda _, candidates: sold[candidates]

    def factors(name: str) -> Callable[[np.datetime64], Score]:
        def fitted(time: np.datetime64) -> Score:
            users, items, ages = lines.before(time)
            made = factorise(name, users, items, ages, shape=shape, width=width, seed=seed)
            return lambda user, candidates: made.items[candidates] @ made.users[user]

        return fitted

    outcomes: list[Outcome] = []
    plain: FloatArray | None = None
    with Bar("discovery methods", 1 + len(METHODS)) as bar:
        for name, fit in {POPULARITY: popularity, **{name: factors(name) for name in METHODS}}.items():
            start = perf_counter()
            scores = np.where(repeat, -np.inf, _scores(lists, askers, fit))
            seconds = (perf_counter() - start) / len(np.unique(lists.weeks))
            found = metrics.recall_of_lists(scores, fresh, lists.offsets, k=50)
            row: Row = {"recall50_new": as_row(bootstrap_interval(found, seed, groups=households))}
            if plain is None:
                plain = found
            else:
                row["recall50_new" + GAIN] = as_row(paired_bootstrap_interval(found, plain, seed, groups=households))
            note = f"{int(np.isfinite(found).sum())} lists with such a purchase; {width} wide; seconds are of one week"
            outcomes.append(
                Outcome(DATA, "member", name, {"all": row}, round(seconds, 2), "" if name == POPULARITY else POPULARITY, note=note)
            )
            bar.advance()
    return outcomes, {}


Score = Callable[[int, NDArray[np.int32]], FloatArray]
"""(user code, item codes) -> scores."""


def _scores(lists: RankingLists, askers: NDArray[np.int64], fit: Callable[[np.datetime64], Score]) -> FloatArray:
    """(N,) scores of every list by what was fitted on the purchases before it; one fit per instant."""
    out = np.empty(len(lists.item_codes))
    for time in np.unique(lists.times):
        score = fit(time)
        for i in np.flatnonzero(lists.times == time):
            rows = slice(int(lists.offsets[i]), int(lists.offsets[i + 1]))
            out[rows] = score(int(askers[i]), lists.item_codes[rows])
    return out
