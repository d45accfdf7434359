"""A made-up shop whose truth is known: 100 categories, of which ten have nearly all interactions, though nobody likes the others less.

Categories 1 to 10 have 1,000 interactions each, categories 11 to 100 have 1 to 10 (each number nine times). That is the shop's doing,
not taste's: popular items stand at the top of a page, and what nobody looks at nobody clicks. Every department has one head category
and nine tail categories; a query that names the department only ("light garden") is answered as well by the one as by the others.
Generated from a seed; reads nothing and knows nothing of models.

Tables written (canonical columns first):

* ``items``: 20 per category, ``category_number`` from 1; ``weight_kg``, ``stars``, ``material``, and ``image``, 16 numbers.
* ``users``: 400, with ``age_code`` and ``taste``, what each says of the ten departments (10 shares).
* ``events``: the interactions, one click each.
* ``impressions``: for each interaction the list it came from, 50 candidates. ``label`` 1: the item clicked. ``query_overlap`` and
  ``taste_share`` are honest features. The truth, which no model may be given: ``relevance``, the probability of a click if the item is
  looked at, and ``relevant``, whether this user would have clicked it then.
* ``judgments``: for each category's own name as a query, the true relevance to a user of average taste, in its department.
* ``reviews``: of four in ten interactions, stars and a few words that fit them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ranking.types import FloatArray, IntArray
from training.sources.files import write_items, write_meta
from training.tables.duck import connect

NAME = "imbalanced_shop"
SEED = 7
CATEGORIES, HEADS, HEAD_INTERACTIONS, TAIL_INTERACTIONS = 100, 10, 1000, 10
ITEMS_PER_CATEGORY, USERS, CANDIDATES = 20, 400, 50
NAMED = 0.4  # of the queries name the category
REVIEWED = 0.4  # of the interactions
_DAYS = 100  # the log's length
_START = np.datetime64("2026-01-01T00:00:00", "us")
_LATENT, _PIXELS = 8, 16

# Ten departments; the k-th noun of the d-th is category 10 k + d + 1: the first of each is a head.
_NOUNS = {
    "kitchen": "pan kettle knife blender toaster mug plate whisk grater colander",
    "garden": "hose shovel rake planter trellis mower sprinkler shears wheelbarrow lantern",
    "office": "stapler notebook pen folder desk lamp printer envelope binder calendar",
    "sports": "racket ball helmet gloves dumbbell mat bicycle skates tent rope",
    "clothing": "shirt jacket trousers dress socks scarf hat belt coat sweater",
    "toys": "puzzle doll blocks kite robot train marbles drone puppet dice",
    "beauty": "shampoo soap lotion perfume comb razor lipstick mascara sponge mirror",
    "electronics": "headphones charger speaker keyboard monitor camera router cable tablet microphone",
    "pets": "leash collar aquarium perch kennel cage brush bowl litter treats",
    "music": "guitar violin drum flute piano trumpet harp ukulele banjo clarinet",
}
_ADJECTIVES = ("light", "heavy", "small", "large", "red", "blue", "green", "classic", "modern", "folding", "soft", "quiet", "bright")
_MATERIALS = ("wood", "steel", "cotton", "plastic", "leather", "glass")
_BRANDS = [a + b for a in ("nor", "vel", "kam", "tol", "bri") for b in ("dex", "una", "ero", "ist")]
_WORDS = {1: "broke awful return", 2: "disappointed weak flimsy", 3: "okay average fine", 4: "good solid happy", 5: "great love perfect"}


@dataclass(frozen=True, slots=True)
class _Shop:
    """What is true of the shop, before anything is shown or bought."""

    items: pa.Table
    users: pa.Table
    category: IntArray  # (i,) of each item, from 0
    adjective: IntArray  # (i,) index into _ADJECTIVES
    quality: FloatArray  # (i,) log-odds a good item gains
    affinity: FloatArray  # (u, i) log-odds of a user for an item
    taste: FloatArray  # (u, departments) shares


@dataclass(frozen=True, slots=True)
class _Intents:
    """What the user of each list wanted."""

    words: list[tuple[str, ...]]  # (l,) the query
    category: IntArray  # (l,)
    named: NDArray[np.bool_]  # (l,) the query names the category, not only the department
    adjective: IntArray  # (l,) index into _ADJECTIVES, -1: none asked for


def write_tables(out: Path, *, seed: int = SEED) -> None:
    """Write the tables and ``meta.json`` of one seed into `out`; equal seeds give equal tables."""
    made = tables(seed)
    rows = {name: len(table) for name, table in made.items()}
    with connect(out) as db:
        db.register("made_items", made.pop("items"))
        write_items(db, "FROM made_items", out)
    for name, table in made.items():
        pq.write_table(table, out / f"{name}.parquet", compression="zstd")
    write_meta(out, NAME, version(), rows)


def version() -> str:
    """The generator's seed; its code is part of the prepared tables' key anyway."""
    return f"seed-{SEED}"


def interactions(seed: int = SEED) -> IntArray:
    """(100,) interactions of each category, the ten heads first; which tail category has how many is the seed's."""
    tail = np.repeat(np.arange(1, TAIL_INTERACTIONS + 1), (CATEGORIES - HEADS) // TAIL_INTERACTIONS)
    return np.concatenate([np.full(HEADS, HEAD_INTERACTIONS), np.random.default_rng(seed).permutation(tail)]).astype(np.int64)


def tables(seed: int = SEED) -> dict[str, pa.Table]:
    """All tables of one seed by name, in memory; ``items`` without the keys that `write_items` adds."""
    rng = np.random.default_rng(seed)
    counts = interactions(seed)
    shop = _shop(rng)
    category = rng.permutation(np.repeat(np.arange(CATEGORIES), counts))  # (n,) of each interaction, in the order of time
    user, item = _who_took_what(rng, shop, category)
    times = _START + np.sort(rng.integers(0, _DAYS * 86_400_000_000, len(category))).astype("timedelta64[us]")
    intents = _queries(rng, shop, item)
    made = {"items": shop.items, "users": shop.users}
    user_ids, item_ids = shop.users["user_id"].to_numpy()[user], shop.items["item_id"].to_numpy()
    when = pa.array(times, pa.timestamp("us", tz="UTC"))
    queries = np.array([" ".join(w) for w in intents.words])
    made["events"] = pa.table(
        {
            "event_id": [f"e{i}" for i in range(len(item))],
            "event_time": when,
            "user_id": user_ids,
            "item_id": item_ids[item],
            "surface": ["search"] * len(item),
            "query": queries,
            "event_type": ["click"] * len(item),
            "list_id": [f"l{i}" for i in range(len(item))],
        }
    )
    made["impressions"] = _impressions(rng, shop, counts, user, item, intents, made["events"])
    made["judgments"] = _judgments(shop)
    made["reviews"] = _reviews(rng, shop, user, item, when)
    return made


def _shop(rng: np.random.Generator) -> _Shop:
    n = CATEGORIES * ITEMS_PER_CATEGORY
    category = np.repeat(np.arange(CATEGORIES), ITEMS_PER_CATEGORY)
    department, noun = category % 10, category // 10
    departments = list(_NOUNS)
    nouns = [words.split() for words in _NOUNS.values()]
    of_category = rng.normal(size=(10, _LATENT))[np.arange(CATEGORIES) % 10] + 0.6 * rng.normal(size=(CATEGORIES, _LATENT))
    latent = of_category[category] + 0.4 * rng.normal(size=(n, _LATENT))
    quality = rng.normal(0.0, 0.5, n)
    adjective = rng.integers(0, len(_ADJECTIVES), n)
    material, brand = rng.integers(0, len(_MATERIALS), n), rng.integers(0, len(_BRANDS), n)
    title = [
        f"{_BRANDS[b]} {_ADJECTIVES[a]} {_MATERIALS[m]} {nouns[d][k]}"
        for b, a, m, d, k in zip(brand, adjective, material, department, noun, strict=True)
    ]
    pixels = latent @ rng.normal(size=(_LATENT, _PIXELS)) + 0.5 * rng.normal(size=(n, _PIXELS))
    items = pa.table(
        {
            "item_id": [f"i{i:04d}" for i in range(n)],
            "title": title,
            "category": [nouns[d][k] for d, k in zip(department, noun, strict=True)],
            "category_path": [f"{departments[d]} > {nouns[d][k]}" for d, k in zip(department, noun, strict=True)],
            "brand": [_BRANDS[b] for b in brand],
            "price": np.exp(rng.normal(3.0, 0.4, CATEGORIES)[category] + rng.normal(0.0, 0.3, n)).round(2),
            "created_at": pa.array(_START - rng.integers(1, 1000, n).astype("timedelta64[D]"), pa.timestamp("us", tz="UTC")),
            "category_number": category + 1,
            "weight_kg": np.exp(rng.normal(0.0, 0.8, n)).round(3),
            "stars": np.clip(3.5 + quality + rng.normal(0.0, 0.3, n), 1.0, 5.0).round(1),
            "material": [_MATERIALS[m] for m in material],
            "image": list(pixels.astype(np.float32)),
        }
    )
    taste = rng.dirichlet(np.full(10, 0.5), USERS)
    declared = 0.8 * taste + 0.2 * rng.dirichlet(np.ones(10), USERS)
    loved = taste @ np.stack([latent[department == d].mean(0) for d in range(10)]) + 0.3 * rng.normal(size=(USERS, _LATENT))
    affinity = 2.0 * (taste[:, department] - 0.1) + 0.3 * loved @ latent.T / np.sqrt(_LATENT)
    users = pa.table(
        {
            "user_id": [f"u{i:03d}" for i in range(USERS)],
            "age_code": rng.integers(0, 6, USERS).astype(np.float32),
            "taste": list(declared.astype(np.float32)),
        }
    )
    return _Shop(items, users, category, adjective, quality, affinity, declared)


def _who_took_what(rng: np.random.Generator, shop: _Shop, category: IntArray) -> tuple[IntArray, IntArray]:
    """A user and an item for each interaction: who likes the category asks, and takes what they like of it."""
    user, item = np.empty(len(category), np.int64), np.empty(len(category), np.int64)
    for c in range(CATEGORIES):
        rows, mine = np.flatnonzero(category == c), np.flatnonzero(shop.category == c)
        liking = shop.affinity[:, mine]
        user[rows] = rng.choice(USERS, len(rows), p=_softmax(2.0 * liking.mean(1)))
        gumbel = rng.gumbel(size=(len(rows), len(mine)))
        item[rows] = mine[np.argmax(liking[user[rows]] + shop.quality[mine] + gumbel, axis=1)]
    return user, item


def _queries(rng: np.random.Generator, shop: _Shop, item: IntArray) -> _Intents:
    """What was typed: the category's name or only its department, half of the time with a quality of the item."""
    names, paths = shop.items["category"].to_pylist(), shop.items["category_path"].to_pylist()
    named = rng.random(len(item)) < NAMED
    adjective = np.where(rng.random(len(item)) < 0.5, shop.adjective[item], -1)
    words = [
        (*([_ADJECTIVES[a]] if a >= 0 else []), names[i] if name else paths[i].partition(" > ")[0])
        for i, name, a in zip(item.tolist(), named.tolist(), adjective.tolist(), strict=True)
    ]
    return _Intents(words, shop.category[item], named, adjective)


def _relevance(
    shop: _Shop, item: IntArray, *, category: IntArray, named: NDArray[np.bool_], adjective: IntArray, affinity: FloatArray | float
) -> FloatArray:
    """True probability of a click on each `item` that is looked at; popularity has no part in it."""
    near = category % 10 == shop.category[item] % 10
    fits = np.where(named, category == shop.category[item], near)
    described = np.where(adjective < 0, 0.0, np.where(adjective == shop.adjective[item], 1.5, -0.5))
    odds: FloatArray = np.exp(3.5 * fits + 0.5 * near + described + shop.quality[item] + 0.7 * affinity - 4.5)
    return odds / (1.0 + odds)


def _shown(rng: np.random.Generator, shop: _Shop, counts: IntArray, item: IntArray) -> IntArray:
    """(l, CANDIDATES) items of each list in the order of the page: the clicked one among items of its department and of elsewhere."""
    n_items, lists = len(shop.category), len(item)
    share = counts[shop.category] / counts[shop.category].sum()
    head = shop.category < HEADS
    shown = np.empty((lists, CANDIDATES), np.int64)
    for first in range(0, lists, 2000):  # a block of (2,000, items) at a time
        mine = item[first : first + 2000]
        near = (shop.category[mine] % 10)[:, None] == (shop.category % 10)[None, :]
        near_head, near_tail = near & head, near & ~head
        weight = np.log(
            0.25 * near_head / near_head.sum(1, keepdims=True)
            + 0.3 * near_tail / near_tail.sum(1, keepdims=True)
            + 0.25 * share
            + 0.2 / n_items
        )
        keys = weight + rng.gumbel(size=weight.shape)  # the largest keys are a draw without replacement (Gumbel top-k)
        keys[np.arange(len(mine)), mine] = np.inf
        block = np.argpartition(-keys, CANDIDATES - 1, axis=1)[:, :CANDIDATES]
        # Shown in an order that knows popularity, not the click.
        order = np.argsort(-(np.log(share[block]) + 2.0 * rng.gumbel(size=block.shape)), axis=1)
        shown[first : first + 2000] = np.take_along_axis(block, order, axis=1)
    return shown


def _impressions(
    rng: np.random.Generator, shop: _Shop, counts: IntArray, user: IntArray, item: IntArray, intents: _Intents, events: pa.Table
) -> pa.Table:
    lists = len(item)
    shown = _shown(rng, shop, counts, item)
    flat, row = shown.ravel(), np.repeat(np.arange(lists), CANDIDATES)
    texts = [
        set(t.split()) | {p.partition(" > ")[0]}
        for t, p in zip(*(shop.items[c].to_pylist() for c in ("title", "category_path")), strict=True)
    ]
    distinct = {w: i for i, w in enumerate(dict.fromkeys(intents.words))}
    vocabulary = {w: k for k, w in enumerate(dict.fromkeys(w for words in distinct for w in words))}
    contains = np.array([[w in text for w in vocabulary] for text in texts], np.float32)  # (items, words)
    overlap = np.stack([contains[:, [vocabulary[w] for w in words]].mean(axis=1) for words in distinct])
    query = np.array([distinct[w] for w in intents.words])
    relevance = _relevance(
        shop,
        flat,
        category=intents.category[row],
        named=intents.named[row],
        adjective=intents.adjective[row],
        affinity=shop.affinity[user[row], flat],
    )
    clicked = flat == item[row]
    per_list = events.select(["list_id", "event_time", "surface", "user_id", "query"]).take(pa.array(row))
    columns = {
        "item_id": shop.items["item_id"].to_numpy()[flat],
        "position": np.tile(np.arange(1, CANDIDATES + 1), lists),
        "label": clicked.astype(np.int32),
        "relevance": relevance,
        "relevant": ((rng.random(len(flat)) < relevance) | clicked).astype(np.int32),
        "query_overlap": overlap[query[row], flat],
        "taste_share": shop.taste[user[row], shop.category[flat] % 10].astype(np.float32),
    }
    return pa.table({name: per_list[name] for name in per_list.column_names} | columns)


def _judgments(shop: _Shop) -> pa.Table:
    wanted, item = np.nonzero(np.arange(CATEGORIES)[:, None] % 10 == shop.category[None, :] % 10)
    names = shop.items["category"].to_numpy()[np.arange(CATEGORIES) * ITEMS_PER_CATEGORY]
    asked = {"named": np.ones(len(wanted), bool), "adjective": np.full(len(wanted), -1)}
    gain = _relevance(shop, item, category=wanted, affinity=0.0, **asked)
    return pa.table({"query": names[wanted], "item_id": shop.items["item_id"].to_numpy()[item], "gain": gain})


def _reviews(rng: np.random.Generator, shop: _Shop, user: IntArray, item: IntArray, when: pa.Array) -> pa.Table:
    rows = np.flatnonzero(rng.random(len(item)) < REVIEWED)
    liked = 4.0 + 1.5 * shop.quality[item[rows]] + 0.3 * shop.affinity[user[rows], item[rows]] + rng.normal(0.0, 0.7, len(rows))
    stars = np.clip(np.rint(liked), 1, 5).astype(np.int64)
    names = shop.items["category"].to_pylist()
    text = [
        f"{' '.join(rng.permutation(_WORDS[s].split())[:2])} {names[i]}, {_ADJECTIVES[shop.adjective[i]]}"
        for s, i in zip(stars.tolist(), item[rows].tolist(), strict=True)
    ]
    return pa.table(
        {
            "item_id": shop.items["item_id"].to_numpy()[item[rows]],
            "event_time": when.take(pa.array(rows)),
            "rating": stars.astype(np.float64),
            "text": text,
            "user_id": shop.users["user_id"].to_numpy()[user[rows]],
        }
    )


def _softmax(x: FloatArray) -> FloatArray:
    e: FloatArray = np.exp(x - x.max())
    shares: FloatArray = e / e.sum()
    return shares
