"""Random ads auctions under floors, and what one bidder earns in them by bidding something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ranking.fairness.exposure import discounts
from ranking.fairness.floors import rank_with_floors
from ranking.types import FloatArray, IntArray

Rank = Callable[[FloatArray, IntArray, FloatArray, int], IntArray]
"""(scores, groups, shares, k) -> order."""
Pay = Callable[["Auction", IntArray], FloatArray]
"""(auction, order) -> (k,) price per click."""


@dataclass(frozen=True)
class Auction:
    """Candidates with bids at or above the reserve, their groups, and the places."""

    bids: IntArray
    p: FloatArray
    extra: FloatArray  # group prices
    groups: IntArray
    shares: FloatArray
    k: int
    reserve: int

    @property
    def scores(self) -> FloatArray:
        return self.bids * self.p + self.extra

    def bidding(self, i: int, bid: int) -> Auction:
        """The same with another bid of candidate i."""
        return replace(self, bids=np.where(np.arange(len(self.bids)) == i, bid, self.bids))


def exact(scores: FloatArray, groups: IntArray, shares: FloatArray, k: int) -> IntArray:
    """The ranking under test elsewhere."""
    return rank_with_floors(scores, groups, shares, k).order


def random_auction(rng: np.random.Generator, n: int = 8, k: int = 4) -> Auction:
    """Few groups, one of them scarce, some candidates equal in everything, shares up to 1, and group prices in two of three.

    Values are in the order of the scores' differences, so that what a bidder bids matters.
    """
    g = int(rng.integers(1, 4))
    bids = rng.integers(1, 40, n) * 25_000
    p = rng.choice([0.01, 0.02, 0.03, 0.05, 0.08], n)
    groups = rng.choice(g, n, p=np.array([5.0, 3.0, 1.0][:g]) / sum([5, 3, 1][:g]))
    if rng.random() < 0.3:  # ties
        bids[: n // 2], p[: n // 2] = bids[0], p[0]
    extra = rng.integers(0, 20_000, g)[groups] * float(rng.integers(0, 3) > 0)
    reserve = int(rng.choice([0, 25_000, 100_000]))
    shares = rng.dirichlet(np.ones(g)) * rng.choice([0.0, 0.6, 1.0])
    return Auction(np.maximum(bids, reserve), p, extra, groups, shares, int(rng.integers(1, k + 1)), reserve)


def misreports(rng: np.random.Generator, auction: Auction, i: int, count: int) -> IntArray:
    """Bids that might pay: around those that meet a rival's score, at and around the reserve, 0, and far away."""
    meet = (auction.scores - auction.extra[i]) / auction.p[i]
    near = np.concatenate([np.floor(meet) + d for d in (-1, 0, 1, 2)] + [auction.reserve + np.array([-1.0, 0.0, 1.0])])
    far = auction.bids[i] * np.exp(rng.normal(0.0, 1.0, count))
    every = np.concatenate([[0.0], rng.choice(near, count // 2), far])[:count]
    return np.maximum(every, 0.0).astype(np.int64)


def earns(auction: Auction, i: int, bid: int, value: float, rank: Rank, pay: Pay) -> tuple[float, float]:
    """Expected (profit in micros, clicks) of candidate i, worth `value` micros a click to it, when it bids `bid`."""
    if bid < auction.reserve:
        return 0.0, 0.0
    auction = auction.bidding(i, bid)
    order = rank(auction.scores, auction.groups, auction.shares, auction.k)
    at = np.flatnonzero(order == i)
    if not len(at):
        return 0.0, 0.0
    clicks = float(discounts(len(order))[at[0]] * auction.p[i])
    return clicks * (value - float(pay(auction, order)[at[0]])), clicks


def envelope(auction: Auction, order: IntArray, rank: Rank) -> FloatArray:
    """(k,) b − [W(b) − W(reserve)] / clicks, where W is what `rank` achieves: truthful if that is the optimum."""
    effect = discounts(len(order))
    prices = auction.bids[order].astype(float)
    for t, i in enumerate(order.tolist()):
        low = auction.bidding(i, auction.reserve)
        lowered = rank(low.scores, low.groups, low.shares, low.k)
        prices[t] -= float(effect @ (auction.scores[order] - low.scores[lowered])) / (effect[t] * auction.p[i])
    return prices


def integral(auction: Auction, order: IntArray) -> FloatArray:
    """(k,) b − ∫ x / x(b), summed over the bids at which a score meets another: Myerson's payment, with no objective in sight."""
    effect = discounts(len(order))
    prices = np.empty(len(order))
    for t, i in enumerate(order.tolist()):
        meet = (auction.scores - auction.extra[i]) / auction.p[i]
        bid = float(auction.bids[i])
        cuts = np.unique(np.clip(np.append(meet, [auction.reserve, bid]), auction.reserve, bid))
        area = 0.0
        for low, high in pairwise(cuts.tolist()):
            scores = auction.scores
            scores[i] = (low + high) / 2 * auction.p[i] + auction.extra[i]
            at = np.flatnonzero(exact(scores, auction.groups, auction.shares, auction.k) == i)
            area += float(effect[at[0]]) * (high - low) if len(at) else 0.0
        prices[t] = bid - area / effect[t]
    return prices
