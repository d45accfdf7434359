"""Who takes part in a list's auction, and what a click on each result costs.

On the ads surface every candidate is an ad; on a search page with ad slots those with a bid are, and compete among themselves for the
slots. Everything is per click: an ad's score is bid × worth + the price of its groups, and it pays the least bid that keeps its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranking.auction.pacing import Spend, expected_spend, multiplier, paced_bids, undone
from ranking.auction.second_price import gsp_prices
from ranking.auction.truthful import truthful_prices
from ranking.fairness.exposure import discounts
from ranking.fairness.floors import FairRanking
from ranking.fairness.groups import Attribute
from ranking.fairness.policy import FairnessPolicy, Pacing
from ranking.types import Candidates, Dropped, FloatArray, IntArray, Surface
from services.gateway.policy.fairness import Fair

_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True)
class Advertisers:
    """Whose ads the candidates are.

    Attributes:
        attribute: that says whose a candidate is.
        codes: (n,) index into `names`; -1 where nobody with a budget owns it.
        names: those with a budget that have a candidate.
        budgets: micros per day of each.
    """

    attribute: str
    codes: IntArray
    names: tuple[str, ...]
    budgets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Auction:
    """The candidates that compete.

    Attributes:
        kept: (m,) their indices.
        bids: (m,) micros per click they bid, 0 where a result is organic; None: nothing is for sale.
        factors: (m,) what their bids are multiplied by to spread budgets over the day; None: all 1.
        sponsored: (m,) which are ads; None: nothing is for sale.
        dropped: the others.
    """

    kept: IntArray
    bids: IntArray | None = None
    factors: FloatArray | None = None
    sponsored: NDArray[np.bool_] | None = None
    dropped: tuple[Dropped, ...] = ()

    def take(self, rows: IntArray) -> Auction:
        """Some of the competing candidates."""
        return Auction(
            self.kept[rows],
            None if self.bids is None else self.bids[rows],
            None if self.factors is None else self.factors[rows],
            None if self.sponsored is None else self.sponsored[rows],
        )

    @property
    def paced(self) -> IntArray | None:
        """(m,) micros per click they compete with."""
        return self.bids if self.bids is None or self.factors is None else paced_bids(self.bids, self.factors)


def advertisers(pacing: Pacing, owner: Attribute) -> Advertisers:
    """The paced advertisers among n candidates."""
    budgets = pacing.daily_budget_micros
    here = [(c, owner.names[c]) for c in np.unique(owner.codes).tolist() if owner.names[c] in budgets]
    of_code = np.full(len(owner.names), -1)
    for advertiser, (code, _) in enumerate(here):
        of_code[code] = advertiser
    names = tuple(name for _, name in here)
    return Advertisers(pacing.attribute, of_code[owner.codes], names, tuple(budgets[name] for name in names))


def admit(
    policy: FairnessPolicy,
    surface: Surface,
    candidates: Candidates,
    paced: Advertisers | None = None,
    spends: Sequence[Spend] = (),
    clicks: FloatArray | None = None,
) -> Auction:
    """Leave out ads below the reserve and those whose day's budget is spent; lower the bids of those ahead of it.

    No bid counts for more than what is left of the day's budget over all the clicks the list can be expected to bring the advertiser. That
    limit does not depend on the bid, so it changes nothing about what is best to bid.

    Args:
        policy: reserve.
        surface: where.
        candidates: n of them.
        paced: advertisers with a budget.
        spends: one account per advertiser of `paced`.
        clicks: one number for each, from `most_clicks`.
    """
    n = len(candidates)
    bids = asked = candidates.bid_micros
    if bids is None or asked is None:
        return Auction(np.arange(n))
    ads = np.ones(n, bool) if surface is Surface.ADS else bids > 0
    out = ads & (bids < policy.reserve_micros)
    reasons = dict.fromkeys(np.flatnonzero(out).tolist(), "BELOW_RESERVE")
    factors: FloatArray | None = None
    if paced is not None and paced.names and clicks is not None:
        left = np.maximum(np.array(paced.budgets, np.float64) - [state.spent for state in spends], 0.0)
        limits = np.floor(np.minimum(left / np.maximum(clicks, 1e-300), _NO_LIMIT)).astype(np.int64)
        bids = np.where(ads, np.minimum(bids, np.array([*limits.tolist(), _NO_LIMIT])[paced.codes]), bids)
        of_advertiser = [multiplier(*a) for a in zip(spends, paced.budgets, strict=True)]
        factors = np.where(ads, np.array([*of_advertiser, 1.0])[paced.codes], 1.0)  # code -1: the last one
        bids_left = paced_bids(bids, factors)
        least = np.where(asked > 0, max(policy.reserve_micros, 1), 0)
        spent = (factors == 0.0) | (bids < least)
        low = ads & ~out & (spent | (bids_left < least))
        reasons |= {i: "BUDGET_SPENT" if spent[i] else "BUDGET_PACED" for i in np.flatnonzero(low).tolist()}
        out |= low
    if not reasons:
        return Auction(np.arange(n), bids, factors, ads)
    kept = np.flatnonzero(~out)
    dropped = tuple(Dropped(i, reasons[i]) for i in sorted(reasons))
    return Auction(kept, bids[kept], None if factors is None else factors[kept], ads[kept], dropped)


def most_clicks(paced: Advertisers, probabilities: FloatArray, k: int) -> FloatArray:
    """(a,) the most clicks that a list of k results can be expected to bring each advertiser: its likeliest ads first.

    Args:
        paced: of n candidates.
        probabilities: (n,) of a click.
        k: results.
    """
    best = [np.sort(probabilities[paced.codes == a])[::-1][:k] for a in range(len(paced.names))]
    return np.array([p @ discounts(len(p)) for p in best])


def places(slots: Sequence[int], sponsored: NDArray[np.bool_], k: int) -> int:
    """How many of `k` results a page can have when ads stand in the slots and nowhere else: with the organic results ends the page.

    Args:
        slots: ascending 1-based places.
        sponsored: (m,) which candidates are ads.
        k: results asked for.
    """
    sold = int(sponsored.sum())
    organic = len(sponsored) - sold
    reachable = 0  # slots that organic results reach, with ads in those before them
    for slot in slots:
        if reachable == sold or slot > organic + reachable + 1:
            break
        reachable += 1
    return min(k, organic + reachable)


def click_prices(policy: FairnessPolicy, auction: Auction, fair: Fair, worth: FloatArray, page: int) -> IntArray | None:
    """(k,) micros per click of each result, 0 for an organic one; None where nothing is for sale.

    Args:
        policy: pricing and reserve.
        auction: the m competing candidates.
        fair: their order.
        worth: (m,) what bids were multiplied by, NaN where there was nothing: such an ad is charged its bid.
        page: places that floors cover.
    """
    bids, sponsored = auction.paced, auction.sponsored
    if bids is None or sponsored is None:
        return None
    order, known = fair.ranking.order, ~np.isnan(worth)
    if sponsored.all():
        return _charged(policy, auction, fair, worth, known, page)
    ads = np.flatnonzero(sponsored)
    shown = sponsored[order]
    place = np.searchsorted(ads, order[shown])  # of the results that are ads, among the ads
    ranking = FairRanking(place, fair.ranking.binding[shown], fair.ranking.prefix[shown])
    among = replace(
        fair,
        ranking=ranking,
        groups=tuple(g.take(ads) for g in fair.groups),
        bound=tuple(g.take(ads) for g in fair.bound),
        lifts=None if fair.lifts is None else fair.lifts[ads],
    )
    out = np.zeros(len(order), np.int64)
    out[shown] = _charged(policy, auction.take(ads), among, worth[ads], known[ads], page)
    return out


def _charged(policy: FairnessPolicy, auction: Auction, fair: Fair, worth: FloatArray, known: NDArray[np.bool_], page: int) -> IntArray:
    """(k,) micros per click, where all candidates are ads."""
    ranking, bids = fair.ranking, auction.paced
    if bids is None or auction.bids is None or not known.any():
        return np.zeros(0, np.int64) if bids is None else bids[ranking.order]
    whole = bool(known.all())
    p = worth if whole else np.where(known, worth, 0.0)
    if policy.pricing == "truthful":
        floors = fair.bound[0]
        out = truthful_prices(
            ranking.order,
            bids,
            p,
            groups=floors.codes,
            shares=floors.floors,
            page=page,
            prices=fair.lifts,
            reserve_micros=policy.reserve_micros,
        )
        if auction.factors is not None:  # the least bid of its own, before pacing, with which it would stand there
            out = undone(out, auction.factors[ranking.order], auction.bids[ranking.order])
    else:
        promised = any(rule.floors.any() or (rule.ceilings < 1.0).any() for rule in fair.bound)
        out = gsp_prices(
            ranking.order,
            bids,
            p,
            reserve_micros=policy.reserve_micros,
            prices=fair.lifts,
            lifted=ranking.binding if promised else None,
            groups=_flat_codes(fair) if promised else None,
        )
    return out if whole else np.where(known[ranking.order], out, bids[ranking.order])


def spending(paced: Advertisers, order: IntArray, prices: IntArray, probabilities: FloatArray) -> FloatArray:
    """(a,) micros that a list is expected to cost each advertiser; a place is looked at as its exposure says, 1 / log2(rank + 1).

    Args:
        paced: of the n candidates.
        order: (k,) results as indices of candidates.
        prices: (k,) micros per click.
        probabilities: (k,) of a click.
    """
    cost = expected_spend(prices, probabilities, discounts(len(order)))
    codes = paced.codes[order]
    return np.bincount(codes[codes >= 0], weights=cost[codes >= 0], minlength=len(paced.names)).astype(np.float64)


def _flat_codes(fair: Fair) -> IntArray:
    """(A, m) flat group ids, a row per rule."""
    starts = np.cumsum([0, *(len(g.names) for g in fair.groups)])[:-1]
    return np.stack([g.codes + start for g, start in zip(fair.groups, starts.tolist(), strict=True)])
