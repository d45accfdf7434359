"""The features benchmark measures what it says, part by part."""

from __future__ import annotations

from pathlib import Path

import pytest

from ranking.layout import Layout
from services.bench import events, features


@pytest.mark.servers
def test_events_are_counted_beside_an_echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sizes of batch have a figure, the echo's, and their ratio, from one run; nothing is left in the state directory."""
    monkeypatch.setattr(events, "CALLS", {1: 200, 100: 200})
    report = features.run(Layout(tmp_path / "state"), quick=True, only=["events"])
    figures = report["figures"]
    for size in (1, 100):
        assert 0 < figures[f"events_p50_ms_{size}"] <= figures[f"events_p99_ms_{size}"]
        ratio = figures[f"events_per_s_{size}"] / figures[f"echo_events_per_s_{size}"]
        assert figures[f"events_vs_echo_{size}"] == pytest.approx(ratio, abs=1e-3)
    assert (report["bench"], report["wanted"], report["met"]) == ("features", {}, {})
    assert {"cores", "cpu", "memory"} == set(report["host"])
    assert list((tmp_path / "state").iterdir()) == []


def test_parts_are_added_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is a function in a table; its figures are judged by the marks of their keys, and only those asked for are measured."""
    monkeypatch.setattr(
        features, "PARTS", {"a": lambda _layout, _quick: {"x": 2.0, "y": 1.0}, "b": lambda _layout, quick: {"z": float(quick)}}
    )
    monkeypatch.setattr(features, "WANTED", {"x": (">=", 1.0), "y": ("<=", 0.5), "z": (">=", 1.0)})
    layout = Layout(tmp_path)
    assert features.run(layout, quick=True)["met"] == {"x": True, "y": False, "z": True}
    assert features.run(layout, only=["b"])["figures"] == {"z": 0.0}
    more = {"d": (lambda _layout, _quick: {"w": 3.0}, {"w": ("<=", 2.0)})}
    assert features.run(layout, only=["d"], others=more)["met"] == {"w": False}
    with pytest.raises(ValueError, match="--only: 'c' is not a part; known: a, b"):
        features.run(layout, only=["c"])
