"""What the generators draw: do they find every mode, can drawn rows be told from real ones, are they copies of what they saw?

On eight Gaussians, whose modes are known, and on the buyers among the online shop's visits, numbers and categories together. Knows the
generators' two losses and plainer ways to get more rows; that better rows make better models is for other benchmarks to show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray
from training.imbalance import samplers
from training.imbalance.columns import Columns, Encoder
from training.imbalance.gan import Loss, fit_generator
from training.release.evaluate import Row
from training.splits import stratified
from training.toolbox.binary import Measured, Yardstick, as_row
from training.toolbox.outcome import GAIN, Kind, Outcome
from training.toolbox.shoppers_data import read

MODES, BUYERS = "eight_gaussians", "online_shoppers_buyers"
RADIUS, DEVIATION = 2.0, 0.1
_DRAWN = 800
ON_MODES: dict[Loss, dict[str, Any]] = {
    "gan": {"steps": 3000},
    "wgan_gp": {"steps": 800, "penalty": 0.1, "learning_rate": 5e-4},  # the penalty of the paper's experiments in two dimensions
}
ON_BUYERS: dict[Loss, dict[str, Any]] = {
    "gan": {"steps": 3000, "learning_rate": 3e-4},
    "wgan_gp": {"steps": 1500, "learning_rate": 5e-4, "penalty": 1.0},
}


def measure(folder: Path, *, quick: bool = False, seed: int = 0) -> tuple[list[Outcome], dict[str, float]]:
    """Figures of both losses and of what they are held against.

    Args:
        folder: of the online shop's file.
        quick: a few steps: shows that everything runs, not what it draws.
        seed: of weights, noise and splits.

    Returns:
        Outcomes; ``generator_modes`` and ``generator_two_sample_auc`` of the Wasserstein generator.
    """
    outcomes = [*_modes(quick, seed), *_buyers(folder, quick, seed)]
    of = {(o.data, o.method): o for o in outcomes}
    modes, told = of[MODES, "wgan_gp"].figure("modes")[0], of[BUYERS, "wgan_gp"].figure("two_sample_auc")[0]
    assert modes is not None
    assert told is not None
    return outcomes, {"generator_modes": modes, "generator_two_sample_auc": told}


def _modes(quick: bool, seed: int) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    real = eight_gaussians(rng, 1000)
    wide = (real.mean(axis=0) + real.std(axis=0) * rng.normal(size=(_DRAWN, 2))).astype(np.float32)
    outcomes = [
        Outcome(MODES, "generator", "one_gaussian", {"all": _bare(covered(wide))}, 0.0, note="One wide Gaussian: no mode is found.")
    ]
    for loss, options in ON_MODES.items():
        start = time.perf_counter()
        generator = fit_generator(real, loss=loss, seed=seed + 1, noise=8, **options | ({"steps": 5} if quick else {}))
        drawn = generator.sample(_DRAWN, seed=seed + 2)
        row = _bare(covered(drawn) | {"equal_to_real": equal(drawn, real)})
        seconds = round(time.perf_counter() - start, 3)
        outcomes.append(Outcome(MODES, "generator", loss, {"all": row}, seconds, "one_gaussian"))
    return outcomes


def eight_gaussians(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """(count, 2) rows around eight centres on a circle."""
    noise = DEVIATION * rng.normal(size=(count, 2))
    return (centres()[rng.integers(0, 8, count)] + noise).astype(np.float32)


def centres() -> FloatArray:
    """(8, 2)."""
    angles = 2 * np.pi * np.arange(8) / 8
    out: FloatArray = RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return out


def covered(drawn: NDArray[np.float32]) -> dict[str, float]:
    """Modes that get at least twice what one wide Gaussian puts there, and the share of rows within three deviations of a mode."""
    near = np.linalg.norm(drawn[:, None] - centres(), axis=2) < 3 * DEVIATION  # (n, 8)
    variance = RADIUS**2 / 2 + DEVIATION**2
    wide = np.exp(-(RADIUS**2) / (2 * variance)) / (2 * np.pi * variance) * np.pi * (3 * DEVIATION) ** 2
    return {"modes": float((near.mean(axis=0) >= 2 * wide).sum()), "near_a_mode": float(near.any(axis=1).mean())}


def _buyers(folder: Path, quick: bool, seed: int) -> list[Outcome]:
    visits = read(folder)
    rows = visits.rows[visits.labels == 1]
    order = np.random.default_rng(seed).permutation(len(rows))
    third = len(rows) // 3
    seen, unseen, others = (rows[order[k * third : (k + 1) * third]] for k in range(3))
    outcomes: list[Outcome] = []
    noise: Measured | None = None
    for name, (draw, note) in (
        ways(visits.columns, quick=quick) | {"real": (lambda *_: others, "Buyers that nothing was fitted to.")}
    ).items():
        start = time.perf_counter()
        drawn = draw(seen, third, seed)
        seconds = round(time.perf_counter() - start, 3)
        row, told = figures(seen, unseen, drawn, visits.columns, noise)
        noise = told if noise is None else noise
        kind: Kind = "rule" if name == "real" else "generator"  # nothing generates real rows: they are the yardstick
        outcomes.append(Outcome(BUYERS, kind, name, {"all": row}, seconds, "" if name == "noise" else "noise", note=note))
    return outcomes


Draw = Callable[[NDArray[np.float32], int, int], NDArray[np.float32]]
"""``(rows seen, how many to draw, seed) -> rows``"""


def ways(columns: Columns, *, quick: bool) -> dict[str, tuple[Draw, str]]:
    """Ways to get more rows, noise first, each with what a reader must know."""

    def noise(seen: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
        rng = np.random.default_rng(seed)
        return np.stack([rng.choice(seen[:, c], count) for c in range(seen.shape[1])], axis=1)

    def smote(seen: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
        # the resampler wants both classes: as many rows of the other one as brings `count` new ones
        rest = np.repeat(seen[:1], count + len(seen), axis=0)
        labels = np.repeat(np.array([1, 0], np.int8), [len(seen), len(rest)])
        return samplers.smote(samplers.Rows(np.concatenate([seen, rest]), labels, 1.0, seed, columns)).made

    def generator(loss: Loss) -> Draw:
        options = ON_BUYERS[loss] | ({"steps": 5} if quick else {})
        return lambda seen, count, seed: fit_generator(seen, columns, loss=loss, seed=seed, **options).sample(count, seed=seed + 1)

    return {
        "noise": (noise, "Every column drawn by itself: right columns, wrong rows."),
        "smote": (smote, "Points between neighbours, so near to what was seen."),
        "gan": (generator("gan"), "The original loss."),
        "wgan_gp": (generator("wgan_gp"), "Wasserstein with gradient penalty."),
    }


def figures(
    seen: NDArray[np.float32], unseen: NDArray[np.float32], drawn: NDArray[np.float32], columns: Columns, noise: Measured | None = None
) -> tuple[Row, Measured]:
    """How drawn rows compare with real rows that nothing was fitted to.

    Args:
        seen: (n, d) rows that the drawn ones were made from.
        unseen: (m, d) real rows besides.
        drawn: (k, d).
        columns: their kinds.
        noise: what a classifier made of noise: adds the gain over it.

    Returns:
        ``two_sample_auc``, with which a classifier tells drawn from unseen rows, .5: not at all (Lopez-Paz and Oquab 2017);
        ``distance_ratio``, of the median distance to the nearest seen row, drawn over unseen: far below 1 means copies; and
        ``equal_to_real``, the share of drawn rows that are seen rows. With the classifier's figures, for the next call.
    """
    told = told_apart(unseen, drawn)
    auc = told.draws["auc"]
    encoder = Encoder(seen, columns)
    near, usual = (float(np.median(_nearest(encoder.encode(rows), encoder.encode(seen)))) for rows in (drawn, unseen))
    row = {"two_sample_auc": as_row(auc)} | _bare({"distance_ratio": near / usual, "equal_to_real": equal(drawn, seen)})
    if noise is not None:
        row["likeness" + GAIN] = as_row(np.abs(noise.draws["auc"] - 0.5) - np.abs(auc - 0.5))
    return row, told


def told_apart(real: NDArray[np.float32], drawn: NDArray[np.float32]) -> Measured:
    """A boosted classifier of drawn (1) against real rows (0), out of fold."""
    from lightgbm import LGBMClassifier

    x, y = np.concatenate([real, drawn]), np.repeat(np.array([0, 1], np.int8), [len(real), len(drawn)])
    folds = stratified(np.arange(len(y)), y, (1, 1)).astype(np.int64)
    p = np.empty(len(y))
    for k in (0, 1):
        model = LGBMClassifier(n_estimators=60, num_leaves=15, n_jobs=1, verbose=-1, random_state=0)
        p[folds == k] = np.asarray(model.fit(x[folds != k], y[folds != k]).predict_proba(x[folds == k]))[:, 1]
    return Yardstick(y, folds).measure(p)


def equal(drawn: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    """Share of drawn rows that are real rows, bit for bit."""
    known = {row.tobytes() for row in real}
    return float(np.mean([row.tobytes() in known for row in drawn]))


def _nearest(rows: NDArray[np.float32], to: NDArray[np.float32]) -> FloatArray:
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=1).fit(to).kneighbors(rows)
    return np.asarray(distances[:, 0], np.float64)


def _bare(values: dict[str, float]) -> Row:
    """Values without ends."""
    return {name: [round(value, 5), None, None] for name, value in values.items()}
