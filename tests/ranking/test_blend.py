"""Blending members into one probability per item."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.blend import BlendSpec, blend
from ranking.calibrate import Calibrator, sigmoid
from ranking.types import TIERS

SPEC = BlendSpec(
    members=("behaviour", "bert"),
    weights={"head": (3.0, 1.0), "tail": (0.5, 0.5), "new": (0.0, 1.0)},
    calibrators=(Calibrator(), Calibrator()),
)
HEAD, TAIL, NEW = 0, 1, 2


def one(behaviour: float, bert: float, tier: int, spec: BlendSpec = SPEC) -> tuple[float, list[float]]:
    got = blend(spec, np.array([[behaviour], [bert]]), np.array([tier]))
    return float(got.probabilities[0]), got.weights[:, 0].tolist()


def p(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_each_group_has_its_own_weights() -> None:
    """The same two opinions pool 3:1 for a head item, 1:1 for a tail item, and a new item's behaviour is not asked."""
    assert one(2.0, -2.0, HEAD) == (pytest.approx(p(0.75 * 2 - 0.25 * 2)), [0.75, 0.25])
    assert one(2.0, -2.0, TAIL) == (pytest.approx(p(0.0)), [0.5, 0.5])
    assert one(2.0, -2.0, NEW) == (pytest.approx(p(-2.0)), [0.0, 1.0])


def test_an_absent_member_hands_its_weight_to_the_others() -> None:
    """NaN is "could not score": the other member decides alone."""
    assert one(math.nan, 1.0, HEAD) == (pytest.approx(p(1.0)), [0.0, 1.0])


def test_when_only_a_member_without_weight_scored_it_is_asked_after_all() -> None:
    """A new item's weight lies on BERT; with BERT gone, behaviour is better than nothing."""
    assert one(1.0, math.nan, NEW) == (pytest.approx(p(1.0)), [1.0, 0.0])


def test_an_item_nobody_scored_is_nan() -> None:
    """Without any score there is no probability, and the item next to it is not touched."""
    got = blend(SPEC, np.array([[math.nan, 0.0], [math.nan, 0.0]]), np.array([HEAD, HEAD]))
    assert math.isnan(got.probabilities[0])
    assert got.probabilities[1] == 0.5
    assert got.weights[:, 0].tolist() == [0.0, 0.0]


def test_members_are_calibrated_before_and_the_pool_after() -> None:
    """logit(p) of each calibrated member is pooled, then the final calibrator maps the pool."""
    spec = replace(SPEC, calibrators=(Calibrator("platt", a=2.0, b=1.0), Calibrator()), final=Calibrator("platt", a=1.5, b=-0.5))
    pooled = 0.5 * (2.0 * 0.3 + 1.0) + 0.5 * 0.8
    got = blend(spec, np.array([[0.3], [0.8]]), np.array([TAIL]))
    assert got.probabilities[0] == pytest.approx(p(1.5 * pooled - 0.5))
    assert got.member_probabilities[:, 0].tolist() == pytest.approx([p(2.0 * 0.3 + 1.0), p(0.8)])


@given(st.integers(0, 2**32 - 1))
def test_the_blend_lies_between_its_members(seed: int) -> None:
    """A weighted mean of log-odds is never outside the opinions it pools, and used weights sum to 1."""
    rng = np.random.default_rng(seed)
    n = 20
    logits = rng.normal(0, 3, (2, n))
    logits[rng.random((2, n)) < 0.3] = np.nan
    got = blend(SPEC, logits, rng.integers(0, 3, n))
    scored = ~np.isnan(logits).all(axis=0)
    low, high = np.nanmin(logits[:, scored], axis=0), np.nanmax(logits[:, scored], axis=0)
    assert (got.probabilities[scored] >= sigmoid(low) - 1e-12).all()
    assert (got.probabilities[scored] <= sigmoid(high) + 1e-12).all()
    assert got.weights.sum(axis=0).tolist() == pytest.approx(scored.astype(float).tolist())
    assert np.isnan(got.probabilities).tolist() == (~scored).tolist()


@given(st.integers(0, 2**32 - 1))
def test_an_item_is_blended_alike_alone_and_in_a_list(seed: int) -> None:
    """No item's probability depends on its neighbours."""
    rng = np.random.default_rng(seed)
    logits, tiers = rng.normal(0, 3, (2, 8)), rng.integers(0, 3, 8)
    whole = blend(SPEC, logits, tiers).probabilities
    alone = [blend(SPEC, logits[:, [i]], tiers[[i]]).probabilities[0] for i in range(8)]
    assert whole.tolist() == alone


def test_a_blend_survives_the_round_trip() -> None:
    """from_json(to_json(b)) is b."""
    spec = replace(SPEC, final=Calibrator("isotonic", x=(-1.0, 1.0), y=(0.1, 0.8)))
    assert BlendSpec.from_json(spec.to_json()) == spec


BAD: list[tuple[dict[str, Any], str]] = [
    ({"members": []}, "members: need at least one"),
    ({"members": ["bert", "bert"]}, "members: need at least one and no duplicates"),
    ({"calibrators": [{}]}, "calibrators: need one per member (2), got 1"),
    ({"weights": {"head": [1, 1], "tail": [1, 1]}}, "weights.new: need one weight per member (2), got None"),
    ({"weights": {"head": [1], "tail": [1, 1], "new": [1, 1]}}, "weights.head: need one weight per member (2)"),
    ({"weights": {"head": [1, -1], "tail": [1, 1], "new": [1, 1]}}, "weights.head: must be finite, non-negative and not all zero"),
    ({"weights": {"head": [0, 0], "tail": [1, 1], "new": [1, 1]}}, "weights.head: must be finite, non-negative and not all zero"),
    ({"weights": {"head": [1, math.nan], "tail": [1, 1], "new": [1, 1]}}, "weights.head: must be finite"),
    ({"weights": {"head": [1, 1], "tail": [1, 1], "new": [1, 1], "old": [1, 1]}}, "weights.old: unknown group; known: head, tail, new"),
    ({"weights": {"head": [1, "x"], "tail": [1, 1], "new": [1, 1]}}, "weights.head[1]: must be a number, got 'x'"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_blend_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    """Each bad blend is refused with its key in front."""
    with pytest.raises(ValueError, match=r".") as refused:
        BlendSpec.from_json(SPEC.to_json() | change)
    assert str(refused.value).startswith(message)


def test_the_final_calibrator_only_applies_to_whole_pools() -> None:
    """It was fitted on pools of all members: what one calibrated member says alone is served as it is."""
    spec = replace(SPEC, final=Calibrator("platt", a=1.5, b=-0.5))
    alone = blend(spec, np.array([[0.4], [np.nan]]), np.array([0]))
    assert alone.probabilities[0] == pytest.approx(alone.member_probabilities[0, 0], rel=1e-12)


def test_a_member_without_weight_is_not_missed() -> None:
    """A pool is whole when every member with weight scored."""
    weights = dict.fromkeys(TIERS, (1.0, 0.0))
    spec = replace(SPEC, weights=weights, final=Calibrator("platt", a=1.5, b=-0.5))
    with_, without = (blend(spec, np.array([[0.4], [other]]), np.array([0])).probabilities for other in (2.0, np.nan))
    np.testing.assert_array_equal(with_, without)
