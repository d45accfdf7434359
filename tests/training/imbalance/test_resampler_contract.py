"""What every resampler promises, over every resampler, on features, on mixed columns and on embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from training.imbalance import samplers
from training.imbalance.columns import Columns
from training.imbalance.resample import RESAMPLERS, SETS_SHARE, Resampled, resample

GENERATORS = ("gan", "wgan_gp")
RANDOM = ("none", "class_weight", "random_over", "random_under", "negatives")
CLEANING = ("tomek", "smote_enn", "smote_tomek")
SEGMENTS = ("smote", "adasyn", "borderline_smote")  # every made row lies between two real positives
MIXED = Columns(categorical=(3,), integer=(2,))


def _features(n: int = 600, positives: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Two continuous columns, one of whole numbers, one of category codes; the classes overlap."""
    rng = np.random.default_rng(0)
    y = np.zeros(n, np.int8)
    y[rng.choice(n, positives, replace=False)] = 1
    x = rng.normal(size=(n, 4)) + y[:, None]
    x[:, 1] *= 1000
    x[:, 2] = np.rint(4 * x[:, 2])
    x[:, 3] = rng.choice([2, 5, 7], n)
    return x.astype(np.float32), y


def _embeddings(n: int = 200, positives: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """As a sentence encoder's: 384 wide, of length 1, near a surface of few dimensions."""
    rng = np.random.default_rng(1)
    y = (np.arange(n) < positives).astype(np.int8)
    x = (rng.normal(size=(n, 6)) + 0.8 * y[:, None]) @ rng.normal(size=(6, 384)) + 0.1 * rng.normal(size=(n, 384))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def _run(name: str, x: np.ndarray, y: np.ndarray, *, strength: float = 0.5, seed: int = 1, columns: Columns | None = None) -> Resampled:
    options: dict[str, Any] = {"steps": 2, "batch": 8} if name in GENERATORS else {}
    return resample(name, x, y, strength=strength, seed=seed, columns=columns, options=options)


DATA = {"features": (_features, None), "mixed": (_features, MIXED), "embeddings": (_embeddings, None)}


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("name", RESAMPLERS)
def test_rows_come_out_whole(name: str, kind: str) -> None:
    """Float32 rows as wide as before, all finite, with a label, a weight and a source each; real rows bit for bit, inputs untouched."""
    make, columns = DATA[kind]
    x, y = make()
    x.flags.writeable = y.flags.writeable = False
    before = x.copy(), y.copy()
    rows = _run(name, x, y, columns=columns)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert (rows.features.dtype, rows.labels.dtype, rows.weights.dtype) == (np.float32, np.int8, np.float32)
    assert rows.features.shape == (len(rows.labels), x.shape[1])
    assert len(rows.labels) == len(rows.weights) == len(rows.source)
    assert np.isfinite(rows.features).all()
    real = rows.source >= 0
    np.testing.assert_array_equal(rows.features[real], x[rows.source[real]])
    np.testing.assert_array_equal(rows.labels[real], y[rows.source[real]])


@pytest.mark.parametrize("name", RESAMPLERS)
def test_equal_seeds_give_equal_rows(name: str) -> None:
    """A resampler repeats itself by seed, whatever numpy's and torch's own generators did in between."""
    x, y = _features()
    one = _run(name, x, y, seed=5)
    np.random.default_rng().random()
    two = _run(name, x, y, seed=5)
    np.testing.assert_array_equal(one.features, two.features)
    np.testing.assert_array_equal(one.weights, two.weights)
    assert one.offset == two.offset


@pytest.mark.parametrize("name", sorted(set(RESAMPLERS) - {"none", "class_weight", "tomek"}))
def test_other_seeds_give_other_rows(name: str) -> None:
    """The seed is used."""
    x, y = _features()
    one, two = (_run(name, x, y, seed=s).features for s in (1, 2))
    assert one.shape != two.shape or (one != two).any()


@pytest.mark.parametrize("strength", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("name", SETS_SHARE)
def test_the_share_is_as_asked(name: str, strength: float) -> None:
    """Weight of positives per weight of negatives is the strength: to one row, near it for ADASYN, within chance for `negatives`."""
    x, y = _features()
    rows = _run(name, x, y, strength=strength)
    negative, positive = np.bincount(rows.labels, weights=rows.weights)
    kept = 40 / strength  # negatives that may stay; each was kept by chance with `negatives`
    slack = {"adasyn": 0.1, "negatives": 4 / np.sqrt(kept)}.get(name, 1.0 / kept)
    assert positive / negative == pytest.approx(strength, rel=slack)


@pytest.mark.parametrize("name", RESAMPLERS)
def test_the_offset_is_the_change_of_the_log_odds(name: str) -> None:
    """The offset is ln(odds before / odds after); with `negatives` after stands for its expectation."""
    x, y = _features()
    rows = _run(name, x, y)
    weight = np.bincount(rows.labels, weights=rows.weights)
    after = 0.5 if name == "negatives" else weight[1] / weight[0]
    assert rows.offset == pytest.approx(np.log((40 / 560) / after), abs=1e-6)
    assert rows.exact == (name in RANDOM)


@pytest.mark.parametrize("name", RESAMPLERS)
def test_who_stays(name: str) -> None:
    """Positives stay unless the method cleans both classes; negatives stay where rows are only added."""
    x, y = _features()
    rows = _run(name, x, y)
    positives, negatives = set(np.flatnonzero(y == 1)), set(np.flatnonzero(y == 0))
    kept = set(rows.source[rows.source >= 0])
    if name not in ("smote_enn", "smote_tomek"):
        assert positives <= kept
    if name in ("none", "class_weight", "random_over", *SEGMENTS, *GENERATORS):
        assert negatives <= kept
    if name in RANDOM or name == "tomek":
        assert (rows.source >= 0).all()
    if name == "cluster_centroids":
        assert not negatives & kept
        assert (rows.labels[rows.source < 0] == 0).all()
    elif name not in (*RANDOM, "tomek"):
        assert (rows.source < 0).any()
        assert (rows.labels[rows.source < 0] == 1).all()


@pytest.mark.parametrize("name", [*SEGMENTS, "smote_enn", "smote_tomek", "cluster_centroids"])
def test_made_rows_lie_within_the_hull_of_real_ones(name: str) -> None:
    """A made row is a convex combination of real rows of its class, to float32."""
    x, y = _features(300, 20)
    rows = _run(name, x, y)
    made = rows.features[rows.source < 0]
    real = x[y == (0 if name == "cluster_centroids" else 1)].astype(np.float64)
    scale = real.std(axis=0)
    for point in made[:: max(1, len(made) // 25)].astype(np.float64):
        # smallest t with |real'w - point| <= t, w a distribution
        corners = np.vstack([(real / scale).T, -(real / scale).T])
        target = np.concatenate([point / scale, -point / scale])
        solved = linprog(
            np.append(np.zeros(len(real)), 1.0),
            A_ub=np.hstack([corners, -np.ones((len(corners), 1))]),
            b_ub=target,
            A_eq=np.append(np.ones(len(real)), 0.0)[None],
            b_eq=[1.0],
        )
        assert solved.fun < 1e-4


@pytest.mark.parametrize("name", sorted(set(RESAMPLERS) - set(RANDOM) - {"tomek"}))
def test_mixed_columns_stay_what_they_are(name: str) -> None:
    """Made rows have categories that were seen, whole numbers where numbers were whole, and nothing beyond a column's range."""
    x, y = _features()
    made = (rows := _run(name, x, y, columns=MIXED)).features[rows.source < 0]
    assert set(made[:, 3]) <= {2, 5, 7}
    np.testing.assert_array_equal(made[:, 2], np.rint(made[:, 2]))
    parents = x[y == (0 if name == "cluster_centroids" else 1)]
    slack = 1e-5 * np.abs(parents).max(axis=0)  # of scaling there and back in float32
    assert (made >= parents.min(axis=0) - slack).all()
    assert (made <= parents.max(axis=0) + slack).all()


@pytest.mark.parametrize("name", sorted(set(RESAMPLERS) - set(RANDOM) - {"tomek"}))
def test_made_rows_are_new(name: str) -> None:
    """No made row repeats a real one where columns are continuous."""
    x, y = _features()
    rows = _run(name, x[:, :2], y)
    assert not {r.tobytes() for r in rows.features[rows.source < 0]} & {r.tobytes() for r in x[:, :2]}


@pytest.mark.parametrize("name", RESAMPLERS)
def test_six_positives_are_enough(name: str) -> None:
    """With six positives (fewer than the usual neighbours and the row itself) a method uses the neighbours there are."""
    x, y = _features(200, 6)
    rows = _run(name, x, y, strength=0.2)
    assert 0 < rows.labels.mean() < 1


@pytest.mark.parametrize("name", ["smote", "adasyn", "borderline_smote", "smote_enn", "smote_tomek", *GENERATORS])
def test_one_positive_is_too_few_to_learn_from(name: str) -> None:
    """Where a method needs a second positive, it says so with the number there is."""
    x, y = _features(50, 1)
    with pytest.raises(ValueError, match="needs at least 2 positive rows, got 1"):
        _run(name, x, y)


@pytest.mark.parametrize("name", sorted(set(RESAMPLERS) - set(RANDOM)))
def test_a_hole_has_no_distance(name: str) -> None:
    """A missing value is refused with its column by methods that measure distances, and passed on by the others."""
    x, y = _features()
    x[np.flatnonzero(y)[0], 1] = np.nan
    with pytest.raises(ValueError, match="features: column 1 holds NaN"):
        _run(name, x, y)
    assert np.isnan(_run("random_over", x, y).features[:, 1]).any()


@pytest.mark.parametrize("name", sorted(set(RESAMPLERS) - set(RANDOM)))
def test_only_the_rows_given_are_used(name: str) -> None:
    """Rows made from one fold are the same whatever other folds hold: nothing is remembered between calls."""
    x, y = _features()
    alone = _run(name, x[:400], y[:400])
    _run(name, 50 - x[400:], y[400:], seed=9)
    np.testing.assert_array_equal(_run(name, x[:400], y[:400]).features, alone.features)


def test_adasyn_says_when_it_has_nowhere_to_add() -> None:
    """Far from every negative, ADASYN has no border and names the method that needs none."""
    x, y = _features()
    with pytest.raises(ValueError, match=r"adasyn: no positive has a negative among its neighbours.*use smote"):
        _run("adasyn", x[:, :1] * 0.01 + 1000 * y[:, None].astype(np.float32), y)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"categorical": (4,)}, "columns: 4 is not a column of rows with 4 features"),
        ({"categorical": (1,), "integer": (1,)}, "columns: 1 is named categorical and integer"),
        ({"scaling": "minmax"}, "scaling: 'minmax' is not one of"),
    ],
)
def test_wrong_columns_are_named(columns: dict[str, Any], message: str) -> None:
    """A column that is not there, or is two things at once, is refused by its number."""
    x, y = _features()
    with pytest.raises(ValueError, match=message):
        _run("smote", x, y, columns=Columns(**columns))


