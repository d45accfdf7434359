"""The calibration gate: what the validation table says of a release's probabilities, held against stated bounds before it is published.

A figure is refused only where its interval lies wholly beyond the bound: the gate stops what is wrong, not what is merely not known
well. What cannot be known, for want of positives, is said to be not judged and never counted as passed. The test table is not read here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ranking.errors import LongtailError
from ranking.types import TIERS
from training.progress import console

RANKER = "blend"  # what a release serves


@dataclass(frozen=True, slots=True)
class Gate:
    """Bounds of a release.

    Attributes:
        overall: predicted over actual of all candidates: at most a tenth too many or too few, as for an auction that multiplies by it.
        per_tier: the same within a tier, whose mix of items drifts more from month to month.
        ece: largest calibration error, as a share of the base rate: at half of it the typical probability is off by half.
        ne: largest normalised entropy: at 1 the model knows no more than the base rate.
        fewest_positives: below, a figure is not judged: 30 chance events alone scatter by a third around their mean.
        widen: factor on the logarithm of the table's 95 % intervals. About ten figures are judged together, and 1.4 makes each a 99.4 %
            interval: all ten of a calibrated release stand with 95 %.
    """

    overall: tuple[float, float] = (0.9, 1.1)
    per_tier: tuple[float, float] = (0.8, 1.25)
    ece: float = 0.5
    ne: float = 1.0
    fewest_positives: int = 30
    widen: float = 1.4

    def __post_init__(self) -> None:
        for name, (low, high) in (("overall", self.overall), ("per_tier", self.per_tier)):
            if not 0.0 < low <= 1.0 <= high:
                raise ValueError(f"{name}: must be an interval around 1, got [{low:g}, {high:g}]")
        for name in ("ece", "ne", "fewest_positives"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be above 0, got {getattr(self, name)}")
        if not self.widen >= 1.0:
            raise ValueError(f"widen: must be at least 1, got {self.widen}")


class Verdict(StrEnum):
    PASSED = "passed"
    REFUSED = "refused"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure and what the gate says of it."""

    surface: str
    tier: str  # `all` or a popularity tier
    figure: str  # as in the table of `evaluate`
    verdict: Verdict
    value: float | None  # None where there is no figure
    low: float | None  # ends of the widened interval; None where it was not judged
    high: float | None
    bound: tuple[float, float]  # the interval must reach into it
    why: str = ""  # it was not judged

    def __str__(self) -> str:
        what = f"{self.surface}, {self.tier}: {self.figure}"
        bound = f"[{self.bound[0]:.4g}, {self.bound[1]:.4g}]"
        if self.verdict == Verdict.NOT_JUDGED:
            return f"{what} not judged: {self.why}"
        return f"{what} {self.value:.4g} [{self.low:.4g}, {self.high:.4g}] {self.verdict}: bound {bound}"

    def to_json(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self) | {"verdict": str(self.verdict), "bound": list(self.bound)}


class CalibrationRefused(LongtailError):  # noqa: N818 (reads as what happened, like the errors of `ranking.errors`)
    """A release's probabilities do not mean what they say.

    Attributes:
        findings: the refused ones.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        listed = "; ".join(map(str, findings))
        super().__init__(f"calibration gate: {listed}; nothing was published (`longtail train --ungated` publishes all the same)")
        self.findings = tuple(findings)


def check(table: Mapping[str, Mapping[str, Any]], gate: Gate | None = None) -> list[Finding]:
    """Hold the validation table against the gate.

    Args:
        table: surface -> ranker -> ``all`` or tier -> metric -> [value, low, high], as `evaluate` makes it per surface.
        gate: bounds; default those of `Gate`.

    Returns:
        For each surface predicted over actual, ECE and NE overall, then the first two per tier.

    Raises:
        ValueError: a surface without the blend or without its overall figures: nothing could be said of it.
    """
    gate = gate or Gate()
    return [finding for surface, rankers in table.items() for finding in _of_surface(str(surface), rankers, gate)]


def refuse(findings: Iterable[Finding]) -> None:
    """Stop a release that has a refused finding.

    Raises:
        CalibrationRefused: naming surface, tier, figure and bound of each.
    """
    refused = [f for f in findings if f.verdict == Verdict.REFUSED]
    if refused:
        raise CalibrationRefused(refused)


def gated(table: Mapping[str, Mapping[str, Any]], *, ungated: bool, gate: Gate | None = None) -> dict[str, Any]:
    """Check, say what did not pass, and refuse.

    Args:
        table: as in `check`.
        ungated: say it and let the release through all the same.
        gate: bounds.

    Returns:
        What the manifest keeps of it: `ungated` and all `findings`.

    Raises:
        CalibrationRefused: a figure is refused, unless `ungated`.
    """
    findings = check(table, gate)
    for finding in findings:
        if finding.verdict != Verdict.PASSED:
            console.print(f"calibration gate: {finding}", markup=False)
    if not ungated:
        refuse(findings)
    passed = sum(f.verdict == Verdict.PASSED for f in findings)
    console.print(f"calibration gate: {passed} of {len(findings)} figures passed{', published ungated' if ungated else ''}")
    return {"ungated": ungated, "findings": [f.to_json() for f in findings]}


def _of_surface(surface: str, rankers: Mapping[str, Any], gate: Gate) -> Iterator[Finding]:
    tiers = rankers.get(RANKER, {})
    if "positives" not in tiers.get("all", {}):
        raise ValueError(f"{surface}: the table has no calibration of {RANKER!r} to judge a release by")
    for tier in ("all", *TIERS):
        row = tiers.get(tier, {})
        rate = (row.get("base_rate") or [0.0])[0]
        bounds = {
            "predicted_over_actual": gate.overall if tier == "all" else gate.per_tier,
            "ece": (0.0, gate.ece * rate),
            **({"ne": (0.0, gate.ne)} if tier == "all" else {}),
        }
        for figure, bound in bounds.items():
            yield _judged(surface, str(tier), figure, row, bound, gate)


def _judged(surface: str, tier: str, figure: str, row: Mapping[str, Any], bound: tuple[float, float], gate: Gate) -> Finding:
    value, low, high = row.get(figure) or (None, None, None)
    positives = int((row.get("positives") or [0])[0])
    if positives < gate.fewest_positives:
        why = f"{positives} positives, fewer than {gate.fewest_positives}"
        return Finding(surface, tier, figure, Verdict.NOT_JUDGED, value, None, None, bound, why)
    if value is None or low is None or high is None or not all(map(math.isfinite, (value, low, high))):
        return Finding(surface, tier, figure, Verdict.NOT_JUDGED, value, None, None, bound, "the table has no finite interval of it")
    low, high = _widened(value, low, gate.widen), _widened(value, high, gate.widen)
    # An interval of draws may miss its own value where the metric is biased on draws, as ECE is: the value belongs to it.
    low, high = min(low, value), max(high, value)
    verdict = Verdict.REFUSED if low > bound[1] or high < bound[0] else Verdict.PASSED
    return Finding(surface, tier, figure, verdict, value, round(low, 5), round(high, 5), bound)


def _widened(value: float, end: float, factor: float) -> float:
    """`end` moved away from `value` by the factor on the log scale: ratios and errors are never negative."""
    return float(value * (end / value) ** factor) if value > 0.0 else end
