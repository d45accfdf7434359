"""Every metric of the project, with its conventions fixed once; each idea in a module of its own.

- `lists`: one ranked list: NDCG (both gains), recall@k, precision@k, reciprocal rank, average precision, a group's share.
- `flat`: the same for many lists at once.
- `classification`: accuracy, precision, recall, F1, macro-F1, balanced accuracy, G-mean, ROC-AUC, precision-recall curve and its area.
- `probabilities`: log loss, normalised entropy, calibration error, predicted over actual, reliability curve.
- `catalogue`: coverage, Gini, average popularity (ARP) and tail share of many lists.
- `exposure`, `prefixes`: AWRF and expected exposure; skew, NDKL and infeasible prefixes.
- `off_policy`: IPS, SNIPS, doubly robust, behind a gate of effective sample size.
- `intervals`, `pooled`: bootstrap over lists, of means and of pooled metrics.

Lists are ordered by score descending, ties in input order. scikit-learn averages over ties and trec_eval orders them by document id: equal
scores give other figures there.
"""

from ranking.metrics.catalogue import average_popularity, coverage, gini, tail_share, times_shown
from ranking.metrics.classification import (
    PrecisionRecall,
    accuracy,
    balanced_accuracy,
    f1,
    g_mean,
    macro_f1,
    pooled_average_precision,
    precision,
    precision_recall_curve,
    recall,
    roc_auc,
)
from ranking.metrics.exposure import (
    awrf,
    expected_exposure,
    exposure_disparity,
    exposure_loss,
    exposure_relevance,
    target_exposure,
)
from ranking.metrics.flat import (
    average_precision_of_lists,
    ndcg_of_lists,
    precision_of_lists,
    recall_of_lists,
    reciprocal_rank_of_lists,
    share_of_lists,
    top_of_lists,
)
from ranking.metrics.intervals import Interval, bootstrap_interval, interval_of_draws, list_draws, paired_bootstrap_interval
from ranking.metrics.lists import average_precision, group_share_at_k, ndcg_at_k, precision_at_k, recall_at_k, reciprocal_rank
from ranking.metrics.off_policy import (
    TooFewEffectiveRows,
    doubly_robust,
    effective_sample_size,
    importance_weights,
    ips,
    snips,
)
from ranking.metrics.pooled import (
    calibration_error_of_draws,
    normalized_entropy_of_draws,
    predicted_over_actual_of_draws,
    roc_auc_of_draws,
)
from ranking.metrics.prefixes import infeasible_index, max_skew, min_skew, ndkl, skew
from ranking.metrics.probabilities import (
    Reliability,
    expected_calibration_error,
    log_loss,
    normalized_entropy,
    predicted_over_actual,
    reliability_curve,
)

__all__ = [
    "Interval",
    "PrecisionRecall",
    "Reliability",
    "TooFewEffectiveRows",
    "accuracy",
    "average_popularity",
    "average_precision",
    "average_precision_of_lists",
    "awrf",
    "balanced_accuracy",
    "bootstrap_interval",
    "calibration_error_of_draws",
    "coverage",
    "doubly_robust",
    "effective_sample_size",
    "expected_calibration_error",
    "expected_exposure",
    "exposure_disparity",
    "exposure_loss",
    "exposure_relevance",
    "f1",
    "g_mean",
    "gini",
    "group_share_at_k",
    "importance_weights",
    "infeasible_index",
    "interval_of_draws",
    "ips",
    "list_draws",
    "log_loss",
    "macro_f1",
    "max_skew",
    "min_skew",
    "ndcg_at_k",
    "ndcg_of_lists",
    "ndkl",
    "normalized_entropy",
    "normalized_entropy_of_draws",
    "paired_bootstrap_interval",
    "pooled_average_precision",
    "precision",
    "precision_at_k",
    "precision_of_lists",
    "precision_recall_curve",
    "predicted_over_actual",
    "predicted_over_actual_of_draws",
    "recall",
    "recall_at_k",
    "recall_of_lists",
    "reciprocal_rank",
    "reciprocal_rank_of_lists",
    "reliability_curve",
    "roc_auc",
    "roc_auc_of_draws",
    "share_of_lists",
    "skew",
    "snips",
    "tail_share",
    "target_exposure",
    "times_shown",
    "top_of_lists",
]
