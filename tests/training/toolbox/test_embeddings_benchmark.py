from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.imbalance.resample import RESAMPLERS
from training.toolbox import embeddings
from training.toolbox.embeddings import Vectors, methods, read
from training.toolbox.embeddings_cache import Embedder, digest


def _vectors() -> Vectors:
    rng = np.random.default_rng(0)
    y = (np.arange(140) % 5 == 0).astype(np.int8)
    x = rng.normal(size=(140, 24)) + 0.8 * y[:, None]
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return Vectors(x[:100], y[:100], x[100:])


@pytest.mark.parametrize("method", methods(), ids=lambda m: f"{m[0]}-{m[1]}")
def test_every_method_scores_every_text(method: tuple) -> None:
    """Each one gives a finite score per test text, and counts both classes."""
    trial = method[3](_vectors(), 0, quick=True)
    assert trial.scores.shape == (40,)
    assert np.isfinite(trial.scores).all()
    assert [c for c, _, _ in trial.classes] == [0.0, 1.0]


def test_all_resamplers_and_row_losses_are_tried() -> None:
    """The table has every resampler by name, margins and logit adjustment, and decoupled beside joint training."""
    names = {(kind, name) for kind, name, *_ in methods()}
    assert {("resampler", name) for name in RESAMPLERS} <= names
    assert {("loss", "ldam"), ("loss", "logit_adjusted"), ("ablation", "joint"), ("ablation", "decoupled")} <= names


def test_vectors_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same texts are encoded once, whoever asks; another text, order or cut is another array."""
    calls: list[int] = []

    def encode(self: Embedder, texts: list[str]) -> np.ndarray:
        calls.append(len(texts))
        return np.full((len(texts), 3), len(calls), np.float32)

    monkeypatch.setattr(Embedder, "encode", encode)
    first = Embedder(tmp_path)(["good", "bad"])
    np.testing.assert_array_equal(Embedder(tmp_path)(["good", "bad"]), first)
    assert calls == [2]
    Embedder(tmp_path)(["bad", "good"])
    assert calls == [2, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_the_digest_says_where_one_text_ends() -> None:
    """Texts that read the same when joined have different digests."""
    assert digest(["ab", "c"]) != digest(["a", "bc"])


def test_reviews_are_read_with_their_titles(tmp_path: Path) -> None:
    """Title and text are one text; label 1 is a buyer who does not recommend; reviews without words are left out."""
    head = "Clothing ID,Age,Title,Review Text,Rating,Recommended IND,Positive Feedback Count,Division Name,Department Name,Class Name"
    lines = [
        "1,30,Nice,I like it,5,1,0,General,Tops,Knits",
        "2,31,,Too small,2,0,1,General,Tops,Knits",
        "3,32,Empty,,3,1,0,General,Tops,Knits",
    ]
    (tmp_path / "reviews.csv").write_text("\n".join([head, *lines]) + "\n")
    texts, labels = read(tmp_path / "reviews.csv", 10, seed=0)
    assert dict(zip(texts, labels.tolist(), strict=True)) == {"Nice. I like it": 0, "Too small": 1}


def test_the_ratio_is_of_trials_with_and_without_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that says how long reading takes, the ratio is (read + train) over (load + train)."""
    v = _vectors()
    every = np.concatenate([v.train, v.test])
    clock = [0.0]
    monkeypatch.setattr(embeddings.time, "perf_counter", lambda: clock[0])

    def encode(self: Embedder, texts: list[str]) -> np.ndarray:
        clock[0] += 98.0
        return every

    def trained(name: str) -> object:
        def method(*_: object, **__: object) -> None:
            clock[0] += 2.0

        return method

    monkeypatch.setattr(Embedder, "encode", encode)
    monkeypatch.setattr(embeddings, "_resampled", trained)
    tested = np.arange(140) >= 100
    labels = (np.arange(140) % 5 == 0).astype(np.int8)
    ratio = embeddings.trial_ratio([str(i) for i in range(140)], labels, tested, Embedder(tmp_path), seed=0)
    assert ratio == (98 + 2) / 2
