"""The gallery of bad requests: each way of being wrong is refused with INVALID_ARGUMENT and the field named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf, nan

import grpc
import pytest
from longtail.features.v1 import online_feature_service_pb2 as online_pb
from longtail.feedback.v1 import feedback_service_pb2 as feedback_pb
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.fairness.policy import OBJECTIVES
from ranking.features import MODEL_COLUMNS, VIEWS
from services.feedback.convert import MAX_EVENTS
from services.gateway import convert
from services.gateway.doors import MOST_BYTES
from services.gateway.servicer import NAME
from services.rpc.server import MAX_ANSWER_BYTES
from tests.services.gateway_fakes import Gateway, ads, bad_request, search


def changed(base: pb.RankRequest, change: Callable[[pb.RankRequest], object]) -> pb.RankRequest:
    change(base)
    return base


def columns(*named: tuple[str, list[float]]) -> Callable[[pb.RankRequest], object]:
    return lambda r: r.candidates.columns.extend(pb.FloatColumn(name=name, values=values) for name, values in named)


GALLERY: dict[str, tuple[pb.RankRequest, str, str]] = {
    "no candidates": (search(0), "candidates.item_ids", "need at least 1 candidate"),
    "no candidates message": (pb.RankRequest(surface=pb.SURFACE_SEARCH), "candidates.item_ids", "need at least 1 candidate"),
    "1,001 candidates": (search(1001), "candidates.item_ids", "at most 1000 candidates, got 1001"),
    "duplicate id": (changed(search(3), lambda r: r.candidates.item_ids.append("i1")), "candidates.item_ids[3]", "already candidate 1"),
    "empty id": (changed(search(3), lambda r: r.candidates.item_ids.append("")), "candidates.item_ids[3]", "must not be empty"),
    "id of 257 bytes": (changed(search(1), lambda r: r.candidates.item_ids.append("x" * 257)), "candidates.item_ids[1]", "got 257"),
    "id of 258 bytes in 129 characters": (
        changed(search(1), lambda r: r.candidates.item_ids.append("ü" * 129)),
        "candidates.item_ids[1]",
        "at most 256 bytes, got 258",
    ),
    "NaN score": (changed(search(2), lambda r: r.candidates.retrieval_scores.extend([1, nan])), "candidates.retrieval_scores[1]", "finite"),
    "infinite score": (
        changed(search(2), lambda r: r.candidates.retrieval_scores.extend([-inf, 1])),
        "candidates.retrieval_scores[0]",
        "must be finite, got -inf",
    ),
    "too few scores": (
        changed(search(3), lambda r: r.candidates.retrieval_scores.extend([1])),
        "candidates.retrieval_scores",
        "need one value per candidate (3), got 1",
    ),
    "ads without bids": (changed(ads(3), lambda r: r.candidates.ClearField("bid_micros")), "candidates.bid_micros", "needs one bid per"),
    "too few bids": (changed(ads(3), lambda r: r.candidates.bid_micros.pop()), "candidates.bid_micros", "need one bid per candidate (3)"),
    "search with bids": (changed(search(1), lambda r: r.candidates.bid_micros.append(1)), "candidates.bid_micros", "only allowed for"),
    "negative bid": (
        changed(ads(1), lambda r: r.candidates.MergeFrom(pb.Candidates(item_ids=["i9"], bid_micros=[-1]))),
        "candidates.bid_micros[1]",
        "got -1",
    ),
    "bid over 10^12": (
        changed(ads(1), lambda r: r.candidates.MergeFrom(pb.Candidates(item_ids=["i9"], bid_micros=[10**12 + 1]))),
        "candidates.bid_micros[1]",
        "must be within 0 and",
    ),
    "no surface": (search(1, surface=pb.SURFACE_UNSPECIFIED), "surface", "SURFACE_SEARCH, SURFACE_ADS"),
    "unknown surface": (search(1, surface=77), "surface", "77 is not a surface"),
    "unknown explain level": (search(1, explain=9), "explain", "9 is not a level"),
    "top_k 0": (search(1, top_k=0), "top_k", "must be at least 1, got 0"),
    "negative top_k": (search(1, top_k=-5), "top_k", "must be at least 1, got -5"),
    "query over 1 kB": (search(1, query="x" * 1025), "query", "at most 1024 bytes, got 1025"),
    "user_id too long": (search(1, user_id="x" * 257), "user_id", "at most 256 bytes"),
    "session_id too long": (search(1, session_id="x" * 257), "session_id", "at most 256 bytes"),
    "request_id too long": (search(1, request_id="x" * 257), "request_id", "at most 256 bytes"),
    "33 context entries": (search(1, context={str(i): "" for i in range(33)}), "context", "at most 32 entries, got 33"),
    "long context key": (search(1, context={"k" * 257: ""}), f"context['{'k' * 64}…'] key", "at most 256 bytes"),
    "long context value": (search(1, context={"page": "v" * 257}), "context['page']", "at most 256 bytes"),
    "65 columns": (changed(search(1), columns(*((f"c{i}", [0.0]) for i in range(65)))), "candidates.columns", "at most 64 columns, got 65"),
    "duplicate column": (changed(search(1), columns(("c", [0.0]), ("c", [1.0]))), "candidates.columns[1].name", "'c' is there twice"),
    "column without a name": (changed(search(1), columns(("", [0.0]))), "candidates.columns[0].name", "must not be empty"),
    "long column name": (changed(search(1), columns(("c" * 257, [0.0]))), "candidates.columns[0].name", "at most 256 bytes"),
    "short column": (changed(search(2), columns(("c", [0.0]))), "candidates.columns[0].values", "need one value per candidate (2), got 1"),
    "NaN in a column": (changed(search(2), columns(("c", [0.0, nan]))), "candidates.columns[0].values[1]", "must be finite, got nan"),
}


@pytest.mark.parametrize("name", GALLERY)
async def test_a_bad_request_is_refused_and_its_field_named(gw: Gateway, name: str) -> None:
    """INVALID_ARGUMENT, one violation, the field's path, what is wrong."""
    request, field, description = GALLERY[name]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.rank(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = bad_request(caught.value)
    assert list(found) == [field]
    assert description in found[field]
    assert field in (caught.value.details() or "")


async def test_all_violations_are_reported_at_once(gw: Gateway) -> None:
    """A request that is wrong in five ways learns of all five in one answer."""
    request = ads(3, query="x" * 2000, top_k=-1)
    request.candidates.item_ids[2] = "i0"
    request.candidates.retrieval_scores.extend([nan, 1, inf])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.rank(request)
    expected = {"query", "top_k", "candidates.item_ids[2]", "candidates.retrieval_scores[0]", "candidates.retrieval_scores[2]"}
    assert set(bad_request(caught.value)) == expected


async def test_a_thousand_violations_still_arrive_as_invalid_argument(gw: Gateway) -> None:
    """However much is wrong, the status fits what a plain client accepts."""
    request = ads(1000)
    request.candidates.bid_micros[:] = [-1] * 1000
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.rank(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "candidates.bid_micros[0]" in bad_request(caught.value)


async def test_a_column_of_any_length_costs_no_more_than_its_naming(gw: Gateway) -> None:
    """A hundred thousand values that are not numbers, for one candidate: the length is named, and twenty of them."""
    request = changed(search(1), columns(("c", [nan] * 100_000)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.rank(request)
    found = bad_request(caught.value)
    assert found.pop("candidates.columns[0].values") == "need one value per candidate (1), got 100000"
    assert list(found) == [f"candidates.columns[0].values[{i}]" for i in range(20)]


@pytest.mark.parametrize(("method", "limit"), MOST_BYTES.items())
async def test_a_message_larger_than_a_valid_one_can_be_is_not_parsed(gw: Gateway, method: str, limit: int) -> None:
    """A byte too many is INVALID_ARGUMENT on the request, whatever the bytes; as many as allowed are looked at."""
    for size, why in ((limit + 1, f"at most {limit} bytes, got {limit + 1}"), (limit, "is not a valid message")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gw.channel.unary_unary(method)(b"\xff" * size)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert why in bad_request(caught.value)["request"]


def test_the_largest_valid_messages_are_small_enough() -> None:
    """Every list, text and column at its limit, in characters of four bytes, with room to spare."""
    n, text = convert.MAX_CANDIDATES, "🍕" * 64
    rank = ads(0, query="🍕" * 256, context={f"{text[:-1]}{i:04}": text for i in range(32)})
    for name in ("request_id", "user_id", "session_id", "policy", "release"):
        setattr(rank, name, text)
    rank.candidates.MergeFrom(pb.Candidates(item_ids=[text] * n, retrieval_scores=[1.1] * n, bid_micros=[convert.MAX_BID_MICROS] * n))
    columns(*((text, [1.1] * n) for _ in range(convert.MAX_COLUMNS)))(rank)
    one = feedback_pb.Event(event_id=text[:32], user_id=text, item_id=text, query="🍕" * 256, ranking_id=text, order_id=text[:32])
    one.MergeFrom(feedback_pb.Event(type=1, surface=1, position=10**6, quantity=1.1, value_micros=2**62, rating=1.1))
    one.event_time.FromNanoseconds(2 * 10**18)
    events = feedback_pb.RecordEventsRequest(events=[one] * MAX_EVENTS)
    read = online_pb.GetOnlineFeaturesRequest(ids=[text] * 1000, features=[text] * 200, feature_service=text)
    for message, limit in zip((rank, events, read), MOST_BYTES.values(), strict=True):
        assert 0.1 * limit < message.ByteSize() < 0.95 * limit


async def test_violations_in_any_script_arrive_as_invalid_argument(gw: Gateway) -> None:
    """Forty duplicate ids and 32 long context values, all of characters of four bytes, fit what a plain client accepts, each time."""
    request = search(1, context={f"{'🍕' * 40}{i}": "🍕" * 65 for i in range(32)})
    request.candidates.item_ids.extend(["🍕" * 63] * 41)
    for _ in range(50):  # between its soft and its hard limit, a client refuses trailers at random
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gw.rank(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert bad_request(caught.value)


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff", b"\x0a\x02\xc3\x28"], ids=["no protobuf", "a string that is not UTF-8"])
@pytest.mark.parametrize("method", [f"/{NAME}/Rank", f"/{NAME}/BatchRank", "/grpc.health.v1.Health/Check"])
async def test_bytes_that_are_no_message_are_refused_without_an_alarm(
    gw: Gateway, caplog: pytest.LogCaptureFixture, method: str, raw: bytes
) -> None:
    """Malformed bytes are the caller's error: INVALID_ARGUMENT with a violation of the whole request, and nothing in the error log."""
    raw = b"\x0a" + bytes([len(raw)]) + raw if method.endswith("BatchRank") else raw
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.channel.unary_unary(method)(raw)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith("request: is not a valid message")
    assert list(bad_request(caught.value)) == ["request"]
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(("field", "value"), [("policy", "nope"), ("release", "r9")])
async def test_an_unknown_name_is_not_found_and_the_known_ones_are_listed(gw: Gateway, field: str, value: str) -> None:
    """Unknown policies and releases are NOT_FOUND."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.rank(search(1, **{field: value}))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    known = "floors, none" if field == "policy" else "r1"
    assert caught.value.details() == f"{field}: '{value}' is not known; known: {known}"


async def test_the_limits_themselves_are_allowed(gw: Gateway) -> None:
    """1,000 candidates, ids of 256 bytes, a query of 1,024 bytes, 64 columns, 32 context entries, a bid of 0 and of 10^12."""
    request = ads(998, query="x" * 1024, context={str(i): "" for i in range(32)}, user_id="x" * 256)
    request.candidates.item_ids.extend(["ü" * 128, "y" * 256])
    request.candidates.bid_micros.extend([0, 10**12])
    columns(*((f"c{i}", [0.0] * 1000) for i in range(64)))(request)
    assert len((await gw.rank(request)).results.item_ids) == 1000


async def test_a_batch_that_asks_for_too_many_explanations_is_refused_whole(gw: Gateway) -> None:
    """More than 2,000 explanations of all lists together do not fit a message: INVALID_ARGUMENT on `requests` that says what to do."""
    full = pb.EXPLAIN_LEVEL_FULL
    lists = [search(1000, explain=full), search(1000, explain=full)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gw.batch(*lists, search(1000, explain=full, top_k=1))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert bad_request(caught.value) == {
        "requests": f"at most 2000 explanations in one batch, these ask for {2 * 1000 + 1}: lower top_k, or set explain on fewer lists"
    }


def test_only_explanations_that_will_be_made_are_counted() -> None:
    """Exactly the limit passes, beside lists without explanations, lists only checked and lists that will be errors."""
    full = pb.EXPLAIN_LEVEL_FULL
    at_limit = [search(1000, explain=full), search(1000, explain=full, top_k=999), search(1, explain=full, top_k=5)]
    none = [search(1000), search(1000, explain=full, validate_only=True), search(1001, explain=full), search(9, explain=full, top_k=0)]
    assert sum(map(convert._explanations, at_limit)) == convert.MAX_EXPLANATIONS
    assert len(convert.to_batch(pb.BatchRankRequest(requests=[*at_limit, *none]))) == len(at_limit) + len(none)


def test_the_largest_answer_fits_the_transport() -> None:
    """32 lists × 1,000 results with ids of 256 bytes, and FULL explanations up to the limit with eight members, fit one message."""
    n = convert.MAX_CANDIDATES
    ids = [f"{i:0{convert.MAX_ID_BYTES}}" for i in range(n)]
    explanation = pb.Explanation(
        item_id=ids[0],
        group="head",
        members=[pb.MemberScore(member="m" * 40, raw=1.1, probability=0.1, weight=0.1)] * 8,
        probability=0.1,
        score=1.1,
        rank_before=n,
        rank=n,
        binding_floor="head",
        features=dict.fromkeys(MODEL_COLUMNS, 1.1),
        binding_attribute="popularity_tier",
        binding_prefix=n,
        price=1.1,
        cost=1.1,
        objectives=dict.fromkeys(OBJECTIVES, 1.1),
        attributed_member="m" * 40,
        attributions=dict.fromkeys(MODEL_COLUMNS, 1.1),
        attribution_base=1.1,
        freshness=dict.fromkeys((v.name for v in VIEWS), "defaulted"),
    )
    results = pb.Results(
        item_ids=ids, candidate_indices=[n] * n, scores=[1.1] * n, probabilities=[0.1] * n, price_micros=[convert.MAX_BID_MICROS] * n
    )
    degradations = [
        pb.Degradation(component="column:" + "c" * convert.MAX_ID_BYTES, reason="IGNORED", detail="d" * 80)
    ] * convert.MAX_COLUMNS
    group = pb.GroupExposure(
        attribute="popularity_tier", group="g" * 40, candidates=n, target_share=0.1, count=n, exposure=0.1, count_before=n,
        exposure_before=0.1, shortfall=n, ceiling=1.0, excess=n, price=1.1, debt=1.1,
    )  # fmt: skip
    groups = [group] * n  # a policy for every seller, each candidate another's
    one = pb.RankResponse(request_id=ids[0], results=results, degradations=degradations, policy=ids[0], release=ids[0], exposure=groups)
    rest = pb.BatchRankResponse(outcomes=[pb.RankOutcome(response=one)] * convert.MAX_BATCH)
    explained = pb.RankResponse(explanations=[explanation] * convert.MAX_EXPLANATIONS)
    assert rest.ByteSize() + explained.ByteSize() < MAX_ANSWER_BYTES
