"""Made-up outcomes and ads lists of the toolbox's tests: small, seeded, with a signal in one column."""

from __future__ import annotations

import numpy as np

from ranking.features import MODEL_COLUMNS
from training.toolbox.ads_data import Part
from training.toolbox.outcome import Outcome

SIGNAL, REPEAT, TIER = (MODEL_COLUMNS.index(name) for name in ("promo_rate_28d", "repeat_share", "tier_code"))


def part(seed: int, lists: int, length: int = 60, *, negatives_rate: float = 1.0) -> Part:
    """Lists in which positives follow two columns; with a rate, that share of the negatives only."""
    rng = np.random.default_rng(seed)
    n = lists * length
    x = rng.normal(size=(n, len(MODEL_COLUMNS))).astype(np.float32)
    tiers = rng.choice(3, n, p=(0.3, 0.5, 0.2)).astype(np.int8)
    repeat = rng.random(n) < 0.1
    x[:, SIGNAL] = rng.random(n) ** 2
    x[:, REPEAT] = np.where(repeat, rng.random(n), 0.0)
    x[:, TIER] = tiers
    chance = 1 / (1 + np.exp(-(4 * x[:, SIGNAL] + 3 * x[:, REPEAT] - 4.0 - 0.5 * tiers)))
    labels = (rng.random(n) < chance).astype(np.int8)
    kept = (labels == 1) | (rng.random(n) < negatives_rate)
    owners = np.repeat(np.arange(lists), length)[kept]
    offsets = np.searchsorted(owners, np.arange(lists + 1)).astype(np.int64)
    weeks = np.sort(rng.integers(0, 3, lists)).astype(np.int32)
    second = np.arange(lists) % 2 == 1
    households = np.arange(lists) // 2 * 2 + second
    return Part(x[kept], labels[kept], tiers[kept], repeat[kept], offsets, second, weeks, households, negatives_rate)


def parts(lists: int = 60) -> dict[str, Part]:
    """Every part of the ads data."""
    return {
        "train": part(1, 2 * lists, negatives_rate=0.5),
        "calibrate": part(2, 2 * lists, negatives_rate=0.5),
        "select": part(3, lists),
        "test": part(4, lists),
        "test_weeks": part(5, 2 * lists, negatives_rate=0.5),
    }


def outcome(
    method: str,
    gain: tuple[float, float, float] | None = None,
    *,
    kind: str = "member",
    data: str = "ads",
    seconds: float = 1.0,
    ne: float = 0.7,
    ratio: float = 1.0,
    curves: bool = True,
) -> Outcome:
    """One row; without a gain the plain method of its kind."""
    row = {"ndcg10": [0.3, 0.29, 0.31], "ne": [ne, ne - 0.01, ne + 0.01], "predicted_over_actual": [ratio, None, None]}
    if gain is not None:
        row["ndcg10_gain"] = list(gain)
    drawn = {
        "pr": [[0.1, 0.9], [0.5, 0.4], [1.0, 0.1]],
        "pr/tail": [[0.1, 0.5], [1.0, 0.05]],
        "calibration": [[0.001, 0.002], [0.1, 0.09]],
        "calibration/tail": [[0.001, 0.001]],
        "learning/loss": [[10, 0.5], [20, 0.4]],
        "classes": [[0, 1000, 500], [1, 10, 500]],
    }
    figures = {"all": row, "head": {"recall10": [0.4, 0.3, 0.5]}, "tail": {"recall10": [None, None, None]}}
    return Outcome(data, kind, method, figures, seconds, "" if gain is None else "plain", drawn if curves else {}, "a note & more")  # type: ignore[arg-type]
