from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.toolbox import sessions_made_up
from training.imbalance.columns import Columns
from training.toolbox import generators
from training.toolbox.generators import centres, covered, eight_gaussians, equal, figures, told_apart, ways

MIXED = Columns(categorical=(3,), integer=(2,), scaling="quantile")


def _rows(rng: np.random.Generator, n: int) -> np.ndarray:
    z = rng.normal(size=n)
    columns = [z + 0.2 * rng.normal(size=n), np.exp(z), rng.poisson(3 * np.exp(0.5 * z)), z > 0]
    return np.stack(columns, axis=1).astype(np.float32)


def test_modes_are_counted_where_they_are() -> None:
    """Rows of all eight Gaussians cover eight, rows of three cover three, and one wide Gaussian none."""
    rng = np.random.default_rng(0)
    real = eight_gaussians(rng, 800)
    assert covered(real)["modes"] == 8
    assert covered(real)["near_a_mode"] > 0.95  # within 3 deviations in the plane: 1 - exp(-9 / 2)
    nearest = np.linalg.norm(real[:, None] - centres(), axis=2).argmin(axis=1)
    assert covered(real[nearest < 3])["modes"] == 3
    assert covered((1.4 * rng.normal(size=(800, 2))).astype(np.float32))["modes"] == 0


def test_a_classifier_cannot_tell_equals_apart() -> None:
    """Two samples of one distribution have an AUC near one half, shifted ones near 1."""
    rng = np.random.default_rng(0)
    a, b = _rows(rng, 400), _rows(rng, 400)
    near, far = told_apart(a, b).row["auc"][0], told_apart(a, b + 3).row["auc"][0]
    assert near is not None
    assert far is not None
    assert abs(near - 0.5) < 0.1
    assert far > 0.95


def test_copies_are_found() -> None:
    """Drawn rows that are seen rows have distance 0 and are all counted as equal; unseen ones are as far as unseen ones are."""
    rng = np.random.default_rng(0)
    seen, unseen, others = (_rows(rng, 200) for _ in range(3))
    copies, _ = figures(seen, unseen, seen, MIXED)
    assert copies["distance_ratio"][0] == 0
    assert copies["equal_to_real"][0] == 1
    real, _ = figures(seen, unseen, others, MIXED)
    assert real["distance_ratio"][0] == pytest.approx(1.0, abs=0.3)
    assert equal(others, seen) == 0


@pytest.mark.parametrize("name", ["noise", "smote", "gan", "wgan_gp"])
def test_every_way_draws_what_was_asked(name: str) -> None:
    """As many rows as asked for, of the same columns, categories that were seen and whole numbers; generators never a seen row."""
    seen = _rows(np.random.default_rng(0), 60)
    drawn = ways(MIXED, quick=True)[name][0](seen, 50, 0)
    assert drawn.shape == (50, 4)
    assert set(drawn[:, 3]) <= {0.0, 1.0}
    np.testing.assert_array_equal(drawn[:, 2], np.rint(drawn[:, 2]))
    if name in ("gan", "wgan_gp"):
        assert equal(drawn, seen) == 0


def test_the_gain_over_noise_is_nearness_to_one_half() -> None:
    """A sample of the same distribution gains over one whose columns were drawn apart, with an interval above 0."""
    rng = np.random.default_rng(0)
    seen, unseen, others = (_rows(rng, 500) for _ in range(3))
    noise = ways(MIXED, quick=True)["noise"][0](seen, 500, 0)
    _, told = figures(seen, unseen, noise, MIXED)
    row, _ = figures(seen, unseen, others, MIXED, told)
    assert row["likeness_gain"][1] is not None
    assert row["likeness_gain"][1] > 0


def test_the_quick_run_has_both_losses(tmp_path: Path) -> None:
    """Both losses on both data, beside noise, SMOTE and real rows."""
    outcomes, keys = generators.measure(sessions_made_up.write(tmp_path), quick=True)
    assert {(o.data, o.method) for o in outcomes} == {
        *((generators.MODES, name) for name in ("one_gaussian", "gan", "wgan_gp")),
        *((generators.BUYERS, name) for name in ("noise", "smote", "gan", "wgan_gp", "real")),
    }
    assert set(keys) == {"generator_modes", "generator_two_sample_auc"}
