"""What the ensemble stage may choose among, by name: members, resamplers, losses, blends, calibrators. Knows no searcher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ranking.fuse import FUSIONS
from ranking.types import TIERS
from training.blends.calibrators import CALIBRATORS
from training.blends.ensemble import DEFAULT, member_names
from training.blends.weighing import BLENDS
from training.imbalance.resample import QUICK, RESAMPLERS
from training.members.registry import check_servable
from training.release.policies import check_floor
from training.search.space import Choice, Space, Uniform, combinations


@dataclass(frozen=True, slots=True)
class Choices:
    """What a search may choose among, by name. The defaults take seconds a trial.

    Attributes:
        members: ensembles, each the names of its members joined by "+".
        blends: of `training.blends.weighing.BLENDS`, or of `ranking.fuse.FUSIONS` for comparison.
        resamplers: of `training.imbalance.resample.RESAMPLERS`.
        calibrators: of `training.blends.calibrators.CALIBRATORS`.
        losses: of the member `neural`, of `training.imbalance.losses.LOSSES`.
        optimisers: of the member `neural`, of `training.imbalance.optimisers.OPTIMISERS`.
        floors: least shares of the first ten places for tail items, see `training.release.policies.tail_floor`; none: order by probability,
            and the release's own floor.
    """

    members: tuple[str, ...] = (str(DEFAULT["members"]),)
    blends: tuple[str, ...] = (str(DEFAULT["blend"]),)
    resamplers: tuple[str, ...] = QUICK
    calibrators: tuple[str, ...] = tuple(CALIBRATORS)
    losses: tuple[str, ...] = ("bce",)
    optimisers: tuple[str, ...] = ("adamw",)
    floors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for key, names in known().items():
            chosen = getattr(self, key)
            if not chosen:
                raise ValueError(f"{key}: need at least one")
            for name in chosen:
                if name not in names:
                    raise ValueError(f"{key}: {name!r} is not known; known: {', '.join(names)}")
        for ensemble in self.members:
            member_names({"members": ensemble})
        for floor in self.floors:
            check_floor(floor, "floors")

    def check_servable(self) -> None:
        """Refuse ensembles that no release can carry.

        Raises:
            ValueError: naming the first such member, and why.
        """
        for ensemble in self.members:
            try:
                check_servable(member_names({"members": ensemble}))
            except ValueError as error:
                raise ValueError(f"{error}; a search that is to compare and not to be released says so (compare)") from None

    def space(self, negatives_rate: float, rounds: int) -> Space:
        """The search space; negatives are only ever thinned further than the training rows already are."""
        return {
            "members": Choice(self.members),
            "blend": Choice(self.blends),
            "resampler": Choice(self.resamplers),
            "strength": Uniform(0.05, 0.5, log=True),
            "negatives_rate": Choice((negatives_rate / 3, negatives_rate)),
            "learning_rate": Uniform(0.03, 0.1, log=True),
            "leaves": Choice((15, 31, 63)),
            "rounds": rounds,
            "calibrator": Choice(self.calibrators),
            **self._numbers_of_blends(),
            **self._options(),
        }

    def grid(self, negatives_rate: float, rounds: int) -> Space:
        """Every combination of the names; numbers stay as in `DEFAULT`, the weights of `weighted` equal."""
        return {
            **DEFAULT,
            "members": Choice(self.members),
            "blend": Choice(self.blends),
            "resampler": Choice(self.resamplers),
            "calibrator": Choice(self.calibrators),
            "negatives_rate": negatives_rate,
            "rounds": rounds,
            **({f"weights/{name}": 1.0 for name in self._every_member()} if "weighted" in self.blends else {}),
            **self._options(),
        }

    def combinations(self) -> int:
        """Trials of the grid."""
        return combinations(self.grid(1.0, 1))

    def _every_member(self) -> list[str]:
        return sorted({name for ensemble in self.members for name in ensemble.split("+")})

    def _numbers_of_blends(self) -> dict[str, Any]:
        numbers: dict[str, Any] = {}
        if "per_tier" in self.blends:
            numbers |= {f"text_weight_{tier}": Uniform(0.0, most) for tier, most in zip(TIERS, (0.5, 0.7, 0.9), strict=True)}
        if "weighted" in self.blends:
            numbers |= {f"weights/{name}": Uniform(0.05, 1.0) for name in self._every_member()}
        return numbers

    def _options(self) -> dict[str, Any]:
        floor = {"floor": Choice(self.floors)} if self.floors else {}
        if "neural" not in self._every_member():
            return floor
        return {**floor, "options/neural/loss": Choice(self.losses), "options/neural/optimiser": Choice(self.optimisers)}


def known() -> dict[str, tuple[str, ...]]:
    """Kind -> names there are."""
    from training.imbalance.losses import LOSSES  # these bring torch, which a trial without a network does not need
    from training.imbalance.optimisers import OPTIMISERS

    return {
        "blends": (*BLENDS, *FUSIONS),
        "resamplers": RESAMPLERS,
        "calibrators": tuple(CALIBRATORS),
        "losses": tuple(LOSSES),
        "optimisers": OPTIMISERS,
    }
