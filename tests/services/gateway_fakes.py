"""Hand-written fakes of the gateway's ports, and a gateway on a free port that uses them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2, status_pb2
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from numpy.typing import NDArray

from ranking.errors import Unavailable
from ranking.features import Entity
from ranking.layout import Layout
from ranking.pointer import Pointer, pointer_text
from ranking.text import text_digest
from ranking.types import Float32Array
from services.feature_store.port import ENTITY_VIEWS, FeatureRows
from services.feedback.log.event_log import EventLog
from services.gateway.ledger.store import LedgerStore
from services.gateway.server import running
from services.gateway.settings import Settings
from services.rpc.errors import DETAILS_KEY
from services.rpc.server import Server
from tests.deploy.releases import alter, bert_logits, trees_logits

TIERS = ("head", "tail", "new")


def item(i: int) -> dict[str, Any]:
    """Item `i<n>`: tiers take turns, four texts in all, every tenth item has none; sellers `s0` … `s4`, every eighth item has none."""
    words = [4 + i % 4, 8 + i % 4] if i % 10 != 9 else []
    return {
        "price_28d": float(i % 7 + 1),
        "popularity_rank": i % 100 / 100,
        "popularity_tier": TIERS[i % 3],
        "category_key": i % 5 + 1,
        "brand": "own" if i % 2 else "other",
        "seller": f"s{i % 5}" if i % 8 != 7 else None,
        "token_ids": words,
        "text_digest": text_digest(str(words)) if words else 0,
    }


USER = {
    "orders_all": 12.0,
    "mean_unit_price": 3.0,
    "interest_text": "buys ice, beer",
    "category_keys": [1, 2],
    "category_shares": [0.7, 0.3],
}


class FakeStore:
    """Knows user `u` and the items `i0` … `i4999`; everything else is unknown."""

    def __init__(self) -> None:
        self.down = False
        self.hold = threading.Event()  # cleared: reads hang until it is set
        self.hold.set()
        self.event_time = time.time()
        self.reads: list[tuple[Entity, tuple[str, ...]]] = []

    def read(self, entity: Entity, ids: Sequence[str], features: Sequence[str] = ()) -> FeatureRows:
        self.hold.wait(10)
        self.reads.append((entity, tuple(ids)))
        if self.down:
            raise Unavailable("feature store: it is down")
        found = [self._find(entity, i) for i in ids]
        names = {name for values in found if values for name in values}
        times = np.array([self.event_time if values else np.nan for values in found])
        return FeatureRows(
            {name: [values.get(name) if values else None for values in found] for name in names},
            np.tile(times, (len(ENTITY_VIEWS[entity]), 1)),
        )

    @staticmethod
    def _find(entity: Entity, key: str) -> Mapping[str, Any] | None:
        if entity is Entity.USER:
            return USER if key == "u" else None
        return item(int(key[1:])) if key[:1] == "i" and key[1:].isdigit() and int(key[1:]) < 5000 else None


@dataclass
class FakeModels:
    """Answers like the tiny models of `tests.deploy.releases`."""

    gone: set[str] = field(default_factory=set)
    hung: set[str] = field(default_factory=set)
    release: asyncio.Event = field(default_factory=asyncio.Event)  # set: the hung ones answer
    bias: dict[int, float] = field(default_factory=dict)  # by version
    calls: list[tuple[str, int, int]] = field(default_factory=list)  # model, version, rows

    async def infer(self, model: str, version: int, inputs: Mapping[str, NDArray[Any]], output: str, timeout_s: float) -> Float32Array:
        assert output == "logit"
        self.calls.append((model, version, len(next(iter(inputs.values())))))
        if model in self.gone:
            raise Unavailable(f"{model}: it is gone")
        if model in self.hung:
            await asyncio.wait_for(self.release.wait(), timeout_s)
        bias = self.bias.get(version, 0.0)
        return trees_logits(inputs["features"], bias) if model == "trees" else bert_logits(inputs, bias)

    def rows(self, model: str) -> int:
        """Rows of all calls to a model."""
        return sum(n for name, _, n in self.calls if name == model)


@dataclass
class Gateway:
    """A running gateway and what stands behind it."""

    server: Server
    channel: grpc.aio.Channel
    store: FakeStore
    models: FakeModels
    layout: Layout

    async def rank(self, request: pb.RankRequest, timeout: float | None = None) -> pb.RankResponse:  # noqa: ASYNC109
        return await RankingServiceStub(self.channel).Rank(request, timeout=timeout)

    async def batch(self, *requests: pb.RankRequest) -> pb.BatchRankResponse:
        return await RankingServiceStub(self.channel).BatchRank(pb.BatchRankRequest(requests=requests))


@asynccontextmanager
async def gateway(
    home: Path, accounts: LedgerStore | None = None, events: EventLog | None = None, **settings: Any
) -> AsyncIterator[Gateway]:
    """A gateway over fakes on a free port; over a real model server where `triton` names its address."""
    store, models = FakeStore(), FakeModels()
    real = "triton" in settings
    fixed = {"address": "127.0.0.1:0", "home": home, "poll_s": 0.02, "drain_s": 0.0, "grace_s": 2.0, "served_share": 1.0}
    chosen = fixed | {"metrics_address": "off", "score_cache": 10_000} | settings
    async with running(Settings(**chosen), store=store, models=None if real else models, accounts=accounts, events=events) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Gateway(server, channel, store, models, Layout(home))
        store.hold.set()


async def eventually(condition: Callable[[], object | Awaitable[object]]) -> None:
    """Wait until `condition()` holds; the test's own timeout ends a vain wait."""
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        await asyncio.sleep(0.01)


