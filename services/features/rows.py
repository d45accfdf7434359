"""From purchase lines to the rows of views: `ranking.behaviour` over what the state holds and the catalogue says. Writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ranking.assemble import ItemFeatures
from ranking.behaviour import Lines, item_statistics, item_windows, popularity, user_behaviour
from ranking.features import ITEM_SCALARS
from ranking.types import IntArray
from services.features.state import Bought

_PRIVATE = ITEM_SCALARS.index("is_private")


class Catalogue(NamedTuple):
    """What purchases need to know of items."""

    items: Callable[[Sequence[str]], ItemFeatures]  # (n,) features of (n,) ids; declared defaults for unknown ones
    names: Mapping[int, str]  # category key -> name


class Popularity:
    """How often each item sold, so that one item's place among all is found without counting them again."""

    def __init__(self, purchases: Mapping[int, int]) -> None:
        """Begin with what is known: item code -> purchases, each more than 0."""
        self._of = dict(purchases)
        self._sold: IntArray = np.sort(np.fromiter(self._of.values(), np.int64, len(self._of)))

    def place(self, code: int, purchases: int) -> dict[str, Any]:
        """`popularity_rank` and `popularity_tier` of an item that sold so often by now. O(log s) per purchase, O(s) for its first."""
        known = self._of.get(code, 0)
        if known == 0 and purchases > 0:
            self._sold = np.concatenate([[1], self._sold])
            known = 1
        for count in range(known, purchases):  # the last of equals takes one more: the order stands
            self._sold[np.searchsorted(self._sold, count, side="right") - 1] = count + 1
        self._of[code] = max(known, purchases)
        return popularity(purchases, self._sold)


def user_row(bought: Bought, at_us: int, catalogue: Catalogue, week_starts: IntArray) -> dict[str, Any]:
    """A user's `user_behaviour` as of an instant."""
    ids = list(dict.fromkeys(bought.item_ids))
    places = {item: i for i, item in enumerate(ids)}
    items = catalogue.items(ids).take(np.fromiter((places[item] for item in bought.item_ids), np.intp, len(bought.item_ids)))
    categories = {key: catalogue.names.get(key, "") for key in np.unique(items.category_keys).tolist()}
    return user_behaviour(_lines(bought, items), at_us, week_starts=week_starts, categories=categories)


def item_row(bought: Bought, at_us: int, code: int, first_shown: int | None, popular: Popularity) -> dict[str, Any]:
    """What purchases alone say of an item's `item_statistics` as of an instant."""
    found = item_statistics(_lines_of_item(bought), at_us, first_shown_us=first_shown)
    return found | popular.place(code, int(found["purchases_all"]))


def windows_row(bought: Bought, at_us: int) -> dict[str, Any]:
    """What purchases alone say of an item's `item_windows` as of an instant."""
    return item_windows(_lines_of_item(bought), at_us)


def _lines_of_item(bought: Bought) -> Lines:
    nothing = np.zeros(len(bought.basket), np.int64)
    return Lines(nothing, nothing, nothing, nothing, nothing.astype(np.bool_), *bought[1:])


def _lines(bought: Bought, items: ItemFeatures) -> Lines:
    private: NDArray[np.bool_] = items.scalars[:, _PRIVATE] > 0
    return Lines(items.keys, items.category_keys, items.type_keys, items.maker_keys, private, *bought[1:])
