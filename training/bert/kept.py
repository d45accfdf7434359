"""What trainings of the benchmark gave, on disk: a part that is stopped goes on where it was. Knows no part."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from training.artefacts import write_text
from training.bert.data import Pairs
from training.stage import key_of, source_files

_CODE = tuple(
    f"training/bert/{name}.py" for name in ("data", "encoder", "fit", "fusion", "heads", "lists", "masked", "model", "segments", "tuning")
)
"""What decides a training's result beside its inputs: figures of other code are not used."""


class Kept:
    """Results by their inputs, a file each."""

    def __init__(self, folder: Path | None = None) -> None:
        """Args:
        folder: of the files, made when needed; None: nothing is kept.
        """
        self._folder = folder

    def __call__(self, inputs: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What these inputs gave before, or what `make` gives now; anything JSON can say, NaN too."""
        if self._folder is None:
            return make()
        path = self._folder / f"{key_of(inputs, source_files(*_CODE))}.json"
        if not path.is_file():
            write_text(path, json.dumps(make()) + "\n")
        return dict(json.loads(path.read_text()))


NOTHING = Kept()


def digest(pairs: Pairs) -> str:
    """32 hex digits over the texts' ids, the lists and the labels: other data of the same size are other inputs."""
    found = blake2b(np.concatenate([*pairs.first, *pairs.second, [0]]).astype(np.int64).tobytes(), digest_size=16)
    for part in (pairs.offsets.astype(np.int64), *(pairs.labels[name].astype(np.float32) for name in sorted(pairs.labels))):
        found.update(part.tobytes())
    return found.hexdigest()
