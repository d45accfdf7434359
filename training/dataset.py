"""Point-in-time features through Feast: the only module of training that knows Feast.

Each distinct (user, time) and (item, time) of the lists is joined once, never each impression; `assemble_lists` then builds the
models' input with `ranking.assemble.assemble`, the function the gateway calls. What changes Feast's state is in `online.py`.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures, UserFeatures, assemble, item_features, user_features
from ranking.features import (
    ITEM_PROFILE,
    ITEM_STATISTICS,
    ITEM_TASTE,
    MAX_ITEM_TOKENS,
    MAX_QUERY_TOKENS,
    MODEL_COLUMNS,
    TASTE_WIDTH,
    USER_BEHAVIOUR,
    USER_PROFILE,
    USER_TASTE,
    View,
)
from ranking.layout import Layout
from ranking.types import Float32Array, IntArray
from training.lists.types import RankingLists
from training.tables.duck import MEMORY, THREADS
from training.tables.tokens import Tokens

REPO = Path(__file__).parents[1] / "feature_repo"
_STAMP = "event_timestamp"


class FeastError(RuntimeError):
    """Feast's CLI ended with an error, and the message carries the end of what it said; or what Feast answered cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Online:
    """How far one view's offline rows are in the online store, in µs since 1970."""

    at: int  # the wall clock when the last of them had been written
    until: int  # the newest instant whose rows were


@dataclass(frozen=True, slots=True)
class UserTable:
    """Users at instants."""

    rows: dict[tuple[str, np.datetime64], UserFeatures]

    def at(self, user_id: str, time: np.datetime64) -> UserFeatures:
        """One user's features at `time`. KeyError for a pair that was not asked for."""
        return self.rows[user_id, time]


@dataclass(frozen=True, slots=True)
class ItemTable:
    """Items at instants: one block of rows, and where each (time, item) lies in it."""

    block: ItemFeatures  # (r,) rows
    where: dict[np.datetime64, NDArray[np.int32]]  # time -> (items,) row of each item code, -1 where it was not asked for

    def rows(self, time: np.datetime64, codes: NDArray[np.int32]) -> NDArray[np.int32]:
        """(n,) rows of `block` for (n,) item codes at `time`.

        Raises:
            KeyError: a pair that was not asked for.
        """
        rows = self.where[time][codes]
        if len(rows) and rows.min() < 0:
            raise KeyError(f"item code {codes[rows.argmin()]} at {time}")
        return rows


@dataclass(frozen=True, slots=True)
class Features:
    """What the lists' users and items were at the lists' times."""

    users: UserTable
    items: ItemTable


@dataclass(frozen=True, slots=True)
class Assembled:
    """Lists as the models read them: `N` candidates of `L` lists, in the lists' order."""

    x: Float32Array  # (N, len(MODEL_COLUMNS))
    tiers: NDArray[np.int8]  # (N,) index into ranking.types.TIERS
    rows: NDArray[np.int32]  # (N,) rows of `items`
    items: ItemFeatures
    query_tokens: tuple[IntArray, ...]  # (L,) ids of each query; empty for a list without one
    interest_texts: tuple[str, ...]  # (L,)

    @property
    def token_ids(self) -> NDArray[np.int32]:
        """(N, MAX_ITEM_TOKENS) item token ids, gathered on each call: keep lists short or take slices of `rows`."""
        return self.items.token_ids[self.rows]

    @property
    def text_digests(self) -> IntArray:
        """(N,) digests of the item texts."""
        return self.items.text_digests[self.rows]


def point_in_time(layout: Layout, lists: Iterable[RankingLists]) -> Features:
    """Features of every user and item of the lists as they were known at the lists' times.

    Statistics, behaviour and taste are joined per (entity, time). Profiles are joined once per entity, at the earliest of its times: they
    change rarely, and a value known then was known later.

    Args:
        layout: the state directory, with features computed and applied.
        lists: any number of them, over one catalogue (the same `items`).

    Raises:
        ValueError: the lists name different catalogues.
    """
    lists = tuple(lists)
    catalogues = {id(x.items): x.items for x in lists}
    if len(set(catalogues.values())) > 1:
        raise ValueError("lists: must share one tuple of items")
    store = _store(layout)
    return Features(_users(store, lists), _items(store, lists))


def historical(layout: Layout, view: View, ids: Sequence[str], times: NDArray[np.datetime64]) -> pa.Table:
    """One view's features as they were known at instants: for what no model reads, or for a look at one view.

    Args:
        layout: the state directory, with features computed and applied.
        view: a declared one.
        ids: (n,) of its entity.
        times: (n,) instants, UTC.

    Returns:
        (n,) rows in the order asked for, a column per feature; null where there was no row then, or none within its lifetime.

    Raises:
        FeastError: the offline store is one whose joins cannot be trusted.
    """
    table = _historical(_store(layout), view, np.array(ids, dtype=object), times.astype("datetime64[us]"))
    return table.select([f.name for f in view])