@pytest.mark.parametrize("name", ["class_weight", "random_over", "random_under", "negatives"])
def test_the_exact_offset_restores_the_rate(name: str) -> None:
    """A well specified model trained on the resampled rows, moved by the offset, predicts as many positives as there are."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(3)
    x = rng.normal(size=(60_000, 1)).astype(np.float32)
    y = (rng.random(len(x)) < 1 / (1 + np.exp(-(x[:, 0] - 4)))).astype(np.int8)
    rows = _run(name, x, y, strength=0.5)
    model = LogisticRegression(C=1e6).fit(rows.features, rows.labels, sample_weight=rows.weights)
    z = model.decision_function(x)
    corrected, raw = 1 / (1 + np.exp(-(z + rows.offset))), 1 / (1 + np.exp(-z))
    assert corrected.sum() / y.sum() == pytest.approx(1.0, abs=4 / np.sqrt(y.sum()))
    assert raw.sum() / y.sum() > 5


def test_cleaning_that_leaves_one_class_says_so() -> None:
    """Where every negative has a made positive among its neighbours, SMOTE-ENN would drop them all: it names the class instead."""
    rng = np.random.default_rng(0)
    y = (np.arange(60) < 20).astype(np.int8)
    with pytest.raises(ValueError, match="smote_enn: cleaning dropped every row of class 0"):
        _run("smote_enn", rng.normal(size=(60, 300)).astype(np.float32), y, strength=1.0)


def test_a_border_without_positives_adds_none() -> None:
    """BorderlineSMOTE leaves rows as they are where no positive has mostly negatives around it."""
    x, y = _features()
    rows = _run("borderline_smote", x[:, :1] * 0.01 + 1000 * y[:, None].astype(np.float32), y)
    np.testing.assert_array_equal(rows.source, np.arange(len(y)))
    assert rows.offset == 0.0


def test_many_centres_are_fewer_that_weigh_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most clusters that can be found in time, each centre weighs more, and the share is still as asked."""
    monkeypatch.setattr(samplers, "_CENTRES", 16)
    x, y = _features()
    rows = _run("cluster_centroids", x, y)
    made = rows.source < 0
    assert made.sum() == 16
    assert (rows.weights[made] == 40 / 0.5 / 16).all()
    assert rows.offset == pytest.approx(np.log((40 / 560) / 0.5), abs=1e-6)
