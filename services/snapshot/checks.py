"""Whether a file's content can be what was written: counts at any time, everything when it is opened. Knows nothing of reading items."""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path

import numpy as np

from services.snapshot.errors import InvalidSnapshotError
from services.snapshot.keys import rows_in
from services.snapshot.layout import PAGE, SHARED, Blocks, Header, boot

_CHUNK = 1 << 20


def check_counts(path: Path, header: Header, blocks: Blocks) -> None:
    """Counts within capacities, none below what there was when the file was made, and an instant that is a number.

    Raises:
        InvalidSnapshotError: says which is wrong.
    """
    for name, capacity in header.capacity.items():
        if not 0 <= int(blocks.state[name][0]) <= capacity:
            raise InvalidSnapshotError(path, f"is damaged: {int(blocks.state[name][0])} {name} where {capacity} fit")
    rows, as_of = int(blocks.state["rows"][0]), float(blocks.state["as_of"][0])
    if rows < header.rows:
        raise InvalidSnapshotError(path, f"is damaged: {rows} rows where {header.rows} were written")
    if not math.isfinite(as_of):
        raise InvalidSnapshotError(path, f"is damaged: as of {as_of}")


def check_content(path: Path, header: Header, blocks: Blocks, file: int) -> None:
    """Every byte as it was made; where rows were updated since, that everything points to something there is.

    Args:
        path: of the file, for the message.
        header: its header.
        blocks: its arrays.
        file: open for reading, at any place.

    Raises:
        InvalidSnapshotError: says what is wrong.
    """
    check_counts(path, header, blocks)
    checksum, at = 0, 2 * PAGE
    while chunk := os.pread(file, _CHUNK, at):  # not through the map: what nobody gathers stays out of memory
        checksum, at = zlib.crc32(chunk, checksum), at + len(chunk)
    updated = int(blocks.state["writes"][0])  # read after them: it is counted before a row is touched
    if updated and header.boot != boot():
        raise InvalidSnapshotError(path, "may be damaged: the machine stopped after rows had been updated")
    if checksum == header.checksum:
        return
    if not updated:
        raise InvalidSnapshotError(path, "has damaged rows: the checksum is wrong")
    _check_pointers(path, blocks)


def _check_pointers(path: Path, blocks: Blocks) -> None:
    """Rows of the index, entries of rows and ends of strings; while another process adds some: what points is read before what is there."""
    found = rows_in(blocks.index)
    rows = int(blocks.state["rows"][0])
    if len(found) and not 0 < found[0] <= found[-1] < rows:
        raise InvalidSnapshotError(path, f"is damaged: its index points to row {found[-1] if found[0] else 0}, it has {rows}")
    records = blocks.entries["rows"][:rows]
    for name in SHARED:
        last = int(records[name].max())
        if last >= int(blocks.state[name][0]):
            raise InvalidSnapshotError(path, f"is damaged: a row points to entry {last} of {name}, there are {int(blocks.state[name][0])}")
    for ends, count, text in (("id_ends", rows, "id_bytes"), ("name_ends", int(blocks.state["names"][0]), "name_bytes")):
        places = getattr(blocks, ends)[:count]
        if count and (int(places[-1]) > int(blocks.state[text][0]) or bool(np.any(places[1:] < places[:-1]))):
            raise InvalidSnapshotError(path, f"is damaged: its {ends} are out of order")
