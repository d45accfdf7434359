"""From rows as a store returns them to items as ranking reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ranking.assemble import ItemFeatures, item_features
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import stable_key
from services.feature_store.port import FeatureRows


def items_of(item_ids: Sequence[str], read: FeatureRows) -> tuple[ItemFeatures, dict[int, str]]:
    """(n,) features, declared defaults where the store has no value; and what their attribute keys stand for."""
    features = item_features(np.fromiter(map(stable_key, item_ids), np.int64, len(item_ids)), read.values)
    names: dict[int, str] = {}
    for name, column in zip(ITEM_ATTRIBUTES, features.attribute_keys.T.tolist(), strict=True):
        if name in read.values:
            names.update((key, text) for key, text in zip(column, read.values[name], strict=True) if key)
    return features, names
