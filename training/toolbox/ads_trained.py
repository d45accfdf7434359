"""What the ads benchmark trained and what it said of each part: members by name, their scores kept, and calibrators from thinned rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.calibrate import Calibrator, undo_negative_sampling
from ranking.features import MODEL_COLUMNS
from ranking.types import TIERS, FloatArray
from training.blends.calibrators import CALIBRATORS
from training.members import registry
from training.members.boosted import Boosted
from training.members.contract import INPUT, OUTPUT, Rows, Scorer
from training.toolbox.ads_data import Part
from training.toolbox.ads_figures import Yardstick
from training.toolbox.ads_methods import Recipe
from training.toolbox.outcome import Outcome

SEED = 7
_EVERY = 25  # trees between two points of a learning curve


@dataclass(frozen=True)
class Trained:
    """A scorer and how it came about."""

    scorer: Scorer
    columns: NDArray[np.int64]  # of the schema, as the scorer reads them
    offset: float  # added to its scores: undoes the sampling of training rows where they are log-odds
    seconds: float
    threads: int = 1

    def logits(self, part: Part) -> NDArray[np.float32]:
        """(N,) scores of a part, a few lists at a time; float32 so that every member's scores can be kept.

        Boosted trees are run as they are served, by ONNX Runtime, which takes half of LightGBM's time.
        """
        out = np.empty(len(part.labels), np.float32)
        score = self._served if isinstance(self.scorer, Boosted) else self._plain
        for rows in part.chunks():
            out[rows] = score(self.read(part, rows))
        return out

    def _plain(self, x: NDArray[np.float32]) -> NDArray[Any]:
        return self.scorer.logits(x) + self.offset

    def _served(self, x: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(self._session.run([OUTPUT], {INPUT: x})[0])[:, 0]

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        assert isinstance(self.scorer, Boosted)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        model = self.scorer.to_onnx(offset=self.offset, columns=len(self.columns))
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def read(self, part: Part, rows: slice) -> NDArray[np.float32]:
        """The rows as the scorer wants them."""
        x = np.asarray(part.x[rows])
        return x if len(self.columns) == len(MODEL_COLUMNS) else np.ascontiguousarray(x[:, self.columns])

    def learning(self, part: Part) -> list[list[float]]:
        """[trees, NDCG@10 on a part] every 25 trees; nothing for what is no single booster."""
        if not isinstance(self.scorer, Boosted):
            return []
        booster, lists = self.scorer.booster, part.eval_lists()
        scores, out = np.zeros(len(part.labels)), []
        for start in range(0, booster.num_trees(), _EVERY):
            count = min(_EVERY, booster.num_trees() - start)
            for rows in part.chunks():
                x = self.read(part, rows)
                scores[rows] += booster.predict(
                    x, raw_score=True, start_iteration=start, num_iteration=count, num_threads=self.scorer.threads
                )
            ndcg = metrics.ndcg_of_lists(scores, np.asarray(part.labels, float), lists.offsets, k=10, ideal=lists.ideal_positives)
            out.append([float(start + count), round(float(np.nanmean(ndcg)), 5)])
        return out


@dataclass(frozen=True, slots=True)
class TierCalibrator:
    """One calibrator per popularity tier."""

    tiers: tuple[Calibrator, ...]

    def __call__(self, logits: FloatArray, codes: NDArray[np.int8]) -> FloatArray:
        """(n,) probabilities of log-odds, by each row's tier."""
        out = np.empty(len(logits))
        for code, calibrator in enumerate(self.tiers):
            rows = codes == code
            out[rows] = calibrator(logits[rows])
        return out


