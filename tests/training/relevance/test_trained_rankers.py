"""Rankers that learn from judged lists: what they learn, how they are kept, and how they are judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ranking.errors import UnknownName
from ranking.layout import Layout
from tests.training.relevance import shop
from training import evaluate as judging
from training.relevance import crossval, ensemble, evaluate, late, learners, measure, rankers, train
from training.relevance.features import Matrix, matrix
from training.relevance.judged import Lists
from training.relevance.searchable import Searchable
from training.seen import keys
from training.sources.esci import GAINS, JUDGMENTS, PRODUCTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shop")
    shop.write(made)
    return made


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Layout:
    """A state directory with a trained ranker."""
    layout = Layout(tmp_path_factory.mktemp("state"))
    train.train(layout, path=folder, encoder=shop.Letters())
    return layout


@pytest.fixture(scope="module")
def loaded(state: Layout) -> tuple[Searchable, Lists, Matrix]:
    searchable, lists = train.load(state, shop.Letters())
    return searchable, lists, matrix(lists, searchable)


def test_what_is_read_again_scores_the_same_to_the_bit(state: Layout, loaded: tuple[Searchable, Lists, Matrix], tmp_path: Path) -> None:
    """Scores before saving and after loading are equal, for every learner."""
    _, lists, features = loaded
    fitted = ensemble.fit(features.values, lists.gains, lists.offsets, names=tuple(learners.LEARNERS), seeds=(0,))
    made = rankers.Trained(features.names, fitted, late.fit(features, lists), {}, keys(lists.queries))
    made.save(tmp_path, settings={})
    again = rankers.Trained.load(tmp_path)
    for name in rankers.TRAINED:
        np.testing.assert_array_equal(again.scores(name, lists, features), made.scores(name, lists, features))
    for name, scores in fitted.by_member(features.values, lists.offsets).items():
        np.testing.assert_array_equal(again.ensemble.by_member(features.values, lists.offsets)[name], scores)
    kept = rankers.Trained.load(train.folder(state))
    assert kept.features == features.names


def test_the_ensemble_learns_the_planted_rule(state: Layout) -> None:
    """On queries apart the ensemble ranks thing, colour and what is refused better than BM25, which only counts words."""
    metrics = json.loads((train.folder(state) / rankers.MANIFEST).read_text())["metrics"]["ensemble"]
    searchable, lists = train.load(state, shop.Letters())
    plain = measure.ndcg(rankers.bm25(lists, searchable), lists).mean()
    assert metrics["ndcg10"] > plain
    assert metrics["ndcg10"] > 0.9


def test_no_query_is_scored_by_a_model_that_saw_it(loaded: tuple[Searchable, Lists, Matrix]) -> None:
    """Each query is tested once, in one fold, and never in the training part of that fold; the folds do not depend on the order."""
    _, lists, _ = loaded
    seen: list[int] = []

    def method(trained: np.ndarray, tested: np.ndarray) -> dict[str, np.ndarray]:
        assert not set(trained.tolist()) & set(tested.tolist())
        seen.extend(tested.tolist())
        return {"index": np.concatenate([np.full(len(lists.items[lists.span(i)]), float(i)) for i in tested.tolist()])}

    scores = crossval.out_of_fold(lists, method)["index"]
    assert sorted(seen) == list(range(len(lists)))
    np.testing.assert_array_equal(scores, np.repeat(np.arange(len(lists)), np.diff(lists.offsets)))
    turned = lists.take(np.arange(len(lists))[::-1])
    np.testing.assert_array_equal(crossval.folds(turned)[::-1], crossval.folds(lists))


def test_too_few_queries_are_refused(loaded: tuple[Searchable, Lists, Matrix]) -> None:
    """Fewer queries than folds cannot be judged on queries apart."""
    with pytest.raises(ValueError, match="3 queries"):
        crossval.folds(loaded[1].take(np.arange(3)))


def test_learnt_weights_punish_what_is_not_wanted(loaded: tuple[Searchable, Lists, Matrix]) -> None:
    """Where titles with the refused word are wrong, BERT alone learns to count it against them."""
    _, lists, features = loaded
    assert late.fit(features, lists).unwanted > 0


def test_a_damaged_ranker_is_refused(state: Layout, loaded: tuple[Searchable, Lists, Matrix], tmp_path: Path) -> None:
    """A changed file is not read; nor is a ranker used on features it was not trained on."""
    _, lists, features = loaded
    trained = rankers.Trained.load(train.folder(state))
    trained.save(tmp_path, settings={})
    (tmp_path / "members" / "ridge.0.txt").write_text("[]")
    with pytest.raises(ValueError, match=r"ridge\.0\.txt"):
        rankers.Trained.load(tmp_path)
    fewer = Matrix(features.names[1:], features.values[:, 1:])
    with pytest.raises(ValueError, match="train the ranker again"):
        trained.scores("ensemble", lists, fewer)


@pytest.mark.parametrize("ranker", rankers.NAMES)
def test_every_named_ranker_is_judged_on_a_file(state: Layout, folder: Path, ranker: str) -> None:
    """The answer holds the figures, whole intervals, shares of exposure that add up to 1, and counts."""
    files = {"judgments": folder / JUDGMENTS, "products": folder / PRODUCTS}
    found = evaluate.judge(state, **files, ranker=ranker, encoder=shop.Letters())
    low, high = found["ndcg10_interval"]
    assert low <= found["ndcg10"] <= high
    assert 0 < found["ndcg10"] <= 1
    assert found["unknown_products"] == 0
    assert sum(tier["shown"] for tier in found["exposure"].values()) == pytest.approx(1, abs=1e-3)
    assert found["negation"]["queries"] + found["no_negation"]["queries"] == found["queries"] == len(shop.judgments())
    assert ("ranker_digest" in found) == ("seen_queries" in found) == (ranker in rankers.TRAINED)
    assert json.loads(json.dumps(found)) == found


def test_queries_that_taught_the_ranker_are_told_apart(state: Layout, folder: Path, tmp_path: Path) -> None:
    """Of a file with a query it learnt from, typed otherwise, and one it did not, the first is counted and the second judged by itself."""
    lines = [f"{q},{asin},{label},{GAINS[label]}" for q in ("  RED Mug", "red thing") for asin, label in shop.judgments()["red mug"]]
    file = tmp_path / "some.csv"
    file.write_text("\n".join(["query,asin,esci_label,gain", *lines]) + "\n")
    found = evaluate.judge(state, judgments=file, ranker="ensemble", encoder=shop.Letters())
    assert found["queries"] == 2
    assert found["seen_queries"] == 1
    assert found["unseen"]["queries"] == 1
    file.write_text("\n".join(["query,asin,esci_label,gain", *lines[len(lines) // 2 :]]) + "\n")
    alone = evaluate.judge(state, judgments=file, ranker="ensemble", encoder=shop.Letters())
    assert alone["seen_queries"] == 0
    assert alone["unseen"]["ndcg10"] == alone["ndcg10"] == found["unseen"]["ndcg10"]
    whole = evaluate.judge(state, judgments=folder / JUDGMENTS, ranker="late", encoder=shop.Letters())
    assert whole["seen_queries"] == whole["queries"]
    assert whole["unseen"] is None


def test_products_of_the_tables_and_of_the_file_are_the_same(state: Layout, folder: Path) -> None:
    """Judging against the prepared products gives what judging against their file gives."""
    by_table = evaluate.judge(state, judgments=folder / JUDGMENTS, ranker="bm25", encoder=shop.Letters())
    by_file = evaluate.judge(state, judgments=folder / JUDGMENTS, products=folder / PRODUCTS, ranker="bm25", encoder=shop.Letters())
    assert by_table == by_file


def test_what_cannot_be_judged_is_said(state: Layout, folder: Path, tmp_path: Path) -> None:
    """Unknown sources and rankers, options of another source, a missing file, and nothing prepared each have a message of their own."""
    files = {"judgments": folder / JUDGMENTS, "products": None}
    with pytest.raises(UnknownName, match="source: 'shoes'"):
        judging.judge(state, "shoes", ranker=None, files={})
    with pytest.raises(UnknownName, match="ranker: 'best'"):
        judging.judge(state, "esci", ranker="best", files=files)
    with pytest.raises(ValueError, match="--judgments: source 'esci' needs it"):
        judging.judge(state, "esci", ranker=None, files={})
    with pytest.raises(ValueError, match="--reviews: source 'esci' does not read it"):
        judging.judge(state, "esci", ranker=None, files=files | {"reviews": tmp_path})
    with pytest.raises(FileNotFoundError, match="longtail data prepare esci"):
        judging.judge(Layout(tmp_path), "esci", ranker="bm25", files=files)
