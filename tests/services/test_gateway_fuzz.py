"""Whatever arrives, a gateway answers with a status a caller can act on: never INTERNAL, no ERROR inside, and goes on as before."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from longtail.features.v1 import online_feature_service_pb2 as online
from longtail.feedback.v1 import feedback_service_pb2 as feedback
from longtail.ranking.v1 import ranking_service_pb2 as pb

from tests.services.fuzzing import Make, messages
from tests.services.gateway_fakes import Gateway, add_policy, ads, floors, gateway, search

AT_ONCE = 16
MAY_END_WITH = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,  # a policy, a release, a surface
}


def _context(seed: int) -> pb.RankRequest:
    request = search(8, session_id="s", explain=pb.EXPLAIN_LEVEL_FULL, top_k=5, context={"page": "home"})
    request.candidates.retrieval_scores.extend(seed / (i + 1) for i in range(8))
    request.candidates.columns.add(name="on_display", values=[1.0] * 8)
    return request


def _slots() -> pb.RankRequest:
    request = search(8, policy="slots")
    request.candidates.bid_micros.extend([0, 900, 0, 700, 0, 0, 500, 0])
    return request


def _events() -> feedback.RecordEventsRequest:
    now = Timestamp()
    now.FromNanoseconds(time.time_ns())
    kinds = (feedback.EVENT_TYPE_CLICK, feedback.EVENT_TYPE_PURCHASE)
    return feedback.RecordEventsRequest(
        events=[
            feedback.Event(event_id=os.urandom(4).hex(), type=kind, event_time=now, user_id="u", item_id="i1", position=1, value_micros=5)
            for kind in kinds
        ]
    )


def _features() -> online.GetOnlineFeaturesRequest:
    return online.GetOnlineFeaturesRequest(
        entity=online.ENTITY_KIND_ITEM,
        ids=["i1", "i2", "nobody"],
        features=["price_28d", "token_ids", "brand"],
        max_age=Duration(seconds=60),
    )


RANK, BATCH = "/longtail.ranking.v1.RankingService/Rank", "/longtail.ranking.v1.RankingService/BatchRank"
RECORD, READ = "/longtail.feedback.v1.FeedbackService/RecordEvents", "/longtail.features.v1.OnlineFeatureService/GetOnlineFeatures"
SEEDS: tuple[tuple[str, Make], ...] = (
    (RANK, lambda: search(8)),
    (RANK, lambda: ads(8)),
    (RANK, lambda: _context(1)),
    (RANK, lambda: search(8, policy="pair", explain=pb.EXPLAIN_LEVEL_SCORES)),
    (RANK, _slots),
    (RANK, pb.RankRequest),
    (BATCH, lambda: pb.BatchRankRequest(requests=[search(4), ads(4)])),
    (RECORD, _events),
    (RECORD, feedback.RecordEventsRequest),
    (READ, _features),
    (READ, lambda: online.GetOnlineFeaturesRequest(entity=online.ENTITY_KIND_USER, ids=["u"], feature_service="ads_ranking_v1")),
)
ANSWERS: dict[str, Any] = {
    RANK: pb.RankResponse,
    BATCH: pb.BatchRankResponse,
    RECORD: feedback.RecordEventsResponse,
    READ: online.GetOnlineFeaturesResponse,
}


def faults(answer: Any) -> Iterator[str]:
    """What an answer that is OK admits went wrong inside."""
    if isinstance(answer, pb.BatchRankResponse):
        for outcome in answer.outcomes:
            if outcome.error.code in (grpc.StatusCode.INTERNAL.value[0], grpc.StatusCode.UNKNOWN.value[0]):
                yield outcome.error.message
            yield from faults(outcome.response)
    elif not isinstance(answer, feedback.RecordEventsResponse):
        yield from (f"{d.component}: {d.detail}" for d in answer.degradations if d.reason == "ERROR")


async def sent(gw: Gateway, sequence: Iterator[tuple[int, bytes]], ends: Counter[grpc.StatusCode]) -> None:
    """Send all of them, one after the other."""
    for which, raw in sequence:
        method = SEEDS[which][0]
        call = gw.channel.unary_unary(method)(raw)
        code, details = await call.code(), await call.details()
        ends[code] += 1
        assert code in MAY_END_WITH, f"{method} {raw!r}: {code} {details}"
        if code is grpc.StatusCode.OK:
            assert list(faults(ANSWERS[method].FromString(await call))) == [], f"{method} {raw!r}"
        else:
            assert details, f"{method} {raw!r}: {code} without a word"


async def fuzzed(gw: Gateway, seed: int, count: int) -> Counter[grpc.StatusCode]:
    """So many messages, a few at a time; how they ended."""
    ends: Counter[grpc.StatusCode] = Counter()
    made = [make for _, make in SEEDS]
    parts = [messages(one, made) for one in random.Random(seed).sample(range(2**32), AT_ONCE)]
    await asyncio.gather(*(sent(gw, islice(part, count // AT_ONCE), ends) for part in parts))
    gw.store.reads.clear()  # what the fakes note is no growth of the gateway
    gw.models.calls.clear()
    return ends


async def unharmed(gw: Gateway) -> None:
    """It serves, and a valid list is answered whole."""
    health = await health_pb2_grpc.HealthStub(gw.channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert sorted((await gw.rank(search(20))).results.candidate_indices) == list(range(20))


def fuzzable(home: Path) -> Any:
    """A gateway with policies of every kind, small caches that are soon full, and time enough for every stage."""
    add_policy(home, "pair", rules=[*floors("popularity_tier", tail=0.3), *floors("seller", s1=0.3)], active=False)
    add_policy(home, "slots", ad_slots=[2, 4], active=False)
    caches = {"score_cache": 5_000, "user_cache": 500, "item_cache": 2_000}
    return gateway(home, budget_ms=60_000.0, queue_ms=60_000.0, **caches)


async def test_messages_nobody_should_send_are_answered(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """2,000 changed and damaged messages to all four methods: OK, or a status that blames the message; nothing is logged as an error."""
    async with fuzzable(home) as gw:
        ends = await fuzzed(gw, 20261122, 2_000)
        await unharmed(gw)
    assert ends[grpc.StatusCode.OK] > 200  # else it would be the parser alone that is tested
    assert ends[grpc.StatusCode.INVALID_ARGUMENT] > 200
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
async def test_a_hundred_thousand_of_them_do_no_harm_and_leave_nothing_in_memory(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As above, and once caches are full memory is flat: 80,000 further messages may leave 400 bytes each, a fifth of one of them kept.

    LONGTAIL_FUZZ_SEED repeats a run; without it every run sends other messages.
    """
    seed = int(os.environ.get("LONGTAIL_FUZZ_SEED") or random.SystemRandom().randrange(2**31))
    print(f"LONGTAIL_FUZZ_SEED={seed}")
    async with fuzzable(home) as gw:
        ends = await fuzzed(gw, seed, 20_000)
        before = resident_bytes()
        for part in range(1, 9):
            ends += await fuzzed(gw, seed + part, 10_000)
        grown = resident_bytes() - before
        await unharmed(gw)
    assert sum(ends.values()) == 100_000
    print(f"grown by {grown / 1e6:.1f} MB; {dict(ends)}")
    assert grown < 80_000 * 400
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []
