"""The feature schema: every feature's name, type, default, unit and lifetime, declared once and read by everyone.

`feature_repo/definitions.py` turns `VIEWS` into Feast views, `training` computes their columns, `services` reads them, and
`ranking.assemble` turns them into the models' input row (`MODEL_COLUMNS`). A change here changes `schema_hash()`, and a release
trained on another hash is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal

Dtype = Literal["float32", "int64", "string", "float32_list", "int64_list"]
Scalar = float | int | str

FOREVER = timedelta(days=3650)
WEEKLY = timedelta(days=14)  # recomputed every 7 days; one missed run is tolerated, two are not

MAX_HISTORY = 512  # items of a user's history kept online, most recent first
MAX_CATEGORIES = 64  # categories of a user's affinity kept online, largest share first
MAX_GROUPS = 512  # types, and types by a maker, of a user's affinity kept online, strongest first; 9 users in 10 have fewer
MAX_ITEM_TOKENS = 24  # token ids of an item's text; longer texts are cut at the end
MAX_QUERY_TOKENS = 24  # the same for a query or a user's interest text
NEVER_DAYS = 999.0  # "days since" something that never happened

# What the aggregates mean, shared by the batch tables and the streaming aggregates.
SHORT_WINDOW = timedelta(days=7)
WINDOW = timedelta(days=28)
PROMO_RATE_PRIOR = 500.0  # impressions' worth of belief in the mean rate: half a purchase at the 0.1 % such rates have
HEAD_SHARE = 0.2  # of the items ever sold, the share that are head
INTEREST_CATEGORIES = 3  # categories named in a user's interest text
TASTE_WIDTH = 48  # components of a taste vector
PRICE_STEP_PERCENT = 5  # a day's price is a change when it is more than so much off that of the day before on which the item sold

# How fast the past fades, in weeks until it counts half; the week just over counts whole.
AFFINITY_HALF_LIFE = 8.0  # of a user's lines in a type
SHARE_HALF_LIFE = 3.0  # of an item's lines within its type
RELATION_HALF_LIFE = 10.0  # of promoted impressions and their purchases
WHOLE = 1_000_000_000  # the week just over, in the whole numbers that fading is counted in: their sums are equal in any order

RELATIONS: tuple[str, ...] = ("own", "maker", "type", "other")
"""What a user had bought before an item was promoted: the item, its type by its maker, its type, none of these. The first that holds."""
RELATION_PRIORS: tuple[float, ...] = (20.0, 100.0, 300.0, 500.0)
"""Impressions' worth of belief in each relation's expected rate: the rarer a purchase, the more it takes to know better."""
RELATION_ODDS: tuple[float, ...] = (110.0, 2.5, 1.9, 1.0)
"""How much likelier each relation is to buy than a stranger is, over all items: Complete Journey before week 41, no later one read. It
hardly moves (own 109 to 113), and a ranker that needs it otherwise has `relation` to correct it by."""


class Entity(StrEnum):
    USER = "user"
    ITEM = "item"


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a view. Lists default to empty; `default` is what an unknown entity or a null becomes."""

    name: str
    dtype: Dtype
    default: Scalar | None
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class View:
    """Features of one entity that are computed together and age together."""

    name: str
    entity: Entity
    ttl: timedelta
    owner: str
    description: str
    features: tuple[Feature, ...]

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)


USER_PROFILE = View(
    "user_profile",
    Entity.USER,
    FOREVER,
    "customer-data",
    "What the user declared. Unknown for most users, hence the -1 codes.",
    (
        Feature("age_code", "float32", -1.0, "ordinal", "age band, youngest 0"),
        Feature("income_code", "float32", -1.0, "ordinal", "income band, lowest 0"),
        Feature("household_size", "float32", -1.0, "persons", "people in the household, 5 means 5 or more"),
        Feature("kids_count", "float32", -1.0, "persons", "children in the household, 3 means 3 or more"),
    ),
)

USER_BEHAVIOUR = View(
    "user_behaviour",
    Entity.USER,
    WEEKLY,
    "behaviour",
    "What the user bought before the row's event time.",
    (
        Feature("orders_28d", "float32", 0.0, "baskets", "baskets in the last 28 days"),
        Feature("spend_28d", "float32", 0.0, "currency", "money spent in the last 28 days"),
        Feature("orders_all", "float32", 0.0, "baskets", "baskets ever"),
        Feature("days_since_order", "float32", NEVER_DAYS, "days", "days since the last basket"),
        Feature("mean_unit_price", "float32", 0.0, "currency", "mean price paid per unit, the user's price level"),
        Feature("private_share", "float32", 0.0, "share", "share of lines that are private-label"),
        Feature("distinct_items", "float32", 0.0, "items", "distinct items ever bought"),
        Feature("history_item_keys", "int64_list", None, "item_key", f"last {MAX_HISTORY} distinct items bought, most recent first"),
        Feature("history_counts", "float32_list", None, "baskets", "baskets each of them was in"),
        Feature("history_days", "float32_list", None, "days", "days since each was last bought"),
        Feature("category_keys", "int64_list", None, "category_key", f"{MAX_CATEGORIES} categories bought most, largest share first"),
        Feature("category_shares", "float32_list", None, "share", "share of the user's lines in each of them"),
        Feature("type_keys", "int64_list", None, "type_key", f"{MAX_GROUPS} types bought, strongest affinity first"),
        Feature("type_affinities", "float32_list", None, "lines", "lines in each, halved every 8 weeks"),
        Feature("maker_keys", "int64_list", None, "maker_key", f"{MAX_GROUPS} types by a maker bought, strongest affinity first"),
        Feature("maker_affinities", "float32_list", None, "lines", "lines in each, halved every 8 weeks"),
        Feature("interest_text", "string", "", "text", "the largest categories in words: what BERT reads when there is no query"),
    ),
)

ITEM_PROFILE = View(
    "item_profile",
    Entity.ITEM,
    FOREVER,
    "catalogue",
    "What the catalogue says of the item.",
    (
        Feature("title", "string", "", "text", "the item's text as BERT reads it"),
        Feature("category", "string", "", "name", "product category"),
        Feature("department", "string", "", "name", "department"),
        Feature("brand", "string", "", "name", "brand kind or name"),
        Feature("seller", "string", "", "id", "manufacturer or seller"),
        Feature("category_key", "int64", 0, "category_key", "stable 64-bit key of the category"),
        Feature("type_key", "int64", 0, "type_key", "stable 64-bit key of the product type, finer than the category; 0: has none"),
        Feature("maker_key", "int64", 0, "maker_key", "stable 64-bit key of type and seller together; 0: has no type"),
        Feature("is_private", "float32", 0.0, "0/1", "private-label"),
        Feature("token_ids", "int64_list", None, "token ids", f"the text tokenised once, no special tokens, at most {MAX_ITEM_TOKENS}"),
        Feature("text_digest", "int64", 0, "hash", "stable 64-bit key of the text: equal texts share BERT scores"),
    ),
)

ITEM_STATISTICS = View(
    "item_statistics",
    Entity.ITEM,
    WEEKLY,
    "behaviour",
    "How the item sold before the row's event time.",
    (
        Feature("purchases_7d", "float32", 0.0, "baskets", "baskets with the item in the last 7 days"),
        Feature("purchases_28d", "float32", 0.0, "baskets", "baskets with the item in the last 28 days"),
        Feature("purchases_all", "float32", 0.0, "baskets", "baskets with the item ever"),
        Feature("buyers_28d", "float32", 0.0, "users", "distinct buyers in the last 28 days"),
        Feature("promo_impressions_28d", "float32", 0.0, "impressions", "user-store-weeks that saw it promoted in the last 28 days"),
        Feature("promo_rate_28d", "float32", 0.0, "rate", "purchases per promoted impression, smoothed towards the mean rate"),
        Feature("promo_rate_own", "float32", 0.0, "rate", "purchases per promoted impression by users who had bought the item, fading"),
        Feature("promo_rate_maker", "float32", 0.0, "rate", "the same by users who had bought its type by its maker, but not the item"),
        Feature("promo_rate_type", "float32", 0.0, "rate", "the same by users who had bought its type, but not by its maker"),
        Feature("promo_rate_other", "float32", 0.0, "rate", "the same by users who had bought nothing of its type"),
        Feature("first_purchase_rate", "float32", 0.0, "rate", "the same by all users who had not bought the item"),
        Feature("promo_appeal", "float32", 1.0, "ratio", "purchases by users who had not bought it over what they buy of other items"),
        Feature("type_share", "float32", 0.0, "share", "the item's share of its type's lines, halved every 3 weeks"),
        Feature("maker_share", "float32", 0.0, "share", "the item's share of its type's lines by its maker, halved every 3 weeks"),
        Feature("price_28d", "float32", 0.0, "currency", "mean price paid per unit in the last 28 days, else ever"),
        Feature("discount_28d", "float32", 0.0, "share", "mean discount on the shelf price in the last 28 days"),
        Feature("popularity_rank", "float32", 0.0, "quantile", "share of items sold less over all time"),
        Feature("age_days", "float32", 0.0, "days", "days since the item was first sold or promoted"),
        Feature("popularity_tier", "string", "new", "head/tail/new", "head: the top 20 % of sold items by purchases; new: never sold"),
    ),
)

