"""Making a snapshot's file: complete and on disk before it gets its name."""

from __future__ import annotations

import mmap
import os
import secrets
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from services.snapshot.keys import fill, hash_ids
from services.snapshot.layout import PAGE, SHARED, Blocks, Format, Header, boot, size
from services.snapshot.table import Table

_LEAST_SPARE = 64


@dataclass(frozen=True, slots=True)
class About:
    """What a file says of itself. Times in seconds since 1970."""

    generation: int  # one more than that of the file it replaces
    as_of: float  # when the feature store had what it says
    created_at: float
    source: str  # what it was made from


def publish(path: Path, form: Format, table: Table, about: About, *, spare: float) -> None:
    """Write `table` beside `path` and rename it there: a reader opens the old file or the new one.

    Args:
        path: the published name.
        form: what an item consists of.
        table: what to write.
        about: what it says of itself.
        spare: room for updates, as a share of what is there.

    Raises:
        OSError: no space, or the folder cannot be written.
    """
    draft = path.with_name(f"{drafts(path)}{os.getpid()}")
    try:
        with draft.open("w+b") as file:
            _write(file.fileno(), form, table, about, spare)
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def drafts(path: Path) -> str:
    """What the names of unfinished files begin with."""
    return f".{path.name}.draft-"


def _write(file: int, form: Format, table: Table, about: About, spare: float) -> None:
    names = sorted(table.names.items())
    ids = [item.encode() for item in table.ids]
    texts = [text.encode() for _, text in names]
    filled = {"rows": len(table.rows), **{name: len(table.entries[name]) for name in SHARED}}
    filled |= {"names": len(names), "id_bytes": sum(map(len, ids)), "name_bytes": sum(map(len, texts))}
    grown = {name: count + max(_LEAST_SPARE, int(count * spare)) for name, count in filled.items()}
    grown["times"] = filled["times"] + max(_LEAST_SPARE, int(filled["rows"] * spare))  # every update of a row adds one
    grown |= {name: grown[name] + _LEAST_SPARE * 16 for name in ("id_bytes", "name_bytes")}
    header = Header(
        schema=form.schema,
        boot=boot(),
        generation=about.generation,
        created_at=about.created_at,
        source=about.source,
        seed=secrets.randbits(64),
        rows=filled["rows"],
        sorted_names=len(names),
        capacity=grown,
        checksum=0,
    )
    length = size(grown, form)
    os.posix_fallocate(file, 0, length)  # a full disk is an error here, not a fault when a page is written
    with mmap.mmap(file, length) as memory:
        blocks = Blocks(header, form, memory)
        for name, count in filled.items():
            blocks.state[name] = count
        blocks.state["as_of"] = about.as_of
        for name in ("rows", *SHARED):
            blocks.entries[name][: filled[name]] = table.rows if name == "rows" else table.entries[name]
        hashes = hash_ids(table.ids, header.seed)
        blocks.entries["rows"]["hash"][1 : filled["rows"]] = hashes
        fill(hashes, blocks.index)
        blocks.id_ends[1 : filled["rows"]] = np.cumsum([len(item) for item in ids])
        blocks.ids[: filled["id_bytes"]] = np.frombuffer(b"".join(ids), np.uint8)
        blocks.name_keys[: len(names)] = [key for key, _ in names]
        blocks.name_ends[: len(names)] = np.cumsum([len(text) for text in texts])
        blocks.names[: filled["name_bytes"]] = np.frombuffer(b"".join(texts), np.uint8)
        del blocks  # its arrays hold the map
        with memoryview(memory) as whole, whole[2 * PAGE :] as body:
            checksum = zlib.crc32(body)
        memory[:PAGE] = replace(header, checksum=checksum).to_bytes()
        memory.flush()
