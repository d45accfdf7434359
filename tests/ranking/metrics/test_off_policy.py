"""Off-policy estimates against the truth by enumeration of everything that could have been logged."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.metrics import TooFewEffectiveRows, doubly_robust, effective_sample_size, importance_weights, ips, snips

LOGGING = np.array([0.5, 0.3, 0.2])  # chances of three actions when the log was written
TARGET = np.array([0.1, 0.2, 0.7])
REWARD = np.array([0.0, 1.0, 0.4])
TRUE = float(TARGET @ REWARD)
ROWS = 3


def over_all_logs(estimate: object) -> float:
    """Expectation of an estimate over all logs of three rows."""
    assert callable(estimate)
    return sum(float(np.prod(LOGGING[list(log)])) * estimate(np.array(log)) for log in product(range(3), repeat=ROWS))


def weights(log: np.ndarray) -> np.ndarray:
    return importance_weights(TARGET[log], LOGGING[log])


def test_ips_is_unbiased() -> None:
    """Its mean over every log that could have been is what the target policy earns."""
    assert over_all_logs(lambda log: ips(REWARD[log], weights(log), least=0)) == pytest.approx(TRUE)


def test_doubly_robust_is_unbiased_if_either_half_is_right() -> None:
    """With right weights for any reward model, and with the right reward model for any weights."""
    wrong_model, wrong_weights = np.array([0.9, 0.1, 0.3]), np.array([2.0, 0.3, 1.7])

    def right_weights(log: np.ndarray) -> float:
        return doubly_robust(REWARD[log], weights(log), wrong_model[log], np.full(ROWS, TARGET @ wrong_model), least=0)

    def right_model(log: np.ndarray) -> float:
        return doubly_robust(REWARD[log], wrong_weights[log], REWARD[log], np.full(ROWS, TRUE), least=0)

    assert over_all_logs(right_weights) == pytest.approx(TRUE)
    assert over_all_logs(right_model) == pytest.approx(TRUE)


def test_a_good_model_makes_doubly_robust_less_noisy_than_ips() -> None:
    """With a model off by a tenth its variance over all logs is below that of IPS."""
    model = REWARD + 0.1

    def squared_error(estimate: object) -> float:
        assert callable(estimate)
        return over_all_logs(lambda log: (estimate(log) - TRUE) ** 2)

    robust = squared_error(lambda log: doubly_robust(REWARD[log], weights(log), model[log], np.full(ROWS, TARGET @ model), least=0))
    assert robust < squared_error(lambda log: ips(REWARD[log], weights(log), least=0))


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 100)), min_size=1, max_size=30))
def test_snips_is_within_the_range_of_rewards(rows: list[tuple[float, float]]) -> None:
    """A weighted mean cannot leave it, as IPS can; equal weights make both the plain mean."""
    rewards, w = np.array(rows).T
    assert rewards.min() - 1e-9 <= snips(rewards, w, least=0) <= rewards.max() + 1e-9
    ones = np.ones(len(rewards))
    assert snips(rewards, ones, least=0) == pytest.approx(rewards.mean()) == pytest.approx(ips(rewards, ones, least=0))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30))
def test_effective_rows_are_between_one_and_all(w: list[float]) -> None:
    """(Σ w)² / Σ w²: all rows where weights are equal, one where one row has all, the same in any unit."""
    size = effective_sample_size(np.array(w))
    assert 1 - 1e-9 <= size <= len(w) + 1e-9
    assert effective_sample_size(7 * np.array(w)) == pytest.approx(size)
    assert effective_sample_size(np.full(9, 0.3)) == pytest.approx(9)
    assert effective_sample_size(np.array([5.0, 0.0, 0.0])) == 1
    assert effective_sample_size(np.zeros(3)) == 0


@pytest.mark.parametrize("estimate", [ips, snips, lambda r, w, **k: doubly_robust(r, w, r, r, **k)])
def test_uneven_weights_give_an_error_not_an_estimate(estimate: object) -> None:
    """1,000 rows of which one has nearly all the weight are worth about one: fewer than asked for, and said so."""
    assert callable(estimate)
    w = np.append(np.full(999, 0.001), 1000.0)
    with pytest.raises(TooFewEffectiveRows, match=r"1000 rows are worth 1\.0 .*, fewer than 100: no estimate") as refused:
        estimate(np.ones(1000), w)
    assert refused.value.size == pytest.approx((999 * 0.001 + 1000) ** 2 / (999 * 0.001**2 + 1000**2))
    assert refused.value.least == 100.0
    with pytest.raises(TooFewEffectiveRows):
        estimate(np.ones(3), np.zeros(3), least=0)


def test_wrong_chances_and_weights_are_named() -> None:
    """What was logged cannot have had no chance; weights are finite and not negative."""
    with pytest.raises(ValueError, match=r"^logging: "):
        importance_weights(np.array([0.5]), np.array([0.0]))
    with pytest.raises(ValueError, match=r"^target: "):
        importance_weights(np.array([1.5]), np.array([0.5]))
    for w in ([-1.0, 1.0], [np.inf, 1.0]):
        with pytest.raises(ValueError, match=r"^weights: "):
            ips(np.ones(2), np.array(w))
    with pytest.raises(ValueError, match=r"^expected_target: "):
        doubly_robust(np.ones(2), np.ones(2), np.ones(2), np.ones(3), least=0)
