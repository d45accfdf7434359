"""What members were found to score, kept on disk, so that no trial of a search trains a member that an earlier trial has trained alike.

A grid over blends and calibrators trains each member once; a sampler that draws its rates anew meets again those members that have none,
and the rows that no resampler touched. A kept file is named by a digest of all that its scores follow from, begins with a digest of its
own bytes, and is there whole or not at all: what a dead process or a full disk left is made again. While one process makes scores the
others that want the same wait for it; the lock is the kernel's, and goes with its process.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.blends.ensemble import Scores, objective
from training.lists.arrays import EnsembleData
from training.search.claim import alone

log = logging.getLogger(__name__)
FOLDER = "fits"
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Fits:
    """Scores by what they follow from, see `training.blends.ensemble.Fits`.

    Attributes:
        folder: of the search; nothing in it is of use when the search has ended.
        data: digest of the data all trials share.
    """

    folder: Path
    data: str

    def __call__(self, what: Mapping[str, Any], make: Callable[[], Scores]) -> Scores:
        """The scores that were kept, or those made now."""
        said = json.dumps({"data": self.data, **what}, sort_keys=True)  # floats as they are read back, to the bit
        home = self.folder / hashlib.sha256(said.encode()).hexdigest()[:32]
        found = _read(home / "scores")
        if found is None:
            with alone(home):
                found = _read(home / "scores")  # who held the lock may have made them
                if found is None:
                    found = make()
                    try:
                        _write(home / "scores", found)
                    except OSError as wrong:  # a full disk costs the next trial a training, and not this one its figures
                        log.warning("scores not kept: %s", wrong)
        return found


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial of the ensemble stage, of one rung, as `training.search.tuning.Steps` says."""

    fits: Fits | None = None

    def __call__(
        self, config: Mapping[str, Any], data: EnsembleData, seed: int, folder: Path, seen: int
    ) -> Iterator[tuple[dict[str, float], bool]]:
        yield objective(config, data, seed, threads=1, fits=self.fits), True


def _read(file: Path) -> Scores | None:
    """None: not there, or not what was written."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    said, arrays = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(arrays).digest() != said:
        return None
    with np.load(io.BytesIO(arrays), allow_pickle=False) as stored:
        return tuple(stored[f"{i}"] for i in range(len(stored.files)))


def _write(file: Path, scores: Scores) -> None:
    """Not synced to the disk: after a power cut the digest tells, and making it again costs what not keeping it would have."""
    made = io.BytesIO()
    np.savez(made, **{f"{i}": array for i, array in enumerate(scores)})
    handle, beside = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(hashlib.sha256(made.getvalue()).digest() + made.getvalue())
        Path(beside).replace(file)
    finally:
        Path(beside).unlink(missing_ok=True)
