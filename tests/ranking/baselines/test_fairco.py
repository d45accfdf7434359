"""FairCo over a run of lists."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.baselines.fairco import FairCo
from ranking.baselines.queues import target_shares
from ranking.fairness.exposure import discounts
from ranking.fairness.floors import rank_by_score


def by_the_paper(lists: list[tuple[np.ndarray, np.ndarray]], shares: np.ndarray, k: int, gain: float) -> list[list[int]]:
    """Score + gain · error; the error is the lists so far times the largest gap in exposure per exposure claimed, and 0 on the first."""
    got, claimed, out = np.zeros(len(shares)), np.zeros(len(shares)), []
    for t, (scores, groups) in enumerate(lists):
        error = np.zeros(len(shares))
        if t:
            disparity = (got / t) / (claimed / t)
            error = t * (disparity.max() - disparity)
        order = sorted(range(len(scores)), key=lambda i: -(scores[i] + gain * error[groups[i]]))[:k]
        out.append(order)
        weights = discounts(k) / discounts(k).sum()
        for w, i in zip(weights, order, strict=True):
            got[groups[i]] += w
        claimed += shares
    return out


def run(seed: int, lists: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Lists on which the second and third of three groups score lower."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([0, 1, 2], 20)
    return [(rng.random(60) - 0.2 * groups, groups) for _ in range(lists)]


def test_is_score_plus_gain_times_error() -> None:
    """List for list the order is that of the paper's controller, its exposures and claims summed by hand."""
    lists, shares = run(0, 60), np.array([0.5, 0.3, 0.2])
    arm = FairCo(3, strength=0.02)
    got = [arm.rank(scores, groups, shares, 10).tolist() for scores, groups in lists]
    assert got == by_the_paper(lists, shares, 10, 0.02)
    assert got != [rank_by_score(scores, 10).tolist() for scores, _ in lists]


def test_exposure_tends_to_the_shares() -> None:
    """After 1,500 lists every group's exposure is within a hundredth of its share, which by score it is not."""
    lists, shares = run(1, 1500), np.array([0.4, 0.3, 0.3])
    arm = FairCo(3, strength=0.01)
    weights = discounts(10) / discounts(10).sum()
    fair, plain = np.zeros(3), np.zeros(3)
    for scores, groups in lists:
        fair += np.bincount(groups[arm.rank(scores, groups, shares, 10)], weights=weights, minlength=3) / len(lists)
        plain += np.bincount(groups[rank_by_score(scores, 10)], weights=weights, minlength=3) / len(lists)
    assert np.abs(fair - shares).max() < 0.01 < np.abs(plain - shares).max()


def test_a_floor_for_one_group_is_paid_by_the_others() -> None:
    """Shares below 1 are filled up as ranking by score would: a floor that is met anyway changes little, one that is not is paid."""
    lists = run(2, 400)
    arm, floor = FairCo(3, strength=0.01), np.array([0.0, 0.0, 0.25])
    assert target_shares(floor, np.array([7, 2, 1])) == pytest.approx([0.75 * 7 / 9, 0.75 * 2 / 9, 0.25])
    shown = np.mean([np.bincount(g[arm.rank(s, g, floor, 10)], weights=discounts(10), minlength=3) for s, g in lists], axis=0)
    assert shown[2] / discounts(10).sum() == pytest.approx(0.25, abs=0.02)


def test_a_run_keeps_its_groups() -> None:
    """Shares for another number of groups are refused by name."""
    with pytest.raises(ValueError, match=r"^shares: "):
        FairCo(3).rank(np.ones(2), np.array([0, 1]), np.array([0.5, 0.5]), 2)
