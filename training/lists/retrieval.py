"""The first stage of the ads lists: from thousands of promoted items to the hundred a ranker is asked about.

Uses feature values known before the request only, never labels. Knows nothing of Feast: features come in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ranking.assemble import assemble
from ranking.features import MODEL_COLUMNS
from ranking.types import Float32Array
from training.lists.types import RankingLists, cut

if TYPE_CHECKING:
    from training.dataset import Features  # brings Feast, which scoring a matrix does not need

_REPEAT = MODEL_COLUMNS.index("repeat_share")
_RELATION = MODEL_COLUMNS.index("relation_rate")
_NO_QUERY = np.zeros(0, np.int64)


def first_stage(x: Float32Array) -> Float32Array:
    """(n,) own habit plus that of others: the share of the user's baskets that had the item, and its promoted purchase rate by users who
    stand to it as this one does.

    The second lets items through that the user never bought: people who know its maker or its type buy it more often than strangers do.

    Args:
        x: (n, len(MODEL_COLUMNS)) assembled rows.
    """
    scores: Float32Array = x[:, _REPEAT] + x[:, _RELATION]
    return scores


def retrieval_scores(lists: RankingLists, features: Features) -> Float32Array:
    """(N,) `first_stage` of every candidate."""
    scores = np.empty(len(lists.item_codes), np.float32)
    for i, (start, end) in enumerate(zip(lists.offsets[:-1], lists.offsets[1:], strict=True)):
        rows = features.items.rows(lists.times[i], lists.item_codes[start:end])
        user = features.users.at(lists.user_ids[i], lists.times[i])
        x = assemble(user, features.items.block.take(rows), query_tokens=_NO_QUERY, columns={})
        scores[start:end] = first_stage(x)
    return scores


def retrieve(lists: RankingLists, features: Features, n: int = 100, *, explore: float = 0.3, seed: int = 0) -> RankingLists:
    """The lists as a ranker would be asked about them: see `training.lists.types.cut`. No label is read; measured lists may be cut."""
    return cut(lists, retrieval_scores(lists, features), n, explore=explore, seed=seed)
