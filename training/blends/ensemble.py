"""One ensemble from one configuration: resample, train the members, calibrate them, blend. No search, no I/O.

`fit` is what a trial runs and what the winner is made with; `objective` turns a configuration into the numbers a search
compares. Neither knows Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.blend import Blended, BlendSpec, blend
from ranking.calibrate import logit
from ranking.fuse import FUSIONS
from ranking.types import TIERS
from training.blends.calibrators import CALIBRATORS, fit_platt
from training.blends.folds import by_group
from training.blends.weighing import BLENDS, Evidence
from training.imbalance.resample import RESAMPLERS, UNMOVED, resample
from training.lists.arrays import EnsembleData, EvalLists, TrainRows
from training.members.contract import NO_LIST, Rows, Scorer
from training.members.registry import LIGHTGBM, MEMBERS, check_names, reads_text, train
from training.release.policies import floored

TEXT = "bert"
DEFAULT: dict[str, Any] = {
    "members": "boosting+bert",
    "blend": "per_tier",
    "resampler": "none",
    "strength": 0.1,
    "negatives_rate": 0.03,
    "learning_rate": 0.05,
    "leaves": 31,
    "calibrator": "platt",
    "text_weight_head": 0.1,
    "text_weight_tail": 0.2,
    "text_weight_new": 0.4,
}
"""What one would choose without a search; what a configuration does not name is as here."""
TREES_ALONE: dict[str, Any] = DEFAULT | {f"text_weight_{tier}": 0.0 for tier in TIERS}
"""The same without the text member: what the text has to beat."""
FOLDS = 3  # of households, for what is learnt from out-of-fold scores


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained ensemble."""

    scorers: Mapping[str, Scorer]  # the members that are functions of the features, by name
    offset: float  # undoes the sampling of the training rows; added to scores that are log-odds
    spec: BlendSpec

    def shift(self, name: str) -> float:
        """What is added to a scorer's scores."""
        return _shift(self.scorers[name], self.offset)

    def counting(self) -> tuple[str, ...]:
        """Members that some group gives weight: the others need not be served."""
        counted = self.spec.matrix().max(axis=0) > 0.0
        return tuple(name for name, counts in zip(self.spec.members, counted, strict=True) if counts)

    def logits(self, lists: EvalLists) -> NDArray[np.float64]:
        """(m, N) members' scores before calibration, rows as in `spec.members`."""
        return np.stack([_scores(n, self.scorers, lists, self.offset) for n in self.spec.members])

    def blend(self, lists: EvalLists) -> Blended:
        return blend(self.spec, self.logits(lists), lists.tiers)


Scores = tuple[NDArray[np.float64], ...]
"""One member's scores before calibration, an array for each of the lists it was asked about."""
Fits = Callable[[Mapping[str, Any], Callable[[], Scores]], Scores]
"""Keeps scores: ``(what, make)``, all they follow from beside the data, as JSON can say it, and how they are made where none are kept."""


