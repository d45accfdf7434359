"""A release on trial: who meets it, and that nobody is worse off for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from deploy import store
from ranking.layout import Layout
from ranking.trial import Mode, Trial, tried
from tests.deploy.releases import alter, build_release
from tests.services.gateway_fakes import Gateway, add_policy, eventually, gateway, search

USERS = [f"user-{i}" for i in range(40)]


def canary(share: float, release: str = "r2") -> Trial:
    return Trial(release, Mode.CANARY, share, release, "2026-01-01T00:00:00Z")


def met(trial: Trial) -> dict[str, str]:
    """user -> the release that is to answer."""
    return {user: trial.release if tried(trial, user) else "r1" for user in USERS}


async def answering(gw: Gateway) -> dict[str, str]:
    """user -> the release that answers."""
    answers = await asyncio.gather(*(gw.rank(search(2, user_id=user)) for user in USERS))
    return {user: answer.release for user, answer in zip(USERS, answers, strict=True)}


async def until(gw: Gateway, expected: dict[str, str]) -> None:
    async def as_expected() -> bool:
        return await answering(gw) == expected

    await eventually(as_expected)


@pytest.fixture
async def two(home: Path) -> AsyncIterator[Gateway]:
    """A gateway that serves `r1`, beside which lies `r2` with other scores."""
    build_release(Layout(home).releases, "r2", 2, bias=5.0)
    async with gateway(home) as gw:
        gw.models.bias = {2: 5.0}
        yield gw


async def test_a_canary_answers_its_users_and_no_others(two: Gateway) -> None:
    """Those the hash chooses are answered by the release on trial, wholly; raising the share adds users, ending it brings all back."""
    releases = two.layout.releases
    for share in (0.3, 0.6):
        store.put_on_trial(releases, canary(share))
        await until(two, met(canary(share)))
    assert {"r1", "r2"} == set(met(canary(0.3)).values()) == set(met(canary(0.6)).values())
    user = next(u for u, release in met(canary(0.3)).items() if release == "r2")
    answer = await two.rank(search(5, user_id=user))
    assert (answer.release, dict(answer.model_versions)) == ("r2", {"trees": "2", "bert": "2"})
    assert (await two.rank(search(5, user_id=user, validate_only=True))).release == "r2"
    assert (await two.rank(search(5, user_id=user, release="r1"))).release == "r1"  # who pins is no part of it
    store.end_trial(releases)
    await until(two, dict.fromkeys(USERS, "r1"))


async def test_a_shadow_answers_nobody(two: Gateway) -> None:
    """Every answer stays the active release's; one that pins the release on trial gets it."""
    trial = Trial("r2", Mode.SHADOW, 1.0, "r2", "")
    store.put_on_trial(two.layout.releases, trial)
    await eventually(lambda: (json.loads((two.layout.run / "gateway.json").read_text()).get("trial") or {}).get("mode") == "shadow")
    assert await answering(two) == dict.fromkeys(USERS, "r1")
    assert (await two.rank(search(2, release="r2"))).release == "r2"


async def test_a_trial_that_cannot_be_trusted_degrades_to_the_active_release(two: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused once in the log, all are answered by the active release, and mending it is enough to go on."""
    releases = two.layout.releases
    good = json.loads((releases / "r2" / "release.json").read_text())["feature_schema_hash"]
    alter(releases, "r2", lambda m: m.update(feature_schema_hash="feed"))
    store.put_on_trial(releases, canary(1.0))
    await eventually(lambda: "trial_refused" in caplog.text)
    assert await answering(two) == dict.fromkeys(USERS, "r1")
    assert caplog.messages.count("trial_refused") == 1
    alter(releases, "r2", lambda m: m.update(feature_schema_hash=good))
    await until(two, dict.fromkeys(USERS, "r2"))


@pytest.mark.parametrize("change", ['"share": 7', '"share": null', '"share": "all"'])
async def test_a_damaged_trial_in_the_pointer_changes_nothing(two: Gateway, change: str, caplog: pytest.LogCaptureFixture) -> None:
    """The active release goes on answering, and goes on being followed."""
    releases = two.layout.releases
    store.put_on_trial(releases, canary(0.5))
    text = two.layout.pointer.read_text()
    assert '"share": 0.5' in text
    two.layout.pointer.write_text(text.replace('"share": 0.5', change))
    await eventually(lambda: "trial_refused" in caplog.text)
    assert await answering(two) == dict.fromkeys(USERS, "r1")
    store.activate(releases, "r2")
    await until(two, dict.fromkeys(USERS, "r2"))


async def test_what_a_canary_cannot_answer_the_active_release_does(two: Gateway) -> None:
    """A policy that only the active release has is followed by it; one that neither has is an error as ever."""
    releases = two.layout.releases
    build_release(releases, "r3", 3)
    add_policy(two.layout.home, "mine", "r3", mode="off", active=False)
    store.activate(releases, "r3")
    store.put_on_trial(releases, canary(1.0))
    await until(two, dict.fromkeys(USERS, "r2"))
    assert (await two.rank(search(3, policy="none"))).release == "r2"
    assert (await two.rank(search(3, policy="mine"))).release == "r3"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await two.rank(search(3, policy="nobody's"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_trial_under_load_fails_no_call(two: Gateway) -> None:
    """While a canary starts, grows, is promoted and rolled back, every call is answered by one whole release, and users stick to theirs."""
    releases = two.layout.releases
    answers: list[tuple[str, str, pb.RankResponse]] = []  # phase, user
    phase, done = "change", asyncio.Event()

    async def load(worker: int) -> None:
        turn = 0
        while not done.is_set():
            user, began = USERS[(7 * worker + turn) % len(USERS)], phase
            answer = await two.rank(search(20, user_id=user))
            turn += 1
            answers.append((began if began == phase else "change", user, answer))  # what straddles a change may be of either side

    async def step(name: str, expected: dict[str, str]) -> None:
        nonlocal phase
        await until(two, expected)
        phase = name
        before = len(answers)
        await eventually(lambda: sum(p == name for p, _, _ in answers[before:]) > 30)
        phase = "change"

    workers = [asyncio.create_task(load(i)) for i in range(4)]
    store.put_on_trial(releases, canary(0.5))
    await step("half", met(canary(0.5)))
    store.put_on_trial(releases, canary(0.8))
    await step("more", met(canary(0.8)))
    store.activate(releases, "r2")
    await step("promoted", dict.fromkeys(USERS, "r2"))
    store.rollback(releases)
    await step("back", dict.fromkeys(USERS, "r1"))
    done.set()
    await asyncio.gather(*workers)  # raises if one call failed
    to_meet = {"half": met(canary(0.5)), "more": met(canary(0.8)), "promoted": dict.fromkeys(USERS, "r2")}
    to_meet["back"] = dict.fromkeys(USERS, "r1")
    for name, user, answer in answers:
        assert set(answer.model_versions.values()) == {answer.release[1:]}
        assert not answer.degradations or {d.component for d in answer.degradations} == {"features:user"}
        if name in to_meet:
            assert answer.release == to_meet[name][user]
