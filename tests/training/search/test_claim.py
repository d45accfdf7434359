from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Queue

import pytest

from training.search.claim import Taken, claimed, running
from training.search.journal import Journal


def test_a_name_stands_for_one_search(tmp_path: Path) -> None:
    """The same question again goes on; another one is refused by what differs, once a trial of the first has ended."""
    asked = {"trials": 5, "members": ("boosting", "boosting+bert")}
    with claimed(tmp_path / "x", asked | {"trials": 9}):
        pass
    with claimed(tmp_path / "x", asked) as journal:  # no trial had ended: the first question stands for nothing
        journal.ended(0, {}, {"ndcg10": 0.5}, 1.0)
    with claimed(tmp_path / "x", asked) as journal:
        assert [row["metrics"] for row in journal.rows()] == [{"ndcg10": 0.5}]
    with (
        pytest.raises(ValueError, match=r"name: 'x' is another search in .*: trials was 5 and is 6\. Choose another name"),
        claimed(tmp_path / "x", asked | {"trials": 6}),
    ):
        pass
    assert Journal(tmp_path / "x").row(0)


def test_a_folder_that_holds_no_search_is_left_alone(tmp_path: Path) -> None:
    """A name that happens to be a folder, or a file, of something else is refused, and nothing in it is touched."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for name, message in (("mine", "holds no search; choose another name"), ("mine/notes.txt", "is a file; choose another name")):
        with pytest.raises(ValueError, match=message), claimed(tmp_path / name, {"trials": 1}):
            pass
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_a_name_that_is_taken_says_by_whom(tmp_path: Path) -> None:
    """A second driver is refused and told the process; whoever only looks sees it too, and nobody once it has gone."""
    with claimed(tmp_path / "x", {}):
        assert f"process {os.getpid()} on" in running(tmp_path / "x")
        with pytest.raises(Taken, match=rf"'x' is being searched in .* by process {os.getpid()} on"), claimed(tmp_path / "x", {}):
            pass
    assert running(tmp_path / "x") == running(tmp_path / "nowhere") == ""


HOLD = """
import sys, time
from pathlib import Path
from training.search.claim import claimed
with claimed(Path(sys.argv[1]), {}):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_of_a_killed_driver_is_free_at_once(tmp_path: Path) -> None:
    """While the other process lives it holds the name; killed with -9, it does not."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "x")], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Taken, match=rf"process {other.pid} on"), claimed(tmp_path / "x", {}):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
        with claimed(tmp_path / "x", {}) as journal:
            assert journal.path == tmp_path / "x"


def _try(path: Path, together: Barrier, told: Queue[str]) -> None:
    together.wait()
    try:
        with claimed(path, {}):
            told.put("won")
            together.wait()  # both have tried: whoever has the name still holds it
    except Taken:
        told.put("refused")
        together.wait()


def test_of_two_that_start_together_exactly_one_wins(tmp_path: Path) -> None:
    """Ten times over, two processes that reach for a new name at once: one gets it, one is refused."""
    context = multiprocessing.get_context("fork")
    together, told = context.Barrier(2), context.Queue()
    for name in map(str, range(10)):
        both = [context.Process(target=_try, args=(tmp_path / name, together, told)) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        assert sorted(told.get() for _ in both) == ["refused", "won"]


def test_a_trial_waits_for_the_process_that_is_still_at_it(tmp_path: Path) -> None:
    """A worker that outlived its driver holds the trial's folder; who comes next gets it when that process is dead, and not before."""
    script = HOLD.replace("import claimed", "import alone").replace("claimed(Path(sys.argv[1]), {})", "alone(Path(sys.argv[1]))")
    command = [sys.executable, "-c", script, str(tmp_path / "0003")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as orphan:
        assert orphan.stdout
        assert orphan.stdout.readline() == "held\n"
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout
            assert not select.select([second.stdout], [], [], 0.5)[0]
            orphan.send_signal(signal.SIGKILL)
            assert second.stdout.readline() == "held\n"
            second.kill()
