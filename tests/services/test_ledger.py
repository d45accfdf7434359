"""The ledger of one gateway: its own lists at once, those of others after an exchange, and nothing lost or counted twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ranking.auction.pacing import DAY_S, Spend, settle_spend
from ranking.errors import Unavailable
from ranking.fairness.amortised import Account, Delta, settle
from ranking.fairness.policy import Controller
from services.gateway.ledger.ledger import Ledger
from services.gateway.ledger.sqlite import SqliteStore
from services.gateway.ledger.store import Key, LedgerStore, keys_of
from tests.services.ledger_fakes import Clock, Place, eventually

CONTROLLER = Controller()
KEYS = keys_of("search", "default", "popularity_tier", ("head", "tail", "new"))
HEAD, TAIL, NEW = KEYS
SELLER = Key("ads", "default", "seller", "acme")
ONE = Delta(1.0, 0.5, 0.25)
NEVER_S = 1e6  # exchanges happen when a test says so


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def place(clock: Clock) -> Place:
    return Place(clock)


def ledger(place: Callable[[], LedgerStore], clock: Clock, sync_s: float = NEVER_S) -> Ledger:
    return Ledger(place(), sync_s=sync_s, clock=clock)


def settled(lists: int, delta: Delta = ONE) -> Account:
    account = Account()
    for _ in range(lists):
        account = settle(account, delta, CONTROLLER)
    return account


def counted(account: Account) -> tuple[float, float, float]:
    return account.lists, account.target, account.got


async def test_own_lists_count_at_once(place: Place, clock: Clock) -> None:
    """What was recorded is in the next list's accounts, settled list by list, before any exchange; unknown groups are zero."""
    here = ledger(place, clock)
    for _ in range(3):
        here.record({TAIL: ONE}, CONTROLLER)
    assert here.accounts(KEYS) == (Account(), settled(3), Account())
    assert place.batches == []
    await here.close()


async def test_an_exchange_brings_what_others_served(place: Place, clock: Clock) -> None:
    """After both have reported and read, both know all lists."""
    one, two = ledger(place, clock), ledger(place, clock)
    one.record({TAIL: ONE}, CONTROLLER)
    two.record({TAIL: ONE, HEAD: ONE}, CONTROLLER)
    for each in (one, two, one):
        assert await each.sync()
    assert one.accounts(KEYS) == two.accounts(KEYS) == (settled(1), settled(2), Account())
    for each in (one, two):
        await each.close()


async def test_one_of_several_pays_its_share_of_a_debt(place: Place, clock: Clock) -> None:
    """Once it has heard that all serve three lists to one of its own, a list of its own counts three times here, and once in the store."""
    all_three = [ledger(place, clock) for _ in range(3)]
    for _ in range(30):
        for each in all_three:
            each.record({TAIL: ONE}, CONTROLLER)
        for each in all_three:
            assert await each.sync()
    before = all_three[2].accounts([TAIL])[0]  # the last to exchange: it knows all lists
    assert before.lists == 90
    all_three[2].record({TAIL: ONE}, CONTROLLER)
    after = all_three[2].accounts([TAIL])[0]
    assert counted(after) == pytest.approx([old + 3 * new for old, new in zip(counted(before), (1.0, 0.5, 0.25), strict=True)], rel=1e-3)
    assert await all_three[2].sync()
    assert all_three[2].accounts([TAIL])[0].lists == 91
    for each in all_three:
        await each.close()


async def test_lists_between_exchanges_travel_as_one_delta(place: Place, clock: Clock) -> None:
    """Many lists cost one entry per group."""
    here = ledger(place, clock)
    for _ in range(100):
        here.record({TAIL: ONE, HEAD: ONE}, CONTROLLER)
    await here.sync()
    (batch,) = place.batches
    assert {entry.key: entry.delta for entry in batch[2]} == dict.fromkeys((TAIL, HEAD), Delta(100.0, 50.0, 25.0))
    await here.close()
    assert len(place.batches) == 1  # nothing was left to send


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_failed_exchange_is_repeated_and_counts_once(place: Place, clock: Clock, when: str) -> None:
    """Whether or not the store had done it, in the end every list is counted once, also those recorded meanwhile."""
    here = ledger(place, clock)
    here.record({TAIL: ONE}, CONTROLLER)
    place.down = when
    for _ in range(3):
        assert not await here.sync()
        here.record({TAIL: ONE}, CONTROLLER)
    assert counted(here.accounts([TAIL])[0]) == (4.0, 2.0, 1.0)
    place.down = ""
    assert await here.sync()
    assert counted(here.accounts([TAIL])[0]) == (4.0, 2.0, 1.0)
    await here.close()
    assert counted(place.accounts["exposure", TAIL][0]) == (4.0, 2.0, 1.0)


