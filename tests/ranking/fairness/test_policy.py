"""Fairness policies as data: what is written comes back, and each way of being wrong is refused by the name of its key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ranking.fairness.policy import MAX_GROUPS, Controller, FairnessPolicy, GroupRule, Pacing, Share
from ranking.types import Surface

GALLERY = sorted((Path(__file__).parent / "bad_policies").glob("*.json"))
RICH = FairnessPolicy(
    "rich",
    "7",
    (
        GroupRule("popularity_tier", {"tail": Share(0.2), "new": Share(0.5, "of_candidates")}, {"head": 0.8}),
        GroupRule("seller", {"*": Share(0.9, "of_merit")}),
    ),
    mode="report_only",
    scope="both",
    surfaces=(Surface.SEARCH,),
    page_length=10,
    controller=Controller("fairco", 0.01, 3.0),
    objectives={"click": 1.0, "satisfaction": 0.5},
    reserve_micros=5,
    pacing=Pacing("brand", {"private": 7}),
)
PAGE = FairnessPolicy("page", "1", RICH.rules[:1], ad_slots=(1, 4), organic_value_micros=9, cascade=50)


@pytest.mark.parametrize("policy", [RICH, PAGE, FairnessPolicy("plain", "1")], ids=lambda p: p.name)
def test_a_policy_survives_the_round_trip(policy: FairnessPolicy) -> None:
    """JSON text and back is the identity, for every key and for all defaults."""
    assert FairnessPolicy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


def test_absent_keys_take_their_defaults() -> None:
    """A name and a version are a policy: no rules, exact floors per list, scored by clicks."""
    assert FairnessPolicy.from_json({"name": "p", "version": "1"}) == FairnessPolicy("p", "1")


def test_shares_may_sum_to_one_in_floats() -> None:
    """Three shares adding up to 1 within rounding are accepted."""
    rule = GroupRule("popularity_tier", {"head": Share(0.7), "tail": Share(0.2), "new": Share(0.1)})
    assert sum(s.value for s in rule.floors.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("case", GALLERY, ids=lambda p: p.stem)
def test_a_bad_policy_says_what_is_wrong(case: Path) -> None:
    """Each bad policy of the gallery is refused, its key and what would be right in the message."""
    bad = json.loads(case.read_text())
    with pytest.raises(ValueError, match=r".") as refused:
        FairnessPolicy.from_json(bad["policy"])
    assert str(refused.value).startswith(bad["message"])


@pytest.mark.parametrize("key", ["name", "version"])
def test_a_policy_needs_a_name_and_a_version(key: str) -> None:
    """Answers echo both, so neither may be absent or empty."""
    with pytest.raises(KeyError, match=key):
        FairnessPolicy.from_json({k: "x" for k in ("name", "version") if k != key})
    with pytest.raises(ValueError, match=r"^name, version: must not be empty"):
        FairnessPolicy(**({"name": "p", "version": "1"} | {key: ""}))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_share_is_a_finite_number(value: float) -> None:
    """NaN and infinity, which JSON cannot say and code can, are refused by name."""
    with pytest.raises(ValueError, match=r"^floors\.tail: must be within \[0, 1\]"):
        GroupRule("popularity_tier", {"tail": Share(value)})
    with pytest.raises(ValueError, match=r"^objectives\.click: must be finite"):
        FairnessPolicy("p", "1", objectives={"click": value})


@pytest.mark.parametrize("example", sorted((Path(__file__).parents[3] / "docs" / "policies").glob("*.json")), ids=lambda p: p.stem)
def test_the_documented_policies_are_in_order(example: Path) -> None:
    """Every example of the guide parses, and its file is named after it."""
    assert FairnessPolicy.from_json(json.loads(example.read_text())).name == example.stem


def test_a_rule_names_so_many_groups_and_no_more() -> None:
    """Every answer reports on each group by name, so there is a limit; `*` stands for any number of others."""
    names = [f"s{i}" for i in range(MAX_GROUPS + 1)]
    GroupRule("seller", {name: Share(0.0) for name in names[:-1]})
    with pytest.raises(ValueError, match=r"^floors: at most 1000 groups by name, got 1001"):
        GroupRule("seller", {name: Share(0.0) for name in names})


@pytest.mark.parametrize("key", ["name", "version"])
def test_names_can_be_printed(key: str) -> None:
    """Line breaks and control characters have no place in what answers and tables show."""
    with pytest.raises(ValueError, match=rf"^{key}: must be printable, got 'a\\nb'"):
        FairnessPolicy(**({"name": "p", "version": "1"} | {key: "a\nb"}))
