"""Trials on a real Triton: what is tried is verified first and stays loaded, and the active release never suffers for it."""

from __future__ import annotations

import logging
import re

import pytest

from deploy import lifecycle, store, trials
from deploy.triton import process
from deploy.triton.process import TritonServer
from ranking.errors import InvalidRelease, LongtailError, Unavailable, UnknownName
from ranking.layout import Layout
from ranking.trial import Mode
from tests.deploy.releases import alter, build_release, replace_model, trees_model
from tests.deploy.served import assert_serves, both, ready
from tests.deploy.servers import running_triton

pytestmark = pytest.mark.servers


@pytest.fixture
def serving(layout: Layout, triton: TritonServer) -> str:
    """The address of a Triton that serves r1, beside which r2 and r3 lie in the store."""
    for version in (1, 2, 3):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    lifecycle.activate(layout, "r1", triton.address)
    return triton.address


def _canary(layout: Layout, address: str, release: str, share: float = 0.5) -> None:
    trials.start(layout, release, address, mode=Mode.CANARY, share=share)


def _on_trial(layout: Layout) -> tuple[str, Mode, float] | None:
    now = store.pointer(layout.releases)
    assert now is not None
    return (now.trial.release, now.trial.mode, now.trial.share) if now.trial else None


def test_a_trial_from_shadow_to_promotion(layout: Layout, serving: str) -> None:
    """It is served beside the active release from its start, through every change, as the active one, and rolled back from."""
    trials.start(layout, "r2", serving, mode=Mode.SHADOW, share=1.0)
    assert (_on_trial(layout), ready(serving)) == (("r2", Mode.SHADOW, 1.0), both(1, 2))
    salt = store.pointer(layout.releases)
    for share in (0.1, 0.5):
        _canary(layout, serving, "", share)
        assert (_on_trial(layout), store.active(layout.releases)) == (("r2", Mode.CANARY, share), "r1")
    now = store.pointer(layout.releases)
    assert salt is not None and salt.trial is not None and now is not None and now.trial is not None  # noqa: PT018  for the types
    assert (now.trial.salt, now.trial.started) == (salt.trial.salt, salt.trial.started)
    assert trials.promote(layout, serving).id == "r2"
    assert (store.active(layout.releases), _on_trial(layout), ready(serving)) == ("r2", None, both(1, 2))
    assert lifecycle.rollback(layout, serving).id == "r1"
    for version in (1, 2):
        assert_serves(serving, version, float(version))


def test_an_ended_trial_stays_loaded_until_the_pointer_moves_again(layout: Layout, serving: str) -> None:
    """Requests under way may still name it; the next trial or activation clears it away, and there is nothing more to end or promote."""
    _canary(layout, serving, "r2")
    ended = trials.end(layout, serving)
    assert ended is not None
    assert (ended.release, _on_trial(layout), ready(serving)) == ("r2", None, both(1, 2))
    assert trials.end(layout, serving) is None
    for change in (lambda: trials.promote(layout, serving), lambda: _canary(layout, serving, "")):
        with pytest.raises(InvalidRelease, match=r"ACTIVE\.trial: no release is on trial"):
            change()
    _canary(layout, serving, "r3")
    lifecycle.reconcile(layout, serving)
    assert ready(serving) == both(1, 3)


def test_a_share_that_is_none_is_refused(layout: Layout, serving: str) -> None:
    """More than all users, fewer than none, or no number: nothing moves."""
    for share in (1.01, -0.1, float("nan")):
        with pytest.raises(ValueError, match="share: must be within 0 and 100 %"):
            _canary(layout, serving, "r2", share)
    assert (_on_trial(layout), ready(serving)) == (None, both(1))


