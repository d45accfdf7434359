"""The release manifest: what is written comes back, and what is broken is refused by the name of its key."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.errors import InvalidRelease
from ranking.pointer import Pointer, parse_pointer, pointer_text, read_pointer
from ranking.release import Explainer, Release
from ranking.types import Surface
from tests.ranking.builders import manifest

Json = dict[str, Any]


def test_a_manifest_survives_the_round_trip() -> None:
    """JSON → Release → JSON is the identity, through text as well."""
    data = manifest()
    release = Release.from_json(data)
    assert release.to_json() == data
    assert Release.from_json(json.loads(json.dumps(release.to_json()))) == release


def test_what_a_manifest_says_is_found_under_its_name() -> None:
    """Members by name, blends and active policy by surface."""
    release = Release.from_json(manifest())
    assert release.member("bert").kind == "text"
    assert release.blends[Surface.ADS].members == ("behaviour", "bert")
    assert release.policies[release.active_policy[Surface.SEARCH]].reserve_micros == 10_000
    assert release.tokenizer.special.sep == 102


def test_a_member_may_name_what_its_attributions_come_from() -> None:
    """An explainer comes back as it was written; a member without one says nothing of it, as releases always did."""
    data = manifest()
    data["members"][0]["explainer"] = {"path": "models/behaviour/model.txt", "sha256": "2" * 64}
    release = Release.from_json(data)
    assert release.member("behaviour").explainer == Explainer("models/behaviour/model.txt", "2" * 64)
    assert release.member("bert").explainer is None
    assert release.to_json() == data


def put(*path: str | int, value: Any) -> Callable[[Json], None]:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Json], None]:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        del data[path[-1]]

    return change


BROKEN: list[tuple[Callable[[Json], None], str, str]] = [
    (put("format", value=1), "format", "must be 2"),
    (drop("id"), "id", "is missing"),
    (put("id", value="../etc"), "id", "must match"),
    (put("id", value="a\n"), "id", "must match"),
    (put("id", value=7), "id", "must match"),
    (put("created", value=None), "created", "must be a string"),
    (put("lineage", value=[]), "lineage", "must be an object"),
    (put("feature_schema_hash", value=""), "feature_schema_hash", "must be a non-empty string"),
    (put("tokenizer", value="file"), "tokenizer", "must be an object"),
    (drop("tokenizer", "cls"), "tokenizer.cls", "is missing"),
    (put("tokenizer", "sep", value="x"), "tokenizer", "sep: must be a number"),
    (put("tokenizer", "path", value="/etc/passwd"), "tokenizer.path", "must stay inside"),
    (put("members", value=[]), "members", "need at least one"),
    (put("members", 1, "name", value="behaviour"), "members", "names must be unique"),
    (drop("members", 0, "sha256"), "members[0].sha256", "is missing"),
    (put("members", 0, "sha256", value=""), "members[0].sha256", "must be a non-empty string"),
    (drop("members", 1, "version"), "members[1].version", "is missing"),
    (put("members", 1, "version", value=0), "members[1].version", "must be at least 1"),
    (put("members", 1, "version", value=True), "members[1]", "version: must be a number"),
    (put("members", 1, "kind", value="image"), "members[1].kind", "not one of features, text"),
    (put("members", 0, "path", value="../model.onnx"), "members[0].path", "must stay inside"),
    (put("members", 0, "path", value="models/../../x"), "members[0].path", "must stay inside"),
    (drop("members", 0, "inputs", 0, "name"), "members[0].inputs[0].name", "is missing"),
    (put("members", 0, "inputs", 0, "dtype", value="FP64"), "members[0].inputs[0].dtype", "not one of FP32, INT64"),
    (put("members", 0, "inputs", 0, "shape", value=["n"]), "members[0].inputs[0]", "shape[0]: must be a number"),
    (drop("members", 0, "golden"), "members[0].golden", "is missing"),
    (drop("members", 0, "golden", "outputs"), "members[0].golden.outputs", "is missing"),
    (put("members", 0, "golden", "outputs", value=["a"]), "members[0]", "golden.outputs[0]: must be a number"),
    (put("members", 0, "golden", "atol", value=0), "members[0].golden.atol", "above 0"),
    (put("members", 0, "explainer", value="model.txt"), "members[0].explainer", "must be an object"),
    (put("members", 0, "explainer", value={"path": "m.txt"}), "members[0].explainer.sha256", "is missing"),
    (put("members", 0, "explainer", value={"path": "../m", "sha256": "0"}), "members[0].explainer.path", "must stay inside"),
    (put("blends", value={}), "blends", "need at least one surface"),
    (put("blends", "radio", value={}), "blends", "'radio' is not a valid Surface"),
    (drop("blends", "ads", "final"), "blends.ads.final", "is missing"),
    (put("blends", "ads", "members", value=["behaviour", "gpt"]), "blends.ads.members", "'gpt' is not a member"),
    (put("blends", "ads", "weights", "tail", value=[1.0]), "blends.ads", "weights.tail: need one weight per member (2)"),
    (put("blends", "ads", "weights", "tail", value=[1.0, "b"]), "blends.ads", "weights.tail[1]: must be a number"),
    (put("blends", "ads", "calibrators", value=[]), "blends.ads", "calibrators: need one per member (2)"),
    (put("blends", "ads", "final", value={"kind": "magic"}), "blends.ads", "kind: 'magic' is not one of"),
    (put("policies", value={}), "policies", "need at least one"),
    (put("policies", 0, "rules", 0, "floors", "tail", value=2.0), "policies[0]", "rules[0].floors.tail: must be within [0, 1]"),
    (drop("policies", 0, "name"), "policies[0].name", "is missing"),
    (lambda d: d["policies"].append(d["policies"][0]), "policies", "names must be unique"),
    (put("active_policy", "ads", value="none"), "active_policy.ads", "'none' is not a policy; policies: tail_floor"),
    (drop("active_policy", "ads"), "active_policy.ads", "None is not a policy"),
    (put("active_policy", "radio", value="tail_floor"), "active_policy", "'radio' is not a valid Surface"),
]


@pytest.mark.parametrize(("change", "key", "reason"), BROKEN, ids=[f"{i}-{key}" for i, (_, key, _) in enumerate(BROKEN)])
def test_a_broken_manifest_names_its_key(change: Callable[[Json], None], key: str, reason: str) -> None:
    """Each way of being broken is refused with the path of the offending key and what is wrong with it."""
    data = manifest()
    change(data)
    with pytest.raises(InvalidRelease) as refused:
        Release.from_json(data)
    assert refused.value.key == key
    assert reason in refused.value.reason


json_values = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})


@given(st.data())
def test_no_value_anywhere_escapes_as_another_error(data: st.DataObject) -> None:
    """Whatever stands in place of any value, the manifest is either accepted or refused as InvalidRelease."""
    broken = manifest()
    here: Any = broken
    while True:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], dict | list) or not here[key] or data.draw(st.booleans()):
            break
        here = here[key]
    here[key] = data.draw(json_values)
    with contextlib.suppress(InvalidRelease):
        Release.from_json(broken)


def test_the_pointer_round_trip() -> None:
    """What activation writes is what the gateway and the rollback read."""
    pointer = Pointer("r2", "2017-11-20T00:00:00Z", ("r1", "r0"))
    assert read_pointer(pointer_text(pointer)) == pointer
    assert parse_pointer(pointer_text(pointer)) == "r2"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "ACTIVE"),
        ("[]", "ACTIVE"),
        ('{"release": "../x", "activated": "t", "previous": []}', "release"),
        ('{"activated": "t", "previous": []}', "release"),
        ('{"release": "r1", "previous": []}', "activated"),
        ('{"release": "r1", "activated": "t", "previous": ["/"]}', "previous"),
    ],
)
def test_a_broken_pointer_is_refused(text: str, key: str) -> None:
    """A half-written or foreign pointer file never names a release."""
    with pytest.raises(InvalidRelease) as refused:
        read_pointer(text)
    assert refused.value.key == key
