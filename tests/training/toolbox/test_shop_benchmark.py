from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from training.imbalance.resample import RESAMPLERS
from training.toolbox import shop as benchmark
from training.toolbox.outcome import Named
from training.toolbox.shop import Measures, Yardstick, choose
from training.toolbox.shop_data import HONEST, NAMES, TEST, TRAIN, VALID, Shop, shop
from training.toolbox.shop_methods import Bench, Method, methods

LISTS, HEAD, TAIL = 300, 10, 6
LENGTH = HEAD + TAIL


def _tables() -> dict[str, pa.Table]:
    """Forty items of four categories, 1 and 2 heads and 11 and 12 of the tail, of which clicks go to the heads nearly always."""
    rng = np.random.default_rng(0)
    number = np.repeat([1, 2, 11, 12], 10)
    items = pa.table(
        {
            "item_id": [f"i{i:02d}" for i in range(40)],
            "category_number": number,
            "price": np.round(rng.gamma(2.0, 10.0, 40), 2),
            "stars": np.round(rng.uniform(1, 5, 40), 1),
            "weight_kg": rng.uniform(0.1, 3, 40),
            "material": rng.choice(["wood", "steel"], 40),
        }
    )
    heads = [rng.choice(20, HEAD, replace=False) for _ in range(LISTS)]
    item = np.concatenate([rng.permutation(np.append(head, 20 + rng.choice(20, TAIL, replace=False))) for head in heads])
    overlap = rng.choice([0.0, 0.5, 1.0], len(item))
    relevance = 0.05 + 0.4 * overlap
    shown = relevance * np.where(number[item] > 10, 0.4, 1.0)
    clicked = shown.reshape(LISTS, LENGTH) * rng.random((LISTS, LENGTH))
    label = (np.arange(LENGTH) == clicked.argmax(axis=1)[:, None]).astype(np.int32).ravel()
    shown_table = {
        "list_id": np.repeat([f"l{i}" for i in range(LISTS)], LENGTH),
        "item_id": items["item_id"].to_numpy(zero_copy_only=False)[item],
        "label": label,
        "relevance": relevance,
        "relevant": ((rng.random(len(item)) < relevance) | (label == 1)).astype(np.int32),
        "query_overlap": overlap,
        "taste_share": rng.random(len(item)).astype(np.float32),
    }
    return {"items": items, "impressions": pa.table(shown_table)}


@pytest.fixture(scope="module")
def small() -> Shop:
    return shop(_tables())


@pytest.fixture(scope="module")
def bench(small: Shop) -> Bench:
    return Bench.of(small, seed=0, quick=True)


def test_lists_stay_whole(small: Shop) -> None:
    """Every list is in one part, as long as it was, with one click."""
    for part in (TRAIN, VALID, TEST):
        rows = small.rows(part)
        sizes = np.bincount(small.lists[rows])
        assert set(sizes[sizes > 0]) == {LENGTH}
    assert small.labels.sum() == LISTS
    np.testing.assert_array_equal(np.bincount(small.lists[small.labels == 1]), np.ones(LISTS))


def test_a_rows_own_click_is_not_among_its_features(small: Shop) -> None:
    """Whoever clicked, an item clicked once in training shows no click in the list where that was."""
    column = NAMES.index("category_clicks")
    total = small.clicks[small.category - 1]
    test = small.part == TEST
    np.testing.assert_allclose(small.features[test, column], np.log1p(total[test]), rtol=1e-6)
    for category in np.unique(small.category):
        rows = (small.category == category) & (small.labels == 1) & (small.part == TRAIN)
        if small.clicks[category - 1] == 1:
            assert (small.features[rows, column] == 0).all()
    assert small.clicks.sum() == (small.labels[small.part == TRAIN] == 1).sum()


def test_the_prior_counts_training_clicks_only(small: Shop) -> None:
    """Σ over categories of e^prior is 1, and heads have the larger ones."""
    by_category = {int(c): float(p) for c, p in zip(small.category, small.prior, strict=True)}
    assert min(by_category[c] for c in (1, 2)) > max(by_category[c] for c in (11, 12))
    unseen = 96 * (1 / (small.clicks + 1).sum())  # the other categories of the hundred, one added click each
    assert sum(np.exp(list(by_category.values()))) + unseen == pytest.approx(1.0)


def test_the_truth_is_no_feature() -> None:
    """Neither relevance nor who would have clicked is among what models read."""
    assert not {"relevance", "relevant", "label", "position"} & set(NAMES)
    assert NAMES[: len(HONEST)] == HONEST


def test_the_oracle_is_perfect_and_recall_is_of_what_the_user_wanted(small: Shop) -> None:
    """Ranking by the true relevance has NDCG 1; a ranking of all tail items first finds no head item before them."""
    yardstick = Yardstick.of(small, TEST)
    assert np.nanmin(yardstick.measures(small.relevance).ndcg10) == pytest.approx(1.0)
    tail_first = yardstick.measures(small.tail.astype(np.float64))
    assert np.nanmean(tail_first.tail_recall10) == pytest.approx(1.0)
    assert np.nanmean(tail_first.tail_share10) > np.nanmean(yardstick.measures(-small.tail.astype(np.float64)).tail_share10)


def _measures(ndcg: float, tail: float) -> Measures:
    one = np.ones(4)
    return Measures(ndcg * one, tail * one, one, one)


def test_the_strength_is_the_most_tail_recall_that_costs_little() -> None:
    """Among strengths within the slack of the plain NDCG the one with most tail recall; with none, the least costly."""
    plain = _measures(0.8, 0.1)
    assert choose([_measures(0.8, 0.1), _measures(0.797, 0.2), _measures(0.79, 0.9)], plain) == 1
    assert choose([_measures(0.7, 0.9), _measures(0.78, 0.2)], plain) == 1


@pytest.mark.parametrize("named", methods(), ids=lambda n: f"{n.kind}-{n.name}")
def test_every_method_scores_every_candidate(named: Named[Method], bench: Bench) -> None:
    """Each method gives finite scores of all candidates at each strength, and no two of one strength."""
    tried = named.method(bench)
    assert tried
    for one in tried:
        assert one.scores.shape == bench.shop.labels.shape
        assert np.isfinite(one.scores).all()
    assert len({one.strength for one in tried}) == len(tried)


def test_scores_do_not_depend_on_labels_that_are_judged(small: Shop, bench: Bench) -> None:
    """Other clicks and another truth in the test lists change no score."""
    held = small.part != TRAIN
    other = replace(
        small,
        labels=np.where(held, 0, small.labels).astype(np.int8),
        relevance=np.where(held, 0.5, small.relevance),
        relevant=small.relevant & ~held,
    )
    (named,) = [m for m in methods() if m.name == "tail_smote"]
    again = named.method(Bench(other, bench.chosen, bench.seed, bench.quick))
    np.testing.assert_array_equal(again[0].scores, named.method(bench)[0].scores)


def test_all_resamplers_are_tried() -> None:
    """The table has every resampler by name, and tail-only generators."""
    names = {m.name for m in methods() if m.kind == "resampler"}
    assert set(RESAMPLERS) <= names
    assert {"tail_gan", "tail_wgan_gp"} <= {m.name for m in methods() if m.kind == "generator"}


@pytest.mark.exhaustive
def test_the_quick_run_has_its_keys() -> None:
    """The generated shop itself, a few lists of it: a row per method and both keys."""
    outcomes, figures = benchmark.measure(quick=True)
    assert len(outcomes) == len(methods())
    assert set(figures) == {"shop_tail_recall_ratio", "shop_ndcg_difference"}
    assert all(np.isfinite(list(figures.values())))
