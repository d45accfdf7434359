"""One ensemble from one configuration: resample, train the trees, calibrate the members, blend. No search, no I/O.

`fit` is what a trial runs and what the winner is made with; `objective` turns a configuration into the numbers a search
compares. Neither knows Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.blend import Blended, BlendSpec, blend
from ranking.calibrate import logit
from ranking.types import TIERS
from training.blends.calibrators import CALIBRATORS, fit_platt
from training.imbalance.resample import resample
from training.members import trees

TREES, TEXT = "trees", "bert"
MEMBERS = (TREES, TEXT)
DEFAULT: dict[str, Any] = {
    "resampler": "none",
    "strength": 0.1,
    "negatives_rate": 0.03,
    "learning_rate": 0.05,
    "leaves": 31,
    "calibrator": "platt",
    "text_weight_head": 0.1,
    "text_weight_tail": 0.2,
    "text_weight_new": 0.4,
}
"""What one would choose without a search."""
TREES_ALONE: dict[str, Any] = DEFAULT | {f"text_weight_{tier}": 0.0 for tier in TIERS}
"""The same without the text member: what the text has to beat."""


@dataclass(frozen=True, slots=True)
class TrainRows:
    """Training rows: all positives and a known share of the negatives, from training weeks only."""

    features: NDArray[np.float32]  # (n, d)
    labels: NDArray[np.int8]  # (n,)
    negatives_rate: float  # share of the negatives kept


@dataclass(frozen=True, slots=True)
class EvalLists:
    """Whole validation or test lists as a gateway would get them: never resampled."""

    features: NDArray[np.float32]  # (N, d)
    labels: NDArray[np.int8]  # (N,)
    tiers: NDArray[np.int8]  # (N,) codes into TIERS
    text_logits: NDArray[np.float64]  # (N,) BERT's log-odds, NaN without text
    offsets: NDArray[np.int64]  # (L + 1,)
    ideal_positives: NDArray[np.int64]  # (L,) positives of the list before retrieval cut it

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lists(self, which: NDArray[Any]) -> EvalLists:
        """The lists at `which`, (l,) indices."""
        spans = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in which]
        rows = np.concatenate(spans) if spans else np.empty(0, np.int64)
        lengths = [len(s) for s in spans]
        return EvalLists(
            self.features[rows],
            self.labels[rows],
            self.tiers[rows],
            self.text_logits[rows],
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            self.ideal_positives[which],
        )


@dataclass(frozen=True, slots=True)
class EnsembleData:
    """What every trial of one surface shares."""

    train: TrainRows
    calibrate: EvalLists  # validation lists that calibrators are fitted on
    select: EvalLists  # the other validation lists, on which configurations are compared


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained ensemble."""

    booster: Any
    offset: float  # added to the booster's log-odds
    spec: BlendSpec

    def logits(self, lists: EvalLists, threads: int = 2) -> NDArray[np.float64]:
        """(m, N) members' log-odds, rows as in `spec.members`."""
        return np.stack([trees.predict(self.booster, lists.features, threads=threads) + self.offset, lists.text_logits])

    def blend(self, lists: EvalLists, threads: int = 2) -> Blended:
        return blend(self.spec, self.logits(lists, threads), lists.tiers)


def fit(config: Mapping[str, Any], data: EnsembleData, seed: int, *, threads: int = 2) -> Fitted:
    """Train and calibrate the ensemble a configuration describes.

    Args:
        config: ``resampler`` (name), ``strength`` (positives per negative after resampling), ``negatives_rate`` (≤ the
            rows' own), ``learning_rate``, ``leaves``, ``rounds``, ``calibrator`` (name), ``text_weight_head|tail|new`` (BERT's share of the
            blend per popularity tier, in [0, 1]).
        data: shared rows and lists.
        seed: of sampling and boosting.
        threads: of LightGBM.
    """
    x, y, kept = _keep(data.train, float(config["negatives_rate"]), seed)
    rows = resample(config["resampler"], x, y, strength=float(config["strength"]), seed=seed)
    booster = trees.train(
        rows.features,
        rows.labels,
        weights=rows.weights,
        learning_rate=float(config["learning_rate"]),
        leaves=int(config["leaves"]),
        rounds=int(config["rounds"]),
        seed=seed,
        threads=threads,
    )
    offset = rows.offset + float(np.log(kept))
    weights = {t: (1.0 - w, w) for t in TIERS for w in [float(config[f"text_weight_{t}"])]}
    labels = data.calibrate.labels
    raw = trees.predict(booster, data.calibrate.features, threads=threads) + offset
    calibrate = CALIBRATORS[config["calibrator"]]
    calibrators = (calibrate(raw, labels), calibrate(data.calibrate.text_logits, labels))
    draft = Fitted(booster, offset, BlendSpec(MEMBERS, weights, calibrators))
    final = fit_platt(logit(draft.blend(data.calibrate, threads).probabilities), labels)
    return replace(draft, spec=replace(draft.spec, final=final))


def objective(config: Mapping[str, Any], data: EnsembleData, seed: int, *, threads: int = 2) -> dict[str, float]:
    """Validation metrics of one configuration: higher `ndcg10` is better, `ne` lower, `predicted_over_actual` nearer 1."""
    fitted = fit(config, data, seed, threads=threads)
    lists = data.select
    p = fitted.blend(lists, threads).probabilities
    return {
        "ndcg10": float(np.nanmean(ndcg(p, lists))),
        "ne": metrics.normalized_entropy(p, lists.labels),
        "predicted_over_actual": metrics.predicted_over_actual(p, lists.labels),
        "tail_share10": float(tail_share(p, lists).mean()),
    }


def per_list(metric: Callable[[NDArray[np.float64], slice], float], scores: NDArray[np.float64], lists: EvalLists) -> NDArray[np.float64]:
    """(L,) metric(scores of the list, its rows) for every list."""
    spans = [slice(int(a), int(b)) for a, b in pairwise(lists.offsets)]
    return np.array([metric(scores[span], span) for span in spans])


def ndcg(scores: NDArray[np.float64], lists: EvalLists, k: int = 10) -> NDArray[np.float64]:
    """(L,) NDCG@k against all positives of the uncut list; NaN for a list without any."""
    ideals = iter(lists.ideal_positives)
    return per_list(
        lambda s, span: metrics.ndcg_at_k(s, lists.labels[span].astype(np.float64), k=k, ideal_gains=np.ones(next(ideals))), scores, lists
    )


def tail_share(scores: NDArray[np.float64], lists: EvalLists, k: int = 10) -> NDArray[np.float64]:
    """(L,) share of the first k places that tail and new items hold."""
    return per_list(lambda s, span: 1.0 - metrics.group_share_at_k(s, lists.tiers[span], group=0, k=k), scores, lists)


def _keep(rows: TrainRows, rate: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int8], float]:
    """Thin the negatives from the rows' own rate to `rate`."""
    if not 0.0 < rate <= rows.negatives_rate:
        raise ValueError(f"negatives_rate: must be in (0, {rows.negatives_rate:g}], the share the training rows kept; got {rate:g}")
    share = rate / rows.negatives_rate
    if share == 1.0:
        return rows.features, rows.labels, rate
    kept = (rows.labels == 1) | (np.random.default_rng(seed).random(len(rows.labels)) < share)
    return rows.features[kept], rows.labels[kept], rate
