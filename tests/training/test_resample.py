from __future__ import annotations

import numpy as np
import pytest

from training.imbalance.resample import RESAMPLERS, resample


def _data(n: int = 2000, rate: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = (rng.random(n) < rate).astype(np.int8)
    return rng.normal(size=(n, 4)).astype(np.float32) + y[:, None], y


@pytest.mark.parametrize("name", RESAMPLERS)
def test_every_resampler_keeps_the_contract(name: str) -> None:
    """Same columns, finite float32 rows, and the weighted share of positives the strength asks for."""
    x, y = _data()
    rows = resample(name, x, y, strength=0.5, seed=1)
    assert rows.features.dtype == np.float32
    assert rows.features.shape == (len(rows.labels), x.shape[1])
    assert np.isfinite(rows.features).all()
    weight = np.bincount(rows.labels, weights=rows.weights)
    before, after = (y == 1).sum() / (y == 0).sum(), weight[1] / weight[0]
    want = before if name == "none" else 0.5
    assert after == pytest.approx(want, rel=0.05)  # ADASYN only comes near
    assert rows.offset == pytest.approx(np.log(before / after), abs=1e-5)


@pytest.mark.parametrize("name", RESAMPLERS)
def test_resampling_repeats_by_seed(name: str) -> None:
    """Equal seeds give equal rows."""
    x, y = _data()
    one, two = (resample(name, x, y, strength=0.3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(one.features, two.features)


@pytest.mark.parametrize("name", ["none", "random_over", "random_under"])
def test_random_sampling_invents_nothing(name: str) -> None:
    """Random over- and under-sampling only repeat or drop rows."""
    x, y = _data()
    rows = resample(name, x, y, strength=0.5, seed=1)
    assert {tuple(r) for r in rows.features} <= {tuple(r) for r in x}


def test_balanced_data_are_left_alone() -> None:
    """Where positives already have the share asked for, nothing is resampled."""
    x, y = _data(rate=0.6)
    assert resample("smote", x, y, strength=0.5, seed=0).features is x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "smoothe"}, "resampler: 'smoothe' is not known"),
        ({"strength": 0.0}, "strength: must be in"),
        ({"strength": 1.5}, "strength: must be in"),
        ({"labels": np.zeros(2000, np.int8)}, "labels: both classes"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    """A wrong argument is refused by name."""
    x, y = _data()
    arguments = {"name": "smote", "strength": 0.5, "labels": y} | change
    with pytest.raises(ValueError, match=message):
        resample(arguments["name"], x, arguments["labels"], strength=arguments["strength"], seed=0)
