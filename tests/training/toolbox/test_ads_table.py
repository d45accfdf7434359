from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from ranking import metrics
from ranking.calibrate import sigmoid
from ranking.features import MODEL_COLUMNS
from ranking.types import TIERS
from tests.training.toolbox.made_up import part, parts
from training.blends.calibrators import fit_isotonic, fit_platt
from training.imbalance.resample import RESAMPLERS
from training.members.registry import MEMBERS
from training.toolbox import ads, ads_figures, ads_methods
from training.toolbox.ads_figures import Yardstick, thinned_row
from training.toolbox.ads_methods import BASE_COLUMNS, HEAVY, LIGHT, PLAIN, Recipe
from training.toolbox.ads_trained import unthinned
from training.toolbox.outcome import Outcome, find

SMALL = {"rounds": 10, "bags": 2, "epochs": 1}


@pytest.fixture(scope="module")
def measured() -> Iterator[tuple[list[Outcome], dict[str, float]]]:
    """A whole run on made-up lists, every method at its smallest."""
    few = {n: replace(r, options={k: SMALL.get(k, v) for k, v in r.options.items()}) for n, r in ads_methods.MEMBERS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ads, "MEMBERS", few)
        patch.setattr(ads, "TUNED", ({"rounds": 10, "leaves": 7}, {"rounds": 20, "leaves": 7}))
        patch.setattr(ads, "GENERATORS", {name: {"steps": 3} for name in ("gan", "wgan_gp")})
        patch.setattr(ads, "VARIED", Recipe("boosting", {"rounds": 5}))
        patch.setattr(ads, "Yardstick", partial(Yardstick, draws=10))
        patch.setattr(ads_figures, "_PAIRED", 20)
        patch.setattr(ads.ads_blends, "_DRAWS", 3)
        yield ads.run(parts(30), threads=1)


def test_every_method_has_its_row(measured: tuple[list[Outcome], dict[str, float]]) -> None:
    """All members, all resamplers, all blends, calibrators and ablations by name are measured, each against its plain method."""
    outcomes, _ = measured
    by_kind: dict[str, set[str]] = {}
    for o in outcomes:
        by_kind.setdefault(o.kind, set()).add(o.method)
    assert by_kind["member"] | by_kind["rule"] >= set(MEMBERS) - (set() if "discovery" in MODEL_COLUMNS else {"discovery"})
    assert by_kind["resampler"] >= set(RESAMPLERS)
    assert set(RESAMPLERS) == {PLAIN, *LIGHT, *HEAVY}
    assert by_kind["blend"] >= {"equal", "weighted", "per_tier", "stacking", "caruana", "rrf", "isr", "combsum", "combmnz"}
    assert by_kind["final"] == {"one tuned LightGBM, all lists", "the choice", "discovery floor"}
    assert by_kind["calibrator"] >= {"platt", "isotonic", "temperature"}
    assert "without promotions" in by_kind["ablation"]
    names = {o.method for o in outcomes}
    assert {o.baseline for o in outcomes} <= names | {""}


def test_outcomes_are_strict_json(measured: tuple[list[Outcome], dict[str, float]]) -> None:
    """No figure is infinite or NaN: what is undefined is None, or the report could not be read back."""
    outcomes, figures = measured
    assert json.loads(json.dumps([o.to_json() for o in outcomes], allow_nan=False))
    assert all(np.isfinite(v) for v in figures.values())


def test_the_figures_are_those_of_the_choice(measured: tuple[list[Outcome], dict[str, float]]) -> None:
    """What marks are set for is what the row of the choice says on test lists, and the new positives those of its list construction."""
    outcomes, figures = measured
    final = find(outcomes, data="ads", kind="final", method="the choice").figures["all"]
    assert figures["ads_ndcg10"] == final["ndcg10"][0]
    assert [figures["ads_ndcg10_gain"], figures["ads_ndcg10_gain_low"]] == final["ndcg10_gain"][:2]
    assert figures["ads_predicted_over_actual"] == final["all_weeks_predicted_over_actual"][0]
    room = find(outcomes, data="ads", kind="final", method="discovery floor").figures["all"]
    assert figures["ads_recall50_new"] == room["recall50_new"][0]
    assert room["ndcg10"] == final["ndcg10"]  # the first page is left alone


