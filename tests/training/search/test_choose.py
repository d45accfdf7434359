from __future__ import annotations

import pytest

from training.search.choose import choose, front
from training.search.samplers import Objectives


def _row(trial: str, ndcg: float, ratio: float, ne: float | None = None) -> dict[str, object]:
    metrics = {"ndcg10": ndcg, "predicted_over_actual": ratio} | ({} if ne is None else {"ne": ne})
    return {"trial": trial, "config": {"c": trial}, "metrics": metrics, "error": ""}


def test_the_best_calibrated_trial_wins() -> None:
    """A better NDCG does not excuse probabilities that are off by half."""
    result = choose("x", [_row("a", 0.5, 1.6), _row("b", 0.4, 1.1), _row("c", 0.3, 1.0)])
    assert result.best_trial == "b"


def test_of_trials_that_order_alike_the_one_with_the_better_probabilities_wins() -> None:
    """Within five thousandths of NDCG@10 normalised entropy decides, beyond them it does not; one that has none comes last."""
    alike = [_row("a", 0.2740, 1.1, 0.90), _row("b", 0.2729, 1.2, 0.78), _row("c", 0.2689, 1.0, 0.50), _row("d", 0.2735, 1.0)]
    assert choose("x", alike).best_trial == "b"
    assert choose("x", [alike[0], alike[3]]).best_trial == "a"
    assert choose("x", [_row("a", 0.4, 1.0, 0.7), _row("b", 0.4, 1.0, 0.7), _row("c", 0.401, 1.0, 0.7)]).best_trial == "c"


def test_without_a_calibrated_trial_the_best_wins() -> None:
    """Where the gate leaves nothing, there is still a winner."""
    assert choose("x", [_row("a", 0.5, 1.6), _row("b", 0.4, 9.0)]).best_trial == "a"


def test_failed_trials_are_kept_and_never_win() -> None:
    """A failing trial is recorded and the rest go on; only if all fail the search fails."""
    failed = {"trial": "f", "config": {}, "metrics": {}, "error": "out of memory"}
    assert choose("x", [failed, _row("a", 0.1, 1.0)]).trials[-1]["error"] == "out of memory"
    with pytest.raises(RuntimeError, match="all 1 trials failed, the first with: out of memory"):
        choose("x", [failed])


def test_a_fusion_never_wins() -> None:
    """A fusion orders best here and has no probabilities, so the next best is what can be served."""
    fused = {"trial": "f", "config": {"blend": "rrf"}, "metrics": {"ndcg10": 0.9}, "error": ""}
    result = choose("x", [fused, _row("a", 0.5, 1.0)])
    assert (result.best_trial, result.trials[0]["trial"]) == ("a", "f")
    with pytest.raises(RuntimeError, match="none of them gives probabilities"):
        choose("x", [fused])


def test_the_front_holds_what_nothing_else_beats() -> None:
    """b beats d in all three; a orders best, b shows the tail most, c has the best probabilities; e has none and lies on no front."""
    figures = {"a": (0.5, 0.1, 0.9), "b": (0.4, 0.3, 0.8), "c": (0.3, 0.1, 0.7), "d": (0.4, 0.2, 0.8), "e": (0.9, 0.9, None)}
    rows = [_row(trial, order, 1.0, ne) for trial, (order, _, ne) in figures.items()]
    for row, (_, tail, _) in zip(rows, figures.values(), strict=True):
        row["metrics"]["tail_share10"] = tail  # type: ignore[index]
    assert front(rows) == ["a", "b", "c"]


def test_weights_say_what_is_better() -> None:
    """With the tail worth half a point of NDCG the trial that shows it wins: 0.4 + 0.5 · 0.5 > 0.5 + 0.5 · 0.1."""
    rows = [_row("a", 0.5, 1.0), _row("b", 0.4, 1.0)]
    for row, tail in zip(rows, (0.1, 0.5), strict=True):
        row["metrics"]["tail_share10"] = tail  # type: ignore[index]
    assert choose("x", rows).best_trial == "a"
    assert choose("x", rows, Objectives({"ndcg10": 1.0, "tail_share10": 0.5}, {"ndcg10": 1})).best_trial == "b"
    with pytest.raises(ValueError, match="objective_weights: need finite numbers that are not all 0"):
        Objectives({"ndcg10": 0.0}, {})
