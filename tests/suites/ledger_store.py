"""What every `LedgerStore` must do; the fake passes what the real ones pass."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ranking.auction.pacing import Spend, settle_spend
from ranking.fairness.amortised import Account, Delta, settle
from ranking.fairness.policy import Controller
from services.gateway.ledger.store import EXPOSURE, SPEND, Entry, Key, LedgerStore
from tests.services.ledger_fakes import Clock

CONTROLLER = Controller(gain=0.1, debt_bound=4.0)
TAIL = Key("search", "default", "popularity_tier", "tail")
ODD = Key("ads", "a b", "seller", 'Ünï "x":,\n')
SELLER = Key("ads", "default", "seller", "acme")


def exposure(key: Key, target: float, got: float) -> Entry:
    return Entry(EXPOSURE, key, Delta(1.0, target, got), CONTROLLER)


def account(*deltas: Delta) -> Account:
    """What a lone writer's deltas settle to."""
    state = Account()
    for delta in deltas:
        state = settle(state, delta, CONTROLLER)
    return state


Opener = Callable[[], LedgerStore]


class LedgerStoreSuite:
    """Subclasses give `clock` and `opener`, whose stores all share one place that is empty at first."""

    def test_an_empty_store_knows_nothing(self, opener: Opener) -> None:
        """Revision 0 and no account."""
        assert opener().changes(0) == (0, {})

    def test_what_is_added_is_there_for_others(self, opener: Opener) -> None:
        """Another connection reads what the pure settle gives, whatever characters a key is made of."""
        opener().add("r", 1, [exposure(TAIL, 0.3, 0.1), exposure(ODD, 0.25, 0.5)])
        rows = opener().changes(0).rows
        assert {key: row.state for key, row in rows.items()} == {
            ("exposure", TAIL): account(Delta(1.0, 0.3, 0.1)),
            ("exposure", ODD): account(Delta(1.0, 0.25, 0.5)),
        }

    def test_a_batch_counts_once(self, opener: Opener) -> None:
        """The same (replica, sequence) again, and an older one, change nothing; the next, and another replica's, do."""
        store = opener()
        for replica, sequence in (("r", 1), ("r", 1), ("r", 2), ("r", 1), ("other", 1)):
            store.add(replica, sequence, [exposure(TAIL, 0.3, 0.1)])
        opener().add("r", 2, [exposure(TAIL, 0.3, 0.1)])
        assert store.changes(0).rows["exposure", TAIL].state.lists == 3.0

    def test_changes_since_a_revision(self, opener: Opener) -> None:
        """Only accounts changed after the revision come, and the revision rises with every batch."""
        store = opener()
        store.add("r", 1, [exposure(TAIL, 0.3, 0.1)])
        first = store.changes(0).revision
        assert store.changes(first) == (first, {})
        store.add("r", 2, [exposure(ODD, 0.3, 0.1)])
        later = store.changes(first)
        assert later.revision > first
        assert set(later.rows) == {("exposure", ODD)}
        assert set(store.changes(0).rows) == {("exposure", TAIL), ("exposure", ODD)}

    def test_kinds_do_not_mix(self, opener: Opener) -> None:
        """One key may have an account of exposure and one of spending."""
        store = opener()
        store.add("r", 1, [exposure(SELLER, 0.3, 0.1), Entry(SPEND, SELLER, 5000.0, 1e6)])
        rows = store.changes(0).rows
        assert rows["exposure", SELLER].state == account(Delta(1.0, 0.3, 0.1))
        assert rows["spend", SELLER].state == settle_spend(Spend(), 5000.0, 0.0, 1e6)

    def test_time_between_settlements_counts_once(self, opener: Opener, clock: Clock) -> None:
        """A state is settled for the time since anybody settled it, and its age is told to readers."""
        one, two = opener(), opener()
        one.add("one", 1, [Entry(SPEND, SELLER, 5000.0, 1e6)])
        clock.now += 60.0
        two.add("two", 1, [Entry(SPEND, SELLER, 7000.0, 1e6)])
        clock.now += 30.0
        one.add("one", 2, [Entry(SPEND, SELLER, 1000.0, 1e6)])
        clock.now += 7.0
        row = two.changes(0).rows["spend", SELLER]
        wanted = settle_spend(settle_spend(settle_spend(Spend(), 5000.0, 0.0, 1e6), 7000.0, 60.0, 1e6), 1000.0, 30.0, 1e6)
        assert row == (wanted, 7.0)

    def test_a_batch_that_cannot_be_settled_changes_nothing(self, opener: Opener) -> None:
        """All entries count or none, and the store goes on."""
        store = opener()
        with pytest.raises(ValueError, match="spend_micros"):
            store.add("r", 1, [exposure(TAIL, 0.3, 0.1), Entry(SPEND, SELLER, -1.0, 1e6)])
        assert store.changes(0) == (0, {})
        store.add("r", 1, [exposure(TAIL, 0.3, 0.1)])
        assert store.changes(0).rows["exposure", TAIL].state.lists == 1.0

    def test_writers_at_once_lose_nothing(self, opener: Opener) -> None:
        """Threads with a connection each: every list of each is counted."""
        writers, batches = 4, 25

        def write(replica: int) -> None:
            store = opener()
            for sequence in range(1, batches + 1):
                store.add(str(replica), sequence, [exposure(TAIL, 0.5, 0.25), exposure(ODD, 0.25, 0.5)])
            store.close()

        with ThreadPoolExecutor(writers) as pool:
            list(pool.map(write, range(writers)))
        rows = opener().changes(0).rows
        for key, target, got in ((TAIL, 0.5, 0.25), (ODD, 0.25, 0.5)):
            state = rows["exposure", key].state
            lists = writers * batches
            assert (state.lists, state.target, state.got) == (lists, lists * target, lists * got)  # exact: quarters

    def test_a_closed_store_opens_again(self, opener: Opener) -> None:
        """Closing forgets nothing, and a call after it works."""
        store = opener()
        store.add("r", 1, [exposure(TAIL, 0.3, 0.1)])
        store.close()
        store.add("r", 1, [exposure(TAIL, 0.3, 0.1)])
        assert store.changes(0).rows["exposure", TAIL].state.lists == 1.0