async def test_a_store_that_is_down_is_reported_and_serving_goes_on(place: Place, clock: Clock) -> None:
    """The last accounts stay, the degradation says why and how old they are, and both end with the next exchange."""
    here = ledger(place, clock)
    here.record({TAIL: ONE}, CONTROLLER)
    await here.sync()
    assert (here.degradation, here.problem, here.failures) == (None, "", 0)
    place.down = "before"
    clock.now += 12.5
    await here.sync()
    assert here.stale_s == 12.5
    found = here.degradation
    assert found is not None
    assert (found.component, found.reason) == ("exposure", "UNAVAILABLE")
    assert "down before it was done" in found.detail
    assert "12.5 s ago" in found.detail
    assert here.accounts([TAIL]) == (settled(1),)
    assert here.failures == 1
    place.down = ""
    await here.sync()
    assert (here.degradation, here.stale_s) == (None, 0.0)
    await here.close()


async def test_a_restart_is_warm(place: Place, clock: Clock) -> None:
    """What was recorded before a stop is read before the next start returns."""
    before = ledger(place, clock)
    before.record({TAIL: ONE}, CONTROLLER)
    await before.close()
    after = ledger(place, clock)
    await after.start(10.0)
    assert after.accounts([TAIL]) == (settled(1),)
    await after.close()


async def test_a_start_without_the_store_is_cold_and_says_so(place: Place, clock: Clock) -> None:
    """A store that fails, or hangs, holds a start up no longer than told; once it answers the accounts are there."""
    seed = ledger(place, clock)
    seed.record({TAIL: ONE}, CONTROLLER)
    await seed.close()

    place.down = "before"
    failing = ledger(place, clock, 0.01)
    await failing.start(10.0)
    assert failing.degradation is not None
    assert "not known here yet" in failing.degradation.detail
    assert failing.accounts([TAIL]) == (Account(),)
    place.down = ""
    await eventually(lambda: not failing.problem)
    assert failing.accounts([TAIL]) == (settled(1),)
    await failing.close()

    place.hold.clear()
    hanging = ledger(place, clock, 0.01)
    await hanging.start(0.05)
    assert "no answer within 0.05 s" in hanging.problem
    hanging.record({TAIL: ONE}, CONTROLLER)
    place.hold.set()
    await eventually(lambda: not hanging.problem)
    assert counted(hanging.accounts([TAIL])[0]) == (2.0, 1.0, 0.5)
    await hanging.close()


async def test_a_stop_sends_what_is_left(place: Place, clock: Clock) -> None:
    """Both a batch whose outcome is not known and what was recorded after it."""
    here = ledger(place, clock)
    here.record({TAIL: ONE}, CONTROLLER)
    place.down = "after"
    await here.sync()
    here.record({TAIL: ONE}, CONTROLLER)
    place.down = ""
    await here.close()
    assert counted(place.accounts["exposure", TAIL][0]) == (2.0, 1.0, 0.5)


