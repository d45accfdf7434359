"""Fairness policies as data: which groups are guaranteed which share of the places or of the exposure, versioned and validated.

A policy is JSON in the release's manifest. What it says of one list is worked out by `ranking.fairness.groups`; who gets which place is
`ranking.fairness.rerank`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from ranking.features import RELATIONS
from ranking.parse import integer, mapping, number, only, sequence, text, within
from ranking.types import TIERS, Surface

Mode = Literal["enforce", "report_only", "off"]
Scope = Literal["list", "amortised", "both"]
ShareKind = Literal["fixed", "of_candidates", "of_merit"]
ControllerKind = Literal["dual", "fairco"]
Pricing = Literal["gsp", "truthful"]

GROUPS: Mapping[str, tuple[str, ...]] = {"popularity_tier": TIERS, "relation": RELATIONS}
"""Attributes whose groups are known beforehand. `relation` is the user's to the item: own, maker, type, other."""
ITEM_ATTRIBUTES = ("brand", "seller", "category", "department")
"""Attributes that can have any value, by the names of the items' features; the models do not read them."""
ATTRIBUTES = (*GROUPS, *ITEM_ATTRIBUTES)
"""What groups of candidates can be made of."""
OBJECTIVES = ("click", "conversion", "satisfaction")
"""Outcomes whose probabilities a score may weigh."""
EVERY = "*"
"""The group name that stands for every group of the attribute not named itself."""
OTHER = "(other)"
"""The group of items that no rule names, or that lack the attribute; none that a rule can name."""
SEARCHED_PLACES = 50
"""Most places that floors cover where groups overlap or ads have slots: the search for a good order takes about a millisecond a place."""
MAX_GROUPS = 1000  # by name in one rule: every answer reports on each
_GUARD = 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the places or of the exposure.

    Attributes:
        value: within [0, 1].
        kind: `fixed`: the share itself; `of_candidates`: `value` times the group's share of the list's candidates; `of_merit`: `value`
            times its share of the sum of the candidates' probabilities.
    """

    value: float
    kind: ShareKind = "fixed"


@dataclass(frozen=True, slots=True)
class GroupRule:
    """What the groups of one item attribute are guaranteed.

    Attributes:
        attribute: one of `ATTRIBUTES`; an item that lacks it is in no named group.
        floors: group -> least share; groups not named have none. `*` stands for every other group and takes relative shares only.
        ceilings: group -> largest share of the places of a list, a fixed one. A ceiling gives way where no other candidates are left.
    """

    attribute: str
    floors: Mapping[str, Share] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.attribute not in ATTRIBUTES:
            raise ValueError(f"attribute: {self.attribute!r} is not known; known: {', '.join(ATTRIBUTES)}")
        for group, share in self.floors.items():
            self._check(f"floors.{group}", group, share.value)
            if group == EVERY and share.kind == "fixed":
                raise ValueError(f"floors.{group}: a fixed share for groups that are not counted; use of_candidates or of_merit")
        for group, ceiling in self.ceilings.items():
            self._check(f"ceilings.{group}", group, ceiling)
            if group == EVERY:
                raise ValueError(f"ceilings.{group}: ceilings are for groups by name")
            floor = self.floors.get(group)
            if floor is not None and floor.kind == "fixed" and floor.value > ceiling:
                raise ValueError(f"ceilings.{group}: {ceiling:g} is below the group's floor of {floor.value:g}")
        if len({*self.floors, *self.ceilings}) > MAX_GROUPS:
            raise ValueError(
                f"floors: at most {MAX_GROUPS} groups by name, got {len({*self.floors, *self.ceilings})}; {EVERY} is all others"
            )
        fixed = sum(s.value for s in self.floors.values() if s.kind == "fixed")
        # The relative shares of all groups together are at most the largest of their values, per kind.
        relative = sum(
            max((s.value for s in self.floors.values() if s.kind == kind), default=0.0) for kind in ("of_candidates", "of_merit")
        )
        if fixed + relative > 1.0 + _GUARD:
            also = f" and up to {relative:g} for relative ones" if relative else ""
            raise ValueError(f"floors: must sum to at most 1, got {fixed:g}{also}")
        if set(self.ceilings) == set(GROUPS.get(self.attribute, ("",))) and sum(self.ceilings.values()) < 1.0 - _GUARD:
            raise ValueError(f"ceilings: all groups have one, and together they leave places empty: {sum(self.ceilings.values()):g} < 1")

    def _check(self, key: str, group: str, share: float) -> None:
        if not group or not group.isprintable():
            raise ValueError(f"{key}: a group needs a name that can be printed")
        if group == OTHER:
            raise ValueError(f"{key}: stands for the items of no group; nothing can be promised to them")
        if group not in (*GROUPS.get(self.attribute, (group,)), EVERY):
            raise ValueError(f"{key}: unknown group; known: {', '.join(GROUPS[self.attribute])}, {EVERY}")
        if not (math.isfinite(share) and 0.0 <= share <= 1.0):
            raise ValueError(f"{key}: must be within [0, 1], got {share}")


@dataclass(frozen=True, slots=True)
class Controller:
    """How exposure owed to a group becomes a price, the amount added to its items' scores.

    Attributes:
        kind: `dual`: virtual queues (dual descent) around a small reserve; `fairco`: Morik et al. 2020.
        gain: price per list of exposure owed, in units of the score (search: probability; ads: currency micros per impression). About
            a fifth of the standard deviation of a list's scores: more keeps debts smaller, less costs less.
        debt_bound: lists owed beyond which the group is served before anything else, and lists of surplus beyond which it costs nothing.
    """

    kind: ControllerKind = "dual"
    gain: float = 0.03
    debt_bound: float = 4.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(ControllerKind):
            raise ValueError(f"kind: {self.kind!r} is not one of {', '.join(get_args(ControllerKind))}")
        for name in ("gain", "debt_bound"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name}: must be finite and above 0, got {value}")
        if self.debt_bound < 1.0:
            raise ValueError(f"debt_bound: must be at least 1, what one list can owe, got {self.debt_bound}")


@dataclass(frozen=True, slots=True)
class Pacing:
    """Ads: what each advertiser may spend in a day, spread over it.

    Attributes:
        attribute: the item attribute that says whose an item is.
        daily_budget_micros: advertiser -> currency micros per 24 hours; advertisers not named are not paced.
    """

    attribute: str = "seller"
    daily_budget_micros: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.attribute not in ITEM_ATTRIBUTES:
            raise ValueError(f"attribute: {self.attribute!r} is not known; known: {', '.join(ITEM_ATTRIBUTES)}")
        for advertiser, budget in self.daily_budget_micros.items():
            if budget < 1:
                raise ValueError(f"daily_budget_micros.{advertiser}: must be at least 1, got {budget}")


@dataclass(frozen=True, slots=True)
class FairnessPolicy:
    """What a list, or many lists together, must give to whom.

    Attributes:
        name: what a request's `policy` field selects.
        version: changes whenever anything else does; echoed in every answer.
        rules: one per attribute; several make groups overlap.
        mode: `enforce` re-ranks, `report_only` reports what enforcing would do, `off` does neither.
        scope: `list`: floors hold at every prefix of every list; `amortised`: they hold for the exposure of all lists together; `both`.
            Only the last two keep accounts; with `report_only` these are of the lists as they would have been.
        surfaces: where it may be used; empty: everywhere.
        page_length: places that floors, ceilings and exposure cover; what stands behind them is by score. 0: all results asked for. Where
            several rules or ad slots make groups overlap, serving covers the first 50 places at most.
        free_places: the first places, which are by score. Floors and ceilings begin behind them, and count from there. With `list` only.
        controller: of `amortised` and `both`.
        objectives: outcome -> weight ≥ 0 of its probability in the score, Σ weight · probability / Σ weight. An ad's score is that times
            its bid, so other outcomes than clicks count as its quality: it pays per click the least bid with which it would keep its place.
        reserve_micros: ads: the least price per click, and the least bid that may compete.
        pricing: ads: `gsp` second prices; `truthful`: bidding one's value is best (`ranking.auction.truthful`), on the first
            `SEARCHED_PLACES` results, beyond which there are none.
        pacing: ads: budgets; None: none.
        ad_slots: search pages that mix in ads: the 1-based places reserved for candidates with a bid, ascending, among the first 50.
        organic_value_micros: with `ad_slots`: what a click on an organic result is worth, so that floors can weigh ads against it; above 0.
        cascade: candidates whose text is read: the best so many by the members that read features (`ranking.cascade`). 0: all.
    """

    name: str
    version: str
    rules: tuple[GroupRule, ...] = ()
    mode: Mode = "enforce"
    scope: Scope = "list"
    surfaces: tuple[Surface, ...] = ()
    page_length: int = 0
    free_places: int = 0
    controller: Controller = field(default_factory=Controller)
    objectives: Mapping[str, float] = field(default_factory=lambda: {"click": 1.0})
    reserve_micros: int = 0
    pricing: Pricing = "gsp"
    pacing: Pacing | None = None
    ad_slots: tuple[int, ...] = ()
    organic_value_micros: int = 100_000
    cascade: int = 0

    def __post_init__(self) -> None:
        if not self.name or not self.version:
            raise ValueError(f"name, version: must not be empty, got {self.name!r} and {self.version!r}")
        for key, value in (("name", self.name), ("version", self.version)):
            if not value.isprintable():
                raise ValueError(f"{key}: must be printable, got {value!r}")
        for key, value, known in (("mode", self.mode, Mode), ("scope", self.scope, Scope), ("pricing", self.pricing, Pricing)):
            if value not in get_args(known):
                raise ValueError(f"{key}: {value!r} is not one of {', '.join(get_args(known))}")
        attributes = [r.attribute for r in self.rules]
        for i, attribute in enumerate(attributes):
            if attribute in attributes[:i]:
                raise ValueError(f"rules[{i}].attribute: {attribute!r} has a rule already")
        for key in ("page_length", "free_places", "reserve_micros", "organic_value_micros", "cascade"):
            if getattr(self, key) < 0:
                raise ValueError(f"{key}: must not be negative, got {getattr(self, key)}")
        if self.free_places and (self.scope != "list" or self.ad_slots or self.pricing == "truthful"):
            raise ValueError("free_places: only with scope list, without ad_slots, and with second prices (gsp)")
        if 0 < self.page_length <= self.free_places:
            raise ValueError(f"free_places: leaves no place of a page of {self.page_length} to the rules, got {self.free_places}")
        for name, weight in self.objectives.items():
            if name not in OBJECTIVES:
                raise ValueError(f"objectives.{name}: unknown objective; known: {', '.join(OBJECTIVES)}")
            if not (math.isfinite(weight) and weight >= 0.0):
                raise ValueError(f"objectives.{name}: must be finite and not negative, got {weight}")
        if not sum(self.objectives.values()) > 0.0:
            raise ValueError("objectives: need at least one with a weight above 0")
        if not all(1 <= s <= SEARCHED_PLACES for s in self.ad_slots) or list(self.ad_slots) != sorted(set(self.ad_slots)):
            raise ValueError(f"ad_slots: must be ascending places from 1 to {SEARCHED_PLACES}, got {list(self.ad_slots)}")
        if self.ad_slots and self.organic_value_micros < 1:
            raise ValueError("organic_value_micros: must be above 0 with ad_slots, or nothing would order the organic results")
        if self.ad_slots and self.scope != "list" and self.rules:
            raise ValueError(
                f"scope: with ad_slots floors hold on each list; {self.scope!r} would owe groups places that only ads can have"
            )
        if self.pricing == "truthful" and (len(self.rules) > 1 or any(r.ceilings for r in self.rules) or self.ad_slots):
            raise ValueError("pricing: truthful needs the exact order of one rule without ceilings or ad_slots; use gsp")

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "rules": [
                {
                    "attribute": r.attribute,
                    "floors": {g: s.value if s.kind == "fixed" else {s.kind: s.value} for g, s in r.floors.items()},
                    "ceilings": dict(r.ceilings),
                }
                for r in self.rules
            ],
            "mode": self.mode,
            "scope": self.scope,
            "surfaces": [s.value for s in self.surfaces],
            "page_length": self.page_length,
            "free_places": self.free_places,
            "controller": {"kind": self.controller.kind, "gain": self.controller.gain, "debt_bound": self.controller.debt_bound},
            "objectives": dict(self.objectives),
            "reserve_micros": self.reserve_micros,
            "pricing": self.pricing,
            "pacing": None
            if self.pacing is None
            else {"attribute": self.pacing.attribute, "daily_budget_micros": dict(self.pacing.daily_budget_micros)},
            "ad_slots": list(self.ad_slots),
            "organic_value_micros": self.organic_value_micros,
            "cascade": self.cascade,
        }

    @classmethod
    def from_json(cls, data: Any) -> FairnessPolicy:
        """Parse a policy; absent keys take their defaults, except name and version.

        Raises:
            ValueError: naming the key.
            KeyError: name or version is absent.
        """
        data = mapping("policy", data)
        only(data, cls.__dataclass_fields__)
        return cls(
            name=text("name", data["name"]),
            version=text("version", data["version"]),
            rules=tuple(within(f"rules[{i}]", partial(_rule, r)) for i, r in enumerate(sequence("rules", data.get("rules", [])))),
            mode=data.get("mode", "enforce"),
            scope=data.get("scope", "list"),
            surfaces=tuple(_surface(f"surfaces[{i}]", s) for i, s in enumerate(sequence("surfaces", data.get("surfaces", [])))),
            page_length=integer("page_length", data.get("page_length", 0)),
            free_places=integer("free_places", data.get("free_places", 0)),
            controller=within("controller", partial(_controller, data.get("controller", {}))),
            objectives={o: number(f"objectives.{o}", w) for o, w in mapping("objectives", data.get("objectives", {"click": 1.0})).items()},
            reserve_micros=integer("reserve_micros", data.get("reserve_micros", 0)),
            pricing=data.get("pricing", "gsp"),
            pacing=None if data.get("pacing") is None else within("pacing", partial(_pacing, data["pacing"])),
            ad_slots=tuple(integer(f"ad_slots[{i}]", s) for i, s in enumerate(sequence("ad_slots", data.get("ad_slots", [])))),
            organic_value_micros=integer("organic_value_micros", data.get("organic_value_micros", 100_000)),
            cascade=integer("cascade", data.get("cascade", 0)),
        )


def _rule(data: Any) -> GroupRule:
    data = mapping("", data)
    only(data, GroupRule.__dataclass_fields__)
    return GroupRule(
        attribute=text("attribute", data.get("attribute")),
        floors={str(g): _share(f"floors.{g}", s) for g, s in mapping("floors", data.get("floors", {})).items()},
        ceilings={str(g): number(f"ceilings.{g}", s) for g, s in mapping("ceilings", data.get("ceilings", {})).items()},
    )


def _share(key: str, data: Any) -> Share:
    if not isinstance(data, Mapping):
        return Share(number(key, data))
    relative = [k for k in get_args(ShareKind) if k != "fixed"]
    if len(data) != 1 or next(iter(data)) not in relative:
        raise ValueError(f"{key}: must be a number, or one of {', '.join(relative)} with a number, got {dict(data)!r}")
    kind, value = next(iter(data.items()))
    return Share(number(f"{key}.{kind}", value), kind)


def _controller(data: Any) -> Controller:
    data = mapping("", data)
    only(data, Controller.__dataclass_fields__)
    default = Controller()
    return Controller(
        data.get("kind", default.kind),
        number("gain", data.get("gain", default.gain)),
        number("debt_bound", data.get("debt_bound", default.debt_bound)),
    )


def _pacing(data: Any) -> Pacing:
    data = mapping("", data)
    only(data, Pacing.__dataclass_fields__)
    budgets = mapping("daily_budget_micros", data.get("daily_budget_micros", {}))
    return Pacing(
        text("attribute", data.get("attribute", "seller")), {str(a): integer(f"daily_budget_micros.{a}", b) for a, b in budgets.items()}
    )


def _surface(key: str, value: Any) -> Surface:
    try:
        return Surface(value)
    except ValueError:
        raise ValueError(f"{key}: {value!r} is not one of {', '.join(Surface)}") from None
