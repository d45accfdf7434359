"""Shares of exposure over a day of lists, simulated: what each way of keeping them gives up, and what it fails to keep.

A day is T lists of 60 candidates, 10 of them shown, in 4 groups that hold 40, 30, 20 and 10 % of all candidates. Each group is promised
95 % of its share of each list's candidates, counted in exposure over the day. A score is max(0, normal) with a mean per group: group d is
scored far lower than the others, and on a drifted day even lower. Prices that start warm were learned on the day before, an
undrifted one; so `drift` says what they are worth when the world has moved, and `midday` when it moves at noon.

Figures of an arm, each with its mean and extremes over the seeds:

- utility: Σ score × exposure, in percent of the arm's own bound: the most that any ranking of these lists could have had with all its
  promises kept in the aggregate, by linear programming duality (at noon: of each half). Over 100: a promise was not kept.
- shortfall: exposure that the worst group lacks at the end of the day, in percentage points.
- deficit: exposure that the worst group lacked at its worst moment, in lists.

FairCo promises parity with the candidates' shares, the others 95 % of it; so its bound and its deficit are those of parity.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from ranking.fairness.amortised import Account, Delta, prices, settle
from ranking.fairness.exposure import discounts
from ranking.fairness.floors import rank_with_floors
from ranking.fairness.policy import Controller
from ranking.types import FloatArray, IntArray

SEEDS = (0, 1, 2, 3, 4)
LISTS = 4_000
CANDIDATES = 60
PLACES = 10
SHARES = np.array([0.4, 0.3, 0.2, 0.1])  # of the candidates
KEPT = 0.95  # of a group's share of the candidates, the floor
# Chosen once, so that FairCo, warm dual and frozen prices stand near their published figures; then left alone.
USUAL = np.array([0.26, 0.23, 0.18, 0.055])  # mean scores
DRIFTED = np.array([0.26, 0.21, 0.13, -0.045])
SPREAD = 0.16
REPLICAS = 3
LISTS_BETWEEN_EXCHANGES = 25  # of one gateway: 50 lists a second, an exchange every half second
LISTS_BETWEEN_SYNCS = 100  # of one replica: 50 lists a second, an exchange every 2 s

_GROUPS = len(SHARES)
_WEIGHTS = discounts(PLACES) / discounts(PLACES).sum()


@dataclass(frozen=True, slots=True)
class Day:
    """T lists, and the group shares of their candidates."""

    scores: FloatArray  # (T, n)
    codes: IntArray  # (T, n)
    share: FloatArray  # (T, g)

    def part(self, lists: slice) -> Day:
        return Day(self.scores[lists], self.codes[lists], self.share[lists])


@dataclass(frozen=True, slots=True)
class Served:
    """What an arm made of a day."""

    utility: FloatArray  # (T,)
    exposure: FloatArray  # (T, g)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure over the seeds."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How one arm did; see the module."""

    utility_pct: Figure
    shortfall_pp: Figure
    deficit_lists: Figure


class Pricing(Protocol):
    """A way of setting prices; sees each list's promise and outcome after it has been served."""

    def prices(self) -> FloatArray:
        """(g,) added to the scores."""

    def settle(self, target: FloatArray, got: FloatArray) -> None:
        """(g,) shares of exposure promised and delivered on the list just served."""


class Dual:
    """Plain dual descent: the price moves by `step` times what the list fell short."""

    def __init__(self, start: FloatArray, step: float = 0.1) -> None:
        self._price = start
        self._step = step

    def prices(self) -> FloatArray:
        return self._price

    def settle(self, target: FloatArray, got: FloatArray) -> None:
        self._price = np.maximum(0.0, self._price + self._step * (target - got))


class Accounts:
    """The controllers of `ranking.fairness.amortised`."""

    def __init__(self, controller: Controller, start: FloatArray) -> None:
        """New accounts, whose slow prices are known already."""
        self.controller = controller
        self.accounts = [Account(level=level) for level in start.tolist()]

    def prices(self) -> FloatArray:
        return prices(self.accounts, self.controller)

    def settle(self, target: FloatArray, got: FloatArray) -> None:
        self.count(deltas(target, got))

    def count(self, deltas: Sequence[Delta]) -> None:
        """Settle one list or several."""
        self.accounts = [settle(account, delta, self.controller) for account, delta in zip(self.accounts, deltas, strict=True)]


class Restarted(Accounts):
    """The same, killed every 1,000 lists: it goes on from what the store had, without the lists since the last exchange."""

    def __init__(self, controller: Controller, start: FloatArray) -> None:
        super().__init__(controller, start)
        self._stored = list(self.accounts)
        self._lists = 0

    def settle(self, target: FloatArray, got: FloatArray) -> None:
        super().settle(target, got)
        self._lists += 1
        if self._lists % LISTS_BETWEEN_EXCHANGES == 0:
            self._stored = list(self.accounts)
        elif self._lists % 1_000 == LISTS_BETWEEN_EXCHANGES - 1:  # at the worst moment
            self.accounts = [Account(**asdict(account)) for account in self._stored]


