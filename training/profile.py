"""How much of everything a training run uses: three sizes of the same path."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True, slots=True)
class Profile:
    """Sizes of one run. Quality grows with them, and so does time; the path is the same.

    Attributes:
        ads_lists: (train, validation, test) household-weeks for ADS.
        search_lists: the same for SEARCH.
        negatives_rate: share of the training negatives kept; the known rate is corrected afterwards.
        strangers: share of the training lists that are asked by nobody known, so that the models know how to serve such.
        candidates: length of a validation, test and demo list after retrieval.
        bert_pairs: training pairs of the cross-encoder.
        bert_epochs: passes over the pairs.
        trials: Ray Tune trials per surface.
        trial_rounds: boosting rounds within a trial; the winner is trained with as many.
        bootstrap: resamples behind every interval.
    """

    name: str
    ads_lists: tuple[int, int, int]
    search_lists: tuple[int, int, int]
    negatives_rate: float
    candidates: int
    bert_pairs: int
    bert_epochs: int
    trials: int
    trial_rounds: int
    bootstrap: int = 1000
    strangers: float = 0.1
    seed: int = 7

    def key(self) -> dict[str, object]:
        """What a cached stage depends on."""
        return asdict(self)


DEMO = Profile(
    name="demo",
    ads_lists=(4000, 100, 100),
    search_lists=(4000, 120, 120),
    negatives_rate=0.03,
    candidates=80,
    bert_pairs=5000,
    bert_epochs=1,
    trials=5,
    trial_rounds=150,
)
TINY = replace(
    DEMO,
    name="tiny",
    ads_lists=(150, 40, 40),
    search_lists=(300, 40, 40),
    candidates=50,
    bert_pairs=256,
    trials=2,
    trial_rounds=20,
    bootstrap=200,
)
FULL = replace(
    DEMO,
    name="full",
    ads_lists=(10_000, 400, 400),
    search_lists=(20_000, 400, 400),
    bert_pairs=100_000,
    bert_epochs=2,
    trials=40,
    trial_rounds=400,
)
PROFILES = {p.name: p for p in (TINY, DEMO, FULL)}
