"""A policy's rules applied to one list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.fairness.groups import Attribute, ListGroups, coded_attribute, keyed_attribute, list_groups
from ranking.fairness.policy import OTHER, FairnessPolicy, GroupRule, Share
from ranking.features import stable_key
from ranking.types import TIERS

NAMES = {stable_key(name): name for name in ("acme", "bolt", "coil")}


def sellers(*names: str) -> Attribute:
    return keyed_attribute(np.array([stable_key(name) for name in names], np.int64), NAMES)


def applied(rule: GroupRule, attribute: Attribute, merit: Any = None) -> ListGroups:
    n = len(attribute.codes)
    (groups,) = list_groups(
        FairnessPolicy("p", "1", (rule,)), {rule.attribute: attribute}, np.ones(n) if merit is None else np.asarray(merit)
    )
    return groups


def members(groups: ListGroups) -> list[str]:
    return [groups.names[c] for c in groups.codes.tolist()]


def test_named_groups_come_first_and_the_rest_is_other() -> None:
    """Candidates of groups the rule does not name, and those without the attribute, stand together at the end."""
    groups = applied(GroupRule("seller", {"bolt": Share(0.2)}, {"acme": 0.5}), sellers("acme", "coil", "bolt", "", "acme"))
    assert groups.names == ("bolt", "acme", OTHER)
    assert members(groups) == ["acme", OTHER, "bolt", OTHER, "acme"]
    assert groups.floors.tolist() == [0.2, 0.0, 0.0]
    assert groups.ceilings.tolist() == [1.0, 0.5, 1.0]


def test_a_key_that_nobody_has_a_name_for_is_other() -> None:
    """What an item has may be unknown to whoever keeps the names: no error."""
    groups = applied(GroupRule("seller", {"acme": Share(0.1)}), keyed_attribute(np.array([12345, stable_key("acme")]), NAMES))
    assert members(groups) == [OTHER, "acme"]


def test_a_group_without_candidates_keeps_its_fixed_floor_and_no_relative_one() -> None:
    """A policy may name what this list lacks; a share of candidates is then a share of none."""
    groups = applied(GroupRule("seller", {"acme": Share(0.3), "bolt": Share(0.7, "of_candidates")}), sellers("coil", "coil"))
    assert dict(zip(groups.names, groups.floors.tolist(), strict=True)) == {"acme": 0.3, "bolt": 0.0, OTHER: 0.0}


def test_every_group_there_is_can_be_promised_its_share_of_candidates() -> None:
    """`*` stands for all groups on the list that are not named, and not for items without the attribute."""
    groups = applied(GroupRule("seller", {"*": Share(0.8, "of_candidates")}), sellers("acme", "acme", "bolt", ""))
    found = dict(zip(groups.names, groups.floors.tolist(), strict=True))
    assert found == pytest.approx({"acme": 0.8 * 2 / 4, "bolt": 0.8 * 1 / 4, OTHER: 0.0})


def test_shares_of_merit_follow_the_probabilities() -> None:
    """A group's floor is `value` times its share of the sum; a candidate without a probability has no merit."""
    rule = GroupRule("seller", {"*": Share(0.9, "of_merit")})
    groups = applied(rule, sellers("acme", "bolt", "bolt"), [0.3, 0.1, float("nan")])
    assert dict(zip(groups.names, groups.floors.tolist(), strict=True)) == pytest.approx(
        {"acme": 0.9 * 0.75, "bolt": 0.9 * 0.25, OTHER: 0.0}
    )
    nobody = applied(rule, sellers("acme", "bolt", "bolt"), [0.0, 0.0, 0.0])
    assert nobody.floors.tolist() == pytest.approx([0.9 / 3, 0.9 * 2 / 3, 0.0])


def test_a_relative_floor_gives_way_to_a_ceiling() -> None:
    """Where a group is so large that its relative floor passes its ceiling, the ceiling stands."""
    groups = applied(GroupRule("seller", {"acme": Share(1.0, "of_candidates")}, {"acme": 0.5}), sellers("acme", "acme", "acme", "bolt"))
    assert groups.floors.tolist() == [0.5, 0.0]


def test_tiers_are_all_there_in_the_order_of_their_codes() -> None:
    """Popularity tiers have no other group: every item is in one."""
    groups = applied(GroupRule("popularity_tier", {"tail": Share(0.3)}), coded_attribute("popularity_tier", np.array([2, 1], np.int8)))
    assert (groups.names, members(groups)) == (TIERS, ["new", "tail"])


def test_a_policy_without_rules_groups_by_tier_and_promises_nothing() -> None:
    """The report still says who got what."""
    (groups,) = list_groups(FairnessPolicy("p", "1"), {"popularity_tier": coded_attribute("popularity_tier", np.array([0, 1]))}, np.ones(2))
    assert (groups.attribute, groups.floors.tolist(), groups.ceilings.tolist()) == ("popularity_tier", [0.0] * 3, [1.0] * 3)


def test_an_empty_list_has_groups_without_members() -> None:
    """No candidates: no error, no members."""
    groups = applied(GroupRule("seller", {"acme": Share(0.3), "*": Share(0.5, "of_candidates")}), sellers())
    assert (groups.names, len(groups.codes)) == (("acme", OTHER), 0)


@given(st.lists(st.sampled_from(["acme", "bolt", "coil", ""]), max_size=20), st.booleans())
def test_floors_never_promise_more_than_everything(names: list[str], merit: bool) -> None:
    """Whatever the list, floors are within [0, 1] and sum to at most 1, and the groups partition the candidates."""
    rule = GroupRule("seller", {"acme": Share(0.25), "*": Share(0.75, "of_merit" if merit else "of_candidates")}, {"bolt": 0.4})
    groups = applied(rule, sellers(*names), np.linspace(0, 1, len(names)))
    assert ((groups.floors >= 0) & (groups.floors <= groups.ceilings)).all()
    assert groups.floors.sum() <= 1 + 1e-9
    assert np.bincount(groups.codes, minlength=len(groups.names)).sum() == len(names)
    assert members(groups) == [name or OTHER for name in (n if n in groups.names else "" for n in names)]


def test_take_keeps_groups_and_shares() -> None:
    """Some of the candidates, the same promises."""
    groups = applied(GroupRule("seller", {"acme": Share(0.5)}), sellers("acme", "bolt", "acme"))
    some = groups.take(np.array([2, 1]))
    assert (members(some), some.floors.tolist()) == (["acme", OTHER], groups.floors.tolist())
