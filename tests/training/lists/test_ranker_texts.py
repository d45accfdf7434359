"""Lists of text pairs for rankers, made of a surface's frames."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ranking.features import stable_key
from ranking.types import Surface
from tests.training.lists.test_frames import _frame
from training.lists.frames import Frame
from training.lists.ranker_texts import NEGATIVES, text_data
from training.lists.types import Split
from training.search.texts import LABEL

SEARCH = Surface.SEARCH
Frames = dict[tuple[Surface, Split], Frame]


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Twelve lists of ten in each split; the first list has no first text, item 0 no text."""
    return {(SEARCH, split): _frame(SEARCH, split) for split in ("train", "valid", "test")}


def test_training_lists_have_purchases_and_a_few_negatives_of_their_own(frames: Frames) -> None:
    """Every list taught on has its purchases with text, NEGATIVES times as many others, its own first text, and its asker."""
    data, frame = text_data(frames, SEARCH, 10_000, seed=0), frames[SEARCH, "train"]
    labels, places = data.train.labels[LABEL], list(pairwise(data.train.offsets))
    assert 0 < len(places) < 12
    taught = {stable_key(user): i for i, user in enumerate(frame.lists.user_ids)}
    for (a, b), asker in zip(places, data.askers.tolist(), strict=True):
        i, bought = taught[asker], int(labels[a:b].sum())
        rows = slice(int(frame.lists.offsets[i]), int(frame.lists.offsets[i + 1]))
        with_text = frame.assembled.text_digests[rows] != 0
        assert bought == frame.lists.labels[rows][with_text].sum() > 0
        assert b - a - bought == min(NEGATIVES * bought, int((1 - frame.lists.labels[rows])[with_text].sum()))
        assert all(first.tolist() == [7, i] for first in data.train.first[a:b])
        of_list = set(frame.assembled.token_ids[rows][with_text][:, 0].tolist())
        assert {int(text[0]) for text in data.train.second[a:b]} <= of_list


def test_parts_are_the_lists_that_ensembles_are_compared_on(frames: Frames) -> None:
    """Row by row the validation lists of one household side and the other, and all test lists; what has no text stays, empty."""
    data, valid = text_data(frames, SEARCH, 50, seed=0), frames[SEARCH, "valid"]
    side = np.array([stable_key(user) & 1 for user in valid.lists.user_ids])
    halves = (("calibrate", np.flatnonzero(side == 0)), ("select", np.flatnonzero(side == 1)))
    for name, lists in halves:
        part, like = data.parts[name], valid.eval_lists({}).lists(lists)
        np.testing.assert_array_equal(part.offsets, like.offsets)
        rows = np.concatenate([np.arange(valid.lists.offsets[i], valid.lists.offsets[i + 1]) for i in lists])
        want = [[] if item == 0 else [100 + item] for item in valid.assembled.rows[rows].tolist()]
        assert [text.tolist() for text in part.second] == want
        assert [text.tolist() for text in part.first] == [[] if i == 0 else [7, i] for i in lists]
    assert data.parts["test"].offsets.tolist() == frames[SEARCH, "test"].lists.offsets.tolist()


def test_a_bound_on_pairs_and_a_seed(frames: Frames) -> None:
    """It stops with the list that reaches the bound; the same seed draws the same, another one something else."""
    few = text_data(frames, SEARCH, 15, seed=0)
    assert 15 <= len(few.train.first) < 15 + 10
    assert few.train.offsets.tolist() == text_data(frames, SEARCH, 15, seed=0).train.offsets.tolist()
    assert few.askers.tolist() != text_data(frames, SEARCH, 15, seed=1).askers.tolist()


def test_no_list_to_learn_from_is_named(frames: Frames) -> None:
    """The surface is, before anything is trained on nothing."""
    with pytest.raises(ValueError, match="search: no training list has texts and a purchase among them"):
        text_data(frames, SEARCH, 0, seed=0)
