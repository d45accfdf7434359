"""The members by name, and the one way to train them: names and options are checked here, methods only train."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.members import boosted, logistic, neural, rules, voting
from training.members.contract import Member, Rows, Scorer

MEMBERS: Mapping[str, Member] = {
    "logistic": Member(logistic.logistic),
    "adaboost": Member(voting.adaboost),
    "bagging": Member(boosted.bagging),
    "boosting": Member(boosted.boosting),
    "boosting_weighted": Member(boosted.boosting_weighted),
    "lambdarank": Member(boosted.lambdarank, lists=True),
    "balanced_bagging": Member(voting.balanced_bagging, weights=False),
    "rusboost": Member(voting.rusboost),
    "easy_ensemble": Member(voting.easy_ensemble, weights=False),
    "neural": Member(neural.neural),
    "popularity": Member(rules.popularity, learns=False),
    "repeat_purchase": Member(rules.repeat_purchase, learns=False),
    "interest_score": Member(rules.interest_score, learns=False),
    "discovery": Member(rules.discovery, learns=False),
}
"""Members that are functions of the models' input row."""
GIVEN: tuple[str, ...] = ("bert", "bm25", "bi_encoder")
"""Members that read texts: their scores come with the lists (see `training.members.bert`, `bm25`, `bi_encoder`)."""
RANKER = "ranker_"
"""Members so named were found by the search's stage `rankers`; their scores come with the lists like those of `GIVEN`."""
VECTORS = "vectors_"
"""The same rankers' encoders as bi-encoders: cosines of the vectors they leave."""
UNSERVED: Mapping[str, str] = {
    "bm25": "it counts words over a whole corpus, which is no function of one pair of texts that a model server could run",
    "bi_encoder": "its vectors are kept by text and compared outside any model; the cross-encoder starts from the same cosine",
}
"""Members for comparison, and why no release carries them: a search whose winner is to be served leaves them out."""
LIGHTGBM: tuple[str, ...] = ("bagging", "boosting", "boosting_weighted", "lambdarank")
"""Members that are one booster: they share `learning_rate`, `leaves` and `rounds`, and are exported exactly."""


def reads_text(name: str) -> bool:
    """Whether a member's scores come with the lists."""
    return name in GIVEN or name.startswith((RANKER, VECTORS))


def check_names(names: tuple[str, ...]) -> None:
    """Refuse members nobody knows.

    Raises:
        ValueError: naming the first.
    """
    known = (*MEMBERS, *GIVEN)
    for name in names:
        if name not in known and not reads_text(name):
            raise ValueError(f"members: {name!r} is not known; known: {', '.join(known)}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"members: need at least one and no duplicates, got {list(names)}")


def check_servable(names: tuple[str, ...]) -> None:
    """Refuse members that no release can carry.

    Raises:
        ValueError: naming the first, and why.
    """
    for name in names:
        why = UNSERVED["bi_encoder"] if name.startswith(VECTORS) else UNSERVED.get(name)
        if why is not None:
            raise ValueError(f"members: {name} cannot be served: {why}")


def train(name: str, rows: Rows, *, seed: int, threads: int = 1, options: Mapping[str, Any] | None = None) -> Scorer:
    """Train one member; the rows are never changed.

    Args:
        name: one of `MEMBERS`.
        rows: of the training fold only.
        seed: of everything random in it.
        threads: at most; the result does not depend on it.
        options: keyword arguments of the method.

    Raises:
        ValueError: an unknown name or option, row weights the method cannot respect, or rows without a list where it compares lists.
    """
    if reads_text(name):
        raise ValueError(f"members: {name} reads texts and is not trained on rows; its scores come with the lists")
    check_names((name,))
    member, chosen = MEMBERS[name], dict(options or {})
    for option in chosen:
        if option not in member.options:
            raise ValueError(f"{name}.{option}: unknown option; known: {', '.join(member.options) or 'none'}")
    if not member.weights and rows.weighted:
        raise ValueError(f"weights: {name} takes no row weights; choose a resampler that gives none")
    if member.lists:
        rows.need_lists(name)
    return member.method(rows, seed=seed, threads=threads, **chosen)
