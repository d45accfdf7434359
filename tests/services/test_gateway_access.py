"""Who may call a gateway: tokens and their scopes, TLS, mutual TLS, and what other machines may reach."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from longtail.features.v1 import online_feature_service_pb2 as online_pb
from longtail.features.v1 import online_feature_service_pb2_grpc as online_rpc
from longtail.feedback.v1 import feedback_service_pb2 as feedback_pb
from longtail.feedback.v1 import feedback_service_pb2_grpc as feedback_rpc
from longtail.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub

from services.features.settings import Settings as FeatureSettings
from services.gateway.doors import SCOPES
from services.gateway.settings import Settings, load
from services.rpc.log import JsonFormatter
from services.rpc.settings import InvalidSettingError
from services.rpc.tokens import Scope, create
from tests.services.certificates import Authority
from tests.services.gateway_fakes import Gateway, gateway, search

SERVING = health_pb2.HealthCheckResponse.SERVING


def token(home: Path, *scopes: Scope, name: str = "shop", days: int = 1) -> str:
    now = datetime.now(UTC)
    return create(home / "tokens.json", name, frozenset(scopes), now=now, expires=now + timedelta(days=days))


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_without_a_file_of_tokens_nobody_needs_one(gw: Gateway) -> None:
    """On loopback, as `make demo` has it."""
    assert len((await gw.rank(search(3))).results.item_ids) == 3


async def test_a_token_is_good_for_its_scopes_only(home: Path) -> None:
    """Each of the three services answers who has its scope; the other scope is PERMISSION_DENIED, and the missing one is named."""
    rank, feedback = token(home, Scope.RANK, name="shop"), token(home, Scope.FEEDBACK, name="app")
    async with gateway(home) as gw:
        stub, events, online = (
            s(gw.channel) for s in (RankingServiceStub, feedback_rpc.FeedbackServiceStub, online_rpc.OnlineFeatureServiceStub)
        )
        assert len((await stub.Rank(search(3), metadata=bearer(rank))).results.item_ids) == 3
        for call, text, scope in (
            (stub.Rank(search(3), metadata=bearer(feedback)), "shop", "rank"),
            (online.GetOnlineFeatures(online_pb.GetOnlineFeaturesRequest(), metadata=bearer(feedback)), "app", "rank"),
            (events.RecordEvents(feedback_pb.RecordEventsRequest(), metadata=bearer(rank)), "shop", "feedback"),
        ):
            error = await refused(call)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED, text
            assert f"needs a token with the scope '{scope}'" in (error.details() or "")
            status = rpc_status.from_call(error)
            info = error_details_pb2.ErrorInfo()
            assert status is not None
            assert status.details[0].Unpack(info)
            assert (info.reason, dict(info.metadata)) == ("SCOPE_MISSING", {"scope": scope})
        # let in, and judged by what they ask
        for call in (
            events.RecordEvents(feedback_pb.RecordEventsRequest(), metadata=bearer(feedback)),
            online.GetOnlineFeatures(online_pb.GetOnlineFeaturesRequest(), metadata=bearer(rank)),
        ):
            assert (await refused(call)).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ((), "this gateway asks for a token"),
        ((("authorization", "Basic abc"),), "must be `Bearer` and a token"),
        (bearer("lt_000000000000_" + "x" * 43), "is not known here"),
        (bearer(""), "is not known here"),
    ],
)
async def test_without_a_token_that_counts_nobody_is_let_in(home: Path, metadata: Any, why: str) -> None:
    """UNAUTHENTICATED, with what to do."""
    token(home, Scope.RANK)
    async with gateway(home) as gw:
        error = await refused(RankingServiceStub(gw.channel).Rank(search(3), metadata=metadata))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert why in (error.details() or "")


async def test_an_expired_token_is_none(home: Path) -> None:
    """It says whose it was and when it ended."""
    old = token(home, Scope.RANK, days=-1)
    async with gateway(home) as gw:
        error = await refused(RankingServiceStub(gw.channel).Rank(search(3), metadata=bearer(old)))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "'shop' expired" in (error.details() or "")


async def test_a_token_names_its_caller_and_the_header_does_not(home: Path, tmp_path: Path) -> None:
    """Limits go by the token's name, whatever `x-caller` says."""
    text = token(home, Scope.RANK)
    limits = tmp_path / "limits.json"
    limits.write_text('{"callers": {"shop": {"calls_per_s": 0.001, "burst": 1}}}')
    async with gateway(home, caller_limits=str(limits)) as gw:
        stub = RankingServiceStub(gw.channel)
        await stub.Rank(search(3), metadata=bearer(text))
        error = await refused(stub.Rank(search(3), metadata=(*bearer(text), ("x-caller", "other"))))
        assert "caller 'shop'" in (error.details() or "")


