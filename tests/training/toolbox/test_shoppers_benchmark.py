from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.toolbox import sessions_made_up
from training.imbalance.resample import RESAMPLERS
from training.toolbox import shoppers, shoppers_methods
from training.toolbox.outcome import Named
from training.toolbox.shoppers_data import NUMERIC, derived, for_trees, one_hot, read
from training.toolbox.shoppers_methods import Effort, methods

QUICK = Effort(quick=True, seed=0)


def test_visits_are_read_as_numbers_and_codes(tmp_path: Path) -> None:
    """Ten numbers, then seven codes below the column's number of categories; labels are the file's."""
    visits = read(sessions_made_up.write(tmp_path))
    assert visits.rows.shape == (240, 17)
    for i, count in enumerate(visits.levels):
        codes = visits.rows[:, len(NUMERIC) + i]
        assert set(np.unique(codes)) == set(range(count))
    assert 0 < visits.labels.mean() < 0.5
    assert visits.levels[0] == 2  # February is code 0, November 1: by the calendar, which the alphabet happens to agree with
    assert one_hot(visits.rows, visits.levels).shape == (240, 10 + 15 + sum(visits.levels))
    wide, categories = for_trees(visits.rows)
    np.testing.assert_array_equal(wide[:, categories], visits.rows[:, 10:])


def test_derived_columns_are_their_own_rows_arithmetic() -> None:
    """Pages add up, seconds add up, and time per page is their ratio with one page added."""
    row = np.zeros((1, 17), np.float32)
    row[0, :11] = [1, 10, 2, 20, 3, 30, 0.01, 0.05, 4, 0, 7]
    got = derived(row)[0]
    pages, seconds = 1 + 2 + 3, 10 + 20 + 30
    want = [pages, seconds, seconds / (pages + 1), 30 / (3 + 1), 1, 4 * 0.05, 4 * pages, 0.05 - 0.01, 0.05 * pages]
    want += [3 / (pages + 1), 10 / (1 + 1), 20 / (2 + 1), 4 / (pages + 1), np.log(1 + 4) * np.log(1 + 3), 7]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_folds_are_stratified() -> None:
    """Every fold has the same number of positives, to one."""
    y = (np.arange(103) % 5 == 0).astype(np.int8)
    folds = shoppers.fold_of(y, 5, 0)
    positives = np.bincount(folds[y == 1], minlength=5)
    assert positives.max() - positives.min() <= 1
    np.testing.assert_array_equal(folds, shoppers.fold_of(y, 5, 0))


@pytest.mark.parametrize("name", RESAMPLERS)
def test_every_resampler_trains_the_plain_model(name: str, tmp_path: Path) -> None:
    """Each one gives a finite score per visit not seen, or says why it cannot."""
    visits = read(sessions_made_up.write(tmp_path))
    (named,) = [m for m in methods() if (m.kind, m.name) == ("resampler", name)]
    trial = named.method(visits.some(np.arange(160)), visits.rows[160:], {"num_leaves": 4}, QUICK)
    assert trial.scores.shape == (80,)
    assert np.isfinite(trial.scores).all()
    assert all(count > 0 for count in trial.classes)


def test_only_training_visits_are_resampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to a resampler is the training part of the fold, never a visit that is scored."""
    visits = read(sessions_made_up.write(tmp_path))
    folds = shoppers.fold_of(visits.labels, 2, 0)
    seen: list[np.ndarray] = []
    real = shoppers_methods.resample

    def spy(name: str, features: np.ndarray, labels: np.ndarray, **options: Any) -> Any:
        seen.append(features)
        return real(name, features, labels, **options)

    monkeypatch.setattr(shoppers_methods, "resample", spy)
    (named,) = [m for m in methods() if m.name == "smote"]
    assert isinstance(shoppers._cross_validated(named, visits, folds, [{}, {}], QUICK), list)
    assert len(seen) == 2
    for k, given in enumerate(seen):
        np.testing.assert_array_equal(given, visits.rows[folds != k])


def test_a_method_that_cannot_says_so(tmp_path: Path) -> None:
    """A method's refusal is a row of the table with its reason, not the end of the benchmark."""
    visits = read(sessions_made_up.write(tmp_path))
    folds = shoppers.fold_of(visits.labels, 2, 0)

    def refuses(*_: Any) -> Any:
        raise ValueError("too few neighbours")

    named = Named("resampler", "smote", "none", refuses)
    trials = shoppers._cross_validated(named, visits, folds, [{}, {}], QUICK)
    assert trials == "too few neighbours"


@pytest.mark.exhaustive
def test_the_quick_run_has_a_row_per_method(tmp_path: Path) -> None:
    """All resamplers, members, losses, optimisers, calibrators and the blend are in the table, each with figures or a reason."""
    outcomes, figures = shoppers.measure(sessions_made_up.write(tmp_path), quick=True)
    assert {o.method for o in outcomes if o.kind == "resampler"} == set(RESAMPLERS)
    assert {o.method for o in outcomes if o.kind == "calibrator"} == {"raw", "prior", "platt", "isotonic", "temperature"}
    assert {"loss", "optimiser", "member", "blend"} <= {o.kind for o in outcomes}
    assert all(o.figures or o.note.startswith("failed") for o in outcomes)
    assert set(figures) == {"online_shoppers_auc", "online_shoppers_ap"}
    assert figures["online_shoppers_auc"] > 0.5