def test_wrong_releases_are_not_tried(layout: Layout, serving: str) -> None:
    """Each is refused by what is wrong with it; the pointer, what is served, and a trial that runs are as before."""
    _canary(layout, serving, "r2")
    with pytest.raises(InvalidRelease, match=r"r2 is on trial: end or promote it first"):
        _canary(layout, serving, "r3")
    trials.end(layout, serving)
    wrong = {
        "golden": (r"members\[0\] \(trees\)\.golden: ", lambda m: m["members"][0]["golden"]["outputs"].__setitem__(0, 9.0)),
        "digest": (r"members\[0\]\.sha256: ", lambda m: m["members"][0].update(sha256="0" * 64)),
        "schema": (r"feature_schema_hash: trained on feed", lambda m: m.update(feature_schema_hash="feed")),
    }
    before = layout.pointer.read_bytes()
    for version, (name, (message, change)) in enumerate(wrong.items(), start=11):
        build_release(layout.releases, name, version)
        alter(layout.releases, name, change)
        for refused in (lambda: _canary(layout, serving, name), lambda: lifecycle.check(layout, name, serving)):  # noqa: B023
            with pytest.raises(InvalidRelease, match=message):
                refused()
    with pytest.raises(InvalidRelease, match="r1 is the active release already"):
        _canary(layout, serving, "r1")
    with pytest.raises(UnknownName, match=r"known: .*r3"):
        _canary(layout, serving, "r9")
    assert layout.pointer.read_bytes() == before
    assert ready(serving) == both(1, 2)
    assert_serves(serving, 1, 1.0)


def test_verifying_moves_nothing(layout: Layout, serving: str) -> None:
    """A release in order is said to be so and is not left loaded; what serves is asked as it stands and loses nothing where it is wrong."""
    before = layout.pointer.read_bytes()
    assert lifecycle.check(layout, "r2", serving).id == "r2"
    assert (layout.pointer.read_bytes(), ready(serving)) == (before, both(1))
    assert lifecycle.check(layout, "r1", serving).id == "r1"
    alter(layout.releases, "r1", lambda m: m["members"][0]["golden"]["outputs"].__setitem__(0, 9.0))
    with pytest.raises(InvalidRelease, match=r"golden: version 1 of trees: output 0 is .*, expected 9"):
        lifecycle.check(layout, "r1", serving)
    assert (layout.pointer.read_bytes(), ready(serving)) == (before, both(1))
    assert_serves(serving, 1, 1.0)


def test_a_trial_that_no_longer_verifies_ends(layout: Layout, serving: str, caplog: pytest.LogCaptureFixture) -> None:
    """On a fresh Triton, or when its share is changed, it is left out and its trial ended with the reason; the active release serves."""
    _canary(layout, serving, "r2")
    good = (layout.releases / "r2" / "models/trees/model.onnx").read_bytes()
    replace_model(layout.releases, "r2", "trees", trees_model(9.0).SerializeToString())
    with running_triton(layout) as fresh, caplog.at_level(logging.ERROR):
        assert lifecycle.reconcile(layout, fresh.address) == store.read(layout.releases, "r1")
        assert (_on_trial(layout), ready(fresh.address)) == (None, both(1))
        said = store.trial_problem(layout.releases)
        assert re.match(r"the trial of r2 was ended: members\[0\] \(trees\)\.golden: ", said), said
        assert "the trial of release r2 ends" in caplog.text
        replace_model(layout.releases, "r2", "trees", good)
        _canary(layout, fresh.address, "r2")
        assert store.trial_problem(layout.releases) == ""
        alter(layout.releases, "r2", lambda m: m["members"][0]["golden"]["outputs"].__setitem__(0, 9.0))
        with pytest.raises(InvalidRelease, match="expected 9"):
            _canary(layout, fresh.address, "r2", 0.9)
        assert (_on_trial(layout), ready(fresh.address)) == (None, both(1))
        assert_serves(fresh.address, 1, 1.0)


def test_without_triton_a_trial_can_only_be_ended(layout: Layout) -> None:
    """A trial that runs goes on as it is where the server cannot be asked; it can be ended all the same."""
    with running_triton(layout) as server:
        for version in (1, 2):
            build_release(layout.releases, f"r{version}", version)
        lifecycle.activate(layout, "r1", server.address)
        _canary(layout, server.address, "r2")
    before, nowhere = layout.pointer.read_bytes(), f"127.0.0.1:{process.free_port()}"
    for change in (lambda: _canary(layout, nowhere, "", 0.9), lambda: trials.promote(layout, nowhere)):
        with pytest.raises(Unavailable) as refused:
            change()
        assert isinstance(refused.value, LongtailError)
    assert layout.pointer.read_bytes() == before
    trials.end(layout, nowhere)
    assert _on_trial(layout) is None
