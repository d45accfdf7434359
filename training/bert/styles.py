"""Made-up lists in which a query asks for a thing in a style, and the style is seen in the image more often than it is told in the title.

The truth is known: neither texts nor images alone can order these lists, both together can. What fusion is tested and measured on.
"""

from __future__ import annotations

import numpy as np

from ranking.features import MAX_ITEM_TOKENS, MAX_QUERY_TOKENS
from training.bert.data import Pairs
from training.bert.lists import HEAD, TAIL, Lists
from training.tables.tokens import Tokens

STYLES = ("floral", "striped", "plain", "dotted")
THINGS = ("dress", "shirt", "curtain", "cushion", "mug", "scarf")
WIDTH = 16  # numbers of an image vector
TOLD = 0.4  # of the titles name the style


def lists(count: int, *, candidates: int = 8, seed: int = 0, missing: float = 0.0) -> Lists:
    """Lists with texts, one feature (how good an item is) and images, of which a share is missing.

    True relevance is e^o / (1 + e^o), o = 4 · (right thing) + 3 · (right style of the right thing) + goodness / 2 - 4; one item is clicked,
    drawn by its odds.

    Args:
        count: of lists.
        candidates: of each.
        seed: of everything; images of two seeds are made by the same camera.
        missing: share of the items without an image.
    """
    camera = np.random.default_rng(99).normal(size=(len(STYLES), WIDTH))
    rng = np.random.default_rng(seed)
    asked = np.stack([rng.integers(0, len(THINGS), count), rng.integers(0, len(STYLES), count)], axis=1)
    shape = (count, candidates)
    same = rng.random(shape) < 0.6
    thing = np.where(same, asked[:, :1], rng.integers(0, len(THINGS), shape)).ravel()
    style = rng.integers(0, len(STYLES), shape).ravel()
    good = rng.normal(size=thing.shape)
    owner = np.repeat(np.arange(count), candidates)
    right = thing == asked[owner, 0]
    odds = 4.0 * right + 3.0 * (right & (style == asked[owner, 1])) + 0.5 * good - 4.0
    clicked = (odds + rng.gumbel(size=odds.shape)).reshape(shape).argmax(axis=1)
    label = (np.tile(np.arange(candidates), count) == clicked[owner]).astype(np.float32)
    told = rng.random(thing.shape) < TOLD
    titles = [f"{STYLES[s]} {THINGS[t]}" if say else f"new {THINGS[t]}" for t, s, say in zip(thing, style, told, strict=True)]
    queries = [f"{STYLES[s]} {THINGS[t]}" for t, s in asked]
    tokens = Tokens()
    of_query, of_title = tokens(queries, MAX_QUERY_TOKENS), tokens(titles, MAX_ITEM_TOKENS)
    images = (camera[style] + 0.3 * rng.normal(size=(len(thing), WIDTH))).astype(np.float32)
    images[rng.random(len(thing)) < missing] = np.nan
    pairs = Pairs(
        [of_query[i] for i in owner],
        of_title,
        {"list": label},
        np.arange(count + 1) * candidates,
        good[:, None].astype(np.float32),
        images,
    )
    tiers = [HEAD if say else TAIL for say in told]
    return Lists(pairs, 1.0 / (1.0 + np.exp(-odds)), queries, titles, tiers, [THINGS[t] for t, _ in asked])