def member_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The members a configuration names: a list, or their names joined by "+".

    Raises:
        ValueError: an unknown name, a duplicate or none.
    """
    chosen = config["members"]
    names = tuple(chosen.split("+")) if isinstance(chosen, str) else tuple(chosen)
    check_names(names)
    return names


def fit(config: Mapping[str, Any], data: EnsembleData, seed: int, *, threads: int = 2) -> Fitted:
    """Train and calibrate the ensemble a configuration describes.

    Args:
        config: what is missing is taken from `DEFAULT`. ``members`` (names, a list or joined by "+"), ``blend`` (name; its weights as
            `training.blends.weighing` says), ``resampler`` (name), ``strength`` (positives per negative after resampling),
            ``negatives_rate`` (≤ the rows' own), ``calibrator`` (name), ``learning_rate``, ``leaves`` and ``rounds`` (of every member that
            is one booster), ``options`` (member -> its options).
        data: shared rows and lists.
        seed: of sampling and training.
        threads: of the members.

    Raises:
        ValueError: an unknown name or option, or members that do not go with the resampler or the lists, naming them.
    """
    config = {**DEFAULT, **config}
    names = _checked(config, data)
    training = _Training(names, config, data.train, seed)
    scorers = {name: training.scorer(name, threads) for name in names if name in MEMBERS}
    raw = np.stack([_scores(n, scorers, data.calibrate, training.offset) for n in names])
    return Fitted(scorers, training.offset, _spec(names, config, data, raw, seed, threads))


def _spec(
    names: tuple[str, ...],
    config: Mapping[str, Any],
    data: EnsembleData,
    raw: NDArray[np.float64],
    seed: int,
    threads: int,
    fits: Fits | None = None,
) -> BlendSpec:
    """Calibrators and weights, from the (m, N) members' scores of the calibration lists."""
    lists, calibrate = data.calibrate, CALIBRATORS[config["calibrator"]]
    calibrators = tuple(calibrate(scores, lists.labels) for scores in raw)
    log_odds = np.stack([logit(c(scores)) for c, scores in zip(calibrators, raw, strict=True)])
    evidence = Evidence(names, log_odds, lists.labels, lambda: out_of_fold(names, config, data, seed, threads=threads, fits=fits))
    weighed = BLENDS[config["blend"]](evidence, config)
    draft = BlendSpec(names, weighed.weights, calibrators)
    final = weighed.final or fit_platt(logit(blend(draft, raw, lists.tiers).probabilities), lists.labels)
    return replace(draft, final=final)


def out_of_fold(
    names: tuple[str, ...], config: Mapping[str, Any], data: EnsembleData, seed: int, *, threads: int = 2, fits: Fits | None = None
) -> NDArray[np.float64]:
    """(m, N) log-odds of the calibration lists' rows, each by members and calibrators that have not seen the row's household.

    Households, and with them lists, stand whole in one fold: for each fold the members are trained on the training rows of the
    others and calibrated on the others' calibration lists. Scores that are given (BERT's) were made from training weeks alone.

    Args:
        names: the members.
        config: as in `fit`; ``folds`` is how many.
        data: shared rows and lists.
        seed: of the folds, sampling and training.
        threads: of the members.
        fits: as in `objective`.
    """
    config = {**DEFAULT, **config}
    lists, rows, folds = data.calibrate, data.train, int(config.get("folds", FOLDS))
    # Where nobody asked twice every list is a household, those of training rows other ones than those of the calibration lists.
    askers = np.arange(len(lists)) if lists.households is None else lists.households
    trained = -1 - rows.lists if rows.households is None else rows.households
    of_row, of_list = by_group((trained, askers), folds, seed)
    held = np.repeat(of_list, np.diff(lists.offsets))  # (N,)
    calibrate, out = CALIBRATORS[config["calibrator"]], np.full((len(names), len(held)), np.nan)
    for fold in np.unique(of_list):
        training = _Training(
            names, config, partial(rows.take, of_row != fold), seed, {"fold": int(fold), "folds": folds}, many=fits is not None
        )
        (scores,) = _member_scores(training, (lists,), threads, fits)
        for row, raw in zip(out, scores, strict=True):
            row[held == fold] = logit(calibrate(raw[held != fold], lists.labels[held != fold])(raw[held == fold]))
    return out


