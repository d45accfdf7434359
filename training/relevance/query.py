"""A typed query taken apart: what is wanted, what is not ("without", "no", "not", "-free"), and the text without the unwanted part."""

from __future__ import annotations

import re
from dataclasses import dataclass

from training.relevance.words import COMMON, measures, told, words

NEGATORS = frozenset({"without", "no", "not", "non", "w/o", "minus", "except", "excluding"})
_CONNECTIVES = frozenset({"with", "for", "and", "or", "in", "on", "by", "from", "but"})
_TOKEN = re.compile(r"w/o\b|[^\s,;]+")
_FREE = re.compile(r"^(.+)-free$")
_IDIOM = frozenset({"is", "are", "was", "am", "do", "does", "did", "can", "will", "if", "why", "or"})
_LONGEST = 3  # words that a negator reaches: what follows them is mostly wanted again


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    Attributes:
        text: as typed.
        wanted_text: without the negator and what it negates; as typed where nothing is left, or nothing is negated.
        wanted: words that say something of what is wanted, in order.
        unwanted: words of what is negated; empty without a negation.
        measures: (number, unit) pairs that are wanted.
        negated: whether a negator stands in it.
    """

    text: str
    wanted_text: str
    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]
    measures: frozenset[tuple[str, str]]
    negated: bool


def parse(text: str) -> Query:
    """Take a query apart.

    A negator reaches the words behind it up to the next connective ("with", "for" …), at most three. `X-free` and `X free` (at the end)
    negate X; "is not" and its like are phrases.
    `parse("lights without wiring with switch")` wants `lights with switch` and does not want `wiring`.
    """
    tokens = _TOKEN.findall(text.lower())
    keep: list[str] = []
    cut: list[str] = []
    negated, reach = False, 0
    for place, word in enumerate(tokens):
        free = _FREE.match(word)
        phrase = word == "not" and place > 0 and tokens[place - 1] in _IDIOM
        if word in NEGATORS and place + 1 < len(tokens) and not phrase:
            negated, reach = True, _LONGEST
        elif free is not None:
            negated = True
            cut.append(free.group(1))
        elif word == "free" and place and place == len(tokens) - 1 and keep:
            negated = True
            cut.append(keep.pop())
        elif word in _CONNECTIVES:
            reach = 0
            keep.append(word)
        elif reach:
            reach -= word not in COMMON
            cut.append(word)
        else:
            keep.append(word)
    wanted_text = " ".join(keep) if negated and told(words(" ".join(keep))) else text
    return Query(
        text=text,
        wanted_text=wanted_text,
        wanted=tuple(told(words(wanted_text))),
        unwanted=tuple(told(words(" ".join(cut)))),
        measures=measures(wanted_text),
        negated=negated,
    )
