"""The first stage of the ads lists: from thousands of promoted items to the hundred a ranker is asked about.

Uses feature values known before the request only, never labels. Knows nothing of Feast: features come in.
"""

from __future__ import annotations

import numpy as np

from ranking.assemble import assemble
from ranking.features import MODEL_COLUMNS
from ranking.types import Float32Array
from training.dataset import Features
from training.lists.types import RankingLists, cut

_REPEAT = MODEL_COLUMNS.index("repeat_share")
_PROMO = MODEL_COLUMNS.index("promo_rate_28d")
_NO_QUERY = np.zeros(0, np.int64)


def retrieval_scores(lists: RankingLists, features: Features) -> Float32Array:
    """(N,) share of the user's baskets that had the item plus the item's promoted purchase rate: two rates, own habit and others'."""
    scores = np.empty(len(lists.item_codes), np.float32)
    for i, (start, end) in enumerate(zip(lists.offsets[:-1], lists.offsets[1:], strict=True)):
        rows = features.items.rows(lists.times[i], lists.item_codes[start:end])
        user = features.users.at(lists.user_ids[i], lists.times[i])
        x = assemble(user, features.items.block.take(rows), query_tokens=_NO_QUERY, columns={})
        scores[start:end] = x[:, _REPEAT] + x[:, _PROMO]
    return scores


def retrieve(lists: RankingLists, features: Features, n: int = 100, *, explore: float = 0.3, seed: int = 0) -> RankingLists:
    """The lists as a ranker would be asked about them: see `training.lists.types.cut`. No label is read; measured lists may be cut."""
    return cut(lists, retrieval_scores(lists, features), n, explore=explore, seed=seed)
