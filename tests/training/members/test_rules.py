from __future__ import annotations

import numpy as np
import pytest

from ranking.features import MODEL_COLUMNS
from training.members import rules
from training.members.contract import Rows
from training.members.registry import MEMBERS, train

RULES = [name for name, member in MEMBERS.items() if not member.learns]


def matrix(**columns: list[float]) -> np.ndarray:
    x = np.zeros((len(next(iter(columns.values()))), len(MODEL_COLUMNS)), np.float32)
    for name, values in columns.items():
        x[:, MODEL_COLUMNS.index(name)] = values
    return x


def scores(name: str, x: np.ndarray) -> np.ndarray:
    rows = Rows.of(np.zeros((2, len(MODEL_COLUMNS)), np.float32), np.array([0, 1], np.int8))
    return train(name, rows, seed=0).logits(x)


def test_interest_counts_what_the_user_bought_by_likeness() -> None:
    """p_ui sums the user's shares of like items: 30 % of the lines in the category and 20 % of the baskets with the item are 0.5."""
    found = scores("interest_score", matrix(category_share=[0.3, 0.3, 0.0], repeat_share=[0.2, 0.0, 0.0]))
    np.testing.assert_allclose(np.exp(found), [0.3 + 0.2, 0.3, rules._LEAST], rtol=1e-6)


def test_a_repeat_stands_above_any_popularity_and_equals_go_by_popularity() -> None:
    """The repeat rule is the user's own habit first, then everybody's."""
    found = scores("repeat_purchase", matrix(repeat_share=[0.05, 0.0, 0.0], promo_rate_28d=[0.0, 0.9, 0.1]))
    assert np.argsort(-found).tolist() == [0, 1, 2]


def test_popularity_is_a_logarithm_of_a_rate() -> None:
    """Ten times the rate is ln 10 more, so that a calibrator with one slope fits it."""
    one, ten = scores("popularity", matrix(promo_rate_28d=[0.001, 0.01]))
    assert ten - one == pytest.approx(np.log(10), rel=1e-5)


def test_discovery_is_read_by_name_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A schema without the column makes the rule say so; everything else goes on."""
    x = matrix(discovery=[-0.3, 0.7])
    np.testing.assert_allclose(scores("discovery", x), [-0.3, 0.7], rtol=1e-6)
    monkeypatch.setattr(rules, "MODEL_COLUMNS", tuple("?" if c == "discovery" else c for c in MODEL_COLUMNS))
    with pytest.raises(ValueError, match="discovery: the models' input row has no column 'discovery'"):
        scores("discovery", x)


@pytest.mark.parametrize("name", RULES)
def test_a_rule_refuses_another_matrix(name: str) -> None:
    """Columns are read by place, so a matrix of another width is an error and no other column's score."""
    with pytest.raises(ValueError, match="columns of the models' input row, got 3"):
        train(name, Rows.of(np.zeros((2, 3), np.float32), np.array([0, 1], np.int8)), seed=0)
