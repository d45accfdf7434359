"""What the words say of how well products suit a query: overlap by field, numbers, brand, colour, who it is for, negation, and whether they
are of the categories that the whole catalogue answers with.

One vector of named features per (query, product); nothing is learnt here, and no candidate is compared with another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np

from ranking.types import FloatArray, IntArray
from training.relevance import retrieved
from training.relevance.catalogue import Catalogue
from training.relevance.fields import Field
from training.relevance.query import NEGATORS, Query
from training.relevance.retrieved import Groups
from training.relevance.words import is_number, measures, told, trigrams, words

_COLOURS = (
    "black white red blue green yellow orange purple pink brown grey gray silver gold beige navy tan clear turquoise teal ivory cream "
    "burgundy rose bronze copper khaki maroon lavender multicolor rainbow"
)
COLOURS = frozenset(_COLOURS.split())
WEARERS: Mapping[str, str] = {
    word: group
    for group, found in {
        "women": "woman women womens ladie lady girl girls female her",
        "men": "man men mens male boy boys guy gentleman him hombre",
        "child": "kid kids child children toddler baby boy girl infant newborn junior youth",
        "plus": "plus",
        "petite": "petite",
        "pet": "dog cat puppy kitten pet",
    }.items()
    for word in found.split()
}
"""Whom a product is for: a word, and the group it names (the last one where it names several)."""
_SAYS_NOT = frozenset({"without", "no", "non", "not", "free", "less", "exclude", "excluding"})
_NEAR = 3  # words before or behind a word in which a text takes it back: "no buckle", "gelatin free"


class Lexicon:
    """The fields of a catalogue, each made ready when it is first asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    @cached_property
    def title(self) -> Field:
        """Titles."""
        return Field(self.catalogue.titles)

    @cached_property
    def head(self) -> Field:
        """Title, brand and category."""
        c = self.catalogue
        return Field(" ".join(parts) for parts in zip(c.titles, c.brands, c.categories, strict=True))

    @cached_property
    def description(self) -> Field:
        """Long texts, selling points among them."""
        return Field(self.catalogue.descriptions)

    @cached_property
    def category(self) -> Field:
        """Category paths."""
        return Field(self.catalogue.categories)

    @cached_property
    def all(self) -> Field:
        """Everything written of a product."""
        c = self.catalogue
        return Field(" ".join(parts) for parts in zip(c.titles, c.brands, c.categories, c.colours, c.descriptions, strict=True))

    @cached_property
    def groups(self) -> Groups:
        """Categories and brands."""
        return Groups.of(self.catalogue.paths, self.catalogue.brands)

    @cached_property
    def brands(self) -> dict[str, tuple[str, ...]]:
        """Words of every brand by its name in words; brands of one common word are left out."""
        found = {name: tuple(words(name)) for name in self.catalogue.brands}
        return {" ".join(parts): parts for parts in found.values() if parts and len("".join(parts)) > 2}

    def brand_of(self, query: Query) -> tuple[str, ...]:
        """Words of the longest brand of the catalogue that stands in the query; empty where none does."""
        typed = words(query.wanted_text)
        runs = {" ".join(typed[i:j]) for i in range(len(typed)) for j in range(i + 1, min(i + 4, len(typed)) + 1)}
        named = [self.brands[run] for run in runs if run in self.brands and self._tells(self.brands[run])]
        return max(named, key=lambda parts: (len(parts), parts), default=())

    def _tells(self, parts: tuple[str, ...]) -> bool:
        """Whether a brand's name is no everyday word: it stands mostly in titles of its own products."""
        if len(parts) > 1:
            return True
        rows = np.arange(len(self.catalogue))
        having = self.title.has(parts, rows)[:, 0] > 0
        own = np.array([words(brand)[:1] == list(parts) for brand in self.catalogue.brands])
        return bool(having.sum() == 0 or (having & own).sum() / having.sum() > 0.3)


Part = Callable[[Query, IntArray, Lexicon], dict[str, FloatArray]]
"""`(query, rows (n,), lexicon) -> name -> (n,)`."""


def overlap(query: Query, rows: IntArray, lexicon: Lexicon) -> dict[str, FloatArray]:
    """BM25 and coverage by field, words that lack, neighbours that stay together, shared trigrams, where in the title the words stand."""
    found = query.wanted
    title, head = lexicon.title, lexicon.head
    out = {
        "bm25_title": title.bm25(found, rows),
        "bm25_head": head.bm25(found, rows),
        "bm25_description": lexicon.description.bm25(found, rows),
        "bm25_all": lexicon.all.bm25(found, rows),
        "cover_title": title.coverage(found, rows),
        "cover_head": head.coverage(found, rows),
        "cover_all": lexicon.all.coverage(found, rows),
        "cover_category": lexicon.category.coverage(found, rows),
    }
    has, idf = title.has(found, rows), title.idf(found)
    in_all = lexicon.all.has(found, rows)
    out["share_title"] = has.mean(axis=1) if found else np.zeros(len(rows))
    out["lacks_most"] = ((1 - in_all) * idf).max(axis=1) if found else np.zeros(len(rows))
    out["last_word"] = has[:, -1] if found else np.zeros(len(rows))
    out["first_word"] = has[:, 0] if found else np.zeros(len(rows))
    pairs = list(pairwise(found))
    grams = trigrams(query.wanted_text)
    texts = [title.words[row] for row in rows.tolist()]
    out["bigrams_title"] = np.array([_together(pairs, text) for text in texts])
    out["trigrams_title"] = np.array([len(grams & _grams(text)) / max(len(grams), 1) for text in texts])
    out["earliest"] = np.array([_earliest(found, text) for text in texts])
    out["title_words"] = np.array([float(len(text)) for text in texts])
    out["described"] = np.array([float(bool(lexicon.description.words[row])) for row in rows.tolist()])
    return out


