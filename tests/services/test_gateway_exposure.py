"""Exposure kept over many lists: what is owed becomes a price, whoever answers, and a store that is down stops nobody."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from tests.services.gateway_fakes import Gateway, add_policy, ads, eventually, floors, gateway, reasons, search
from tests.services.ledger_fakes import Clock, Place

RULES = floors("popularity_tier", tail=0.3)
OWED: dict[str, Any] = {
    "rules": RULES,
    "scope": "amortised",
    "page_length": 5,
    "controller": {"kind": "dual", "gain": 0.05, "debt_bound": 4.0},
}


def tail(answer: pb.RankResponse) -> pb.GroupExposure:
    return next(g for g in answer.exposure if g.group == "tail")


async def lists(gw: Gateway, n: int, **fields: Any) -> list[pb.RankResponse]:
    return [await gw.rank(search(30, top_k=5, **fields)) for _ in range(n)]


async def test_what_is_owed_becomes_a_price_that_pays_it_back(home: Path) -> None:
    """Amortised, the tail gets its share over many lists, with a price that rises from nothing, and no debt beyond the bound."""
    add_policy(home, "owed", **OWED)
    async with gateway(home) as gw:
        answers = await lists(gw, 60)
    assert tail(answers[0]).debt == 0.0
    assert max(tail(a).price for a in answers) > 0.0
    late = answers[20:]
    share = sum(tail(a).exposure for a in late) / len(late)
    assert share >= 0.3 - OWED["controller"]["debt_bound"] / len(late)
    assert max(tail(a).debt for a in answers) < OWED["controller"]["debt_bound"]
    assert len({tuple(a.results.item_ids) for a in answers}) > 1  # the price moves, the scores do not


async def test_prices_order_and_never_touch_scores_or_probabilities(home: Path) -> None:
    """The list is sorted by score + price; `scores` and `probabilities` are those of a policy that is off, bit for bit."""
    add_policy(home, "owed", **OWED)
    async with gateway(home) as gw:
        plain = (await gw.rank(search(30, policy="none"))).results
        free = dict(zip(plain.item_ids, zip(plain.scores, plain.probabilities, strict=True), strict=True))
        answers = await lists(gw, 30, explain=pb.EXPLAIN_LEVEL_SCORES)
        for answer in answers:
            price = tail(answer).price
            for e in answer.explanations:
                assert (e.score, e.probability) == free[e.item_id]
                assert e.price == (price if e.group == "tail" else 0.0)
            keys = [e.score + e.price for e in answer.explanations]
            assert keys == sorted(keys, reverse=True)
            assert not any(e.binding_floor for e in answer.explanations)  # no floor on any single list
    assert max(tail(answer).price for answer in answers) > 0.0


async def test_scope_both_keeps_floors_on_each_list_too(home: Path) -> None:
    """With `both` the floor holds at every prefix of the page, and the account is kept."""
    add_policy(home, "both", **(OWED | {"scope": "both"}))
    async with gateway(home) as gw:
        for answer in await lists(gw, 10, explain=pb.EXPLAIN_LEVEL_SCORES):
            groups = [e.group for e in answer.explanations]
            assert all(groups[:j].count("tail") >= int(0.3 * j + 1e-9) for j in range(1, 6))


async def test_report_only_reports_list_by_list_what_enforcing_would_and_orders_by_score(home: Path) -> None:
    """Over many lists the lines and the utility are those of the same policy enforced, while the list stays as without it."""
    add_policy(home, "enforced", active=False, **OWED)
    add_policy(home, "report", **(OWED | {"mode": "report_only"}))
    async with gateway(home, ledger_sync_s=3600.0) as gw:  # merged lists may round otherwise than single ones
        reported = await lists(gw, 40)
        enforced = await lists(gw, 40, policy="enforced")
        plain = await gw.rank(search(30, top_k=5, policy="none"))
    assert {tuple(a.results.item_ids) for a in reported} == {tuple(plain.results.item_ids)}
    assert len({tuple(a.results.item_ids) for a in enforced}) > 1
    assert [list(a.exposure) for a in reported] == [list(a.exposure) for a in enforced]
    assert [a.fairness for a in reported] == [a.fairness for a in enforced]


@pytest.mark.parametrize("changed", [{"mode": "off"}, {"scope": "list"}])
async def test_a_policy_without_shares_over_time_keeps_no_account(home: Path, changed: dict[str, str]) -> None:
    """A policy that is off, or whose floors are those of single lists, owes nothing later, and needs no store."""
    add_policy(home, "owed", **(OWED | changed))
    place = Place(Clock())
    async with gateway(home, place()) as gw:
        answers = await lists(gw, 3)
    assert not place.accounts
    assert not any(g.debt for a in answers for g in a.exposure)


async def test_every_list_of_a_batch_is_recorded(home: Path) -> None:
    """A batch counts as many lists as it answers, and its bad ones not."""
    add_policy(home, "owed", **OWED)
    place = Place(Clock())
    async with gateway(home, place()) as gw:
        await gw.batch(*[search(30, top_k=5)] * 7, search(0))
    assert {account.lists for account, *_ in place.accounts.values()} == {7.0}


async def test_accounts_survive_a_restart_and_are_kept_per_surface(home: Path) -> None:
    """What one gateway recorded is what the next one starts from; search and ads owe separately."""
    add_policy(home, "owed", **OWED)
    place = Place(Clock())
    async with gateway(home, place()) as gw:
        before = tail((await lists(gw, 5))[-1])
    async with gateway(home, place()) as gw:
        assert tail((await lists(gw, 1))[0]).debt == pytest.approx(before.debt + 0.3 - before.exposure)
        assert tail(await gw.rank(ads(30, top_k=5))).debt == 0.0


async def test_a_store_that_is_down_is_reported_and_accounts_go_on(home: Path) -> None:
    """The store fails between lists: every answer says so and owes on top of what is known; recovery ends it and nothing is lost."""
    add_policy(home, "owed", **OWED)
    place = Place(Clock())
    count, owed = 0, 0.0
    async with gateway(home, place(), ledger_sync_s=0.01) as gw:

        async def ranked() -> pb.RankResponse:
            nonlocal count, owed
            answer = await gw.rank(search(30, top_k=5))
            assert tail(answer).debt == pytest.approx(owed)
            count, owed = count + 1, max(owed + 0.3 - tail(answer).exposure, -OWED["controller"]["debt_bound"])
            return answer

        await ranked()
        place.down = "before"

        async def said() -> bool:
            return reasons(await ranked()) == {"exposure": "UNAVAILABLE"}

        async def healed() -> bool:
            return not reasons(await ranked())

        await eventually(said)
        assert not reasons(await gw.rank(search(30, policy="none")))  # which keeps no account
        place.down = ""
        await eventually(healed)
    assert {account.lists for account, *_ in place.accounts.values()} == {float(count)}


async def test_a_store_that_never_answered_stops_nobody(home: Path) -> None:
    """A gateway that starts without the store serves and says that nothing is known."""
    add_policy(home, "owed", **OWED)
    place = Place(Clock())
    place.down = "before"
    async with gateway(home, place(), ledger_wait_s=0.2) as gw:
        answer = await gw.rank(search(30))
    assert reasons(answer) == {"exposure": "UNAVAILABLE"}
    assert len(answer.results.item_ids) == 30


@pytest.mark.parametrize("pricing", ["gsp", "truthful"])
async def test_prices_for_exposure_count_in_what_a_click_costs(home: Path, pricing: str) -> None:
    """An ad that its group's price helped pays what its own bid needs: (next score − price) / probability, never above the bid."""
    controller = {"gain": 20_000.0, "debt_bound": 4.0}
    add_policy(home, "owed", **(OWED | {"pricing": pricing, "reserve_micros": 1000, "controller": controller}))
    async with gateway(home) as gw:
        for _ in range(30):
            answer = await gw.rank(ads(30, top_k=5, explain=pb.EXPLAIN_LEVEL_SCORES))
            if any(e.price > 0.0 for e in answer.explanations[:4]):
                break
    assert any(e.price > 0.0 for e in answer.explanations[:4])
    bids = ads(30).candidates.bid_micros
    for place, e in enumerate(answer.explanations):
        bid, price = bids[int(e.item_id[1:])], answer.results.price_micros[place]
        assert 1000 <= price <= bid
        assert e.score == bid * e.probability
        if pricing == "gsp" and place < 4:
            following = answer.explanations[place + 1]
            least = (following.score + following.price - e.price) / e.probability
            assert price == min(max(math.ceil(least * (1 - 1e-12)), 1000), bid)


async def test_a_fixed_share_for_a_group_that_is_not_there_is_not_owed(home: Path) -> None:
    """Nobody can give a list's places to candidates it does not have: no debt grows for them."""
    add_policy(home, "absent", rules=floors("seller", nobody=0.5), scope="amortised", page_length=5)
    async with gateway(home) as gw:
        answers = await lists(gw, 5)
    assert [g.debt for g in answers[-1].exposure if g.group == "nobody"] == [0.0]
