"""A policy that is late or faulty costs its promises, not the answer; a store that hangs gathers no crowd."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.fairness.policy import FairnessPolicy
from services.gateway import features, pipeline
from services.gateway.policy.arrange import Arranged, arrange
from services.gateway.policy.timely import plain, timely
from tests.services.gateway_fakes import add_policy, ads, floors, gateway, reasons, search

POLICY = FairnessPolicy("p", "1")


def orders(said: list[str]) -> Callable[[FairnessPolicy], Any]:
    """An order that is the mode it was made with, noted."""

    def make(policy: FairnessPolicy) -> Any:
        said.append(policy.mode)
        return policy.mode

    return make


@pytest.mark.parametrize("apart", [False, True])
async def test_an_order_in_time_is_the_policys(apart: bool) -> None:
    """On the loop or beside it: made once, nothing is degraded."""
    made: list[str] = []
    assert await timely(orders(made), POLICY, apart=apart, deadline=time.monotonic() + 60.0) == ("enforce", ())
    assert made == ["enforce"]


async def test_an_order_that_takes_its_time_is_not_begun_without_any() -> None:
    """The deadline has passed: the plain order at once, and DEADLINE says so."""
    made: list[str] = []
    order, (said,) = await timely(orders(made), POLICY, apart=True, deadline=time.monotonic())
    assert (order, made) == ("off", ["off"])
    assert (said.component, said.reason) == ("fairness", "DEADLINE")
    assert "no time was left" in said.detail


async def test_an_order_made_on_the_loop_is_made_whatever_the_time() -> None:
    """It takes a millisecond or two, as the plain one would."""
    assert await timely(orders([]), POLICY, apart=False, deadline=0.0) == ("enforce", ())


async def test_an_order_that_is_late_is_left_alone() -> None:
    """It hangs beyond the deadline: the plain order instead, and nobody waits for the thread."""
    hold = threading.Event()

    def make(policy: FairnessPolicy) -> Any:
        if policy.mode != "off":
            hold.wait(30)
        return policy.mode

    order, (said,) = await timely(make, POLICY, apart=True, deadline=time.monotonic() + 0.05)
    hold.set()
    assert (order, said.reason) == ("off", "DEADLINE")
    assert "took too long" in said.detail


@pytest.mark.parametrize("apart", [False, True])
async def test_a_policy_with_a_bug_leaves_the_plain_order(apart: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is logged once and told as ERROR."""

    def make(policy: FairnessPolicy) -> Any:
        if policy.mode != "off":
            raise ZeroDivisionError("secret")
        return policy.mode

    order, (said,) = await timely(make, POLICY, apart=apart, deadline=time.monotonic() + 60.0)
    assert (order, said.reason) == ("off", "ERROR")
    assert "secret" not in said.detail
    assert caplog.messages.count("policy_failed") == 1


def test_what_is_sold_stays_when_promises_go() -> None:
    """Slots, reserve and objectives are kept; rules, mode and payments that need them are not."""
    left = plain(FairnessPolicy("p", "1", ad_slots=(2, 5), reserve_micros=7, objectives={"click": 2.0}))
    assert (left.ad_slots, left.reserve_micros, left.objectives, left.mode, left.rules) == ((2, 5), 7, {"click": 2.0}, "off", ())


@pytest.mark.parametrize("kind", [search, ads])
async def test_a_faulty_policy_does_not_fail_the_call(
    home: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[..., pb.RankRequest]
) -> None:
    """Through the wire: every candidate is there, by score, with prices on ads, and `fairness` is named."""
    add_policy(home, "pair", rules=[*floors("popularity_tier", tail=0.3), *floors("seller", s1=0.3)])

    def faulty(request: Any, policy: FairnessPolicy, *rest: Any) -> Arranged:
        if policy.mode != "off":
            raise ZeroDivisionError
        return arrange(request, policy, *rest)

    monkeypatch.setattr(pipeline, "arrange", faulty)
    async with gateway(home) as gw:
        answer = await gw.rank(kind(12))
    assert reasons(answer) == {"fairness": "ERROR"}
    assert list(answer.results.scores) == sorted(answer.results.scores, reverse=True)
    assert len(answer.results.item_ids) == 12
    assert (len(answer.results.price_micros) == 12) == (kind is ads)
    assert answer.policy == "pair"


async def test_without_any_time_every_stage_is_skipped_and_named(home: Path) -> None:
    """Everything hangs, a policy that takes its time is asked for: an answer in retrieval order, and each stage says DEADLINE."""
    add_policy(home, "pair", rules=[*floors("popularity_tier", tail=0.3), *floors("seller", s1=0.3)])
    async with gateway(home, budget_ms=1e-6) as gw:
        gw.store.hold.clear()
        gw.models.hung |= {"trees", "bert"}
        request = search(6)
        request.candidates.retrieval_scores.extend([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        answer = await gw.rank(request)
        gw.store.hold.set()
    said = reasons(answer)
    assert {"features:user", "features:item", "member:trees", "fairness"} <= {name for name, why in said.items() if why == "DEADLINE"}
    assert said["blend"] == "UNAVAILABLE"
    assert list(answer.results.candidate_indices) == [5, 4, 3, 2, 1, 0]


async def test_a_store_that_hangs_gathers_no_crowd(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two reads wait for it: the third user and the third list get defaults at once, with UNAVAILABLE instead of DEADLINE."""
    monkeypatch.setattr(features, "_WAITING", 2)
    async with gateway(home, budget_ms=20.0) as gw:
        gw.store.hold.clear()
        said = [reasons(await gw.rank(search(3, user_id=f"u{i}"))) for i in range(3)]
        assert [s["features:user"] for s in said] == ["DEADLINE", "DEADLINE", "UNAVAILABLE"]
        assert [s["features:item"] for s in said] == ["DEADLINE", "DEADLINE", "UNAVAILABLE"]
        gw.store.hold.set()


async def test_concurrent_calls_for_one_user_are_one_read_of_the_crowd(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that share a read do not count twice."""
    monkeypatch.setattr(features, "_WAITING", 1)
    async with gateway(home, budget_ms=60_000.0) as gw:
        gw.store.hold.clear()
        calls = [asyncio.create_task(gw.rank(search(1, user_id="u"))) for _ in range(2)]
        gw.store.hold.set()
        for call in calls:
            assert "features:user" not in reasons(await call)
