"""A snapshot's content in memory, as it is written: from features to records and back. Knows no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures
from ranking.types import FloatArray
from services.snapshot.keys import rows_in
from services.snapshot.layout import SHARED, Blocks, Format

_LARGEST_TOKEN = np.iinfo(np.uint16).max


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, the entries they point to, and the strings. Row 0 is the item nobody knows and has no id."""

    rows: NDArray[Any]  # (1 + n,) records
    entries: Mapping[str, NDArray[Any]]  # name of a shared block -> its records
    ids: Sequence[str]  # (n,)
    names: Mapping[int, str]  # what attribute keys stand for


def entries_of(form: Format, features: ItemFeatures, event_times: FloatArray) -> dict[str, NDArray[Any]]:
    """(n,) records of each shared block, not yet told apart.

    Raises:
        ValueError: a token id does not fit 16 bits.
    """
    n, records = len(features), form.records()
    if n and not 0 <= features.token_ids.min() <= features.token_ids.max() <= _LARGEST_TOKEN:
        raise ValueError(f"token ids must be 0 to {_LARGEST_TOKEN}, got {features.token_ids.min()} to {features.token_ids.max()}")
    out = {name: np.zeros(n, records[name]) for name in SHARED}
    out["texts"]["digest"], out["texts"]["tokens"] = features.text_digests, features.token_ids
    groups = out["groups"]
    groups["category"], groups["type"], groups["maker"] = features.category_keys, features.type_keys, features.maker_keys
    groups["attributes"] = features.attribute_keys
    out["tastes"]["at"], out["tastes"]["taste"] = features.taste_at, features.taste
    out["times"]["times"] = event_times.T
    return out


def rows_of(form: Format, features: ItemFeatures) -> NDArray[Any]:
    """(n,) records that point nowhere yet."""
    rows = np.zeros(len(features), form.records()["rows"])
    rows["key"], rows["tier"], rows["scalars"] = features.keys, features.tiers, features.scalars
    return rows


def features_of(rows: NDArray[Any], texts: NDArray[Any], groups: NDArray[Any], tastes: NDArray[Any]) -> ItemFeatures:
    """The features of (n,) records and the entries they point to, bit by bit those that were put in."""
    return ItemFeatures(
        keys=rows["key"],
        scalars=rows["scalars"],
        tiers=rows["tier"],
        category_keys=groups["category"],
        type_keys=groups["type"],
        maker_keys=groups["maker"],
        taste=tastes["taste"],
        taste_at=tastes["at"],
        token_ids=texts["tokens"].astype(np.int32),
        text_digests=texts["digest"],
        attribute_keys=groups["attributes"],
    )


def made(form: Format, item_ids: Sequence[str], features: ItemFeatures, event_times: FloatArray, names: Mapping[int, str]) -> Table:
    """A table of unique items; those without an event time, or with a NUL in their id, stay out. O(n log n).

    Args:
        form: what an item consists of.
        item_ids: (n,) unique.
        features: (n,) theirs.
        event_times: (views, n) seconds since 1970, NaN where a view has no row.
        names: what attribute keys stand for.

    Raises:
        ValueError: an item stands there twice, or a token id does not fit 16 bits.
    """
    if len(set(item_ids)) != len(item_ids):
        raise ValueError("an item stands there twice")
    known = ~np.isnan(event_times).all(axis=0) & np.array(["\0" not in item for item in item_ids], bool)
    ids = [item for item, there in zip(item_ids, known.tolist(), strict=True) if there]
    features = joined([form.blank, features if known.all() else features.take(known)])
    times = np.concatenate([np.full((form.views, 1), np.nan), event_times[:, known]], axis=1)
    rows = rows_of(form, features)
    entries = {}
    for name, records in entries_of(form, features, times).items():
        entries[name], rows[name] = _told_apart(records)
    keys = set(np.unique(entries["groups"]["attributes"]).tolist())
    return Table(rows, entries, ids, {key: text for key, text in names.items() if key in keys})


def kept(blocks: Blocks) -> Table:
    """What a mapped file holds and can be found: without torn rows, and without entries no row points to."""
    rows = rows_in(blocks.index)
    rows = rows[blocks.entries["rows"]["version"][rows] % 2 == 0]
    ends = blocks.id_ends
    ids = [blocks.ids[ends[r - 1] : ends[r]].tobytes().decode() for r in rows.tolist()]
    records = blocks.entries["rows"][np.append(0, rows)]
    entries = {}
    for name in SHARED:
        used, places = np.unique(records[name], return_inverse=True)
        entries[name], records[name] = blocks.entries[name][used], places
    records["version"] = 0
    texts = [blocks.names[a:b].tobytes().decode() for a, b in name_places(blocks)]
    names = dict(zip(blocks.name_keys[: len(texts)].tolist(), texts, strict=True))
    return Table(records, entries, ids, names)


def name_places(blocks: Blocks) -> list[tuple[int, int]]:
    """Where in `names` each name begins and ends."""
    ends = blocks.name_ends[: int(blocks.state["names"][0])].tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True)) if ends else []


def joined(parts: Sequence[ItemFeatures]) -> ItemFeatures:
    """Several blocks of items as one."""
    return ItemFeatures(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(ItemFeatures)})


def _told_apart(records: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """The distinct records, bit by bit, and where among them each one is."""
    plain = np.ascontiguousarray(records).view(np.dtype((np.void, records.dtype.itemsize)))
    _, first, places = np.unique(plain, return_index=True, return_inverse=True)
    return records[first], places.reshape(-1)
