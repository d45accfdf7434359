"""What a gateway tells Prometheus: who got which exposure, what it cost, and whether probabilities are true.

Of the accounts that all gateways share, each tells what it knows, so they are not to be summed over gateways; everything named `_total`
is this process' own and is. Whether predicted probabilities came true live cannot be told before feedback arrives; until then
`longtail_predicted_probability_sum_total` over `…_count_total` shows their drift, and `longtail_calibration_ratio` what training measured.
Knows neither gRPC nor HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ranking.auction.pacing import multiplier
from ranking.fairness.amortised import Account, delivered, prices
from ranking.fairness.groups import ListGroups
from ranking.fairness.policy import OTHER, FairnessPolicy
from ranking.release import Release
from ranking.types import Ranking, RankRequest
from services.gateway.ledger.ledger import Ledger
from services.gateway.ledger.store import Key

GROUPS = 100
"""Groups of one attribute told apart; those that come after are told as `OTHER`."""
_SERVED = "blend"  # whose calibration counts, among the rankers a release has metrics of

_LIST = ("surface", "policy", "mode")
_GROUP = ("surface", "policy", "attribute", "group")
_BUDGET = ("policy", "attribute", "advertiser")


@dataclass(slots=True)
class _Policy:
    """Sums over the lists of one (surface, policy, mode)."""

    lists: int = 0
    utility: float = 0.0
    given_up: float = 0.0
    groups: dict[tuple[str, str], _Group] = field(default_factory=dict)  # (attribute, group), folded or not


@dataclass(slots=True)
class _Group:
    """Sums over the lists of one group; groups that are told as one share it."""

    lists: int = 0
    promised: float = 0.0
    delivered: float = 0.0
    shortfall: int = 0
    predicted: float = 0.0
    results: int = 0


class Metrics(Collector):
    """Sums over this process' answers, and a view of the ledger and the active release; collected on any thread."""

    def __init__(self, ledger: Ledger, active: Callable[[], Release | None]) -> None:
        """Nothing is counted yet.

        Args:
            ledger: of this process.
            active: the active release, if there is one.
        """
        self._ledger = ledger
        self._active = active
        self._policies: dict[tuple[str, str, str], _Policy] = {}
        self._groups: dict[Key, _Group] = {}  # by the name they are told as
        self._told: dict[tuple[str, str, str], dict[str, str]] = {}  # (surface, policy, attribute) -> group -> the name it is told as
        self._naming = threading.Lock()

    def observe(self, request: RankRequest, ranking: Ranking, policy: FairnessPolicy, groups: Sequence[ListGroups]) -> None:
        """Count one answer: about a microsecond per group.

        Args:
            request: what was asked.
            ranking: the answer, k results.
            policy: it was made with.
            groups: (k,) groups of the results, one per rule.
        """
        surface = request.surface.value
        own = self._policies.get((surface, policy.name, policy.mode))
        if own is None:
            own = self._policies[surface, policy.name, policy.mode] = _Policy()
        own.lists += 1
        if ranking.fairness is not None:
            own.utility += ranking.fairness.utility
            own.given_up += max(ranking.fairness.utility_before - ranking.fairness.utility, 0.0)
        returned = {} if policy.mode == "enforce" else _returned(ranking, groups)
        for line in ranking.exposure:
            group = own.groups.get((line.attribute, line.group)) or self._group(own, surface, policy.name, line.attribute, line.group)
            group.lists += 1
            group.promised += line.target_share
            group.delivered += returned.get((line.attribute, line.group), line.exposure)
            group.shortfall += line.shortfall
        for rule in groups:
            sums = np.bincount(rule.codes, weights=ranking.probabilities, minlength=len(rule.names)).tolist()
            for name, predicted, results in zip(rule.names, sums, np.bincount(rule.codes, minlength=len(rule.names)).tolist(), strict=True):
                if results:
                    group = own.groups.get((rule.attribute, name)) or self._group(own, surface, policy.name, rule.attribute, name)
                    group.predicted += predicted
                    group.results += results

    def _group(self, own: _Policy, surface: str, policy: str, attribute: str, name: str) -> _Group:
        told = Key(surface, policy, attribute, self._name((surface, policy, attribute), name))
        group = own.groups[attribute, name] = self._groups.setdefault(told, _Group())
        return group

    def _name(self, among: tuple[str, str, str], group: str) -> str:
        """What a group is told as: itself, if it is `OTHER` or among the first `GROUPS` of its attribute."""
        told = self._told.setdefault(among, {OTHER: OTHER})
        name = told.get(group)
        if name is None:
            with self._naming:  # a scrape names groups too, on its own thread
                name = told.setdefault(group, group if len(told) <= GROUPS else OTHER)
        return name

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        release = self._active()
        yield from self._lists()
        yield from self._own_groups()
        yield from self._shared_groups(release)
        yield from self._budgets(release)
        yield from self._calibration(release)
        ledger = self._ledger
        yield CounterMetricFamily(
            "longtail_ledger_sync_failures", "Exchanges with the store of shared exposure that failed", value=ledger.failures
        )
        yield GaugeMetricFamily("longtail_ledger_stale_seconds", "Since shared exposure was last exchanged", value=ledger.stale_s)

    def _lists(self) -> Iterator[Metric]:
        sums = list(self._policies.items())
        yield _counter("longtail_rankings", "Lists ranked", _LIST, ((labels, p.lists) for labels, p in sums))
        yield _counter(
            "longtail_utility",
            "Discounted score of the lists as the policy orders them: probabilities on search, currency micros on ads",
            _LIST,
            ((labels, p.utility) for labels, p in sums),
        )
        yield _counter(
            "longtail_utility_given_up",
            "Discounted score that the policy cost the lists, or with report_only would cost; its ratio is to itself plus longtail_utility",
            _LIST,
            ((labels, p.given_up) for labels, p in sums),
        )

    def _own_groups(self) -> Iterator[Metric]:
        sums = list(self._groups.items())
        values: tuple[tuple[str, str, Callable[[_Group], float]], ...] = (
            ("longtail_group_lists", "Lists in which the group was counted", lambda g: g.lists),
            ("longtail_exposure_promised", "Exposure its floors promised the group, in lists", lambda g: g.promised),
            ("longtail_exposure_delivered", "Exposure the group got on the lists as returned, in lists", lambda g: g.delivered),
            ("longtail_floor_shortfall_places", "Places that floors asked for and candidates could not fill", lambda g: g.shortfall),
            ("longtail_predicted_probability_sum", "Sum of the results' calibrated probabilities", lambda g: g.predicted),
            ("longtail_predicted_probability_count", "Results in that sum", lambda g: g.results),
        )
        for name, text, value in values:
            yield _counter(name, text, _GROUP, ((labels, value(group)) for labels, group in sums))

    def _shared_groups(self, release: Release | None) -> Iterator[Metric]:
        told: dict[tuple[str, ...], list[tuple[Account, float | None]]] = {}
        for among, known in groupby(sorted(self._ledger.exposure.items()), lambda item: item[0][:3]):
            keys, accounts = zip(*known, strict=True)
            for key, account, price in zip(keys, accounts, _prices(release, among[1], accounts), strict=True):
                told.setdefault((*among, self._name(among, key.group)), []).append((account, price))
        lists = {labels: max(sum(a.lists for a, _ in of), 1e-300) for labels, of in told.items()}
        yield _gauge(
            "longtail_exposure_share",
            "Share of exposure the group got, or with report_only would have, of all gateways; of policies that keep shares over time",
            _GROUP,
            ((labels, sum(a.got for a, _ in of) / lists[labels]) for labels, of in told.items()),
        )
        yield _gauge(
            "longtail_exposure_target",
            "Share of exposure it was promised on them",
            _GROUP,
            ((labels, sum(a.target for a, _ in of) / lists[labels]) for labels, of in told.items()),
        )
        yield _gauge(
            "longtail_exposure_debt_lists",
            "Exposure owed to the group, in lists; negative: it got more. Of groups told as one the largest",
            _GROUP,
            ((labels, max(a.debt for a, _ in of)) for labels, of in told.items()),
        )
        yield _gauge(
            "longtail_exposure_price",
            "Added to the scores of the group's candidates, where the policy keeps shares over time. Of groups told as one the largest",
            _GROUP,
            ((labels, max(p for _, p in of if p is not None)) for labels, of in told.items() if any(p is not None for _, p in of)),
        )

    def _budgets(self, release: Release | None) -> Iterator[Metric]:
        told: dict[tuple[str, str, str], list[tuple[float, float, float]]] = {}  # spent, multiplier, budget
        for key, _ in self._ledger.spend.items():  # noqa: PERF102 - a book is no dictionary
            budget = _budget(release, key)
            if budget is not None:
                (state,) = self._ledger.spends([key], [budget])
                name = self._name(("budget", key.policy, key.attribute), key.group)
                told.setdefault((key.policy, key.attribute, name), []).append((state.spent, multiplier(state, budget), budget))
        for metric, text, fold, column in (
            ("longtail_budget_spent_micros", "Expected spending since the advertiser's day began", sum, 0),
            ("longtail_budget_multiplier", "What its bids are multiplied by; of advertisers told as one the least", min, 1),
            ("longtail_budget_daily_micros", "What it may spend in a day", sum, 2),
        ):
            yield _gauge(metric, text, _BUDGET, ((labels, fold(o[column] for o in of)) for labels, of in told.items()))

    def _calibration(self, release: Release | None) -> Iterator[Metric]:
        found = [] if release is None else list(_ratios(release.metrics))
        yield _gauge("longtail_release_info", "The active release", ("release",), [] if release is None else [((release.id,), 1.0)])
        for i, (suffix, what) in enumerate((("", ""), ("_low", "; low end of its interval"), ("_high", "; high end of its interval"))):
            yield _gauge(
                f"longtail_calibration_ratio{suffix}",
                f"Sum of predicted probabilities over outcomes when the active release was measured{what}",
                ("surface", "split", "group"),
                ((labels, interval[i]) for labels, interval in found),
            )


