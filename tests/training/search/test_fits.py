"""Members' scores kept between trials: the figures are the same, nothing is trained twice, whoever races or dies."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranking.fuse import FUSIONS
from tests.training.data import ensemble_data
from training.blends import ensemble
from training.blends.calibrators import CALIBRATORS
from training.blends.ensemble import objective
from training.blends.weighing import BLENDS
from training.imbalance.resample import UNMOVED, resample
from training.search.fits import Fits, Trial

DATA = ensemble_data(rows=900)
PLAIN: dict[str, Any] = {
    "members": "boosting+bert",
    "blend": "equal",
    "resampler": "random_under",
    "strength": 0.4,
    "negatives_rate": 0.5,
    "rounds": 4,
    "leaves": 5,
    "calibrator": "platt",
}
OTHERS: tuple[dict[str, Any], ...] = (
    *({"blend": blend, "weights": {"boosting": 0.7, "bert": 0.3}} for blend in BLENDS),
    {"blend": "stacking", "folds": 2},
    {"blend": next(iter(FUSIONS))},
    *({"calibrator": calibrator} for calibrator in CALIBRATORS),
    *({"resampler": name} for name in ("none", "class_weight", "random_over", "smote")),
    {"resampler": "class_weight", "strength": 0.8},
    {"resampler": "none", "strength": 0.8},
    {"strength": 0.8},
    {"negatives_rate": 0.3},
    {"learning_rate": 0.2},
    {"leaves": 9},
    {"rounds": 7},
    {"floor": 0.5},
    *({"members": f"{one}+bm25"} for one in ("logistic", "boosting_weighted", "bagging", "popularity", "rusboost")),
    {"members": "lambdarank+bert", "resampler": "none"},
    {"members": "lambdarank+boosting", "resampler": "class_weight"},
    {"members": "logistic+boosting+bert", "options": {"logistic": {"strength": 0.01}}},
    {"members": "bert+bm25"},
)
"""What a trial may differ in: each has figures of its own, and some share members with others."""


def _same(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


@pytest.fixture(scope="module")
def alone() -> list[dict[str, float]]:
    """Figures of every configuration where nothing is kept."""
    return [objective(PLAIN | other, DATA, 0, threads=1) for other in OTHERS]


@pytest.mark.parametrize("shuffle", [0, 1])
def test_figures_are_the_same_to_the_bit(shuffle: int, tmp_path: Path, alone: list[dict[str, float]]) -> None:
    """In whatever order trials come, each among what all before it kept: its figures are those of a trial that is alone."""
    order = random.Random(shuffle).sample(range(len(OTHERS)), len(OTHERS))
    fits = Fits(tmp_path, "data")
    for i in order:
        assert _same(objective(PLAIN | OTHERS[i], DATA, 0, threads=1, fits=fits), alone[i]), OTHERS[i]
    seed = objective(PLAIN, DATA, 1, threads=1)
    assert _same(objective(PLAIN, DATA, 1, threads=1, fits=fits), seed)


def test_nothing_is_trained_twice(tmp_path: Path, alone: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each configuration ran none of them trains or resamples, and the figures stand."""
    trial = Trial(Fits(tmp_path, "data"))
    for other in OTHERS:
        list(trial(PLAIN | other, DATA, 0, tmp_path, 0))

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("was made again")

    for name in ("train", "resample"):
        monkeypatch.setattr(ensemble, name, refuse)
    for other, want in zip(OTHERS, alone, strict=True):
        ((found, last),) = trial(PLAIN | other, DATA, 0, tmp_path, 0)
        assert last
        assert _same(found, want)


def _counted(calls: list[str], value: float = 1.0) -> Callable[[], tuple[np.ndarray, ...]]:
    def make() -> tuple[np.ndarray, ...]:
        calls.append("made")
        return np.full(3, value), np.array([np.nan, 1 / 3])

    return make


