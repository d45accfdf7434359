"""How good a sentiment model is on reviews it has not seen: macro-F1, ROC-AUC of "recommended", each class, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.errors import UnknownName
from ranking.metrics import interval_of_draws
from ranking.types import FloatArray
from training.sentiment import reviews as source
from training.sentiment.model import METHODS, Read, Seen, Sentiment
from training.sentiment.reviews import CLASSES, Reviews

_DRAWS, _SEED, _POINTS = 500, 11, 200


def judge(reviews: Path, model: Path, *, method: str = "bert") -> dict[str, Any]:
    """Score labelled reviews with a stored model.

    Args:
        reviews: CSV with the columns of the clothing reviews (`Title`, `Review Text`, `Rating`, `Recommended IND`), plain or gzip, or the
            folder it is in.
        model: the model's folder.
        method: whose `macro_f1` and `roc_auc` stand at the top: `bert`, `words` or `blend`.

    Returns:
        What `figures` says of the method, `method`, `reviews` (how many were judged) and, by name, the figures of all three `methods`.
        `seen`: how many of the reviews the model was made of, by `training` and `validation`; `unseen`: the method's figures on all
        others, None where there are none. Both None for a model that does not know what it was made of.

    Raises:
        FileNotFoundError: no such file, or no model.
        UnknownName: there is no such method.
        ValueError: naming what of the file is not what it should be.
    """
    labelled = source.read(reviews)
    if method not in METHODS:
        raise UnknownName("method", method, list(METHODS))
    stored = Sentiment.load(model)
    read = stored.read(labelled)
    found = {name: figures(one, labelled) for name, one in read.items()}
    said = {"method": method, "reviews": len(labelled), "methods": found, **_apart(stored.seen, read[method], labelled)}
    return {**found[method], **said}


def _apart(seen: Seen | None, told: Read, reviews: Reviews) -> dict[str, Any]:
    """What of the reviews made the model, and the figures of the rest."""
    if seen is None:
        return {"seen": None, "unseen": None}
    learnt, chosen = seen.of_training(reviews), seen.of_validation(reviews)
    new = np.flatnonzero(~(learnt | chosen))
    rest = {"reviews": len(new)} | figures(told.take(new), reviews.take(new)) if len(new) else None
    return {"seen": {"training": int(learnt.sum()), "validation": int(chosen.sum())}, "unseen": rest}


def figures(told: Read, reviews: Reviews) -> dict[str, Any]:
    """What is known of a reading.

    Returns:
        `macro_f1`, `roc_auc` (of "recommended"), `ap_not_recommended` and `accuracy`; `intervals` of the first two, 95 %, over reviews
        drawn again; `classes`: precision, recall, f1 and rows of each. NaN stands as None.
    """
    truth, wanted = reviews.classes, reviews.recommended
    draws = np.random.default_rng(_SEED).integers(0, len(truth), (_DRAWS, len(truth)))
    f1 = metrics.macro_f1(told.classes, truth)
    auc = metrics.roc_auc(told.recommended, wanted)
    spread = {
        "macro_f1": interval_of_draws(f1, _macro_f1_of_draws(told.classes, truth, draws)),
        "roc_auc": interval_of_draws(auc, np.array([metrics.roc_auc(told.recommended[d], wanted[d]) for d in draws])),
    }
    return {
        "macro_f1": _number(f1),
        "roc_auc": _number(auc),
        "ap_not_recommended": _number(metrics.pooled_average_precision(-told.recommended, 1 - wanted)),
        "accuracy": _number(metrics.accuracy(told.classes, truth)),
        "intervals": {name: [_number(one.low), _number(one.high)] for name, one in spread.items()},
        "classes": {
            name: {
                "precision": _number(metrics.precision(told.classes == i, truth == i)),
                "recall": _number(metrics.recall(told.classes == i, truth == i)),
                "f1": _number(metrics.f1(told.classes == i, truth == i)),
                "rows": int((truth == i).sum()),
            }
            for i, name in enumerate(CLASSES)
        },
    }


def curves(told: Read, reviews: Reviews) -> dict[str, list[list[float]]]:
    """Precision over recall of each class against the others, at most 200 points [recall, precision] each."""
    found = {}
    for i, name in enumerate(CLASSES):
        curve = metrics.precision_recall_curve(told.scores[:, i], reviews.classes == i)
        kept = np.unique(np.linspace(0, len(curve.recall) - 1, _POINTS).astype(np.int64))
        found[name] = [[round(float(curve.recall[k]), 4), round(float(curve.precision[k]), 4)] for k in kept]
    return found


def _macro_f1_of_draws(predicted: NDArray[np.int64], truth: NDArray[np.int64], draws: NDArray[np.int64]) -> FloatArray:
    """(draws,) macro-F1 of reviews drawn again, from each draw's table of 3 × 3 counts."""
    code = predicted * 3 + truth
    tables = np.stack([np.bincount(code[d], minlength=9).reshape(3, 3) for d in draws]).astype(np.float64)  # predicted × true
    hits, named, there = np.einsum("dii->di", tables), tables.sum(2), tables.sum(1)
    with np.errstate(invalid="ignore"):
        each = 2 * hits / (named + there)
    found: FloatArray = np.nanmean(each, axis=1)
    return found


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 5)
