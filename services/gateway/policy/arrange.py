"""From what candidates are worth to who stands where and what a click there costs: auction, groups, fairness, prices, accounts.

The half of a list's answer that the policy decides. Knows no models and no features but the candidates' attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ranking.fairness.amortised import Delta
from ranking.fairness.groups import ListGroups
from ranking.fairness.policy import SEARCHED_PLACES, FairnessPolicy
from ranking.types import Explain, FloatArray, IntArray, Ranking, RankRequest, Surface
from services.gateway.features import ListFeatures
from services.gateway.ledger.ledger import Ledger
from services.gateway.ledger.store import Key, keys_of
from services.gateway.policy import ads
from services.gateway.policy.fairness import Fair, Page, attribute_of, deltas, groups_of, rank_fairly

_LONG = 50  # results beyond which the costs of promises take more than a few milliseconds


@dataclass(frozen=True, slots=True)
class Arranged:
    """The competing candidates, their order and its prices; index arrays of `fair` count within `auction.kept`."""

    policy: FairnessPolicy  # as it was followed
    auction: ads.Auction
    paced: ads.Advertisers | None  # of all candidates
    key: FloatArray  # (m,) what they are sorted by
    fair: Fair
    page: Page
    prices: IntArray | None  # (k,) micros per click; None where nothing is for sale


def arrange(
    request: RankRequest, policy: FairnessPolicy, worth: FloatArray, click: FloatArray, found: ListFeatures, ledger: Ledger
) -> Arranged:
    """Admit, then order the candidates by what the policy says and the ledger knows, and price the order.

    Args:
        request: n candidates.
        policy: decides.
        worth: (n,) weighted probability, NaN where there is none.
        click: (n,) probability, 0 where there is none.
        found: the candidates' attributes.
        ledger: what is owed and spent; only read.
    """
    surface, candidates = request.surface, request.candidates
    if np.isnan(worth).all():  # sorted by what the caller sent or not at all: prices are in other units, so floors hold on the list instead
        policy = replace(policy, scope="list")
    paced: ads.Advertisers | None = None
    if policy.pacing is not None and candidates.bid_micros is not None:
        paced = ads.advertisers(policy.pacing, attribute_of(policy.pacing.attribute, found.items, found.names))
        spends = ledger.spends(_spend_keys(policy, paced), [float(b) for b in paced.budgets])
        clicks = ads.most_clicks(paced, click, request.top_k)
        auction = ads.admit(policy, surface, candidates, paced, spends, clicks)
    else:
        auction = ads.admit(policy, surface, candidates)
    key = _key(request, policy, worth, auction)
    items, merit = (found.items, click) if not auction.dropped else (found.items.take(auction.kept), click[auction.kept])
    groups = groups_of(policy, found.user, items, found.names, merit)
    owed = [ledger.accounts(_keys(surface, policy, rule)) for rule in groups]
    k = min(request.top_k, len(auction.kept))
    slots = policy.ad_slots if surface is Surface.SEARCH and auction.sponsored is not None else ()
    if slots and auction.sponsored is not None:
        k = ads.places(slots, auction.sponsored, k)
    if policy.pricing == "truthful" and surface is Surface.ADS:
        k = min(k, SEARCHED_PLACES)  # each result's payment takes an order of its own
    length = min(policy.page_length, k) or k
    if slots or len(policy.rules) > 1:
        length = min(length, SEARCHED_PLACES)
    page = Page(k, length, policy.free_places, slots, auction.sponsored if slots else None)
    fair = rank_fairly(policy, key, groups, owed, page, costs=request.explain is Explain.FULL)
    return Arranged(policy, auction, paced, key, fair, page, ads.click_prices(policy, auction, fair, worth[auction.kept], length))


def record(surface: Surface, arranged: Arranged, ranking: Ranking, ledger: Ledger) -> None:
    """Put what the list did into the ledger."""
    policy, fair, paced = arranged.policy, arranged.fair, arranged.paced
    exposed: dict[Key, Delta] = {}
    for rule, changes in deltas(policy, fair, arranged.page):
        exposed.update(zip(_keys(surface, policy, rule), changes, strict=True))
    if exposed:
        ledger.record(exposed, policy.controller)
    if paced is not None and ranking.price_micros is not None:
        spent = ads.spending(paced, ranking.order, ranking.price_micros, ranking.probabilities).tolist()
        entries = zip(_spend_keys(policy, paced), spent, map(float, paced.budgets), strict=True)
        ledger.record_spend(entry for entry in entries if entry[1] > 0.0)


def slow(request: RankRequest, policy: FairnessPolicy) -> bool:
    """Whether ordering may take tens of milliseconds, so that it must not hold up the other calls on the event loop."""
    long = request.top_k > _LONG and request.explain is Explain.FULL
    return bool(policy.ad_slots) or (policy.mode != "off" and (len(policy.rules) > 1 or long))


def _keys(surface: Surface, policy: FairnessPolicy, rule: ListGroups) -> tuple[Key, ...]:
    """(g,) accounts of a rule's groups."""
    return keys_of(surface.value, policy.name, rule.attribute, rule.names)


def _spend_keys(policy: FairnessPolicy, paced: ads.Advertisers) -> tuple[Key, ...]:
    """(a,) accounts of advertisers: a budget is one for all surfaces."""
    return keys_of("", policy.name, paced.attribute, paced.names)


def _key(request: RankRequest, policy: FairnessPolicy, worth: FloatArray, auction: ads.Auction) -> FloatArray:
    """(m,) what the competing candidates are sorted by."""
    candidates, kept, bids = request.candidates, auction.kept, auction.paced
    absent = np.isnan(worth)
    if absent.any():
        if absent.all():
            return np.zeros(len(kept)) if candidates.retrieval_scores is None else candidates.retrieval_scores[kept]
        worth = np.where(absent, 0.0, worth)
    if auction.dropped:
        worth = worth[kept]
    if request.surface is Surface.SEARCH:
        if not policy.ad_slots:
            return worth
        value = float(policy.organic_value_micros)
        return worth * (value if bids is None or auction.sponsored is None else np.where(auction.sponsored, bids, value))
    return worth if bids is None else bids * worth
