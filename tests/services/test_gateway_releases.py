"""Which release answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranking.errors import InvalidRelease
from ranking.layout import Layout
from ranking.release import MANIFEST
from services.gateway.releases import Releases, load
from services.gateway.servicer import NAME
from tests.deploy.releases import alter, build_release
from tests.services.gateway_fakes import Gateway, activate, eventually, gateway, search


async def until_release(gw: Gateway, release: str) -> None:
    """Wait for the gateway to answer with `release`."""

    async def answers() -> bool:
        return (await gw.rank(search(1))).release == release

    await eventually(answers)


async def health(gw: Gateway, service: str = NAME) -> int:
    stub = health_pb2_grpc.HealthStub(gw.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def test_without_a_release_the_gateway_runs_and_says_unavailable(tmp_path: Path) -> None:
    """UNAVAILABLE and NOT_SERVING until a release is active, then SERVING without a restart."""
    async with gateway(tmp_path) as gw:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gw.rank(search(1))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await health(gw) == health_pb2.HealthCheckResponse.NOT_SERVING
        build_release(gw.layout.releases, "r1", 1)
        activate(tmp_path, "r1")

        async def serving() -> bool:
            return await health(gw) == health_pb2.HealthCheckResponse.SERVING

        await eventually(serving)
        assert (await gw.rank(search(1))).release == "r1"


async def test_a_switch_under_load_never_mixes_two_releases(gw: Gateway, home: Path) -> None:
    """Every answer is wholly the old release's or wholly the new one's, no call fails, and none goes back."""
    gw.models.bias = {2: 5.0}
    build_release(gw.layout.releases, "r2", 2, bias=5.0)
    expected = {"r1": (await gw.rank(search(20))).results}
    answers = []
    done = asyncio.Event()

    async def load_generator() -> None:
        while not done.is_set():
            answers.append(await gw.rank(search(20)))

    workers = [asyncio.create_task(load_generator()) for _ in range(4)]
    activate(home, "r2")
    await until_release(gw, "r2")
    expected["r2"] = (await gw.rank(search(20))).results
    done.set()
    await asyncio.gather(*workers)
    assert expected["r1"] != expected["r2"]
    for answer in answers:
        assert answer.results == expected[answer.release]
        assert set(answer.model_versions.values()) == {answer.release[1:]}


async def test_recent_releases_stay_usable_for_pinned_requests(home: Path) -> None:
    """The active release and the one before it are served, as many as Triton keeps loaded; the one before that is NOT_FOUND."""
    async with gateway(home) as gw:
        for number in (2, 3):
            build_release(gw.layout.releases, f"r{number}", number)
            activate(home, f"r{number}")
            await until_release(gw, f"r{number}")
        pinned = await gw.rank(search(3, release="r2"))
        assert (pinned.release, dict(pinned.model_versions)) == ("r2", {"trees": "2", "bert": "2"})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gw.rank(search(3, release="r1"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_release_that_cannot_be_trusted_is_refused_and_the_old_one_serves(
    gw: Gateway, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pointing at a broken release changes nothing but the log, which says so once; mending it is enough to switch."""
    build_release(gw.layout.releases, "r2", 2)
    alter(gw.layout.releases, "r2", lambda m: m.update(feature_schema_hash="feed"))
    activate(home, "r2")
    await eventually(lambda: "release_refused" in caplog.text)
    await asyncio.sleep(0.1)
    assert caplog.text.count("release_refused") == 1
    assert (await gw.rank(search(1))).release == "r1"
    good = load(gw.layout.releases, "r1").schema_hash
    alter(gw.layout.releases, "r2", lambda m: m.update(feature_schema_hash=good))
    await until_release(gw, "r2")


@pytest.mark.parametrize("content", ["", "{", '"r2"', '{"release": "../etc"}', '{"release": "absent", "activated": "", "previous": []}'])
async def test_a_bad_pointer_changes_nothing(gw: Gateway, content: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the pointer says, the last good release keeps serving."""
    gw.layout.pointer.write_text(content)
    await eventually(lambda: "release_refused" in caplog.text)
    assert (await gw.rank(search(1))).release == "r1"


def test_a_changed_tokenizer_is_refused(home: Path) -> None:
    """The tokenizer's digest is checked: scores depend on it as much as on a model."""
    path = Layout(home).releases / "r1" / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(InvalidRelease, match=r"tokenizer\.sha256"):
        load(Layout(home).releases, "r1")


def test_a_release_in_the_wrong_directory_is_refused(home: Path) -> None:
    """The manifest's id and the directory's name must agree."""
    store = Layout(home).releases
    (store / "r1").rename(store / "r7")
    with pytest.raises(InvalidRelease, match="id: 'r1' lies in the directory of 'r7'"):
        load(store, "r7")


@pytest.mark.parametrize("content", ["null", "5", "[]", '"r1"'])
def test_a_manifest_that_is_no_object_is_refused(home: Path, content: str) -> None:
    """JSON that is not an object is an invalid release and no TypeError."""
    (Layout(home).releases / "r1" / MANIFEST).write_text(content)
    with pytest.raises(InvalidRelease, match="must be a JSON object"):
        load(Layout(home).releases, "r1")


async def test_the_watcher_outlives_whatever_a_poll_raises(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A listener that fails is logged once, asked again until it succeeds, and hears of the next release."""
    told: list[str] = []
    full = True

    async def listener(release: str) -> None:
        if full:
            raise OSError("disk full")
        told.append(release)

    layout = Layout(home)
    releases = Releases(layout.releases, layout.pointer, kept=2, on_active=listener)
    watching = asyncio.create_task(releases.watch(0.01))
    await eventually(lambda: "disk full" in caplog.text)
    await asyncio.sleep(0.1)
    assert caplog.messages.count("release_poll_failed") == 1
    assert releases.get("").release.id == "r1"
    full = False
    await eventually(lambda: told == ["r1"])
    build_release(layout.releases, "r2", 2)
    activate(home, "r2")
    await eventually(lambda: told == ["r1", "r2"])
    assert not watching.done()
    watching.cancel()