DAY_WINDOWS = {"1d": 1, "7d": 7, "28d": 28}
"""Name -> days of the windows in which purchases, buyers and changes of price are counted beside `ITEM_STATISTICS`."""

ITEM_WINDOWS = View(
    "item_windows",
    Entity.ITEM,
    WEEKLY,
    "behaviour",
    "What `item_statistics` leaves out of the windows of 1, 7 and 28 days and of all time. No column of the models. A promotion is told for"
    " a whole week, so that there are no promoted impressions of one day.",
    (
        Feature("purchases_1d", "float32", 0.0, "baskets", "baskets with the item in the last 24 hours"),
        Feature("buyers_1d", "float32", 0.0, "users", "distinct buyers in the last 24 hours"),
        Feature("buyers_7d", "float32", 0.0, "users", "distinct buyers in the last 7 days"),
        Feature("buyers_all", "float32", 0.0, "users", "distinct buyers ever"),
        Feature("promo_impressions_7d", "float32", 0.0, "impressions", "user-store-weeks that saw it promoted in the last 7 days"),
        Feature("promo_impressions_all", "float32", 0.0, "impressions", "user-store-weeks that ever saw it promoted"),
        Feature(
            "promo_rate_7d", "float32", 0.0, "rate", "purchases per promoted impression in the last 7 days, smoothed as promo_rate_28d"
        ),
        Feature("promo_rate_all", "float32", 0.0, "rate", "purchases per promoted impression ever, smoothed as promo_rate_28d"),
        Feature("price_last", "float32", 0.0, "currency", "median price paid per unit on the last whole day (UTC) on which it sold"),
        Feature("price_to_mean_28d", "float32", 1.0, "ratio", "price_last over price_28d; 1 where either is unknown"),
        *(
            Feature(
                f"price_changes_{window}",
                "float32",
                0.0,
                "changes",
                f"of the last {days} days (whole, UTC) those with a median price more than {PRICE_STEP_PERCENT} % off the one before",
            )
            for window, days in DAY_WINDOWS.items()
        ),
        Feature("price_changes_all", "float32", 0.0, "changes", "the same of all days; days on which it did not sell are passed over"),
    ),
)

ITEM_REVIEWS = View(
    "item_reviews",
    Entity.ITEM,
    FOREVER,
    "content",
    "What reviews say of the item, told by whoever computes it (`training.tables.reviews`). No column of the models.",
    (
        Feature("review_sentiment", "float32", 0.0, "-1 to 1", "mean sentiment of its reviews; 0: neutral, or none"),
        Feature("reviews", "float32", 0.0, "reviews", "reviews ever"),
    ),
)

EMBEDDING_WIDTH = 128
"""Numbers of a text's embedding: the sentence encoder's 384, projected at random, which keeps cosines to within about 0.05."""

ITEM_EMBEDDING = View(
    "item_embedding",
    Entity.ITEM,
    FOREVER,
    "content",
    "What the item's text means, to a pretrained sentence encoder: known of an item nobody has bought yet. Made when asked for"
    " (`longtail features embed`). No column of the models, and no part of the item snapshot.",
    (
        Feature(
            "embedding", "float32_list", None, "score", f"{EMBEDDING_WIDTH} numbers of length 1; two texts' product is how alike they are"
        ),
        Feature("embedding_of", "int64", 0, "hash", "text_digest of the text it is of; another one: the text has changed since"),
    ),
)

SIDE_VIEWS: tuple[View, ...] = (ITEM_WINDOWS, ITEM_REVIEWS, ITEM_EMBEDDING)
"""Computed by the batch beside `VIEWS`, and read by no model: a change of them changes no `schema_hash`."""

_TASTE = (
    Feature("taste", "float32_list", None, "score", f"{TASTE_WIDTH} numbers; user times item is how well what the user buys goes with it"),
    Feature("taste_at", "int64", 0, "seconds since 1970", "the factorisation it is of: vectors of different ones must not be multiplied"),
)

