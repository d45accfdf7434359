from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.training.toolbox.made_up import outcome
from training.toolbox.outcome import Outcome, find
from training.toolbox.outcome_verdicts import SLACK, Verdict, judge, recommended, verdict


def test_a_verdict_needs_the_whole_interval() -> None:
    """An interval above 0 helps, one below loses, one that holds 0 shows nothing, and the plain method is what others are held against."""
    assert verdict(outcome("a", (0.02, 0.001, 0.04)), "ndcg10") is Verdict.HELPS
    assert verdict(outcome("a", (-0.02, -0.04, -0.001)), "ndcg10") is Verdict.LOSES
    assert verdict(outcome("a", (0.02, 0.0, 0.04)), "ndcg10") is Verdict.OPEN
    assert verdict(outcome("plain"), "ndcg10") is Verdict.PLAIN


def test_the_quickest_of_the_best_is_recommended() -> None:
    """Of two that help and differ by less than the slack, the one that trains faster is taken; a larger difference decides by itself."""
    best, quick = outcome("best", (0.02, 0.01, 0.03), seconds=100), outcome("quick", (0.018, 0.01, 0.03))
    far = outcome("far", (0.02 - 2 * SLACK, 0.001, 0.03), seconds=0.1)
    assert recommended([outcome("plain"), best, quick, far], "ads") == [quick]


def test_where_nothing_helps_the_plain_method_stays() -> None:
    """A large gain whose interval holds 0 is not taken over the plain method."""
    plain, lucky = outcome("plain"), outcome("lucky", (0.1, -0.01, 0.2))
    assert recommended([plain, lucky], "ads") == [plain]


def test_a_calibrator_is_chosen_by_entropy_among_those_that_keep_the_sum() -> None:
    """The least entropy loses to one whose predictions add up, and wins where none's do."""
    sharp, honest = outcome("sharp", kind="calibrator", ne=0.6, ratio=1.2), outcome("honest", kind="calibrator", ne=0.65, ratio=0.97)
    assert recommended([sharp, honest], "ads") == [honest]
    assert recommended([sharp], "ads") == [sharp]


def test_the_tail_is_not_paid_for_by_everybody() -> None:
    """On the generated shop a gain for the tail that costs more than .01 of NDCG is not recommended; one that costs less is."""
    tail = {"tail_recall10_gain": [0.2, 0.1, 0.3]}
    plain = outcome("plain", data="imbalanced_shop")
    dear = replace(plain, method="dear", baseline="plain", figures={"all": tail | {"ndcg10_gain": [-0.02, -0.03, -0.01]}})
    fair = replace(dear, method="fair", figures={"all": {"tail_recall10_gain": [0.1, 0.05, 0.2], "ndcg10_gain": [-0.009, -0.02, 0.0]}})
    assert recommended([plain, dear, fair], "imbalanced_shop") == [fair]
    assert recommended([plain, dear], "imbalanced_shop") == [plain]


def test_rules_and_ablations_are_no_choices() -> None:
    """Yardsticks are measured and never recommended."""
    rows = [outcome("plain"), outcome("rule", (0.2, 0.1, 0.3), kind="rule"), outcome("without", (0.2, 0.1, 0.3), kind="ablation")]
    assert [o.method for o in recommended(rows, "ads")] == ["plain"]


def test_unknown_data_are_judged_by_the_first_gain_they_state() -> None:
    """A data set the table does not name still has a metric that decides, or none where no gain is stated."""
    assert judge([outcome("a", (0.1, 0.0, 0.2), data="mine")], "mine") == "ndcg10"
    assert judge([outcome("a", data="mine")], "mine") == ""


def test_an_outcome_survives_json() -> None:
    """What is written to the state directory is read back equal."""
    one = outcome("a", (0.1, 0.0, 0.2))
    assert Outcome.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False))) == one


def test_what_was_not_measured_is_named() -> None:
    """Looking for a method nobody measured names data set, kind and method."""
    assert find([outcome("a")], data="ads", kind="member", method="a").method == "a"
    with pytest.raises(KeyError, match="ads, member, b: not measured"):
        find([outcome("a")], data="ads", kind="member", method="b")
