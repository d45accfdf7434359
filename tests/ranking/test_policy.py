"""Fairness policies as data."""

from __future__ import annotations

from typing import Any

import pytest

from ranking.policy import FairnessPolicy
from ranking.types import TIERS

GOOD: dict[str, Any] = {"name": "p", "version": "1", "shares": {"tail": 0.3}, "mode": "enforce", "reserve_micros": 5}


def test_a_policy_survives_the_round_trip() -> None:
    """from_json(to_json(p)) is p."""
    policy = FairnessPolicy.from_json(GOOD)
    assert FairnessPolicy.from_json(policy.to_json()) == policy


def test_shares_come_in_the_order_of_the_group_codes() -> None:
    """A group the policy does not name has floor 0."""
    policy = FairnessPolicy("p", "1", {"new": 0.1, "tail": 0.3})
    assert policy.share_vector().tolist() == [{"head": 0.0, "tail": 0.3, "new": 0.1}[g] for g in TIERS]


def test_shares_may_sum_to_one_in_floats() -> None:
    """Three tenths adding up to 1 within rounding are accepted."""
    assert FairnessPolicy("p", "1", {"head": 0.7, "tail": 0.2, "new": 0.1}).share_vector().sum() == pytest.approx(1.0)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name: must be a non-empty string, got ''"),
    ({"version": 1}, "version: must be a non-empty string, got 1"),
    ({"mode": "maybe"}, "mode: 'maybe' is not one of enforce, report_only, off"),
    ({"group_by": "colour"}, "group_by: 'colour' is not known; known: popularity_tier"),
    ({"shares": {"middle": 0.1}}, "shares.middle: unknown group; known: head, tail, new"),
    ({"shares": {"tail": -0.1}}, "shares.tail: must be within [0, 1], got -0.1"),
    ({"shares": {"tail": 1.1}}, "shares.tail: must be within [0, 1], got 1.1"),
    ({"shares": {"tail": float("nan")}}, "shares.tail: must be within [0, 1], got nan"),
    ({"shares": {"tail": "much"}}, "shares.tail: must be a number, got 'much'"),
    ({"shares": {"tail": True}}, "shares.tail: must be a number, got True"),
    ({"shares": {"tail": 0.7, "new": 0.7}}, "shares: must sum to at most 1, got 1.4"),
    ({"reserve_micros": -1}, "reserve_micros: must not be negative, got -1"),
    ({"reserve_micros": 0.5}, "reserve_micros: must be a whole number, got 0.5"),
    ({"ceiling": 0.5}, "ceiling: unknown key"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_policy_says_what_is_wrong(change: dict[str, Any], message: str) -> None:
    """Each bad policy is refused, its key and what would be right in the message."""
    with pytest.raises(ValueError, match=r".") as refused:
        FairnessPolicy.from_json(GOOD | change)
    assert str(refused.value).startswith(message)


def test_a_policy_made_in_code_needs_a_name_and_a_version() -> None:
    """Answers echo both, so neither may be empty."""
    for name, version in (("", "1"), ("p", "")):
        with pytest.raises(ValueError, match=r"^name, version: must not be empty"):
            FairnessPolicy(name, version)
