"""What is removed from the release store, and what never is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import policies, store
from deploy.garbage import collect
from ranking.errors import InvalidRelease
from ranking.fairness.policy import FairnessPolicy
from ranking.layout import Layout
from ranking.release import MANIFEST
from ranking.trial import Mode, Trial
from tests.deploy.releases import alter, build_release


@pytest.fixture
def nine(layout: Layout) -> Layout:
    """A store of r1 (oldest) to r9, of which r2, r3, r4 and r5 were active in turn."""
    for version in range(1, 10):
        build_release(layout.releases, f"r{version}", version)
    for name in ("r2", "r3", "r4", "r5"):
        store.activate(layout.releases, name)
    return layout


def left_in(layout: Layout) -> set[str]:
    return {row.id for row in store.list_releases(layout.releases)}


def bytes_of(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def test_what_is_needed_and_the_newest_stay(nine: Layout) -> None:
    """Active, to roll back to, of the highest version, and the newest of the others stay; the rest goes oldest first, its bytes told."""
    sizes = {name: bytes_of(nine.releases / name) for name in left_in(nine)}
    gone = collect(nine, 2)
    assert [(one.release, one.freed) for one in gone] == [(name, sizes[name]) for name in ("r1", "r2", "r3", "r6")]
    assert left_in(nine) == {"r4", "r5", "r7", "r8", "r9"}
    assert collect(nine, 2) == []


def test_no_version_is_given_twice(nine: Layout) -> None:
    """The release of the highest model version stays, however old it is: gateways remember scores by model and version."""
    build_release(nine.releases, "old", 59)
    alter(nine.releases, "old", lambda m: m.update(created="2025-01-01T00:00:00Z"))
    collect(nine, 0)
    assert left_in(nine) == {"r4", "r5", "old"}


def test_history_names_only_what_is_there(nine: Layout) -> None:
    """What was removed cannot be rolled back to, and what was kept can."""
    collect(nine, 0)
    now = store.pointer(nine.releases)
    assert now is not None
    assert (now.release, now.previous, left_in(nine)) == ("r5", ("r4",), {"r4", "r5", "r9"})
    assert store.rollback(nine.releases).release == "r4"
    with pytest.raises(InvalidRelease, match="no earlier release"):
        store.rollback(nine.releases)


def test_what_is_tried_and_what_was_left_stay(nine: Layout) -> None:
    """A release on trial is kept, and when the trial has ended it is until the pointer moves again; so is what was rolled back from."""
    store.put_on_trial(nine.releases, Trial("r1", Mode.CANARY, 0.1, "r1", ""))
    assert "r1" not in {one.release for one in collect(nine, 5)}
    store.end_trial(nine.releases)
    collect(nine, 0)
    assert left_in(nine) == {"r1", "r4", "r5", "r9"}
    store.rollback(nine.releases)
    collect(nine, 0)
    assert left_in(nine) == {"r4", "r5", "r9"}


def test_what_is_being_published_or_cannot_be_read_stays(nine: Layout) -> None:
    """A directory under a hidden name, one without a manifest, and one whose manifest is damaged are nobody's rubbish."""
    (nine.releases / ".publishing-r10").mkdir()
    (nine.releases / ".publishing-r10" / MANIFEST).write_text("{}")
    (nine.releases / "copying").mkdir()
    (nine.releases / "r1" / MANIFEST).write_text("{")
    collect(nine, 0)
    assert left_in(nine) == {"r1", "r4", "r5", "r9"}
    assert (nine.releases / ".publishing-r10" / MANIFEST).exists()
    assert (nine.releases / "copying").exists()


def _missing(pointer: Path) -> None:
    pointer.unlink()


def _torn(pointer: Path) -> None:
    pointer.write_text('{"release": "r')


@pytest.mark.parametrize("damage", [_missing, _torn])
def test_without_a_pointer_nothing_is_removed(nine: Layout, damage: Callable[[Path], None]) -> None:
    """Who cannot tell what is needed removes nothing and says why."""
    damage(nine.pointer)
    with pytest.raises(InvalidRelease, match=r"^ACTIVE"):
        collect(nine, 0)
    with pytest.raises(ValueError, match="keep: must not be negative, got -1"):
        collect(nine, -1)
    assert len(left_in(nine)) == 9


def test_what_a_killed_run_left_is_removed(nine: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it deletes, it leaves no half release under its name, and the next run finishes."""

    def killed(path: Path) -> None:
        next(path.rglob("model.onnx")).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("deploy.garbage.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(nine, 2)
    assert "r1" not in left_in(nine)
    collect(nine, 2)
    assert left_in(nine) == {"r4", "r5", "r7", "r8", "r9"}
    assert not list(nine.releases.glob(".*"))


def test_shared_files_are_not_freed_and_stay_whole(layout: Layout) -> None:
    """A release made from another by new policies shares its files: removing the one leaves the other as it was."""
    release = build_release(layout.releases, "r1", 1)
    made = policies.publish(layout.releases, policies.merged(release, [FairnessPolicy("more", "1", mode="off")], {}))
    store.activate(layout.releases, made.id)
    manifest = (layout.releases / "r1" / MANIFEST).stat().st_size
    (gone,) = collect(layout, 0)
    assert (gone.release, gone.freed) == ("r1", manifest)
    assert store.read(layout.releases, made.id).id == made.id
