from __future__ import annotations

import numpy as np
import pytest

from ranking.calibrate import sigmoid
from ranking.metrics import ndcg_at_k
from tests.training.members.planted import planted
from training.members import trees
from training.members.boosted import Boosted, bagging, boosting, boosting_weighted, lambdarank


def test_the_mean_booster_is_the_mean_of_its_boosters() -> None:
    """One booster of all trees gives the mean raw output, and its attributions are the mean of theirs."""
    rows = planted()
    boosters = [trees.train(rows.features, rows.labels, rounds=r, leaves=5, seed=r, threads=1) for r in (3, 7, 1)]
    mean = trees.mean(boosters)
    want = np.mean([trees.predict(b, rows.features) for b in boosters], axis=0)
    np.testing.assert_allclose(trees.predict(mean, rows.features), want, atol=1e-12)
    parts = np.mean([b.predict(rows.features, pred_contrib=True) for b in boosters], axis=0)
    np.testing.assert_allclose(mean.predict(rows.features, pred_contrib=True), parts, atol=1e-9)


def test_one_bag_of_every_seed_is_another_booster() -> None:
    """Bags differ in their rows, so that there is something to average."""
    rows = planted()
    one, two = (bagging(rows, seed=s, threads=1, rounds=5, bags=1).logits(rows.features) for s in (0, 1))
    assert not np.allclose(one, two)


def test_class_weights_are_taken_off_the_log_odds_again() -> None:
    """Weighed as heavily as you like, the mean prediction stays near the share of positives; left on, it would be far above."""
    rows = planted(lists=100)
    scorer = boosting_weighted(rows, seed=0, threads=1, rounds=40)
    share = rows.labels.mean()
    left_on = Boosted(scorer.booster).logits(rows.features)
    assert sigmoid(scorer.logits(rows.features)).mean() == pytest.approx(share, rel=0.25)
    assert sigmoid(left_on).mean() > 1.25 * share
    assert scorer.shift == pytest.approx(-np.log(rows.negatives_per_positive), rel=1e-6)


def test_no_balance_is_plain_boosting() -> None:
    """With balance 0 a positive weighs what it always did."""
    rows = planted()
    plain, none = boosting(rows, seed=0, threads=1, rounds=5), boosting_weighted(rows, seed=0, threads=1, rounds=5, balance=0.0)
    np.testing.assert_allclose(plain.logits(rows.features), none.logits(rows.features), atol=1e-9)


def test_lambdarank_compares_within_lists_only() -> None:
    """A cause that tells lists apart teaches it nothing, and the order of the rows plays no part."""
    rng = np.random.default_rng(0)
    rows = planted()
    x = rows.features.copy()
    x[:, 0] = rows.lists % 2  # known of the whole list
    y = np.where(rows.lists % 2 == 1, rows.labels | (rng.random(len(x)) < 0.5), rows.labels).astype(np.int8)
    made = type(rows).of(x, y, rows.lists)
    importance = lambdarank(made, seed=0, threads=1, rounds=20).booster.feature_importance("gain")
    whole = boosting(made, seed=0, threads=1, rounds=20).booster.feature_importance("gain")
    assert importance[0] < 0.2 * importance.sum()
    assert whole[0] > importance[0]
    order = rng.permutation(len(x))
    shuffled = type(rows).of(x[order], y[order], rows.lists[order])
    scores = lambdarank(shuffled, seed=0, threads=1, rounds=20).logits(x)
    assert np.mean([ndcg_at_k(scores[i : i + 20], y[i : i + 20].astype(float), k=10) for i in range(0, len(x), 20)]) > 0.6


@pytest.mark.parametrize(("method", "options"), [(bagging, {"bags": 0}), (boosting_weighted, {"balance": 1.5})])
def test_nonsense_options_are_refused(method: object, options: dict[str, float]) -> None:
    """An option outside its range is named."""
    with pytest.raises(ValueError, match=next(iter(options))):
        method(planted(), seed=0, threads=1, **options)  # type: ignore[operator]
