"""Who meets a release on trial, and how the pointer says that there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking.errors import InvalidRelease
from ranking.pointer import Pointer, parse_pointer, pointer_text, read_pointer, read_trial
from ranking.trial import UNITS, Mode, Trial, key_of, tried, unit_of
from ranking.types import Candidates, RankRequest, Surface

TRIAL = Trial("r2", Mode.CANARY, 0.5, "salt", "2026-01-01T00:00:00Z")
IDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
SHARES = st.floats(0, 1)
TRIALS = st.builds(Trial, IDS, st.sampled_from(Mode), SHARES, st.text(min_size=1), st.text())


@given(st.text(), st.text(min_size=1), SHARES, SHARES)
def test_who_is_in_stays_in_while_the_share_rises(key: str, salt: str, one: float, other: float) -> None:
    """Nobody is in at 0, everybody at 1, and a larger share only adds keys."""
    trial = replace(TRIAL, salt=salt)
    few, many = replace(trial, share=min(one, other)), replace(trial, share=max(one, other))
    assert tried(few, key) <= tried(many, key)
    assert not tried(replace(trial, share=0.0), key)
    assert tried(replace(trial, share=1.0), key)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("salt", ["r2", "r3"])
def test_the_share_is_the_share_of_keys(share: float, salt: str) -> None:
    """Of 20,000 keys a share within five standard errors of the one asked for is in."""
    n = 20_000
    met = sum(tried(replace(TRIAL, share=share, salt=salt), f"user-{i}") for i in range(n))
    assert met / n == pytest.approx(share, abs=5 * (share * (1 - share) / n) ** 0.5)


def test_another_salt_chooses_independently() -> None:
    """Of those in with one salt, as large a share is in with another as of all."""
    n = 20_000
    one, other = (np.array([tried(replace(TRIAL, salt=salt), f"user-{i}") for i in range(n)]) for salt in ("r2", "r3"))
    assert (one & other).mean() == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / n) ** 0.5)


def test_units_are_even_and_know_nothing_of_who_is_in() -> None:
    """Keys spread over all units alike, those that are tried like the others."""
    n = 50 * UNITS
    keys = [f"user-{i}" for i in range(n)]
    units = np.array([unit_of(TRIAL, key) for key in keys])
    met = np.array([tried(TRIAL, key) for key in keys])
    for of in (met, ~met):
        counts = np.bincount(units[of], minlength=UNITS)
        expected = of.sum() / UNITS
        assert len(counts) == UNITS
        # A chi-square of UNITS - 1 degrees of freedom has mean UNITS - 1 and variance 2 (UNITS - 1).
        assert ((counts - expected) ** 2 / expected).sum() == pytest.approx(UNITS - 1, abs=5 * (2 * (UNITS - 1)) ** 0.5)


def test_every_process_chooses_alike() -> None:
    """A process with another hash seed gives the same answers."""
    keys = [f"user-{i}" for i in range(50)]
    code = (
        "import json, sys; from ranking.trial import *; t = Trial('r2', Mode.CANARY, .5, 'salt', '');"
        "print(json.dumps([[tried(t, k), unit_of(t, k)] for k in json.loads(sys.argv[1])]))"
    )
    done = subprocess.run([sys.executable, "-c", code, json.dumps(keys)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[tried(TRIAL, k), unit_of(TRIAL, k)] for k in keys]


def test_the_key_is_the_user_else_the_session_else_the_request() -> None:
    """One user sees one release; who is not known keeps it for the session."""
    request = RankRequest("q", Surface.SEARCH, "", "u", Candidates(["a"]), 1, session_id="s")
    assert [key_of(request), key_of(replace(request, user_id="")), key_of(replace(request, user_id="", session_id=""))] == ["u", "s", "q"]


@given(IDS, TRIALS)
def test_a_trial_survives_writing_and_reading(release: str, trial: Trial) -> None:
    """What the pointer is written with is what it is read with; one without a trial says nothing of one."""
    if trial.release == release:
        release += "x" if len(release) < 64 else ""
    if trial.release != release:
        pointer = Pointer(release, "", (), trial)
        text = pointer_text(pointer)
        assert (read_pointer(text), read_trial(text), parse_pointer(text)) == (pointer, trial, release)
    without = pointer_text(Pointer(release, ""))
    assert read_trial(without) is None
    assert "trial" not in json.loads(without)


WRONG: dict[str, tuple[Any, str]] = {
    "no object": ("r2", r"^trial: must be an object"),
    "nothing": ({}, r"^trial\.release: is missing"),
    "no id": ({"release": "../r2"}, r"^trial\.release: must match"),
    "the active one": ({"release": "r1"}, r"^trial\.release: 'r1' is the active release"),
    "another mode": ({"mode": "dark"}, r"^trial\.mode: must be one of canary, shadow, got 'dark'"),
    "a list for a mode": ({"mode": ["canary"]}, r"^trial\.mode"),
    "too much": ({"share": 1.5}, r"^trial\.share: must be a number within \[0, 1\], got '1.5'"),
    "less than nothing": ({"share": -0.1}, r"^trial\.share"),
    "no number": ({"share": float("nan")}, r"^trial\.share"),
    "a truth": ({"share": True}, r"^trial\.share"),
    "text": ({"share": "0.5"}, r"^trial\.share"),
    "no salt": ({"salt": ""}, r"^trial\.salt"),
    "no start": ({"started": 7}, r"^trial\.started"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_damaged_trial_is_named_and_the_active_release_stands(wrong: str) -> None:
    """Each way of being wrong names its key, and whoever only wants the active release gets it."""
    change, message = WRONG[wrong]
    data = json.loads(pointer_text(Pointer("r1", "", ("r0",), TRIAL)))
    data["trial"] = change if not isinstance(change, dict) or not change else data["trial"] | change
    with pytest.raises(InvalidRelease, match=message):
        read_trial(json.dumps(data))
    assert read_pointer(json.dumps(data)) == Pointer("r1", "", ("r0",))
