"""Lists with their point-in-time features, ready for the models: training rows, text pairs, validation and test lists.

Training lists lose most of their negatives here, at a known rate; validation and test lists are cut as retrieval would cut them and
never resampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranking.features import MAX_QUERY_TOKENS, stable_key
from ranking.layout import Layout
from ranking.types import Surface
from training.dataset import Assembled, assemble_lists, point_in_time
from training.lists.arrays import EvalLists, TrainRows
from training.lists.impressions import ads_lists
from training.lists.queries import search_lists
from training.lists.retrieval import retrieve
from training.lists.strangers import with_strangers
from training.lists.types import RankingLists, Split, sample_negatives
from training.members.bert import Pairs
from training.profile import Profile
from training.progress import Bar
from training.tables.tokens import Tokens

HARD, EASY = 2, 2  # negatives per positive: of the same list, and of anywhere; the prior this makes is undone by BERT's calibrator
_SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Frame:
    """One surface and split with everything the models read.

    Attributes:
        lists: candidates and labels.
        assembled: features and tokens.
        first_tokens: (L,) token ids of each list's first text: its query, or what the user buys.
    """

    lists: RankingLists
    assembled: Assembled
    first_tokens: tuple[NDArray[np.int64], ...]

    def eval_lists(self, given: Mapping[str, NDArray[np.float64]]) -> EvalLists:
        """As the ensemble compares them, with the scores of the members that read texts."""
        a, lists = self.assembled, self.lists
        return EvalLists(a.x, lists.labels, a.tiers, given, lists.offsets, lists.ideal_positives, self._households())

    def train_rows(self, negatives_rate: float, strangers: float = 0.0, seed: int = 0) -> TrainRows:
        """As the members are trained on them, a share of the lists as if `strangers` asked them."""
        groups = self.lists.groups()
        x = with_strangers(self.assembled.x, groups, strangers, seed)
        return TrainRows(x, self.lists.labels, negatives_rate, groups, self._households()[groups])

    def _households(self) -> NDArray[np.int64]:
        return np.array([stable_key(user) for user in self.lists.user_ids], np.int64)


def build(layout: Layout, canonical: Path, profile: Profile) -> dict[tuple[Surface, Split], Frame]:
    """All frames of a run; lists of both surfaces share one catalogue, so their features are joined in one pass."""
    spill = layout.training / ".spill"
    spill.mkdir(parents=True, exist_ok=True)
    lists: dict[tuple[Surface, Split], RankingLists] = {}
    with Bar("lists and point-in-time features", 9) as bar:
        for surface, make, sizes in ((Surface.ADS, ads_lists, profile.ads_lists), (Surface.SEARCH, search_lists, profile.search_lists)):
            for split, count in zip(_SPLITS, sizes, strict=True):
                lists[surface, split] = make(canonical, split, count=count, seed=profile.seed, spill=spill)
                bar.advance()
        # Every candidate of a search list is a training row; of an ads list only a known share of the negatives is.
        lists[Surface.ADS, "train"] = sample_negatives(lists[Surface.ADS, "train"], profile.negatives_rate, profile.seed)
        features = point_in_time(layout, lists.values())
        bar.advance()
        for split in ("valid", "test"):
            uncut = lists[Surface.ADS, split]
            lists[Surface.ADS, split] = retrieve(uncut, features, profile.candidates, seed=profile.seed)
        bar.advance()
        tokens = Tokens()
        frames = {key: _frame(chosen, assemble_lists(chosen, features, tokens), tokens) for key, chosen in lists.items()}
        bar.advance()
    return frames


def text_pairs(frames: Mapping[tuple[Surface, Split], Frame], count: int, seed: int) -> Pairs:
    """`count` training pairs, half of each surface: positives, and for each two negatives of its list and two items of anywhere.

    A list's own negatives mostly share the positive's category, so alone they teach popularity in words; items of anywhere teach topic.
    Items without text and lists without a first text teach nothing and are left out.
    """
    rng = np.random.default_rng(seed)
    query_ids: list[NDArray[np.int64]] = []
    queries, tokens, labels = [], [], []
    surfaces = (Surface.ADS, Surface.SEARCH)
    for surface in surfaces:
        frame = frames[surface, "train"]
        has_text = frame.assembled.text_digests != 0
        block = frame.assembled.items
        known = np.unique(frame.assembled.rows)  # of the training lists: the block also holds items of validation and test weeks
        anywhere = known[block.text_digests[known] != 0]
        wanted = count // len(surfaces) // (1 + HARD + EASY)
        for i in rng.permutation(len(frame.lists)):
            if wanted <= 0:
                break
            rows = np.arange(frame.lists.offsets[i], frame.lists.offsets[i + 1])
            rows = rows[has_text[rows]]
            positive, negative = rows[frame.lists.labels[rows] == 1], rows[frame.lists.labels[rows] == 0]
            if not (len(frame.first_tokens[i]) and len(positive) and len(negative)):
                continue
            positive = rng.permutation(positive)[: min(4, wanted)]  # at most 4 of a list: more lists teach more than longer ones
            hard = rng.choice(negative, min(len(negative), HARD * len(positive)), replace=False)
            easy = rng.choice(anywhere, EASY * len(positive))
            wanted -= len(positive)
            rows_of_block = np.concatenate([frame.assembled.rows[positive], frame.assembled.rows[hard], easy])
            queries.append(np.full(len(rows_of_block), len(query_ids)))
            query_ids.append(frame.first_tokens[i])
            tokens.append(block.token_ids[rows_of_block])
            labels.append((np.arange(len(rows_of_block)) < len(positive)).astype(np.int8))
    return Pairs(np.concatenate(queries), tuple(query_ids), np.concatenate(tokens), np.concatenate(labels))


def _frame(lists: RankingLists, assembled: Assembled, tokens: Tokens) -> Frame:
    interests = tokens(assembled.interest_texts, MAX_QUERY_TOKENS)
    first = tuple(q if text else i for text, q, i in zip(lists.queries, assembled.query_tokens, interests, strict=True))
    return Frame(lists, assembled, first)
