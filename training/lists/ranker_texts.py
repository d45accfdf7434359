"""What rankers are searched on, from one surface's frames: a share of the training lists with a few negatives each, and all other lists."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ranking.features import stable_key
from ranking.types import Surface
from training.bert.data import Pairs
from training.lists.frames import Frame
from training.lists.types import Split
from training.search.texts import LABEL, Part, TextData

NEGATIVES = 4  # per positive of a list, of the same list
POSITIVES = 4  # of a list at most: more lists teach more than longer ones


def text_data(frames: Mapping[tuple[Surface, Split], Frame], surface: Surface, pairs: int, seed: int) -> TextData:
    """About `pairs` training pairs of a surface in their lists; `calibrate` and `select`, its validation lists halved as the ensemble
    stage halves them; and `test`.

    Lists without a first text, and those in which nothing with a text was bought or left, teach nothing and are left out.

    Args:
        frames: by surface and split.
        surface: whose.
        pairs: to stop at; the last list stays whole.
        seed: of which lists and rows.

    Raises:
        ValueError: no list is left.
    """
    frame, rng = frames[surface, "train"], np.random.default_rng(seed)
    digests, left = frame.assembled.text_digests, pairs
    chosen: dict[int, NDArray[np.int64]] = {}
    for i in rng.permutation(len(frame.lists)).tolist():
        if left <= 0:
            break
        here = np.arange(frame.lists.offsets[i], frame.lists.offsets[i + 1])
        here = here[digests[here] != 0]
        bought = frame.lists.labels[here] == 1
        if not (len(frame.first_tokens[i]) and bought.any() and not bought.all()):
            continue
        positive = rng.permutation(here[bought])[:POSITIVES]
        negative = rng.permutation(here[~bought])[: NEGATIVES * len(positive)]
        chosen[i] = rng.permutation(np.concatenate([positive, negative]))
        left -= len(chosen[i])
    if not chosen:
        raise ValueError(f"{surface.value}: no training list has texts and a purchase among them")
    rows = np.concatenate([*chosen.values()])
    train = Pairs(
        [frame.first_tokens[i] for i, of in chosen.items() for _ in of],
        _items(frame, rows),
        {LABEL: frame.lists.labels[rows].astype(np.float32)},
        np.cumsum([0, *map(len, chosen.values())]),
    )
    askers = np.array([stable_key(frame.lists.user_ids[i]) for i in chosen], np.int64)
    valid, test = frames[surface, "valid"], frames[surface, "test"]
    side = np.array([stable_key(user) & 1 for user in valid.lists.user_ids])
    parts = {name: _part(valid, np.flatnonzero(side == which)) for which, name in enumerate(("calibrate", "select"))}
    return TextData(train, askers, parts | {"test": _part(test, np.arange(len(test.lists)))})


def _part(frame: Frame, lists: NDArray[np.int64]) -> Part:
    spans = [range(int(frame.lists.offsets[i]), int(frame.lists.offsets[i + 1])) for i in lists]
    second = _items(frame, np.array([row for span in spans for row in span], np.int64))
    return Part([frame.first_tokens[i] for i in lists], second, np.cumsum([0, *map(len, spans)]))


def _items(frame: Frame, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Token ids of the rows' items; empty where one has no text."""
    items, of = frame.assembled.items, frame.assembled.rows[rows]
    tokens = np.where((items.text_digests[of] != 0)[:, None], items.token_ids[of], 0).astype(np.int64)
    return [ids[ids != 0] for ids in tokens]
