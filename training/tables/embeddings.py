"""The table of `ITEM_EMBEDDING`: what items' texts mean to the pretrained sentence encoder.

Each text is read once, ever: its embedding is kept by its digest, beside the tables. The batch only looks up what was read; reading is a
step of its own (`read_texts`), for it takes minutes where everything is new. Reads the item profile's table.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.features import EMBEDDING_WIDTH, ITEM_EMBEDDING, ITEM_PROFILE
from training.stage import key_of
from training.tables.tokens import tokenizer_file

Encode = Callable[[list[NDArray[np.int64]]], NDArray[np.float32]]
"""Token ids of n texts -> (n, width of the encoder) vectors of length 1."""

_AT_ONCE = 4096  # texts, after which what was read is kept: a run that is cut short goes on from there
_SEED = 0
_MADE_BY = b"made by"
_KEPT = pa.schema([("text_digest", pa.int64()), ("embedding", pa.list_(pa.float32(), EMBEDDING_WIDTH))])
_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        ("embedding", pa.list_(pa.float32())),
        ("embedding_of", pa.int64()),
    ]
)


def projected(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, EMBEDDING_WIDTH) vectors of length 1 whose products are those of the (n, w) given ones, nearly.

    A projection by random signs, the same ones always (Achlioptas 2003, theorem 1.1): embeddings of different runs go together, which
    those of components fitted to a catalogue would not.
    """
    signs = np.random.default_rng(_SEED).integers(0, 2, (vectors.shape[1], EMBEDDING_WIDTH)).astype(np.float32) * 2 - 1
    shorter = vectors @ signs
    lengths = np.linalg.norm(shorter, axis=1, keepdims=True)
    return np.asarray(np.divide(shorter, lengths, out=np.zeros_like(shorter), where=lengths > 0))


def read_texts(profile: Path, kept: Path, encode: Encode, done: Callable[[int, int], None] = lambda read, new: None) -> int:
    """Read what nobody has read yet of an item profile's texts, and keep it.

    Args:
        profile: the item profile's table.
        kept: file of what was read; made, and made anew where another encoder made it.
        encode: the encoder.
        done: told after every part how many of how many new texts are read.

    Returns:
        How many texts were read.

    Raises:
        FileNotFoundError: there is no such table.
    """
    if not profile.exists():
        raise FileNotFoundError(f"{profile}: there are no feature tables; run `longtail features compute`")
    table = pq.read_table(profile, columns=["text_digest", "token_ids"])
    digests, first = np.unique(table["text_digest"].to_numpy(), return_index=True)
    known = _known(kept)
    new = first[~np.isin(digests, known["text_digest"].to_numpy()) & (digests != 0)]
    texts = table.take(pa.array(new))
    for start in range(0, len(new), _AT_ONCE):
        part = texts.slice(start, _AT_ONCE)
        vectors = projected(encode([np.array(ids, np.int64) for ids in part["token_ids"].to_pylist()]))
        made = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), EMBEDDING_WIDTH)
        known = pa.concat_tables([known, pa.table([part["text_digest"], made], schema=known.schema)])
        _put(known, kept)
        done(min(start + _AT_ONCE, len(new)), len(new))
    return len(new)


def write_item_embedding(profile: Path, kept: Path | None, out: Path) -> int:
    """One row per item whose text was read, as of when its text is known; returns how many. The file is there in any case.

    Args:
        profile: the item profile's table.
        kept: file of `read_texts`; it need not be there.
        out: folder of the table.
    """
    items = pq.read_table(profile, columns=["item_id", "event_timestamp", "text_digest"])
    known = _known(kept)
    places = pc.index_in(items["text_digest"], value_set=known["text_digest"].combine_chunks())
    found = items.filter(pc.is_valid(places))
    vectors = known["embedding"].combine_chunks().take(pc.drop_null(places).combine_chunks())
    rows = pa.table([*found.columns[:2], vectors.cast(_SCHEMA.field("embedding").type), found["text_digest"]], schema=_SCHEMA)
    _put(rows, out / f"{ITEM_EMBEDDING.name}.parquet")
    return len(rows)


def of_items(folder: Path, kept: Path) -> int:
    """`write_item_embedding` for the tables in a folder, in place of what it holds."""
    return write_item_embedding(folder / f"{ITEM_PROFILE.name}.parquet", kept, folder)


def _known(kept: Path | None) -> Any:
    """What was read by today's encoder; nothing where there is no file, or one that another made."""
    made_by = {_MADE_BY: _maker()}
    if kept is not None and kept.exists():
        table = pq.read_table(kept)
        if (table.schema.metadata or {}).get(_MADE_BY) == made_by[_MADE_BY]:
            return table
    return _KEPT.with_metadata(made_by).empty_table()


def _maker() -> bytes:
    """What embeddings follow from: the package with weights and tokenizer, and how they are made shorter."""
    folder = tokenizer_file().parent
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    return key_of({"files": sizes, "width": EMBEDDING_WIDTH, "seed": _SEED}).encode()


def _put(table: Any, path: Path) -> None:
    """Readers meet the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, draft, compression="zstd")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
