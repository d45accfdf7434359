"""The ads data at benchmark size, made once: training rows, and validation and test lists with every candidate, as memory-mapped arrays.

Reads canonical tables and point-in-time features through `training.lists` and `training.dataset`, the path the pipeline takes; leaves
out its retrieval cut, so that a method is measured on all that was promoted. Knows no method.

Households are halved by a stable hash: the first half's validation lists fit what is fitted after training, the second half's compare
methods (`select`). Test lists are read once: `test` to measure, `test_weeks` for what must hold on all lists of the test weeks.
`calibrate` and `test_weeks` have all lists and a known share of their negatives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.features import MODEL_COLUMNS, stable_key
from ranking.layout import Layout
from training.dataset import Features, assemble_lists, point_in_time
from training.lists.arrays import EvalLists
from training.lists.impressions import ads_lists
from training.lists.types import RankingLists, Split, sample_negatives
from training.progress import Bar
from training.stage import CORE, STAMP, Staged, key_of, source_files, stage
from training.tables.duck import connect, views
from training.tables.tokens import Tokens

SOURCE = "completejourney"
PARTS: Mapping[Split, tuple[str, ...]] = {"train": ("train",), "valid": ("calibrate", "select"), "test": ("test", "test_weeks")}
THINNED = ("calibrate", "test_weeks")
"""Parts that fit a calibrator or check one. No order is measured on them, and a known share of the negatives shifts log-odds by a known
number."""
_SEED = 23  # another hash than the pipeline's: mostly other household-weeks


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything.

    Attributes:
        train: training household-weeks (weeks 30-40 have 14,503).
        calibrate: validation household-weeks of which a share of the negatives is kept (weeks 41-46 have 7,995).
        select: validation household-weeks with every candidate, before those of the first half are left out.
        test: test household-weeks with every candidate.
        test_weeks: test household-weeks of which a share of the negatives is kept (weeks 47-53 have about 9,300).
        train_rate: share of the training negatives kept.
        thin_rate: the same for `calibrate` and `test_weeks`.
    """

    train: int
    calibrate: int
    select: int
    test: int
    test_weeks: int
    train_rate: float = 0.03
    thin_rate: float = 0.05


FULL = Size(train=20_000, calibrate=20_000, select=1_200, test=2_000, test_weeks=20_000)
QUICK = Size(train=1_000, calibrate=400, select=80, test=60, test_weeks=200)


@dataclass(frozen=True, slots=True)
class Part:
    """`L` lists with `N` rows in all, one list's rows side by side; arrays are read from disk when they are touched."""

    x: NDArray[np.float32]  # (N, len(MODEL_COLUMNS))
    labels: NDArray[np.int8]  # (N,)
    tiers: NDArray[np.int8]  # (N,) codes into TIERS
    repeat: NDArray[np.bool_]  # (N,) the household had bought the item, ever: features know its last 512 items only
    offsets: NDArray[np.int64]  # (L + 1,)
    second: NDArray[np.bool_]  # (L,) the household is of the second half
    weeks: NDArray[np.int32]  # (L,)
    households: NDArray[np.int64]  # (L,) stable key of the household
    negatives_rate: float = 1.0  # share of the negatives that are here

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def owners(self) -> NDArray[np.int64]:
        """(N,) list of each row."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def chunks(self, rows: int = 500_000) -> Iterator[slice]:
        """Slices of whole lists, of at least `rows` rows but the last: what to hold in memory at a time."""
        start = 0
        for end in self.offsets[1:].tolist():
            if end - start >= rows or (end == self.offsets[-1] and end > start):
                yield slice(start, end)
                start = end

    def eval_lists(self) -> EvalLists:
        """As they are measured. Only of parts with all their negatives."""
        if self.negatives_rate != 1.0:
            raise ValueError(f"lists: only whole lists are measured, these kept {self.negatives_rate:g} of their negatives")
        positives = np.diff(np.concatenate(([0], np.cumsum(self.labels, dtype=np.int64)))[self.offsets])
        return EvalLists(self.x, self.labels, self.tiers, {}, self.offsets, positives, self.households)

    def some(self, count: int) -> Part:
        """About `count` lists, evenly spread over the weeks, in memory; itself where it has no more."""
        if count >= len(self):
            return self
        chosen = np.unique(np.linspace(0, len(self) - 1, count).astype(np.int64))
        sizes = np.diff(self.offsets)
        mask = np.zeros(len(self), bool)
        mask[chosen] = True
        rows = np.flatnonzero(np.repeat(mask, sizes))
        offsets = np.concatenate(([0], np.cumsum(sizes[chosen]))).astype(np.int64)
        picked = {name: getattr(self, name)[rows] for name in ("x", "labels", "tiers", "repeat")}
        of_lists = {name: getattr(self, name)[chosen] for name in ("second", "weeks", "households")}
        return Part(**picked, **of_lists, offsets=offsets, negatives_rate=self.negatives_rate)


@dataclass(frozen=True, slots=True)
class FirstPurchases:
    """When each household first bought each item."""

    users: Mapping[str, int]  # household -> code
    pairs: NDArray[np.int64]  # (p,) user code · items + item code, ascending
    times: NDArray[np.datetime64]  # (p,) us, UTC
    items: int

    @classmethod
    def of(cls, canonical: Path) -> FirstPurchases:
        with connect(canonical) as db:
            views(db, canonical, "events", "users", "items")
            (items,) = db.execute("SELECT count(*) FROM items").fetchall()[0]
            users = dict(db.execute("SELECT user_id, user_code FROM users").fetchall())
            found = db.execute(
                "SELECT user_code::BIGINT * $items + item_code AS pair, epoch_us(min(event_time)) AS at FROM events"
                " WHERE event_type = 'purchase' GROUP BY 1 ORDER BY 1",
                {"items": items},
            ).fetchnumpy()
        return cls(users, found["pair"].astype(np.int64), found["at"].astype("datetime64[us]"), items)

    def before(self, lists: RankingLists) -> NDArray[np.bool_]:
        """(N,) the list's household had bought the candidate before the list."""
        askers = np.array([self.users[user] for user in lists.user_ids], np.int64)
        owners = lists.groups()
        wanted = askers[owners] * self.items + lists.item_codes
        at = np.minimum(np.searchsorted(self.pairs, wanted), len(self.pairs) - 1)
        return (self.pairs[at] == wanted) & (self.times[at] < lists.times[owners])