class Replicated:
    """Several gateways that each serve some of the lists and know of the others' only what they exchanged with the store last."""

    def __init__(self, controller: Controller, start: FloatArray, rng: np.random.Generator, replicas: int = REPLICAS) -> None:
        self._rng = rng
        self._store = Accounts(controller, start)
        self._views = [Accounts(controller, start) for _ in range(replicas)]
        self._waiting = [deltas(np.zeros(_GROUPS), np.zeros(_GROUPS), lists=0.0)] * replicas
        self._lists = 0
        self._now = 0

    def prices(self) -> FloatArray:
        self._now = int(self._rng.integers(len(self._views)))
        return self._views[self._now].prices()

    def settle(self, target: FloatArray, got: FloatArray) -> None:
        done = deltas(target, got)
        self._views[self._now].count([delta * len(self._views) for delta in done])  # the others do as much meanwhile
        self._waiting[self._now] = [a + b for a, b in zip(self._waiting[self._now], done, strict=True)]
        self._lists += 1
        turn, left = divmod(self._lists, LISTS_BETWEEN_SYNCS)
        if left == 0:
            self._exchange(turn % len(self._views))

    def _exchange(self, replica: int) -> None:
        self._store.count(self._waiting[replica])
        self._waiting[replica] = deltas(np.zeros(_GROUPS), np.zeros(_GROUPS), lists=0.0)
        self._views[replica].accounts = list(self._store.accounts)


def deltas(target: FloatArray, got: FloatArray, lists: float = 1.0) -> list[Delta]:
    """(g,) what one list did for each group."""
    return [Delta(lists, t, e) for t, e in zip(target.tolist(), got.tolist(), strict=True)]


def draw(rng: np.random.Generator, means: FloatArray, lists: int) -> Day:
    """A day whose groups score `means` (g,) on average."""
    codes = np.searchsorted(np.cumsum(SHARES)[:-1], rng.random((lists, CANDIDATES)), side="right")
    scores = np.maximum(0.0, means[codes] + SPREAD * rng.standard_normal(codes.shape))
    return Day(scores, codes, _per_group(codes, np.full(CANDIDATES, 1.0 / CANDIDATES)))


def serve(day: Day, target: FloatArray, pricing: Pricing) -> Served:
    """Rank list after list by score + price, and settle each."""
    utility, exposure = np.empty(len(day.scores)), np.empty((len(day.scores), _GROUPS))
    for t, (scores, codes) in enumerate(zip(day.scores, day.codes, strict=True)):
        ranked = scores + pricing.prices()[codes]
        page = np.argpartition(-ranked, PLACES)[:PLACES]
        page = page[np.argsort(-ranked[page])]
        utility[t] = scores[page] @ _WEIGHTS
        exposure[t] = np.bincount(codes[page], weights=_WEIGHTS, minlength=_GROUPS)
        pricing.settle(target[t], exposure[t])
    return Served(utility, exposure)


def serve_fixed(day: Day, price: FloatArray) -> Served:
    """All lists by score + the same prices."""
    ranked = -(day.scores + price[day.codes])
    page = np.argpartition(ranked, PLACES, axis=1)[:, :PLACES]
    page = np.take_along_axis(page, np.argsort(np.take_along_axis(ranked, page, 1), axis=1), 1)
    return _served(day, page)


def serve_quotas(day: Day) -> Served:
    """Exact floors on each list by itself, for the shares of all lists together."""
    floors = KEPT * SHARES
    return _served(day, np.stack([rank_with_floors(s, c, floors, PLACES).order for s, c in zip(day.scores, day.codes, strict=True)]))


def optimum(day: Day, target: FloatArray) -> tuple[float, FloatArray]:
    """The most utility per list with the promises kept in the aggregate, in hindsight, and the prices that reach it.

    By weak duality max_π U(π, λ) - λ · target is a bound for every λ ≥ 0; the lowest found is returned, so a search that stops early
    makes the bound higher, never wrong.
    """
    price, step = np.zeros(_GROUPS), np.full(_GROUPS, 0.6)
    best, found, last = np.inf, price, np.zeros(_GROUPS)
    for _ in range(30):
        served = serve_fixed(day, price)
        short = (target - served.exposure).mean(axis=0)
        bound = float(served.utility.mean() - price @ short)
        if bound < best:
            best, found = bound, price
        step = np.where(short * last < 0.0, step / 2.0, step)
        price, last = np.maximum(0.0, price + step * short), short
    return best, found


def measure(served: Served, target: FloatArray, bound: float) -> tuple[float, float, float]:
    """Utility in percent of the bound, shortfall in percentage points, worst deficit in lists."""
    owed = np.cumsum(target - served.exposure, axis=0)
    return 100.0 * served.utility.mean() / bound, 100.0 * max(0.0, owed[-1].max()) / len(target), max(0.0, owed.max())


