from __future__ import annotations

import numpy as np
import pytest

from ranking.assemble import as_unknown_user, item_features
from ranking.features import MODEL_COLUMNS
from ranking.types import Surface
from training.dataset import Assembled
from training.lists.frames import EASY, HARD, Frame, text_pairs
from training.lists.types import RankingLists

ITEMS = 40
TRAIN_ITEMS = 30  # the last ten only occur in validation and test weeks


def _frame(surface: Surface, split: str = "train", lists: int = 12, length: int = 10) -> Frame:
    rng = np.random.default_rng(3)
    n = lists * length
    rows = rng.integers(0, TRAIN_ITEMS, n).astype(np.int32)
    tokens = [[100 + i] for i in range(ITEMS)]
    digests = np.arange(1, ITEMS + 1)
    digests[0] = 0  # one item without text
    block = item_features(np.arange(ITEMS), {"token_ids": tokens, "text_digest": digests})
    labels = (np.arange(n) % length < 2).astype(np.int8)
    offsets = np.arange(lists + 1) * length
    made = RankingLists(
        surface=surface,
        split=split,
        times=np.zeros(lists, "datetime64[us]"),
        weeks=np.zeros(lists, np.int32),
        user_ids=tuple(map(str, range(lists))),
        queries=("q",) * lists,
        offsets=offsets,
        item_codes=rows,
        items=tuple(map(str, range(ITEMS))),
        item_keys=np.arange(ITEMS),
        labels=labels,
        columns={},
        retrieval_scores=np.zeros(n, np.float32),
        weights=np.ones(n, np.float32),
        ideal_positives=np.full(lists, 2),
    )
    assembled = Assembled(np.zeros((n, len(MODEL_COLUMNS)), np.float32), np.zeros(n, np.int8), rows, block, (), ("",) * lists)
    first = tuple(np.array([] if i == 0 else [7, i], np.int64) for i in range(lists))  # list 0 has no first text
    return Frame(made, assembled, first)


@pytest.fixture(scope="module")
def frames() -> dict[tuple[Surface, str], Frame]:
    return {(s, "train"): _frame(s) for s in Surface}


def test_pairs_have_known_shares(frames: dict[tuple[Surface, str], Frame]) -> None:
    """For each positive two negatives of its list and two items of anywhere."""
    pairs = text_pairs(frames, 100, seed=0)
    assert len(pairs) == 100
    assert pairs.labels.sum() == 100 / (1 + HARD + EASY)


def test_no_pair_knows_validation_or_test(frames: dict[tuple[Surface, str], Frame]) -> None:
    """Items that no training list holds are never drawn, though they share the table with the others."""
    seen = text_pairs(frames, 200, seed=0).token_ids[:, 0] - 100
    assert seen.max() < TRAIN_ITEMS


def test_nothing_without_text_is_paired(frames: dict[tuple[Surface, str], Frame]) -> None:
    """Neither an item without text nor a list without a first text becomes a pair."""
    pairs = text_pairs(frames, 200, seed=1)
    assert 100 not in pairs.token_ids[:, 0]
    assert all(len(q) for q in pairs.query_ids)


def test_some_training_lists_are_asked_by_strangers(frames: dict[tuple[Surface, str], Frame]) -> None:
    """With a share of 1 every row is an unknown user's, with 0 none; in between whole lists are, and the frame keeps its own rows."""
    frame = frames[Surface.ADS, "train"]
    before = frame.assembled.x.copy()
    none, some, every = (frame.train_rows(0.5, share, seed=3).features for share in (0.0, 0.5, 1.0))
    np.testing.assert_array_equal(none, before)
    np.testing.assert_array_equal(every, as_unknown_user(before))
    for start, end in zip(frame.lists.offsets[:-1], frame.lists.offsets[1:], strict=True):
        assert any(np.array_equal(some[start:end], whole[start:end]) for whole in (none, every))
    np.testing.assert_array_equal(frame.assembled.x, before)


def test_rows_know_their_list_and_who_asked(frames: dict[tuple[Surface, str], Frame]) -> None:
    """Training rows carry list and household, evaluation lists households and given scores, equal users being one household."""
    frame = frames[Surface.ADS, "train"]
    rows, scores = frame.train_rows(0.5), np.arange(len(frame.lists.labels), dtype=np.float64)
    lists = frame.eval_lists({"bm25": scores})
    np.testing.assert_array_equal(rows.lists, np.repeat(np.arange(len(frame.lists)), np.diff(frame.lists.offsets)))
    assert rows.households is not None
    assert lists.households is not None
    np.testing.assert_array_equal(rows.households, lists.households[rows.lists])
    assert len(np.unique(lists.households)) == len(set(frame.lists.user_ids))
    picked = lists.lists(np.array([2]))
    np.testing.assert_array_equal(picked.given["bm25"], scores[frame.lists.offsets[2] : frame.lists.offsets[3]])
    assert picked.households == lists.households[2]
