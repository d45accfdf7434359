"""Training-serving skew: whether what the gateways served by is what training would have joined for the same users, items and instants.

Reads the served log's files, which hold the models' input rows, and computes the same rows again from the offline store, by the code that
makes training frames, and from what the feature process pushed between two runs of the batch. A row is visible some moments after it was
pushed; so where one was pushed about when a ranking's features were read, the row before it is right too, but no mixture of both.
Rankings answered by rows that are not those of the tables are counted and left out. Knows no gateway: only the columns of its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.assemble import UNKNOWN_USER, ItemFeatures, UserFeatures, assemble, item_features, user_features
from ranking.features import (
    ITEM_SCALARS,
    ITEM_STATISTICS,
    MAX_QUERY_TOKENS,
    MODEL_COLUMNS,
    REQUEST_COLUMNS,
    USER_BEHAVIOUR,
    USER_SCALARS,
    VIEWS,
    schema_hash,
    stable_key,
)
from ranking.layout import Layout
from ranking.privacy import user_digest
from ranking.text import query_text
from ranking.types import Float32Array, Surface
from training.dataset import assemble_lists, materialised, point_in_time
from training.lists.types import RankingLists
from training.pushed import Pushed, Row, entities
from training.tables.tokens import Tokens

_BEHAVIOUR = [USER_SCALARS.index(f.name) for f in USER_BEHAVIOUR if f.name in USER_SCALARS]
_STATISTICS = [ITEM_SCALARS.index(f.name) for f in ITEM_STATISTICS if f.name in ITEM_SCALARS]
_REQUEST = tuple(f.name for f in REQUEST_COLUMNS)
NEVER = 2**63 - 1  # an instant later than all, µs since 1970
VISIBLE_S = 1.0  # within which of a push every gateway answers by the row: the platform's promise
SETTLE_S = 120.0  # after a materialisation, until the item snapshot and cached users have followed it
_READ = ("ranking_id", "time", "as_of", "user", "item_id", "query", "feature_schema_hash", "features")


@dataclass(frozen=True, slots=True)
class Column:
    """How one column of the models' input row differs between served and computed rows.

    Attributes:
        name: of `ranking.features.MODEL_COLUMNS`.
        mismatches: rows whose two values are not the same bits.
        missing: of them, those served at the value an unknown entity has although there was one.
        extra: of them, those served with a value although there was none.
        difference: mean of |a - b| / ((|a| + |b|) / 2) over all rows, 0 where both are 0; 2 at most.
    """

    name: str
    mismatches: int
    missing: int
    extra: int
    difference: float


@dataclass(frozen=True, slots=True)
class Skew:
    """What `verify` found.

    Attributes:
        rankings, rows: compared.
        oldest, newest: when the features of the first and the last of them were read, µs since 1970; None: there are none.
        left_out: rankings left out since they were answered before the feature tables were made: by others, which are gone.
        not_online: rankings left out since the tables' rows were not in the online store yet, as far as they concern them.
        online_since: when all views that models read were there, µs since 1970; None: some of these tables' are not.
        other_schema: rows of the log left out since they are of another feature schema.
        unknown_users: rankings compared for a user nobody has features of; their users cannot be told from one another.
        columns: one for each model column, except those that the request brought.
    """

    rankings: int
    rows: int
    oldest: int | None
    newest: int | None
    left_out: int
    not_online: int
    online_since: int | None
    other_schema: int
    unknown_users: int
    columns: tuple[Column, ...]

    @property
    def mismatches(self) -> int:
        """Values that differ, over all columns."""
        return sum(c.mismatches for c in self.columns)


def verify(layout: Layout, *, rankings: int, settle_s: float = SETTLE_S, visible_s: float = VISIBLE_S) -> Skew:
    """Compare the latest served rankings with what the offline store says of their users and items at the instants they were served for.

    Args:
        layout: the state directory, with features applied and a served log.
        rankings: at most so many, the latest; those of before the feature tables were made and brought online are counted only.
        settle_s: seconds after they were brought online for which gateways may still have answered by what they had.
        visible_s: seconds about a push for which gateways may have answered by either row.

    Raises:
        FileNotFoundError: nothing was served yet, or the log's key or the feature tables are gone.
        ValueError: a file is not one of the served log.
    """
    latest, other = _latest(layout.served, rankings)
    if not len(latest):
        return Skew(0, 0, None, None, 0, 0, None, other, 0, ())
    made = _tables_made(layout)
    of_these, left_out = since(latest, made)
    online_since, until = _online(layout, made)
    table, early = since(of_these, NEVER if online_since is None else online_since + round(settle_s * 1e6))
    table, beyond = before(table, until)
    if not len(table):
        return Skew(0, 0, None, None, left_out, early + beyond, online_since, other, 0, ())
    lists, users = _lists(table, _users(layout))
    served = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), len(MODEL_COLUMNS))
    moments = table.take(pa.array(lists.offsets[:-1]))["time"].cast("int64").to_pylist()
    computed = _computed(layout, lists, moments, served, round(visible_s * 1e6))
    blank = assemble(UNKNOWN_USER, item_features(np.zeros(1, np.int64), {}), query_tokens=np.zeros(0, np.int64), columns={})[0]
    columns = tuple(_compared(name, served[:, j], computed[:, j], blank[j]) for j, name in enumerate(MODEL_COLUMNS) if name not in _REQUEST)
    return Skew(len(lists), len(table), min(moments), max(moments), left_out, early + beyond, online_since, other, users, columns)


def since(table: pa.Table, instant: int) -> tuple[pa.Table, int]:
    """Rows of the rankings answered at an instant (µs since 1970) or later, and how many rankings are of before."""
    later = table.filter(pc.greater_equal(table["time"].cast(pa.int64()), instant))
    return later, len(pc.unique(table["ranking_id"])) - len(pc.unique(later["ranking_id"]))


def before(table: pa.Table, instant: int) -> tuple[pa.Table, int]:
    """Rows of the rankings whose features are of before an instant (µs since 1970), and how many rankings have features of it or later."""
    earlier = table.filter(pc.less(table["as_of"].cast(pa.int64()), instant))
    return earlier, len(pc.unique(table["ranking_id"])) - len(pc.unique(earlier["ranking_id"]))


def _online(layout: Layout, made: int) -> tuple[int | None, int]:
    """When all views of the tables made at `made` were in the online store, None: one is not; and the instant of the first row that is not.

    A materialisation may have ended at an instant of which, or after which, the tables have rows: whoever asks for that or a later one is
    answered by older rows than training would join.
    """
    known = materialised(layout, VIEWS)
    if any(view.name not in known or known[view.name].at < made for view in VIEWS):
        return None, NEVER
    until = NEVER
    for view in VIEWS:
        stamps = pq.read_table(layout.features / f"{view.name}.parquet", columns=["event_timestamp"])["event_timestamp"].cast(pa.int64())
        newer = pc.min(stamps.filter(pc.greater(stamps, known[view.name].until))).as_py()
        until = min(until, NEVER if newer is None else newer)
    return max(known[view.name].at for view in VIEWS), until


def _tables_made(layout: Layout) -> int:
    """When the feature tables were made, µs since 1970, rounded up; later changes of single files keep it."""
    if not layout.feature_meta.exists():
        raise FileNotFoundError(f"{layout.feature_meta}: there are no feature tables; run `longtail train`")
    return -(-layout.feature_meta.stat().st_mtime_ns // 1000)


def _computed(layout: Layout, lists: RankingLists, moments: Sequence[int], served: Float32Array, visible: int) -> Float32Array:
    """(N, len(MODEL_COLUMNS)) rows of the lists, whose features were read at (L,) `moments`, µs since 1970 by the wall clock.

    Of what stood within `visible` µs of a moment, the user's row is the one that leaves least of the list different from `served`, and each
    item's the one that leaves least of its row so.
    """
    features, tokens = point_in_time(layout, [lists]), Tokens()
    users = Pushed(layout, USER_BEHAVIOUR, lists.user_ids)
    items = Pushed(layout, ITEM_STATISTICS, lists.items)
    x = assemble_lists(lists, features, tokens).x
    for i, (start, end) in enumerate(zip(lists.offsets[:-1].tolist(), lists.offsets[1:].tolist(), strict=True)):
        as_of, codes = lists.times[i], lists.item_codes[start:end]
        within = (moments[i] - visible, moments[i] + visible, int(as_of.astype(np.int64)))
        behaviours = users.stood(lists.user_ids[i], *within)
        sold = [items.stood(lists.items[c], *within) for c in codes.tolist()]
        if behaviours == [None] and all(rows == [None] for rows in sold):
            continue
        user = features.users.at(lists.user_ids[i], as_of)
        block = features.items.block.take(features.items.rows(as_of, codes))
        query = tokens([lists.queries[i]], MAX_QUERY_TOKENS)[0]
        columns = {name: column[start:end] for name, column in lists.columns.items()}
        blocks = [_with_statistics(block, [rows[min(n, len(rows) - 1)] for rows in sold]) for n in range(max(map(len, sold)))]
        possible = [
            _nearest([assemble(_with_behaviour(user, row), b, query_tokens=query, columns=columns) for b in blocks], served[start:end])
            for row in behaviours
        ]
        x[start:end] = min(possible, key=lambda rows: np.count_nonzero(_differs(served[start:end], rows)))
    return x


def _nearest(possible: Sequence[Float32Array], served: Float32Array) -> Float32Array:
    """Of k (n, columns) matrices, each row from the one where it differs least from what was served."""
    differing = [_differs(served, rows).sum(axis=1) for rows in possible]
    return np.stack(possible)[np.argmin(differing, axis=0), np.arange(len(served))]


def _with_statistics(block: ItemFeatures, rows: Sequence[Row | None]) -> ItemFeatures:
    """(n,) items with other rows of `ITEM_STATISTICS`; None: the one there is."""
    newer = block.take(np.arange(len(rows)))
    for k, row in enumerate(rows):
        if row is not None:
            one = item_features(block.keys[k : k + 1], {name: [value] for name, value in row.values.items()})
            newer.scalars[k, _STATISTICS], newer.tiers[k] = one.scalars[0, _STATISTICS], one.tiers[0]
    return newer


def _with_behaviour(user: UserFeatures, row: Row | None) -> UserFeatures:
    """The user with another row of `USER_BEHAVIOUR`; None: as they are."""
    if row is None:
        return user
    newer = user_features(row.values)
    scalars = user.scalars.copy()
    scalars[_BEHAVIOUR] = newer.scalars[_BEHAVIOUR]
    return replace(newer, scalars=scalars, taste=user.taste, taste_at=user.taste_at)


def _compared(name: str, served: Float32Array, computed: Float32Array, blank: np.float32) -> Column:
    differs = _differs(served, computed)
    was, is_ = served.astype(np.float64), computed.astype(np.float64)
    size = (np.abs(was) + np.abs(is_)) / 2
    difference = np.divide(np.abs(was - is_), size, out=np.zeros(len(size)), where=size > 0)
    missing, extra = differs & (served == blank), differs & (computed == blank)
    return Column(name, int(differs.sum()), int(missing.sum()), int(extra.sum()), float(difference.mean()))


def _differs(served: Float32Array, computed: Float32Array) -> NDArray[np.bool_]:
    """Where two arrays of one shape are not the same bits."""
    return np.ascontiguousarray(served).view(np.uint32) != np.ascontiguousarray(computed).view(np.uint32)


def _latest(folder: Path, rankings: int) -> tuple[pa.Table, int]:
    """Rows of the latest rankings of this feature schema, ranking by ranking; and how many rows of their files are of another schema."""
    kept: list[pa.Table] = []
    other, seen = 0, 0
    files = sorted(folder.glob("*.parquet"), reverse=True)  # named by when they were written
    if not files:
        raise FileNotFoundError(f"{folder}: nothing was served yet; files are written within a minute of an answer")
    for path in files:
        there = pq.read_schema(path).names
        if absent := [name for name in _READ if name not in there]:
            raise ValueError(f"{path}: has no column {', '.join(absent)}")
        table = pq.read_table(path, columns=list(_READ))
        ours = table.filter(ds.field("feature_schema_hash") == schema_hash())
        other += len(table) - len(ours)
        ids = list(dict.fromkeys(reversed(ours["ranking_id"].to_pylist())))[: rankings - seen]
        kept.insert(0, ours.filter(ds.field("ranking_id").isin(pa.array(ids, pa.string()))))  # typed: there may be none
        seen += len(ids)
        if seen >= rankings:
            break
    return pa.concat_tables(kept), other


def _users(layout: Layout) -> dict[str, str]:
    """Digest in the log -> user id, of all users the feature tables know."""
    if not layout.served_key.exists():
        raise FileNotFoundError(f"{layout.served_key}: the key of the served log is gone, so nobody can tell whose rankings it holds")
    key = layout.served_key.read_bytes()
    ids: set[str] = set()
    for view in ("user_profile", "user_behaviour"):
        path = layout.features / f"{view}.parquet"
        if not path.exists():
            raise FileNotFoundError(f"{path}: there are no feature tables; run `longtail train`")
        ids.update(pq.read_table(path, columns=["user_id"])["user_id"].unique().to_pylist())
    ids |= entities(layout, USER_BEHAVIOUR)
    return {user_digest(user, key): user for user in ids}


def _lists(table: pa.Table, users: dict[str, str]) -> tuple[RankingLists, int]:
    """The rankings as lists, a row of the table a candidate; and how many are of a user nobody knows."""
    answers = np.array(table["ranking_id"].to_pylist())
    starts = np.flatnonzero(np.concatenate(([True], answers[1:] != answers[:-1])))  # an answer's rows stand side by side
    first = table.take(pa.array(starts))
    owners = [users.get(digest, "") for digest in first["user"].to_pylist()]
    items, codes = np.unique(table["item_id"].to_pylist(), return_inverse=True)
    features = table["features"].combine_chunks().flatten().to_numpy().reshape(len(table), len(MODEL_COLUMNS))
    n = len(table)
    lists = RankingLists(
        surface=Surface.ADS,  # of no consequence: the rows are the same
        split="test",
        times=first["as_of"].to_numpy().astype("datetime64[us]"),
        weeks=np.zeros(len(starts), np.int32),
        user_ids=tuple(owners),
        queries=tuple(query_text(q, "") for q in first["query"].to_pylist()),
        offsets=np.append(starts, n).astype(np.int64),
        item_codes=codes.astype(np.int32),
        items=tuple(items.tolist()),
        item_keys=_keys(items.tolist()),
        labels=np.zeros(n, np.int8),
        columns={name: features[:, MODEL_COLUMNS.index(name)] for name in _REQUEST},
        retrieval_scores=np.zeros(n, np.float32),
        weights=np.ones(n, np.float32),
        ideal_positives=np.zeros(len(starts), np.int64),
    )
    return lists, owners.count("")


def _keys(items: Sequence[str]) -> NDArray[np.int64]:
    return np.fromiter(map(stable_key, items), np.int64, len(items))
