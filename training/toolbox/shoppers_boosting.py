"""The plain model of the online shop and its relatives: LightGBM that reads categories as such.

It is told what cannot be: that page values speak against a purchase, or leaving for one. Knows arrays, no fold and no figure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.toolbox.shoppers_data import Sessions, for_trees, monotone, one_hot

ROUNDS = 240
GRID: tuple[dict[str, Any], ...] = (
    {"num_leaves": 24, "max_depth": 5, "min_data_in_leaf": 40, "feature_fraction": 0.5, "lambda_l2": 5.0},
    {"num_leaves": 15, "min_data_in_leaf": 20, "feature_fraction": 0.5, "lambda_l2": 5.0},
    {"num_leaves": 8, "min_data_in_leaf": 60, "feature_fraction": 0.4, "lambda_l2": 5.0, "path_smooth": 10.0},
    {"num_leaves": 31, "min_data_in_leaf": 50, "feature_fraction": 0.3, "lambda_l2": 10.0},
)
"""What is tried on inner folds; the first is the setting where nothing is tuned."""


def fit(
    rows: NDArray[np.float32],
    labels: NDArray[Any],
    *,
    weights: NDArray[np.float32] | None = None,
    seed: int = 0,
    seeds: int = 1,
    rounds: int = ROUNDS,
    setting: dict[str, Any] | None = None,
    **more: Any,
) -> list[Any]:
    """Boosters that differ by seed only.

    Args:
        rows: (n, 17) raw columns.
        labels: (n,).
        weights: (n,) of the rows.
        seed: of the first booster.
        seeds: boosters.
        rounds: trees of each.
        setting: one of `GRID`.
        more: further LightGBM parameters.
    """
    import lightgbm

    x, categories = for_trees(rows)
    fixed = {"objective": "binary", "learning_rate": 0.03, "bagging_fraction": 0.7, "bagging_freq": 1, "min_sum_hessian_in_leaf": 2.0}
    known = {"monotone_constraints": monotone(), "monotone_constraints_method": "advanced"}
    quiet = {"verbose": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}
    chosen = fixed | known | quiet | (setting or GRID[0]) | more
    data = lightgbm.Dataset(x, labels, weight=weights, categorical_feature=categories, free_raw_data=False, params={"verbose": -1})
    return [lightgbm.train(chosen | {"seed": seed + k}, data, rounds) for k in range(seeds)]


def log_odds(boosters: list[Any], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) mean log-odds of the boosters."""
    x, _ = for_trees(rows)
    scores: NDArray[np.float64] = np.mean([booster.predict(x, raw_score=True, num_threads=1) for booster in boosters], axis=0)
    return scores


def tuned(train: Sessions, *, seed: int, rounds: int = ROUNDS, folds: int = 3) -> dict[str, Any]:
    """The setting of `GRID` with the least log loss on inner folds of the training rows."""
    from sklearn.model_selection import StratifiedKFold

    from ranking.calibrate import sigmoid
    from ranking.metrics import log_loss

    inner = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(train.rows, train.labels))
    losses = []
    for setting in GRID:
        scores = np.empty(len(train))
        for kept, held in inner:
            scores[held] = log_odds(fit(train.rows[kept], train.labels[kept], seed=seed, rounds=rounds, setting=setting), train.rows[held])
        losses.append(log_loss(sigmoid(scores), train.labels))
    return GRID[int(np.argmin(losses))]


def extra_trees(train: Sessions, test: NDArray[np.float32], *, hot: bool, seed: int, trees: int = 150) -> NDArray[np.float64]:
    """Extremely randomised trees (Geurts et al. 2006): they err elsewhere than boosting does.

    Args:
        train: visits.
        test: (m, 17) raw rows to score.
        hot: categories as one column each; else as codes, which random cuts split just as well.
        seed: of the cuts.
        trees: that vote.

    Returns:
        (m,) log-odds of the share of votes.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    from ranking.calibrate import logit

    x, y = ((one_hot(rows, train.levels) if hot else for_trees(rows)[0]) for rows in (train.rows, test))
    model = ExtraTreesClassifier(trees, min_samples_leaf=3, max_features=0.4, n_jobs=2, random_state=seed).fit(x, train.labels)
    even = 1e-4  # a share of votes is kept that far from 0 and 1
    return logit(np.clip(model.predict_proba(y)[:, 1], even, 1 - even))