def activate(home: Path, release_id: str) -> None:
    """Point at a release the way deploy does: a new file renamed over the old."""
    layout = Layout(home)
    draft = layout.releases / "ACTIVE.new"
    draft.write_text(pointer_text(Pointer(release_id, "2026-01-01T00:00:00Z")))
    draft.replace(layout.pointer)


def add_policy(home: Path, name: str, release_id: str = "r1", *, active: bool = True, **fields: Any) -> None:
    """Give a release one more policy, by the keys of its JSON; `active`: on both surfaces."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["policies"].append({"name": name, "version": "1"} | fields)
        if active:
            manifest["active_policy"] = dict.fromkeys(manifest["active_policy"], name)

    alter(Layout(home).releases, release_id, change)


def floors(attribute: str, **shares: Any) -> list[dict[str, Any]]:
    """A policy's `rules`: floors for groups of one attribute."""
    return [{"attribute": attribute, "floors": shares}]


def seller(item_id: str) -> str:
    """The seller of an item, empty for none."""
    return item(int(item_id[1:]))["seller"] or ""


def search(n: int = 20, **fields: Any) -> pb.RankRequest:
    """A valid search request over `i0` … `i<n-1>`."""
    chosen = {"surface": pb.SURFACE_SEARCH, "query": "ice milk", "user_id": "u"} | fields
    return pb.RankRequest(candidates=pb.Candidates(item_ids=[f"i{i}" for i in range(n)]), **chosen)


def ads(n: int = 20, **fields: Any) -> pb.RankRequest:
    """A valid ads request over `i0` … `i<n-1>`."""
    request = search(n, **({"surface": pb.SURFACE_ADS, "query": ""} | fields))
    request.candidates.bid_micros.extend(100_000 + 1000 * (i % 9) for i in range(n))
    return request


def bad_request(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """field -> description of the error's google.rpc.BadRequest."""
    raw = dict(error.trailing_metadata())[DETAILS_KEY]
    status = status_pb2.Status.FromString(raw)
    details = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(details)
    return {v.field: v.description for v in details.field_violations}


def reasons(response: pb.RankResponse) -> dict[str, str]:
    """component -> reason of the answer's degradations."""
    return {d.component: d.reason for d in response.degradations}