def numbers(query: Query, rows: IntArray, lexicon: Lexicon) -> dict[str, FloatArray]:
    """Numbers with their units that are wanted: found in the title, found anywhere, and others of the same unit instead."""
    asked = query.measures
    out = {name: np.zeros(len(rows)) for name in ("measures_title", "measures_all", "measures_other")}
    out["numbers_asked"] = np.full(len(rows), float(len(asked)))
    if asked:
        c = lexicon.catalogue
        values, units = {number for number, _ in asked}, {unit for _, unit in asked}
        for i, row in enumerate(rows.tolist()):
            said = measures(c.titles[row])
            everywhere = {word for word in lexicon.all.words[row] if is_number(word)}
            out["measures_title"][i] = sum(any(n == m and (u == v or "" in {u, v}) for m, v in said) for n, u in asked) / len(asked)
            out["measures_all"][i] = len(values & everywhere) / len(values)
            out["measures_other"][i] = sum(u in units and n not in values for n, u in said)
    return out


def brand_and_colour(query: Query, rows: IntArray, lexicon: Lexicon) -> dict[str, FloatArray]:
    """Whether the product is of the brand, the colour and for the wearer that the query names, or of another: 1, −1, and 0 if none is."""
    c = lexicon.catalogue
    brand, asked = lexicon.brand_of(query), set(query.wanted)
    colours, wearers = asked & COLOURS, {WEARERS[word] for word in asked if word in WEARERS}
    out = {name: np.zeros(len(rows)) for name in ("brand", "brand_words", "colour", "wearer")}
    for i, row in enumerate(rows.tolist()):
        own, title = words(c.brands[row]), set(lexicon.head.words[row])
        if brand:
            out["brand"][i] = 1.0 if own[: len(brand)] == list(brand) else 0.5 if set(brand) <= title else -1.0
        out["brand_words"][i] = len(asked & set(own)) / max(len(own), 1)
        if colours:
            said = set(words(c.colours[row])) | title
            out["colour"][i] = len(colours & said) / len(colours) if colours & said else -1.0 if said & COLOURS else 0.0
        if wearers:
            worn = {WEARERS[word] for word in title if word in WEARERS}
            out["wearer"][i] = len(wearers & worn) / len(wearers) if wearers & worn else -1.0 if worn else 0.0
    return out


def negation(query: Query, rows: IntArray, lexicon: Lexicon) -> dict[str, FloatArray]:
    """Whether what is not wanted is there, and whether the product says that it is not: in the title, anywhere."""
    out = {name: np.zeros(len(rows)) for name in ("unwanted_title", "unwanted_all", "denied_title", "denied_all")}
    out["negated"] = np.full(len(rows), float(query.negated))
    cut = [word for word in query.unwanted if word not in NEGATORS]
    if cut:
        for i, row in enumerate(rows.tolist()):
            for name, text in (("title", lexicon.title.words[row]), ("all", lexicon.all.words[row])):
                has, denied = _mentions(cut, text)
                out[f"unwanted_{name}"][i], out[f"denied_{name}"][i] = has, denied
    return out


def standing(query: Query, rows: IntArray, lexicon: Lexicon) -> dict[str, FloatArray]:
    """Price, rating and how often a product was rated; how long the query is."""
    c = lexicon.catalogue
    return {
        "log_price": np.log1p(c.price[rows]),
        "rating": c.rating[rows],
        "log_ratings": np.log1p(c.rating_count[rows]),
        "query_words": np.full(len(rows), float(len(query.wanted))),
        "rarity": np.full(len(rows), float(lexicon.title.idf(query.wanted).mean()) if query.wanted else 0.0),
    }


def retrieval(query: Query, rows: IntArray, lexicon: Lexicon) -> dict[str, FloatArray]:
    """Whether the product is of the categories and the brand that the catalogue's best matches are of."""
    return retrieved.features(lexicon.head.bm25(query.wanted, np.arange(len(lexicon.catalogue))), rows, lexicon.groups)


PARTS: tuple[Part, ...] = (overlap, numbers, brand_and_colour, negation, standing, retrieval)


def features(query: Query, rows: IntArray, lexicon: Lexicon) -> dict[str, FloatArray]:
    """All parts: name -> (n,); NaN where a price or rating is unknown."""
    return {name: values for part in PARTS for name, values in part(query, rows, lexicon).items()}


def _grams(text: Sequence[str]) -> frozenset[str]:
    return trigrams(" ".join(text))


def _together(pairs: list[tuple[str, str]], text: Sequence[str]) -> float:
    """Share of the query's neighbours that are neighbours in the text."""
    there = set(zip(told(text), told(text)[1:], strict=False))
    return sum(pair in there for pair in pairs) / len(pairs) if pairs else 0.0


def _earliest(found: Sequence[str], text: Sequence[str]) -> float:
    """Where the first of the query's words stands: 1 at the start of the text, towards 0 behind, 0 where none is."""
    asked = set(found)
    return next((1.0 / (1.0 + place / 5.0) for place, word in enumerate(text) if word in asked), 0.0)


def _mentions(cut: Sequence[str], text: Sequence[str]) -> tuple[float, float]:
    """Share of the cut words that a text has without taking them back, and share that it takes back."""
    there = taken_back = 0
    for word in cut:
        places = [place for place, other in enumerate(text) if other == word]
        backs = [bool(_SAYS_NOT & set(text[max(0, p - _NEAR) : p])) or bool(_SAYS_NOT & set(text[p + 1 : p + 2])) for p in places]
        there += any(not back for back in backs)
        taken_back += any(backs)
    return there / len(cut), taken_back / len(cut)
