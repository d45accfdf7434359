"""The calibration gate."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import cli
from ranking.calibrate import sigmoid
from ranking.types import TIERS
from training import pipeline
from training.lists.arrays import EvalLists
from training.release.evaluate import evaluate
from training.release.gate import CalibrationRefused, Finding, Gate, Verdict, check, gated, refuse

SHARES = (0.6, 0.35, 0.05)  # of the candidates by tier; at the sizes below `new` has too few positives


def shop(seed: int, lists: int, length: int = 80) -> tuple[np.ndarray, EvalLists]:
    """Lists whose true probabilities are known, those of tail and new items lower."""
    rng, n = np.random.default_rng(seed), lists * length
    tiers = rng.choice(3, n, p=SHARES).astype(np.int8)
    logits = rng.normal(-4.5, 1.3, n) - 0.7 * (tiers > 0)
    labels = (rng.random(n) < sigmoid(logits)).astype(np.int8)
    offsets = np.arange(lists + 1) * length
    positives = np.add.reduceat(labels.astype(np.int64), offsets[:-1])
    return sigmoid(logits), EvalLists(np.zeros((n, 1), np.float32), labels, tiers, {}, offsets, positives)


def table(probabilities: np.ndarray, lists: EvalLists) -> dict[str, dict[str, dict[str, object]]]:
    return {"ads": dict(evaluate({"blend": probabilities}, lists, probabilities=frozenset({"blend"}), seed=0, n=300))}


def of(findings: list[Finding], tier: str, figure: str = "predicted_over_actual") -> Finding:
    (found,) = (f for f in findings if (f.tier, f.figure) == (tier, figure))
    return found


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_judged(value: float) -> None:
    """A figure or an interval that is not finite says nothing, and is never counted as passed."""
    known = {"positives": [100, None, None], "base_rate": [0.01, None, None], "ece": [0.001] * 3, "ne": [0.9] * 3}
    for figure in ([5.0, value, value], [value] * 3):
        found = check({"ads": {"blend": {"all": known | {"predicted_over_actual": figure}}}})
        assert [f.verdict for f in found if (f.tier, f.figure) == ("all", "predicted_over_actual")] == [Verdict.NOT_JUDGED]


def test_the_truth_passes_and_what_cannot_be_known_is_not_judged() -> None:
    """True probabilities of 400 lists: head and tail pass in every figure, new items with their few positives are not judged."""
    p, lists = shop(0, 400)
    findings = check(table(p, lists))
    assert [f.tier for f in findings] == ["all"] * 3 + [str(t) for t in TIERS for _ in range(2)]
    assert {f.tier for f in findings if f.verdict == Verdict.PASSED} == {"all", "head", "tail"}
    few = of(findings, "new")
    positives = int(lists.labels[lists.tiers == 2].sum())
    assert (few.verdict, positives < Gate().fewest_positives) == (Verdict.NOT_JUDGED, True)
    assert str(few) == f"ads, new: predicted_over_actual not judged: {positives} positives, fewer than 30"
    refuse(findings)


def test_an_inflated_model_is_refused_by_name() -> None:
    """Twice the true probabilities, as over-sampling without correction leaves them: surface, tier, figure and bound are named."""
    p, lists = shop(0, 400)
    with pytest.raises(CalibrationRefused) as refused:
        refuse(check(table(np.minimum(2 * p, 1), lists)))
    said = str(refused.value)
    assert "ads, all: predicted_over_actual" in said
    assert "refused: bound [0.9, 1.1]" in said
    assert "ads, head: predicted_over_actual" in said
    assert "--ungated" in said
    assert {f.figure for f in refused.value.findings} == {"predicted_over_actual", "ece"}


def test_a_model_that_promises_too_little_is_refused() -> None:
    """Half the true probabilities lose as many auctions as twice win."""
    p, lists = shop(0, 400)
    assert of(check(table(p / 2, lists)), "all").verdict == Verdict.REFUSED


def test_a_tier_that_is_off_is_refused_though_the_whole_is_right() -> None:
    """Tail items at three times their truth, the head lowered until the sum is right: only the tail stops the release."""
    p, lists = shop(1, 600)
    tail = lists.tiers == 1
    off = np.where(tail, np.minimum(3 * p, 1), p)
    off[~tail] *= (p.sum() - off[tail].sum()) / p[~tail].sum()
    findings = check(table(off, lists))
    assert of(findings, "all").verdict == Verdict.PASSED
    with pytest.raises(CalibrationRefused, match=r"ads, tail: predicted_over_actual .* bound \[0.8, 1.25\]"):
        refuse(findings)


def test_right_on_the_whole_and_wrong_everywhere_is_refused_for_its_error() -> None:
    """Probabilities dealt out at random among the rows have the right sum, and the calibration error and the entropy of noise."""
    p, lists = shop(2, 600)
    noise = np.random.default_rng(0).permutation(p)
    findings = check(table(noise, lists))
    assert of(findings, "all").verdict == Verdict.PASSED
    assert of(findings, "all", "ece").verdict == Verdict.REFUSED
    assert of(findings, "all", "ne").verdict == Verdict.REFUSED


def test_lists_as_few_as_the_demos_pass_unless_they_are_far_off() -> None:
    """50 lists of a calibrated model are never refused over 20 draws of them, 2.5 times their probabilities nearly always."""
    calibrated, inflated = 0, 0
    for seed in range(20):
        p, lists = shop(seed, 50)
        calibrated += any(f.verdict == Verdict.REFUSED for f in check(table(p, lists)))
        inflated += any(f.verdict == Verdict.REFUSED for f in check(table(np.minimum(2.5 * p, 1), lists)))
    assert calibrated == 0
    assert inflated >= 18


ROW = {
    "positives": [100, None, None],
    "base_rate": [0.02, None, None],
    "predicted_over_actual": [1.0, 0.9, 1.1],
    "ece": [0.001, 0.001, 0.002],
}


def row(**figures: list[float | None]) -> dict[str, object]:
    return {"ads": {"blend": {"all": {**ROW, "ne": [0.7, 0.6, 0.8], **figures}, **{str(t): ROW for t in TIERS}}}}


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ([1.364, 1.106, 1.888], Verdict.PASSED),  # the demo's search with 29 positives: beyond 1.1 alone, not among ten figures
        ([1.364, 1.2, 1.6], Verdict.REFUSED),  # 1.364 · (1.2 / 1.364)^1.4 = 1.14
        ([0.7, 0.5, 0.86], Verdict.PASSED),  # .7 · (.86 / .7)^1.4 = .93
        ([0.7, 0.6, 0.8], Verdict.REFUSED),  # .84
        ([0.0, 0.0, 0.0], Verdict.REFUSED),  # it never says yes
        ([1.5, None, None], Verdict.NOT_JUDGED),
        ([None, None, None], Verdict.NOT_JUDGED),
    ],
)
def test_only_an_interval_wholly_beyond_the_bound_is_refused(interval: list[float | None], verdict: Verdict) -> None:
    """The 95 % interval, widened by 1.4 on the log scale, must reach into [.9, 1.1]."""
    assert of(check(row(predicted_over_actual=interval)), "all").verdict == verdict


def test_an_error_is_bounded_by_the_base_rate() -> None:
    """Half of a base rate of .02 is .01: .02 is refused, .012 with a wide interval is not; an interval above its value reaches to it."""
    assert of(check(row(ece=[0.02, 0.019, 0.021])), "all", "ece").verdict == Verdict.REFUSED
    assert of(check(row(ece=[0.012, 0.008, 0.02])), "all", "ece").verdict == Verdict.PASSED
    assert of(check(row(ece=[0.0099, 0.011, 0.02])), "all", "ece").verdict == Verdict.PASSED


def test_a_model_that_knows_less_than_the_base_rate_is_refused() -> None:
    """A normalised entropy surely above 1."""
    assert of(check(row(ne=[1.2, 1.15, 1.3])), "all", "ne").verdict == Verdict.REFUSED
    assert of(check(row(ne=[1.2, 0.9, 1.3])), "all", "ne").verdict == Verdict.PASSED


def test_a_table_without_calibration_is_no_pass() -> None:
    """A surface whose blend has no figures cannot be let through by having none."""
    for rankers in ({}, {"trees": {"all": ROW}}, {"blend": {"all": {"ndcg10": [0.3, 0.2, 0.4]}}}):
        with pytest.raises(ValueError, match=r"^ads: the table has no calibration of 'blend'"):
            check({"ads": rankers})


def test_what_the_manifest_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    """All findings as strict JSON, printed where not passed; a refused release passes only ungated, and says so."""
    bad = row(predicted_over_actual=[2.0, 1.9, 2.1])
    with pytest.raises(CalibrationRefused):
        gated(bad, ungated=False)
    kept = gated(bad, ungated=True)
    assert json.loads(json.dumps(kept, allow_nan=False)) == kept
    assert kept["ungated"] is True
    assert kept["findings"][0]["verdict"] == "refused"
    assert len(kept["findings"]) == 3 + 2 * len(TIERS)
    said = capsys.readouterr().err
    assert "ads, all: predicted_over_actual 2" in said
    assert "8 of 9 figures passed, published ungated" in said
    assert gated(row(), ungated=False)["ungated"] is False


@pytest.mark.parametrize(
    ("key", "value"),
    [("overall", (1.1, 1.2)), ("per_tier", (0.0, 2.0)), ("ece", 0.0), ("ne", -1.0), ("fewest_positives", 0), ("widen", 0.5)],
)
def test_bounds_are_checked(key: str, value: object) -> None:
    """A gate that could refuse nothing, or everything, is refused itself, by name."""
    with pytest.raises(ValueError, match=f"^{key}: "):
        replace(Gate(), **{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [[], ["--ungated"]])
def test_the_command_line_says_whether_the_gate_may_refuse(monkeypatch: pytest.MonkeyPatch, option: list[str]) -> None:
    """`longtail train` is gated unless it is told otherwise."""
    asked = []

    def run(layout: object, profile: object, *, ungated: bool, searches: object) -> SimpleNamespace:
        asked.append(ungated)
        return SimpleNamespace(release=SimpleNamespace(id="r0001"), reused=False)

    monkeypatch.setattr(pipeline, "run", run)
    assert CliRunner().invoke(cli.app, ["train", *option]).exit_code == 0
    assert asked == [bool(option)]
