"""Small made-up ensembles: two informative columns, one of which only the text member sees."""

from __future__ import annotations

import numpy as np

from ranking.features import MODEL_COLUMNS
from training.lists.arrays import EnsembleData, EvalLists, TrainRows

D = len(MODEL_COLUMNS)


def _rows(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = rng.normal(size=(n, D)).astype(np.float32)
    hidden = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-(1.5 * x[:, 0] + hidden - 3)))).astype(np.int8)
    return x, y, hidden - 3


def lists(rng: np.random.Generator, count: int, length: int = 40) -> EvalLists:
    x, y, hidden = _rows(rng, count * length)
    offsets = np.arange(count + 1, dtype=np.int64) * length
    tiers = rng.integers(0, 3, count * length).astype(np.int8)
    given = {"bert": hidden, "bm25": hidden + rng.normal(size=len(hidden)) + 5}
    return EvalLists(x, y, tiers, given, offsets, np.add.reduceat(y.astype(np.int64), offsets[:-1]), np.arange(count) // 2)


def ensemble_data(seed: int = 0, rows: int = 4000) -> EnsembleData:
    rng = np.random.default_rng(seed)
    x, y, _ = _rows(rng, rows)
    of = np.arange(rows) // 20
    return EnsembleData(TrainRows(x, y, 0.5, of, of // 2), lists(rng, 30), lists(rng, 30))
