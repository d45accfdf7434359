"""Truthful ads: prices per click under which bidding one's value is the best strategy, whatever the others bid.

The candidates are ranked by bid × probability + group price, exactly, under floors. A candidate's value is one number, so Myerson (1981)
says what makes the truth a dominant strategy: an allocation that is monotone in the bid, and the payment that goes with it.

Allocation. A bid below the reserve takes no part. Any bid at or above it takes part in a choice among the same orders: candidates,
groups, floors and places are then fixed, and only the score depends on the bid. (That leaving the list may make a group scarce and
relax its floor changes the others' places, never one's own: whoever left has none.) The order maximises W(b) = Σ_t d_t (b_i p_i + λ_i)
over these orders, so W is convex in b with slope x(b) = d_t p_i, the expected clicks: a higher bid never gets fewer, nor does the
reserve, compared with no place.

Payment. The envelope W(b) − W(r) = ∫ x from the reserve r to the bid b gives the expected payment

    b · x(b) − ∫ x  =  b · x(b) − [W(b) − W(r)],     per click: that divided by x(b).

- Dominant strategy: value v and bid b earn (v − b) x(b) + W(b) − W(r), at most W(v) − W(r), because W is convex; so do ties, whichever way
  they are broken.
- Individually rational: W(b) ≥ W(r), so the price is at most the bid.
- No positive transfers: x never exceeds x(b) below b, so W(b) − W(r) ≤ (b − r) x(b), and the price is at least the reserve.
- Rounding up to a whole micro keeps both, as bid and reserve are whole; a misreport can then gain less than a micro per click.

It holds within one request, for one bidder per candidate, under these assumptions: a place's effect d_t is known and the same for all;
the probability is ours, not the bidder's; group prices λ, floors and reserve do not depend on this request's bids. λ is learnt from past
lists, hence from past bids: across requests a bidder may still gain by moving it. It needs the exact optimum over a fixed set of orders:
the same payments on a heuristic's order are not truthful.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.auction.bids import checked, checked_order
from ranking.fairness.exposure import discounts
from ranking.fairness.floors import GUARD, rank_by_score, rank_with_floors
from ranking.types import FloatArray, IntArray

_SAME = 1e-9  # relative: what two float sums over equally good orders may differ by
_ROUNDING = 1e-12  # relative: how far above a whole micro a price may come out that is one


def truthful_prices(
    order: IntArray,
    bid_micros: IntArray,
    probabilities: FloatArray,
    *,
    groups: NDArray[Any] | None = None,
    shares: Sequence[float] | FloatArray = (0.0,),
    page: int = 0,
    prices: FloatArray | None = None,
    reserve_micros: int = 0,
    weights: FloatArray | None = None,
) -> IntArray:
    """The price per click of each result of `rank_with_floors(bid × probability + price, groups, shares, k, page)`.

    Args:
        order: (k,) indices of the returned candidates, best first.
        bid_micros: (n,) bids of all candidates that took part, returned or not; those below the reserve take no part.
        probabilities: (n,) the click probabilities the bids were multiplied by.
        groups: (n,) codes 0 … g-1 of one rule's groups; default: all in one.
        shares: (g,) the floors, as `rank_with_floors` took them.
        page: how many of the first places the floors cover; 0: all k.
        prices: (n,) each candidate's group price, micros per impression; default 0.
        reserve_micros: least price per click.
        weights: (k,) positive non-increasing effects d_t of the places; default: the exposure 1 / log2(t + 1).

    Returns:
        (k,) int64 micros per click, from the reserve to the bid; the reserve where the probability is 0 and nobody clicks.
        One ranking of O(k + g) candidates per result: O(n log n + k (k + g)).

    Raises:
        ValueError: naming the argument, as `gsp_prices` and `rank_with_floors` do; `order` is not the exact one.
    """
    bids, p, extra = checked(bid_micros, probabilities, prices, reserve_micros)
    order = checked_order(order, len(bids))
    k = len(order)
    if k == 0:
        return np.empty(0, np.int64)
    codes = np.zeros(len(bids), np.int64) if groups is None else np.asarray(groups)
    if codes.shape != bids.shape:
        raise ValueError(f"groups: need one per bid ({len(bids)}), got shape {codes.shape}")
    effect = _checked_weights(weights, k)
    score = bids * p + extra
    deadlines = _deadlines(np.asarray(shares, np.float64), min(page, k) or k)
    near = _near(score, codes, [len(due) for due in deadlines], order)
    score, codes, shown = score[near], codes[near], np.searchsorted(near, order)
    best = rank_with_floors(score, codes, shares, k, page).order
    missed = effect @ (score[best] - score[shown])
    if abs(missed) > _SAME * (effect @ np.abs(score[best])):
        raise ValueError(f"order: not the exact ranking of these scores under these floors; it is off by {missed:g} micros")

    own, bid = p[order], bids[order]
    at_reserve = reserve_micros * own + extra[order]
    lowered = _lowered(score, codes, shown, at_reserve, deadlines)  # (k, k)
    instead = np.where(lowered == shown[:, None], at_reserve[:, None], score[lowered])
    gain = (score[shown] - instead) @ effect  # W(b) - W(r), place by place: what both orders share cancels exactly
    clicks = effect * own
    saved = np.divide(gain, clicks, out=(bid - reserve_micros).astype(np.float64), where=clicks > 0.0)
    price = (bid - saved) * (1.0 - _ROUNDING)  # a whole micro that came out a hair above itself must not become the next
    whole: IntArray = np.ceil(np.clip(price, reserve_micros, bid)).astype(np.int64)
    return whole


def _near(score: FloatArray, codes: NDArray[Any], due: Sequence[int], order: IntArray) -> IntArray:
    """The candidates that can stand in the order, or in one with a single bid lowered; ascending, so that ties stay in input order.

    An order of k holds nobody behind the first k by score, except the best of each group, as many as its floor asks for. Lowering
    one bid moves the others up by at most one: the first k + 1, and one more per group, are all that can matter.
    """
    k = len(order)
    ranked = rank_by_score(score)
    matters = np.zeros(len(score), bool)
    matters[ranked[: k + 1]] = True
    matters[order] = True
    behind = ranked[k + 1 :]
    for group in np.flatnonzero(due).tolist():
        matters[behind[codes[behind] == group][: due[group] + 1]] = True
    return np.flatnonzero(matters)


def _deadlines(shares: FloatArray, places: int) -> list[list[int]]:
    """By group, the number of places within which its best, its second best … must stand: where floor(places · share) rises."""
    floors = np.floor(np.outer(shares, np.arange(places + 1)) + GUARD)  # as in `rank_with_floors`
    return [(np.flatnonzero(steps) + 1).tolist() for steps in np.diff(floors)]


def _lowered(score: FloatArray, codes: NDArray[Any], shown: IntArray, at_reserve: FloatArray, deadlines: list[list[int]]) -> IntArray:
    """(k, k) for each result the best order if it bid the reserve: `rank_with_floors` k times over, sorted and checked once.

    O(k m) for m candidates while few floors bind. Ties may stand otherwise than there, at the same objective.
    """
    k = len(shown)
    ranking = rank_by_score(score)
    high = np.argsort(ranking)[shown].tolist()  # ranks as bid, and at the reserve
    low = (np.searchsorted(-score[ranking], -at_reserve, side="right") - 1).tolist()
    ranked, group = ranking.tolist(), codes[ranking].tolist()
    have = np.bincount(codes, minlength=len(deadlines)).tolist()
    free = k - sum(min(len(due), there) for due, there in zip(deadlines, have, strict=True))  # places no floor needs
    return np.array([_order(_moved(ranked, a, b), _moved(group, a, b), deadlines, k, free) for a, b in zip(high, low, strict=True)])


def _moved(items: list[int], a: int, b: int) -> list[int]:
    """The list with its item a moved back to place b ≥ a."""
    return [*items[:a], *items[a + 1 : b + 1], items[a], *items[b + 1 :]]


def _order(ranked: list[int], group: list[int], deadlines: list[list[int]], k: int, free: int) -> list[int]:
    """The best k of candidates ranked by score: those the floors need and the best `free` others, the lowest at the latest place it may."""
    taken = [0] * len(deadlines)
    chosen: list[int] = []
    until: list[int] = []
    for item, g in zip(ranked, group, strict=True):
        due = deadlines[g]
        if taken[g] < len(due):
            until.append(due[taken[g]])
            taken[g] += 1
        elif free:
            until.append(k)
            free -= 1
        else:
            continue
        chosen.append(item)
        if len(chosen) == k:
            break
    if all(last > t for t, last in enumerate(until)):
        return chosen  # in order of score nobody stands too late
    out = [-1] * k
    end = k - 1  # every place behind it is filled
    for item, last in zip(reversed(chosen), reversed(until), strict=True):
        t = min(last - 1, end)
        while out[t] >= 0:
            t -= 1
        out[t] = item
        end -= t == end
    return out


def _checked_weights(weights: FloatArray | None, k: int) -> FloatArray:
    if weights is None:
        return discounts(k)
    effect = np.asarray(weights, np.float64)
    if effect.shape != (k,) or not (np.isfinite(effect) & (effect > 0.0)).all() or (np.diff(effect) > 0.0).any():
        raise ValueError(f"weights: need one per result ({k}), positive and non-increasing, got {effect.tolist()!r:.80}")
    return effect
