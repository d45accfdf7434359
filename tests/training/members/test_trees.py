from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pytest

from training.members import trees


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 6)).astype(np.float32)
    x[:, 2] = np.round(x[:, 2] * 10)  # whole numbers: midpoints between them are exact
    x[:, 3] = (rng.integers(0, 50, 5000) / 7).astype(np.float32)  # sevenths: midpoints need more bits than float32 has
    y = (rng.random(5000) < 1 / (1 + np.exp(-(x[:, 0] + x[:, 3] - 5)))).astype(np.int8)
    return x, y


def test_onnx_gives_the_booster_s_log_odds(data: tuple[np.ndarray, np.ndarray]) -> None:
    """The exported model takes the booster's branch on every row, values on a threshold included, and adds the offset."""
    x, y = data
    booster = trees.train(x, y, rounds=60, leaves=31)
    session = onnxruntime.InferenceSession(trees.to_onnx(booster, offset=-1.5, columns=6), providers=["CPUExecutionProvider"])
    (got,) = session.run([trees.OUTPUT], {trees.INPUT: x})
    assert got.shape == (len(x), 1)
    np.testing.assert_allclose(got[:, 0], trees.predict(booster, x) - 1.5, atol=1e-5)


@pytest.mark.parametrize("rounds", [1, 40])
def test_attributions_of_the_text_add_up_to_the_onnx_output(data: tuple[np.ndarray, np.ndarray], rounds: int) -> None:
    """Base + Σ attributions is the exported model's log-odds, offset included, and the offset is in the base alone."""
    x, y = data
    booster = trees.train(x, y, rounds=rounds, leaves=31)
    session = onnxruntime.InferenceSession(trees.to_onnx(booster, offset=-1.5, columns=6), providers=["CPUExecutionProvider"])
    (onnx,) = session.run([trees.OUTPUT], {trees.INPUT: x})
    parts = lightgbm.Booster(model_str=trees.to_text(booster, offset=-1.5)).predict(x, pred_contrib=True)
    np.testing.assert_allclose(parts.sum(axis=1), onnx[:, 0], atol=1e-4)
    unshifted = booster.predict(x, pred_contrib=True)
    np.testing.assert_allclose(parts - unshifted, np.broadcast_to([0.0] * 6 + [-1.5], parts.shape), atol=1e-9)


def test_the_text_of_trees_that_found_nothing_is_the_offset() -> None:
    """With constant features there is no split: every attribution is 0 and the base says it all."""
    x, y = np.ones((200, 2), np.float32), np.arange(200, dtype=np.int8) % 2
    booster = trees.train(x, y, rounds=3)
    parts = lightgbm.Booster(model_str=trees.to_text(booster, offset=2.0)).predict(x[:1], pred_contrib=True)
    np.testing.assert_allclose(parts, [[0.0, 0.0, trees.predict(booster, x[:1])[0] + 2.0]], atol=1e-12)


def test_training_is_deterministic(data: tuple[np.ndarray, np.ndarray]) -> None:
    """One seed gives one model, whatever the number of threads."""
    x, y = data
    one, two = (trees.train(x, y, rounds=10, seed=3, threads=t) for t in (1, 2))
    np.testing.assert_array_equal(trees.predict(one, x), trees.predict(two, x))


def test_kept_bins_change_no_tree(data: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained again and again on bins that were kept, with other weights, rates, leaves, labels, lists and seeds between: each model is the
    one that bins made for it alone give, and the same rows are put in bins once.
    """
    x, y = data
    sizes, weights = np.full(50, 100), np.random.default_rng(1).uniform(0.5, 2.0, len(y)).astype(np.float32)
    asked = [
        {"labels": y},
        {"labels": y, "weights": weights},
        {"labels": y, "learning_rate": 0.2, "leaves": 7},
        {"labels": 1 - y},
        {"labels": y, "sizes": sizes, "weights": weights},
        {"labels": y, "sizes": sizes},
        {"labels": y, "rounds": 9},
        {"labels": y, "seed": 1},
    ]
    binned, construct = [], lightgbm.Dataset.construct
    alone = [trees.train(x, rounds=one.get("rounds", 5), **_without(one, "rounds")).model_to_string() for one in asked]

    def counted(self: lightgbm.Dataset) -> lightgbm.Dataset:
        if self._handle is None:
            binned.append(self.num_feature)
        return construct(self)

    monkeypatch.setattr(lightgbm.Dataset, "construct", counted)
    monkeypatch.setattr(trees, "_binned", type(trees._binned)())
    found = [trees.train(x, rounds=one.get("rounds", 5), again=True, **_without(one, "rounds")).model_to_string() for one in asked]
    assert found == alone
    assert len(binned) == 5  # the rows, other labels, lists with weights and without, another seed
    assert len(trees._binned) == 4
    trees.train(x[::2], y[::2], rounds=1, again=True)
    trees.train(x, 1 - y, rounds=1, again=True)  # which had been unused for longest when the fifth came
    assert (len(binned), len(trees._binned)) == (7, 4)


def _without(options: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != name}


@pytest.mark.parametrize("value", [0.1, -0.1, 1 / 3, 1e-40, 0.5, 0.0])
def test_floor32_is_the_largest_float32_not_above(value: float) -> None:
    """floor32(t) ≤ t, and the next float32 is above t."""
    floor = trees.floor32(value)
    assert float(floor) <= value < float(np.nextafter(floor, np.float32(np.inf)))
