"""What a policy says of one list: the groups of its candidates, and each group's floor and ceiling there.

Knows integer codes and shares; not where an item's attributes come from, nor how places are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.fairness.policy import EVERY, GROUPS, OTHER, FairnessPolicy, GroupRule, Share
from ranking.types import FloatArray, IntArray

_NOTHING = Share(0.0)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a list's candidates: `names[codes[i]]` is what candidate i has; an empty name is none."""

    codes: IntArray  # (n,) index into `names`
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class ListGroups:
    """One rule applied to one list of n candidates: g groups that partition it.

    Attributes:
        attribute: whose groups these are.
        names: (g,) group names; the last may be `OTHER`.
        codes: (n,) group of each candidate.
        floors: (g,) least shares on this list, each in [0, 1], together at most 1.
        ceilings: (g,) largest shares of the places, 1 where there is none.
    """

    attribute: str
    names: tuple[str, ...]
    codes: IntArray
    floors: FloatArray
    ceilings: FloatArray

    def take(self, rows: NDArray[Any]) -> ListGroups:
        """The same groups and shares for some of the candidates."""
        return ListGroups(self.attribute, self.names, self.codes[rows], self.floors, self.ceilings)


def list_groups(policy: FairnessPolicy, attributes: Mapping[str, Attribute], merit: FloatArray) -> tuple[ListGroups, ...]:
    """The policy's rules applied to one list; a policy without rules groups by popularity tier and promises nothing.

    Args:
        policy: whose rules.
        attributes: by name, those the rules need (and `popularity_tier`).
        merit: (n,) the candidates' probabilities, for shares of merit; NaN counts as none.
    """
    rules = policy.rules or (GroupRule("popularity_tier"),)
    return tuple(_apply(rule, attributes[rule.attribute], merit) for rule in rules)


def coded_attribute(name: str, codes: NDArray[Any]) -> Attribute:
    """An attribute of known groups, `popularity_tier` or `relation`, from (n,) codes into `GROUPS[name]`."""
    return Attribute(codes.astype(np.int64, copy=False), GROUPS[name])


def keyed_attribute(keys: IntArray, names: Mapping[int, str]) -> Attribute:
    """The attribute from (n,) integer keys and what each stands for; a key without a name is none."""
    present, codes = np.unique(keys, return_inverse=True)
    return Attribute(codes.astype(np.int64, copy=False), [names.get(key, "") for key in present.tolist()])


def _apply(rule: GroupRule, attribute: Attribute, merit: FloatArray) -> ListGroups:
    n = len(attribute.codes)
    names, codes = (GROUPS[rule.attribute], attribute.codes) if rule.attribute in GROUPS else _named(rule, attribute)
    every = rule.floors.get(EVERY, _NOTHING)
    wanted = [rule.floors.get(name, every if name != OTHER else _NOTHING) for name in names]
    floors = np.array([share.value for share in wanted])
    for kind in {share.kind for share in wanted} - {"fixed"}:
        part = _merit_share(codes, merit, len(names)) if kind == "of_merit" else np.bincount(codes, minlength=len(names)) / max(n, 1)
        floors = np.where([share.kind == kind for share in wanted], floors * part, floors)
    ceilings = np.array([rule.ceilings.get(name, 1.0) for name in names])
    return ListGroups(rule.attribute, names, codes, np.minimum(floors, ceilings), ceilings)


def _named(rule: GroupRule, attribute: Attribute) -> tuple[tuple[str, ...], IntArray]:
    """Groups the rule names (with `*`: all that are there), and one for the rest, last."""
    named = [g for g in dict.fromkeys((*rule.floors, *rule.ceilings)) if g != EVERY]
    if EVERY in rule.floors:
        present = (attribute.names[c] for c in np.unique(attribute.codes).tolist())
        named = list(dict.fromkeys((*named, *(name for name in present if name))))
    index = {name: g for g, name in enumerate(named)}
    of_code = np.array([index.get(name, len(named)) for name in attribute.names], np.int64)
    codes: IntArray = of_code[attribute.codes] if len(attribute.codes) else np.empty(0, np.int64)
    return (*named, OTHER), codes


def _merit_share(codes: IntArray, merit: FloatArray, g: int) -> FloatArray:
    """(g,) share of the sum of merit; of the candidates where nobody has any."""
    weight = np.nan_to_num(merit)
    if not weight.sum() > 0.0:
        weight = np.ones(len(codes))
    share: FloatArray = np.bincount(codes, weights=weight, minlength=g) / max(weight.sum(), 1e-300)
    return share
