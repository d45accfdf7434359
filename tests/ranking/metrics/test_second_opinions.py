"""List metrics beside implementations that are not ours: trec_eval's through ir-measures, scikit-learn's, RecBole's published values."""

from __future__ import annotations

from math import log2

import ir_measures
import numpy as np
import pytest
import sklearn.metrics
from ir_measures import AP, RR, P, R, nDCG

from ranking import metrics
from ranking.metrics import average_precision, ndcg_at_k, precision_at_k, recall_at_k, reciprocal_rank

LISTS = 3000


def random_lists(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(scores, gains) of lists of 1 to 40 items, half of them with tied scores, each with a positive."""
    rng, out = np.random.default_rng(seed), []
    for i in range(LISTS):
        n = int(rng.integers(1, 41))
        scores = rng.integers(0, 6, n).astype(float) if i % 2 else rng.permutation(n).astype(float)
        gains = rng.choice([0, 1, 2, 3], n, p=[0.7, 0.15, 0.1, 0.05])
        gains[rng.integers(n)] = 1
        out.append((scores, gains.astype(float)))
    return out


@pytest.fixture(scope="module")
def lists() -> list[tuple[np.ndarray, np.ndarray]]:
    return random_lists(0)


def in_trec_form(lists: list[tuple[np.ndarray, np.ndarray]]) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, int]]]:
    """Runs and judgements, document ids falling from 99 on."""
    runs = {str(q): {f"{99 - i:02d}": float(s) for i, s in enumerate(scores)} for q, (scores, _) in enumerate(lists)}
    return runs, {str(q): {f"{99 - i:02d}": int(g) for i, g in enumerate(gains)} for q, (_, gains) in enumerate(lists)}


@pytest.mark.parametrize("k", [1, 3, 10, 50])
def test_every_list_metric_is_trec_evals(lists: list[tuple[np.ndarray, np.ndarray]], k: int) -> None:
    """NDCG (linear gain), AP, precision and recall of 3,000 lists at any k, ties included.

    trec_eval orders ties by document id descending, so ids that fall from the first item on are our order of input.
    """
    runs, judged = in_trec_form(lists)
    pairs = {nDCG @ k: ndcg_at_k, AP @ k: average_precision, P @ k: precision_at_k, R @ k: recall_at_k}
    seen = 0
    for theirs in ir_measures.iter_calc(list(pairs), judged, runs):
        scores, gains = lists[int(theirs.query_id)]
        assert pairs[theirs.measure](scores, gains, k=k) == pytest.approx(theirs.value, abs=1e-9), (theirs, scores, gains)
        seen += 1
    assert seen == LISTS * len(pairs)


def test_the_reciprocal_rank_is_trec_evals_and_ms_marcos(lists: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Without a cut trec_eval's, ties included; with one MS MARCO's, which orders ties otherwise, on lists without any."""
    for theirs in ir_measures.iter_calc([RR], *reversed(in_trec_form(lists))):
        assert reciprocal_rank(*lists[int(theirs.query_id)]) == pytest.approx(theirs.value)
    untied = lists[0::2]
    for theirs in ir_measures.iter_calc([RR @ 3], *reversed(in_trec_form(untied))):
        assert reciprocal_rank(*untied[int(theirs.query_id)], k=3) == pytest.approx(theirs.value)


@pytest.mark.parametrize("some", [slice(0, 300, 2), pytest.param(slice(300, None, 2), marks=pytest.mark.exhaustive)], ids=["some", "all"])
def test_ndcg_without_ties_is_scikit_learns_in_both_gains(lists: list[tuple[np.ndarray, np.ndarray]], some: slice) -> None:
    """Exponential gain is linear gain of 2^rel - 1."""
    for scores, gains in lists[some]:
        if len(scores) > 1:
            assert ndcg_at_k(scores, gains, k=5) == pytest.approx(sklearn.metrics.ndcg_score([gains], [scores], k=5))
            powers = sklearn.metrics.ndcg_score([2**gains - 1], [scores], k=5)
            assert ndcg_at_k(scores, gains, k=5, gain="exponential") == pytest.approx(powers)


def test_scikit_learn_averages_ties_and_we_do_not() -> None:
    """Of two tied items with the positive first: the mean of both orders there, or the last one first; input order here."""
    tied, first, second = np.array([1.0, 1.0]), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert sklearn.metrics.ndcg_score([first], [tied]) == pytest.approx((1 + 1 / log2(3)) / 2)
    assert (1 + 1 / log2(3)) / 2 == pytest.approx(0.815465, abs=1e-6)
    assert sklearn.metrics.ndcg_score([first], [tied], ignore_ties=True) == pytest.approx(1 / log2(3))
    assert ndcg_at_k(tied, first) == 1.0
    assert ndcg_at_k(tied, second) == pytest.approx(1 / log2(3))
    assert 1 / log2(3) == pytest.approx(0.630930, abs=1e-6)


RECBOLE_HITS = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 1], [0, 0, 1]])
RECBOLE_POSITIVES = np.array([1, 3, 4, 2])


def recbole(metric: str, k: int) -> list[float]:
    """A metric of RecBole's four lists; what their lists do not show of the positives was lost in retrieval."""
    scores, function = np.array([3.0, 2.0, 1.0]), getattr(metrics, metric)
    return [function(scores, hits, k=k, ideal_gains=np.ones(n)) for hits, n in zip(RECBOLE_HITS, RECBOLE_POSITIVES, strict=True)]


def test_the_published_values_of_recbole() -> None:
    """RecBole's own test lists: three places each, positives known beyond them."""
    two, three = 1 + 1 / log2(3), 1 + 1 / log2(3) + 1 / log2(4)
    assert recbole("ndcg_at_k", 3) == pytest.approx([0, 1, (1 + 1 / log2(4)) / three, (1 / log2(4)) / two])
    assert recbole("ndcg_at_k", 2) == pytest.approx([0, 1, 1 / two, 0])
    assert recbole("reciprocal_rank", 3) == pytest.approx([0, 1, 1, 1 / 3])
    assert recbole("recall_at_k", 3) == pytest.approx([0, 3 / 3, 2 / 4, 1 / 2])
    assert recbole("precision_at_k", 3) == pytest.approx([0, 3 / 3, 2 / 3, 1 / 3])


def test_average_precision_is_over_all_positives() -> None:
    """RecBole divides by min(k, positives), trec_eval and we by all positives: of the third list's four they count three."""
    ours = recbole("average_precision", 3)
    capped = np.minimum(RECBOLE_POSITIVES, 3) / RECBOLE_POSITIVES
    assert ours == pytest.approx(np.array([0, 1, (1 + 2 / 3) / 3, (1 / 3) / 2]) * capped)
