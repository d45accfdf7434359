from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tests.training.fairness.scored import scored_lists
from training.fairness.lists import ideal_dcg, load, save


def test_lists_round_trip(tmp_path: Path) -> None:
    """What is saved is read back, bit for bit."""
    lists = scored_lists(0, 5)
    save(tmp_path / "x.npz", lists)
    read = load(tmp_path / "x.npz")
    for field in fields(lists):
        np.testing.assert_array_equal(getattr(read, field.name), getattr(lists, field.name))


def test_shares_and_answerable_look_at_one_list() -> None:
    """A list's shares count its own candidates; it is answerable if one of them is wanted."""
    lists = scored_lists(1, 6)
    for i, span in enumerate(lists.spans()):
        assert lists.shares()[i] == pytest.approx([(lists.groups[span] == g).mean() for g in range(3)])
        assert lists.answerable()[i] == (lists.gains[span] > 0).any()


def test_first_lists_are_whole() -> None:
    """The first lists keep all their candidates; asking for more than there are gives all."""
    lists = scored_lists(2, 4)
    assert len(lists.first(2)) == 2
    np.testing.assert_array_equal(lists.first(2).scores, lists.scores[: lists.offsets[2]])
    assert len(lists.first(9)) == 4


def test_the_ideal_page_holds_only_so_many() -> None:
    """Best DCG of a page of 3 with 0, 2 and 5 wanted items."""
    places = 1 / np.log2([2, 3, 4])
    assert ideal_dcg(np.array([0, 2, 5]), 3) == pytest.approx([0.0, places[:2].sum(), places.sum()])
