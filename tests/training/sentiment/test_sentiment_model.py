from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranking.errors import UnknownName
from ranking.metrics import macro_f1
from tests.training.sentiment.written import file, rows
from training.bert import encoder
from training.bert.fit import Fitted, fit
from training.sentiment.decide import best_offsets, decide, stable_offsets
from training.sentiment.judge import judge
from training.sentiment.model import LENGTH, METHODS, SEEN, Sentiment, tokenised
from training.sentiment.reviews import Reviews, read
from training.sentiment.train import SETTINGS, parts, settle, train

FAST = replace(SETTINGS, epochs=3, learning_rate=3e-3, frozen=0, share=0.5)


def tiny() -> Any:
    return encoder.untrained(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return file(tmp_path_factory.mktemp("reviews") / "reviews.csv", rows(200))


@pytest.fixture(scope="module")
def trained(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a tiny encoder that read the reviews a few times."""
    out = tmp_path_factory.mktemp("state") / "model"
    train(read(labelled), out, settings=FAST, models=2, encoder=tiny)
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


def test_offsets_of_many_draws_lie_among_the_best_ones_of_each() -> None:
    """The stable offsets are the mean over draws: within the best ones of all draws, 0 for the last class, equal for an equal seed."""
    rng = np.random.default_rng(1)
    truth = rng.choice(3, 200, p=[0.15, 0.15, 0.7])
    scores = 0.5 * rng.normal(size=(200, 3)) + np.eye(3)[truth] + np.array([-1.0, 0.0, 0.0])
    draws = np.random.default_rng(3).integers(0, 200, (4, 200))
    each = np.array([best_offsets(scores[rows], truth[rows]) for rows in draws])
    found = stable_offsets(scores, truth, draws=4, seed=3)
    np.testing.assert_allclose(found, each.mean(axis=0))
    np.testing.assert_array_equal(found, stable_offsets(scores, truth, draws=4, seed=3))
    assert found[2] == 0.0
    assert found[0] > 0.5


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


def test_the_encoders_read_as_one(trained: Path, labelled: Path) -> None:
    """The probabilities are the mean of those of each encoder, which were tuned from different seeds."""
    some, stored = read(labelled).take(np.arange(20)), Sentiment.load(trained)
    both = stored.read(some, methods=("bert",))["bert"]
    each = [replace(stored, models=(one,)).read(some, methods=("bert",))["bert"] for one in stored.models]
    assert len(each) == 2
    assert not np.allclose(each[0].scores, each[1].scores)
    np.testing.assert_allclose(np.exp(both.scores), np.mean([np.exp(one.scores) for one in each], axis=0))
    np.testing.assert_allclose(both.recommended, np.mean([one.recommended for one in each], axis=0))


def test_an_interrupted_training_goes_on(trained: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after its first encoder, and again within the second, it ends as one that was not; the first is not tuned again."""
    tuned: list[int] = []

    def stopped(after: int) -> Callable[..., Any]:
        def run(*given: Any, settings: Any, **more: Any) -> Any:
            tuned.append(settings.seed)
            fit(*given, settings=replace(settings, checkpoints=4), stop_at=after if settings.seed else 0, **more)
            if settings.seed:
                raise KeyboardInterrupt
            return Fitted(1, 0.0, 0.0, [], [])

        return run

    def go(*, resume: bool) -> None:
        train(read(labelled), tmp_path / "model", settings=FAST, models=2, encoder=tiny, resume=resume)

    monkeypatch.setattr("training.sentiment.train.fit", stopped(6))
    with pytest.raises(KeyboardInterrupt):
        go(resume=False)
    monkeypatch.setattr("training.sentiment.train.fit", fit)
    for other, name in ((replace(FAST, seed=1), "reviews, seed"), (replace(FAST, epochs=9), "epochs")):
        with pytest.raises(ValueError, match=f"resume: the interrupted training had other {name}; ask for the same"):
            train(read(labelled), tmp_path / "model", settings=other, models=2, encoder=tiny, resume=True)
    go(resume=True)
    assert tuned == [0, 1]
    some = read(labelled).take(np.arange(20))
    ended, whole = (Sentiment.load(one).read(some)["bert"] for one in (tmp_path / "model", trained))
    np.testing.assert_array_equal(ended.scores, whole.scores)
    assert not (tmp_path / "model" / "checkpoints").exists()


def test_a_folder_that_was_not_written_to_its_end_holds_no_model(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it writes over another model, it leaves no mixture of both; finding thresholds anew leaves the weights alone."""
    stored, folder = Sentiment.load(trained), Path(shutil.copytree(trained, tmp_path / "model"))
    weights = [path.stat().st_mtime_ns for path in sorted(folder.rglob("*.safetensors"))]
    replace(stored, facts=replace(stored.facts, offsets=(0.5, 0.25, 0.0))).save(folder, weights=False)
    assert Sentiment.load(folder).facts.offsets == (0.5, 0.25, 0.0)
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("*.safetensors"))] == weights

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("training.sentiment.words.Words.save", killed)
    with pytest.raises(KeyboardInterrupt):
        stored.save(folder)
    with pytest.raises(FileNotFoundError, match="no sentiment model"):
        Sentiment.load(folder)


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


def test_reviews_that_made_the_model_are_told_apart(trained: Path, labelled: Path, tmp_path: Path) -> None:
    """A file's reviews are counted by the part of the split that has their words; the rest has figures of its own, or none to have."""
    found = read(labelled)
    learnt, chosen, _ = parts(found, 0)
    told = judge(labelled, trained)
    known = {part: {(t, x) for t, x in zip(one.titles, one.texts, strict=True)} for part, one in (("l", learnt), ("c", chosen))}
    pairs = list(zip(found.titles, found.texts, strict=True))
    assert told["seen"] == {"training": sum(p in known["l"] for p in pairs), "validation": sum(p in known["c"] for p in pairs)}
    new = [p for p in pairs if p not in known["l"] | known["c"]]
    assert (told["unseen"]["reviews"] if told["unseen"] else 0) == len(new)
    others = rows(200)
    for i, row in enumerate(others):
        row["Review Text"] += f" word{i}"
    unseen = judge(file(tmp_path / "others.csv", others), trained)
    assert unseen["seen"] == {"training": 0, "validation": 0}
    assert unseen["unseen"]["reviews"] == 200
    assert unseen["unseen"]["macro_f1"] == unseen["macro_f1"]
    shouted = [dict(row) for row in rows(200)]
    for row in shouted:
        row["Review Text"] = f"  {row['Review Text'].upper()} "
    assert judge(file(tmp_path / "shouted.csv", shouted), trained)["seen"] == told["seen"]


def test_settling_finds_the_thresholds_of_the_training_again(trained: Path, labelled: Path, tmp_path: Path) -> None:
    """A stored model settled on its own reviews has the thresholds and figures it had, one from before `seen` learns what made it, and
    another number of reviews is refused."""
    copied = Path(shutil.copytree(trained, tmp_path / "model"))
    (copied / SEEN).unlink()
    before = Sentiment.load(trained).facts
    assert judge(labelled, copied)["seen"] is None
    told = settle(read(labelled), copied)
    after = Sentiment.load(copied)
    assert after.facts.offsets == before.offsets
    assert after.facts.blend_offsets == before.blend_offsets
    assert told["test"] == before.training["test"]
    assert after.seen is not None
    with pytest.raises(ValueError, match="reviews: 100, the stored model was trained with 200"):
        settle(read(labelled).take(np.arange(100)), copied)


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
