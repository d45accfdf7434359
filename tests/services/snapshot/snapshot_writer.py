"""A process that writes a snapshot without end: `python -m tests.services.snapshot.snapshot_writer FILE MODE`.

`put` overwrites the rows of `IDS` one after the other, `build` the whole file again and again, `torn` dies in the middle of a row. Every
row has one number everywhere, and a later one a later event time.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path

import numpy as np

from services.snapshot.writer import Writer
from tests.services.snapshot.catalogue import at, marked

IDS = [f"i{i}" for i in range(40)]


def main(path: Path, mode: str) -> None:
    with Writer(path) as writer:
        if writer.snapshot is None:
            writer.build(IDS, marked(IDS, 0), at(0.0, len(IDS)), {}, as_of=0.0)
        print("ready", flush=True)
        if mode == "torn":
            stop_within_a_row(writer)
        for turn in itertools.count(1):
            items, times = marked(IDS, turn % 100), at(float(turn), len(IDS))
            if mode == "build":
                writer.build(IDS, items, times, {}, as_of=float(turn))
            else:
                for i in range(len(IDS)):
                    writer.put(IDS[i : i + 1], items.take(np.array([i])), times[:, [i]], {})


def stop_within_a_row(writer: Writer) -> None:
    """Die as the first row is half written."""
    write = writer._write_row

    def half(row: int, record: np.ndarray) -> None:
        rows = writer._blocks().entries["rows"]
        rows["version"][row] |= 1
        rows["scalars"][row] = record["scalars"][0]
        os.kill(os.getpid(), signal.SIGKILL)
        write(row, record)

    writer._write_row = half  # type: ignore[method-assign]
    writer.put(IDS[:1], marked(IDS[:1], 5), at(5.0, 1), {})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
