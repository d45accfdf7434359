"""OnlineFeatureService as the gateway serves it: packed columns, what they are worth, and clear failures."""

from __future__ import annotations

import asyncio
import os
import struct
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from longtail.features.v1 import online_feature_service_pb2 as pb
from longtail.features.v1.online_feature_service_pb2_grpc import OnlineFeatureServiceStub

from ranking.features import FEATURE_SERVICES, ITEM_PROFILE, ITEM_STATISTICS, NEVER_DAYS, Entity, schema_hash
from ranking.layout import Layout
from ranking.types import Freshness
from services.client.client import RankingClient
from services.online.convert import to_response
from services.online.read import Reader
from services.online.types import FEATURES, Question
from services.snapshot.latest import Latest
from tests.services.gateway_fakes import FakeStore, Gateway, bad_request, eventually, gateway, item, search
from tests.services.test_gateway_snapshot import ids, publish

USER, ITEM = pb.ENTITY_KIND_USER, pb.ENTITY_KIND_ITEM
SERVICE = "ads_ranking_v1"


async def ask(gw: Gateway, timeout: float | None = None, **fields: Any) -> pb.GetOnlineFeaturesResponse:  # noqa: ASYNC109
    stub = OnlineFeatureServiceStub(gw.channel)
    return await stub.GetOnlineFeatures(pb.GetOnlineFeaturesRequest(**fields), timeout=timeout)


async def refused(gw: Gateway, timeout: float | None = None, **fields: Any) -> grpc.aio.AioRpcError:  # noqa: ASYNC109
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(gw, timeout, **fields)
    return caught.value


def decoded(column: pb.FeatureColumn) -> list[Any]:
    """A column's values, by what the .proto says of `DataType` and nothing else."""
    one = {pb.DATA_TYPE_FLOAT32: "f", pb.DATA_TYPE_INT64: "q", pb.DATA_TYPE_FLOAT32_LIST: "f", pb.DATA_TYPE_INT64_LIST: "q"}.get(
        column.type
    )
    elements = [] if one is None else [v for (v,) in struct.iter_unpack("<" + one, column.values)]
    if column.type in (pb.DATA_TYPE_FLOAT32, pb.DATA_TYPE_INT64):
        assert column.offsets == b""
        return elements
    ends = [end for (end,) in struct.iter_unpack("<i", column.offsets)]
    if column.type == pb.DATA_TYPE_STRING:
        return [column.values[a:b].decode() for a, b in pairwise(ends)]
    return [elements[a:b] for a, b in pairwise(ends)]


def states(answer: pb.GetOnlineFeaturesResponse) -> dict[str, list[str]]:
    """View -> the entities' statuses by name."""
    return {v.view: [pb.FeatureStatus.Name(code).removeprefix("FEATURE_STATUS_") for code in v.statuses] for v in answer.views}


async def test_items_come_as_columns_that_bytes_alone_explain(gw: Gateway) -> None:
    """Numbers, keys, texts and lists in the order asked for; a value nobody has is the declared default; view names are understood."""
    names = ["price_28d", "category_key", "item_profile:seller", "token_ids", "item_statistics:promo_appeal", "title", "taste"]
    answer = await ask(gw, entity=ITEM, ids=["i7", "nobody", "i9", "i0"], features=names)
    plain = [name.rpartition(":")[2] for name in names]
    assert [c.name for c in answer.columns] == plain
    assert [c.view for c in answer.columns] == [
        "item_statistics", "item_profile", "item_profile", "item_profile", "item_statistics", "item_profile", "item_taste"
    ]  # fmt: skip
    found = {c.name: decoded(c) for c in answer.columns}
    rows = [item(7), {}, item(9), item(0)]
    assert found["price_28d"] == [r.get("price_28d", 0.0) for r in rows]
    assert found["category_key"] == [r.get("category_key", 0) for r in rows]
    assert found["seller"] == [r.get("seller") or "" for r in rows] == ["", "", "s4", "s0"]
    assert found["token_ids"] == [r.get("token_ids", []) for r in rows]
    assert found["promo_appeal"] == [1.0] * 4
    assert (found["title"], found["taste"]) == ([""] * 4, [[]] * 4)
    expected = ["FRESH", "MISSING", "FRESH", "FRESH"]
    assert states(answer) == {"item_profile": expected, "item_statistics": expected, "item_taste": expected}
    moment = round(gw.store.event_time * 1e6)
    for view in answer.views:
        assert [t for (t,) in struct.iter_unpack("<q", view.event_times)] == [moment, -(2**63), moment, moment]
    assert [v.lifetime.ToSeconds() for v in answer.views] == [
        v.ttl.total_seconds() for v in (ITEM_PROFILE, ITEM_STATISTICS, ITEM_STATISTICS)
    ]
    assert (list(answer.degradations), answer.feature_schema_hash) == ([], schema_hash())