async def test_health_needs_no_token_and_reflection_does(home: Path) -> None:
    """Probes have none; who wants to read the contract shows one."""
    text = token(home, Scope.RANK)
    async with gateway(home) as gw:
        health = health_pb2_grpc.HealthStub(gw.channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING
        stream = health.Watch(health_pb2.HealthCheckRequest())
        assert (await stream.read()).status == SERVING
        stream.cancel()
        stub = reflection_pb2_grpc.ServerReflectionStub(gw.channel)
        ask = [reflection_pb2.ServerReflectionRequest(list_services="")]
        assert (await refused(stub.ServerReflectionInfo(iter(ask)).read())).code() is grpc.StatusCode.UNAUTHENTICATED
        answer = await stub.ServerReflectionInfo(iter(ask), metadata=bearer(text)).read()
        assert {s.name for s in answer.list_services_response.service} >= set(SCOPES)


async def test_nothing_on_the_gateways_port_is_for_admins(home: Path) -> None:
    """Every service it serves has a scope, none of them `admin`: what changes the platform is on another port."""
    async with gateway(home) as gw:
        stub = reflection_pb2_grpc.ServerReflectionStub(gw.channel)
        answer = await stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")])).read()
    served = {s.name for s in answer.list_services_response.service}
    assert served - {"grpc.health.v1.Health"} == set(SCOPES)
    assert Scope.ADMIN not in SCOPES.values()


async def test_secrets_are_in_no_log_and_no_error(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Good, wrong and unscoped tokens at every level of logging: neither the secret nor its digest is written or answered."""
    caplog.set_level(logging.DEBUG)
    good, other = token(home, Scope.RANK), token(home, Scope.FEEDBACK, name="app")
    wrong = good[:-4] + "0000"
    said = []
    async with gateway(home) as gw:
        stub = RankingServiceStub(gw.channel)
        await stub.Rank(search(3), metadata=bearer(good))
        for text in (wrong, other):
            error = await refused(stub.Rank(search(3), metadata=bearer(text)))
            said.append(f"{error.details()}{error.trailing_metadata()}")
    formatter = JsonFormatter()
    said += [formatter.format(record) for record in caplog.records if not record.name.startswith("grpc")]
    for text in (good, wrong, other):
        assert text.split("_", 2)[2][:10] not in "".join(said)


@asynccontextmanager
async def secure(home: Path, folder: Path, authority: Authority, **settings: Any) -> AsyncIterator[Gateway]:
    certificate, key = authority.server().write(folder, "server")
    async with gateway(home, tls_cert=str(certificate), tls_key=str(key), **settings) as gw:
        yield gw


async def ranks(gw: Gateway, credentials: grpc.ChannelCredentials) -> bool:
    """Whether a client with these credentials gets an answer; on a connection of its own."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.secure_channel(gw.server.address, credentials, options=options) as channel:
        try:
            return len((await RankingServiceStub(channel).Rank(search(3), timeout=20)).results.item_ids) == 3
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE  # noqa: PT017 - the handshake failed
            return False


async def test_with_tls_only_who_trusts_the_authority_is_answered(home: Path, tmp_path: Path) -> None:
    """The authority's client is; one that trusts another authority, and one in plain text, get no connection."""
    authority = Authority()
    async with secure(home, tmp_path, authority) as gw:
        assert await ranks(gw, grpc.ssl_channel_credentials(authority.pem))
        assert not await ranks(gw, grpc.ssl_channel_credentials(Authority("another").pem))
        assert (await refused(gw.rank(search(3), timeout=20))).code() is grpc.StatusCode.UNAVAILABLE


async def test_with_mutual_tls_the_certificate_names_the_caller(home: Path, tmp_path: Path) -> None:
    """A client without a certificate, or with another authority's, gets no connection; limits go by the name in it."""
    authority, other = Authority(), Authority("another")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    limits = tmp_path / "limits.json"
    limits.write_text('{"callers": {"shop": {"calls_per_s": 0.001, "burst": 1}}}')
    client, stranger = authority.sign("shop"), other.sign("shop")
    async with secure(home, tmp_path, authority, tls_client_ca=str(tmp_path / "ca.pem"), caller_limits=str(limits)) as gw:
        assert not await ranks(gw, grpc.ssl_channel_credentials(authority.pem))
        assert not await ranks(gw, grpc.ssl_channel_credentials(authority.pem, stranger.key, stranger.certificate))
        own = grpc.ssl_channel_credentials(authority.pem, client.key, client.certificate)
        assert await ranks(gw, own)
        async with grpc.aio.secure_channel(gw.server.address, own) as channel:
            error = await refused(RankingServiceStub(channel).Rank(search(3)))
            assert "caller 'shop'" in (error.details() or "")


async def test_a_renewed_certificate_serves_the_next_connection(home: Path, tmp_path: Path) -> None:
    """Replaced by another authority's while running: its clients are answered; a damaged one after that changes nothing."""
    old, new = Authority("old"), Authority("new")
    async with secure(home, tmp_path, old) as gw:
        assert await ranks(gw, grpc.ssl_channel_credentials(old.pem))
        new.server().write(tmp_path, "server")
        assert await ranks(gw, grpc.ssl_channel_credentials(new.pem))
        assert not await ranks(gw, grpc.ssl_channel_credentials(old.pem))
        (tmp_path / "server.pem").write_text("damaged")
        assert await ranks(gw, grpc.ssl_channel_credentials(new.pem))


async def test_certificates_that_do_not_fit_keep_the_gateway_from_starting(home: Path, tmp_path: Path) -> None:
    """A key of another certificate, and a file that is not there, are named."""
    certificate, _ = Authority().server().write(tmp_path, "one")
    _, key = Authority().server().write(tmp_path, "two")
    for settings, named in (
        ({"tls_cert": str(certificate), "tls_key": str(key)}, "two.key"),
        ({"tls_cert": str(tmp_path / "no.pem"), "tls_key": str(key)}, "no.pem"),
    ):
        with pytest.raises(InvalidSettingError, match=named):
            async with gateway(home, **settings):
                pass


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "gateway.example:50051"])
async def test_other_machines_reach_nothing_without_credentials(home: Path, address: str) -> None:
    """An address beyond loopback is refused unless TLS and tokens, or TLS of both sides, stand before it; what is missing is named."""
    with pytest.raises(InvalidSettingError, match=r"LONGTAIL_ADDRESS: .*LONGTAIL_TLS_CERT.*and tokens.*INSECURE_BEYOND_LOOPBACK"):
        async with gateway(home, address=address):
            pass


