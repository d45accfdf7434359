"""Words of a text as rankers compare them: case, plural endings and punctuation do not count. Knows neither queries nor products."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"\d+(?:[./]\d+)*|[^\W\d_]+")
_NUMBER = re.compile(r"^\d+(?:\.\d+)?(?:/\d+)?$")
_SAME = str.maketrans({"’": "'", "“": '"', "”": '"', "″": '"', "–": "-", "—": "-"})
_COMMON = "a an the of for with and or in on to by from at is are it its your you my our this that as be"
COMMON = frozenset(_COMMON.split())
"""Words that say nothing of what is wanted."""
UNITS = {
    "inch": "in", "inches": "in", "in": "in", "ft": "ft", "feet": "ft", "foot": "ft", "cm": "cm", "mm": "mm", "oz": "oz", "ounce": "oz",
    "ounces": "oz", "lb": "lb", "lbs": "lb", "pound": "lb", "pounds": "lb", "gallon": "gal", "gallons": "gal", "gal": "gal", "pint": "pt",
    "pints": "pt", "quart": "qt", "quarts": "qt", "ml": "ml", "l": "l", "liter": "l", "mg": "mg", "g": "g", "kg": "kg", "pack": "pk",
    "pk": "pk", "pcs": "pc", "pieces": "pc", "piece": "pc", "count": "ct", "ct": "ct", "gb": "gb", "tb": "tb", "watt": "w", "w": "w",
}  # fmt: skip
"""Ways to write a unit, each with one that stands for all."""


def words(text: str) -> list[str]:
    """Lower-case words in order, each without its plural ending; numbers as they are written (`1/2`, `1.75`), units apart from them."""
    return [stem(word) for word in _WORD.findall(_plain(text))]


def stem(word: str) -> str:
    """A noun without its plural ending (Harman 1991, the S-stemmer); other words as they are."""
    if len(word) > 3 and word.endswith("ies") and word[-4] not in "ae":
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and word[-2] not in "us":
        return word[:-1]
    return word


def told(found: Iterable[str]) -> list[str]:
    """The words that say something, in order."""
    return [word for word in found if word not in COMMON]


def is_number(word: str) -> bool:
    """Whether a word is a number: `12`, `1.75`, `1/2`."""
    return _NUMBER.match(word) is not None


def measures(text: str) -> frozenset[tuple[str, str]]:
    """(number, unit) pairs, units in one spelling; `("12", "")` where a number has none. `6"` is 6 inches."""
    found = _WORD.findall(re.sub(r'(\d)\s*"', r"\1 in ", _plain(text)))
    out = set()
    for word, after in zip(found, [*found[1:], ""], strict=False):
        if is_number(word):
            out.add((word, UNITS.get(after, "")))
    return frozenset(out)


def trigrams(text: str) -> frozenset[str]:
    """Runs of three characters of the words, each word framed by spaces: what misspelt words still share."""
    padded = (f" {word} " for word in words(text))
    return frozenset(word[i : i + 3] for word in padded for i in range(len(word) - 2))


def _plain(text: str) -> str:
    return text.translate(_SAME).lower().replace("'s ", "s ").replace("'", "")