@dataclass
class Tests:
    """The parts, the yardsticks, and what was trained and measured so far."""

    parts: Mapping[str, Part]
    threads: int
    yardsticks: Mapping[str, Yardstick]  # by part
    outcomes: list[Outcome] = field(default_factory=list)
    trained: dict[str, Trained] = field(default_factory=dict)
    _logits: dict[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)

    def train(self, name: str, recipe: Recipe) -> Trained:
        """Train a member by its recipe; from now on it is known by `name`."""
        part = self.parts["train"].some(recipe.lists) if recipe.lists else self.parts["train"]
        columns = columns_of(recipe.columns)
        x = np.asarray(part.x) if len(columns) == len(MODEL_COLUMNS) else np.ascontiguousarray(part.x[:, columns])
        return self.keep(name, Rows.of(x, np.asarray(part.labels), part.owners()), recipe, float(np.log(part.negatives_rate)))

    def keep(self, name: str, rows: Rows, recipe: Recipe, offset: float) -> Trained:
        """Train on given rows; `offset` is what their sampling takes off log-odds."""
        start = perf_counter()
        scorer = registry.train(recipe.name, rows, seed=SEED, threads=self.threads, options=recipe.options)
        seconds = perf_counter() - start
        self.trained[name] = Trained(scorer, columns_of(recipe.columns), offset if scorer.log_odds else 0.0, seconds, self.threads)
        return self.trained[name]

    def logits(self, name: str, part: str) -> FloatArray:
        """(N,) what a trained member says of a part; computed once."""
        if (name, part) not in self._logits:
            self._logits[name, part] = self.trained[name].logits(self.parts[part])
        return self._logits[name, part].astype(np.float64)

    def forget(self, name: str) -> None:
        """Drop a member and its scores."""
        self.trained.pop(name)
        for key in [key for key in self._logits if key[0] == name]:
            del self._logits[key]

    def first_half(self) -> NDArray[np.bool_]:
        """(N,) rows of `calibrate` that fit what is compared on the households of the other half."""
        return ~np.repeat(np.asarray(self.parts["calibrate"].second), np.diff(self.parts["calibrate"].offsets))

    def calibrator(self, logits: FloatArray, *, kind: str = "platt", rows: NDArray[np.bool_] | None = None) -> Calibrator:
        """A calibrator from log-odds of `calibrate`, on its first half or the given rows."""
        part = self.parts["calibrate"]
        chosen = self.first_half() if rows is None else rows
        return unthinned(CALIBRATORS[kind], logits[chosen], np.asarray(part.labels)[chosen], part.negatives_rate)

    def by_tier(self, logits: FloatArray, *, rows: NDArray[np.bool_] | None = None) -> TierCalibrator:
        """Platt's map for each tier; a tier with too little to tell has that of all."""
        part = self.parts["calibrate"]
        chosen = self.first_half() if rows is None else rows
        whole, tiers, labels = self.calibrator(logits, rows=chosen), np.asarray(part.tiers), np.asarray(part.labels)
        made = []
        for code in range(len(TIERS)):
            of_tier = chosen & (tiers == code)
            enough = labels[of_tier].sum() >= _FEWEST and labels[of_tier].min() == 0
            made.append(self.calibrator(logits, rows=of_tier) if enough else whole)
        return TierCalibrator(tuple(made))


_FEWEST = 30  # positives that two parameters are fitted to


def columns_of(names: tuple[str, ...]) -> NDArray[np.int64]:
    """Places in the schema, in the schema's order; no names: all."""
    return np.array([i for i, name in enumerate(MODEL_COLUMNS) if not names or name in names], np.int64)


def unthinned(
    fit: Callable[[FloatArray, NDArray[np.int8]], Calibrator], logits: FloatArray, labels: NDArray[np.int8], negatives_rate: float
) -> Calibrator:
    """Fit a calibrator on rows that kept a known share of their negatives, for rows that kept all.

    Dropping negatives at random adds −ln(share) to log-odds and nothing else: the fit sees log-odds so moved, and what it says is moved
    back. A temperature is then one about the thinned rows' even odds.

    Args:
        fit: of `training.blends.calibrators.CALIBRATORS`.
        logits: (n,) log-odds.
        labels: (n,).
        negatives_rate: share of the negatives that is there.
    """
    shift = -float(np.log(negatives_rate))
    made = fit(logits + shift, labels)
    if made.kind == "isotonic":
        y = undo_negative_sampling(np.asarray(made.y), negatives_rate)
        return replace(made, x=tuple(x - shift for x in made.x), y=tuple(y.tolist()))
    return replace(made, b=made.a * shift + made.b - shift)


def grouped(calibrator: Calibrator | TierCalibrator, logits: FloatArray, tiers: NDArray[np.int8]) -> FloatArray:
    """(n,) probabilities, by tier or not."""
    return calibrator(logits, tiers) if isinstance(calibrator, TierCalibrator) else calibrator(logits)


def spans(part: Part) -> Iterator[slice]:
    """Rows of each list."""
    for start, end in zip(part.offsets[:-1].tolist(), part.offsets[1:].tolist(), strict=True):
        yield slice(start, end)
