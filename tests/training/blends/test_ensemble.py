from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ranking.calibrate import sigmoid, undo_negative_sampling
from tests.training.data import ensemble_data
from training.artefacts import load_ensemble_data, save_ensemble_data
from training.blends.calibrators import CALIBRATORS
from training.blends.ensemble import DEFAULT, fit, ndcg, objective
from training.lists.arrays import EnsembleData
from training.release.evaluate import evaluate

CONFIG = {**DEFAULT, "rounds": 20, "negatives_rate": 0.5, "text_weight_head": 0.5, "text_weight_tail": 0.5, "text_weight_new": 0.5}


@pytest.fixture(scope="module")
def data() -> EnsembleData:
    return ensemble_data()


def test_objective_is_a_plain_function(data: EnsembleData) -> None:
    """Equal configuration, data and seed give equal metrics, all finite."""
    one, two = objective(CONFIG, data, 3), objective(CONFIG, data, 3)
    assert one == two
    assert np.isfinite(list(one.values())).all()


def test_blend_beats_its_members_where_each_knows_something_else(data: EnsembleData) -> None:
    """Trees see one cause, text the other: the blend's NDCG is above both."""
    fitted = fit(CONFIG, data, 0)
    blended = fitted.blend(data.select)
    mean = [np.nanmean(ndcg(s, data.select)) for s in (blended.probabilities, *blended.member_probabilities)]
    assert mean[0] > max(mean[1:])


def test_a_floor_trades_order_for_exposure_and_leaves_probabilities(data: EnsembleData) -> None:
    """The same trial with six places of ten for the tail and three for new items: more of them, and the same NE."""
    config = {**DEFAULT, "rounds": 5, "negatives_rate": 0.5}
    free, bound = objective(config, data, 0), objective({**config, "floor": 0.6}, data, 0)
    assert bound["tail_share10"] >= 0.9 > free["tail_share10"]  # a list of forty has enough of both
    assert bound["ndcg10"] < free["ndcg10"]
    assert {k: bound[k] for k in ("ne", "predicted_over_actual")} == {k: free[k] for k in ("ne", "predicted_over_actual")}


def test_thinned_negatives_are_corrected(data: EnsembleData) -> None:
    """Keeping a fifth of the negatives moves raw log-odds by about ln 5, and the offset brings them back."""
    whole, thin = (fit({**CONFIG, "negatives_rate": r}, data, 0) for r in (0.5, 0.1))
    raw = [f.logits(data.select)[0].mean() - f.offset for f in (whole, thin)]
    corrected = [f.logits(data.select)[0].mean() for f in (whole, thin)]
    assert raw[1] - raw[0] == pytest.approx(np.log(5), rel=0.35)  # different rows, small trees
    assert abs(corrected[1] - corrected[0]) < abs(raw[1] - raw[0]) / 2


def test_the_offset_is_the_published_correction() -> None:
    """Adding ln w to log-odds is He et al.'s p / (p + (1 - p) / w)."""
    z, w = np.linspace(-5, 5, 11), 0.03
    np.testing.assert_allclose(sigmoid(z + np.log(w)), undo_negative_sampling(sigmoid(z), w), rtol=1e-12)


@pytest.mark.parametrize("name", CALIBRATORS)
def test_every_calibrator_can_be_chosen(data: EnsembleData, name: str) -> None:
    """The configuration names the members' calibrator."""
    kind = {"temperature": "platt"}.get(name, name)  # a temperature is served as Platt's map without an intercept
    calibrators = fit({**CONFIG, "calibrator": name}, data, 0).spec.calibrators
    assert {c.kind for c in calibrators} == {kind}
    assert all(c.b == 0.0 for c in calibrators) == (name != "platt")


def test_a_rate_above_the_rows_own_is_refused(data: EnsembleData) -> None:
    """Negatives that were not kept cannot come back."""
    with pytest.raises(ValueError, match="negatives_rate: must be in"):
        fit({**CONFIG, "negatives_rate": 0.9}, data, 0)


def test_lists_pick_whole_lists(data: EnsembleData) -> None:
    """Picking lists keeps their rows together and in order."""
    picked = data.select.lists(np.array([4, 1]))
    start = data.select.offsets[4]
    assert len(picked) == 2
    np.testing.assert_array_equal(picked.features[:40], data.select.features[start : start + 40])


def test_artefacts_round_trip(data: EnsembleData, tmp_path: Path) -> None:
    """What a stage writes, the next reads, bit for bit."""
    save_ensemble_data(tmp_path / "x" / "data.npz", data)
    read = load_ensemble_data(tmp_path / "x" / "data.npz")
    assert read.train.negatives_rate == data.train.negatives_rate
    np.testing.assert_array_equal(read.train.features, data.train.features)
    np.testing.assert_array_equal(read.select.given["bert"], data.select.given["bert"])
    np.testing.assert_array_equal(read.train.lists, data.train.lists)
    assert list(read.calibrate.given) == list(data.calibrate.given)


def test_missing_artefact_says_what_makes_it(tmp_path: Path) -> None:
    """A stage run out of order names the command that was to come first."""
    with pytest.raises(FileNotFoundError, match=r"python -m training\.pipeline"):
        load_ensemble_data(tmp_path / "nothing.npz")


def test_evaluation_has_intervals_around_values(data: EnsembleData) -> None:
    """Every metric is [value, low, high] with low ≤ value ≤ high, overall and per tier."""
    blended = fit(CONFIG, data, 0).blend(data.select)
    table = evaluate({"blend": blended.probabilities}, data.select, probabilities=frozenset({"blend"}), seed=0, n=100)
    assert set(table["blend"]) == {"all", "head", "tail", "new"}
    assert {"ndcg10", "recall10", "tail_share10", "auc", "ne", "predicted_over_actual", "ece"} <= set(table["blend"]["all"])
    for row in table["blend"].values():
        for name, (value, low, high) in row.items():
            if low is None:  # a count, or a mean over too few lists
                assert high is None
                continue
            # A resampled calibration error is biased upwards: the value may lie below its interval.
            assert low <= high
            assert value <= high if name == "ece" else low <= value <= high
