"""What Prometheus reads is what happened: scraped over HTTP and parsed with its own parser."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Mapping
from math import log2
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ranking.auction.pacing import Spend, multiplier, settle_spend
from ranking.fairness.amortised import Account, Delta, prices, settle
from ranking.fairness.groups import ListGroups
from ranking.fairness.policy import OTHER, FairnessPolicy, GroupRule, Pacing, Share
from ranking.release import Release
from ranking.types import TIERS, Candidates, Fairness, GroupExposure, Ranking, RankRequest, Surface
from services.gateway.ledger.ledger import Ledger
from services.gateway.ledger.store import Key, keys_of
from services.gateway.metrics import GROUPS, Metrics, registry
from services.gateway.metrics_http import exposed
from services.rpc.ports import PortTakenError
from tests.services.ledger_fakes import Clock, Place

FLOOR = GroupRule("popularity_tier", {"tail": Share(0.3)})
POLICY = FairnessPolicy("default", "1", (FLOOR,), scope="both", pacing=Pacing("seller", {"acme": 1_000_000}))
REPORTED = FairnessPolicy("watch", "1", (FLOOR,), mode="report_only")
RATIOS = {
    "head": {"predicted_over_actual": [1.1, 0.9, 1.3]},
    "new": {"predicted_over_actual": [None, None, None]},
    "tail": {"ndcg10": [1, 1, 1]},
}
METRICS = {
    "test": {"search": {"blend": RATIOS, "trees": {"head": {"predicted_over_actual": [9.0, 9.0, 9.0]}}}},
    "gate": {"ungated": False, "findings": []},  # what a release says of its metrics beside the tables
}
RELEASE = cast(Release, SimpleNamespace(id="r1", policies={"default": POLICY, "watch": REPORTED}, metrics=METRICS))

Scrape = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def tail(**numbers: Any) -> GroupExposure:
    """The tail's line of a report."""
    fixed = {"attribute": "popularity_tier", "group": "tail", "candidates": 9, "ceiling": 1.0, "count": 2, "count_before": 1, "excess": 0}
    return GroupExposure(**(fixed | {"target_share": 0.3, "exposure": 0.4, "exposure_before": 0.1, "shortfall": 0} | numbers))


def answered(codes: list[int], probabilities: list[float], *lines: GroupExposure, names: tuple[str, ...] = TIERS) -> tuple[Any, ...]:
    """A request, its ranking and the groups of its results."""
    request = RankRequest("q", Surface.SEARCH, "ice", "u", Candidates(["a", "b"]), 2)
    ranking = cast(
        Ranking,
        SimpleNamespace(probabilities=np.array(probabilities), exposure=lines, fairness=Fairness(1.0, 0.75, 0.0), order=np.arange(2)),
    )
    zeros = np.zeros(len(names))
    return request, ranking, [ListGroups(lines[0].attribute if lines else "popularity_tier", names, np.array(codes), zeros, zeros + 1)]


def observe(metrics: Metrics, answer: tuple[Any, ...], policy: FairnessPolicy = POLICY) -> None:
    request, ranking, groups = answer
    metrics.observe(request, ranking, policy, groups)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(clock: Clock) -> AsyncIterator[Ledger]:
    here = Ledger(Place(clock)(), sync_s=1e6, clock=clock)
    yield here
    await here.close()


@pytest.fixture
def metrics(ledger: Ledger) -> Metrics:
    return Metrics(ledger, lambda: RELEASE)


async def scrape(metrics: Metrics) -> Scrape:
    """All samples, over HTTP."""

    def read(address: str) -> str:
        with urllib.request.urlopen(f"http://{address}/metrics") as response:
            return response.read().decode()

    async with exposed("127.0.0.1:0", registry(metrics)) as address:
        text = await asyncio.to_thread(read, address)
    return {(s.name, frozenset(s.labels.items())): s.value for f in text_string_to_metric_families(text) for s in f.samples}


