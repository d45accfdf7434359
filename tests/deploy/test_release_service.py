"""`ReleaseService` on a real server: what is done from afar is what is done here, and nobody without the token does anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from longtail.release.v1 import release_service_pb2 as pb
from longtail.release.v1 import release_service_pb2_grpc

from deploy.operations import Here, Releases
from deploy.service import credentials
from deploy.service.client import CallRefused, There
from deploy.service.server import NAME, ReleaseServer
from ranking.errors import InvalidRelease, LongtailError, Unavailable, UnknownName
from ranking.layout import Layout
from ranking.trial import Mode
from tests.deploy.releases import alter, build_release
from tests.deploy.servers import running_triton

Stub = release_service_pb2_grpc.ReleaseServiceStub


@pytest.fixture
def served(layout: Layout) -> Iterator[tuple[ReleaseServer, str]]:
    """The service on a store with r1, no Triton behind it; and the token."""
    build_release(layout.releases, "r1", 1)
    token = credentials.issue(layout.release_token)
    server = ReleaseServer(Here(layout, _no_triton), "127.0.0.1:0", layout.release_token)
    server.start()
    yield server, token
    server.stop()


def _no_triton() -> str:
    raise Unavailable("no Triton runs here")


@pytest.fixture
def stub(served: tuple[ReleaseServer, str]) -> Iterator[Stub]:
    with grpc.insecure_channel(served[0].address) as channel:
        yield Stub(channel)


def _refused(stub: Stub, method: str, request: object, token: str) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request, timeout=30, metadata=(("authorization", f"Bearer {token}"),))
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("shown", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}", "bearer {token}"])
def test_nothing_is_told_or_done_without_the_token(served: tuple[ReleaseServer, str], stub: Stub, shown: str | None) -> None:
    """No method answers, and no answer says what the token is."""
    _, token = served
    metadata = () if shown is None else (("authorization", shown.format(token=token)),)
    for method in pb.DESCRIPTOR.services_by_name["ReleaseService"].methods:
        with pytest.raises(grpc.RpcError) as caught:
            getattr(stub, method.name)(getattr(pb, method.input_type.name)(), timeout=30, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert token not in caught.value.details()


def test_a_new_token_replaces_the_old_one_at_once(served: tuple[ReleaseServer, str], layout: Layout) -> None:
    """This machine keeps the digest alone; without any, nobody may do anything."""
    server, old = served
    assert old not in layout.release_token.read_text()
    new = credentials.issue(layout.release_token)
    with There(server.address, old) as there, pytest.raises(CallRefused, match="UNAUTHENTICATED: the token is not the one"):
        there.listed()
    with There(server.address, new) as there:
        assert [row.id for row in there.listed()] == ["r1"]
        layout.release_token.unlink()
        with pytest.raises(CallRefused, match="no token was issued for this service"):
            there.listed()


@pytest.mark.parametrize(
    ("method", "request_", "code", "message"),
    [
        ("GetRelease", pb.GetReleaseRequest(), grpc.StatusCode.INVALID_ARGUMENT, "release: is required"),
        ("ActivateRelease", pb.ActivateReleaseRequest(), grpc.StatusCode.INVALID_ARGUMENT, "release: is required"),
        ("GetRelease", pb.GetReleaseRequest(release="r9"), grpc.StatusCode.NOT_FOUND, "release: 'r9' is not known; known: r1"),
        ("SetTraffic", pb.SetTrafficRequest(release="r1"), grpc.StatusCode.INVALID_ARGUMENT, "release: must not be set without a mode"),
        ("SetTraffic", pb.SetTrafficRequest(share=0.0), grpc.StatusCode.INVALID_ARGUMENT, "share: must not be set without a mode"),
        ("SetTraffic", pb.SetTrafficRequest(mode=1), grpc.StatusCode.INVALID_ARGUMENT, "share: is required with a mode"),
        ("SetTraffic", pb.SetTrafficRequest(mode=1, share=1.5), grpc.StatusCode.INVALID_ARGUMENT, "share: must be within 0 and 1"),
        ("SetTraffic", pb.SetTrafficRequest(mode=1, share=float("nan")), grpc.StatusCode.INVALID_ARGUMENT, "share: must be within"),
        ("SetTraffic", pb.SetTrafficRequest(mode=7, share=0.5), grpc.StatusCode.INVALID_ARGUMENT, "mode: 7 is not known"),
        ("CollectGarbage", pb.CollectGarbageRequest(keep=-1), grpc.StatusCode.INVALID_ARGUMENT, "keep: must not be negative"),
        ("CollectGarbage", pb.CollectGarbageRequest(), grpc.StatusCode.FAILED_PRECONDITION, "ACTIVE: names no active release"),
        ("ActivateRelease", pb.ActivateReleaseRequest(release="r1"), grpc.StatusCode.UNAVAILABLE, "no Triton runs here"),
    ],
)
def test_every_refusal_says_why(
    served: tuple[ReleaseServer, str], stub: Stub, method: str, request_: object, code: grpc.StatusCode, message: str
) -> None:
    """Each kind of error has its code, and the message that the command line gives."""
    found, details = _refused(stub, method, request_, served[1])
    assert (found, details[: len(message)]) == (code, message)


def test_a_bug_is_internal_and_keeps_its_text(layout: Layout) -> None:
    """What nobody foresaw is in the log and not in the answer."""

    class Broken(Here):
        def listed(self) -> list:  # type: ignore[type-arg]
            raise RuntimeError("a secret")

    token = credentials.issue(layout.release_token)
    server = ReleaseServer(Broken(layout, _no_triton), "127.0.0.1:0", layout.release_token)
    server.start()
    try:
        with There(server.address, token) as there, pytest.raises(CallRefused, match="INTERNAL: internal error") as caught:
            there.listed()
        assert "secret" not in str(caught.value)
    finally:
        server.stop()


def test_where_it_listens(served: tuple[ReleaseServer, str], layout: Layout) -> None:
    """On loopback alone, on a port of its own, and health is told to anybody."""
    server, _ = served
    with pytest.raises(ValueError, match=r"must be on 127\.0\.0\.1, .* got '0\.0\.0\.0:1'"):
        ReleaseServer(Here(layout, _no_triton), "0.0.0.0:1", layout.release_token)
    with pytest.raises(Unavailable, match=f"cannot listen on {server.address}"):
        ReleaseServer(Here(layout, _no_triton), server.address, layout.release_token)
    with grpc.insecure_channel(server.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=NAME), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Layout, str]]:
    layout = Layout(tmp_path_factory.mktemp("service"))
    with running_triton(layout) as server:
        yield layout, server.address


@pytest.fixture(params=["here", "there"])
def releases(request: pytest.FixtureRequest, triton: tuple[Layout, str]) -> Iterator[Releases]:
    """The same platform, from here and from afar."""
    layout, address = triton
    here = Here(layout, lambda: address)
    if request.param == "here":
        yield here
        return
    token = credentials.issue(layout.release_token)
    server = ReleaseServer(here, "127.0.0.1:0", layout.release_token)
    server.start()
    try:
        with There(server.address, token) as there:
            yield there
    finally:
        server.stop()


@pytest.mark.servers
def test_traffic_is_moved_from_afar_as_from_here(releases: Releases, triton: tuple[Layout, str]) -> None:
    """Activate, try, promote, roll back, verify, collect: the same values come back and the same refusals, and the store is moved."""
    layout, _ = triton
    first = 10 if isinstance(releases, Here) else 20
    one, two, wrong = (f"v{first + i}" for i in range(3))
    for i, name in enumerate((one, two, wrong)):
        build_release(layout.releases, name, first + i)
    alter(layout.releases, wrong, lambda m: m.update(feature_schema_hash="0" * 16))
    here = Here(layout, _no_triton)

    assert releases.activate(one) == here.get(one)
    assert releases.status()["active"] == one
    assert releases.get(one).members[0].name == "trees"
    tried = releases.try_out(two, Mode.CANARY, 0.25)
    assert (tried.release, tried.mode, tried.share) == (two, Mode.CANARY, 0.25)
    status = releases.status()
    assert (status["trial"]["release"], status["trial"]["mode"], status["trial"]["share"]) == (two, "canary", 0.25)
    assert releases.promote().id == two
    assert releases.end_trial() is None
    assert releases.rollback().id == one
    assert releases.try_out(two, Mode.SHADOW, 1.0).mode is Mode.SHADOW
    ended = releases.end_trial()
    assert ended is not None
    assert ended.release == two
    assert releases.verify(two).id == two
    for refusal in (lambda: releases.activate(wrong), lambda: releases.verify(wrong), lambda: releases.activate(two, instead_of=wrong)):
        with pytest.raises(LongtailError, match=r"feature_schema_hash: trained on|became active instead of"):
            refusal()
    assert [row for row in releases.listed() if row.active] == [row for row in here.listed() if row.id == one]
    assert releases.status()["active"] == one
    assert {one, two} & {gone.release for gone in releases.collect(0)} <= {two}
    assert Path(layout.releases / one).is_dir()


@pytest.mark.servers
def test_what_is_not_there_is_named_from_afar_too(releases: Releases) -> None:
    """The message is the same; only the kind of error is the caller's side's."""
    with pytest.raises((UnknownName, CallRefused), match="release: 'nosuch' is not known; known: "):
        releases.activate("nosuch")
    with pytest.raises((InvalidRelease, CallRefused), match=r"no release is on trial"):
        releases.promote()
