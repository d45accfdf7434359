"""Load, verify, activate on a real Triton: right releases take traffic, wrong ones never do."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from deploy import lifecycle, store
from deploy.triton import process
from deploy.triton.client import TritonClient, TritonRefused
from deploy.triton.process import TritonServer
from ranking.errors import InvalidRelease, LongtailError, Unavailable, UnknownName
from ranking.layout import Layout
from tests.deploy.releases import (
    TREES_WEIGHTS,
    alter,
    bert_logits,
    build_release,
    features_batch,
    replace_model,
    text_batch,
    trees_logits,
    trees_model,
)
from tests.deploy.servers import running_triton

pytestmark = pytest.mark.servers


def _score(address: str, version: int, n: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Both members' outputs on a pinned version for the same batch of n."""
    with TritonClient(address) as client:
        trees = client.infer("trees", version, {"features": features_batch(n, seed=1)}, "logit")
        return trees, client.infer("bert", version, text_batch(n, seed=1), "logit")


def _expected(bias: float, n: int = 50) -> tuple[np.ndarray, np.ndarray]:
    return trees_logits(features_batch(n, seed=1), bias), bert_logits(text_batch(n, seed=1), bias)


def _assert_serves(address: str, version: int, bias: float) -> None:
    for got, want in zip(_score(address, version), _expected(bias), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def _ready(address: str) -> set[tuple[str, int]]:
    """Versions that are ready, once nothing is on its way in or out any more."""
    with TritonClient(address) as client:
        while any(seen.state in ("LOADING", "UNLOADING") for seen in client.index().values()):
            time.sleep(0.05)
        return {version for version, seen in client.index().items() if seen.state == "READY"}


def _both(*versions: int) -> set[tuple[str, int]]:
    return {(model, version) for model in ("trees", "bert") for version in versions}


def test_triton_gives_what_the_models_give_in_process(layout: Layout, triton: TritonServer) -> None:
    """Served outputs equal ONNX Runtime's in this process and the scores computed by hand, from one row to a thousand."""
    release = build_release(layout.releases, "r1", 1, bias=0.25)
    lifecycle.activate(layout, "r1", triton.address)
    paths = {m.name: layout.releases / "r1" / m.path for m in release.members}
    here = {name: onnxruntime.InferenceSession(str(path)) for name, path in paths.items()}
    for n in (1, 7, 1000):
        features, texts = features_batch(n, seed=n), text_batch(n, seed=n)
        with TritonClient(triton.address) as client:
            trees, bert = client.infer("trees", 1, {"features": features}, "logit"), client.infer("bert", 1, texts, "logit")
        assert trees.shape == bert.shape == (n,)
        np.testing.assert_allclose(trees, here["trees"].run(["logit"], {"features": features})[0].reshape(-1), atol=1e-5)
        np.testing.assert_allclose(bert, here["bert"].run(["logit"], texts)[0], atol=1e-5)
        np.testing.assert_allclose(trees, trees_logits(features, 0.25), atol=1e-5)
        np.testing.assert_allclose(bert, bert_logits(texts, 0.25), atol=1e-5)


def test_the_new_version_serves_beside_the_old_one(layout: Layout, triton: TritonServer) -> None:
    """After an activation both versions answer, each with its own scores; after the next the oldest is unloaded and deleted."""
    for version in (1, 2, 3):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
        assert store.active(layout.releases) == f"r{version}"
        kept = [v for v in (version - 1, version) if v]
        assert _ready(triton.address) == _both(*kept)
        for v in kept:
            _assert_serves(triton.address, v, float(v))
    assert sorted(p.name for p in (layout.triton_repository / "trees").iterdir()) == ["2", "3", "config.pbtxt"]


def test_loading_a_version_leaves_the_loaded_ones_alone(layout: Layout, triton: TritonServer) -> None:
    """Activation starts one instance per new version and none for what already serves."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version)
        lifecycle.activate(layout, f"r{version}", triton.address)
    lifecycle.reconcile(layout, triton.address)
    started = triton.log.read_text().count("TRITONBACKEND_ModelInstanceInitialize: trees")
    assert started == 2  # one for each version, although loads were asked for more often


def test_rollback_goes_to_the_release_before(layout: Layout, triton: TritonServer) -> None:
    """Rolling back verifies the earlier release and points at it; the one it left stays loaded for those who pin it still."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
    assert lifecycle.rollback(layout, triton.address).id == "r1"
    assert store.active(layout.releases) == "r1"
    assert _ready(triton.address) == _both(1, 2)
    for version in (1, 2):
        _assert_serves(triton.address, version, float(version))
    with pytest.raises(InvalidRelease, match="no earlier release"):
        lifecycle.rollback(layout, triton.address)
    lifecycle.reconcile(layout, triton.address)  # as the controller does, which sees the pointer move
    assert _ready(triton.address) == _both(1, 2)


def test_a_refused_release_unloads_nothing_else_without_a_pointer(layout: Layout, triton: TritonServer) -> None:
    """With the pointer lost or damaged, what is served stays beside a refused release, and a right one repairs the pointer."""
    for version in (1, 2, 3):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    alter(layout.releases, "r2", lambda m: m["members"][0]["golden"]["outputs"].__setitem__(0, 9.0))
    lifecycle.activate(layout, "r1", triton.address)
    layout.pointer.unlink()
    with pytest.raises(InvalidRelease, match="expected 9 within"):
        lifecycle.activate(layout, "r2", triton.address)
    assert _ready(triton.address) == _both(1)
    _assert_serves(triton.address, 1, 1.0)
    layout.pointer.write_bytes(b"\xff")
    with pytest.raises(InvalidRelease, match="expected 9 within"):
        lifecycle.activate(layout, "r2", triton.address)
    _assert_serves(triton.address, 1, 1.0)
    with pytest.raises(InvalidRelease, match="ACTIVE: is not UTF-8"):
        lifecycle.rollback(layout, triton.address)
    lifecycle.activate(layout, "r3", triton.address)
    assert store.active(layout.releases) == "r3"
    assert _ready(triton.address) == _both(3)
    _assert_serves(triton.address, 3, 3.0)


def test_what_is_loaded_after_each_move(layout: Layout, triton: TritonServer) -> None:
    """The active release, the one a rollback would go to and the one just left; nothing piles up."""
    for version in (1, 2, 3):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
    lifecycle.rollback(layout, triton.address)
    assert _ready(triton.address) == _both(2, 3)
    lifecycle.reconcile(layout, triton.address)  # as the controller does, which sees the pointer move
    assert _ready(triton.address) == _both(2, 1, 3)
    lifecycle.rollback(layout, triton.address)
    assert _ready(triton.address) == _both(1, 2)
    lifecycle.activate(layout, "r3", triton.address)
    assert _ready(triton.address) == _both(3, 1)
    _assert_serves(triton.address, 3, 3.0)


def test_a_fresh_triton_does_not_get_what_was_rolled_back_from(layout: Layout) -> None:
    """Nobody can still pin what was loaded on a server that is gone: it is neither loaded nor kept on disk."""
    with running_triton(layout) as first:
        for version in (1, 2):
            build_release(layout.releases, f"r{version}", version, bias=float(version))
            lifecycle.activate(layout, f"r{version}", first.address)
        lifecycle.rollback(layout, first.address)
    with running_triton(layout) as second:
        lifecycle.reconcile(layout, second.address)
        assert _ready(second.address) == _both(1)
        assert sorted(p.name for p in (layout.triton_repository / "trees").iterdir()) == ["1", "config.pbtxt"]


def test_what_was_rolled_back_from_makes_way_for_its_successor(layout: Layout, triton: TritonServer) -> None:
    """A release put right under its old id and version after a rollback is loaded in place of the one that was left."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
    lifecycle.rollback(layout, triton.address)
    shutil.rmtree(layout.releases / "r2")
    build_release(layout.releases, "r2", 2, bias=5.0)
    lifecycle.activate(layout, "r2", triton.address)
    _assert_serves(triton.address, 2, 5.0)
    assert _ready(triton.address) == _both(1, 2)


def test_a_moved_pointer_is_a_success(layout: Layout, triton: TritonServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """When unloading fails after the pointer moved, the activation stands, and the next reconciliation unloads."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
    load = TritonClient.load

    def refuse(self: TritonClient, model: str) -> None:
        if store.active(layout.releases) == "r3":
            raise TritonRefused("cannot unload now")
        load(self, model)

    build_release(layout.releases, "r3", 3, bias=3.0)
    with monkeypatch.context() as patch:
        patch.setattr(TritonClient, "load", refuse)
        assert lifecycle.activate(layout, "r3", triton.address).id == "r3"
    assert store.active(layout.releases) == "r3"
    assert _ready(triton.address) >= _both(2, 3)
    lifecycle.reconcile(layout, triton.address)
    assert _ready(triton.address) == _both(2, 3)


def test_a_torn_model_repository_is_written_again(layout: Layout, triton: TritonServer) -> None:
    """Configurations and version directories cut short while everything serves are mended by the next reconciliation."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
    for path in [*layout.triton_repository.rglob("config.pbtxt"), *layout.triton_repository.rglob("run.json")]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert lifecycle.reconcile(layout, triton.address) == store.read(layout.releases, "r2")
    assert _ready(triton.address) == _both(1, 2)
    for version in (1, 2):
        _assert_serves(triton.address, version, float(version))


MOVES = {"two releases": ["", "r2", "", "r2", "", "r2"], "three releases": ["r3", "", "", "r3", "", "r2"]}  # "": roll back


@pytest.mark.parametrize("moves", MOVES.values(), ids=MOVES.keys())
def test_no_inference_fails_while_releases_come_and_go(layout: Layout, triton: TritonServer, moves: list[str]) -> None:
    """Whoever pins the active release, as read from the pointer up to 0.3 s ago, is answered, and by that release, at every moment."""
    for version in (1, 2, 3):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    for name in ("r1", "r2"):
        lifecycle.activate(layout, name, triton.address)
    failures: list[str] = []
    seen: Counter[int] = Counter()
    done = threading.Event()

    def infer() -> None:
        while not done.is_set():
            version, until = int(str(store.active(layout.releases))[1:]), time.monotonic() + 0.3
            while time.monotonic() < until:
                try:
                    _assert_serves(triton.address, version, float(version))
                except (LongtailError, AssertionError) as problem:
                    failures.append(f"r{version}: {problem}")
                seen[version] += 1

    gateway = threading.Thread(target=infer)
    gateway.start()
    try:
        for release_id in moves:
            if release_id:
                lifecycle.activate(layout, release_id, triton.address)
            else:
                lifecycle.rollback(layout, triton.address)
            lifecycle.reconcile(layout, triton.address)  # the controller's part
    finally:
        done.set()
        gateway.join()
    assert failures == []
    assert seen[1]
    assert seen[2]


def test_a_release_may_share_a_members_version(layout: Layout, triton: TritonServer) -> None:
    """Two releases that name the same version of the same model share it, and retiring one does not take it from the other."""
    build_release(layout.releases, "r1", 1)
    build_release(layout.releases, "r2", 1)
    lifecycle.activate(layout, "r1", triton.address)
    lifecycle.activate(layout, "r2", triton.address)
    assert lifecycle.rollback(layout, triton.address).id == "r1"
    assert _ready(triton.address) == _both(1)


def test_a_fresh_triton_is_brought_to_the_desired_state(layout: Layout) -> None:
    """A server that lost everything gets the active release and the one behind it; what nobody wants is cleared away."""
    with running_triton(layout) as first:
        for version in (1, 2, 3):
            build_release(layout.releases, f"r{version}", version, bias=float(version))
            lifecycle.activate(layout, f"r{version}", first.address)
    stray = layout.triton_repository / "trees" / "9"
    stray.mkdir()
    with running_triton(layout) as second:
        assert _ready(second.address) == set()
        assert lifecycle.reconcile(layout, second.address) == store.read(layout.releases, "r3")
        assert _ready(second.address) == _both(2, 3)
        _assert_serves(second.address, 3, 3.0)
        assert not stray.exists()


def test_a_damaged_earlier_release_does_not_keep_the_active_one_down(layout: Layout) -> None:
    """Reconciling serves the active release although the one kept for rollback no longer verifies."""
    with running_triton(layout) as first:
        for version in (1, 2):
            build_release(layout.releases, f"r{version}", version)
            lifecycle.activate(layout, f"r{version}", first.address)
    alter(layout.releases, "r1", lambda m: m["members"][0]["golden"]["outputs"].__setitem__(0, 9.0))
    with running_triton(layout) as second:
        assert lifecycle.reconcile(layout, second.address) == store.read(layout.releases, "r2")
        assert _ready(second.address) == _both(2)
        with pytest.raises(InvalidRelease, match="expected 9 within"):
            lifecycle.rollback(layout, second.address)
        assert store.active(layout.releases) == "r2"
        assert _ready(second.address) == _both(2)


def test_nothing_active_is_a_state_too(layout: Layout, triton: TritonServer) -> None:
    """Before the first activation there is nothing to load and that is no error."""
    assert lifecycle.reconcile(layout, triton.address) is None


def test_without_triton_nothing_is_activated(layout: Layout) -> None:
    """A release that cannot be loaded anywhere does not become active."""
    build_release(layout.releases, "r1", 1)
    with pytest.raises(Unavailable, match="did not answer"):
        lifecycle.activate(layout, "r1", f"127.0.0.1:{process.free_port()}")
    assert store.active(layout.releases) is None


Edit = Callable[[Path, str], None]


def _manifest(change: Callable[[dict[str, Any]], Any]) -> Edit:
    return lambda folder, name: alter(folder, name, change)


def _model(content: Callable[[], bytes]) -> Edit:
    return lambda folder, name: replace_model(folder, name, "trees", content())


def _text_model(content: Callable[[], bytes]) -> Edit:
    return lambda folder, name: replace_model(folder, name, "bert", content())


TREES = r"members\[0\] \(trees\)"
WRONG: dict[str, tuple[Edit, str]] = {
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
        TREES + r"\.golden: .*output has shape \[4\], expected \[3\]",
    ),
    "golden of another shape": (
        _manifest(lambda m: m["members"][0]["golden"]["inputs"].update(features=[[1.0, 2.0]])),
        TREES + r"\.golden\.inputs\.features: has shape \[1, 2\], declared is \[-1, 31\]",
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
    """It is refused by name, the active release serves as before, and nothing of the wrong one stays behind."""
    layout, server = serving
    name, version = wrong.lower().replace(" ", "-"), 100 + list(WRONG).index(wrong)
    build_release(layout.releases, name, version)
    edit, message = WRONG[wrong]
    edit(layout.releases, name)
    before = sorted(layout.triton_repository.rglob("*"))
    pointer = layout.pointer.read_bytes()

    with pytest.raises(InvalidRelease, match=message):
        lifecycle.activate(layout, name, server.address)

    assert layout.pointer.read_bytes() == pointer
    assert _ready(server.address) == _both(1)
    _assert_serves(server.address, 1, 1.0)
    assert sorted(layout.triton_repository.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "score"}, r"\.model: .*output: the release says .*'score'"),
        (
            {"inputs": [{"name": "features", "dtype": "INT64", "shape": [-1, 31]}]},
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
    assert _ready(triton.address) == set()
    assert list(layout.triton_repository.iterdir()) == []


def test_a_mended_release_is_accepted(layout: Layout, triton: TritonServer) -> None:
    """Being refused leaves nothing that stands in the way of the same version, put right."""
    build_release(layout.releases, "r1", 1, bias=1.0)
    right = (layout.releases / "r1" / "models/trees/model.onnx").read_bytes()
    replace_model(layout.releases, "r1", "trees", trees_model(9.0).SerializeToString())
    with pytest.raises(InvalidRelease, match="golden"):
        lifecycle.activate(layout, "r1", triton.address)
    assert _ready(triton.address) == set()
    replace_model(layout.releases, "r1", "trees", right)
    lifecycle.activate(layout, "r1", triton.address)
    _assert_serves(triton.address, 1, 1.0)


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
    _assert_serves(server.address, 1, 1.0)