def objective(config: Mapping[str, Any], data: EnsembleData, seed: int, *, threads: int = 2, fits: Fits | None = None) -> dict[str, float]:
    """Validation metrics of one configuration: higher `ndcg10` is better, `ne` lower, `predicted_over_actual` nearer 1.

    ``blend`` may also name a fusion of `ranking.fuse`, for comparison: it orders and gives no probabilities, so the other two are NaN
    and it cannot win a search. With ``floor`` lists are ordered as `training.release.policies.tail_floor` says, probabilities staying as
    they are: more exposure of the tail for less NDCG.

    Args:
        config: as in `fit`.
        data: shared rows and lists.
        seed: of sampling and training.
        threads: of the members.
        fits: keeps what members score, so that one which an earlier trial trained alike is not trained again; the figures are the same
            with it and without.
    """
    lists, fusion = data.select, config.get("blend", DEFAULT["blend"]) in FUSIONS
    config = {**DEFAULT, **config}
    chosen = {**config, "blend": "equal"} if fusion else config
    names = _checked(chosen, data)
    training = _Training(names, chosen, data.train, seed, many=fits is not None)
    raw, mine = _member_scores(training, (data.calibrate, lists), threads, fits)
    spec = _spec(names, chosen, data, raw, seed, threads, fits)
    p = fuse(str(config["blend"]), mine, lists) if fusion else blend(spec, mine, lists.tiers).probabilities
    order = floored(float(config["floor"]), p, lists) if "floor" in config else p
    return {
        "ndcg10": float(np.nanmean(ndcg(order, lists))),
        "ne": float("nan") if fusion else metrics.normalized_entropy(p, lists.labels),
        "predicted_over_actual": float("nan") if fusion else metrics.predicted_over_actual(p, lists.labels),
        "tail_share10": float(tail_share(order, lists).mean()),
    }


def fuse(name: str, logits: NDArray[np.float64], lists: EvalLists) -> NDArray[np.float64]:
    """(N,) the members' (m, N) scores fused list by list, by a fusion of `ranking.fuse`; they order each list and mean nothing else."""
    return np.concatenate([FUSIONS[name](logits[:, a:b]) for a, b in pairwise(lists.offsets)])


def per_list(metric: Callable[[NDArray[np.float64], slice], float], scores: NDArray[np.float64], lists: EvalLists) -> NDArray[np.float64]:
    """(L,) metric(scores of the list, its rows) for every list."""
    spans = [slice(int(a), int(b)) for a, b in pairwise(lists.offsets)]
    return np.array([metric(scores[span], span) for span in spans])


def ndcg(scores: NDArray[np.float64], lists: EvalLists, k: int = 10) -> NDArray[np.float64]:
    """(L,) NDCG@k against all positives of the uncut list; NaN for a list without any."""
    ideals = iter(lists.ideal_positives)
    return per_list(
        lambda s, span: metrics.ndcg_at_k(s, lists.labels[span].astype(np.float64), k=k, ideal_gains=np.ones(next(ideals))), scores, lists
    )


def tail_share(scores: NDArray[np.float64], lists: EvalLists, k: int = 10) -> NDArray[np.float64]:
    """(L,) share of the first k places that tail and new items hold."""
    return per_list(lambda s, span: 1.0 - metrics.group_share_at_k(s, lists.tiers[span], group=0, k=k), scores, lists)


def _checked(config: Mapping[str, Any], data: EnsembleData) -> tuple[str, ...]:
    """The members' names, all of the configuration's names being known."""
    names = member_names(config)
    for key, known in (("blend", BLENDS), ("calibrator", CALIBRATORS), ("resampler", RESAMPLERS)):
        if config[key] in known:
            continue
        if key == "blend" and config[key] in FUSIONS:
            raise ValueError(f"blend: {config[key]} gives an order and no probabilities, so it cannot be served; known: {', '.join(known)}")
        raise ValueError(f"{key}: {config[key]!r} is not known; known: {', '.join(known)}")
    for name in names:
        if reads_text(name) and any(name not in lists.given for lists in (data.calibrate, data.select)):
            raise ValueError(f"members: the lists carry no scores of {name}; they carry {', '.join(data.calibrate.given) or 'none'}")
    for name in config.get("options", {}):
        check_names((name,))
    _check_rate(float(config["negatives_rate"]), data.train)
    return names


