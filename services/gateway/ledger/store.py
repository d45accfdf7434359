"""The port behind the ledger: what all gateways share of exposure and spending, whichever store keeps it.

States are frozen dataclasses of floats, settled by pure functions of `ranking`; a store applies them inside its transaction and knows
neither what they mean nor how many fields they have. Knows no SQLite and no Redis.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ranking.auction.pacing import Spend, settle_spend
from ranking.errors import Unavailable
from ranking.fairness.amortised import Account, Delta, settle
from ranking.fairness.policy import Controller

S = TypeVar("S")
D = TypeVar("D")
R = TypeVar("R")

_json = json.JSONEncoder(allow_nan=False).encode  # made once: `json.dumps` with an option makes one for every call


class Key(NamedTuple):
    """Whose account it is. The policy's version is not part of it: what is owed stays owed when the policy changes."""

    surface: str
    policy: str
    attribute: str
    group: str


@lru_cache(4096)
def keys_of(surface: str, policy: str, attribute: str, names: tuple[str, ...]) -> tuple[Key, ...]:
    """(g,) keys of a rule's groups; made once for each set of groups."""
    return tuple(Key(surface, policy, attribute, name) for name in names)


@dataclass(frozen=True, slots=True)
class Kind(Generic[S, D, R]):
    """One sort of account.

    Attributes:
        name: what the store files it under.
        zero: the state nothing has happened to yet.
        settle: (state, delta, rule, seconds since it was last settled) -> state; pure.
        numbers: a delta's; deltas add up by adding these.
        delta: one made of them.
        lists: how many lists an account has counted, the first of a delta's numbers added up; None: its deltas are never scaled.
    """

    name: str
    zero: S
    settle: Callable[[S, D, R, float], S]
    numbers: Callable[[D], tuple[float, ...]]
    delta: Callable[..., D]
    lists: Callable[[S], float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the state's fields."""
        return type(self.zero).__match_args__  # type: ignore[attr-defined, no-any-return]

    def encode(self, state: S) -> str:
        """JSON of the state's fields by name, so that a field more or less does not hurt.

        Raises:
            ValueError: a value is not finite.
        """
        return _json({name: getattr(state, name) for name in self.names})

    def decode(self, text: str | bytes) -> S:
        """The state; fields it lacks are as in `zero`.

        Raises:
            Unavailable: it is no state.
        """
        try:
            found = dict(json.loads(text))
            values = {name: float(found[name]) if name in found else getattr(self.zero, name) for name in self.names}
        except (ValueError, TypeError, AttributeError) as wrong:
            raise Unavailable(f"ledger: holds no {self.name} state but {text[:80]!r}: {wrong}") from None
        return type(self.zero)(**values)


EXPOSURE: Kind[Account, Delta, Controller] = Kind(
    "exposure",
    zero=Account(),
    settle=lambda account, delta, controller, _elapsed_s: settle(account, delta, controller),
    numbers=attrgetter(*(f.name for f in fields(Delta))),
    delta=Delta,
    lists=lambda account: account.lists,
)
"""Exposure owed to a group: `ranking.fairness.amortised`."""
SPEND: Kind[Spend, float, float] = Kind(
    "spend",
    zero=Spend(),
    settle=lambda state, micros, budget, elapsed_s: settle_spend(state, micros, elapsed_s, budget),
    numbers=lambda micros: (micros,),
    delta=float,
)
"""What an advertiser spent: deltas are currency micros, rules are budgets in micros per day. `ranking.auction.pacing`."""
KINDS: Mapping[str, Kind[Any, Any, Any]] = {k.name: k for k in (EXPOSURE, SPEND)}


class Entry(NamedTuple):
    """One change of one account."""

    kind: Kind[Any, Any, Any]
    key: Key
    delta: Any
    rule: Any


class Row(NamedTuple):
    """One account as the store has it."""

    state: Any
    age_s: float  # since it was last settled


class Changes(NamedTuple):
    """What a store holds, or what changed in it.

    Attributes:
        revision: of the store; rises with every `add`.
        rows: (kind, key) -> account.
    """

    revision: int
    rows: Mapping[tuple[str, Key], Row]


class LedgerStore(Protocol):
    """Keeps accounts for any number of processes. Blocks; called from one thread at a time."""

    def add(self, replica: str, sequence: int, entries: Sequence[Entry]) -> None:
        """Settle entries, at most one per account, all of them or none; a (replica, sequence) counts once, however often it comes.

        Args:
            replica: who reports; unique to a process.
            sequence: rises with each of the replica's batches, from 1.
            entries: what changed.

        Raises:
            Unavailable: whether it was done is not known; the same call may be made again.
        """
        ...

    def changes(self, since: int) -> Changes:
        """Accounts that changed after a revision; 0 gives all.

        Raises:
            Unavailable: the store did not answer.
        """
        ...

    def close(self) -> None:
        """Let go of the store; a later call opens it again."""
        ...
