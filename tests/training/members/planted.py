"""Rows in which every member can find something: one common cause, and the columns that the rules read."""

from __future__ import annotations

import numpy as np

from ranking.features import MODEL_COLUMNS
from training.members.contract import Rows

CAUSES = ("promo_rate_28d", "repeat_share", "category_share", "discovery")
QUICK = {
    "adaboost": {"rounds": 15},
    "bagging": {"rounds": 10, "bags": 3},
    "boosting": {"rounds": 20},
    "boosting_weighted": {"rounds": 20},
    "lambdarank": {"rounds": 20},
    "balanced_bagging": {"bags": 5},
    "rusboost": {"rounds": 15},
    "easy_ensemble": {"bags": 3, "rounds": 5},
    "neural": {"epochs": 4, "hidden": (16,), "batch": 32, "learning_rate": 1e-2},
}
"""Options that make each member quick."""


def planted(lists: int = 40, length: int = 20, seed: int = 0) -> Rows:
    """Lists of 20, about two in ten positive, odds rising with the sum of the rules' columns."""
    rng = np.random.default_rng(seed)
    n = lists * length
    x = rng.normal(size=(n, len(MODEL_COLUMNS))).astype(np.float32)
    columns = [MODEL_COLUMNS.index(c) for c in CAUSES if c in MODEL_COLUMNS]
    x[:, columns] = rng.gamma(1.0, 1.0, (n, len(columns))).astype(np.float32)
    x[rng.random(n) < 0.1, 0] = np.nan  # a column that is not always known
    z = 1.5 * x[:, columns].sum(axis=1) - 8
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.int8)
    return Rows.of(x, y, np.arange(n) // length)
