"""Blends by name: what the gateway can serve, and what each method finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.blend import BlendSpec, blend
from ranking.calibrate import Calibrator, logit, sigmoid
from ranking.fuse import FUSIONS
from ranking.types import TIERS
from tests.training.data import ensemble_data
from training.blends import ensemble, selection, stack
from training.blends.ensemble import DEFAULT, fit, fuse, ndcg, objective, out_of_fold
from training.blends.folds import by_group
from training.blends.weighing import BLENDS
from training.lists.arrays import EnsembleData, EvalLists, TrainRows
from training.members.contract import Member, Rows

CONFIG = {**DEFAULT, "members": "logistic+bert+bm25", "rounds": 5, "negatives_rate": 0.5}
WEIGHTS = {"weights": {"logistic": 2.0, "bert": 1.0}}


@pytest.fixture(scope="module")
def data() -> EnsembleData:
    return ensemble_data()


@pytest.mark.parametrize("name", BLENDS)
def test_every_blend_is_one_the_gateway_serves(data: EnsembleData, name: str) -> None:
    """By name: non-negative weights for every tier, read back from JSON as they were, with probabilities that add up to the truth."""
    fitted = fit({**CONFIG, **WEIGHTS, "blend": name}, data, 0)
    spec = BlendSpec.from_json(fitted.spec.to_json())
    assert spec == fitted.spec
    assert set(spec.weights) == set(TIERS)
    p = blend(spec, fitted.logits(data.calibrate), data.calibrate.tiers).probabilities
    assert p.sum() == pytest.approx(data.calibrate.labels.sum(), rel=0.1)
    assert np.nanmean(ndcg(fitted.blend(data.select).probabilities, data.select)) > np.nanmean(
        ndcg(np.random.default_rng(0).random(len(data.select.labels)), data.select)
    )


def test_given_weights_are_the_blend_s(data: EnsembleData) -> None:
    """`weighted` serves what it was told, nothing for a member that is not named; `equal` the same for all."""
    assert set(fit({**CONFIG, **WEIGHTS, "blend": "weighted"}, data, 0).spec.weights.values()) == {(2.0, 1.0, 0.0)}
    assert set(fit({**CONFIG, "blend": "equal"}, data, 0).spec.weights.values()) == {(1.0, 1.0, 1.0)}


def test_tiers_share_between_texts_and_the_rest(data: EnsembleData) -> None:
    """`per_tier`: a text weight of 0.4 is 0.2 for each of two text members; weights by tier and name are taken as they are."""
    spec = fit({**CONFIG, "text_weight_new": 0.4}, data, 0).spec
    np.testing.assert_allclose(spec.weights["new"], (0.6, 0.2, 0.2))
    told = {"head": {"logistic": 1.0}, "tail": {"logistic": 1.0, "bert": 3.0}, "new": {"bm25": 1.0}}
    spec = fit({**CONFIG, "tier_weights": told}, data, 0).spec
    assert spec.weights == {"head": (1.0, 0.0, 0.0), "tail": (1.0, 3.0, 0.0), "new": (0.0, 0.0, 1.0)}
    alone = fit({**CONFIG, "members": "logistic", "text_weight_new": 0.4}, data, 0).spec
    assert alone.weights["new"] == (1.0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blend": "mean"}, "blend: 'mean' is not known; known: equal, weighted"),
        ({"blend": "rrf"}, "blend: rrf gives an order and no probabilities"),
        ({"members": "boosting+forest"}, "members: 'forest' is not known"),
        ({"members": ["bert", "bert"]}, "no duplicates"),
        ({"members": "bi_encoder"}, "the lists carry no scores of bi_encoder; they carry bert, bm25"),
        ({"calibrator": "spline"}, "calibrator: 'spline' is not known"),
        ({"resampler": "smite"}, "resampler: 'smite' is not known"),
        ({"options": {"forest": {}}}, "members: 'forest' is not known"),
        ({"options": {"logistic": {"power": 1}}}, "logistic.power: unknown option"),
        ({"blend": "weighted", "weights": {"bert": -1.0}}, "weights: need weights ≥ 0"),
        ({"blend": "weighted"}, "weights: need weights ≥ 0, not all 0"),
        ({"tier_weights": {"head": {"bert": 1.0}}}, "tier_weights.tail: need weights"),
        ({"text_weight_head": 1.5}, "text_weight_head: must be in"),
        ({"blend": "caruana", "caruana_steps": 0}, "caruana_steps: must be at least 1"),
        ({"members": "lambdarank", "resampler": "smote", "strength": 0.5}, "lambdarank compares the rows of a list"),
        ({"members": "easy_ensemble", "resampler": "class_weight", "strength": 0.5}, "easy_ensemble takes no row weights"),
    ],
)
def test_what_cannot_be_is_refused_by_name(data: EnsembleData, change: dict[str, object], message: str) -> None:
    """The error names the key and what is known."""
    with pytest.raises(ValueError, match=message):
        fit({**CONFIG, **change}, data, 0)


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_a_fusion_is_compared_and_never_served(data: EnsembleData, name: str) -> None:
    """A fusion orders each list by itself and has neither NE nor predicted/actual."""
    found = objective({**CONFIG, "blend": name}, data, 0)
    assert np.isnan([found["ne"], found["predicted_over_actual"]]).all()
    fitted = fit({**CONFIG, "blend": "equal"}, data, 0)
    logits = fitted.logits(data.select)
    fused = fuse(name, logits, data.select)
    np.testing.assert_allclose(fused[40:80], FUSIONS[name](logits[:, 40:80]))
    assert found["ndcg10"] == pytest.approx(np.nanmean(ndcg(fused, data.select)))
    random = np.nanmean(ndcg(np.random.default_rng(0).random(len(fused)), data.select))
    assert found["ndcg10"] > random


class _Memory:
    """Remembers every row it was trained on, and makes something up for the rest."""

    log_odds = False

    def __init__(self, rows: Rows) -> None:
        self.known = {row.tobytes(): 1.0 if label else -1.0 for row, label in zip(rows.features, rows.labels, strict=True)}

    def logits(self, features: np.ndarray) -> np.ndarray:
        made_up = np.random.default_rng(0).normal(size=len(features))
        return np.array([4.0 * self.known.get(row.tobytes(), noise) for row, noise in zip(features, made_up, strict=True)])


def _by_heart(rows: Rows, *, seed: int, threads: int) -> _Memory:
    return _Memory(rows)


@pytest.fixture
def remembered(data: EnsembleData, monkeypatch: pytest.MonkeyPatch) -> EnsembleData:
    """Calibration lists that are training lists of the same households, and a member that learns rows by heart."""
    members = {**ensemble.MEMBERS, "memory": Member(_by_heart)}
    monkeypatch.setattr(ensemble, "MEMBERS", members)
    monkeypatch.setattr("training.members.registry.MEMBERS", members)
    lists: EvalLists = data.calibrate
    assert lists.households is not None
    of = np.repeat(np.arange(len(lists)), np.diff(lists.offsets))
    other = data.train
    assert other.households is not None
    train = TrainRows(
        np.concatenate([lists.features, other.features]),
        np.concatenate([lists.labels, other.labels]),
        0.5,
        np.concatenate([of, 1000 + other.lists]),
        np.concatenate([lists.households[of], 1000 + other.households]),
    )
    return replace(data, train=train)


def test_stacking_does_not_trust_who_remembers(remembered: EnsembleData) -> None:
    """A member that knows the lists by heart gets most of the weight in fold, and next to none where folds keep its households apart."""
    config = {**CONFIG, "members": "memory+logistic", "blend": "stacking"}
    naive = fit({**config, "blend": "equal"}, remembered, 0)
    lists = remembered.calibrate
    raw = naive.logits(lists)
    in_fold = stack.fit(np.stack([logit(c(r)) for c, r in zip(naive.spec.calibrators, raw, strict=True)]), lists.labels)
    assert in_fold.weights[0] > 0.5
    ours = fit(config, remembered, 0).spec
    assert ours.matrix()[0, 0] < 0.1
    assert np.nanmean(ndcg(fit(config, remembered, 0).blend(remembered.select).probabilities, remembered.select)) > np.nanmean(
        ndcg(naive.blend(remembered.select).probabilities, remembered.select)
    )


def test_no_score_out_of_fold_knows_its_household(data: EnsembleData, remembered: EnsembleData) -> None:
    """Out of fold the remembering member says nothing about any row: its log-odds are no better than chance."""
    scores = out_of_fold(("memory", "logistic"), {**CONFIG, "members": "memory+logistic"}, remembered, 0)
    labels = remembered.calibrate.labels
    positive, negative = scores[0][labels == 1], scores[0][labels == 0]
    assert abs(positive.mean() - negative.mean()) < 0.3 * scores[0].std() + 0.05
    assert scores[1][labels == 1].mean() > scores[1][labels == 0].mean()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_a_household_is_in_one_fold(households: list[int], folds: int, seed: int) -> None:
    """Equal households share a fold in all arrays, and folds are of like size; more folds than households are refused."""
    keys = np.array(households)
    distinct = len(set(households))
    if distinct < folds:
        with pytest.raises(ValueError, match="folds: need at least 2"):
            by_group((keys,), folds, seed)
        return
    one, two = by_group((keys, keys[::-1]), folds, seed)
    np.testing.assert_array_equal(one, two[::-1])
    of = {int(k): int(f) for k, f in zip(keys, one, strict=True)}
    assert all(of[int(k)] == f for k, f in zip(keys, one, strict=True))
    sizes = np.bincount(list(of.values()), minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_stacking_finds_the_weights_that_made_the_labels() -> None:
    """Labels drawn from sigmoid(1.5 z0 + 0.5 z1 - 1) and a third member of noise: shares near 3/4, 1/4, 0."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 40_000))
    y = rng.random(40_000) < sigmoid(1.5 * z[0] + 0.5 * z[1] - 1)
    found = stack.fit(z, y)
    standard_error = 0.02  # about 1/√(n p (1 − p)) over the slope
    np.testing.assert_allclose(found.weights, (0.75, 0.25, 0.0), atol=3 * standard_error)
    assert found.slope == pytest.approx(2.0, abs=6 * standard_error)
    assert found.intercept == pytest.approx(-1.0, abs=6 * standard_error)


