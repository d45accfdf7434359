from __future__ import annotations

import numpy as np
import pytest

from training.imbalance.resample import RESAMPLERS, resample


def _data(n: int = 2000, rate: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = (rng.random(n) < rate).astype(np.int8)
    return rng.normal(size=(n, 4)).astype(np.float32) + y[:, None], y


@pytest.mark.parametrize("name", RESAMPLERS)
def test_balanced_data_are_left_alone(name: str) -> None:
    """Where positives already have the share asked for, nothing is resampled."""
    x, y = _data(rate=0.6)
    rows = resample(name, x, y, strength=0.5, seed=0)
    assert rows.features is x
    assert rows.labels is y
    assert rows.offset == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "smoothe"}, "resampler: 'smoothe' is not known"),
        ({"strength": 0.0}, "strength: must be in"),
        ({"strength": 1.5}, "strength: must be in"),
        ({"labels": np.zeros(2000, np.int8)}, "labels: both classes must be present, got only class 0"),
        ({"labels": np.ones(2000, np.int8)}, "labels: both classes must be present, got only class 1"),
        ({"labels": np.full(2000, 2, np.int8)}, "labels: must be 0 or 1, got 2"),
        ({"labels": np.zeros(3, np.int8)}, "features: need .* one row per label"),
        ({"options": {"steps": 3}}, "options: smote takes none, got steps"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    """A wrong argument is refused by name."""
    x, y = _data()
    arguments = {"name": "smote", "strength": 0.5, "labels": y, "options": None} | change
    with pytest.raises(ValueError, match=message):
        resample(arguments["name"], x, arguments["labels"], strength=arguments["strength"], seed=0, options=arguments["options"])