async def test_what_ranking_does_not_read_can_be_asked_for(gw: Gateway) -> None:
    """Views made of events and views beside those of the models: by name, with states of their own."""
    answer = await ask(gw, entity=ITEM, ids=["i7", "nobody"], features=["item_live:clicks_28d", "price_28d", "price_last"])
    assert [(c.name, c.view) for c in answer.columns] == [
        ("clicks_28d", "item_live"), ("price_28d", "item_statistics"), ("price_last", "item_windows")
    ]  # fmt: skip
    assert decoded(answer.columns[0]) == [0.0, 0.0]
    never = ["DEFAULTED", "MISSING"]  # the store of this test has no row of theirs
    assert states(answer) == {"item_statistics": ["FRESH", "MISSING"], "item_live": never, "item_windows": never}
    session = await ask(gw, entity=USER, ids=["u"], features=["recent_item_keys"])
    assert (decoded(session.columns[0]), session.views[0].view) == ([[]], "user_session")


async def test_a_feature_service_is_all_it_has_of_the_entity(gw: Gateway) -> None:
    """In the schema's order; the store is asked once; a user nobody knows has every default."""
    answer = await ask(gw, entity=USER, ids=["u", "stranger"], feature_service=SERVICE)
    assert [c.name for c in answer.columns] == [f.name for v in FEATURE_SERVICES[SERVICE] for f in v if v.entity is Entity.USER]
    found = {c.name: decoded(c) for c in answer.columns}
    assert (found["orders_all"], found["days_since_order"]) == ([12.0, 0.0], [NEVER_DAYS] * 2)
    assert found["category_keys"] == [[1, 2], []]
    assert found["category_shares"] == [[pytest.approx(0.7), pytest.approx(0.3)], []]
    assert found["interest_text"] == ["buys ice, beer", ""]
    assert gw.store.reads[-1] == (Entity.USER, ("u", "stranger"))
    assert len({pb.FeatureColumn.FromString(c.SerializeToString()).type for c in answer.columns}) == 5


async def test_every_offending_field_is_named(gw: Gateway) -> None:
    """INVALID_ARGUMENT with google.rpc.BadRequest; several at once."""
    gallery: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"entity": 0}, {"entity": "known: ENTITY_KIND_USER, ENTITY_KIND_ITEM"}),
        ({"entity": 9}, {"entity": "9 is not a kind"}),
        ({"ids": []}, {"ids": "need 1 to 1000 ids, got 0"}),
        ({"ids": [str(i) for i in range(1001)]}, {"ids": "got 1001"}),
        ({"ids": ["a", "", "a"]}, {"ids[1]": "empty", "ids[2]": "'a' is already id 0"}),
        ({"ids": ["é" * 129]}, {"ids[0]": "at most 256 bytes, got 258"}),
        ({"features": []}, {"features": "need 1 to 200 names, or a feature_service"}),
        ({"features": ["price_28d", "pric_28d"]}, {"features[1]": "'pric_28d' is not a feature of item; known: title"}),
        ({"features": ["orders_all"]}, {"features[0]": "'orders_all' is a feature of user, not of item"}),
        ({"features": ["user_taste:taste"]}, {"features[0]": "of user, not of item"}),
        ({"features": ["brand", "item_profile:brand"]}, {"features[1]": "is already feature 0"}),
        ({"feature_service": SERVICE}, {"feature_service": "set one of both"}),
        ({"features": [], "feature_service": "ads"}, {"feature_service": "known: ads_ranking_v1, search_ranking_v1"}),
        ({"max_age": Duration(seconds=0)}, {"max_age": "greater than 0"}),
        ({"max_age": Duration(seconds=-1), "ids": [], "entity": 0}, {"max_age": "greater", "ids": "got 0", "entity": "known"}),
    ]
    for change, wanted in gallery:
        error = await refused(gw, **({"entity": ITEM, "ids": ["a"], "features": ["price_28d"]} | change))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, change
        said = bad_request(error)
        assert set(said) == set(wanted), change
        assert all(text in said[field] for field, text in wanted.items()), said
    assert not any(i for _, i in gw.store.reads if i != ("",))  # nothing was read, apart from the warm-up