def assemble_lists(lists: RankingLists, features: Features, tokens: Tokens) -> Assembled:
    """The models' input for every candidate, one `ranking.assemble.assemble` call per list. O(N)."""
    x = np.empty((len(lists.item_codes), len(MODEL_COLUMNS)), np.float32)
    rows = np.empty(len(lists.item_codes), np.int32)
    queries = dict(zip(lists.queries, tokens(lists.queries, MAX_QUERY_TOKENS), strict=True))
    interests = []
    for i, (start, end) in enumerate(zip(lists.offsets[:-1], lists.offsets[1:], strict=True)):
        user = features.users.at(lists.user_ids[i], lists.times[i])
        rows[start:end] = features.items.rows(lists.times[i], lists.item_codes[start:end])
        x[start:end] = assemble(
            user,
            features.items.block.take(rows[start:end]),
            query_tokens=queries[lists.queries[i]],
            columns={name: column[start:end] for name, column in lists.columns.items()},
        )
        interests.append(user.interest_text)
    block = features.items.block
    return Assembled(x, block.tiers[rows], rows, block, tuple(queries[q] for q in lists.queries), tuple(interests))


def materialised(layout: Layout, views: Iterable[View]) -> dict[str, Online]:
    """What Feast's registry says of materialisations, by view; those that never had one are absent.

    Feast adds the interval to a view once its rows are written, and stamps the view then. An `apply` stamps it too, with Redis every one,
    so that `Layout.materialised` is believed before the stamp, as long as nobody else materialised to another instant since.

    Raises:
        FeastError: the registry cannot be read.
    """
    ours = json.loads(layout.materialised.read_text()) if layout.materialised.exists() else {}
    known = {view.name: view for view in _store(layout).list_feature_views()}
    had = [known[view.name] for view in views if view.name in known and known[view.name].materialization_intervals]
    found = {}
    for view in had:
        ends = [_micros(end) for _, end in view.materialization_intervals]
        at, until = ours.get(view.name, (0, None))
        found[view.name] = Online(at if ends[-1] == until else _micros(view.last_updated_timestamp), max(ends))
    return found


def settle(layout: Layout) -> None:
    """Have the registry of a state directory that was copied or moved name the online store that came with it.

    Feast keeps absolute paths, and `feast apply` drops the tables under those it no longer declares: the original's.
    """
    from feast.protos.feast.core.Registry_pb2 import Registry

    path, own = layout.feast / "registry.db", str(layout.feast.resolve() / "online.db")
    registry: Any = Registry()
    try:
        registry.ParseFromString(path.read_bytes())
    except Exception:  # noqa: BLE001 - not there, or no registry, whichever way: Feast's to make, or to refuse
        return
    tables = [one.sqlite_table for one in registry.infra.infra_objects if one.HasField("sqlite_table")]
    if any(table.path != own for table in tables):
        for table in tables:
            table.path = own
        draft = path.with_suffix(".moved")
        draft.write_bytes(registry.SerializeToString())
        draft.replace(path)


def _micros(instant: datetime) -> int:
    """µs since 1970; Feast leaves the zone of some of its instants out, and means UTC."""
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return int(np.datetime64(aware.astimezone(UTC).replace(tzinfo=None), "us").astype(np.int64))


def _store(layout: Layout) -> Any:
    """Feast on the state directory, its DuckDB held to the same threads and memory as ours.

    Raises:
        FeastError: its registry cannot be read.
    """
    import ibis
    from feast import FeatureStore

    os.environ["LONGTAIL_HOME"] = str(layout.home.resolve())  # feature_store.yaml names its files by it
    spill = layout.training / ".spill"
    spill.mkdir(parents=True, exist_ok=True)
    ibis.set_backend(ibis.duckdb.connect(threads=THREADS, memory_limit=MEMORY, temp_directory=str(spill)))
    try:
        store: Any = FeatureStore(repo_path=str(REPO))
        store.refresh_registry()
    except Exception as error:  # each kind of registry has errors of its own, and the file's are protobuf's
        raise FeastError(
            f"{layout.feast / 'registry.db'}: Feast cannot read its registry ({error}); move it away, and apply again"
        ) from error
    return store