def prepare(layout: Layout, size: Size = FULL) -> Staged:
    """The stage directory with all parts, made unless it is there.

    Raises:
        FileNotFoundError: the data or their features are not there; the message names the command.
    """
    inputs = {
        "upstream": key_of(_upstream(layout)),
        "size": {f.name: getattr(size, f.name) for f in fields(size)},
        "columns": list(MODEL_COLUMNS),
    }
    code = source_files("training/lists", "training/dataset.py", "training/toolbox/ads_data.py")
    name = "ads" if size == FULL else "ads-quick"
    return stage(layout.training / "toolbox" / name, inputs, lambda out: write(layout, size, out), code=[*code, *CORE])


def lacking(layout: Layout) -> str:
    """What has to be made before `prepare`, in words that name the command; empty where nothing lacks."""
    try:
        _upstream(layout)
    except FileNotFoundError as error:
        return str(error)
    return ""


def write(layout: Layout, size: Size, out: Path) -> None:
    """Write every part below the existing directory `out`; at most one split's impressions and one week's features in memory."""
    canonical = layout.canonical(SOURCE)
    bought = FirstPurchases.of(canonical)
    with Bar("ads lists with all candidates", sum(map(len, PARTS.values()))) as bar:
        for names in PARTS.values():
            parts = {name: _lists(canonical, name, size, layout.training) for name in names}
            features = point_in_time(layout, [lists for lists, _ in parts.values()])
            for name, (lists, rate) in parts.items():
                save(out / name, lists, features, bought, rate)
                bar.advance()


def save(folder: Path, lists: RankingLists, features: Features, bought: FirstPurchases, negatives_rate: float = 1.0) -> None:
    """Lists with their features as one .npy per array of `Part`, written week by week."""
    folder.mkdir(parents=True)
    x = np.lib.format.open_memmap(folder / "x.npy", mode="w+", dtype=np.float32, shape=(len(lists.labels), len(MODEL_COLUMNS)))
    tiers = np.empty(len(lists.labels), np.int8)
    tokens = Tokens()
    begins = [0, *(np.flatnonzero(np.diff(lists.weeks)) + 1).tolist(), len(lists)]  # lists ascend by week
    for first, end in pairwise(begins):
        rows = slice(int(lists.offsets[first]), int(lists.offsets[end]))
        assembled = assemble_lists(lists.select(np.arange(first, end)), features, tokens)
        x[rows], tiers[rows] = assembled.x, assembled.tiers
    x.flush()
    arrays: Mapping[str, NDArray[Any]] = {
        "labels": lists.labels,
        "tiers": tiers,
        "repeat": bought.before(lists),
        "offsets": lists.offsets,
        "second": _second(lists),
        "weeks": lists.weeks,
        "households": np.array([stable_key(user) for user in lists.user_ids], np.int64),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "part.json").write_text(json.dumps({"negatives_rate": negatives_rate}))


def load(folder: Path) -> Part:
    """One part; its rows stay on disk until they are read."""
    arrays = {f.name: np.load(folder / f"{f.name}.npy", mmap_mode="r") for f in fields(Part) if f.name != "negatives_rate"}
    return Part(**arrays, **json.loads((folder / "part.json").read_text()))


def _lists(canonical: Path, part: str, size: Size, spill: Path) -> tuple[RankingLists, float]:
    """A part's lists and the share of their negatives that was kept."""
    split = next(split for split, names in PARTS.items() if part in names)
    lists = ads_lists(canonical, split, count=getattr(size, part), seed=_SEED, spill=spill)
    if part == "train":
        return sample_negatives(lists, size.train_rate, _SEED), size.train_rate
    if part == "select":
        lists = lists.select(np.flatnonzero(_second(lists)))
    if part not in THINNED:
        return lists, 1.0
    drawn = np.random.default_rng(_SEED).random(len(lists.labels)) < size.thin_rate
    return lists.take(drawn | (lists.labels == 1)), size.thin_rate


def _second(lists: RankingLists) -> NDArray[np.bool_]:
    return np.array([stable_key(user) & 1 for user in lists.user_ids], bool)


def _upstream(layout: Layout) -> dict[str, str]:
    return {
        "data": _stamp(layout.canonical(SOURCE), f"longtail data prepare {SOURCE}"),
        "feast": _stamp(layout.training / "feast", "longtail train"),
    }


def _stamp(folder: Path, command: str) -> str:
    stamp = folder / STAMP
    if not stamp.exists():
        raise FileNotFoundError(f"{folder}: not there; `{command}` makes it")
    return stamp.read_text()
