from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.calibrate import logit, sigmoid
from training.imbalance.priors import from_sampled, from_under_sampled, shift_prior, to_sampled, under_sampled

probabilities = st.floats(1e-6, 1 - 1e-6)
rates = st.floats(0.01, 1.0)


@pytest.mark.parametrize("q", [0.001, 0.01, 0.05, 0.3])
def test_one_negative_in_ten_kept(q: float) -> None:
    """Of 1,000,000 rows with 1,000,000·q positives a tenth of the negatives stays: the new share, and exactly back."""
    positives, negatives = q, 1 - q
    want = positives / (positives + 0.1 * negatives)
    assert to_sampled(np.array([q]), 0.1)[0] == pytest.approx(want)
    assert want == pytest.approx({0.001: 0.009911, 0.01: 0.091743, 0.05: 0.344828, 0.3: 0.810811}[q], abs=5e-7)
    assert from_sampled(np.array([want]), 0.1)[0] == pytest.approx(q)


@given(p=probabilities, rate=rates)
def test_both_papers_say_the_same_and_undo_themselves(p: float, rate: float) -> None:
    """He's and Dal Pozzolo's corrections are one function, each the inverse of its sampling."""
    array = np.array([p])
    np.testing.assert_allclose(from_sampled(array, rate), from_under_sampled(array, rate), rtol=1e-9)
    np.testing.assert_allclose(from_sampled(to_sampled(array, rate), rate), array, rtol=1e-9)
    np.testing.assert_allclose(from_under_sampled(under_sampled(array, rate), rate), array, rtol=1e-9)


@given(p=probabilities, rate=rates)
def test_sampling_is_a_shift_of_the_log_odds(p: float, rate: float) -> None:
    """Undoing a rate w adds ln w to the log-odds: the offset that `resample` returns."""
    np.testing.assert_allclose(from_sampled(np.array([p]), rate), sigmoid(logit(np.array([p])) + np.log(rate)), rtol=1e-6)


@given(p=probabilities, before=st.floats(0.01, 0.99), rate=rates)
def test_shifting_the_prior_is_the_general_case(p: float, before: float, rate: float) -> None:
    """From the prior that sampling left to the one before it, the shift is the sampling correction; the same prior changes nothing."""
    sampled = to_sampled(np.array([before]), rate)[0]
    np.testing.assert_allclose(shift_prior(np.array([p]), before=sampled, after=before), from_sampled(np.array([p]), rate), rtol=1e-6)
    np.testing.assert_allclose(shift_prior(np.array([p]), before=before, after=before), [p], rtol=1e-9)


@pytest.mark.parametrize("rate", [0.0, 1.1])
def test_rates_and_shares_are_checked(rate: float) -> None:
    """A rate outside (0, 1] or a share of nothing is refused by name."""
    p = np.array([0.5])
    for correction in (to_sampled, from_sampled, under_sampled, from_under_sampled):
        with pytest.raises(ValueError, match="keep_rate: must be in"):
            correction(p, rate)
    with pytest.raises(ValueError, match="after: must be in"):
        shift_prior(p, before=0.5, after=rate)