def test_stacking_never_turns_a_member_around() -> None:
    """A member that is right the wrong way round gets nothing, not a negative weight; where all are, weights are even and nearly flat."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(2, 5000))
    y = rng.random(5000) < sigmoid(z[0] - z[1])
    assert stack.fit(z, y).weights == pytest.approx((1.0, 0.0))
    flat = stack.fit(-np.stack([z[0], z[0]]), y)
    assert flat.weights == (0.5, 0.5)
    assert 0 < flat.slope < 0.01
    with pytest.raises(ValueError, match="both classes"):
        stack.fit(z, np.zeros(5000))


def test_stacking_is_served_as_it_was_learnt(data: EnsembleData) -> None:
    """Where every member scored, the blend's probability is the meta-learner's own: sigmoid(Σ w z + b)."""
    fitted = fit({**CONFIG, "blend": "stacking"}, data, 0)
    spec, raw = fitted.spec, fitted.logits(data.select)
    z = np.stack([logit(c(r)) for c, r in zip(spec.calibrators, raw, strict=True)])
    want = sigmoid(spec.final.a * (spec.matrix()[0] @ z) + spec.final.b)
    np.testing.assert_allclose(blend(spec, raw, data.select.tiers).probabilities, want, rtol=1e-9)


def test_selection_equals_a_search_of_all_ensembles_of_its_size() -> None:
    """With one step the best member alone; and no single member is better than what was selected."""
    rng = np.random.default_rng(2)
    cause = rng.normal(size=2000)
    z = np.stack([cause + rng.normal(scale=s, size=2000) for s in (0.5, 1.0, 3.0)])
    y = rng.random(2000) < sigmoid(cause)

    def loss(pool: np.ndarray) -> float:
        return float(np.logaddexp(0, pool).mean() - (pool * y).mean())

    assert selection.forward(z, y, steps=1) == (1.0, 0.0, 0.0)
    chosen = selection.forward(z, y, steps=20)
    assert sum(chosen) == pytest.approx(1.0)
    assert loss(np.array(chosen) @ z) <= min(map(loss, z))
    counts = np.array(chosen) * 20
    assert any(np.allclose(counts * k / 20, np.round(counts * k / 20)) for k in range(1, 21))  # whole numbers of choices


@pytest.mark.parametrize("method", [stack.fit, selection.forward])
def test_rows_a_member_could_not_score_are_left_to_the_others(method: object) -> None:
    """NaN is neither a score nor a fault: rows nobody scored are left out, and one member's gaps do not stop the other."""
    rng = np.random.default_rng(3)
    z = rng.normal(size=(2, 4000))
    y = rng.random(4000) < sigmoid(2 * z[0])
    z[1, ::2] = np.nan
    z[:, :100] = np.nan
    found = method(z, y)  # type: ignore[operator]
    weights = found.weights if isinstance(found, stack.Stacked) else found
    assert weights[0] > 0.8


def test_an_old_configuration_still_works(data: EnsembleData) -> None:
    """What a search before members had names found is today's default ensemble."""
    old = {k: v for k, v in DEFAULT.items() if k not in ("members", "blend")} | {"rounds": 5, "negatives_rate": 0.5}
    one, two = fit(old, data, 1), fit({**DEFAULT, "rounds": 5, "negatives_rate": 0.5}, data, 1)
    assert one.spec == two.spec
    assert one.spec.members == ("boosting", "bert")


def test_scores_that_only_order_are_not_shifted(data: EnsembleData) -> None:
    """The sampling's offset moves log-odds; a lambdarank score has no prior to undo, its calibrator finds the level."""
    fitted = fit({**CONFIG, "members": "lambdarank+boosting", "negatives_rate": 0.2}, data, 0)
    assert fitted.shift("boosting") == fitted.offset == pytest.approx(np.log(0.2))
    assert fitted.shift("lambdarank") == 0.0
    assert all(isinstance(c, Calibrator) for c in fitted.spec.calibrators)
