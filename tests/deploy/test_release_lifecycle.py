"""Load, verify, activate, roll back on a real Triton: right releases take traffic and none is lost on the way."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter

import numpy as np
import onnxruntime
import pytest

from deploy import lifecycle, store
from deploy.triton import process
from deploy.triton.client import TritonClient, TritonRefused
from deploy.triton.process import TritonServer
from ranking.errors import InvalidRelease, LongtailError, Unavailable
from ranking.layout import Layout
from ranking.release import MOST_PAIRS
from tests.deploy.releases import (
    alter,
    bert_logits,
    build_release,
    features_batch,
    text_batch,
    trees_logits,
)
from tests.deploy.served import assert_serves, both, ready
from tests.deploy.servers import running_triton

pytestmark = pytest.mark.servers


def test_triton_gives_what_the_models_give_in_process(layout: Layout, triton: TritonServer) -> None:
    """Served outputs equal ONNX Runtime's in this process and the scores computed by hand, from one row to the most of a request."""
    release = build_release(layout.releases, "r1", 1, bias=0.25)
    lifecycle.activate(layout, "r1", triton.address)
    paths = {m.name: layout.releases / "r1" / m.path for m in release.members}
    here = {name: onnxruntime.InferenceSession(str(path)) for name, path in paths.items()}
    for n in (1, 7, 1000):
        features, texts = features_batch(n, seed=n), text_batch(min(n, MOST_PAIRS), seed=n)
        with TritonClient(triton.address) as client:
            trees, bert = client.infer("trees", 1, {"features": features}, "logit"), client.infer("bert", 1, texts, "logit")
        assert (trees.shape, bert.shape) == ((n, 1), (min(n, MOST_PAIRS), 1))
        trees, bert = trees[:, 0], bert[:, 0]
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
        assert ready(triton.address) == both(*kept)
        for v in kept:
            assert_serves(triton.address, v, float(v))
    assert sorted(p.name for p in (layout.triton_repository / "trees").iterdir()) == ["2", "3", "config.pbtxt", "warmup"]


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
    assert ready(triton.address) == both(1, 2)
    for version in (1, 2):
        assert_serves(triton.address, version, float(version))
    with pytest.raises(InvalidRelease, match="no earlier release"):
        lifecycle.rollback(layout, triton.address)
    lifecycle.reconcile(layout, triton.address)  # as the controller does, which sees the pointer move
    assert ready(triton.address) == both(1, 2)


def test_a_refused_release_unloads_nothing_else_without_a_pointer(layout: Layout, triton: TritonServer) -> None:
    """With the pointer lost or damaged, what is served stays beside a refused release, and a right one repairs the pointer."""
    for version in (1, 2, 3):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    alter(layout.releases, "r2", lambda m: m["members"][0]["golden"]["outputs"].__setitem__(0, 9.0))
    lifecycle.activate(layout, "r1", triton.address)
    layout.pointer.unlink()
    with pytest.raises(InvalidRelease, match="expected 9 within"):
        lifecycle.activate(layout, "r2", triton.address)
    assert ready(triton.address) == both(1)
    assert_serves(triton.address, 1, 1.0)
    layout.pointer.write_bytes(b"\xff")
    with pytest.raises(InvalidRelease, match="expected 9 within"):
        lifecycle.activate(layout, "r2", triton.address)
    assert_serves(triton.address, 1, 1.0)
    with pytest.raises(InvalidRelease, match="ACTIVE: is not UTF-8"):
        lifecycle.rollback(layout, triton.address)
    lifecycle.activate(layout, "r3", triton.address)
    assert store.active(layout.releases) == "r3"
    assert ready(triton.address) == both(3)
    assert_serves(triton.address, 3, 3.0)


