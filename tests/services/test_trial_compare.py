"""What a trial is said to show."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from ranking.compare import HIGHER, LEAST_UNITS, LOWER, NONE_SHOWN, TOO_LITTLE
from ranking.errors import InvalidRelease
from ranking.layout import Layout
from services.feedback.log.sqlite import SqliteLog
from services.feedback.types import EventType
from services.gateway.trials.compare import Section, compare
from services.gateway.trials.log import Answered, Line, Shadowed
from tests.services.feedback.fakes import event

SHADOW = Shadowed(
    time=1.0, tried="r2", active="r1", share=1.0, unit=0, surface="search", policy="none", overlap=0.9, correlation=0.5, probability=0.02,
    shift=-0.01, tiers_active=(0.8, 0.2, 0.0), tiers_tried=(0.7, 0.2, 0.1), ms_active=5.0, ms_tried=7.0, degraded_active=False,
    degraded_tried=True,
)  # fmt: skip
CANARY = Answered(
    time=2.0, tried="r2", active="r1", share=0.5, unit=0, surface="ads", policy="none", arm="active", release="r1", ranking_id="",
    tiers=(1.0, 0.0, 0.0), ms=4.0, degraded=False,
)  # fmt: skip


def shadows(units: int) -> list[Line]:
    return [replace(SHADOW, unit=unit) for unit in range(units)]


def canary(units: int, share: float = 0.5) -> list[Line]:
    """Each unit in each arm has one ranking."""
    active = [replace(CANARY, unit=unit, ranking_id=f"a{unit}", share=share) for unit in range(units)]
    return [*active, *(replace(line, arm="tried", release="r2", ranking_id=f"t{line.unit}", ms=6.0) for line in active)]


def by_name(section: Section) -> dict[str, Any]:
    return {figure.name: figure for figure in section.figures}


def test_a_shadows_differences() -> None:
    """Every request differs alike, so each figure is that difference and its verdict the sign."""
    (section,) = compare(shadows(LEAST_UNITS), None)
    assert (section.mode, section.active, section.tried, section.requests) == ("shadow", "r1", "r2", (LEAST_UNITS, LEAST_UNITS))
    found = by_name(section)
    assert {name: f.verdict for name, f in found.items()} == {
        "overlap_at_10": LOWER, "rank_correlation": LOWER, "abs_probability_difference": HIGHER, "probability_shift": LOWER,
        "head_share_at_10": LOWER, "tail_share_at_10": NONE_SHOWN, "new_share_at_10": HIGHER, "latency_ms": HIGHER,
        "degraded_share": HIGHER,
    }  # fmt: skip
    assert found["latency_ms"].difference == pytest.approx((2.0, 2.0, 2.0))
    assert (found["degraded_share"].active, found["degraded_share"].tried) == (0.0, 1.0)


def test_a_trial_that_has_hardly_begun_is_said_to_be() -> None:
    """One unit of users fewer than are needed, and every verdict and a note say that it is too little."""
    for lines in (shadows(LEAST_UNITS - 1), canary(LEAST_UNITS - 1)):
        (section,) = compare(lines, None)
        assert {figure.verdict for figure in section.figures} == {TOO_LITTLE}
        assert f"too little to tell anything: requests of {LEAST_UNITS - 1}" in section.notes[-1]


def test_a_canarys_arms_are_joined_with_feedback(tmp_path: Path) -> None:
    """Clicks and purchases count for the ranking they name: all of one arm's rankings were clicked, half of the other's, one twice."""
    units = 2 * LEAST_UNITS
    log = SqliteLog(tmp_path / "events.db")
    clicked = [*(f"t{i}" for i in range(units)), *(f"a{i}" for i in range(0, units, 2)), "t0", "another ranking", ""]
    log.append([event(f"c{i}", type=EventType.CLICK, ranking_id=r) for i, r in enumerate(clicked)])
    log.append([event("p", type=EventType.PURCHASE, ranking_id="a1"), event("i", type=EventType.IMPRESSION, ranking_id="t1")])
    (section,) = compare(canary(units), log)
    found = by_name(section)
    assert (found["click_rate"].active, found["click_rate"].tried, found["click_rate"].verdict) == (0.5, 1.0, HIGHER)
    assert found["clicks_per_ranking"].tried == pytest.approx((units + 1) / units)
    assert (found["purchases_per_ranking"].active, found["purchases_per_ranking"].tried) == (pytest.approx(1 / units), 0.0)
    assert found["latency_ms"].difference == pytest.approx((2.0, 2.0, 2.0))
    (without,) = compare(canary(units), None)
    assert "click_rate" not in by_name(without)
    assert any("no click or purchase names one of these rankings" in note for note in without.notes)


def test_only_what_is_alike_is_compared() -> None:
    """Lines beside an earlier active release, of an earlier share, or of another release are left out; each mode has its section."""
    units = LEAST_UNITS
    earlier = [replace(line, active="r0", time=0.0) for line in [*shadows(units), *canary(units)]]
    smaller = [replace(line, time=1.5) for line in canary(units, 0.1)]
    other = [replace(line, tried="r7", time=0.5) for line in canary(units)]
    lines = [*earlier, *canary(units), *shadows(units), *smaller, *other]
    sections = compare(lines, None)
    assert [(s.mode, s.active, s.tried, s.requests) for s in sections] == [
        ("shadow", "r1", "r2", (units, units)),
        ("canary", "r1", "r2", (units, units)),
    ]
    assert "answers at a share of 50 %" in sections[1].notes
    (seventh,) = compare(lines, None, "r7")
    assert (seventh.tried, seventh.requests) == ("r7", (units, units))
    with pytest.raises(InvalidRelease, match="r9: the log of trials has no line of it"):
        compare(lines, None, "r9")
    with pytest.raises(InvalidRelease, match="trial: the log of trials has no line"):
        compare([], None)


def test_what_the_tried_release_could_not_answer_is_told() -> None:
    """A request of its arm that the active release answered counts in its arm, and a note says how many there were."""
    lines = [replace(line, release="r1") if line.unit == 3 else line for line in canary(LEAST_UNITS) if isinstance(line, Answered)]
    (section,) = compare(lines, None)
    assert section.requests == (LEAST_UNITS, LEAST_UNITS)
    assert any(note.startswith("1 requests of the release on trial it could not answer") for note in section.notes)


def test_the_command_prints_tables_or_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`longtail release compare` reads the files and asks no process; a missing trial is one line that names it."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    runner = CliRunner()
    missing = runner.invoke(app, ["release", "compare"])
    assert missing.exit_code == 1
    assert "the log of trials has no line of it" in missing.output
    folder = Layout(tmp_path).trials
    folder.mkdir(parents=True)
    (folder / "1-1.jsonl").write_text("".join(json.dumps(asdict(line)) + "\n" for line in [*shadows(40), *canary(40)]))
    told = json.loads(runner.invoke(app, ["release", "compare", "--json"]).stdout)
    assert set(told) == {"shadow", "canary"}
    assert told["shadow"]["figures"]["latency_ms"]["difference"] == [2.0, 2.0, 2.0]
    text = runner.invoke(app, ["release", "compare", "r2"]).stdout
    for words in ("shadow: 40 requests of r1, 40 of r2", "overlap_at_10", "[+2, +2]", "no difference shown", "answers at a share of 50 %"):
        assert words in text
