"""Wrong releases on a real Triton: each is refused by what is wrong with it, and never takes traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import lifecycle, store, trials
from deploy.triton.client import TritonClient, TritonRefused
from deploy.triton.process import TritonServer
from ranking.errors import InvalidRelease, Unavailable, UnknownName
from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.release import MANIFEST
from ranking.trial import Mode
from tests.deploy.full_disk import files_of_at_most
from tests.deploy.releases import (
    TREES_WEIGHTS,
    alter,
    build_release,
    replace_model,
    text_batch,
    trees_model,
)
from tests.deploy.served import assert_serves, both, ready
from tests.deploy.servers import running_triton

pytestmark = pytest.mark.servers


Edit = Callable[[Path, str], None]


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Edit:
    return lambda folder, name: alter(folder, name, change)


def _model(content: Callable[[], bytes]) -> Edit:
    return lambda folder, name: replace_model(folder, name, "trees", content())


def _text_model(content: Callable[[], bytes]) -> Edit:
    return lambda folder, name: replace_model(folder, name, "bert", content())


def _without(path: str) -> Edit:
    return lambda folder, name: (folder / name / path).unlink()


def _half_the_manifest(folder: Path, name: str) -> None:
    path = folder / name / MANIFEST
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _off(variant: str, max_error: float) -> Edit:
    """A text member that claims a variant, off by so much."""
    parity = {"rows": 64, "max_error": max_error, "rank_correlation": 1.0}

    def change(manifest: dict[str, Any]) -> None:
        bert = manifest["members"][1]
        bert["variants"] = {"version": 1, "served": [], "refused": {}}
        bert["variants"]["served"].append({"name": variant, "path": bert["path"], "sha256": bert["sha256"], "parity": parity})

    return _manifest(change)


TREES = r"members\[0\] \(trees\)"
WRONG: dict[str, tuple[Edit, str]] = {
    "half copied": (_without("models/bert/model.onnx"), r"members\[1\]\.path: models/bert/model\.onnx: No such file"),
    "half a manifest": (_half_the_manifest, r"release\.json: is not JSON: "),
    "no tokenizer": (_without("tokenizer/tokenizer.json"), r"tokenizer\.path: tokenizer/tokenizer\.json: No such file"),
    "a variant beyond its bound": (_off("int8", 0.445), r"members\[1\]\.variants\.int8: is off by up to 0\.445 log-odds on 64 rows"),
    "truncated model": (_model(lambda: trees_model().SerializeToString()[:-200]), TREES + r"\.model: .*(?i:fail|invalid|error)"),
    "not a model": (_model(lambda: b"not an onnx file"), TREES + r"\.model: .*(?i:fail|invalid|error)"),
    "text model truncated": (_text_model(lambda: b"\x08\x08"), r"members\[1\] \(bert\)\.model\.onnx: onnxruntime: .*; openvino-"),
    "wrong digest": (_manifest(lambda m: m["members"][0].update(sha256="0" * 64)), r"members\[0\]\.sha256: models/trees/model.onnx"),
    "input renamed in the model": (
        _model(lambda: trees_model(input_name="rows").SerializeToString()),
        TREES + r"\.model: .*inputs: the release says .*'features'.*the model has .*'rows'",
    ),
    "input renamed in the manifest": (
        _manifest(lambda m: m["members"][0]["inputs"][0].update(name="rows")),
        TREES + r"\.golden\.inputs: are \['features'\], the model's inputs are \['rows'\]",
    ),
    "other inputs than the served version": (
        _manifest(lambda m: m["members"][0]["inputs"][0].update(dtype="INT64")),
        TREES + r"\.model: trees is served with other inputs or another output",
    ),
    "another output than the served version": (
        _manifest(lambda m: m["members"][0].update(output="score")),
        TREES + r"\.model: trees is served with other inputs or another output",
    ),
    "golden mismatch": (
        _manifest(lambda m: m["members"][0]["golden"]["outputs"].__setitem__(2, 9.0)),
        TREES + r"\.golden: version \d+ of trees: output 2 is .*, expected 9 within 0\.0001",
    ),
    "text golden mismatch": (
        _manifest(lambda m: m["members"][1]["golden"]["outputs"].__setitem__(0, 9.0)),
        r"members\[1\] \(bert\)\..*: .*output 0 is .*, expected 9 within 0\.02",
    ),
    "golden of another length": (
        _manifest(lambda m: m["members"][0]["golden"]["outputs"].pop()),
        TREES + r"\.golden: .*output has shape \[4, 1\], expected \[3\]",
    ),
    "golden of another shape": (
        _manifest(lambda m: m["members"][0]["golden"]["inputs"].update(features=[[1.0, 2.0]])),
        TREES + r"\.golden\.inputs\.features: has shape \[1, 2\], declared is \[-1, " + str(len(MODEL_COLUMNS)) + r"\]",
    ),
    "nothing golden": (
        _manifest(lambda m: m["members"][0]["golden"].update(outputs=[])),
        TREES + r"\.golden\.outputs: need at least one",
    ),
    "tolerance without bound": (
        _manifest(lambda m: m["members"][0]["golden"].update(atol=float("inf"))),
        r"members\[0\]\.golden\.atol: must be finite",
    ),
    "NaN weights": (
        _model(lambda: trees_model(weights=np.full_like(TREES_WEIGHTS, np.nan)).SerializeToString()),
        TREES + r"\.golden: version \d+ of trees: output 0 is not finite",
    ),
    "other features": (_manifest(lambda m: m.update(feature_schema_hash="0" * 16)), r"feature_schema_hash: trained on 0{16}"),
    "a path for a name": (_manifest(lambda m: m["members"][0].update(model="../trees")), TREES + r"\.model: must match"),
    "a version twice": (_manifest(lambda m: m["members"][1].update(model="trees")), r"members\[1\] \(bert\)\.version: .* named twice"),
    "a version that serves another model": (
        _manifest(lambda m: m["members"][0].update(version=1)),
        TREES + r"\.version: version 1 of trees is served and is another model",
    ),
}


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Layout, TritonServer]]:
    """A Triton that serves release `right`, version 1, bias 1."""
    layout = Layout(tmp_path_factory.mktemp("serving"))
    with running_triton(layout) as server:
        build_release(layout.releases, "right", 1, bias=1.0)
        lifecycle.activate(layout, "right", server.address)
        yield layout, server


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_release_never_takes_traffic(serving: tuple[Layout, TritonServer], wrong: str) -> None:
    """Activated, tried or only verified, it is refused by name, the active release serves as before, and nothing of it stays behind."""
    layout, server = serving
    name, version = wrong.lower().replace(" ", "-"), 100 + list(WRONG).index(wrong)
    build_release(layout.releases, name, version)
    edit, message = WRONG[wrong]
    edit(layout.releases, name)
    before = sorted(layout.triton_repository.rglob("*"))
    pointer = layout.pointer.read_bytes()

    for attempt in (
        lambda: lifecycle.activate(layout, name, server.address),
        lambda: trials.start(layout, name, server.address, mode=Mode.CANARY, share=1.0),
        lambda: lifecycle.check(layout, name, server.address),
    ):
        with pytest.raises(InvalidRelease, match=message):
            attempt()

    assert layout.pointer.read_bytes() == pointer
    assert ready(server.address) == both(1)
    assert_serves(server.address, 1, 1.0)
    assert sorted(layout.triton_repository.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "score"}, r"\.model: .*output: the release says .*'score'"),
        (
            {"inputs": [{"name": "features", "dtype": "INT64", "shape": [-1, len(MODEL_COLUMNS)]}]},
            r"\.model: .*inputs: the release says .*int64.*, the model has .*float",
        ),
    ],
)
def test_the_first_release_is_checked_like_any_other(layout: Layout, triton: TritonServer, change: dict[str, Any], message: str) -> None:
    """With nothing served yet, a manifest that does not describe its model is refused by the model itself."""
    build_release(layout.releases, "r1", 1)
    alter(layout.releases, "r1", lambda m: m["members"][0].update(change))
    with pytest.raises(InvalidRelease, match=TREES + message):
        lifecycle.activate(layout, "r1", triton.address)
    assert store.active(layout.releases) is None
    assert ready(triton.address) == set()
    assert list(layout.triton_repository.iterdir()) == []


def test_a_mended_release_is_accepted(layout: Layout, triton: TritonServer) -> None:
    """Being refused leaves nothing that stands in the way of the same version, put right."""
    build_release(layout.releases, "r1", 1, bias=1.0)
    right = (layout.releases / "r1" / "models/trees/model.onnx").read_bytes()
    replace_model(layout.releases, "r1", "trees", trees_model(9.0).SerializeToString())
    with pytest.raises(InvalidRelease, match="golden"):
        lifecycle.activate(layout, "r1", triton.address)
    assert ready(triton.address) == set()
    replace_model(layout.releases, "r1", "trees", right)
    lifecycle.activate(layout, "r1", triton.address)
    assert_serves(triton.address, 1, 1.0)


def test_a_triton_that_is_killed_during_a_load_moves_no_traffic(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The activation says that Triton did not answer, the pointer stays, and the next Triton is brought to what was active."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    with running_triton(layout) as first:
        lifecycle.activate(layout, "r1", first.address)
        pointer, load = layout.pointer.read_bytes(), TritonClient.load

        def killed(client: TritonClient, model: str) -> None:
            first.process.kill()
            first.process.wait()
            load(client, model)

        with monkeypatch.context() as patched:
            patched.setattr(TritonClient, "load", killed)
            with pytest.raises(Unavailable, match=f"Triton at {first.address} did not answer"):
                lifecycle.activate(layout, "r2", first.address)
        assert layout.pointer.read_bytes() == pointer
    with running_triton(layout) as second:
        active = lifecycle.reconcile(layout, second.address)
        assert active is not None
        assert active.id == "r1"
        assert ready(second.address) == both(1)
        assert_serves(second.address, 1, 1.0)


def test_a_full_disk_leaves_what_is_served(serving: tuple[Layout, TritonServer]) -> None:
    """Where the version directories cannot be written the error says so, and once there is room the same release goes live."""
    layout, server = serving
    build_release(layout.releases, "late", 90, bias=2.0)
    pointer, before = layout.pointer.read_bytes(), sorted(layout.triton_repository.rglob("*"))
    with files_of_at_most(1000), pytest.raises(Unavailable, match=r"release late could not be written there: .*File too large"):
        lifecycle.activate(layout, "late", server.address)
    assert layout.pointer.read_bytes() == pointer
    assert ready(server.address) == both(1)
    assert sorted(p for p in layout.triton_repository.rglob("*") if ".partial" not in str(p)) == before
    assert_serves(server.address, 1, 1.0)
    lifecycle.check(layout, "late", server.address)


def test_an_unknown_release_is_not_activated(serving: tuple[Layout, TritonServer]) -> None:
    """A name that is not in the store is answered with the names that are."""
    layout, server = serving
    with pytest.raises(UnknownName, match=r"known: .*right"):
        lifecycle.activate(layout, "nosuch", server.address)


def test_a_bad_request_fails_alone(serving: tuple[Layout, TritonServer]) -> None:
    """A batch the model cannot run is answered with an error, and the next batch is scored."""
    _, server = serving
    texts = text_batch(2)
    uneven = texts | {"attention_mask": texts["attention_mask"][:, :-1]}
    with TritonClient(server.address) as client, pytest.raises(TritonRefused):
        client.infer("bert", 1, uneven, "logit")
    assert_serves(server.address, 1, 1.0)