async def test_a_store_that_is_down_is_unavailable_without_a_snapshot(gw: Gateway) -> None:
    """So it is for users; mended, the same call answers."""
    gw.store.down = True
    for entity, name in ((ITEM, "price_28d"), (USER, "orders_all")):
        error = await refused(gw, entity=entity, ids=["i1"], features=[name])
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "feature store: it is down")
    gw.store.down = False
    assert decoded((await ask(gw, entity=ITEM, ids=["i1"], features=["price_28d"])).columns[0]) == [2.0]


async def test_a_slow_store_is_bounded_by_the_deadline_and_by_the_server(home: Path) -> None:
    """DEADLINE_EXCEEDED where the caller's time ran out, UNAVAILABLE where the server's did; ranking has threads of its own."""
    async with gateway(home, online_wait_s=0.3) as gw:
        await gw.rank(search(3))
        gw.store.hold.clear()
        question: dict[str, Any] = {"entity": ITEM, "ids": ["i1"], "features": ["price_28d"]}
        assert (await refused(gw, 0.2, **question)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        error = await refused(gw, 30.0, **question)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "feature store: no answer within 0.3 s")
        assert len((await gw.rank(search(3))).results.item_ids) == 3
        gw.store.hold.set()
        await eventually(lambda: gw.store.reads)
        assert decoded((await ask(gw, **question)).columns[0]) == [2.0]


async def test_the_snapshot_answers_alone_and_as_the_store_would(home: Path) -> None:
    """Bit by bit the same columns and event times; only what it lacks is read, items and features."""
    asked = [*ids(12, 3, 11, 7, 9), "unheard-of"]
    async with gateway(home) as gw:
        from_store = await ask(gw, entity=ITEM, ids=asked, feature_service=SERVICE)
        publish(Layout(home).item_snapshot, ids(*range(10)))
    async with gateway(home) as gw:
        gw.store.event_time = from_store_time(from_store)
        before = len(gw.store.reads)
        answer = await ask(gw, entity=ITEM, ids=asked, feature_service=SERVICE)
        assert gw.store.reads[before:] == [
            (Entity.ITEM, ("i12", "i11", "unheard-of")),
            (Entity.ITEM, tuple(asked)),
        ]  # the latter for titles
        assert list(answer.columns) == list(from_store.columns)
        assert states(answer) == states(from_store)
        before = len(gw.store.reads)
        gw.store.down = True
        alone = await ask(gw, entity=ITEM, ids=ids(7, 3), features=["price_28d", "popularity_tier", "brand"])
        assert len(gw.store.reads) == before
        assert [decoded(c) for c in alone.columns] == [[item(i)[c.name] for i in (7, 3)] for c in alone.columns]
        assert list(alone.degradations) == []


def from_store_time(answer: pb.GetOnlineFeaturesResponse) -> float:
    (first,) = struct.unpack_from("<q", answer.views[0].event_times)
    return float(first / 1e6)


async def test_the_snapshot_stands_in_for_a_store_that_is_down(home: Path) -> None:
    """Items it lacks have their defaults, and the answer says so; a feature it lacks is an error."""
    publish(Layout(home).item_snapshot, ids(1, 2))
    async with gateway(home) as gw:
        gw.store.down = True
        answer = await ask(gw, entity=ITEM, ids=ids(1, 5, 2), features=["price_28d"])
        assert decoded(answer.columns[0]) == [2.0, 0.0, 3.0]
        assert states(answer) == {"item_statistics": ["FRESH", "MISSING", "FRESH"]}
        (said,) = answer.degradations
        assert (said.component, said.reason) == ("features:item", "UNAVAILABLE")
        assert "1 of 3 items" in said.detail
        assert (await refused(gw, entity=ITEM, ids=ids(1), features=["price_28d", "title"])).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_snapshot_too_old_is_not_read_while_the_store_answers(home: Path) -> None:
    """Beyond the server's bound the answer says so, beyond the caller's it need not; where the store is down both stand, and are told."""
    publish(Layout(home).item_snapshot, ids(1), price=99.0, as_of=time.time() - 1000.0)
    asked: dict[str, Any] = {"entity": ITEM, "ids": ids(1), "features": ["price_28d"]}
    for stale_s, max_age, told in ((500.0, None, ["features:snapshot"]), (5000.0, Duration(seconds=500), [])):
        async with gateway(home, snapshot_stale_s=stale_s) as gw:
            answer = await ask(gw, **asked, max_age=max_age)
            assert decoded(answer.columns[0]) == [2.0]
            assert [d.component for d in answer.degradations] == told
            gw.store.down = True
            answer = await ask(gw, **asked, max_age=max_age)
            assert decoded(answer.columns[0]) == [99.0]
            assert {d.component: d.reason for d in answer.degradations} == {"features:snapshot": "STALE", "features:item": "UNAVAILABLE"}
    async with gateway(home, snapshot_stale_s=5000.0) as gw:
        assert decoded((await ask(gw, **asked)).columns[0]) == [99.0]