def of(found: Scrape, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


TAIL = {"surface": "search", "policy": "default", "attribute": "popularity_tier", "group": "tail"}
LIST = {"surface": "search", "policy": "default", "mode": "enforce"}


async def test_lists_add_up(metrics: Metrics) -> None:
    """Lists, utility, exposure, shortfalls and predicted probabilities are sums over the answers."""
    for _ in range(2):
        observe(metrics, answered([1, 1, 0], [0.5, 0.25, 0.125], tail(shortfall=3)))
    found = await scrape(metrics)
    assert of(found, "longtail_rankings_total", **LIST) == 2
    assert of(found, "longtail_utility_total", **LIST) == 2 * 0.75
    assert of(found, "longtail_utility_given_up_total", **LIST) == 2 * (1.0 - 0.75)
    assert of(found, "longtail_group_lists_total", **TAIL) == 2
    assert of(found, "longtail_exposure_promised_total", **TAIL) == 2 * 0.3
    assert of(found, "longtail_exposure_delivered_total", **TAIL) == 2 * 0.4
    assert of(found, "longtail_floor_shortfall_places_total", **TAIL) == 2 * 3
    assert of(found, "longtail_predicted_probability_sum_total", **TAIL) == 2 * (0.5 + 0.25)
    assert of(found, "longtail_predicted_probability_count_total", **TAIL) == 2 * 2
    assert of(found, "longtail_predicted_probability_sum_total", **(TAIL | {"group": "head"})) == 2 * 0.125
    assert ("longtail_predicted_probability_sum_total", frozenset((TAIL | {"group": "new"}).items())) not in found


async def test_a_report_counts_what_was_returned(metrics: Metrics) -> None:
    """With `report_only` the delivered exposure is that of the page as returned, here the first of two places."""
    observe(metrics, answered([1, 0], [0.5, 0.25], tail()), REPORTED)
    found = await scrape(metrics)
    assert of(found, "longtail_rankings_total", surface="search", policy="watch", mode="report_only") == 1
    assert of(found, "longtail_exposure_delivered_total", **(TAIL | {"policy": "watch"})) == pytest.approx(1.0 / (1.0 + 1.0 / log2(3)))


async def test_an_answer_without_a_policy_counts_as_a_list(metrics: Metrics) -> None:
    """A policy that is off reports no exposure and no utility."""
    request, ranking, groups = answered([1, 0], [0.5, 0.25])
    ranking.fairness = None
    metrics.observe(request, ranking, FairnessPolicy("none", "1", mode="off"), groups)
    found = await scrape(metrics)
    assert of(found, "longtail_rankings_total", surface="search", policy="none", mode="off") == 1
    assert of(found, "longtail_utility_total", surface="search", policy="none", mode="off") == 0


async def test_shared_accounts_are_told_as_shares(metrics: Metrics, ledger: Ledger) -> None:
    """Share and target per list, what is owed, and the price the active policy makes of it."""
    keys = keys_of("search", "default", "popularity_tier", ("tail", "head"))
    deltas = {keys[0]: Delta(1.0, 0.3, 0.1), keys[1]: Delta(1.0, 0.0, 0.9)}
    accounts = [Account(), Account()]
    for _ in range(3):
        ledger.record(deltas, POLICY.controller)
        accounts = [settle(a, deltas[key], POLICY.controller) for a, key in zip(accounts, keys, strict=True)]
    ledger.record({key._replace(policy="gone"): delta for key, delta in deltas.items()}, POLICY.controller)
    found = await scrape(metrics)
    assert of(found, "longtail_exposure_share", **TAIL) == pytest.approx(0.1)
    assert of(found, "longtail_exposure_target", **TAIL) == pytest.approx(0.3)
    assert of(found, "longtail_exposure_debt_lists", **TAIL) == accounts[0].debt
    assert of(found, "longtail_exposure_price", **TAIL) == prices(accounts, POLICY.controller)[0]
    gone = TAIL | {"policy": "gone"}
    assert of(found, "longtail_exposure_share", **gone) == pytest.approx(0.1)
    assert ("longtail_exposure_price", frozenset(gone.items())) not in found  # the active release has no such policy


async def test_many_groups_are_told_as_one(metrics: Metrics, ledger: Ledger) -> None:
    """The first hundred of an attribute by name, all later ones as `(other)`; nothing is left out of the sums."""
    names = tuple(f"s{i}" for i in range(GROUPS + 50))
    lines = [tail(attribute="seller", group=name, exposure=0.5) for name in (*names, OTHER)]
    for _ in range(2):
        observe(metrics, answered(list(range(len(names))), [0.5] * len(names), *lines, names=names))
    ledger.record({key: Delta(1.0, 0.25, 0.5) for key in keys_of("search", "default", "seller", names)}, POLICY.controller)
    found = await scrape(metrics)
    for metric, each in (("longtail_group_lists_total", 2.0), ("longtail_predicted_probability_count_total", 2.0)):
        told = {dict(labels)["group"]: value for (name, labels), value in found.items() if name == metric}
        extra = 1 if metric == "longtail_group_lists_total" else 0  # the line of `(other)` itself
        assert told == dict.fromkeys(names[:GROUPS], each) | {OTHER: (50 + extra) * each}
    shares = {dict(labels)["group"]: value for (name, labels), value in found.items() if name == "longtail_exposure_share"}
    assert shares == dict.fromkeys((*names[:GROUPS], OTHER), 0.5)


async def test_budgets_are_told_as_of_now(metrics: Metrics, ledger: Ledger, clock: Clock) -> None:
    """Spending and multiplier of advertisers with a budget in the active release."""
    key = Key("", "default", "seller", "acme")
    ledger.record_spend([(key, 30_000.0, 1e6), (key._replace(group="unnamed"), 5.0, 1e6)])
    clock.now += 60.0
    state = settle_spend(settle_spend(Spend(), 30_000.0, 0.0, 1e6), 0.0, 60.0, 1e6)
    found = await scrape(metrics)
    labels = {"policy": "default", "attribute": "seller", "advertiser": "acme"}
    assert of(found, "longtail_budget_spent_micros", **labels) == 30_000.0
    assert of(found, "longtail_budget_daily_micros", **labels) == 1e6
    assert of(found, "longtail_budget_multiplier", **labels) == multiplier(state, 1e6) < 1.0
    assert sum(name == "longtail_budget_spent_micros" for name, _ in found) == 1


async def test_the_release_tells_its_calibration(metrics: Metrics) -> None:
    """The served blend's ratio and interval per group, where it could be measured."""
    found = await scrape(metrics)
    labels = {"surface": "search", "split": "test", "group": "head"}
    for suffix, value in (("", 1.1), ("_low", 0.9), ("_high", 1.3)):
        assert of(found, f"longtail_calibration_ratio{suffix}", **labels) == value
        assert sum(name == f"longtail_calibration_ratio{suffix}" for name, _ in found) == 1
    assert of(found, "longtail_release_info", release="r1") == 1


async def test_before_a_release_there_is_something_to_scrape(ledger: Ledger) -> None:
    """No release is no error, and the process tells its own time and memory."""
    found = await scrape(Metrics(ledger, lambda: None))
    assert of(found, "process_resident_memory_bytes") > 0
    assert not [name for name, _ in found if name == "longtail_release_info"]


async def test_the_store_is_watched(clock: Clock) -> None:
    """Failed exchanges are counted, and how long ago the last one worked is told."""
    place = Place(clock)
    ledger = Ledger(place(), sync_s=1e6, clock=clock)
    await ledger.sync()
    place.down = "before"
    clock.now += 30.0
    await ledger.sync()
    await ledger.sync()
    found = await scrape(Metrics(ledger, lambda: None))
    assert of(found, "longtail_ledger_sync_failures_total") == 2
    assert of(found, "longtail_ledger_stale_seconds") == 30.0
    await ledger.close()


async def test_a_taken_port_is_named(metrics: Metrics) -> None:
    """Two processes cannot be scraped at one address: the second is told so before it serves."""
    async with exposed("127.0.0.1:0", registry(metrics)) as address:
        with pytest.raises(PortTakenError, match=f"cannot listen on {address} for metrics"):
            async with exposed(address, registry(metrics)):
                pass
