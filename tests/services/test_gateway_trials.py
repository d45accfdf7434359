"""A release on trial: who meets it, and that nobody is worse off for it."""

from __future__ import annotations

import asyncio
import json
import math
import re
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import grpc
import pyarrow.parquet as pq
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from deploy import store
from ranking.layout import Layout
from ranking.trial import Mode, Trial, tried, unit_of
from services.gateway.trials.log import Answered, Line, Shadowed, TrialLog, read
from tests.deploy.releases import alter, build_release
from tests.services.gateway_fakes import Gateway, add_policy, eventually, floors, gateway, search

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
    async with gateway(home, budget_ms=200_000) as gw:
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


def shadow(share: float = 1.0) -> Trial:
    return Trial("r2", Mode.SHADOW, share, "r2", "2026-01-01T00:00:00Z")


def lines(gw: Gateway) -> list[Line]:
    return list(read(gw.layout.trials))


async def until_lines(gw: Gateway, n: int) -> None:
    """Wait until the log of trials has `n` lines."""
    await eventually(lambda: len(lines(gw)) == n)


async def following(gw: Gateway, trial: Trial) -> None:
    """Wait until the gateway has what the pointer has."""
    store.put_on_trial(gw.layout.releases, trial)
    told = gw.layout.run / "gateway.json"
    await eventually(lambda: (json.loads(told.read_text()).get("trial") or {}) == asdict(trial))


async def scrape(gw: Gateway) -> str:
    """What Prometheus reads."""
    address = json.loads((gw.layout.run / "gateway.json").read_text())["metrics"]
    return await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{address}/metrics").read().decode())


async def test_a_shadow_is_compared(two: Gateway) -> None:
    """Each request's line says how the two lists differ; who pins a release is not shadowed."""
    await following(two, shadow())
    answer = await two.rank(search(20))
    await two.rank(search(20, release="r1"))
    await eventually(lambda: lines(two))
    await two.server.stop()
    (line,) = lines(two)
    assert isinstance(line, Shadowed)
    assert (line.tried, line.active, line.share, line.surface, line.policy) == ("r2", "r1", 1.0, "search", answer.policy)
    assert (line.degraded_active, line.degraded_tried) == (False, False)
    # A constant added to every member's log-odds raises every probability and, without prices, moves no place.
    assert (line.overlap, line.correlation) == (1.0, 1.0)
    assert line.probability == line.shift > 0.0
    assert line.tiers_active == line.tiers_tried
    assert sum(line.tiers_active) == pytest.approx(1.0)
    assert line.ms_tried > 0.0 < line.ms_active


async def test_a_shadow_leaves_no_trace(home: Path) -> None:
    """What groups are owed, what was served and how many lists were counted is what it is without a shadow."""
    layout = Layout(home)
    build_release(layout.releases, "r2", 2, bias=5.0)
    for release in ("r1", "r2"):
        add_policy(home, "shares", release, rules=floors("popularity_tier", tail=0.3), scope="both")
    owed = []
    for on in (False, True):
        (home / "exposure.db").unlink(missing_ok=True)
        async with gateway(home, metrics_address="127.0.0.1:0", budget_ms=200_000) as gw:
            gw.models.bias = {2: 5.0}
            if on:
                await following(gw, shadow())
            for count in (1, 2):
                answer = await gw.rank(search(20))
                await until_lines(gw, count if on else 0)
            owed.append({e.group: e.debt for e in answer.exposure})
            scraped = await scrape(gw)
            assert re.findall(r"^longtail_rankings_total\{.*\} (.*)$", scraped, re.MULTILINE) == ["2.0"]
    assert any(debt != 0.0 for debt in owed[0].values())
    assert owed[1] == pytest.approx(owed[0], rel=0.2)  # they fade with time; recorded twice, they would be twice as much
    served = [row for path in layout.served.glob("*.parquet") for row in pq.read_table(path, columns=["release"]).to_pylist()]
    assert Counter(row["release"] for row in served) == {"r1": 2 * 2 * 20}


async def test_no_line_of_the_log_knows_a_user(two: Gateway) -> None:
    """Neither a user's id nor a query is in any byte of the log; users are one of a thousand units."""
    await following(two, shadow())
    for user in ("shopper-4711", "shopper-4712"):
        so_far = len(lines(two))
        await two.rank(search(5, user_id=user, query="secret milk", session_id="secret-session", request_id="secret-request"))
        await until_lines(two, so_far + 1)
    await following(two, canary(1.0))
    await two.rank(search(5, user_id="shopper-4713", query="secret milk"))
    await eventually(lambda: len(lines(two)) == 3)
    text = "".join(path.read_text() for path in two.layout.trials.iterdir())
    assert "shopper" not in text
    assert "secret" not in text
    assert {line.unit for line in lines(two)} == {unit_of(canary(1.0), f"shopper-{i}") for i in (4711, 4712, 4713)}