async def test_credentials_or_a_word_open_an_address(home: Path, tmp_path: Path) -> None:
    """TLS alone is not enough, TLS with tokens is; and so is saying that it is meant to be open."""
    certificate, key = (str(path) for path in Authority().server().write(tmp_path, "server"))
    with pytest.raises(InvalidSettingError, match="which needs tokens"):
        async with gateway(home, address="0.0.0.0:0", tls_cert=certificate, tls_key=key):
            pass
    async with gateway(home, address="0.0.0.0:0", insecure_beyond_loopback=True):
        pass
    token(home, Scope.RANK)
    async with gateway(home, address="0.0.0.0:0", tls_cert=certificate, tls_key=key):
        pass


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "[::]:9464", "10.0.0.7:9464"])
def test_metrics_are_for_this_machine_unless_told_otherwise(address: str) -> None:
    """Both processes refuse an address beyond loopback, naming it and the setting that allows it; on loopback nothing is asked."""
    for make, name in ((Settings, "metrics_address"), (FeatureSettings, "feature_metrics_address")):
        with pytest.raises(InvalidSettingError, match=rf"LONGTAIL_{name.upper()}: .*LONGTAIL_INSECURE_BEYOND_LOOPBACK=true"):
            make(**{name: address})  # type: ignore[operator]
        make(**{name: address}, insecure_beyond_loopback=True)  # type: ignore[operator]
        for here in ("127.0.0.1:0", "[::1]:0", "localhost:9464", "off"):
            make(**{name: here})  # type: ignore[operator]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"LONGTAIL_TLS_CERT": "a.pem"}, "LONGTAIL_TLS_KEY: certificate and key go together"),
        ({"LONGTAIL_TLS_KEY": "a.key"}, "LONGTAIL_TLS_CERT: certificate and key go together"),
        ({"LONGTAIL_TLS_CLIENT_CA": "ca.pem"}, "LONGTAIL_TLS_CLIENT_CA: needs LONGTAIL_TLS_CERT and LONGTAIL_TLS_KEY"),
    ],
)
def test_settings_that_go_together_are_asked_for_together(given: dict[str, str], why: str) -> None:
    """The one that is missing is named."""
    with pytest.raises(InvalidSettingError, match=why):
        load([], given)


async def test_a_file_of_tokens_that_was_named_must_be_there(home: Path, tmp_path: Path) -> None:
    """Else the gateway would stand open: it does not start."""
    with pytest.raises(InvalidSettingError, match=r"LONGTAIL_TOKENS: .*is not there"):
        async with gateway(home, tokens=str(tmp_path / "absent.json")):
            pass
