"""Why each result stands where it stands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ranking.blend import BlendSpec, blend
from ranking.calibrate import Calibrator
from ranking.explain import explain
from ranking.features import MODEL_COLUMNS
from ranking.floors import rank_by_score, rank_with_floors
from ranking.types import TIERS, Explain, Explanation, Freshness

IDS = ["a", "b", "c", "d"]
GROUPS = np.array([0, 0, 0, 1])
LOGITS = np.array([[2.0, 3.0, 1.0, -1.0], [0.5, math.nan, 0.0, -2.0]])  # the text member could not score b
SPEC = BlendSpec(("behaviour", "bert"), dict.fromkeys(TIERS, (0.75, 0.25)), (Calibrator(), Calibrator()))


def explained(level: Explain) -> tuple[Explanation, ...]:
    blended = blend(SPEC, LOGITS, GROUPS)
    scores = blended.probabilities
    return explain(
        level,
        rank_with_floors(scores, GROUPS, (0.0, 0.5, 0.0), 2),
        item_ids=IDS,
        members=SPEC.members,
        logits=LOGITS,
        blended=blended,
        scores=scores,
        before=rank_by_score(scores),
        groups=GROUPS,
        names=TIERS,
        rows=np.arange(4 * len(MODEL_COLUMNS), dtype=np.float32).reshape(4, -1),
        freshness={"user_profile": [Freshness.MISSING] * 4, "item_profile": [Freshness.FRESH, "stale", "fresh", "defaulted"]},
    )


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


def test_a_cut_order_is_refused() -> None:
    """The rank by score of a lifted result lies past the cut, so the whole order is needed."""
    blended = blend(SPEC, LOGITS, GROUPS)
    with pytest.raises(ValueError, match=r"^before: must rank all 4 candidates, got 2"):
        explain(
            Explain.SCORES,
            rank_with_floors(blended.probabilities, GROUPS, (0.0, 0.0, 0.0), 2),
            item_ids=IDS,
            members=SPEC.members,
            logits=LOGITS,
            blended=blended,
            scores=blended.probabilities,
            before=rank_by_score(blended.probabilities, 2),
            groups=GROUPS,
            names=TIERS,
        )