def simulate(seeds: Sequence[int] = SEEDS, lists: int = LISTS, controller: Controller | None = None) -> dict[str, dict[str, Figures]]:
    """All arms on all days: scenario (`same`, `drift`, `midday`) -> arm -> figures.

    Args:
        seeds: one day before, and one day per scenario, for each.
        lists: of a day.
        controller: ours; default: a policy's default.
    """
    rows: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        eve = draw(rng, USUAL, lists)
        _, warm = optimum(eve, KEPT * eve.share)
        usual, drifted = draw(rng, USUAL, lists), draw(rng, DRIFTED, lists)
        for scenario, phases in _scenarios(usual, drifted).items():
            for arm, row in _arms(phases, warm, controller or Controller(), rng).items():
                rows.setdefault(scenario, {}).setdefault(arm, []).append(row)
    return {scenario: {arm: Figures(*map(_figure, zip(*of, strict=True))) for arm, of in arms.items()} for scenario, arms in rows.items()}


def controller_us(lists: int = LISTS, controller: Controller | None = None) -> float:
    """Microseconds of processor per list for reading prices and settling the accounts; the median of some stretches of lists."""
    arm, rng = Accounts(controller or Controller(), np.zeros(_GROUPS)), np.random.default_rng(0)
    target, got, took = KEPT * SHARES, rng.dirichlet(10.0 * SHARES, lists), []
    for stretch in np.array_split(got, 20):
        started = time.thread_time()
        for row in stretch:
            arm.prices()
            arm.settle(target, row)
        took.append((time.thread_time() - started) / max(len(stretch), 1))
    return 1e6 * float(np.median(took))


def table(results: Mapping[str, Mapping[str, Figures]]) -> str:
    """The figures as text, mean and, in brackets, the worst seed."""
    lines = [f"{'':8}{'arm':18}{'utility %':>18}{'shortfall pp':>18}{'deficit, lists':>18}"]
    for scenario, arms in results.items():
        for arm, f in arms.items():
            cells = (
                f"{f.utility_pct.mean:.2f} ({f.utility_pct.low:.2f})",
                f"{f.shortfall_pp.mean:.3f} ({f.shortfall_pp.high:.3f})",
                f"{f.deficit_lists.mean:.2f} ({f.deficit_lists.high:.2f})",
            )
            lines.append(f"{scenario:8}{arm:18}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def _scenarios(usual: Day, drifted: Day) -> dict[str, tuple[Day, ...]]:
    noon = len(usual.scores) // 2
    return {"same": (usual,), "drift": (drifted,), "midday": (usual.part(slice(noon)), drifted.part(slice(noon, None)))}


def _arms(
    phases: Sequence[Day], warm: FloatArray, controller: Controller, rng: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    day = Day(*(np.concatenate(columns) for columns in zip(*((p.scores, p.codes, p.share) for p in phases), strict=True)))
    weight = [len(p.scores) / len(day.scores) for p in phases]
    floors, cold = KEPT * day.share, np.zeros(_GROUPS)
    bound, parity = (sum(w * optimum(p, kept * p.share)[0] for w, p in zip(weight, phases, strict=True)) for kept in (KEPT, 1.0))
    arms: dict[str, Callable[[], Pricing]] = {
        "dual warm": lambda: Dual(warm),
        "dual cold": lambda: Dual(cold),
        "longtail warm": lambda: Accounts(controller, warm),
        "longtail cold": lambda: Accounts(controller, cold),
        "longtail restarts": lambda: Restarted(controller, warm),
        "longtail replicas": lambda: Replicated(controller, warm, rng),
    }
    return {
        "score only": measure(serve_fixed(day, cold), floors, bound),
        "list quotas": measure(serve_quotas(day), floors, bound),
        "frozen": measure(serve_fixed(day, warm), floors, bound),
        "fairco": measure(serve(day, day.share, Accounts(Controller("fairco", 0.01), cold)), day.share, parity),
        **{name: measure(serve(day, floors, arm()), floors, bound) for name, arm in arms.items()},
    }


def _served(day: Day, page: IntArray) -> Served:
    return Served(np.take_along_axis(day.scores, page, 1) @ _WEIGHTS, _per_group(np.take_along_axis(day.codes, page, 1), _WEIGHTS))


def _per_group(codes: IntArray, weights: FloatArray) -> FloatArray:
    """(T, g) sums of `weights` (k,) over the (T, k) entries of each group."""
    return np.stack([(codes == g) @ weights for g in range(_GROUPS)], axis=1)


def _figure(values: Sequence[float]) -> Figure:
    return Figure(float(np.mean(values)), float(np.min(values)), float(np.max(values)))


if __name__ == "__main__":
    print(table(simulate()))
