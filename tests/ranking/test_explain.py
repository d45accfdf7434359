"""Why each result stands where it stands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ranking.blend import BlendSpec, blend
from ranking.calibrate import Calibrator
from ranking.explain import Attributed, explain
from ranking.fairness.costs import promise_costs
from ranking.fairness.floors import FairRanking, rank_by_score, rank_with_floors
from ranking.fairness.groups import ListGroups
from ranking.features import MODEL_COLUMNS
from ranking.types import TIERS, Explain, Explanation, Freshness

IDS = ["a", "b", "c", "d"]
GROUPS = np.array([0, 0, 0, 1])
LOGITS = np.array([[2.0, 3.0, 1.0, -1.0], [0.5, math.nan, 0.0, -2.0]])  # the text member could not score b
SPEC = BlendSpec(("behaviour", "bert"), dict.fromkeys(TIERS, (0.75, 0.25)), (Calibrator(), Calibrator()))


RULES = (
    ListGroups("popularity_tier", TIERS, GROUPS, np.array([0.0, 0.5, 0.0]), np.ones(3)),
    ListGroups("seller", ("acme", "(other)"), np.array([1, 0, 1, 1]), np.zeros(2), np.ones(2)),
)
BLENDED = blend(SPEC, LOGITS, GROUPS)
SCORES = BLENDED.probabilities
FAIR = rank_with_floors(SCORES, GROUPS, RULES[0].floors, 2)


def explained(level: Explain, fair: FairRanking = FAIR, **more: Any) -> tuple[Explanation, ...]:
    given = {
        "item_ids": IDS,
        "members": SPEC.members,
        "logits": LOGITS,
        "blended": BLENDED,
        "scores": SCORES,
        "before": rank_by_score(SCORES),
        "rules": RULES,
        "costs": promise_costs(SCORES, FAIR, RULES, 2),
        "rows": np.arange(4 * len(MODEL_COLUMNS), dtype=np.float32).reshape(4, -1),
        "freshness": {"user_profile": [Freshness.MISSING] * 4, "item_profile": [Freshness.FRESH, "stale", "fresh", "defaulted"]},
    }
    return explain(level, fair, **(given | more))


def test_each_result_says_where_it_came_from() -> None:
    """The tail item was last by score and its floor lifted it to the second place; the best item stayed where it was."""
    best, lifted = explained(Explain.SCORES)
    assert (best.item_id, best.group, best.rank_before, best.rank, best.binding_floor) == ("b", "head", 1, 1, "")
    assert (lifted.item_id, lifted.group, lifted.rank_before, lifted.rank, lifted.binding_floor) == ("d", "tail", 4, 2, "tail")


def test_members_show_raw_score_probability_and_weight_as_used() -> None:
    """What the blend pooled is what is shown, weight by weight."""
    lifted = explained(Explain.SCORES)[1]
    behaviour, bert = lifted.members
    assert (behaviour.member, behaviour.raw, behaviour.weight) == ("behaviour", -1.0, 0.75)
    assert (bert.member, bert.raw, bert.weight) == ("bert", -2.0, 0.25)
    assert behaviour.probability == pytest.approx(1 / (1 + math.exp(1.0)))
    assert lifted.probability == lifted.score == pytest.approx(1 / (1 + math.exp(0.75 * 1.0 + 0.25 * 2.0)))


def test_a_member_that_could_not_score_shows_nan_and_no_weight() -> None:
    """BERT did not score item b: its raw score is NaN, its weight 0, and behaviour carries all."""
    behaviour, bert = explained(Explain.SCORES)[0].members
    assert (behaviour.weight, bert.weight) == (1.0, 0.0)
    assert math.isnan(bert.raw)
    assert math.isnan(bert.probability)


def test_levels() -> None:
    """NONE says nothing, SCORES leaves the input out, FULL adds the row and each view's freshness."""
    assert explained(Explain.NONE) == ()
    for e in explained(Explain.SCORES):
        assert (e.features, e.freshness) == ({}, {})
    lifted = explained(Explain.FULL)[1]
    assert lifted.features == {name: 3 * len(MODEL_COLUMNS) + j for j, name in enumerate(MODEL_COLUMNS)}
    assert lifted.freshness == {"user_profile": "missing", "item_profile": "defaulted"}


def test_a_lifted_result_says_which_promise_it_keeps_and_what_that_cost() -> None:
    """The tail floor wanted its item within two places; the swap with the better c is what it cost, told at FULL only."""
    lifted = explained(Explain.FULL)[1]
    assert (lifted.binding_attribute, lifted.binding_floor, lifted.binding_prefix) == ("popularity_tier", "tail", 2)
    assert lifted.cost == pytest.approx((SCORES[0] - SCORES[3]) / math.log2(3))
    assert explained(Explain.SCORES)[1].cost == 0.0
    best = explained(Explain.FULL)[0]
    assert (best.binding_attribute, best.binding_prefix, best.cost) == ("", 0, 0.0)


def test_a_floor_of_a_later_rule_is_named_by_its_flat_id() -> None:
    """Group ids count through the rules: 3 is the second rule's first group; `group` stays the one of the first rule."""
    fair = FairRanking(np.array([1]), np.array([3]), np.array([1]))
    (only,) = explained(Explain.SCORES, fair)
    assert (only.binding_attribute, only.binding_floor, only.group) == ("seller", "acme", "head")


def test_prices_and_outcomes_are_the_result_s_own() -> None:
    """What was added to a score, and each outcome's probability, stand by candidate and are shown from SCORES on."""
    more = {"prices": np.array([0.1, 0.2, 0.3, 0.4]), "objectives": {"click": np.array([0.5, 0.6, 0.7, 0.8])}}
    best, lifted = explained(Explain.SCORES, **more)
    assert (best.price, lifted.price) == (0.2, 0.4)
    assert (best.objectives, lifted.objectives) == ({"click": 0.6}, {"click": 0.8})
    assert (explained(Explain.SCORES)[0].price, explained(Explain.SCORES)[0].objectives) == (0.0, {})


def test_attributions_are_by_feature_and_leave_out_what_has_no_part() -> None:
    """Each result gets its own row of parts; with the base they add up; below FULL there are none."""
    values = np.zeros((2, len(MODEL_COLUMNS)))
    values[0, 3], values[1, 0], values[1, 1] = 2.5, -0.5, 0.25
    attributed = Attributed("behaviour", values, 0.5)
    best, lifted = explained(Explain.FULL, attributions=attributed)
    assert best.attributions == {MODEL_COLUMNS[3]: 2.5}
    assert lifted.attributions == {MODEL_COLUMNS[0]: -0.5, MODEL_COLUMNS[1]: 0.25}
    assert (best.attributed_member, best.attribution_base) == ("behaviour", 0.5)
    assert best.attribution_base + sum(best.attributions.values()) == best.members[0].raw
    quiet = explained(Explain.SCORES, attributions=attributed)[0]
    assert (quiet.attributed_member, quiet.attributions, quiet.attribution_base) == ("", {}, 0.0)


def test_attributions_of_another_list_are_refused() -> None:
    """One row per result, or none of them is whose it says."""
    with pytest.raises(ValueError, match=r"^attributions: need one row per result \(2\), got 3"):
        explained(Explain.FULL, attributions=Attributed("behaviour", np.zeros((3, len(MODEL_COLUMNS))), 0.0))


def test_a_cut_order_is_refused() -> None:
    """The rank by score of a lifted result lies past the cut, so the whole order is needed."""
    with pytest.raises(ValueError, match=r"^before: must rank all 4 candidates, got 2"):
        explained(Explain.SCORES, before=rank_by_score(SCORES, 2))
