"""The winner of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ranking.calibrate import sigmoid
from ranking.fairness.policy import FairnessPolicy
from ranking.features import MODEL_COLUMNS
from training.lists.arrays import EnsembleData, EvalLists, TrainRows
from training.members.registry import UNSERVED
from training.release.policies import shipped
from training.select import _POPULARITY, BASELINES, NoWinner, Terms, baselines, owed, winner

POLICY = next(p for p in shipped({}) if p.name == "tail-floor")
TERMS = Terms(POLICY, draws=100)


def _lists(count: int = 60, length: int = 40) -> tuple[EvalLists, np.ndarray]:
    """Lists and the true log-odds of their rows; popularity knows a little of them."""
    rng, n = np.random.default_rng(0), count * length
    truth = rng.normal(-2.0, 1.5, n)
    labels = (rng.random(n) < sigmoid(truth)).astype(np.int8)
    features = np.zeros((n, len(MODEL_COLUMNS)), np.float32)
    features[:, _POPULARITY] = truth + rng.normal(0, 3, n)
    offsets = np.arange(count + 1) * length
    tiers = rng.choice(3, n, p=(0.7, 0.2, 0.1)).astype(np.int8)
    return EvalLists(features, labels, tiers, {}, offsets, np.add.reduceat(labels.astype(np.int64), offsets[:-1])), truth


LISTS, TRUTH = _lists()
DATA = EnsembleData(TrainRows(LISTS.features, LISTS.labels, 1.0, np.zeros(len(LISTS.labels), np.int64)), LISTS, LISTS)


class Made:
    """A trained ensemble whose log-odds are the truth's, bent by its configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config

    def counting(self) -> tuple[str, ...]:
        return tuple(self.config.get("members", ("boosting",)))

    def blend(self, lists: EvalLists) -> SimpleNamespace:
        rng = np.random.default_rng(1)
        logits = self.config.get("sign", 1.0) * TRUTH[: len(lists.labels)] + self.config.get("shift", 0.0) + self.config.get("head", 0.0)
        p = sigmoid(logits + rng.normal(0, self.config.get("noise", 0.01), len(logits)))
        return SimpleNamespace(probabilities=p, member_probabilities=p[None])


def _row(trial: str, ndcg: float, **config: Any) -> dict[str, Any]:
    return {"trial": trial, "config": config, "metrics": {"ndcg10": ndcg, "predicted_over_actual": 1.0, "ne": 0.5}, "error": ""}


def _winner(*rows: dict[str, Any], terms: Terms = TERMS, ms: float = 1.0, ungated: bool = False) -> Any:
    train = lambda config, data, seed: Made(config)  # noqa: E731
    return winner("ads", rows, DATA, 0, terms, train=train, latency=lambda fitted, lists: ms, ungated=ungated)  # type: ignore[arg-type,return-value]


def test_the_best_that_keeps_all_terms_wins() -> None:
    """The first has the best NDCG and promises twice what is bought (log-odds up by 2): the gate refuses it, and the next one wins."""
    found = _winner(_row("a", 0.9, shift=2.0), _row("b", 0.8), _row("c", 0.7))
    assert (found.judged[-1].trial, [one.trial for one in found.judged]) == ("b", ["a", "b"])
    assert any("calibration gate: validation, all: predicted_over_actual" in said for said in found.judged[0].broken)
    assert found.to_json()["trial"] == "b"


def test_the_baselines_stand_in_every_table() -> None:
    """noop, popularity and shuffle are measured on the winner's lists, with the winner's difference to each and its interval."""
    found = _winner(_row("a", 0.9))
    assert {*BASELINES, "blend"} == set(found.table)
    for name in BASELINES:
        value, low, high = found.judged[0].versus[name]
        assert 0.0 < low < value < high


@pytest.mark.parametrize("baseline", BASELINES)
def test_who_does_not_beat_a_baseline_is_not_released(baseline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one baseline as good as the truth, nothing beats it, and the error says which and by how much."""
    from training import select

    real = baselines(LISTS, 0)
    monkeypatch.setattr(select, "baselines", lambda lists, seed: {**real, baseline: TRUTH})
    with pytest.raises(NoWinner, match=rf"ads: no winner, nothing was published: trial a .*beat the baseline {baseline}: NDCG@10 -0"):
        _winner(_row("a", 0.9, noise=2.0, shift=-1.0))


def test_too_few_lists_judge_no_baseline() -> None:
    """With fewer lists than it takes to tell rankers apart, the differences are reported and refuse nobody."""
    bad = _row("a", 0.9, sign=-1.0)
    with pytest.raises(NoWinner, match="does not beat the baseline shuffle"):
        _winner(bad)
    broken = _winner(bad, terms=replace(TERMS, fewest_lists=1000), ungated=True).judged[0].broken
    assert not any("baseline" in said for said in broken)


def test_latency_and_exposure_are_terms() -> None:
    """A millisecond above the budget, or a policy whose order gives the tail less than the active one owes, is named."""
    with pytest.raises(NoWinner, match=r"latency 101\.0 ms above the budget of 100 ms"):
        _winner(_row("a", 0.9), ms=101.0)
    assert _winner(_row("a", 0.9), ms=100.0).judged[-1].broken == ()
    # the floors of tail-floor are 0.2 and 0.1 of ten places: three places, wherever a list has so many
    assert owed(POLICY, LISTS) == pytest.approx(0.3, abs=0.02)
    assert owed(FairnessPolicy("none", "1", mode="off"), LISTS) == 0.0
    assert _winner(_row("a", 0.9)).judged[-1].tail_share10 >= owed(POLICY, LISTS)


def test_an_ensemble_that_cannot_be_served_is_no_winner() -> None:
    """BM25 is no function of one pair of texts: where it counts, the next trial is taken, and the reason stands in the manifest."""
    found = _winner(_row("a", 0.9, members=("boosting", "bm25")), _row("b", 0.8))
    assert found.judged[-1].trial == "b"
    assert found.judged[0].broken == (f"members: bm25 cannot be served: {UNSERVED['bm25']}",)


def test_a_floor_that_was_searched_is_what_is_served() -> None:
    """Whoever chose too small a floor gives the tail less than the active policy owes, and says so; a larger one gives more."""
    served = {floor: _winner(_row("a", 0.9, floor=floor), ungated=True).judged[-1] for floor in (0.0, 0.6)}
    assert served[0.6].tail_share10 > served[0.6].owed
    assert served[0.6].tail_share10 > served[0.0].tail_share10
    tiered = np.where(LISTS.tiers == 0, 8.0, 0.0)
    assert any("tail exposure" in said for said in _winner(_row("a", 0.9, floor=0.0, head=tiered), ungated=True).judged[-1].broken)


def test_ungated_takes_the_first_and_says_what_it_breaks() -> None:
    """The best trial is taken whatever it breaks."""
    found = _winner(_row("a", 0.9, shift=2.0), _row("b", 0.8), ungated=True)
    assert found.judged[-1].trial == "a"
    assert found.judged[-1].broken


def test_at_most_so_many_are_tried() -> None:
    """After `most` trials the search counts as without a winner, and the message has each."""
    rows = [_row(name, 0.9 - 0.1 * i, shift=2.0) for i, name in enumerate("abc")]
    with pytest.raises(NoWinner) as refused:
        _winner(*rows, terms=replace(TERMS, most=2))
    assert [one.trial for one in refused.value.judged] == ["a", "b"]
