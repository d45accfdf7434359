"""What is tried on the generated shop: each method turns training lists into scores of all candidates, at one or several strengths.

Knows arrays, no split and no figure. A method with strengths leaves the choice among them to whoever looks at validation lists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.types import FloatArray
from training.imbalance.losses import LOSSES, balanced_weights
from training.imbalance.resample import RESAMPLERS, Resampled, resample
from training.members.contract import NO_LIST, Rows
from training.members.registry import train
from training.sources import imbalanced_shop as source
from training.toolbox.effort import generator_options
from training.toolbox.outcome import Named
from training.toolbox.shop_data import HONEST, NAMES, TRAIN, Shop

KEPT = 0.1  # of the training lists' unclicked candidates: ten times less to train on, the same order learnt
TAUS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
SHIFTS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.5)
POWERS = (0.25, 0.5, 0.75, 1.0)
BETAS = (0.9, 0.99, 0.999)
_FEW = float(np.log1p(source.TAIL_INTERACTIONS * 2))  # between the clicks of a tail and of a head category, as the feature counts them
STRENGTH = 1.0  # clicked per unclicked candidate after resampling


@dataclass(frozen=True, slots=True)
class Tried:
    """Scores at one strength.

    Attributes:
        scores: (N,) of all candidates of the shop.
        strength: 0 where there is nothing to choose.
        classes: [head clicks, tail clicks, unclicked] by weight that it was trained on.
    """

    scores: FloatArray
    strength: float
    classes: tuple[float, float, float]


@dataclass(frozen=True)
class Bench:
    """What every method is given.

    Attributes:
        shop: everything; methods read features of all rows and labels of training rows only.
        chosen: training rows kept.
        seed: of everything random.
        quick: as little work as shows that it runs.
    """

    shop: Shop
    chosen: NDArray[np.int64]
    seed: int
    quick: bool

    @classmethod
    def of(cls, shop: Shop, *, seed: int, quick: bool) -> Bench:
        rng = np.random.default_rng(seed)
        kept = (shop.part == TRAIN) & ((shop.labels == 1) | (rng.random(len(shop.labels)) < KEPT))
        return cls(shop, np.flatnonzero(kept), seed, quick)

    def columns(self, popularity: bool) -> NDArray[np.float32]:
        """(N, 8), or (N, 6) without what is counted from clicks."""
        return self.shop.features if popularity else self.shop.features[:, : len(HONEST)]

    def rows(self, popularity: bool) -> Rows:
        """The training rows."""
        s = self.shop
        return Rows.of(self.columns(popularity)[self.chosen], s.labels[self.chosen], s.lists[self.chosen])

    def tried(
        self, rows: Rows, *, popularity: bool = True, member: str = "boosting", strength: float = 0.0, tail: Any = None, **options: Any
    ) -> Tried:
        """Train a member and score every candidate; `tail` says of other rows than the chosen ones which are of tail items."""
        rare = self.shop.tail[self.chosen] if tail is None else tail
        few = {"epochs": 1} if member == "neural" else {"rounds": 20}
        fixed = {"hidden": (64, 32), "epochs": 4, "batch": 512} if member == "neural" else {"learning_rate": 0.1}
        scorer = train(member, rows, seed=self.seed, options=fixed | options | (few if self.quick else {}))
        kinds = ((rows.labels == 1) & ~rare, (rows.labels == 1) & rare, rows.labels == 0)
        head, few_clicked, rest = (float(rows.weights[kind].sum()) for kind in kinds)
        return Tried(scorer.logits(self.columns(popularity)), strength, (head, few_clicked, rest))


Method = Callable[[Bench], list[Tried]]


def methods() -> list[Named[Method]]:
    """All methods, the plain one of each kind before those held against it."""
    return [
        Named("member", "boosting", "", plain, "LightGBM with all features, clicks counted among them."),
        Named("member", "boosting_weighted", "boosting", _member("boosting_weighted")),
        Named("member", "lambdarank", "boosting", _member("lambdarank")),
        Named("member", "neural", "boosting", _member("neural")),
        Named("ablation", "no_popularity", "boosting", _honest, "Without the two features counted from clicks."),
        Named("resampler", "none", "", plain),
        *(Named("resampler", name, "none", _resampled(name), "Clicked against unclicked.") for name in RESAMPLERS if name != "none"),
        *(Named("resampler", f"tail_{name}", "none", _tail(name), _TAIL) for name in ("random_over", "smote", "adasyn")),
        *(Named("generator", f"tail_{name}", "none", _tail(name), _TAIL) for name in ("gan", "wgan_gp")),
        Named("loss", "bce", "", _member("neural"), _NETWORK),
        *(Named("loss", name, "bce", _loss(name), _NETWORK) for name in LOSSES if name != "bce"),
        Named("loss", "logit_adjusted_categories", "boosting", _adjusted(popularity=True), _PRIOR),
        Named("loss", "logit_adjusted_categories_no_popularity", "boosting", _adjusted(popularity=False), _PRIOR),
        Named("loss", "tail_shift_no_popularity", "boosting", _shifted, "One number added to the log-odds of every tail item."),
        Named("loss", "class_balanced_categories", "boosting", _balanced, "Clicks weigh by their category's effective number (Cui 2019)."),
        Named("loss", "inverse_frequency", "boosting", _inverse(popularity=True), _INVERSE),
        Named("loss", "inverse_frequency_no_popularity", "boosting", _inverse(popularity=False), _INVERSE),
        Named("blend", "boosting", "", plain),
        Named("blend", "equal_no_popularity", "boosting", _blend, "Mean log-odds of LightGBM and a network, both without popularity."),
        Named("blend", "adjusted_no_popularity", "boosting", _blend_adjusted, f"That blend, {_PRIOR[0].lower()}{_PRIOR[1:]}"),
    ]


_TAIL = "Clicks on tail items until there are as many as on head items."
_NETWORK = "A network of two hidden layers."
_PRIOR = "Less τ times the log share of the clicks that the item's category has (Menon et al. 2021, eq. 9)."
_INVERSE = "A click weighs the power of its category's clicks; mean weight 1."


def plain(bench: Bench) -> list[Tried]:
    """LightGBM as it comes."""
    return [bench.tried(bench.rows(popularity=True))]


def _honest(bench: Bench) -> list[Tried]:
    return [bench.tried(bench.rows(popularity=False), popularity=False)]


def _member(name: str) -> Method:
    return lambda bench: [bench.tried(bench.rows(popularity=True), member=name)]


def _loss(name: str) -> Method:
    return lambda bench: [bench.tried(bench.rows(popularity=True), member="neural", loss=name)]


def _resampled(name: str) -> Method:
    def method(bench: Bench) -> list[Tried]:
        rows = bench.rows(popularity=True)
        made = resample(
            name, rows.features, rows.labels, strength=STRENGTH, seed=bench.seed, options=generator_options(name, quick=bench.quick)
        )
        few = made.features[:, NAMES.index("category_clicks")] < _FEW  # whose clicks a made-up row imitates
        return [_trained(bench, made, made.labels, few)]

    return method


def _tail(name: str) -> Method:
    """Only tail clicks are multiplied: to the resampler they are the rare class and all other rows the frequent one."""

    def method(bench: Bench) -> list[Tried]:
        rows, tail = bench.rows(popularity=True), bench.shop.tail[bench.chosen]
        rare = ((rows.labels == 1) & tail).astype(np.int8)
        wanted = ((rows.labels == 1) & ~tail).sum() / (rare == 0).sum()
        made = resample(
            name, rows.features, rare, strength=float(wanted), seed=bench.seed, options=generator_options(name, quick=bench.quick)
        )
        labels = np.where(made.source >= 0, rows.labels[made.source], 1).astype(np.int8)
        return [_trained(bench, made, labels, made_tail=True)]

    return method


def _trained(bench: Bench, made: Resampled, labels: NDArray[np.int8], made_tail: NDArray[np.bool_] | bool) -> Tried:
    """Train on resampled rows; those that were made up belong to no list and may stand for tail clicks."""
    real = made.source >= 0
    lists = np.where(real, bench.shop.lists[bench.chosen][made.source], NO_LIST)
    tail = np.where(real, bench.shop.tail[bench.chosen][made.source], made_tail)
    return bench.tried(Rows(made.features, labels, made.weights, lists), tail=tail)


def _adjusted(*, popularity: bool) -> Method:
    def method(bench: Bench) -> list[Tried]:
        base = bench.tried(bench.rows(popularity=popularity), popularity=popularity)
        return [replace(base, scores=base.scores - tau * bench.shop.prior, strength=tau) for tau in TAUS]

    return method


def _shifted(bench: Bench) -> list[Tried]:
    base = _honest(bench)[0]
    return [replace(base, scores=base.scores + shift * bench.shop.tail, strength=shift) for shift in SHIFTS]


def _weighed(bench: Bench, of_category: FloatArray, *, popularity: bool, strength: float) -> Tried:
    """Train with a weight per clicked category, mean 1 over the clicks."""
    rows = bench.rows(popularity=popularity)
    clicked = rows.labels == 1
    weights = np.ones(len(clicked))
    weights[clicked] = of_category[bench.shop.category[bench.chosen][clicked] - 1]
    weights[clicked] /= weights[clicked].mean()
    return bench.tried(replace(rows, weights=weights.astype(np.float32)), popularity=popularity, strength=strength)


def _balanced(bench: Bench) -> list[Tried]:
    import torch

    counts = torch.from_numpy(np.maximum(bench.shop.clicks, 1))
    return [_weighed(bench, balanced_weights(counts, beta).numpy(), popularity=True, strength=beta) for beta in BETAS]


def _inverse(*, popularity: bool) -> Method:
    def method(bench: Bench) -> list[Tried]:
        return [_weighed(bench, np.maximum(bench.shop.clicks, 1.0) ** -power, popularity=popularity, strength=power) for power in POWERS]

    return method


def _blend(bench: Bench) -> list[Tried]:
    rows = bench.rows(popularity=False)
    both = [bench.tried(rows, popularity=False, member=name) for name in ("boosting", "neural")]
    return [replace(both[0], scores=np.mean([one.scores for one in both], axis=0))]


def _blend_adjusted(bench: Bench) -> list[Tried]:
    base = _blend(bench)[0]
    return [replace(base, scores=base.scores - tau * bench.shop.prior, strength=tau) for tau in TAUS]
