"""The table of metrics by ranker and tier."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ranking import metrics
from ranking.calibrate import sigmoid
from ranking.metrics import ndcg_at_k, recall_at_k
from tests.training.data import lists as made_lists
from training.lists.arrays import EvalLists
from training.release.evaluate import evaluate, versus


@pytest.fixture(scope="module")
def lists() -> EvalLists:
    return made_lists(np.random.default_rng(0), 60, 70)


def probabilities(lists: EvalLists) -> np.ndarray:
    return sigmoid(1.2 * lists.features[:, 0].astype(float) - 2.5)


def measured(lists: EvalLists, repeat: np.ndarray | None = None) -> dict[str, dict[str, dict[str, list[float | None]]]]:
    p = probabilities(lists)
    return evaluate({"blend": p, "worst": -p}, lists, probabilities=frozenset({"blend"}), seed=0, n=200, repeat=repeat)


def spans(lists: EvalLists) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(lists.offsets)]


def test_means_are_those_of_the_lists(lists: EvalLists) -> None:
    """Each mean over lists is that of the metric of one list, against all positives there were before retrieval."""
    p, y = probabilities(lists), lists.labels.astype(float)
    row, ideal = measured(lists)["blend"]["all"], lists.ideal_positives
    for k in (10, 50):
        found = np.nanmean([ndcg_at_k(p[s], y[s], k=k, ideal_gains=np.ones(m)) for s, m in zip(spans(lists), ideal, strict=True)])
        assert row[f"ndcg{k}"][0] == pytest.approx(found, abs=1e-5)
        found = np.nanmean([recall_at_k(p[s], y[s], k=k, ideal_gains=np.ones(m)) for s, m in zip(spans(lists), ideal, strict=True)])
        assert row[f"recall{k}"][0] == pytest.approx(found, abs=1e-5)
    tail = [1 - metrics.group_share_at_k(p[s], lists.tiers[s], group=0, k=10) for s in spans(lists)]
    assert row["tail_share10"][0] == pytest.approx(np.mean(tail), abs=1e-5)


def test_pooled_figures_are_those_of_all_rows(lists: EvalLists) -> None:
    """AUC, NE, ECE and predicted over actual of all rows, and per tier of the tier's; their intervals hold the value."""
    p, table = probabilities(lists), measured(lists)["blend"]
    for tier, rows in (("all", np.ones(len(p), bool)), *((t, lists.tiers == c) for c, t in enumerate(("head", "tail", "new")))):
        row, y = table[tier], lists.labels[rows]
        assert row["predicted_over_actual"][0] == pytest.approx(metrics.predicted_over_actual(p[rows], y), abs=1e-5)
        assert row["ece"][0] == pytest.approx(metrics.expected_calibration_error(p[rows], y), abs=1e-5)
        assert row["positives"] == [y.sum(), None, None]
        assert row["base_rate"][0] == pytest.approx(y.mean(), abs=1e-6)
    for figure in ("auc", "ne", "predicted_over_actual"):
        value, low, high = table["all"][figure]
        assert low < value < high  # type: ignore[operator]


def test_intervals_are_over_households_not_rows_or_lists(lists: EvalLists) -> None:
    """Twice the rows, or twice the lists of the same households, are no more evidence; twice the households narrow the interval."""

    def width(some: EvalLists) -> float:
        _, low, high = measured(some)["blend"]["all"]["predicted_over_actual"]
        return high - low  # type: ignore[operator]

    rows = np.concatenate([np.tile(np.arange(s.start, s.stop), 2) for s in spans(lists)])
    columns = {name: getattr(lists, name)[rows] for name in ("features", "labels", "tiers")}
    longer = replace(lists, **columns, given={}, offsets=2 * lists.offsets, ideal_positives=2 * lists.ideal_positives)
    more = lists.lists(np.tile(np.arange(len(lists)), 2))
    assert width(longer) == pytest.approx(width(lists), abs=1e-4)
    assert width(more) == pytest.approx(width(lists), abs=1e-4)
    assert lists.households is not None
    others = replace(more, households=np.concatenate([lists.households, lists.households + 1000]))
    assert width(others) == pytest.approx(width(lists) / np.sqrt(2), rel=0.25)


def test_new_positives_are_those_never_bought_before(lists: EvalLists) -> None:
    """With a mask of repeats the recall of the others is reported; without one it is not."""
    repeat = np.random.default_rng(1).random(len(lists.labels)) < 0.5
    p, fresh = probabilities(lists), (lists.labels * ~repeat).astype(float)
    want = np.nanmean([recall_at_k(p[s], fresh[s], k=50) for s in spans(lists)])
    assert measured(lists, repeat)["blend"]["all"]["recall50_new"][0] == pytest.approx(want, abs=1e-5)
    assert "recall50_new" not in measured(lists)["blend"]["all"]


def test_only_probabilities_are_judged_as_such(lists: EvalLists) -> None:
    """A ranker whose scores are no probabilities has an order and nothing else."""
    table = measured(lists)
    assert set(table["worst"]["all"]) == {"ndcg10", "recall10", "ndcg50", "recall50", "tail_share10", "auc"}
    assert set(table["worst"]["head"]) == {"recall10"}
    assert table["worst"]["all"]["auc"][0] == pytest.approx(1 - table["blend"]["all"]["auc"][0], abs=1e-5)  # type: ignore[operator]


def test_a_tier_without_positives_says_so() -> None:
    """No ratio, no error, no rate: a count of 0; the table stays strict JSON."""
    lists = made_lists(np.random.default_rng(3), 12)
    lists.labels[lists.tiers == 2] = 0
    table = measured(lists)
    assert table["blend"]["new"] == {"recall10": [None] * 3, "positives": [0.0, None, None]}
    json.dumps(table, allow_nan=False)


def test_the_difference_is_paired(lists: EvalLists) -> None:
    """Of a ranker from itself it is exactly 0; from its reverse the interval excludes 0."""
    p = probabilities(lists)
    assert versus(p, p, lists, seed=0, n=100) == [0.0, 0.0, 0.0]
    assert versus(p, -p, lists, seed=0, n=100)[1] > 0  # type: ignore[operator]
