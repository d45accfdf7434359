"""What is killed and taken up again, on real Ray with real SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.training.search import toy_driver
from tests.training.search.toy_driver import COUNT, DIES, HOPELESS, RAISES, WAITS
from training.search.claim import running
from training.search.journal import Journal

pytestmark = pytest.mark.servers


def _unharmed() -> dict[int, dict[str, Any]]:
    """Configurations of the search where nothing is killed, without Ray: two trials fail in it."""
    order, tried = toy_driver.order({}), {}
    while (found := order.next()) is not None:
        number, tried[found[0]] = found
        order.done(number, None if number in (HOPELESS, RAISES) else toy_driver.value(found[1]))
    return tried


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, int], list[dict[str, Any]]]:
    """A search whose driver was killed with -9 while a trial waited, and taken up again: its folder, and what had ended before."""
    root = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-m", "tests.training.search.toy_driver", str(root)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as driver:
        while not toy_driver.marks(root, "start").get(WAITS) or len(Journal(root / "toy").rows()) < WAITS:
            assert driver.poll() is None, "the driver ended by itself"
            time.sleep(0.1)
        assert running(root / "toy").startswith(f"process {driver.pid} on")
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"'toy' is being searched in {root} by process {driver.pid}" in second.stderr
        driver.send_signal(signal.SIGKILL)
        os.kill(toy_driver.pid(root, WAITS), signal.SIGKILL)  # its worker would notice by itself, in a minute or so
    before, rows = toy_driver.marks(root, "start"), Journal(root / "toy").rows()
    (root / "go").touch()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=280)
    return root, before, rows


def test_no_trial_that_ended_runs_again(killed: tuple[Path, dict[int, int], list[dict[str, Any]]]) -> None:
    """What had ended before the driver was killed was started once in all, and its record is the same to the byte; what had not is run."""
    root, before, rows = killed
    ended = [row["number"] for row in rows]
    assert len(ended) >= WAITS
    assert set(ended) < set(before)
    assert [toy_driver.marks(root, "start")[n] for n in ended] == [1] * len(ended)
    assert [Journal(root / "toy").row(n) for n in ended] == rows
    assert toy_driver.marks(root, "start")[WAITS] == 2


def test_the_search_ends_as_it_would_have(killed: tuple[Path, dict[int, int], list[dict[str, Any]]]) -> None:
    """A searcher that learns, two trials at once, one kill of the driver, workers dying: all configurations are the unharmed search's."""
    found = {row["number"]: row["config"] for row in Journal(killed[0] / "toy").rows()}
    assert found == _unharmed()


def test_what_fails_is_written_down_and_the_rest_goes_on(killed: tuple[Path, dict[int, int], list[dict[str, Any]]]) -> None:
    """A trial that raises is not tried again; one whose process is killed is, up to three times; each of the others has its figures."""
    root = killed[0]
    rows = Journal(root / "toy").rows()
    assert len(rows) == COUNT
    assert {row["number"]: row["error"] for row in rows if row["error"]} == {
        RAISES: "ValueError: x: not today",
        HOPELESS: "its process died 3 times",
    }
    starts, ends = (toy_driver.marks(root, what) for what in ("start", "end"))
    assert (starts[RAISES], starts[HOPELESS], starts[DIES]) == (1, 3, 2)
    assert ends == dict.fromkeys(set(range(COUNT)) - {RAISES, HOPELESS}, 1)


def test_trials_read_the_data_where_they_lie(killed: tuple[Path, dict[int, int], list[dict[str, Any]]]) -> None:
    """Every trial sees the matrix in Ray's object store: memory that is shared between processes, and that it cannot write to."""
    rows = Journal(killed[0] / "toy").rows()
    assert [row["metrics"]["shared"] for row in rows if not row["error"]] == [1.0] * (COUNT - 2)
