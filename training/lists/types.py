"""Ranking lists: who was shown or looked for what, when, and what they bought. Columnar, made from the canonical tables.

A list knows its candidates and labels, not their features (`training.dataset`). Which lists are made is decided by a stable hash of
their identity, so that a larger sample contains a smaller one and no run depends on row order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranking.types import Float32Array, IntArray, Surface

Split = Literal["train", "valid", "test"]
WEEKS: Mapping[Split, tuple[int, int]] = {"train": (30, 40), "valid": (41, 46), "test": (47, 53)}


@dataclass(frozen=True, slots=True)
class RankingLists:
    """`L` lists with `N` candidates in all, one list's candidates side by side."""

    surface: Surface
    split: Split
    times: NDArray[np.datetime64]  # (L,) us, UTC: the instant of the request; features are what was known then
    weeks: NDArray[np.int32]  # (L,)
    user_ids: tuple[str, ...]  # (L,)
    queries: tuple[str, ...]  # (L,) empty strings for ads
    offsets: IntArray  # (L + 1,) list i holds candidates offsets[i] : offsets[i + 1]
    item_codes: NDArray[np.int32]  # (N,) index into `items`
    items: tuple[str, ...]  # the catalogue's item ids, shared by all lists of a source
    item_keys: IntArray  # (len(items),) ranking.features.stable_key of each
    labels: NDArray[np.int8]  # (N,) 1: bought in the list's week
    columns: Mapping[str, Float32Array]  # request columns by name, each (N,)
    retrieval_scores: Float32Array  # (N,) the first stage's score; 0 where there was none
    weights: Float32Array  # (N,) inverse probability of the candidate being in the list
    ideal_positives: IntArray  # (L,) positives of the uncut list: the ideal a cut list is measured against

    def __len__(self) -> int:
        return len(self.user_ids)

    def groups(self) -> NDArray[np.int64]:
        """(N,) list of each candidate."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def take(self, kept: NDArray[np.bool_]) -> RankingLists:
        """The same lists with the candidates of a (N,) mask only."""
        offsets = np.concatenate(([0], np.cumsum(kept)))[self.offsets].astype(np.int64)
        return replace(
            self,
            offsets=offsets,
            item_codes=self.item_codes[kept],
            labels=self.labels[kept],
            columns={name: column[kept] for name, column in self.columns.items()},
            retrieval_scores=self.retrieval_scores[kept],
            weights=self.weights[kept],
        )

    def select(self, chosen: Sequence[int] | NDArray[np.int64]) -> RankingLists:
        """The lists at the given positions, in ascending order."""
        chosen = np.sort(np.asarray(chosen, np.int64))
        mask = np.zeros(len(self), bool)
        mask[chosen] = True
        cut = self.take(np.repeat(mask, np.diff(self.offsets)))
        return replace(
            cut,
            times=cut.times[chosen],
            weeks=cut.weeks[chosen],
            user_ids=tuple(cut.user_ids[i] for i in chosen),
            queries=tuple(cut.queries[i] for i in chosen),
            offsets=np.concatenate((cut.offsets[chosen], cut.offsets[-1:])),
            ideal_positives=cut.ideal_positives[chosen],
        )


def sample_negatives(lists: RankingLists, keep_rate: float, seed: int) -> RankingLists:
    """All positives and each negative with probability `keep_rate`; the kept negatives weigh 1 / keep_rate more.

    Raises:
        ValueError: a rate outside (0, 1], or lists that are not training lists: measured lists are never resampled.
    """
    if lists.split != "train":
        raise ValueError(f"lists: only training lists are resampled, these are {lists.split}")
    if not 0.0 < keep_rate <= 1.0:
        raise ValueError(f"keep_rate: must be in (0, 1], got {keep_rate}")
    drawn = np.random.default_rng(seed).random(len(lists.labels)) < keep_rate
    negative = lists.labels == 0
    weights = np.where(negative, lists.weights / np.float32(keep_rate), lists.weights).astype(np.float32)
    return replace(lists, weights=weights).take(drawn | ~negative)


def cut(lists: RankingLists, scores: Float32Array, n: int = 100, *, explore: float = 0.3, seed: int = 0) -> RankingLists:
    """What a first stage hands to the ranker: the best by `scores`, and some of the rest at random so that unknown items get a chance.

    Labels play no part. Each list keeps round((1 - explore) · n) of its best candidates with weight 1 and draws the other places
    uniformly from the rest, which then weigh (rest / drawn).

    Args:
        lists: uncut lists.
        scores: (N,) retrieval scores; ties go to the earlier candidate.
        n: places; a list with no more candidates stays whole.
        explore: share of the places that is drawn.
        seed: of the draw.
    """
    if n < 1 or not 0.0 <= explore <= 1.0:
        raise ValueError(f"n, explore: need n ≥ 1 and explore in [0, 1], got {n} and {explore}")
    groups, sizes = lists.groups(), np.diff(lists.offsets)
    best = round((1 - explore) * n)
    place = _places(groups, -scores, lists.offsets)
    whole = (sizes <= n)[groups]
    top = whole | (place < best)
    draw = np.random.default_rng(seed).random(len(groups))
    rest = _places(groups, np.where(top, 2.0, draw), lists.offsets)  # the best come last, the others in random order
    drawn = ~top & (rest < n - best)
    weights = lists.weights.copy()
    weights[drawn] *= ((sizes - best) / max(n - best, 1))[groups[drawn]].astype(np.float32)
    return replace(lists, retrieval_scores=scores.astype(np.float32), weights=weights).take(top | drawn)


def _places(groups: NDArray[np.int64], keys: NDArray[np.floating], offsets: IntArray) -> NDArray[np.int64]:
    """(N,) place of each candidate in its own list by ascending key, ties in order. O(N log N)."""
    order = np.lexsort((keys, groups))
    places = np.empty(len(groups), np.int64)
    places[order] = np.arange(len(groups)) - offsets[groups[order]]
    return places