def _users(store: Any, lists: Sequence[RankingLists]) -> UserTable:
    pairs = sorted({(u, t) for x in lists for u, t in zip(x.user_ids, x.times, strict=True)})
    ids = np.array([u for u, _ in pairs], dtype=object)
    times = np.array([t for _, t in pairs], "datetime64[us]")
    columns = {
        f.name: _cells(table[f.name])
        for view in (USER_BEHAVIOUR, USER_TASTE)
        for table in [_historical(store, view, ids, times)]
        for f in view
    }
    first = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1]))) if len(ids) else np.zeros(0, np.int64)
    profile = _historical(store, USER_PROFILE, ids[first], times[first])
    owner = np.searchsorted(first, np.arange(len(ids)), side="right") - 1  # pairs are sorted by user, so the first is the earliest

    declared = {f.name: _cells(profile[f.name]) for f in USER_PROFILE}
    rows = {
        (ids[i], times[i]): user_features(
            {name: cells[i] for name, cells in columns.items()} | {name: cells[owner[i]] for name, cells in declared.items()}
        )
        for i in range(len(ids))
    }
    return UserTable(rows)


def _items(store: Any, lists: Sequence[RankingLists]) -> ItemTable:
    catalogue = lists[0].items
    asked = {t: np.zeros(len(catalogue), bool) for x in lists for t in np.unique(x.times)}
    for x in lists:
        for i, t in enumerate(x.times):
            asked[t][x.item_codes[x.offsets[i] : x.offsets[i + 1]]] = True
    instants = sorted(asked)
    codes = np.concatenate([np.flatnonzero(asked[t]) for t in instants]).astype(np.int32)
    times = np.repeat(np.array(instants, "datetime64[us]"), [asked[t].sum() for t in instants])
    names = np.array(catalogue, dtype=object)

    known, first, owner = np.unique(codes, return_index=True, return_inverse=True)  # times ascend, so the first is the earliest
    profile = _historical(store, ITEM_PROFILE, names[known], times[first])
    columns: dict[str, Any] = {f.name: _column(profile[f.name])[owner] for f in ITEM_PROFILE if f.dtype != "string"}
    for view in (ITEM_STATISTICS, ITEM_TASTE):
        table = _historical(store, view, names[codes], times)
        columns |= {f.name: _column(table[f.name]) for f in view}
    block = item_features(lists[0].item_keys[codes], columns)

    where, start = {}, 0
    for t in instants:
        at = np.full(len(catalogue), -1, np.int32)
        n = int(asked[t].sum())
        at[codes[start : start + n]] = np.arange(start, start + n, dtype=np.int32)
        where[t], start = at, start + n
    return ItemTable(block, where)


def _historical(store: Any, view: View, ids: NDArray[Any], times: NDArray[np.datetime64]) -> pa.Table:
    """One view's values for (n,) entities at (n,) instants, in their order; null where it had no row alive then.

    Raises:
        FeastError: the offline store is one whose joins cannot be trusted.
    """
    import pandas as pd

    if store.config.offline_store.type == "ray":  # Feast 0.67
        raise FeastError("Feast's Ray store rounds 64-bit keys and ignores lifetimes in point-in-time joins: read lists with another YAML")

    key = f"{view.entity}_id"
    frame = pd.DataFrame({key: ids, _STAMP: pd.DatetimeIndex(times).tz_localize("UTC"), "row": np.arange(len(ids))})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fetch_arrow_table", DeprecationWarning)  # ibis calls DuckDB by an old name
        table = store.get_historical_features(entity_df=frame, features=[f"{view.name}:{f.name}" for f in view]).to_arrow()
    if len(table) != len(ids):
        raise ValueError(f"{view.name}: asked for {len(ids)} rows and got {len(table)}")
    return table.take(pc.sort_indices(table["row"]))  # the join keeps no order


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Values one by one: numpy slices for lists (None for null), Python scalars else."""
    array = _whole(column)
    if not pa.types.is_list(array.type):
        return list(array.to_pylist())
    values, offsets = array.values.to_numpy(zero_copy_only=False), array.offsets.to_numpy()
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return [values[offsets[i] : offsets[i + 1]] if valid[i] else None for i in range(len(array))]


def _column(column: pa.ChunkedArray) -> NDArray[Any]:
    """(n,) values with NaN, 0 or None for null by type.

    Lists become a block padded with 0: token ids (n, MAX_ITEM_TOKENS) int32, taste vectors (n, TASTE_WIDTH) float32.
    """
    array = _whole(column)
    if pa.types.is_list(array.type):
        numbers = pa.types.is_floating(array.type.value_type)
        block = np.zeros((len(array), TASTE_WIDTH if numbers else MAX_ITEM_TOKENS), np.float32 if numbers else np.int32)
        lengths = pc.list_value_length(array).fill_null(0).to_numpy()
        row = np.repeat(np.arange(len(array)), lengths)
        place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        block[row, place] = array.flatten().to_numpy()
        return block
    if pa.types.is_integer(array.type):
        return np.asarray(array.fill_null(0).to_numpy())  # never through float: 64-bit keys would lose their low bits
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _whole(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
