"""The BERT ranker alone: late interaction with titles, the part of the query that is not wanted counting against a title.

score = maxsim − weight · maxsim of what is not wanted. The weight is the one number that is learnt from judged lists, by NDCG@10 on a small
grid; the encoder is the pretrained one (docs/benchmarks/relevance.md says what was tried instead).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranking.metrics.flat import ndcg_of_lists
from ranking.types import FloatArray
from training.relevance.features import Matrix
from training.relevance.judged import Lists

WEIGHTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


@dataclass(frozen=True, slots=True)
class Late:
    """The weight of what is not wanted."""

    unwanted: float

    def scores(self, features: Matrix) -> FloatArray:
        """(N,) higher is better."""
        return features.column("maxsim") - self.unwanted * features.column("unwanted_maxsim")


def fit(features: Matrix, lists: Lists) -> Late:
    """The weight with the highest NDCG@10 on the lists, averaged with its neighbours on the grid so that luck counts less."""
    reached = np.array([np.nanmean(ndcg_of_lists(Late(w).scores(features), lists.gains, lists.offsets, k=10)) for w in WEIGHTS])
    around = np.array([reached[max(0, i - 1) : i + 2].mean() for i in range(len(WEIGHTS))])
    return Late(WEIGHTS[int(around.argmax())])
