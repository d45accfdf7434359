"""A surface may have any number of members: each is asked, calibrated and weighed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from longtail.ranking.v1 import ranking_service_pb2 as pb
from numpy.typing import NDArray

from ranking.blend import blend
from ranking.layout import Layout
from ranking.types import TIERS, Float32Array, Surface
from services.gateway.releases import load
from tests.deploy.releases import alter
from tests.services.gateway_fakes import FakeModels, gateway, item, search

WEIGHTS = {"head": [5.0, 4.0, 1.0], "tail": [1.0, 2.0, 7.0], "new": [0.0, 1.0, 1.0]}


def third_member(manifest: dict[str, Any]) -> None:
    """One more member on the features, between the two there are, on search alone."""
    trees = next(m for m in manifest["members"] if m["name"] == "trees")
    manifest["members"].append(trees | {"name": "logistic", "model": "logistic"})
    spec = manifest["blends"]["search"]
    spec["members"] = ["trees", "logistic", "bert"]
    spec["weights"] = WEIGHTS
    spec["calibrators"] = [spec["calibrators"][0], {"kind": "platt", "a": 0.5, "b": -2.0}, spec["calibrators"][1]]


def answer_for_logistic(models: FakeModels) -> None:
    """The fake answers for `logistic` with minus what it says for `trees`."""
    told = models.infer

    async def infer(model: str, version: int, inputs: Mapping[str, NDArray[Any]], output: str, timeout_s: float) -> Float32Array:
        if model != "logistic":
            return await told(model, version, inputs, output, timeout_s)
        return -(await told("trees", version, inputs, output, timeout_s))

    models.infer = infer  # type: ignore[method-assign]


async def test_three_members_of_one_surface_are_blended(home: Path) -> None:
    """Each of the three members' scores is in the explanation, and the probability is their blend, weighed by the item's tier."""
    alter(Layout(home).releases, "r1", third_member)
    spec = load(Layout(home).releases, "r1").release.blends[Surface.SEARCH]
    async with gateway(home) as gw:
        answer_for_logistic(gw.models)
        answer = await gw.rank(search(20, policy="none", explain=pb.EXPLAIN_LEVEL_SCORES))
    assert set(answer.model_versions) == {"trees", "logistic", "bert"}
    assert not answer.degradations
    raw = np.array([[m.raw if m.HasField("raw") else np.nan for m in e.members] for e in answer.explanations]).T
    assert [m.member for m in answer.explanations[0].members] == ["trees", "logistic", "bert"]
    np.testing.assert_array_equal(raw[1], -raw[0])
    tiers = np.array([TIERS.index(item(i)["popularity_tier"]) for i in answer.results.candidate_indices])
    want = blend(spec, raw, tiers)
    np.testing.assert_allclose(answer.results.probabilities, want.probabilities, atol=1e-6)
    got = np.array([[m.weight for m in e.members] for e in answer.explanations]).T
    np.testing.assert_allclose(got, want.weights, atol=1e-6)


async def test_one_of_three_gone_leaves_the_other_two(home: Path) -> None:
    """A member that does not answer is a degradation; the others share its weight."""
    alter(Layout(home).releases, "r1", third_member)
    async with gateway(home) as gw:
        gw.models.gone.add("logistic")
        answer = await gw.rank(search(20, policy="none", explain=pb.EXPLAIN_LEVEL_SCORES))
    assert [(d.component, d.reason) for d in answer.degradations] == [("member:logistic", "UNAVAILABLE")]
    head = next(e for e in answer.explanations if e.group == "head" and e.members[2].HasField("raw"))
    np.testing.assert_allclose([m.weight for m in head.members], [5 / 6, 0.0, 1 / 6], atol=1e-6)
