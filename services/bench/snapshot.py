"""A part of `longtail bench features`: a snapshot of a million generated items, read by four processes at once.

`million_items_*` has 32 float features, token ids and groups, and no taste vectors; `million_items_taste_*` is the platform's own schema.
Both have as many equal texts and equal groups, and the second as many tastes, as the demo's catalogue has.
Resident memory is that of the mapped file, counted once: the sum of each process' proportional share (PSS). What a process has besides,
Python and numpy, is told as `…_private_mb`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from ranking.assemble import ItemFeatures
from ranking.layout import Layout
from services.snapshot.layout import ITEMS, Format
from services.snapshot.snapshot import Snapshot
from services.snapshot.writer import Writer

PROCESSES = 4
LIST = 500
WANTED: dict[str, tuple[str, float]] = {
    "million_items_rss_mb": ("<=", 250.0),
    "million_items_gather500_us": ("<=", 100.0),
    "million_items_open_ms": ("<=", 1000.0),
}
_FLOATS = 32
_WIDE = Format("bench", replace(ITEMS.blank, scalars=np.zeros((1, _FLOATS), np.float32)))
_SHARES = {"texts": 0.22, "groups": 0.18, "tastes": 0.36}  # distinct ones per item in the demo's catalogue of 92,348
_FORMS = {"": _WIDE, "taste_": ITEMS}


def figures(_layout: Layout, quick: bool) -> dict[str, float]:
    """Figures by name; `quick`: a fiftieth of the items, under the same names."""
    n, rounds = (20_000, 50) if quick else (1_000_000, 3000)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="longtail-bench-") as folder:
        for name, form in _FORMS.items():
            path = Path(folder) / f"{name}items"
            start = time.perf_counter()
            with Writer(path, form) as writer:
                features, times = _generated(n, form, _SHARES if form is ITEMS else _SHARES | {"tastes": 0.0})
                writer.build(_ids(np.arange(n)), features, times, {}, as_of=0.0)
            del features, times
            found |= {f"million_items_{name}{key}": value for key, value in _measured(path, name, n, rounds).items()}
            found[f"million_items_{name}build_s"] = time.perf_counter() - start
            found[f"million_items_{name}file_mb"] = path.stat().st_size / 1e6
    return found


def _measured(path: Path, name: str, n: int, rounds: int) -> dict[str, float]:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # open it from the disk
    command = [sys.executable, "-m", "services.bench.snapshot", str(path), name, str(n), str(rounds)]
    readers: list[subprocess.Popen[str]] = []
    try:
        told = []
        for _ in range(PROCESSES):  # one opens after the other, so that the first one's open is cold and nobody waits for it
            readers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            told.append(_line(readers[-1]))
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write("go\n")
            reader.stdin.flush()
        gathered = [_line(reader) for reader in readers]
        shares = [_memory(reader.pid, path) for reader in readers]
    finally:
        for reader in readers:
            reader.communicate()  # its input ends, and so does it
    return {
        "rss_mb": sum(mapped for mapped, _ in shares),
        "private_mb": float(np.mean([private for _, private in shares])),
        "gather500_us": float(np.median([g["alone_us"] for g in told])),
        "gather500_crowd_us": float(np.median([g["us"] for g in gathered])),  # all four at once, on the machine's cores
        "open_ms": told[0]["open_ms"],
        "open_again_ms": float(np.median([g["open_ms"] for g in told[1:]])),
    }


def _line(reader: subprocess.Popen[str]) -> dict[str, float]:
    assert reader.stdout is not None
    line = reader.stdout.readline()
    if not line:
        raise RuntimeError("a reading process ended before it said anything")
    return dict(json.loads(line))


def _memory(pid: int, path: Path) -> tuple[float, float]:
    """Proportional share of the mapped file, and private memory besides it, in MB."""
    mapped = private = 0
    ours = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, _, rest = line.partition(":")
        if "-" in key.split(" ")[0]:
            ours = line.endswith(str(path))
        elif key == "Pss" and ours:
            mapped += int(rest.split()[0])
        elif key in ("Private_Clean", "Private_Dirty") and not ours:
            private += int(rest.split()[0])
    return mapped * 1024 / 1e6, private * 1024 / 1e6


def _read(path: Path, form: Format, n: int, rounds: int) -> None:
    """One reading process: opens, gathers, says how long it took; gathers with the others when told to; waits until its input ends."""
    start = time.perf_counter()
    snapshot = Snapshot.open(path, form)
    snapshot.gather(_ids(np.arange(1)))
    opened = 1e3 * (time.perf_counter() - start)
    print(json.dumps({"open_ms": opened, "alone_us": _median_us(snapshot, n, rounds)}), flush=True)
    sys.stdin.readline()
    print(json.dumps({"us": _median_us(snapshot, n, rounds)}), flush=True)
    sys.stdin.read()


def _median_us(snapshot: Snapshot, n: int, rounds: int) -> float:
    rng = np.random.default_rng(os.getpid())
    took = []
    for _ in range(rounds):
        wanted = _ids(rng.integers(0, n, LIST))
        start = time.perf_counter()
        *_, known = snapshot.gather(wanted)
        took.append(time.perf_counter() - start)
        assert known.all()
    return 1e6 * float(np.median(took))


def _ids(numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[str]:
    return [str(10_000_000 + 7 * i) for i in numbers.tolist()]


def _generated(n: int, form: Format, shares: dict[str, float]) -> tuple[ItemFeatures, np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """A catalogue with so many distinct texts, groups and tastes per item."""
    rng = np.random.default_rng(0)
    text, group = (rng.permutation(np.arange(n) % max(int(n * shares[k]), 1)) for k in ("texts", "groups"))
    tokens = rng.integers(1, 30_522, (int(text.max()) + 1, form.blank.token_ids.shape[1]), np.int32)
    has_taste = rng.random(n) < shares["tastes"]
    taste = np.zeros((n, form.blank.taste.shape[1]), np.float32)
    taste[has_taste] = rng.standard_normal((int(has_taste.sum()), taste.shape[1]), np.float32)
    features = ItemFeatures(
        keys=rng.integers(1, 2**62, n),
        scalars=rng.standard_normal((n, form.blank.scalars.shape[1]), np.float32),
        tiers=rng.integers(0, 3, n).astype(np.int8),
        category_keys=1 + group % 300,
        type_keys=1 + group % 3000,
        maker_keys=1 + group,
        taste=taste,
        taste_at=np.where(has_taste, 1_700_000_000, 0),
        token_ids=tokens[text],
        text_digests=1 + text,
        attribute_keys=1 + np.stack([group % 5000, group, group % 300, group % 20], axis=1)[:, : form.blank.attribute_keys.shape[1]],
    )
    times = np.full((form.views, n), 1_700_000_000.0)
    times[-1, ~has_taste] = np.nan
    return features, times


if __name__ == "__main__":
    _read(Path(sys.argv[1]), _FORMS[sys.argv[2]], int(sys.argv[3]), int(sys.argv[4]))