def registry(*metrics: Collector) -> CollectorRegistry:
    """What one gateway exposes: its metrics, and its process' time and memory."""
    own = CollectorRegistry()
    for some in metrics:
        own.register(some)
    ProcessCollector(registry=own)
    return own


def _returned(ranking: Ranking, groups: Sequence[ListGroups]) -> dict[tuple[str, str], float]:
    """(attribute, group) -> share of the page's exposure on a list that is not as its report says."""
    out: dict[tuple[str, str], float] = {}
    for rule in groups:
        page = sum(line.count for line in ranking.exposure if line.attribute == rule.attribute)
        out.update(zip(((rule.attribute, name) for name in rule.names), delivered(rule, np.arange(page)).tolist(), strict=True))
    return out


def _prices(release: Release | None, policy: str, accounts: Sequence[Account]) -> Sequence[float | None]:
    """(g,) prices of a rule's groups under the active release's policy; None where it keeps no shares over time."""
    found = None if release is None else release.policies.get(policy)
    if found is None or found.scope == "list":
        return [None] * len(accounts)
    return [float(price) for price in prices(accounts, found.controller)]


def _budget(release: Release | None, key: Key) -> float | None:
    policy = None if release is None else release.policies.get(key.policy)
    if policy is None or policy.pacing is None or policy.pacing.attribute != key.attribute:
        return None
    return policy.pacing.daily_budget_micros.get(key.group)


def _ratios(metrics: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], Sequence[float]]]:
    """(surface, split, group) and the ratio with its interval, of what was measured and could be."""
    for split in ("validation", "test"):  # what else a release says of its metrics is no table
        for surface, rankers in metrics.get(split, {}).items():
            for group, measured in rankers.get(_SERVED, {}).items():
                interval = measured.get("predicted_over_actual")
                if interval is not None and None not in interval:
                    yield (surface, split, group), interval


def _counter(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family
