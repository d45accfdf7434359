from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking.errors import UnknownName
from ranking.metrics import macro_f1
from tests.training.sentiment.written import file, rows
from training.bert import encoder
from training.sentiment.decide import best_offsets, decide
from training.sentiment.judge import judge
from training.sentiment.model import LENGTH, METHODS, Sentiment, tokenised
from training.sentiment.reviews import Reviews, read
from training.sentiment.train import SETTINGS, train


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return file(tmp_path_factory.mktemp("reviews") / "reviews.csv", rows(200))


@pytest.fixture(scope="module")
def trained(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tiny encoder that read the reviews a few times."""
    out = tmp_path_factory.mktemp("state") / "model"
    tiny = encoder.untrained(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64)
    settings = replace(SETTINGS, epochs=3, learning_rate=3e-3, frozen=0, share=0.5)
    train(read(labelled), out, settings=settings, encoder=tiny)
    return out


def test_offsets_that_pay_are_found() -> None:
    """Scores that hide a rare class by a constant are mended by the offset that brings it back."""
    rng = np.random.default_rng(0)
    truth = rng.choice(3, 400, p=[0.1, 0.1, 0.8])
    scores = 0.3 * rng.normal(size=(400, 3)) + np.eye(3)[truth] + np.array([-1.5, 0.0, 0.0])
    offsets = best_offsets(scores, truth)
    assert offsets[0] > 0.5
    assert offsets[2] == 0.0
    assert macro_f1(decide(scores, offsets), truth) > macro_f1(decide(scores, np.zeros(3)), truth) + 0.1


def test_a_stored_model_reads_as_the_one_that_was_trained(trained: Path, labelled: Path) -> None:
    """Loaded twice it gives equal scores; log-probabilities add up to 1, values are from -1 to 1."""
    some = read(labelled).take(np.arange(20))
    a, b = (Sentiment.load(trained).read(some) for _ in range(2))
    for name in METHODS:
        np.testing.assert_array_equal(a[name].scores, b[name].scores)
        np.testing.assert_allclose(np.exp(a[name].scores).sum(axis=1), 1.0)
        assert (np.abs(a[name].value) <= 1.0).all()
    assert a["bert"].value.dtype == np.float32


def test_nothing_of_the_model_is_pickled_and_no_checkpoint_stays(trained: Path) -> None:
    """Its files are safetensors, JSON and an archive of arrays."""
    kinds = {path.suffix for path in trained.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".npz"}
    told = json.loads((trained / "sentiment.json").read_text())
    assert {"bert", "words", "blend"} == set(told["training"]["test"])


def test_judging_a_file_gives_the_figures_of_each_class(trained: Path, labelled: Path) -> None:
    """The answer has macro-F1 and ROC-AUC within their intervals, and counts every review."""
    told = judge(labelled, trained)
    assert told["reviews"] == 200 == sum(one["rows"] for one in told["classes"].values())
    for name in ("macro_f1", "roc_auc"):
        low, high = told["intervals"][name]
        assert low <= told[name] <= high
    f1 = [one["f1"] for one in told["classes"].values()]
    assert told["macro_f1"] == pytest.approx(sum(f1) / 3, abs=1e-4)
    assert told["methods"]["bert"]["macro_f1"] == told["macro_f1"]
    words = judge(labelled, trained, method="words")
    assert words["macro_f1"] > 0.9  # the words of these reviews say it all
    json.dumps(told)


def test_unknown_methods_and_missing_models_are_named(trained: Path, labelled: Path, tmp_path: Path) -> None:
    """The message names the methods there are, or the command that makes a model."""
    with pytest.raises(UnknownName, match="method: 'tea' is not known; known: bert, blend, words"):
        judge(labelled, trained, method="tea")
    with pytest.raises(FileNotFoundError, match=r"python -m training\.sentiment train FILE"):
        judge(labelled, tmp_path)


def test_long_reviews_keep_their_title_and_first_words(labelled: Path) -> None:
    """Title and text have 128 tokens at most, framed; what is cut is the end of the text."""
    some = read(labelled).take(np.arange(1))
    long = Reviews(["fine"], ["word " * 300], some.ratings, some.recommended, [""], [""], [""], some.times)
    pairs = tokenised(long)
    assert pairs.lengths().tolist() == [LENGTH]
    assert len(pairs.first[0]) == 1
    assert set(pairs.second[0].tolist()) == {pairs.second[0][0]}


def test_a_review_without_a_word_is_read(trained: Path, labelled: Path) -> None:
    """It gets a class like any other: whoever judges a file counts every row."""
    some = read(labelled).take(np.arange(1))
    blank = Reviews([""], [""], some.ratings, some.recommended, [""], [""], [""], some.times)
    told = Sentiment.load(trained).read(blank)
    assert all(np.isfinite(told[name].scores).all() for name in METHODS)
