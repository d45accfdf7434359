"""The platform that the gateway's benchmark asks, for how long, and for what: lists of queries asked before, and of new ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.layout import Layout
from services.bench import rank
from services.bench.direct import snapshot_of

CONCURRENCY = 8  # calls under way when throughput is measured
_LISTS, _CATALOGUE = 16, 5000


@dataclass(frozen=True, slots=True)
class Times:
    """How long things are measured, in seconds, and how often."""

    block: float = 4.0
    rounds: int = 3
    cold: int = 16  # lists, half of them after Triton was asked for the same
    open: float = 10.0
    soak: float = 60.0


QUICK = Times(0.5, 2, 2, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Platform:
    """What runs, and what it can be asked."""

    layout: Layout
    address: str  # of the gateway
    triton: str
    release: str
    options: Sequence[str]  # of a gateway beside it: feature repository, clock
    users: Sequence[str]
    items: Sequence[str]  # at least 1,000
    queries: Sequence[str]


class Lists:
    """Lists to ask a platform for, all drawn by one generator."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.rng = np.random.default_rng(0)

    def some(self, n: int) -> list[pb.RankRequest]:
        """Lists of `n` candidates to ask for again and again."""
        queries = self._platform.queries
        return [self.one(n, queries[i % len(queries)]) for i in range(_LISTS)]

    def one(self, n: int, query: str) -> pb.RankRequest:
        return rank.request(self.rng, self._platform.users, self._platform.items, query, n)

    def unseen(self) -> str:
        """A query nobody asked before."""
        return f"{self._platform.queries[0]} {uuid.uuid4().hex[:8]}"


def catalogue(layout: Layout) -> list[str]:
    """Items to make lists of: the first of the item snapshot.

    Raises:
        RuntimeError: there is none.
    """
    return list(islice(snapshot_of(layout).ids(), _CATALOGUE))


def payloads(lists: Sequence[pb.RankRequest]) -> Iterator[bytes]:
    """The lists as they are sent, over and over."""
    return cycle([one.SerializeToString() for one in lists])


def lacks(answer: pb.RankResponse) -> bool:
    """Whether some member's scores are missing."""
    return any(d.component.startswith("member:") for d in answer.degradations)
