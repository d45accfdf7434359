"""The policies a release is born with."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.features import MODEL_COLUMNS
from ranking.types import Surface
from tests.training.data import ensemble_data
from training.release.policies import ACTIVE_POLICY, GAIN, shipped, spread


def test_every_surface_has_the_default_and_a_share_over_time() -> None:
    """The default is there for both; prices are in units of the surface's own scores."""
    policies = {p.name: p for p in shipped({Surface.ADS: 300.0, Surface.SEARCH: 0.01})}
    assert policies[ACTIVE_POLICY].surfaces == ()
    for surface, deviation in ((Surface.ADS, 300.0), (Surface.SEARCH, 0.01)):
        policy = policies[f"tail-share-{surface.value}"]
        assert policy.surfaces == (surface,)
        assert policy.controller.gain == pytest.approx(GAIN * deviation, rel=0.05)


def test_the_spread_is_of_single_lists() -> None:
    """Lists that differ in level but not within themselves have none; for ads it is in micros of the bid."""
    lists = ensemble_data().select
    level = np.repeat(np.linspace(0.1, 0.9, len(lists)), np.diff(lists.offsets))
    assert spread(Surface.SEARCH, level, lists) == pytest.approx(0.0, abs=1e-12)
    up_down = 0.5 + 0.25 * (-1.0) ** np.arange(len(level))
    assert spread(Surface.SEARCH, up_down, lists) == pytest.approx(0.25, rel=0.02)  # half the values 0.25 above the mean, half below
    lists.features[:, MODEL_COLUMNS.index("price_28d")] = 2.0  # a bid of 5 % of it: 0.1
    assert spread(Surface.ADS, up_down, lists) == pytest.approx(0.1e6 * spread(Surface.SEARCH, up_down, lists))
