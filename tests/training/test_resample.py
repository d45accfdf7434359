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


ADDING = ("random_over", "smote", "adasyn", "borderline_smote", "gan", "wgan_gp")


@pytest.mark.parametrize("name", [*ADDING, "smote_enn", "smote_tomek"])
def test_less_than_half_a_row_is_not_added(name: str) -> None:
    """With 1,000 negatives a share of .0994 is 99 positives, which there are: nothing is made up, and rows left alone need no offset."""
    x, y = _data(1099)
    y = (np.arange(1099) < 99).astype(np.int8)
    rows = resample(name, x, y, strength=0.0994, seed=0)
    assert (rows.source >= 0).all()
    assert (rows.weights == 1).all()
    if name in ADDING:
        np.testing.assert_array_equal(rows.source, np.arange(len(y)))
        assert (rows.offset, rows.exact) == (0.0, True)


@pytest.mark.parametrize("name", ["random_over", "smote", "gan"])
def test_more_than_half_a_row_is_one(name: str) -> None:
    """A share of .0996 is 100 positives to all methods alike: one more than there are."""
    x, y = _data(1099)
    y = (np.arange(1099) < 99).astype(np.int8)
    rows = resample(name, x, y, strength=0.0996, seed=0, options={"steps": 1} if name == "gan" else None)
    assert rows.labels.sum() == 100
    assert rows.offset == pytest.approx(np.log(99 / 100))


@pytest.mark.parametrize("option", ["bogus", "seed", "loss"])
@pytest.mark.parametrize("name", RESAMPLERS)
def test_an_unknown_option_is_named(name: str, option: str) -> None:
    """Every method says which options it takes; what the name and the seed decide already is none."""
    x, y = _data()
    takes = "steps, .*betas" if name in ("gan", "wgan_gp") else "none"
    with pytest.raises(ValueError, match=rf"^options: {name} takes {takes}, got {option}$"):
        resample(name, x, y, strength=0.5, seed=0, options={option: 1})
