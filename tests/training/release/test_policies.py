"""The policies a release is born with."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.features import MODEL_COLUMNS, RELATIONS
from ranking.types import Surface
from tests.training.data import ensemble_data
from training.release.policies import ACTIVE_POLICY, GAIN, discovery, floored, ordered, shipped, spread, tail_floor


def test_every_surface_has_the_default_and_a_share_over_time() -> None:
    """The default is there for both; prices are in units of the surface's own scores."""
    policies = {p.name: p for p in shipped({Surface.ADS: 300.0, Surface.SEARCH: 0.01})}
    assert policies[ACTIVE_POLICY].surfaces == ()
    for surface, deviation in ((Surface.ADS, 300.0), (Surface.SEARCH, 0.01)):
        policy = policies[f"tail-share-{surface.value}"]
        assert policy.surfaces == (surface,)
        assert policy.controller.gain == pytest.approx(GAIN * deviation, rel=0.05)


@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.floats(0, 1))
def test_discovery_keeps_room_behind_the_first_ten(seed: int, length: int, own: float) -> None:
    """The first ten stay; at every place up to 50 at most the share of those behind them was bought before, while there is else."""
    rng = np.random.default_rng(seed)
    scores, relation = rng.permutation(length).astype(float), rng.integers(0, len(RELATIONS), length)
    policy = discovery(own)
    out = ordered(policy, scores, np.array([0, length]), {"relation": relation}, policy.page_length)
    before, after = np.argsort(-scores), np.argsort(-out)
    assert sorted(after) == list(range(length))
    assert (after[:10] == before[:10]).all()
    bought, others = relation[after[10:50]] == RELATIONS.index("own"), int((relation[before[10:]] != RELATIONS.index("own")).sum())
    most = np.ceil(own * np.arange(1, len(bought) + 1) - 1e-9)
    assert (np.cumsum(bought) <= np.maximum(most, np.arange(1, len(bought) + 1) - others)).all()
    assert (np.diff(scores[after[50:]]) < 0).all()
    for kind in (relation == 0, relation != 0):  # nobody passes a better one of its own kind
        assert (np.diff(scores[after[10:50]][kind[after[10:50]]]) < 0).all()


def test_each_list_is_ordered_by_itself() -> None:
    """Two lists ordered at once stand as each does alone."""
    rng = np.random.default_rng(0)
    scores, relation = rng.random(70), rng.integers(0, len(RELATIONS), 70)
    policy = discovery(0.5)
    both = ordered(policy, scores, np.array([0, 30, 70]), {"relation": relation}, 50)
    alone = [ordered(policy, scores[a:b], np.array([0, b - a]), {"relation": relation[a:b]}, 50) for a, b in ((0, 30), (30, 70))]
    assert both.tolist() == [*alone[0].tolist(), *alone[1].tolist()]


@pytest.mark.parametrize("floor", [0.0, 0.2, 0.5])
def test_a_floor_gives_the_tail_its_places_and_new_items_half_as_many(floor: float) -> None:
    """Of every list's first ten at least that share, rounded down as floors are, as far as the list has such items."""
    lists = ensemble_data().select
    order = floored(floor, np.where(lists.tiers == 0, 1.0, 0.0), lists)  # by score alone every place is the head's
    for start, end in pairwise(lists.offsets):
        tiers = lists.tiers[start:end]
        first = tiers[np.argsort(-order[start:end])[:10]]
        for tier, share in ((1, floor), (2, floor / 2)):
            assert (first == tier).sum() >= min(int(10 * share), (tiers == tier).sum())


def test_a_floor_that_leaves_nothing_for_the_head_is_refused() -> None:
    """Two thirds for the tail and a third for new items is all there is."""
    assert tail_floor(2 / 3, Surface.ADS).surfaces == (Surface.ADS,)
    for floor in (0.7, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"floor: must be from 0 to 0\.667"):
            tail_floor(floor, Surface.ADS)


def test_the_spread_is_of_single_lists() -> None:
    """Lists that differ in level but not within themselves have none; for ads it is in micros of the bid."""
    lists = ensemble_data().select
    level = np.repeat(np.linspace(0.1, 0.9, len(lists)), np.diff(lists.offsets))
    assert spread(Surface.SEARCH, level, lists) == pytest.approx(0.0, abs=1e-12)
    up_down = 0.5 + 0.25 * (-1.0) ** np.arange(len(level))
    assert spread(Surface.SEARCH, up_down, lists) == pytest.approx(0.25, rel=0.02)  # half the values 0.25 above the mean, half below
    lists.features[:, MODEL_COLUMNS.index("price_28d")] = 2.0  # a bid of 5 % of it: 0.1
    assert spread(Surface.ADS, up_down, lists) == pytest.approx(0.1e6 * spread(Surface.SEARCH, up_down, lists))