async def test_a_stop_does_not_wait_for_a_store_that_is_down(place: Place, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """What could not be sent is logged."""
    here = ledger(place, clock)
    here.record({TAIL: ONE}, CONTROLLER)
    place.hold.clear()
    await here.close(wait_s=0.05)
    assert "ledger_not_sent" in caplog.messages
    place.hold.set()


async def test_a_store_that_was_emptied_is_read_anew(place: Place, clock: Clock) -> None:
    """Accounts the store no longer has are gone here too, and counting goes on from nothing."""
    here = ledger(place, clock)
    for _ in range(3):
        here.record({TAIL: ONE, HEAD: ONE}, CONTROLLER)
        await here.sync()
    place.accounts, place.sequences, place.revision = {}, {}, 0
    here.record({TAIL: ONE}, CONTROLLER)
    await here.sync()
    assert here.accounts(KEYS) == (Account(), settled(1), Account())
    await here.close()


async def test_a_delta_that_is_not_finite_is_refused(place: Place, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged and poisons no account; the list's other groups count."""
    here = ledger(place, clock)
    here.record({TAIL: Delta(1.0, float("nan"), 0.25), HEAD: ONE}, CONTROLLER)
    assert here.accounts(KEYS) == (settled(1), Account(), Account())
    assert "ledger_delta_refused" in caplog.messages
    await here.close()


async def test_spending_follows_the_clock(place: Place, clock: Clock) -> None:
    """An advertiser's account is settled for the time between lists wherever they were served, and read as of now."""
    budget = 1e6
    one, two = ledger(place, clock), ledger(place, clock)
    one.record_spend([(SELLER, 5000.0, budget)])
    await one.sync()
    clock.now += 60.0
    await two.sync()
    two.record_spend([(SELLER, 7000.0, budget)])
    await two.sync()
    clock.now += 30.0
    await one.sync()
    known = settle_spend(settle_spend(Spend(), 5000.0, 0.0, budget), 7000.0, 60.0, budget)
    now = settle_spend(known, 0.0, 30.0, budget)
    assert one.spends([SELLER], [budget]) == two.spends([SELLER], [budget]) == (now,)
    clock.now += DAY_S
    assert one.spends([SELLER], [budget])[0].spent == 0.0  # a new day, though nobody recorded anything
    for each in (one, two):
        await each.close()


def drift(rng: random.Random, lists: int) -> list[dict[Key, Delta]]:
    """Lists whose groups get in turn less and more than promised, in quarters, so that sums are exact."""
    return [{key: Delta(1.0, 0.25, rng.choice((0.0, 0.25, 0.5))) for key in KEYS} for _ in range(lists)]


async def test_three_replicas_know_what_one_would(clock: Clock, place: Place) -> None:
    """Three processes that exchange every 2 s, each on its own schedule, end with one process' accounts.

    Lists, targets and exposure are equal. The debt is too as long as no surplus is forgotten (that depends on the order of the lists),
    and until then a replica misses at most what the others served since it last heard of them.
    """
    far = Controller(debt_bound=1e6)
    rng = random.Random(1)
    lists = drift(rng, 3000)
    alone = ledger(Place(clock), clock)
    replicas = [ledger(place, clock) for _ in range(3)]
    due = [rng.uniform(0.0, 2.0) for _ in replicas]
    began = clock.now
    for i, deltas in enumerate(lists):
        clock.now = began + i * 0.01  # 100 lists a second
        alone.record(deltas, far)
        rng.choice(replicas).record(deltas, far)
        for r, replica in enumerate(replicas):
            if clock.now - began >= due[r]:
                await replica.sync()
                due[r] += 2.0
        missing = alone.accounts([TAIL])[0].lists - replicas[0].accounts([TAIL])[0].lists
        assert 0.0 <= missing <= 2 * 2.0 * 100  # another's batch is at most 2 s old when sent, and read at most 2 s later
    for replica in (*replicas, *replicas):
        await replica.sync()
    for replica in replicas:
        for known, wanted in zip(replica.accounts(KEYS), alone.accounts(KEYS), strict=True):
            assert counted(known) == counted(wanted)
            assert known.debt == wanted.debt
    for each in (alone, *replicas):
        await each.close()


async def test_three_ledgers_over_one_file_on_their_own_schedules(tmp_path: Path) -> None:
    """The same over SQLite, with the background tasks at work while lists come in: nothing is lost or counted twice."""
    replicas = [Ledger(SqliteStore(tmp_path / "exposure.db", busy_s=30.0), sync_s=s) for s in (0.01, 0.02, 0.03)]
    for replica in replicas:
        await replica.start(30.0)
    rng = random.Random(2)
    lists = drift(rng, 600)
    for i, deltas in enumerate(lists):
        rng.choice(replicas).record(deltas, CONTROLLER)
        if i % 10 == 0:
            await asyncio.sleep(0.001)
    for replica in replicas:
        await replica.close(30.0)
    after = Ledger(SqliteStore(tmp_path / "exposure.db"), sync_s=NEVER_S)
    await after.start(30.0)
    for key, account in zip(KEYS, after.accounts(KEYS), strict=True):
        assert counted(account) == (600.0, 150.0, sum(deltas[key].got for deltas in lists))
    await after.close()


class Broken:
    """A store with a mistake in it."""

    def __init__(self) -> None:
        self.mended = False

    def add(self, *_: object) -> None:
        raise Unavailable("never asked here")

    def changes(self, since: int) -> object:
        if not self.mended:
            raise KeyError("a mistake")
        return Place(Clock())().changes(since)

    def close(self) -> None:
        raise RuntimeError("not even this works")


async def test_a_mistake_does_not_end_the_exchanges(caplog: pytest.LogCaptureFixture) -> None:
    """Any exception is reported like a store that is down, logged once while it stays, and the task goes on."""
    store = Broken()
    here = Ledger(store, sync_s=0.001)  # type: ignore[arg-type]
    await here.start(10.0)
    await eventually(lambda: here.failures > 3)
    assert "a mistake" in here.problem
    assert caplog.messages.count("ledger_sync_failed") == 1
    store.mended = True
    await eventually(lambda: not here.problem)
    await here.close()
