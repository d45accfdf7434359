"""Members that are boosted trees: one scorer around a LightGBM booster, four ways of training it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.members import trees
from training.members.contract import Rows


@dataclass(frozen=True, slots=True)
class Boosted:
    """A booster whose raw output, moved by `shift`, is the score."""

    booster: Any
    log_odds: bool = True
    shift: float = 0.0
    threads: int = 1

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) scores of (n, d) rows."""
        return trees.predict(self.booster, features, threads=self.threads) + self.shift

    def to_onnx(self, *, offset: float, columns: int) -> bytes:
        """As `training.members.contract.Exportable` says."""
        return trees.to_onnx(self.booster, offset=self.shift + offset, columns=columns)

    def to_text(self, *, offset: float) -> str:
        """As `training.members.contract.Explainable` says."""
        return trees.to_text(self.booster, offset=self.shift + offset)


def boosting(rows: Rows, *, seed: int, threads: int, learning_rate: float = 0.05, leaves: int = 31, rounds: int = 150) -> Boosted:
    """Log loss; see `training.members.trees.train`."""
    weights = rows.weights if rows.weighted else None
    booster = trees.train(
        rows.features,
        rows.labels,
        weights=weights,
        learning_rate=learning_rate,
        leaves=leaves,
        rounds=rounds,
        seed=seed,
        threads=threads,
        again=rows.again,
    )
    return Boosted(booster, threads=threads)


def boosting_weighted(
    rows: Rows, *, seed: int, threads: int, learning_rate: float = 0.05, leaves: int = 31, rounds: int = 150, balance: float = 1.0
) -> Boosted:
    """Log loss in which positives weigh more, and the log-odds that this adds taken off again.

    Args:
        rows: training rows.
        seed: of boosting.
        threads: of LightGBM.
        learning_rate: step.
        leaves: per tree.
        rounds: trees.
        balance: 1 weighs both classes alike, 0 leaves the rows as they are; a positive weighs (negatives per positive)^balance.
    """
    if not 0.0 <= balance <= 1.0:
        raise ValueError(f"boosting_weighted.balance: must be in [0, 1], got {balance}")
    heavier = max(rows.negatives_per_positive, 1.0) ** balance
    booster = trees.train(
        rows.features,
        rows.labels,
        weights=np.where(rows.labels == 1, rows.weights * np.float32(heavier), rows.weights),
        learning_rate=learning_rate,
        leaves=leaves,
        rounds=rounds,
        seed=seed,
        threads=threads,
        again=rows.again,
    )
    return Boosted(booster, shift=-float(np.log(heavier)), threads=threads)


def bagging(
    rows: Rows, *, seed: int, threads: int, learning_rate: float = 0.05, leaves: int = 31, rounds: int = 150, bags: int = 4
) -> Boosted:
    """The mean log-odds of boosters, each trained on as many rows drawn with replacement (Breiman 1996).

    The mean is itself one booster of all their trees, so it is exported and explained like one.

    Args:
        rows: training rows.
        seed: of the draws and of boosting.
        threads: of LightGBM.
        learning_rate: step.
        leaves: per tree.
        rounds: trees of one booster.
        bags: boosters.
    """
    if bags < 1:
        raise ValueError(f"bagging.bags: must be at least 1, got {bags}")
    rng, boosters = np.random.default_rng(seed), []
    for bag in range(bags):
        # Each class by itself: with few positives a free draw may leave none.
        drawn = np.concatenate([rng.choice(of, len(of)) for label in (0, 1) for of in [np.flatnonzero(rows.labels == label)]])
        boosters.append(
            trees.train(
                rows.features[drawn],
                rows.labels[drawn],
                weights=rows.weights[drawn],
                learning_rate=learning_rate,
                leaves=leaves,
                rounds=rounds,
                seed=seed + bag,
                threads=threads,
            )
        )
    return Boosted(trees.mean(boosters), threads=threads)


def lambdarank(
    rows: Rows, *, seed: int, threads: int, learning_rate: float = 0.05, leaves: int = 31, rounds: int = 150, depth: int = 30
) -> Boosted:
    """LambdaMART (Burges 2010): pairs of one list, weighted by what swapping them changes in NDCG. Its scores only order.

    Args:
        rows: training rows, each in a list.
        seed: of boosting.
        threads: of LightGBM.
        learning_rate: step.
        leaves: per tree.
        rounds: trees.
        depth: places of the list that pairs start from (LightGBM's truncation level).
    """
    order = np.argsort(rows.lists, kind="stable")
    sizes = np.unique(rows.lists, return_counts=True)[1]
    booster = trees.train(
        rows.features[order],
        rows.labels[order],
        weights=rows.weights[order] if rows.weighted else None,
        learning_rate=learning_rate,
        leaves=leaves,
        rounds=rounds,
        seed=seed,
        threads=threads,
        sizes=sizes,
        depth=depth,
        again=rows.again,
    )
    return Boosted(booster, log_odds=False, threads=threads)
