from __future__ import annotations

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


@pytest.mark.parametrize("value", [0.1, -0.1, 1 / 3, 1e-40, 0.5, 0.0])
def test_floor32_is_the_largest_float32_not_above(value: float) -> None:
    """floor32(t) ≤ t, and the next float32 is above t."""
    floor = trees.floor32(value)
    assert float(floor) <= value < float(np.nextafter(floor, np.float32(np.inf)))
