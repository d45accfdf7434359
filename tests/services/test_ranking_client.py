"""The client as its users have it, blocking and asyncio: what it tries again and what not, where it goes, and what errors tell."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb
from longtail.ranking.v1 import ranking_service_pb2_grpc as pb_grpc

from ranking.errors import InvalidField, OutOfTime, Overloaded, OverQuota, Unavailable
from ranking.features import Entity
from services.client import aio, client
from services.client.channel import FEEDBACK, ONLINE, RANKING, Tls, service_config
from services.client.client import event
from services.client.errors import RefusedHere, refused_here, retry_after_s, violations
from services.client.throttle import Throttling
from services.feedback.servicer import NAME as FEEDBACK_NAME
from services.feedback.types import EventType
from services.gateway.servicer import NAME
from services.online.servicer import NAME as ONLINE_NAME
from services.rpc.server import Options, Server
from services.rpc.tokens import Scope, create
from tests.services.certificates import Authority
from tests.services.gateway_fakes import Gateway, eventually, gateway, search

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
Ask: TypeAlias = "Callable[..., Any]"


async def blocking(address: str, method: str, *given: Any, timeout_s: float = 30.0, tls: Tls | None = None, token: str = "") -> Any:
    """One call of the blocking client, on a thread."""

    def call() -> Any:
        with client.RankingClient(address, timeout_s=timeout_s, tls=tls, token=token) as one:
            return getattr(one, method)(*given)

    return await asyncio.to_thread(call)


async def on_the_loop(address: str, method: str, *given: Any, timeout_s: float = 30.0, tls: Tls | None = None, token: str = "") -> Any:
    """One call of the client for asyncio."""
    async with aio.RankingClient(address, timeout_s=timeout_s, tls=tls, token=token) as one:
        return await getattr(one, method)(*given)


both = pytest.mark.parametrize("ask", [blocking, on_the_loop])


@dataclass
class Scripted(pb_grpc.RankingServiceServicer):
    """Fails with each of `codes` in turn, then answers; or always, or never answers."""

    codes: list[grpc.StatusCode] = field(default_factory=list)
    always: grpc.StatusCode | None = None
    hangs: bool = False
    calls: int = 0

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:  # noqa: N802
        self.calls += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.always or self.codes:
            await context.abort(self.always or self.codes.pop(0), "as told")
        return pb.RankResponse(request_id=request.request_id)


@asynccontextmanager
async def serving(servicer: pb_grpc.RankingServiceServicer) -> AsyncIterator[Server]:
    """A real server with health on a free port."""
    server = Server(
        "127.0.0.1:0", (NAME,), lambda target: pb_grpc.add_RankingServiceServicer_to_server(servicer, target), Options(drain_s=0, grace_s=0)
    )
    await server.start()
    await server.set_serving(serving=True)
    try:
        yield server
    finally:
        await server.stop()


@both
async def test_only_unavailable_is_tried_again(ask: Ask) -> None:
    """A first failure of any code: UNAVAILABLE is answered by the second attempt, every other is told after one."""
    servicer = Scripted()
    async with serving(servicer) as server:
        for code in CODES:
            servicer.codes, servicer.calls = [code], 0
            if code is grpc.StatusCode.UNAVAILABLE:
                assert (await ask(server.address, "rank", pb.RankRequest(request_id="q"))).request_id == "q"
                assert servicer.calls == 2
            else:
                with pytest.raises(grpc.RpcError) as caught:
                    await ask(server.address, "rank", pb.RankRequest())
                assert caught.value.code() is code
                assert servicer.calls == 1


async def test_retries_are_throttled() -> None:
    """A server that is away for good gets ten calls at most beside those asked for: a failure takes one of 20 tokens, half are spent."""
    servicer = Scripted(always=grpc.StatusCode.UNAVAILABLE)
    async with serving(servicer) as server, aio.RankingClient(server.address, timeout_s=30.0) as one:
        for _ in range(30):
            with pytest.raises(grpc.aio.AioRpcError):
                await one.rank(pb.RankRequest())
    assert 30 < servicer.calls <= 30 + 10


@both
async def test_a_call_nobody_answers_ends_with_its_deadline(ask: Ask) -> None:
    """DEADLINE_EXCEEDED, and not tried again."""
    servicer = Scripted(hangs=True)
    async with serving(servicer) as server:
        with pytest.raises(grpc.RpcError) as caught:
            await ask(server.address, "rank", pb.RankRequest(), timeout_s=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert servicer.calls <= 1


@pytest.mark.parametrize("kind", [client.RankingClient, aio.RankingClient])
@pytest.mark.parametrize("wrong", [None, 0, -1.0, float("nan"), float("inf"), "5", True])
async def test_a_deadline_is_mandatory(kind: Any, wrong: Any) -> None:
    """There is no default, and nothing that is no deadline is taken for one."""
    with pytest.raises(TypeError, match="timeout_s"):
        kind("127.0.0.1:1")
    with pytest.raises(InvalidField, match="timeout_s: must be a number greater than 0"):
        kind("127.0.0.1:1", timeout_s=wrong)


async def test_a_call_may_have_a_deadline_of_its_own_but_not_none() -> None:
    """What a call says wins over the client's, and is looked at as well."""
    servicer = Scripted(hangs=True)
    async with serving(servicer) as server, aio.RankingClient(server.address, timeout_s=3600.0) as one:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one.rank(pb.RankRequest(), timeout_s=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        with pytest.raises(InvalidField, match="timeout_s"):
            await one.rank(pb.RankRequest(), timeout_s=float("inf"))


async def test_gateways_take_turns_and_one_that_does_not_serve_gets_nothing() -> None:
    """Two behind one name share the calls; once one of them says NOT_SERVING the other gets all of them; once it serves again, both do."""
    one, two = Scripted(), Scripted()
    async with serving(one) as first, serving(two) as second:
        target = f"ipv4:{first.address},{second.address}"
        async with aio.RankingClient(target, timeout_s=30.0) as asked:

            async def of_twenty() -> tuple[int, int]:
                before = one.calls, two.calls
                for _ in range(20):
                    await asked.rank(pb.RankRequest())
                return one.calls - before[0], two.calls - before[1]

            async def shared() -> bool:
                return await of_twenty() == (10, 10)

            async def alone() -> bool:
                return await of_twenty() == (0, 20)

            await eventually(shared)
            await first.set_serving(serving=False)
            await eventually(alone)
            await first.set_serving(serving=True)
            await eventually(shared)


@both
async def test_a_gateway_that_has_no_room_says_when_to_come_back(ask: Ask, home: Path) -> None:
    """RESOURCE_EXHAUSTED is not tried again, and the error has the seconds."""
    async with gateway(home, max_concurrent_rpcs=1, queue_calls=0, budget_ms=60_000.0) as gw:
        gw.models.hung.add("trees")
        running = asyncio.create_task(gw.rank(search(3)))
        await eventually(lambda: gw.server.load()[NAME].running == 1)
        with pytest.raises(grpc.RpcError) as caught:
            await ask(gw.server.address, "rank", search(3))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0.0 < (retry_after_s(caught.value) or 0.0) <= 10.0
        assert violations(caught.value) == {}
        assert gw.server.load()[NAME].refused == 1
        gw.models.release.set()
        await running


@both
async def test_an_error_names_its_fields(ask: Ask, gw: Gateway) -> None:
    """INVALID_ARGUMENT: field by field, and nothing about coming back."""
    with pytest.raises(grpc.RpcError) as caught:
        await ask(gw.server.address, "rank", search(0))
    assert violations(caught.value) == {"candidates.item_ids": "need at least 1 candidate"}
    assert retry_after_s(caught.value) is None


async def test_an_error_that_is_no_gateways_says_nothing_more() -> None:
    """Nobody listens: neither fields nor seconds."""
    with pytest.raises(grpc.RpcError) as caught:
        await on_the_loop("127.0.0.1:1", "rank", pb.RankRequest(), timeout_s=5.0)
    assert (violations(caught.value), retry_after_s(caught.value)) == ({}, None)


@both
async def test_every_method_is_answered(ask: Ask, gw: Gateway) -> None:
    """Rank, BatchRank, RecordEvents and GetOnlineFeatures, through either client."""
    address = gw.server.address
    assert len((await ask(address, "rank", search(3))).results.item_ids) == 3
    assert [len(o.response.results.item_ids) for o in (await ask(address, "batch_rank", [search(2), search(4)])).outcomes] == [2, 4]
    assert (await ask(address, "record", [event(EventType.CLICK, "i1")])).accepted == 1
    assert (await ask(address, "features", Entity.ITEM, ["i1"], ["price_28d"])).columns["price_28d"].tolist() == [2.0]


@both
async def test_tls_and_a_token_open_a_guarded_gateway(ask: Ask, home: Path, tmp_path: Path) -> None:
    """With both it is answered; without the token UNAUTHENTICATED."""
    authority = Authority()
    certificate, key = (str(path) for path in authority.server().write(tmp_path, "server"))
    text = create(home / "tokens.json", "shop", frozenset({Scope.RANK, Scope.FEEDBACK}), now=datetime.now(UTC))
    async with gateway(home, tls_cert=certificate, tls_key=key) as gw:
        tls = Tls(authority.pem)
        assert len((await ask(gw.server.address, "rank", search(3), tls=tls, token=text)).results.item_ids) == 3
        assert (await ask(gw.server.address, "record", [event(EventType.CLICK, "i1")], tls=tls, token=text)).accepted == 1
        with pytest.raises(grpc.RpcError) as caught:
            await ask(gw.server.address, "rank", search(3), tls=tls)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@both
async def test_a_certificate_of_ones_own_is_shown(ask: Ask, home: Path, tmp_path: Path) -> None:
    """Mutual TLS: with it an answer, without it no connection."""
    authority = Authority()
    certificate, key = (str(path) for path in authority.server().write(tmp_path, "server"))
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    own = authority.sign("shop")
    async with gateway(home, tls_cert=certificate, tls_key=key, tls_client_ca=str(tmp_path / "ca.pem")) as gw:
        tls = Tls(authority.pem, own.certificate, own.key)
        assert len((await ask(gw.server.address, "rank", search(3), tls=tls)).results.item_ids) == 3
        with pytest.raises(grpc.RpcError) as caught:
            await ask(gw.server.address, "rank", search(3), tls=Tls(authority.pem), timeout_s=5.0)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize("kind", [client.RankingClient, aio.RankingClient])
async def test_a_token_does_not_cross_a_network_in_plain_text(kind: Any) -> None:
    """Beyond loopback it needs TLS, and the error does not show it."""
    with pytest.raises(InvalidField, match=r"token: would be sent to 'gateway\.example:50051' in plain text") as caught:
        kind("gateway.example:50051", timeout_s=1.0, token="lt_secret")
    assert "lt_secret" not in str(caught.value)


def test_the_client_knows_the_services_by_their_names() -> None:
    """What it asks health about is what the gateway serves."""
    assert (RANKING, FEEDBACK, ONLINE) == (NAME, FEEDBACK_NAME, ONLINE_NAME)


@pytest.mark.parametrize("service", [RANKING, FEEDBACK, ONLINE])
def test_the_service_config_says_what_is_recommended(service: str) -> None:
    """Round robin, health of this very service, UNAVAILABLE alone, throttled, at most the five attempts gRPC allows."""
    config = service_config(service)
    (method,) = config["methodConfig"]
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": service}
    assert method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert 1 < method["retryPolicy"]["maxAttempts"] <= 5
    assert config["retryThrottling"]["maxTokens"] > 0


@dataclass
class Refusing(pb_grpc.RankingServiceServicer):
    """Refuses every call with an error of the gateway's."""

    error: Exception
    calls: int = 0

    async def Rank(self, request: pb.RankRequest, context: Any) -> pb.RankResponse:  # noqa: N802
        self.calls += 1
        raise self.error

    async def BatchRank(self, request: pb.BatchRankRequest, context: Any) -> pb.BatchRankResponse:  # noqa: N802
        self.calls += 1
        raise self.error


FIVE = Throttling(least=5, probe_s=3600.0, window_s=3600.0)  # nothing sent by the clock while a test runs


async def many(kind: str, address: str, calls: int, method: str, *given: Any, throttling: Throttling | None) -> tuple[list[Any], int]:
    """Errors of as many calls of one client, and how many it says it refused itself."""
    errors: list[Any] = []
    if kind == "aio":
        async with aio.RankingClient(address, timeout_s=30.0, throttling=throttling) as one:
            for _ in range(calls):
                with pytest.raises(grpc.RpcError) as caught:
                    await getattr(one, method)(*given)
                errors.append(caught.value)
            return errors, one.refused_here[RANKING]

    def ask() -> int:
        with client.RankingClient(address, timeout_s=30.0, throttling=throttling) as one:
            for _ in range(calls):
                with pytest.raises(grpc.RpcError) as caught:
                    getattr(one, method)(*given)
                errors.append(caught.value)
            return one.refused_here[RANKING]

    return errors, await asyncio.to_thread(ask)


kinds = pytest.mark.parametrize("kind", ["blocking", "aio"])


@kinds
@pytest.mark.parametrize(("method", "given"), [("rank", pb.RankRequest()), ("batch_rank", [pb.RankRequest()])])
async def test_a_client_of_an_overloaded_gateway_holds_back(kind: str, method: str, given: Any) -> None:
    """Nothing is let in: after `least` refusals nearly every call is refused here, with the gateway's code, why, and when to come back."""
    servicer = Refusing(Overloaded("no room", 7.0))
    async with serving(servicer) as server:
        errors, held = await many(kind, server.address, 100, method, given, throttling=FIVE)
    ours = [error for error in errors if isinstance(error, RefusedHere)]
    assert servicer.calls + len(ours) == 100
    assert held == len(ours) > 50  # each is sent with probability 1 / (requests + 1), so about log(100 / 5) are
    assert {error.code() for error in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert "not sent, this client refused it" in ours[0].details()
    assert retry_after_s(ours[0]) == FIVE.probe_s  # longer than the gateway's 7 s
    assert violations(ours[0]) == {}
    assert not any(isinstance(error, RefusedHere) for error in errors[: FIVE.least])


@kinds
@pytest.mark.parametrize(
    "error", [OverQuota("caller 'a' has had enough", 7.0), Unavailable("away"), InvalidField("query", "is wrong"), OutOfTime("late")]
)
async def test_only_an_overload_holds_a_client_back(kind: str, error: Exception) -> None:
    """The caller's quota, a gateway that is away, a wrong request and a deadline say nothing of how much the gateway can do."""
    servicer = Refusing(error)
    async with serving(servicer) as server:
        _, held = await many(kind, server.address, 30, "rank", pb.RankRequest(), throttling=FIVE)
    assert held == 0
    assert servicer.calls >= 30


@kinds
async def test_holding_back_can_be_switched_off(kind: str) -> None:
    """Every call is sent."""
    servicer = Refusing(Overloaded("no room", 7.0))
    async with serving(servicer) as server:
        errors, held = await many(kind, server.address, 60, "rank", pb.RankRequest(), throttling=None)
    assert (servicer.calls, held) == (60, 0)
    assert not any(isinstance(error, RefusedHere) for error in errors)


async def test_lists_that_are_refused_hold_no_events_back() -> None:
    """A gateway has room for each service by itself, and so has the client's throttle."""
    servicer = Refusing(Overloaded("no room", 7.0))
    async with serving(servicer) as server, aio.RankingClient(server.address, timeout_s=30.0, throttling=FIVE) as one:
        for _ in range(60):
            with pytest.raises(grpc.RpcError):
                await one.rank(pb.RankRequest())
        with pytest.raises(grpc.RpcError) as caught:
            await one.record([], timeout_s=0.5)
        assert caught.value.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED
        assert one.refused_here[RANKING] > 0
        assert one.refused_here[FEEDBACK] == one.refused_here[ONLINE] == 0


@pytest.mark.parametrize("kind", [client.RankingClient, aio.RankingClient])
async def test_a_throttling_that_is_none_is_named(kind: Any) -> None:
    """Before anything is connected."""
    with pytest.raises(InvalidField, match=r"throttling: must be Throttling, got 1\.5"):
        kind("127.0.0.1:1", timeout_s=1.0, throttling=1.5)


def test_a_refusal_of_the_clients_travels_between_processes() -> None:
    """As any error of grpc.aio's: a task queue may carry it."""
    error = pickle.loads(pickle.dumps(refused_here(0.25)))
    assert isinstance(error, RefusedHere)
    assert retry_after_s(error) == 0.25


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_a_call_that_is_given_up_is_not_under_way_any_more(how: str) -> None:
    """Else a client whose callers are in a hurry would think that a flood has come."""
    async with serving(Scripted(hangs=True)) as server, aio.RankingClient(server.address, timeout_s=30.0) as one:
        throttle = one._throttles[RANKING]
        assert throttle is not None
        call = asyncio.create_task(one.rank(pb.RankRequest(), timeout_s=0.3 if how == "deadline" else 30.0))
        await eventually(lambda: throttle._under_way == 1)
        if how == "cancelled":
            call.cancel()
        await asyncio.wait([call])
        assert call.cancelled() or isinstance(call.exception(), grpc.aio.AioRpcError)
        assert throttle._under_way == 0
