"""An explanation in words: where a result stands and why, and what its features say. Knows messages and text; not how they are laid out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from ranking.features import DERIVED, NEVER_DAYS, REQUEST_COLUMNS, USER_SCALARS, VIEWS, Feature
from ranking.types import TIERS

_FEATURES: dict[str, Feature] = {f.name: f for f in (*(f for v in VIEWS for f in v), *REQUEST_COLUMNS, *DERIVED)}
_MINUS = "\N{MINUS SIGN}"

# What a value says. {} stands for the number: a percentage where the unit is a share, "1 day" or "6 days" where it is days.
_SAYS = {
    "orders_28d": "the user's {} baskets in 28 days",
    "is_private": "private label",
    "purchases_28d": "sold {}× in 28 days",
    "promo_rate_28d": "bought at {} of its promotions",
    "price_28d": "price {}",
    "discount_28d": "{} off the shelf price",
    "age_days": "known for {}",
    "on_display": "on display",
    "in_mailer": "in the mailer",
    "repeat_count": "bought {}× by the user",
    "repeat_days": "last {} ago",
    "category_share": "{} of the user's purchases are of its category",
    "price_to_level": "{}× the user's price level",
    "query_overlap": "{} of the query's words in its text",
    "relation_rate": "bought at {} of its promotions by users who know it as well",
    "promo_appeal": "bought {}× as often as promotions like it by users new to it",
    "type_affinity": "its type bought {}× lately by the user",
    "type_share": "{} of its type's sales",
    "maker_affinity": "its type by its maker bought {}× lately by the user",
    "maker_share": "{} of its maker's sales in its type",
    "discovery": "goes with what the user buys, {}",
}
_ABSENT = {  # instead, where the value is 0
    "is_private": "no private label",
    "discount_28d": "not discounted",
    "purchases_28d": "not sold in 28 days",
    "on_display": "not on display",
    "in_mailer": "not in the mailer",
    "repeat_count": "never bought by the user",
    "category_share": "the user does not buy its category",
    "query_overlap": "none of the query's words in its text",
    "type_affinity": "the user does not buy its type",
    "type_share": "its type did not sell",
    "maker_affinity": "the user does not buy its type by its maker",
    "maker_share": "its maker did not sell of its type",
    "discovery": "nothing in what the user buys points to it",
}
# Features that say one thing together: their parts are added up, which is exact, and told under the first of them.
_TOGETHER = (
    ("repeat_count", "repeat_days", "repeat_share"),
    ("purchases_28d", "purchases_7d", "purchases_all", "buyers_28d", "popularity_rank", "tier_code"),
    ("promo_rate_28d", "promo_impressions_28d"),
    ("relation_rate", "relation", "promo_rate_own", "promo_rate_maker", "promo_rate_type", "promo_rate_other"),
    ("promo_appeal", "relation_appeal", "first_purchase_rate"),
    ("type_affinity", "type_expected"),
    ("maker_affinity", "maker_expected"),
    ("orders_28d", *(name for name in USER_SCALARS if name != "orders_28d")),
)
_TOLD_UNDER = {name: names[0] for names in _TOGETHER for name in names}
_SEEN = 0.005  # a part below this is written 0.00


def feature(name: str, value: float) -> str:
    """What one feature's value says, e.g. "last bought 6 days ago"."""
    known = _FEATURES.get(name)
    if name == "tier_code" and value in range(len(TIERS)):
        return f"a {TIERS[int(value)]} item"
    if known is None or known.unit in ("ordinal", "code"):
        return f"{name.replace('_', ' ')} {value:.3g}"
    if known.default == NEVER_DAYS and value >= NEVER_DAYS:
        return "never"
    if name in _ABSENT and value == 0.0:
        return _ABSENT[name]
    return _SAYS.get(name, name.replace("_", " ") + " {}").format(_number(value, known.unit))


def strongest(explanation: Any, count: int, *, up: bool) -> list[str]:
    """At most `count` things that push the attributed member's log-odds up (or down) most, in words with their part of it."""
    parts: defaultdict[str, float] = defaultdict(float)
    for name, value in explanation.attributions.items():
        parts[_TOLD_UNDER.get(name, name)] += value
    pushing = sorted(((v, name) for name, v in parts.items() if (v if up else -v) >= _SEEN), reverse=up)[:count]
    return [f"{_told(name, explanation.features)} {signed(value)}" for value, name in pushing]


def _told(name: str, features: Mapping[str, float]) -> str:
    """A feature, or those told under it, in words."""
    said = feature(name, features.get(name, 0.0))
    if name == "repeat_count" and features.get(name, 0.0):
        return f"{said}, {feature('repeat_days', features.get('repeat_days', NEVER_DAYS))}"
    if name == "purchases_28d":
        return f"{feature('tier_code', features.get('tier_code', len(TIERS)))}, {said}"
    return said


def standing(explanation: Any, figure: Callable[[float], str], *, attribute: bool) -> str:
    """Where the result stands and what put it there.

    Args:
        explanation: a `pb.Explanation`.
        figure: writes a score or a price.
        attribute: name the floor's attribute, too.
    """
    e = explanation
    text = f"{ordinal(e.rank_before)} by score {figure(e.score)}"
    if e.objectives:
        text += " (" + ", ".join(f"{outcome} {p:.2%}" for outcome, p in sorted(e.objectives.items())) + ")"
    if e.price:
        text += f", {signed(e.price, figure)} for exposure owed"
    cost = f", which cost {figure(e.cost)}" if e.cost else ""
    if e.binding_floor:
        of = f" ({plain(e.binding_attribute)})" if attribute and e.binding_attribute else ""
        within = f" within {_count(e.binding_prefix, 'place')}" if e.binding_prefix else ""
        verb = "lifted to" if e.rank < e.rank_before else "kept at"  # by score it would stand higher; others' prices are above it
        return f"{text}, {verb} {ordinal(e.rank)} by the floor of {e.binding_floor}{of}{within}{cost}"
    if e.rank < e.rank_before:
        return f"{text}, moved up to {ordinal(e.rank)}{cost}"
    return f"{text}, made room for others" if e.rank > e.rank_before else text


def promise(cost: Any) -> str:
    """What a `pb.ConstraintCost` is the cost of."""
    if cost.kind == "price":
        return f"price of {cost.group} ({plain(cost.attribute)})" if cost.group else "prices of all other groups"
    if cost.kind == "floor" and not cost.group:
        return f"all other floors of {plain(cost.attribute)}"
    if cost.kind == "floor":
        return f"floor of {cost.group} ({plain(cost.attribute)}) within {_count(cost.prefix, 'place')}"
    if cost.kind == "ceiling":
        return f"ceilings of {plain(cost.attribute)}"
    return "everything else at once: overlapping groups, ad slots"


def plain(name: str) -> str:
    """A name of ours without underscores."""
    return name.replace("_", " ")


def ordinal(rank: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th …"""
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{ending}"


def signed(value: float, figure: Callable[[float], str] = "{:.2f}".format) -> str:
    """The number with its sign, which is a real minus."""
    return ("+" if value >= 0 else _MINUS) + figure(abs(value))


def _number(value: float, unit: str) -> str:
    if unit in ("share", "rate", "quantile"):
        return f"{value:.2%}" if 0.0 < value < 0.01 else f"{value:.0%}"
    if unit == "days":
        return _count(round(value), "day")
    if unit == "currency":
        return f"{value:.2f}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.2g}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
