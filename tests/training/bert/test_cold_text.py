from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from training.artefacts import save_ensemble_data, save_lists
from training.bert import bench, cold
from training.lists.arrays import EnsembleData, EvalLists, TrainRows
from training.toolbox.bench import NotBrought

LISTS, PER = 40, 12


def lists(seed: int, *, told: bool) -> EvalLists:
    """Lists with one purchase each, that the text knows or does not; popularity never does."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((LISTS, PER), np.int8)
    labels[np.arange(LISTS), rng.integers(0, PER, LISTS)] = 1
    features = np.zeros((LISTS * PER, len(MODEL_COLUMNS)), np.float32)
    features[:, MODEL_COLUMNS.index("purchases_28d")] = rng.integers(1, 50, LISTS * PER)
    scores = rng.normal(size=LISTS * PER) + (5.0 * labels.ravel() if told else 0.0)
    tiers, ideal = np.zeros(LISTS * PER, np.int8), np.ones(LISTS, np.int64)
    return EvalLists(features, labels.ravel(), tiers, {"bm25": scores}, np.arange(LISTS + 1) * PER, ideal, np.arange(LISTS))


def test_text_that_knows_what_is_bought_gains_over_popularity() -> None:
    """Alone and beside popularity the gain's whole interval is above 0, and popularity has no gain over itself."""
    plain, alone, both = cold.compare(lists(0, told=True), lists(1, told=True))
    assert plain.gains == {}
    assert alone.gains["ndcg10"].low > 0
    assert both.gains["ndcg10"].low > 0
    assert both.weight is not None
    assert both.weight > 0
    assert both.gains["ndcg10"].value == pytest.approx(both.figures["ndcg10"].value - plain.figures["ndcg10"].value)


def test_no_column_about_the_user_is_read() -> None:
    """Other values in all columns but the item's sales give the same table."""
    valid, test = lists(0, told=True), lists(1, told=True)
    noise = np.random.default_rng(5).normal(size=test.features.shape).astype(np.float32)
    sold = MODEL_COLUMNS.index("purchases_28d")
    noise[:, sold] = test.features[:, sold]
    rows = [[row.to_json() for row in cold.compare(valid, one)] for one in (test, replace(test, features=noise))]
    assert rows[0] == rows[1]


def test_what_has_no_text_is_last_by_text() -> None:
    """NaN scores stand below every other of the list, and lists without any text are ordered by popularity."""
    one = lists(2, told=False)
    holes = one.given["bm25"].copy()
    holes[0] = np.nan
    assert cold.text(replace(one, given={"bm25": holes}), "bm25")[:PER].argmin() == 0
    blank = replace(one, given={"bm25": np.full(LISTS * PER, np.nan)})
    np.testing.assert_array_equal(cold.beside(blank, "bm25", 1.0), cold.popularity(blank))


def test_the_part_is_on_the_page(tmp_path: Path) -> None:
    """From the scores that the pipeline kept the benchmark makes figures and a table with every way to order."""
    home, valid = Layout(tmp_path), lists(0, told=True)
    scores = home.training / "scores"
    scores.mkdir(parents=True)
    (scores / "stage.json").write_text("{}")
    train = TrainRows(valid.features, valid.labels, 1.0, np.repeat(np.arange(LISTS), PER))
    save_ensemble_data(scores / "search.npz", EnsembleData(train, valid, valid))
    save_lists(scores / "search_test.npz", lists(1, told=True))
    result = bench.run(home, quick=True, only=("cold",))
    assert result["figures"]["cold_ndcg10_bm25_low"] > 0
    page = Path(result["report"]).read_text("utf-8")
    assert "Cold start with text" in page
    assert "<td>popularity + bm25</td>" in page


def test_a_state_without_scores_names_the_command(tmp_path: Path) -> None:
    """The message says what makes them."""
    with pytest.raises(NotBrought, match="`longtail train` makes it"):
        cold.measure(Layout(tmp_path))