def test_what_is_loaded_after_each_move(layout: Layout, triton: TritonServer) -> None:
    """The active release, the one a rollback would go to and the one just left; nothing piles up."""
    for version in (1, 2, 3):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
    lifecycle.rollback(layout, triton.address)
    assert ready(triton.address) == both(2, 3)
    lifecycle.reconcile(layout, triton.address)  # as the controller does, which sees the pointer move
    assert ready(triton.address) == both(2, 1, 3)
    lifecycle.rollback(layout, triton.address)
    assert ready(triton.address) == both(1, 2)
    lifecycle.activate(layout, "r3", triton.address)
    assert ready(triton.address) == both(3, 1)
    assert_serves(triton.address, 3, 3.0)


def test_a_fresh_triton_does_not_get_what_was_rolled_back_from(layout: Layout) -> None:
    """Nobody can still pin what was loaded on a server that is gone: it is neither loaded nor kept on disk."""
    with running_triton(layout) as first:
        for version in (1, 2):
            build_release(layout.releases, f"r{version}", version, bias=float(version))
            lifecycle.activate(layout, f"r{version}", first.address)
        lifecycle.rollback(layout, first.address)
    with running_triton(layout) as second:
        lifecycle.reconcile(layout, second.address)
        assert ready(second.address) == both(1)
        assert sorted(p.name for p in (layout.triton_repository / "trees").iterdir()) == ["1", "config.pbtxt", "warmup"]


def test_what_was_rolled_back_from_makes_way_for_its_successor(layout: Layout, triton: TritonServer) -> None:
    """A release put right under its old id and version after a rollback is loaded in place of the one that was left."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
    lifecycle.rollback(layout, triton.address)
    shutil.rmtree(layout.releases / "r2")
    build_release(layout.releases, "r2", 2, bias=5.0)
    lifecycle.activate(layout, "r2", triton.address)
    assert_serves(triton.address, 2, 5.0)
    assert ready(triton.address) == both(1, 2)


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
    assert ready(triton.address) >= both(2, 3)
    lifecycle.reconcile(layout, triton.address)
    assert ready(triton.address) == both(2, 3)


def test_a_torn_model_repository_is_written_again(layout: Layout, triton: TritonServer) -> None:
    """Configurations and version directories cut short while everything serves are mended by the next reconciliation."""
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
        lifecycle.activate(layout, f"r{version}", triton.address)
    for path in [*layout.triton_repository.rglob("config.pbtxt"), *layout.triton_repository.rglob("run.json")]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert lifecycle.reconcile(layout, triton.address) == store.read(layout.releases, "r2")
    assert ready(triton.address) == both(1, 2)
    for version in (1, 2):
        assert_serves(triton.address, version, float(version))


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
                    assert_serves(triton.address, version, float(version))
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
    assert ready(triton.address) == both(1)


def test_a_fresh_triton_is_brought_to_the_desired_state(layout: Layout) -> None:
    """A server that lost everything gets the active release and the one behind it; what nobody wants is cleared away."""
    with running_triton(layout) as first:
        for version in (1, 2, 3):
            build_release(layout.releases, f"r{version}", version, bias=float(version))
            lifecycle.activate(layout, f"r{version}", first.address)
    stray = layout.triton_repository / "trees" / "9"
    stray.mkdir()
    with running_triton(layout) as second:
        assert ready(second.address) == set()
        assert lifecycle.reconcile(layout, second.address) == store.read(layout.releases, "r3")
        assert ready(second.address) == both(2, 3)
        assert_serves(second.address, 3, 3.0)
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
        assert ready(second.address) == both(2)
        with pytest.raises(InvalidRelease, match="expected 9 within"):
            lifecycle.rollback(layout, second.address)
        assert store.active(layout.releases) == "r2"
        assert ready(second.address) == both(2)


def test_nothing_active_is_a_state_too(layout: Layout, triton: TritonServer) -> None:
    """Before the first activation there is nothing to load and that is no error."""
    assert lifecycle.reconcile(layout, triton.address) is None


def test_without_triton_nothing_is_activated(layout: Layout) -> None:
    """A release that cannot be loaded anywhere does not become active."""
    build_release(layout.releases, "r1", 1)
    with pytest.raises(Unavailable, match="did not answer"):
        lifecycle.activate(layout, "r1", f"127.0.0.1:{process.free_port()}")
    assert store.active(layout.releases) is None