def test_scores_come_back_as_they_were_made(tmp_path: Path) -> None:
    """To the bit, NaN included, in another process' eyes too; other data, or another word of what they follow from, are others."""
    calls: list[str] = []
    made = Fits(tmp_path, "a")({"rate": 0.1 + 0.2}, _counted(calls))
    again = Fits(tmp_path, "a")({"rate": 0.30000000000000004}, _counted(calls, 2.0))
    assert [x.tobytes() for x in again] == [x.tobytes() for x in made]
    assert calls == ["made"]
    for other in (Fits(tmp_path, "b")({"rate": 0.1 + 0.2}, _counted(calls, 2.0)), Fits(tmp_path, "a")({"rate": 0.3}, _counted(calls, 2.0))):
        assert other[0].tolist() == [2.0] * 3
    assert calls == ["made"] * 3


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])], ids=["cut", "empty", "bit"]
)
def test_what_is_damaged_is_made_again(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """A file cut short, emptied or changed by a bit is none; its place is taken by a whole one."""
    calls: list[str] = []
    fits = Fits(tmp_path, "a")
    fits({}, _counted(calls))
    (file,) = tmp_path.glob("*/scores")
    file.write_bytes(damage(file.read_bytes()))
    assert fits({}, _counted(calls))[0].tolist() == [1.0] * 3
    fits({}, _counted(calls))
    assert calls == ["made"] * 2


def test_what_fails_is_kept_for_nobody(tmp_path: Path) -> None:
    """A member that cannot be trained raises for each who wants it."""

    def fail() -> Any:
        raise ValueError("weights: none")

    for _ in range(2):
        with pytest.raises(ValueError, match="weights: none"):
            Fits(tmp_path, "a")({}, fail)
    assert Fits(tmp_path, "a")({}, _counted([]))[0].tolist() == [1.0] * 3


_PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from training.search.fits import Fits
root, name = Path(sys.argv[1]), sys.argv[2]
def make():
    (root / f"making-{name}").touch()
    while not (root / "go").exists():
        time.sleep(0.02)
    return (np.arange(3.0),)
(root / f"asks-{name}").touch()
print(Fits(root / "fits", "a")({}, make)[0].tolist())
"""


def _process(root: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _PROCESS, str(root), name], stdout=subprocess.PIPE, text=True)


def _until(file: Path) -> None:
    while not file.exists():
        time.sleep(0.02)


@pytest.mark.timeout(120)
def test_of_two_that_want_the_same_one_makes_it(tmp_path: Path) -> None:
    """While one process makes scores the other waits, and takes them."""
    with _process(tmp_path, "a") as a:
        _until(tmp_path / "making-a")
        with _process(tmp_path, "b") as b:
            _until(tmp_path / "asks-b")
            time.sleep(0.3)  # to make them too, if it would
            (tmp_path / "go").touch()
            assert a.communicate()[0] == b.communicate()[0] == "[0.0, 1.0, 2.0]\n"
    assert not (tmp_path / "making-b").exists()


@pytest.mark.timeout(120)
def test_a_killed_process_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Killed with -9 while it makes scores: who waited for them makes them."""
    with _process(tmp_path, "a") as a:
        _until(tmp_path / "making-a")
        with _process(tmp_path, "b") as b:
            _until(tmp_path / "asks-b")
            os.kill(a.pid, signal.SIGKILL)
            _until(tmp_path / "making-b")
            (tmp_path / "go").touch()
            assert b.communicate()[0] == "[0.0, 1.0, 2.0]\n"


def test_a_disk_that_takes_no_more_costs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores are given, nothing is left half written, and the next that asks makes them again."""
    asked, scores = [], (np.arange(3.0),)

    def make() -> Any:
        asked.append(1)
        return scores

    def full(_: Path, __: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        for _ in range(2):
            assert Fits(tmp_path, "data")({"member": "a"}, make) is scores
    assert len(asked) == 2
    assert not [file for file in tmp_path.rglob("*scores*") if file.is_file()]
    Fits(tmp_path, "data")({"member": "a"}, make)
    np.testing.assert_array_equal(Fits(tmp_path, "data")({"member": "a"}, make)[0], scores[0])
    assert len(asked) == 3


@pytest.mark.parametrize("name", UNMOVED)
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_rows_are_said_to_come_again_only_where_they_do(name: str, strength: float) -> None:
    """A resampler that leaves every row where it is does so at any strength."""
    made = resample(name, DATA.train.features, DATA.train.labels, strength=strength, seed=0)
    assert made.source.tolist() == list(range(len(DATA.train.labels)))
    np.testing.assert_array_equal(made.features, DATA.train.features)
