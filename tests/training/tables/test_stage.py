"""Stages: built once per key, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.stage import stage


def _writer(text: str):
    return lambda out: (out / "made.txt").write_text(text)


def test_a_stage_with_the_same_inputs_is_reused(tmp_path: Path) -> None:
    """Equal inputs give the same key, and nothing is built."""
    first = stage(tmp_path / "s", {"a": 1, "b": 2}, _writer("one"))
    again = stage(tmp_path / "s", {"b": 2, "a": 1}, _writer("two"))
    assert (first.reused, again.reused, first.key) == (False, True, again.key)
    assert (tmp_path / "s" / "made.txt").read_text() == "one"


def test_a_changed_input_or_source_file_builds_again(tmp_path: Path) -> None:
    """The key covers parameters and the text of the code, and the new stage replaces the old one whole."""
    code = tmp_path / "code.py"
    code.write_text("x = 1")
    target = tmp_path / "s"
    keys = [stage(target, {"a": 1}, _writer("one"), code=[code]).key, stage(target, {"a": 2}, _writer("two"), code=[code]).key]
    code.write_text("x = 2")
    keys.append(stage(target, {"a": 2}, lambda out: (out / "other.txt").touch(), code=[code]).key)
    assert len(set(keys)) == 3
    assert sorted(p.name for p in target.iterdir()) == ["other.txt", "stage.json"]


def test_a_failed_build_leaves_the_old_stage_and_nothing_beside_it(tmp_path: Path) -> None:
    """What the builder raises passes through; the old stage stays usable."""

    def fail(out: Path) -> None:
        (out / "half.txt").touch()
        raise OSError("disk full")

    stage(tmp_path / "s", {"a": 1}, _writer("one"))
    with pytest.raises(OSError, match="disk full"):
        stage(tmp_path / "s", {"a": 2}, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert stage(tmp_path / "s", {"a": 1}, fail).reused


@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"inputs": {}}'])
def test_a_directory_without_a_whole_stamp_is_never_reused(tmp_path: Path, stamp: str) -> None:
    """A killed or foreign writer's directory is built again."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "stage.json").write_text(stamp)
    assert not stage(tmp_path / "s", {}, _writer("one")).reused


def test_leftovers_of_dead_builders_are_swept(tmp_path: Path) -> None:
    """A builder that was killed leaves a directory; the next build removes it."""
    no_such_pid = 2**22 + 1  # above the kernel's largest pid
    (tmp_path / f".s.building.{no_such_pid}").mkdir()
    stage(tmp_path / "s", {}, _writer("one"))
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
