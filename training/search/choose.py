"""Which of a search's trials is taken, and which lie on its front. Knows rows of trials, not how they came about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ranking.fuse import FUSIONS
from training.search.journal import Row
from training.search.samplers import Objectives

METRIC = "ndcg10"
ENSEMBLE = Objectives({METRIC: 1.0}, {METRIC: 1, "tail_share10": 1, "ne": -1})
"""What the ensemble stage trades off: order, exposure of the tail, and probabilities."""
ALIKE = 0.005  # of NDCG@10: a hundred lists do not tell more apart, but they do tell a calibrator that fits what it saw by heart
CALIBRATED = (0.7, 1.4)  # predicted over actual a winner must lie in, on the selection lists


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found.

    Attributes:
        name: experiment name.
        best: the winning configuration.
        best_trial: its trial.
        trials: one row per trial, best first: config, metrics or error.
        front: trials that none other is at least as good as in every metric of the front and better in one.
    """

    name: str
    best: dict[str, Any]
    best_trial: str
    trials: list[Row]
    front: list[str]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "best": self.best, "best_trial": self.best_trial, "trials": self.trials, "front": self.front}


def choose(name: str, rows: Sequence[Row], objectives: Objectives = ENSEMBLE) -> SearchResult:
    """The least normalised entropy of the calibrated trials that do about as well as their best; where none is calibrated, of all.

    A fusion has no probabilities and never wins.

    Raises:
        RuntimeError: no trial can win; the first error is named.
    """
    finished = [r for r in rows if math.isfinite(objectives.score(r["metrics"])) and r["config"].get("blend") not in FUSIONS]
    if not finished:
        first = next((r["error"] for r in rows if r["error"]), "none of them gives probabilities" if rows else "no trial")
        raise RuntimeError(f"{name}: all {len(rows)} trials failed, the first with: {first}")
    low, high = CALIBRATED
    calibrated = [r for r in finished if low <= r["metrics"].get("predicted_over_actual", math.nan) <= high]
    scores = {r["trial"]: objectives.score(r["metrics"]) for r in finished}
    most = max(scores[r["trial"]] for r in calibrated or finished)
    alike = [r for r in calibrated or finished if scores[r["trial"]] >= most - ALIKE]
    best = min(alike, key=lambda r: (r["metrics"].get("ne", math.inf), -scores[r["trial"]]))
    return SearchResult(name, best["config"], best["trial"], ranked(rows, objectives), front(rows, objectives))


def ranked(rows: Sequence[Row], objectives: Objectives = ENSEMBLE) -> list[Row]:
    """Best first by the weighted sum; what failed or has no such figure comes last."""

    def place(row: Row) -> float:
        score = objectives.score(row["metrics"])
        return -score if math.isfinite(score) else math.inf

    return sorted(rows, key=place)


def front(rows: Sequence[Row], objectives: Objectives = ENSEMBLE) -> list[str]:
    """Trials that no other dominates (Pareto), in order of their numbers; only those with all metrics of the front. O(n²)."""
    sides = {r["trial"]: objectives.sides(r["metrics"]) for r in rows}
    full = {trial: values for trial, values in sides.items() if all(map(math.isfinite, values))}

    def dominated(values: tuple[float, ...]) -> bool:
        return any(other != values and all(a >= b for a, b in zip(other, values, strict=True)) for other in full.values())

    return sorted(trial for trial, values in full.items() if not dominated(values))