def test_the_choice_does_not_read_test_lists(measured: tuple[list[Outcome], dict[str, float]]) -> None:
    """Of the blends and the members they are made of, the one that is taken has the best NDCG on validation lists."""
    outcomes, _ = measured
    choice = find(outcomes, data="ads", kind="final", method="the choice").note.split(",")[0]
    rows = [o for o in outcomes if (o.kind == "blend" and "ndcg10_validation" in o.figures["all"]) or o.method in ads_methods.BLENDED]
    best = max(rows, key=lambda o: o.figure("ndcg10_validation")[0] or 0.0)
    assert choice == best.method


def test_the_plain_columns_are_columns_of_the_schema() -> None:
    """The yardstick's columns are named one by one, and each is still there."""
    assert len(BASE_COLUMNS) == len(set(BASE_COLUMNS)) == 31
    assert set(BASE_COLUMNS) <= set(MODEL_COLUMNS)


def test_a_calibrator_of_thinned_rows_holds_on_whole_ones() -> None:
    """Fitted on one negative in five, Platt's map is that of all rows: its constant is moved by exactly the thinning."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=200_000) - 3
    y = (rng.random(len(z)) < sigmoid(1.5 * z + 0.5)).astype(np.int8)
    kept = (y == 1) | (rng.random(len(z)) < 0.2)
    made = unthinned(fit_platt, z[kept], y[kept], 0.2)
    assert made.a == pytest.approx(1.5, abs=0.05)
    assert made.b == pytest.approx(0.5, abs=0.1)
    assert metrics.predicted_over_actual(unthinned(fit_isotonic, z[kept], y[kept], 0.2)(z), y) == pytest.approx(1.0, abs=0.05)


def test_thinned_lists_tell_the_same_sums() -> None:
    """Weighing kept negatives gives predicted over actual and NE of the whole lists, up to the luck of the draw."""
    whole = part(9, 400)
    p = sigmoid(4.0 * whole.x[:, MODEL_COLUMNS.index("promo_rate_28d")] - 3.5)
    kept = (whole.labels == 1) | (np.random.default_rng(1).random(len(p)) < 0.5)
    owners = whole.owners()[kept]
    thin = replace(
        whole, x=whole.x[kept], labels=whole.labels[kept], tiers=whole.tiers[kept], repeat=whole.repeat[kept],
        offsets=np.searchsorted(owners, np.arange(len(whole) + 1)), negatives_rate=0.5,
    )  # fmt: skip
    rows = thinned_row(p[kept], thin, draws=20)
    assert rows["all"]["predicted_over_actual"][0] == pytest.approx(metrics.predicted_over_actual(p, whole.labels), rel=0.02)
    assert rows["all"]["ne"][0] == pytest.approx(metrics.normalized_entropy(p, whole.labels), rel=0.02)
    for code, tier in enumerate(TIERS):
        of_tier = whole.tiers == code
        assert rows[tier]["predicted_over_actual"][0] == pytest.approx(
            metrics.predicted_over_actual(p[of_tier], whole.labels[of_tier]), rel=0.05
        )


def test_gains_are_paired_and_signed() -> None:
    """A better order gains above 0 with its interval, the same order gains exactly 0, and less entropy is a gain."""
    lists = part(3, 150)
    yard = Yardstick(lists, draws=50)
    good = sigmoid(4.0 * lists.x[:, MODEL_COLUMNS.index("promo_rate_28d")] - 3.5)
    bad = np.full(len(good), lists.labels.mean())
    plain = yard.measure(bad, calibrated=True)
    row: dict[str, Any] = yard.measure(good, calibrated=True, against=plain).figures["all"]
    assert row["ndcg10_gain"][1] > 0
    assert row["ne_gain"][1] > 0
    assert yard.measure(bad, calibrated=True, against=plain).figures["all"]["ndcg10_gain"] == [0.0, 0.0, 0.0]


def test_intervals_of_average_precision_hold_it() -> None:
    """Drawing lists again gives average precisions about that of all lists."""
    lists = part(5, 200)
    scores = lists.x[:, MODEL_COLUMNS.index("promo_rate_28d")].astype(float)
    value, low, high = Yardstick(lists, draws=100).measure(scores, calibrated=False).figures["all"]["ap"]
    assert low is not None
    assert high is not None
    assert value == pytest.approx(metrics.pooled_average_precision(scores, lists.labels), abs=1e-5)
    assert low < value < high