async def test_a_snapshot_that_was_refused_is_told(home: Path) -> None:
    """Items come from the store, and the answer says why they had to; users have nothing to do with it."""
    path = Layout(home).item_snapshot
    publish(path, ids(1), price=99.0)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xa5")
    async with gateway(home) as gw:
        answer = await ask(gw, entity=ITEM, ids=ids(1), features=["price_28d"])
        assert decoded(answer.columns[0]) == [2.0]
        (said,) = answer.degradations
        assert (said.component, said.reason) == ("features:snapshot", "UNAVAILABLE")
        assert said.detail.startswith("the item snapshot was refused: it has damaged rows: the checksum is wrong; items were read")
        assert not (await ask(gw, entity=USER, ids=["u"], features=["orders_all"])).degradations


async def test_age_beyond_the_lifetime_or_beyond_what_the_caller_takes_is_stale(gw: Gateway) -> None:
    """The values are sent as they are; the lifetime that was applied is said."""
    gw.store.event_time = time.time() - 100.0
    asked: dict[str, Any] = {"entity": USER, "ids": ["u"], "features": ["orders_all"]}
    for max_age, state in ((None, "FRESH"), (200.0, "FRESH"), (50.5, "STALE")):
        limit = None if max_age is None else Duration(seconds=int(max_age), nanos=round(max_age % 1 * 1e9))
        answer = await ask(gw, **asked, max_age=limit)
        assert states(answer) == {"user_behaviour": [state]}
        assert decoded(answer.columns[0]) == [12.0]
        assert answer.views[0].lifetime.ToNanoseconds() == round((max_age or 14 * 86_400) * 1e9)
    gw.store.event_time = time.time() - 15 * 86_400
    assert states(await ask(gw, **asked)) == {"user_behaviour": ["STALE"]}


async def test_the_client_gives_arrays(gw: Gateway) -> None:
    """Columns, freshness and event times by name."""

    def read() -> Any:
        with RankingClient(gw.server.address, timeout_s=30.0) as client:
            return client.features(Entity.ITEM, ["i1", "nobody"], ["price_28d", "brand", "token_ids"], max_age_s=60.0)

    found = await asyncio.to_thread(read)
    assert found.columns["price_28d"].tolist() == [2.0, 0.0]
    assert found.columns["brand"].tolist() == ["own", ""]
    assert [v.tolist() for v in found.columns["token_ids"]] == [item(1)["token_ids"], []]
    assert found.freshness["item_statistics"].tolist() == [Freshness.FRESH, Freshness.MISSING]
    assert np.isnat(found.event_times["item_statistics"]).tolist() == [False, True]
    assert found.views == {"price_28d": "item_statistics", "brand": "item_profile", "token_ids": "item_profile"}


async def test_an_answer_too_large_to_send_names_the_ids(tmp_path: Path) -> None:
    """1,000 users with histories of 512 items each, in every list: about 18 MiB."""

    class Heavy(FakeStore):
        @staticmethod
        def _find(entity: Entity, key: str) -> dict[str, Any]:
            return {name: [1] * 512 for name, f in FEATURES[entity].items() if f.dtype.endswith("list")}

    reader = Reader(Heavy(), Latest(tmp_path / "none"), stale_s=1.0)
    lists = [name for name, f in FEATURES[Entity.USER].items() if f.dtype.endswith("list")]
    question = Question(Entity.USER, [str(i) for i in range(1000)], lists)
    answer = await reader.read(question, 60.0, 60.0)
    size = 1000 * 512 * sum(8 if FEATURES[Entity.USER][name].dtype == "int64_list" else 4 for name in lists)
    assert size > 16 * 2**20
    with pytest.raises(Exception, match="ids: the answer would have"):
        to_response(question, answer)
    reader.close()
