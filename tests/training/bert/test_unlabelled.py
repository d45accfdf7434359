from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.bert.tiny_bert import SPECIAL, tiny
from training.bert import unlabelled
from training.bert.data import Pairs
from training.bert.fit import Settings
from training.bert.kept import Kept
from training.bert.masked import SETTINGS
from training.bert.unlabelled import ADAPTED, PLAIN, Point, curves

TUNING = Settings(epochs=1, batch=8, learning_rate=1e-3)
READING = replace(SETTINGS, epochs=1, batch=8)


def reviews(count: int, seed: int) -> Pairs:
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, count)
    texts = [np.concatenate([[120 + kind], rng.integers(130, 500, 4)]) for kind in classes]
    return Pairs.alone([np.empty(0, np.int64)] * count, texts, {"sentiment": classes.astype(np.float32)})


def points(adapting: Settings, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    monkeypatch.setattr(unlabelled, "_STEPS", 4)
    made = (reviews(24, 0), reviews(32, 1), reviews(40, 2), SPECIAL)
    return curves(tiny, *made, sizes=(8, 32), settings=TUNING, adapting=adapting, seeds=2, kept=kept)


def test_reading_that_moves_no_weight_brings_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that read with a rate of 0 is the one that did not read: equal figures, gains of exactly 0; the plain start has none."""
    found = points(replace(READING, learning_rate=0.0), Kept(tmp_path), monkeypatch)
    assert [(p.start, p.labelled) for p in found] == [(PLAIN, 8), (ADAPTED, 8), (PLAIN, 32), (ADAPTED, 32)]
    assert [p.gain for p in found] == [None, (0.0, 0.0, 0.0)] * 2
    assert all(low <= value <= high for value, low, high in (p.macro_f1 for p in found))


def test_what_was_trained_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept runs give the same points without a training; another way of reading is another run, but only of the start that read."""
    first = points(READING, Kept(tmp_path), monkeypatch)
    monkeypatch.setattr(unlabelled, "trained", lambda *_, **__: pytest.fail("trained again"))
    assert points(READING, Kept(tmp_path), monkeypatch) == first
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        points(replace(READING, seed=1), Kept(tmp_path), monkeypatch)
