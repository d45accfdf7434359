"""What every discovery method promises, over every method, on shoppers who each buy within one block of items."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from training.discovery import METHODS, Factors, factorise
from training.discovery.factorisation import als
from training.discovery.types import Purchases

BLOCKS, ITEMS_EACH, USERS_EACH = 4, 12, 30
USERS, ITEMS = BLOCKS * USERS_EACH + 1, BLOCKS * ITEMS_EACH + 1  # the last user never bought, the last item never sold
WIDTH = 8
HELD_OUT = 4


@cache
def _lines() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Twelve weekly baskets of four of the eight items a user knows of the block's twelve; and (U, I) which in-block ones are held out."""
    rng = np.random.default_rng(0)
    users, items, ages = [], [], []
    held_out = np.zeros((USERS, ITEMS), bool)
    for user in range(BLOCKS * USERS_EACH):
        block = user % BLOCKS * ITEMS_EACH + rng.permutation(ITEMS_EACH)
        held_out[user, block[:HELD_OUT]] = True
        for week in range(1, 13):
            basket = rng.choice(block[HELD_OUT:], 4, replace=False)
            users += [user] * 4
            items += basket.tolist()
            ages += [float(week)] * 4
    return np.array(users, np.int32), np.array(items, np.int32), np.array(ages), held_out


@cache
def _factors(name: str, seed: int = 0) -> Factors:
    users, items, ages, _ = _lines()
    return factorise(name, users, items, ages, shape=(USERS, ITEMS), width=WIDTH, seed=seed)


@pytest.mark.parametrize("name", METHODS)
def test_factors_come_out_whole(name: str) -> None:
    """Float32 rows of the asked width for every user and item, all finite."""
    factors = _factors(name)
    assert factors.users.shape == (USERS, WIDTH)
    assert factors.items.shape == (ITEMS, WIDTH)
    assert factors.users.dtype == factors.items.dtype == np.float32
    assert np.isfinite(factors.users).all()
    assert np.isfinite(factors.items).all()


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_factors(name: str) -> None:
    """One seed gives the same factors bit for bit."""
    users, items, ages, _ = _lines()
    again = factorise(name, users, items, ages, shape=(USERS, ITEMS), width=WIDTH, seed=0)
    np.testing.assert_array_equal(again.users, _factors(name).users)
    np.testing.assert_array_equal(again.items, _factors(name).items)


@pytest.mark.parametrize("name", METHODS)
def test_a_user_without_purchases_scores_nothing(name: str) -> None:
    """A user who never bought has score 0 for every item, one who bought does not."""
    scores = _factors(name).users @ _factors(name).items.T
    assert not scores[-1].any()
    assert scores[:-1].any(axis=1).all()


@pytest.mark.parametrize("name", METHODS)
def test_an_item_nobody_bought_has_no_vector(name: str) -> None:
    """An item without purchases has score 0 for every user."""
    factors = _factors(name)
    np.testing.assert_allclose(factors.users @ factors.items[-1], 0, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_unbought_items_of_the_own_block_come_first(name: str) -> None:
    """What a user has not bought of the own block outranks what other blocks hold, for nine pairs in ten."""
    held_out = _lines()[3]
    scores = _factors(name).users @ _factors(name).items.T
    right = [
        (scores[user, held_out[user]][:, None] > np.delete(scores[user, :-1], np.arange(ITEMS_EACH) + user % BLOCKS * ITEMS_EACH)).mean()
        for user in range(USERS - 1)
    ]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("name", METHODS)
def test_a_width_beyond_the_rank_is_filled(name: str) -> None:
    """A width larger than the matrix still gives that many finite columns."""
    factors = factorise(name, [0, 0, 1, 1, 2, 2], [0, 1, 0, 1, 0, 1], np.ones(6), shape=(4, 3), width=10, seed=0)
    assert factors.users.shape == (4, 10)
    assert factors.items.shape == (3, 10)
    assert np.isfinite(factors.users @ factors.items.T).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_young_shop_has_no_taste(name: str) -> None:
    """Without purchases, or with none that two others share, every score is finite and users without any score 0."""
    none = factorise(name, [], [], [], shape=(3, 2), width=4, seed=0)
    assert not none.users.any()
    one = factorise(name, [0], [1], [1.0], shape=(3, 2), width=4, seed=0)
    assert np.isfinite(one.users @ one.items.T).all()
    assert not one.users[1:].any()


def test_unknown_names_are_refused() -> None:
    """A method that does not exist is refused by name."""
    with pytest.raises(ValueError, match="'crystal_ball'"):
        factorise("crystal_ball", [0], [0], [1.0], shape=(1, 1), width=1, seed=0)


def test_leaks_are_refused() -> None:
    """A line at or after the snapshot is refused."""
    with pytest.raises(ValueError, match="leak"):
        factorise("svd", [0, 0], [0, 1], [1.0, 0.0], shape=(1, 2), width=1, seed=0)


def test_uneven_lines_are_refused() -> None:
    """Every line has a user, an item and an age."""
    with pytest.raises(ValueError, match="got 2, 1 and 1"):
        factorise("svd", [0, 0], [0], [1.0], shape=(1, 1), width=1, seed=0)


@pytest.mark.parametrize("width", [0, -1])
@pytest.mark.parametrize("name", METHODS)
def test_a_width_of_nothing_is_refused(name: str, width: int) -> None:
    """Factors have at least one column, with purchases and without."""
    for lines in (([0], [0], [1.0]), ([], [], [])):
        with pytest.raises(ValueError, match=f"^width: must be at least 1, got {width}"):
            factorise(name, *lines, shape=(1, 1), width=width, seed=0)


def test_going_on_from_good_factors_keeps_them_good() -> None:
    """One alternation from last week's factors ranks what is held out as factors found anew do; rows of zeros begin anywhere."""
    users, items, ages, held_out = _lines()
    before = Purchases(users[ages > 1], items[ages > 1], ages[ages > 1], (USERS, ITEMS))
    now = Purchases(users, items, ages, (USERS, ITEMS))
    factors = als(now, width=WIDTH, seed=0, start=als(before, width=WIDTH, seed=0))
    scores = factors.users @ factors.items.T
    others = np.delete(np.arange(ITEMS - 1), np.arange(ITEMS_EACH))
    first = [user for user in range(USERS - 1) if user % BLOCKS == 0]
    right = [(scores[user, held_out[user]][:, None] > scores[user, others]).mean() for user in first]
    assert np.mean(right) > 0.9

    nothing = als(now, width=WIDTH, seed=0, start=Factors(np.zeros((USERS, WIDTH), np.float32), np.zeros((ITEMS, WIDTH), np.float32)))
    assert nothing.users[:-1].any(axis=1).all()
