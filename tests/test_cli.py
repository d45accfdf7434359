"""The front door: errors people can act on are one line that names what to do, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from cli.common import layout, triton_address
from cli.platform import _features_held, _features_state
from deploy import store
from deploy.operations import Here
from deploy.service.server import ReleaseServer
from ranking.fairness.policy import FairnessPolicy
from ranking.layout import Layout
from ranking.trial import Mode, Trial
from tests.deploy.releases import build_release
from training.stage import Staged

runner = CliRunner()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rank --surface ads --user 900", "no gateway runs from this state directory; start it with `longtail up`"),
        ("release activate r0001-x", "no Triton runs from this state directory; start it with `longtail up`"),
        ("policy list", "no release is active; `longtail up` activates the newest"),
        ("policy show tail-floor", "no release is active; `longtail up` activates the newest"),
        ("policy apply nowhere.json", "no Triton runs from this state directory; start it with `longtail up`"),
        ("policy check nowhere.json", "No such file or directory: 'nowhere.json'"),
        ("release rollback", "no Triton runs from this state directory; start it with `longtail up`"),
        ("train-ranker", "`longtail data prepare esci --path FOLDER` makes it"),
        ("evaluate --source esci --judgments nowhere.csv", "`longtail data prepare esci --path FOLDER` makes it"),
        ("evaluate --source esci", "--judgments: source 'esci' needs it"),
        ("evaluate --source shoes", "source: 'shoes' is not known"),
        ("evaluate --source clothing_reviews", "--reviews: source 'clothing_reviews' needs it"),
        ("evaluate --source esci --reviews r.csv", "--reviews: source 'esci' does not read it"),
        ("bench relevance", "`longtail data prepare esci --path FOLDER` makes it"),
        ("release verify r0001-x", "no Triton runs from this state directory; start it with `longtail up`"),
        ("release canary 10 r0001-x", "no Triton runs from this state directory; start it with `longtail up`"),
        ("release shadow r0001-x", "no Triton runs from this state directory; start it with `longtail up`"),
        ("release promote", "no Triton runs from this state directory; start it with `longtail up`"),
        ("release end", "no Triton runs from this state directory; start it with `longtail up`"),
        ("release pull r0001-x memory://nowhere", "release: 'r0001-x' is not known; known: none"),
        ("release push r0001-x memory://nowhere", "release: 'r0001-x' is not known; known: none"),
        ("release gc", "names no active release: nobody can tell which are needed"),
        ("release show r0001-x", "release: 'r0001-x' is not known; known: none"),
        ("release render r0001-x folder", "release: 'r0001-x' is not known; known: none"),
        ("release render r0001-x folder --backend tensorrt", "backend: 'tensorrt' is not one of python, onnxruntime"),
        ("release list --address 127.0.0.1:1", "LONGTAIL_RELEASE_TOKEN: is not set; `longtail release token` issues a token"),
        ("features materialize", "there are no feature tables; run `longtail features compute`"),
        ("bench rank --quick", "`make demo` or `longtail train` makes it"),
    ],
)
def test_what_is_missing_is_named(words: str, message: str) -> None:
    """On an empty state directory every command says what to do first."""
    result = runner.invoke(app, words.split())
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("rank --surface shop", "--surface"),
        ("bench relevance --cuts 0", "--cuts"),
        ("rank", "--surface"),
        ("rank --surface ads --candidates 0", "--candidates"),
        ("rank --surface ads --candidates 1001", "--candidates"),
        ("rank --surface ads --top-k -1", "--top-k"),
        ("train --profile huge", "--profile"),
        ("features compute --until soon", "--until"),
        ("release canary 101", "percent"),
        ("release canary some", "percent"),
        ("release shadow r1 --percent -1", "--percent"),
        ("release gc --keep -1", "--keep"),
    ],
)
def test_a_wrong_option_is_named(words: str, named: str) -> None:
    """Usage errors name the option and end with status 2."""
    result = runner.invoke(app, words.split())
    assert result.exit_code == 2
    assert named in result.output


def test_computing_features_says_what_comes_next(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that brings the tables online, before the one JSON object that ends it."""
    made = Staged(home, "key", reused=False)
    monkeypatch.setattr("training.sources.prepare", lambda *_: made)
    monkeypatch.setattr("training.tables.compute", lambda *_, **__: made)
    meta = Layout(home).feature_meta
    meta.parent.mkdir(parents=True)
    meta.write_text(json.dumps({"rows": {}, "first": "a", "last": "b", "watermark": "c", "grown_from": None}))
    *said, last = runner.invoke(app, ["features", "compute"]).stdout.splitlines()
    assert said == ["next, for gateways to serve by them: longtail features materialize"]
    assert json.loads(last)["watermark"] == "c"