class _Training:
    """The members that are functions of the features, all trained on the same resampled rows; these are made when the first is trained."""

    def __init__(
        self,
        names: tuple[str, ...],
        config: Mapping[str, Any],
        rows: TrainRows | Callable[[], TrainRows],
        seed: int,
        part: Mapping[str, Any] | None = None,
        *,
        many: bool = False,
    ) -> None:
        """Args: as in `fit`; `part` tells which of the data's rows these are, none: all; `many`: this process trains many ensembles."""
        self.names, self._config, self._given, self._seed = names, config, rows, seed
        learning = any(name in MEMBERS and MEMBERS[name].learns for name in names)
        self._resampler = str(config["resampler"]) if learning else "none"
        self._part, self._again = dict(part or {}), many and self._resampler in UNMOVED

    @cached_property
    def _made(self) -> tuple[Rows, float]:
        rows = self._given() if callable(self._given) else self._given
        kept = _keep(rows, float(self._config["negatives_rate"]), self._seed)
        strength = float(self._config["strength"])
        made = resample(self._resampler, kept.features, kept.labels, strength=strength, seed=self._seed)
        lists = np.where(made.source >= 0, kept.lists[made.source], NO_LIST)
        return Rows(made.features, made.labels, made.weights, lists, self._again), made.offset + float(np.log(kept.negatives_rate))

    @property
    def offset(self) -> float:
        """Undoes the sampling."""
        return self._made[1]

    def scorer(self, name: str, threads: int) -> Scorer:
        return train(name, self._made[0], seed=self._seed, threads=threads, options=_options(name, self._config))

    def scores(self, name: str, lists: tuple[EvalLists, ...], threads: int) -> Scores:
        """One member's scores of lists; trains it."""
        scorer = self.scorer(name, threads)
        return tuple(_scores(name, {name: scorer}, some, self.offset) for some in lists)

    def what(self, name: str) -> dict[str, Any]:
        """What a member's scores follow from beside the data; to a resampler that does nothing any possible strength is the same."""
        config, strength = self._config, float(self._config["strength"])
        found = {"member": name, "options": _options(name, config), "resampler": self._resampler, "seed": self._seed, **self._part}
        idle = self._resampler == "none" and 0.0 < strength <= 1.0
        return {**found, "strength": None if idle else strength, "negatives_rate": float(config["negatives_rate"])}


def _member_scores(training: _Training, lists: tuple[EvalLists, ...], threads: int, fits: Fits | None) -> tuple[NDArray[np.float64], ...]:
    """Of each of the lists (m, N) scores before calibration, rows in the members' order."""
    found = []
    for name in training.names:
        make = partial(training.scores, name, lists, threads)
        if name not in MEMBERS:
            found.append(tuple(some.given[name] for some in lists))
        else:
            found.append(make() if fits is None else fits(training.what(name), make))
    return tuple(np.stack(of_part) for of_part in zip(*found, strict=True))


def _options(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    shared = {"learning_rate": float, "leaves": int, "rounds": int} if name in LIGHTGBM else {}
    return {k: kind(config[k]) for k, kind in shared.items() if k in config} | dict(config.get("options", {}).get(name, {}))


def _scores(name: str, scorers: Mapping[str, Scorer], lists: EvalLists, offset: float) -> NDArray[np.float64]:
    if name not in scorers:
        return lists.given[name]
    return scorers[name].logits(lists.features) + _shift(scorers[name], offset)


def _shift(scorer: Scorer, offset: float) -> float:
    return offset if scorer.log_odds else 0.0


def _keep(rows: TrainRows, rate: float, seed: int) -> TrainRows:
    """Thin the negatives from the rows' own rate to `rate`."""
    _check_rate(rate, rows)
    share = rate / rows.negatives_rate
    if share == 1.0:
        return rows
    kept = (rows.labels == 1) | (np.random.default_rng(seed).random(len(rows.labels)) < share)
    return replace(rows.take(kept), negatives_rate=rate)


def _check_rate(rate: float, rows: TrainRows) -> None:
    if not 0.0 < rate <= rows.negatives_rate:
        raise ValueError(f"negatives_rate: must be in (0, {rows.negatives_rate:g}], the share the training rows kept; got {rate:g}")
