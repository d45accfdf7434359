"""What a model has read, so that whoever judges it on a file can tell: keys of texts. Keeps no text and knows no model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ranking.features import stable_key

Keys = NDArray[np.int64]


def keys(texts: Iterable[str]) -> Keys:
    """(n,) stable key of each text, whatever its case and spacing; 0 where there is no word in it."""
    return np.array([stable_key(" ".join(text.casefold().split())) for text in texts], np.int64)


def among(texts: Iterable[str], read: Keys) -> NDArray[np.bool_]:
    """(n,) which texts are among those that were read. One without a word never is: it says nothing that could be remembered."""
    asked = keys(texts)
    found: NDArray[np.bool_] = np.isin(asked, read) & (asked != 0)
    return found