USER_TASTE = View(
    "user_taste",
    Entity.USER,
    WEEKLY,
    "behaviour",
    "The user's side of a factorisation of who bought what before the row's event time.",
    _TASTE,
)

ITEM_TASTE = View(
    "item_taste",
    Entity.ITEM,
    WEEKLY,
    "behaviour",
    "The item's side of the same factorisation; items too rarely bought have none.",
    _TASTE,
)

LIVE_WINDOWS = {"1d": 1, "7d": 7, "28d": 28}
"""Name -> days of the windows in which an item's events are counted, to the hour."""
LIVE_TYPES = {"impression": "impressions", "click": "clicks", "add_to_cart": "add_to_carts", "purchase": "purchase_events"}
"""Type of event -> name of its counts."""
CLICK_RATE, CLICK_PRIOR = 0.02, 50.0
"""What is believed of an item nobody was shown: its clicks per impression, and how many impressions that is worth."""
MAX_RECENT = 50  # of what a user did last, kept online
SESSION = timedelta(days=1)

ITEM_LIVE = View(
    "item_live",
    Entity.ITEM,
    WEEKLY,
    "behaviour",
    "What events say of the item, within seconds. No column of the models.",
    (
        *(
            Feature(f"{name}_{window}", "float32", 0.0, "events", f"{kind}s in the last {f'{days} days' if days > 1 else '24 hours'}")
            for kind, name in LIVE_TYPES.items()
            for window, days in LIVE_WINDOWS.items()
        ),
        *(Feature(f"{name}_ever", "float32", 0.0, "events", f"{kind}s ever") for kind, name in LIVE_TYPES.items()),
        Feature("click_rate_28d", "float32", CLICK_RATE, "rate", "clicks per impression in the last 28 days, smoothed"),
        Feature("ratings", "float32", 0.0, "events", "ratings ever"),
        Feature("mean_rating", "float32", 0.0, "1 to 5", "their mean; 0: none"),
        Feature("dislikes", "float32", 0.0, "events", "dislikes ever"),
    ),
)

USER_SESSION = View(
    "user_session",
    Entity.USER,
    SESSION,
    "behaviour",
    f"What the user did last, at most {MAX_RECENT} events that are no impressions, the latest first. No column of the models.",
    (
        Feature("recent_item_keys", "int64_list", None, "item_key", "the items"),
        Feature("recent_types", "int64_list", None, "code", "what was done: click 1, add to cart 2, purchase 3, rating 4, dislike 5"),
        Feature("recent_times", "int64_list", None, "seconds since 1970", "when"),
    ),
)

PUSHED_VIEWS: tuple[View, ...] = (ITEM_LIVE, USER_SESSION)
"""Made of events alone, beside `VIEWS`: nobody's batch fills them."""

LIVE_FEATURES: dict[str, tuple[str, ...]] = {
    USER_BEHAVIOUR.name: tuple(f.name for f in USER_BEHAVIOUR),
    ITEM_STATISTICS.name: (
        "purchases_7d",
        "purchases_28d",
        "purchases_all",
        "buyers_28d",
        "price_28d",
        "discount_28d",
        "popularity_rank",
        "age_days",
        "popularity_tier",
    ),
    ITEM_WINDOWS.name: (
        "purchases_1d",
        "buyers_1d",
        "buyers_7d",
        "buyers_all",
        "price_last",
        "price_to_mean_28d",
        *(f"price_changes_{window}" for window in (*DAY_WINDOWS, "all")),
    ),
}
"""View -> what follows from purchases alone, so that it is computed anew when one happens (`ranking.behaviour`). All other features of
`VIEWS` are the batch's: promotions and shares of a type need every user and item, tastes are fitted over all of them, profiles stand."""

VIEWS: tuple[View, ...] = (USER_PROFILE, USER_BEHAVIOUR, USER_TASTE, ITEM_PROFILE, ITEM_STATISTICS, ITEM_TASTE)
"""What ranking reads."""
ALL_VIEWS: tuple[View, ...] = (*VIEWS, *SIDE_VIEWS, *PUSHED_VIEWS)
"""Whatever a feature store knows of."""
FEATURE_SERVICES: dict[str, tuple[View, ...]] = {"ads_ranking_v1": VIEWS, "search_ranking_v1": VIEWS}

REQUEST_COLUMNS: tuple[Feature, ...] = (
    Feature("on_display", "float32", 0.0, "0/1", "on an in-store display in the request's week"),
    Feature("in_mailer", "float32", 0.0, "0/1", "in the mailer in the request's week"),
)
"""Optional per-candidate columns the caller may send in `candidates.columns`."""

