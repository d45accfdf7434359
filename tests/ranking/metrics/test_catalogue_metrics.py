"""Coverage, Gini, average popularity and tail share."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.metrics import average_popularity, coverage, gini, tail_share, times_shown

RECBOLE = np.array([[5, 7, 3], [4, 5, 2], [2, 3, 5], [1, 4, 6], [5, 3, 7]])  # RecBole's test lists, 8 item numbers of which 0 is nobody
ITEMS = 8


def test_the_published_values_of_recbole() -> None:
    """Seven of eight numbers shown; Gini Σ (2i - 9) x / (8 · 15) of the counts 0 1 1 2 2 3 2 4 in rising order, 41/120."""
    counts = times_shown(RECBOLE, items=ITEMS)
    assert sorted(counts.tolist()) == [0, 1, 1, 2, 2, 2, 3, 4]
    assert coverage(RECBOLE, items=ITEMS) == 7 / 8
    rising = [0, 1, 1, 2, 2, 2, 3, 4]
    assert gini(counts) == pytest.approx(sum((2 * i - 9) * x for i, x in enumerate(rising, 1)) / (8 * 15))
    assert gini(counts) == pytest.approx(41 / 120)


def test_recboles_average_popularity_at_three() -> None:
    """Items 1 … 6 with popularity 0 … 5, others 0: lists of 6, 8, 7, 8, 6 over three places."""
    popularity = np.array([0, 0, 1, 2, 3, 4, 5, 0])
    assert average_popularity(RECBOLE, popularity) == pytest.approx(np.mean([6 / 3, 8 / 3, 7 / 3, 8 / 3, 6 / 3]))


@given(st.integers(0, 2**32 - 1))
def test_short_lists_count_what_they_show(seed: int) -> None:
    """Against loops over lists of any length, empty ones left out."""
    rng = np.random.default_rng(seed)
    items, rows = int(rng.integers(1, 9)), int(rng.integers(1, 7))
    shown = rng.integers(-1, items, (rows, 4))
    values, tail = rng.random(items), rng.random(items) < 0.5
    lists = [[i for i in row if i >= 0] for row in shown.tolist()]
    some = [row for row in lists if row]
    assert coverage(shown, items=items) == len({i for row in some for i in row}) / items
    assert times_shown(shown, items=items).tolist() == [sum(row.count(i) for row in some) for i in range(items)]
    if some:
        assert average_popularity(shown, values) == pytest.approx(np.mean([np.mean(values[row]) for row in some]))
        assert tail_share(shown, tail) == pytest.approx(np.mean([np.mean(tail[row]) for row in some]))
    else:
        assert math.isnan(average_popularity(shown, values))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_gini_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    """Σ |xᵢ - xⱼ| / (2 n² mean), in [0, 1), the same in any unit; 0 of nothing."""
    x = np.array(counts, float)
    if x.sum():
        assert gini(x) == pytest.approx(np.abs(x[:, None] - x).sum() / (2 * len(x) ** 2 * x.mean()), abs=1e-12)
        assert gini(7 * x) == pytest.approx(gini(x), abs=1e-12)
    else:
        assert gini(x) == 0.0
    assert -1e-12 <= gini(x) < 1.0


def test_an_item_outside_the_catalogue_is_refused() -> None:
    """A number that is no item would silently enlarge the catalogue."""
    with pytest.raises(ValueError, match="item 8 is not among the 8"):
        coverage(np.array([[8]]), items=8)
