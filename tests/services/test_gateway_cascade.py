"""A policy's candidate budget, through the gateway: whose text is read, and where the others stand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.types import Float32Array
from tests.services.gateway_fakes import Gateway, add_policy, ads, gateway, reasons, search


def raw(answer: pb.RankResponse, member: str) -> dict[int, float | None]:
    """Candidate -> what the member said of it."""
    return {
        index: next((m.raw if m.HasField("raw") else None) for m in e.members if m.member == member)
        for index, e in zip(answer.results.candidate_indices, answer.explanations, strict=True)
    }


def spread(gw: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny trees say of every item that it is certain; brought back to where differences count."""
    infer = gw.models.infer

    async def moved(model: str, version: int, inputs: Mapping[str, Any], output: str, timeout_s: float) -> Float32Array:
        out = await infer(model, version, inputs, output, timeout_s)
        return out - np.float32(119.5) if model == "trees" else out

    monkeypatch.setattr(gw.models, "infer", moved)


async def test_only_the_best_by_the_other_members_are_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a budget of 5 of 20: BERT's scores are of the 5 that the trees put first, these stand first, and the others by the trees."""
    add_policy(home, "read-five", mode="off", cascade=5)
    async with gateway(home) as gw:
        spread(gw, monkeypatch)
        answer = await gw.rank(search(20, explain=pb.EXPLAIN_LEVEL_SCORES))
        trees, bert = raw(answer, "trees"), raw(answer, "bert")
        order = list(answer.results.candidate_indices)
        by_trees = sorted(trees, key=lambda i: (-trees[i], i))  # type: ignore[operator]
        assert set(order[:5]) == set(by_trees[:5])
        assert all(bert[i] is None for i in order[5:])
        assert any(bert[i] is not None for i in order[:5])
        beyond = [trees[i] for i in order[5:]]
        assert beyond == sorted(beyond, reverse=True)  # type: ignore[type-var]
        assert list(answer.results.probabilities) == sorted(answer.results.probabilities, reverse=True)
        assert not reasons(answer)
        assert gw.models.rows("bert") <= 5


async def test_the_answer_does_not_depend_on_what_is_known(home: Path) -> None:
    """After every text was read for a policy without a budget, the one with a budget answers as it did before."""
    add_policy(home, "read-five", mode="off", cascade=5, active=False)
    add_policy(home, "read-all", mode="off")
    async with gateway(home) as gw:
        before = await gw.rank(search(20, policy="read-five"))
        whole = await gw.rank(search(20))
        after = await gw.rank(search(20, policy="read-five"))
        assert before.results == after.results
        assert whole.results != before.results
        assert len(gw.models.calls) > 0


async def test_a_budget_of_all_changes_nothing(home: Path) -> None:
    """20 of 20, or none stated: the same scores bit for bit, in one round of calls."""
    add_policy(home, "read-twenty", mode="off", cascade=20, active=False)
    add_policy(home, "read-all", mode="off")
    async with gateway(home) as gw:
        assert (await gw.rank(search(20, policy="read-twenty"))).results == (await gw.rank(search(20))).results


async def test_without_the_other_members_retrieval_says_whose_text_is_read(home: Path) -> None:
    """The trees are down: the 5 of the highest retrieval score are read, the others have no score, and the answer says so."""
    add_policy(home, "read-five", mode="off", cascade=5)
    async with gateway(home) as gw:
        gw.models.gone.add("trees")
        request = search(20, explain=pb.EXPLAIN_LEVEL_SCORES)
        request.candidates.retrieval_scores.extend(float(i) for i in range(20))
        answer = await gw.rank(request)
        read = {i for i, score in raw(answer, "bert").items() if score is not None}
        assert read <= set(range(15, 20))
        assert read
        assert reasons(answer)["blend"] == "PARTIAL"


@pytest.mark.parametrize("budget", [1, 5, 19])
async def test_ads_keep_their_prices_within_their_bids(home: Path, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    """An ad that was not read competes with a lowered probability: no more than the least of those read, and no price above its bid."""
    add_policy(home, "read-some", cascade=budget)
    async with gateway(home) as gw:
        spread(gw, monkeypatch)
        request = ads(20, explain=pb.EXPLAIN_LEVEL_SCORES)
        answer = await gw.rank(request)
        bids = np.array(request.candidates.bid_micros)[list(answer.results.candidate_indices)]
        assert (np.array(answer.results.price_micros) <= bids).all()
        trees, p = raw(answer, "trees"), dict(zip(answer.results.candidate_indices, answer.results.probabilities, strict=True))
        by_trees = sorted(trees, key=lambda i: (-trees[i], i))  # type: ignore[operator]
        assert max(p[i] for i in by_trees[budget:]) < min(p[i] for i in by_trees[:budget])
