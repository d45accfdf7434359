"""One row of the big table: a method on a data set, with what it gained or lost. Knows no method and no page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, TypeVar

from training.release.evaluate import Row

Kind = Literal["rule", "member", "blend", "resampler", "generator", "loss", "optimiser", "calibrator", "ablation", "final"]
GAIN = "_gain"
Method = TypeVar("Method")


@dataclass(frozen=True, slots=True)
class Named(Generic[Method]):
    """A method with its place in the table: `baseline` is the method of its kind that it is held against, empty for that one."""

    kind: Kind
    name: str
    baseline: str
    method: Method
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one method did on one data set.

    Attributes:
        data: `ads`, `imbalanced_shop`, `online_shoppers`, `clothing_reviews` …
        kind: what is varied; everything else is that data set's plain model. `final`: what is chosen, on more lists than each method.
        method: its name, as the search knows it.
        figures: ``all`` or a group (tier, class) -> metric -> [value, low, high]; None where undefined. Metrics named ``*_gain`` are
            paired differences to the baseline, signed so that above 0 is better.
        seconds: training time.
        baseline: the plain method that the gains are against; empty for itself.
        curves: name -> points, for plots: ``pr`` [recall, precision], ``calibration`` [predicted, actual], ``learning`` [step, value],
            ``classes`` [class, rows before, rows after]. A group's own curve is named ``pr/tail``.
        note: what a reader must know to read the row.
    """

    data: str
    kind: Kind
    method: str
    figures: Mapping[str, Row]
    seconds: float
    baseline: str = ""
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        return cls(**data)

    def figure(self, metric: str, group: str = "all") -> tuple[float | None, float | None, float | None]:
        """Value, low and high of a metric, or of a bare value written without ends; None where there is nothing."""
        found = [*self.figures.get(group, {}).get(metric, ()), None, None, None]
        return found[0], found[1], found[2]


def find(outcomes: Iterable[Outcome], *, data: str, kind: str, method: str) -> Outcome:
    """The one outcome of that name.

    Raises:
        KeyError: there is none.
    """
    for outcome in outcomes:
        if (outcome.data, outcome.kind, outcome.method) == (data, kind, method):
            return outcome
    raise KeyError(f"{data}, {kind}, {method}: not measured")
