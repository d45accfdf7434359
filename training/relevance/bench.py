"""What each ranker of typed queries is worth on queries apart, beside plain ones: NDCG@10, intervals, paired differences, whom it shows.

Learnt rankers are scored out of fold by query; what is not learnt is scored as it is. Differences are on the same queries, with bootstrap
intervals over queries.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ranking.layout import Layout
from ranking.types import TIERS, FloatArray, IntArray
from training.host import host
from training.relevance import crossval, ensemble, measure, train
from training.relevance.encoder import Reader
from training.relevance.features import Matrix, matrix
from training.relevance.judged import Lists
from training.relevance.learners import LEARNERS
from training.relevance.pool import z_scores
from training.relevance.rankers import bm25, rating_count
from training.relevance.searchable import negated
from training.stage import key_of, source_files

WANTED: dict[str, list[Any]] = {"ensemble.ndcg10": [">=", 0.77], "late.ndcg10": [">=", 0.71]}
BASELINE = {"late": "maxsim", "ensemble": "blend"}
"""What a trained ranker is compared with: the best of its kind that nothing was learnt for."""
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "standing in the list": ("z_", "rank_", "near_", "shared_", "smooth_"),
    "the encoder": ("cosine", "maxsim", "penalised", "weakest", "two_weakest", "first_token", "last_token", "title_", "unwanted_maxsim",
                    "unwanted_cosine", "without_", "z_cosine", "rank_cosine", "z_maxsim", "rank_maxsim", "z_penalised", "rank_penalised",
                    "z_weakest", "rank_weakest", "z_last", "rank_last", "z_title_maxsim", "rank_title_maxsim", "near_", "smooth_"),
    "what is not wanted": ("unwanted_", "denied_", "negated", "without_", "penalised", "z_penalised", "rank_penalised", "smooth_penalised"),
    "the catalogue's answer": ("retrieved_", "lift_"),
    "price and ratings": ("log_", "rating", "z_log_", "rank_log_", "z_rating", "rank_rating"),
}  # fmt: skip
"""Groups of features by how their names begin: ridge without each shows what the group is worth."""
_PLAIN = ("cosine_typed", "cosine", "maxsim", "penalised", "bm25_title", "cover_head")


def run(layout: Layout, *, path: Path | None = None, cuts: int = 1, encoder: Reader | None = None) -> dict[str, Any]:
    """Measure everything.

    Args:
        layout: the state directory, in which the source is prepared, or is from `path`.
        path: folder of the source's files.
        cuts: ways to cut the queries into folds; figures are of the first, the spread is of all.
        encoder: what reads texts; None: the pretrained encoder.

    Returns:
        The house's form of a benchmark: `figures`, `wanted`, `met`; and `methods`, all figures by method.
    """
    start = perf_counter()
    searchable, lists = train.load(layout, encoder or train.reader(layout), path)
    features = matrix(lists, searchable)
    scores = plain(lists, features) | {"bm25": bm25(lists, searchable), "rating_count": rating_count(lists, searchable)}
    spread: dict[str, list[float]] = {}
    for seed in range(cuts):
        learnt = crossval.out_of_fold(lists, crossval.rankers(lists, features), seed=seed, what=f"rankers on queries apart, folds {seed}")
        scores |= learnt if seed == 0 else {}
        for name, values in learnt.items():
            spread.setdefault(name, []).append(round(float(measure.ndcg(values, lists).mean()), 4))
    scores |= crossval.out_of_fold(lists, _others(lists, features), what="other learners, and ridge without some features")
    apart = negated(lists)
    methods = {name: measure.figures(values, lists, searchable.catalogue, apart) for name, values in scores.items()}
    for name, reached in spread.items():
        methods[name]["ndcg10_by_cut"] = reached
    for name, other in (BASELINE | {f"ridge without {group}": "ridge" for group in LEFT_OUT}).items():
        value, interval = measure.difference(scores[name], scores[other], lists)
        methods[name] |= {"against": other, "difference": value, "difference_interval": interval}
    figures = {f"{name}.ndcg10": methods[name]["ndcg10"] for name in methods}
    return {
        "bench": "relevance",
        "revision": key_of({}, source_files("training/relevance"))[:12],
        "host": host(),
        "seconds": round(perf_counter() - start, 1),
        "figures": figures,
        "wanted": WANTED,
        "met": {name: figures[name] is not None and figures[name] >= bound for name, (_, bound) in WANTED.items()},
        "methods": methods,
    }


def _others(lists: Lists, features: Matrix) -> crossval.Method:
    """Learners that the ensemble left out, and ridge without a group of features."""

    def method(train: IntArray, test: IntArray) -> dict[str, FloatArray]:
        seen, unseen = features.values[lists.rows(train)], features.values[lists.rows(test)]
        judged, asked = lists.take(train), lists.take(test)
        found = {
            name: learn(seen, judged.gains, judged.offsets, 0).scores(unseen, asked.offsets)
            for name, learn in LEARNERS.items()
            if name not in ensemble.CHOSEN
        }
        for group, starts in LEFT_OUT.items():
            kept = [i for i, name in enumerate(features.names) if not name.startswith(starts)]
            fitted = LEARNERS["ridge"](seen[:, kept], judged.gains, judged.offsets, 0)
            found[f"ridge without {group}"] = fitted.scores(unseen[:, kept], asked.offsets)
        return found

    return method


def plain(lists: Lists, features: Matrix) -> dict[str, FloatArray]:
    """Scores that nothing is learnt for, and the mean of their standing within the list."""
    found = {name: features.column(name) for name in _PLAIN}
    blended = ("maxsim", "cosine", "bm25_head", "cover_head")
    by_list = [sum(z_scores(features.column(name)[lists.span(i)]) for name in blended) for i in range(len(lists))]
    return found | {"blend": np.concatenate(by_list)}


def table(result: dict[str, Any]) -> str:
    """The methods as a table in Markdown, best first."""
    head = "| ranking | NDCG@10 | with a negation | without | NDCG | against | tail / new shown |\n|---|---|---|---|---|---|---|"
    lines = [head]
    for name, m in sorted(result["methods"].items(), key=lambda entry: -(entry[1]["ndcg10"] or 0.0)):
        low, high = m["ndcg10_interval"]
        against = (
            f"{m['against']} {m['difference']:+.3f} [{m['difference_interval'][0]:+.3f}, {m['difference_interval'][1]:+.3f}]"
            if "against" in m
            else ""
        )
        shown = " / ".join(f"{m['exposure'][tier]['shown']:.3f}" for tier in TIERS[1:])
        lines.append(
            f"| {name} | {m['ndcg10']:.3f} [{low:.3f}, {high:.3f}] "
            f"| {_short(m['negation']['ndcg10'])} | {_short(m['no_negation']['ndcg10'])} "
            f"| {m['ndcg']:.3f} | {against} | {shown} |"
        )
    return "\n".join(lines)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