DERIVED: tuple[Feature, ...] = (
    Feature("tier_code", "float32", 2.0, "code", "popularity tier: head 0, tail 1, new 2"),
    Feature("repeat_count", "float32", 0.0, "baskets", "baskets in which this user bought this item"),
    Feature("repeat_days", "float32", NEVER_DAYS, "days", "days since this user last bought this item"),
    Feature("repeat_share", "float32", 0.0, "share", "repeat_count per basket of this user"),
    Feature("category_share", "float32", 0.0, "share", "share of the user's lines in the item's category"),
    Feature("relation", "float32", 3.0, "code", "what of the item the user had bought, see `RELATIONS`: own 0, maker 1, type 2, other 3"),
    Feature("relation_rate", "float32", 0.0, "rate", "the item's promoted purchase rate among users of this relation"),
    Feature("relation_appeal", "float32", 1.0, "ratio", "promo_appeal times the `RELATION_ODDS` of the relation"),
    Feature("type_affinity", "float32", 0.0, "lines", "the user's lines in the item's type, halved every 8 weeks"),
    Feature("type_expected", "float32", 0.0, "lines", "type_affinity times type_share: what the user would buy of the item like everybody"),
    Feature("maker_affinity", "float32", 0.0, "lines", "the user's lines in the item's type by its maker, halved every 8 weeks"),
    Feature("maker_expected", "float32", 0.0, "lines", "maker_affinity times maker_share"),
    Feature("discovery", "float32", 0.0, "score", "the user's taste vector times the item's; 0 unless both are of one factorisation"),
    Feature("price_to_level", "float32", 1.0, "ratio", "item price over the user's price level; 1 where either is unknown"),
    Feature("query_overlap", "float32", 0.0, "share", "share of the query's distinct tokens found in the item's text"),
)
"""What `ranking.assemble` computes from the user, the item and the query together."""

SIDE_DERIVED: tuple[Feature, ...] = (
    Feature(
        "interest",
        "float32",
        0.0,
        "score",
        "what the user bought, each item's likeness to this one times its rating, the latest counting most (`interest`); of"
        " history_item_keys, history_counts and history_days with embedding or taste. No column of the models",
    ),
)
"""Named combinations of features that no model reads."""

USER_SCALARS: tuple[str, ...] = tuple(f.name for v in (USER_PROFILE, USER_BEHAVIOUR) for f in v if f.dtype == "float32")
ITEM_SCALARS: tuple[str, ...] = tuple(f.name for v in (ITEM_PROFILE, ITEM_STATISTICS) for f in v if f.dtype == "float32")
MODEL_COLUMNS: tuple[str, ...] = USER_SCALARS + ITEM_SCALARS + tuple(f.name for f in REQUEST_COLUMNS) + tuple(f.name for f in DERIVED)
"""The columns of the models' input matrix, in order, all float32."""


def push_source(view: View) -> str:
    """The name under which rows of a view are pushed."""
    return f"{view.name}_push"


def stable_key(text: str) -> int:
    """Stable signed 64-bit key of a string (blake2b, 8 bytes): equal on every machine and in every process; 0 only for "".

    Used for item ids, categories and texts, so that histories are matched as integers and not as strings.
    """
    if not text:
        return 0
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def schema_hash() -> str:
    """16 hex digits over everything that changes what a model sees: views, types, defaults, ttls, columns and their order."""
    lines = [f"{v.name}|{v.entity}|{v.ttl.total_seconds():.0f}|{f.name}|{f.dtype}|{f.default}" for v in VIEWS for f in v]
    lines += [f"{f.name}|{f.dtype}|{f.default}" for f in REQUEST_COLUMNS + DERIVED]
    lines += [",".join(MODEL_COLUMNS), f"{MAX_HISTORY}|{MAX_CATEGORIES}|{MAX_GROUPS}|{MAX_ITEM_TOKENS}|{MAX_QUERY_TOKENS}|{TASTE_WIDTH}"]
    lines += [f"{SHORT_WINDOW.days}|{WINDOW.days}|{PROMO_RATE_PRIOR}|{HEAD_SHARE}|{INTEREST_CATEGORIES}"]
    lines += [f"{AFFINITY_HALF_LIFE}|{SHARE_HALF_LIFE}|{RELATION_HALF_LIFE}|{RELATIONS}|{RELATION_PRIORS}|{RELATION_ODDS}"]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()