def test_nothing_runs_and_nothing_is_released(home: Path) -> None:
    """Status says so and ends with 1; stopping nothing and listing nothing are no errors."""
    assert runner.invoke(app, ["status"]).exit_code == 1
    assert "nothing was running" in runner.invoke(app, ["down"]).output
    assert runner.invoke(app, ["release", "list"]).exit_code == 0


def test_a_damaged_pointer_is_explained(home: Path) -> None:
    """A pointer that cannot be read is named, by status (which is not all well) and by the list (which still lists)."""
    (home / "releases").mkdir(parents=True)
    (home / "releases" / "ACTIVE").write_text("{")
    for words, status in ((["status"], 1), (["release", "list"], 0)):
        result = runner.invoke(app, words)
        assert result.exit_code == status
        assert "ACTIVE" in result.output


def test_releases_are_looked_at_from_afar(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an address the same commands say the same of the platform there, once the token that was issued there is at hand."""
    there = Layout(tmp_path / "there")
    build_release(there.releases, "r1", 1)
    store.activate(there.releases, "r1")
    monkeypatch.setenv("LONGTAIL_HOME", str(there.home))
    token = runner.invoke(app, ["release", "token"]).stdout.strip()
    monkeypatch.setenv("LONGTAIL_HOME", str(home))
    monkeypatch.setenv("LONGTAIL_RELEASE_TOKEN", token)
    server = ReleaseServer(Here(there, lambda: "127.0.0.1:1"), "127.0.0.1:0", there.release_token)
    server.start()
    try:
        for words, shown in (
            ("list", "2026-01-01T00:00:01Z"),
            ("show r1", "trees 1"),
            ("status", "r1 since"),
            ("gc", "0 releases removed"),
        ):
            result = runner.invoke(app, ["release", *words.split(), "--address", server.address])
            assert result.exit_code == 0, result.output
            assert shown in result.output
        monkeypatch.setenv("LONGTAIL_RELEASE_TOKEN", "another")
        refused = runner.invoke(app, ["release", "list", "--address", server.address])
        assert refused.exit_code == 1
        assert "UNAUTHENTICATED: the token is not the one that was issued last" in refused.output.replace("\n", " ")
    finally:
        server.stop()


def test_releases_stand_and_go(home: Path) -> None:
    """Status tells pointer, trial and what does not run; what is wrong ends it with status 1; gc says what it removed."""
    releases = home / "releases"
    for version in (1, 2, 3):
        build_release(releases, f"r{version}", version)
        store.activate(releases, f"r{version}")
    store.put_on_trial(releases, Trial("r2", Mode.CANARY, 0.25, "r2", "2026-01-01T00:00:00Z"))
    told = json.loads(runner.invoke(app, ["release", "status", "--json"]).stdout)
    assert (told["active"], told["previous"], told["trial"]["release"], told["triton"], told["gateway"]) == (
        "r3",
        ["r2", "r1"],
        "r2",
        None,
        None,
    )
    shown = runner.invoke(app, ["release", "status"])
    assert shown.exit_code == 0
    for words in ("r3 since", "r2, r1", "r2: canary for 25 % since 2026-01-01T00:00:00Z", "not running"):
        assert words in shown.output
    gone = runner.invoke(app, ["release", "gc", "--keep", "0"])
    assert "removed r1 of 2026-01-01T00:00:01Z" in gone.output
    assert "1 releases removed" in gone.output
    pointer = releases / store.POINTER
    pointer.write_text(pointer.read_text().replace('"share": 0.25', '"share": 25'))
    wrong = runner.invoke(app, ["release", "status"])
    assert wrong.exit_code == 1
    assert "ACTIVE.trial.share: must be a number within [0, 1], got '25'" in wrong.output


def test_policies_are_listed_shown_and_checked(home: Path, tmp_path: Path) -> None:
    """What `show` prints is a file that `check` accepts; a wrong one is refused by its key."""
    release = build_release(home / "releases", "r1", 1)
    store.activate(home / "releases", "r1")
    listed = runner.invoke(app, ["policy", "list"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in release.policies)
    shown = runner.invoke(app, ["policy", "show", "floors"]).output
    assert FairnessPolicy.from_json(json.loads(shown)) == release.policies["floors"]
    file = tmp_path / "p.json"
    file.write_text(shown)
    assert "floors version 1: in order" in runner.invoke(app, ["policy", "check", str(file)]).output.replace("\n", "")
    file.write_text(shown.replace("enforce", "sometimes"))
    refused = runner.invoke(app, ["policy", "check", str(file)])
    assert refused.exit_code == 1
    assert "p.json: mode: 'sometimes' is not one of enforce, report_only, off" in refused.output.replace("\n", "")
    assert runner.invoke(app, ["policy", "show", "nobody"]).exit_code == 1


@pytest.mark.parametrize(
    ("said", "ready", "error"),
    [
        ({"ready": True, "stream": {"state": "following"}}, "True", ""),
        ({"ready": True, "stream": {"state": "starting"}}, "starting", ""),
        ({"ready": False, "error": "it has no items", "stream": {"state": "starting"}}, "False", "it has no items"),
        ({"ready": True, "error": "gone", "stream": {"state": "following", "error": ""}}, "True", "gone"),
        ({"ready": True, "error": "gone", "stream": {"state": "following", "error": "gone"}}, "False", "gone; events wait: gone"),
    ],
)
def test_status_tells_whether_features_follow(said: dict[str, Any], ready: str, error: str) -> None:
    """Ready is who follows the event log; what keeps events or the snapshot waiting is the problem."""
    assert _features_state(said) == {"ready": ready, "error": error}


def test_status_tells_a_feature_process_that_hangs() -> None:
    """It has not been heard of for longer than a moment."""
    said = _features_state({"ready": True, "stream": {"state": "following"}, "at": 0.0})
    assert said["ready"] == "stalled"
    assert said["error"].startswith("not heard of for ")


def test_status_tells_what_waits_and_what_was_refused() -> None:
    """Events and rows behind, how long the oldest waits, what could not be counted, and what became of the log."""
    stream = {"behind": 2, "waiting": 1, "lag_s": 8.0, "refused": 3, "error": "it is down", "notice": "another log"}
    assert _features_held({"items": 1000, "stream": stream}) == (
        "1,000 items; 2 events and 1 rows behind, 8 s; 3 events refused, which stay in the event log; another log"
    )
    assert _features_held({"items": 1, "stream": {"lag_s": 8.0}}) == "1 items; not known how far behind, 8 s"


@pytest.mark.parametrize(("error", "status"), [("", 0), ("it is down", 1)])
def test_status_fails_where_features_do_not_follow(monkeypatch: pytest.MonkeyPatch, error: str, status: int) -> None:
    """All else being ready, events that wait are an exit status of 1, with the reason among the problems."""
    part = {"ready": True, "pid": 1, "triton_pid": 1, "grpc": "g", "address": "a"}
    features = {"ready": True, "pid": 1, "stream": {"state": "following", "error": error}}
    now = {"triton": part, "gateway": part, "features": features, "release": "r", "home": "h"}
    monkeypatch.setattr("deploy.local.status", lambda _: now)
    said = runner.invoke(app, ["status"])
    assert said.exit_code == status
    assert ("down" in said.output) == bool(error)


def test_a_triton_somebody_else_runs_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """In containers nothing of `longtail up` runs: commands ask the Triton that the gateway asks."""
    monkeypatch.setenv("LONGTAIL_TRITON", "triton:8001")
    assert triton_address(layout()) == "triton:8001"
