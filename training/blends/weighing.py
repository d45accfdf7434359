"""How much each member counts, by name: every method gives weights per popularity tier that `ranking.blend` can serve.

Methods see calibrated log-odds of the calibration lists and never train a member; stacking asks for out-of-fold ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.calibrate import Calibrator
from ranking.types import TIERS
from training.blends import selection, stack
from training.members.registry import reads_text

Weights = Mapping[str, tuple[float, ...]]  # tier -> one weight per member, ≥ 0, not all 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What weights are chosen from.

    Attributes:
        names: the members.
        log_odds: (m, n) calibrated log-odds of the calibration lists' rows, NaN where a member could not score.
        labels: (n,) theirs.
        out_of_fold: makes (m, n) log-odds by members and calibrators that have not seen the row's household.
    """

    names: tuple[str, ...]
    log_odds: NDArray[np.float64]
    labels: NDArray[np.int8]
    out_of_fold: Callable[[], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Weighed:
    """A choice of weights.

    Attributes:
        weights: per tier.
        final: recalibrates the pool, where the method learnt that too; None: to be fitted.
    """

    weights: Weights
    final: Calibrator | None = None


def equal(evidence: Evidence, config: Mapping[str, Any]) -> Weighed:
    """Every member counts the same."""
    return Weighed(_everywhere((1.0,) * len(evidence.names)))


def weighted(evidence: Evidence, config: Mapping[str, Any]) -> Weighed:
    """``weights``: member -> weight ≥ 0, given or searched; a member that is not named counts 0."""
    return Weighed(_everywhere(_of(evidence.names, config.get("weights", {}), "weights")))


def per_tier(evidence: Evidence, config: Mapping[str, Any]) -> Weighed:
    """Head, tail and new items have weights of their own.

    ``tier_weights``: tier -> member -> weight; or ``text_weight_head|tail|new``: what the members that read texts count together, shared
    equally among them, as the rest is among the others. Where only one kind is there it counts whole.
    """
    names = evidence.names
    if "tier_weights" in config:
        given = config["tier_weights"]
        return Weighed({t: _of(names, given.get(t, {}), f"tier_weights.{t}") for t in TIERS})
    texts = sum(reads_text(n) for n in names)
    if texts in (0, len(names)):
        return equal(evidence, config)
    weights = {}
    for tier in TIERS:
        text = float(config[f"text_weight_{tier}"])
        if not 0.0 <= text <= 1.0:
            raise ValueError(f"text_weight_{tier}: must be in [0, 1], got {text}")
        weights[tier] = tuple(text / texts if reads_text(n) else (1.0 - text) / (len(names) - texts) for n in names)
    return Weighed(weights)


def stacking(evidence: Evidence, config: Mapping[str, Any]) -> Weighed:
    """A logistic regression over the members' out-of-fold log-odds, weights ≥ 0; its own sharpness and intercept recalibrate the pool."""
    made = stack.fit(evidence.out_of_fold(), evidence.labels)
    return Weighed(_everywhere(made.weights), Calibrator("platt", a=made.slope, b=made.intercept))


def caruana(evidence: Evidence, config: Mapping[str, Any]) -> Weighed:
    """Forward selection with replacement by log loss on the calibration lists; a member counts as often as it was chosen."""
    chosen = selection.forward(evidence.log_odds, evidence.labels, steps=int(config.get("caruana_steps", selection.STEPS)))
    return Weighed(_everywhere(chosen))


BLENDS: Mapping[str, Callable[[Evidence, Mapping[str, Any]], Weighed]] = {
    "equal": equal,
    "weighted": weighted,
    "per_tier": per_tier,
    "stacking": stacking,
    "caruana": caruana,
}
"""By name, for the search; each comes out as a blend the gateway serves."""


def _everywhere(weights: tuple[float, ...]) -> Weights:
    return dict.fromkeys(TIERS, weights)


def _of(names: tuple[str, ...], given: Mapping[str, Any], key: str) -> tuple[float, ...]:
    weights = tuple(float(given.get(name, 0.0)) for name in names)
    if not all(np.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
        raise ValueError(f"{key}: need weights ≥ 0, not all 0, for {', '.join(names)}; got {dict(given)}")
    return weights
