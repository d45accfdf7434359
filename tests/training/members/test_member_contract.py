"""What holds for every member, whatever its method."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from ranking.features import MODEL_COLUMNS
from ranking.metrics import roc_auc
from tests.training.members.planted import QUICK, planted
from training.members.contract import INPUT, NO_LIST, OUTPUT, Exportable, Rows, Scorer
from training.members.registry import GIVEN, MEMBERS, UNSERVED, check_names, check_servable, train

LEARNING = [name for name, member in MEMBERS.items() if member.learns]
WEIGHING = [name for name in LEARNING if MEMBERS[name].weights]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return planted()


def quick(name: str, rows: Rows, seed: int = 0) -> Scorer:
    return train(name, rows, seed=seed, options=QUICK.get(name))


@pytest.mark.parametrize("name", MEMBERS)
def test_scores_are_one_finite_float64_per_row_and_beat_chance(rows: Rows, name: str) -> None:
    """Rows the member never saw get finite scores, and positives get higher ones than negatives."""
    unseen = planted(seed=1)
    scores = quick(name, rows).logits(unseen.features)
    assert scores.shape == unseen.labels.shape
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert roc_auc(scores, unseen.labels) > 0.55


@pytest.mark.parametrize("name", MEMBERS)
def test_a_seed_decides_everything_and_rows_stay_as_they_are(rows: Rows, name: str) -> None:
    """Trained twice with one seed a member gives the same scores to the bit, and has changed nothing of its rows."""
    before = [getattr(rows, f).copy() for f in ("features", "labels", "weights", "lists")]
    one, two = (quick(name, rows, seed=3).logits(rows.features) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    for was, field in zip(before, ("features", "labels", "weights", "lists"), strict=True):
        np.testing.assert_array_equal(was, getattr(rows, field))


@pytest.mark.parametrize("name", WEIGHING)
def test_rows_that_weigh_nothing_teach_nothing(rows: Rows, name: str) -> None:
    """Twice as many lists with turned labels at a millionth of the weight do not turn what is learnt."""
    lies = planted(lists=80, seed=2)
    weights = np.concatenate([rows.weights, np.full(len(lies.labels), 1e-6, np.float32)])
    features = np.concatenate([rows.features, lies.features])
    mixed = Rows(features, np.concatenate([rows.labels, 1 - lies.labels]), weights, np.concatenate([rows.lists, 1000 + lies.lists]))
    unseen = planted(seed=1)
    assert roc_auc(quick(name, mixed).logits(unseen.features), unseen.labels) > 0.55


@pytest.mark.parametrize("name", [n for n in LEARNING if n not in WEIGHING])
def test_weights_nobody_would_read_are_refused(rows: Rows, name: str) -> None:
    """A member that cannot respect row weights says so instead of leaving them out."""
    weighted = Rows(rows.features, rows.labels, np.where(rows.labels == 1, 3.0, 1.0).astype(np.float32), rows.lists)
    with pytest.raises(ValueError, match=f"weights: {name} takes no row weights"):
        quick(name, weighted)


def test_what_compares_lists_needs_lists(rows: Rows) -> None:
    """A made-up row has no list, so neither lambdarank nor a loss over lists can use it."""
    homeless = Rows(rows.features, rows.labels, rows.weights, np.where(np.arange(len(rows.lists)) < 5, NO_LIST, rows.lists))
    for name, options in (("lambdarank", {}), ("neural", {"loss": "softmax"})):
        with pytest.raises(ValueError, match="5 rows belong to none"):
            train(name, homeless, seed=0, options=options)


@pytest.mark.parametrize("name", MEMBERS)
def test_an_unknown_option_is_named(rows: Rows, name: str) -> None:
    """A misspelt option is no silent default."""
    with pytest.raises(ValueError, match=f"{name}.leafs: unknown option"):
        train(name, rows, seed=0, options={"leafs": 3})


def test_unknown_members_are_named(rows: Rows) -> None:
    """The error tells the name and those that are known; members that read texts are not trained on rows."""
    with pytest.raises(ValueError, match=r"members: 'forest' is not known; known: logistic, .*bert"):
        train("forest", rows, seed=0)
    with pytest.raises(ValueError, match="no duplicates"):
        check_names(("boosting", "boosting"))
    for name in GIVEN:
        with pytest.raises(ValueError, match=f"{name} reads texts"):
            train(name, rows, seed=0)


def test_every_member_is_served_or_says_why_not() -> None:
    """Each known name is trained on rows, and then exported; is the text ranker; or has a reason, by which a search refuses it."""
    assert {*MEMBERS, "bert", *UNSERVED} == {*MEMBERS, *GIVEN}
    check_servable((*MEMBERS, "bert"))
    for name in UNSERVED:
        with pytest.raises(ValueError, match=f"members: {name} cannot be served: "):
            check_servable(("boosting", name))


@pytest.mark.parametrize("name", MEMBERS)
def test_what_is_exported_scores_the_same(rows: Rows, name: str) -> None:
    """The ONNX model gives the member's scores plus the offset, unknown values included."""
    scorer, unseen = quick(name, rows), planted(seed=1).features
    assert isinstance(scorer, Exportable)
    model = scorer.to_onnx(offset=-1.5, columns=len(MODEL_COLUMNS))
    (got,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run([OUTPUT], {INPUT: unseen})
    assert got.shape == (len(unseen), 1)
    np.testing.assert_allclose(got[:, 0], scorer.logits(unseen) - 1.5, atol=2e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(4, np.int8)}, "both classes"),
        ({"labels": np.array([0, 1, 2, 0], np.int8)}, "both classes"),
        ({"weights": np.array([1, 1, np.nan, 1], np.float32)}, "weights: must be finite"),
        ({"weights": np.array([1, 1, 0, 1], np.float32)}, "weights: must be finite and above 0"),
        ({"lists": np.zeros(3, np.int64)}, "lists: need one per row"),
        ({"features": np.zeros(4, np.float32)}, "features: need"),
    ],
)
def test_rows_that_make_no_sense_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    """Wrong shapes, one class only and weights that are none are refused when the rows are made, not deep in a library."""
    good = {"features": np.zeros((4, 2), np.float32), "labels": np.array([0, 1, 0, 0], np.int8), "lists": np.zeros(4, np.int64)}
    with pytest.raises(ValueError, match=message):
        Rows(**({"weights": np.ones(4, np.float32)} | good | change))