async def test_a_busy_shadow_drops_requests_and_holds_up_none(home: Path) -> None:
    """While the models of the release on trial hang, calls are answered, two are shadowed, and the others are counted as dropped."""
    layout = Layout(home)
    build_release(layout.releases, "r2", 2)
    alter(layout.releases, "r2", lambda m: m["members"][0].update(model="slow"))
    async with gateway(home, metrics_address="127.0.0.1:0", shadows_at_once=2, budget_ms=200_000) as gw:
        gw.models.hung = {"slow"}
        await following(gw, shadow())
        answers = [await gw.rank(search(5, user_id=user)) for user in USERS[:7]]
        assert [a.release for a in answers] == ["r1"] * 7
        assert {m for a in answers for m in a.model_versions.values()} == {"1"}
        scraped = await scrape(gw)
        assert "longtail_shadow_dropped_total 5.0" in scraped
        gw.models.release.set()
        await eventually(lambda: len(lines(gw)) == 2)


async def test_what_a_shadow_cannot_rank_is_counted_and_said_once(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A policy the release on trial lacks costs nobody an answer and makes no line."""
    layout = Layout(home)
    add_policy(home, "mine", "r1", mode="off", active=False)
    build_release(layout.releases, "r2", 2)
    async with gateway(home) as gw:
        await following(gw, shadow())
        for _ in range(3):
            assert (await gw.rank(search(5, policy="mine"))).release == "r1"
        await eventually(lambda: "shadow_failed" in caplog.text)
        await gw.rank(search(5))
        await eventually(lambda: len(lines(gw)) == 1)
    assert caplog.messages.count("shadow_failed") == 1


async def test_both_arms_of_a_canary_are_written_down(two: Gateway) -> None:
    """One line per answer, with its arm, what answered and the id that feedback joins by; pinned requests are of no arm."""
    trial = canary(0.5)
    await following(two, trial)
    answers = {user: await two.rank(search(12, user_id=user)) for user in USERS}
    await two.rank(search(12, release="r1"))
    await eventually(lambda: len(lines(two)) == len(USERS))
    by_id = {line.ranking_id: line for line in lines(two) if isinstance(line, Answered)}
    for user, answer in answers.items():
        line = by_id[answer.ranking_id]
        assert (line.arm == "tried") == tried(trial, user)
        assert (line.release, line.tried, line.active) == (answer.release, "r2", "r1")
        assert line.unit == unit_of(trial, user)
        assert line.ms > 0.0


def answered(i: int) -> Answered:
    return Answered(0.0, "r2", "r1", 0.5, i, "search", "none", "tried", "r2", f"id{i}", (math.nan, 0.0, 1.0), 1.0, degraded=False)


def test_the_log_is_bounded_and_what_is_torn_is_left_out(tmp_path: Path) -> None:
    """Files are closed by their lines and only the latest kept; a full queue counts what it loses; a line cut short hides no other."""
    log = TrialLog(tmp_path / "new" / "trials", queue=4, lines=4, files=2)
    for i in range(6):
        log.offer(answered(i))
    log.close()
    assert log.dropped == 2
    (path,) = (tmp_path / "new" / "trials").iterdir()
    path.write_text(path.read_text()[:-9] + '\n{"kind": "other"}\n[]\n')
    found = list(read(tmp_path / "new" / "trials"))
    assert [line.unit for line in found] == [0, 1, 2]
    assert str(found[0]) == str(answered(0))  # as text: NaN is not equal to itself
    for start in range(3):  # a file each: the writer's own
        again = TrialLog(tmp_path / "new" / "trials", queue=9, lines=4, files=2)
        again.offer(answered(10 + start))
        again.close()
    assert [line.unit for line in read(tmp_path / "new" / "trials")] == [11, 12]


def test_a_log_that_cannot_be_written_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file stands where the directory should be: lines are lost, counted, and reported without an error for the caller."""
    (tmp_path / "trials").write_text("")
    log = TrialLog(tmp_path / "trials", queue=9, lines=4, files=2)
    log.offer(answered(0))
    log.close()
    assert log.dropped == 1
    assert caplog.messages.count("trial_log_failed") == 1
