"""Policies change by a release that differs in nothing else; swapping it in on a real Triton loads nothing and fails no call."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy import lifecycle, policies, store
from deploy.triton.client import TritonClient
from deploy.triton.process import TritonServer
from ranking.errors import InvalidRelease, Superseded, UnknownName
from ranking.fairness.policy import FairnessPolicy, GroupRule, Share
from ranking.layout import Layout
from ranking.release import Release
from ranking.types import Surface
from tests.deploy.releases import build_release, features_batch

SELLERS = FairnessPolicy("sellers", "1", (GroupRule("seller", {"*": Share(0.8, "of_candidates")}),))


def test_a_merged_release_keeps_what_the_file_does_not_name(layout: Layout) -> None:
    """Models, blends and other policies stay; the new policy is there, and the default where asked."""
    base = build_release(layout.releases, "r1", 1)
    made = policies.publish(layout.releases, policies.merged(base, [SELLERS], {Surface.ADS: "sellers"}))
    again = store.read(layout.releases, made.id)
    assert again.policies == {**base.policies, "sellers": SELLERS}
    assert again.active_policy == {**base.active_policy, Surface.ADS: "sellers"}
    assert (again.members, again.blends, again.tokenizer) == (base.members, base.blends, base.tokenizer)
    assert again.lineage["policies_changed_from"] == "r1"


def test_every_change_has_an_id_of_its_own(layout: Layout) -> None:
    """Changes of changes count on from the release the models came with."""
    made = build_release(layout.releases, "r1", 1)
    for number in (1, 2, 3):
        made = policies.publish(layout.releases, policies.merged(made, [replace(SELLERS, version=str(number))], {}))
        assert made.id == f"r1-p{number}"
    assert [p.name for p in layout.releases.iterdir() if p.name.startswith(".")] == []


def test_a_change_without_a_new_version_is_refused(layout: Layout) -> None:
    """Answers name a policy's version, so one version is one content; the same content again is no change."""
    base = policies.merged(build_release(layout.releases, "r1", 1), [SELLERS], {})
    with pytest.raises(InvalidRelease, match=r"^sellers\.version: '1' is in use with another content"):
        policies.merged(base, [replace(SELLERS, page_length=5)], {})
    assert policies.merged(base, [SELLERS], {}) == base


def test_a_default_must_be_there(layout: Layout) -> None:
    """A surface's default policy is one of the release's."""
    with pytest.raises(UnknownName, match=r"active_policy\.search: 'nobody' is not known; known: floors, none"):
        policies.merged(build_release(layout.releases, "r1", 1), [], {Surface.SEARCH: "nobody"})


BAD_FILES = {
    "no JSON": ("{", r"^p\.json: is not JSON"),
    "empty list": ("[]", r"^p\.json: holds no policy"),
    "a number": ("3", r"^p\.json: policy: must be an object, got 3"),
    "no version": ('{"name": "a"}', r"^p\.json\.version: is missing"),
    "second wrong": (json.dumps([SELLERS.to_json(), {"name": "b", "version": "1", "mode": "x"}]), r"^p\.json\[1\]: mode: 'x' is not"),
    "a name twice": (json.dumps([SELLERS.to_json()] * 2), r"^p\.json\[1\]\.name: 'sellers' is there twice"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    """The message names the file, the entry and the key."""
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(InvalidRelease, match=message):
        policies.read(path)


def test_a_file_holds_one_policy_or_several(tmp_path: Path) -> None:
    """An object is a policy, a list is some."""
    path = tmp_path / "p.json"
    other = replace(SELLERS, name="other")
    for content, want in ((SELLERS.to_json(), (SELLERS,)), ([SELLERS.to_json(), other.to_json()], (SELLERS, other))):
        path.write_text(json.dumps(content))
        assert policies.read(path) == want


def test_a_release_that_became_active_meanwhile_gets_the_policies(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes at once are both kept, and a release just activated is not put out of traffic by a change of the one before."""
    build_release(layout.releases, "r1", 1)
    build_release(layout.releases, "r2", 2)
    store.activate(layout.releases, "r1")
    tried: list[tuple[str, str | None]] = []

    def activate(_: Layout, release_id: str, address: str, *, instead_of: str | None = None) -> Release:
        tried.append((release_id, instead_of))
        if len(tried) == 1:
            store.activate(layout.releases, "r2")  # somebody else, just before
            raise Superseded("r1", "r2")
        return store.read(layout.releases, release_id)

    monkeypatch.setattr(lifecycle, "activate", activate)
    made = policies.apply(layout, [SELLERS], {}, "127.0.0.1:1")
    assert tried == [("r1-p1", "r1"), ("r2-p1", "r2")]
    assert {m.version for m in made.members} == {2}
    assert "sellers" in made.policies
    assert not (layout.releases / "r1-p1").exists()


@pytest.mark.servers
def test_a_release_made_from_another_is_not_activated_over_a_third(layout: Layout, triton: TritonServer) -> None:
    """What was made from a release takes its place only while it is the active one."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version)
        lifecycle.activate(layout, f"r{version}", triton.address)
    with pytest.raises(Superseded, match="r2 became active instead of r1 meanwhile"):
        lifecycle.activate(layout, "r1", triton.address, instead_of="r1")
    assert store.active(layout.releases) == "r2"


@pytest.mark.servers
def test_swapping_policies_keeps_every_model_answering(layout: Layout, triton: TritonServer) -> None:
    """The derived release is verified and active, its versions are those served before, and they answered all the while."""
    base = build_release(layout.releases, "r1", 1)
    lifecycle.activate(layout, "r1", triton.address)
    rows = {"features": features_batch(20, seed=1)}
    with TritonClient(triton.address) as client:
        before, loaded = client.infer("trees", 1, rows, "logit"), client.index()
        made = policies.apply(layout, [SELLERS], {Surface.SEARCH: "sellers"}, triton.address)
        assert store.active(layout.releases) == made.id == "r1-p1"
        assert made.policies == {**base.policies, "sellers": SELLERS}
        assert client.index() == loaded
        np.testing.assert_array_equal(client.infer("trees", 1, rows, "logit"), before)
    assert lifecycle.rollback(layout, triton.address).id == "r1"
