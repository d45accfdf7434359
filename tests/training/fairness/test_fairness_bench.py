from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ranking.layout import Layout
from tests.training.fairness.scored import scored_lists
from training.fairness import bench, frontier, journey
from training.fairness.entrants import ENTRANTS
from training.fairness.lists import save
from training.stage import Staged

TINY = bench.Size(seeds=(1,), valid=16, test=24, draws=20, days=(0,), day=60, linkedin=3, rounds=1, timed=3)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A whole run on made-up lists."""
    home = tmp_path_factory.mktemp("home")
    for seed in TINY.seeds:
        save(home / f"valid-{seed}.npz", scored_lists(10 + seed, 20, 16))
        save(home / f"test-{seed}.npz", scored_lists(20 + seed, 30, 16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journey, "prepare", lambda layout: Staged(layout.home, "", reused=True))
        patch.setattr(bench, "QUICK", TINY)
        patch.setattr(frontier, "FLOORS", (1.0,))
        return bench.run(Layout(home), quick=True)


def test_the_result_is_one_json_object(result: dict[str, Any]) -> None:
    """Every figure is a finite number or the object would not be strict JSON, and every wanted figure is judged."""
    read = json.loads(json.dumps(result, allow_nan=False))
    assert {"bench", "revision", "host", "figures", "wanted", "met"} <= read.keys()
    assert read["bench"] == "fairness"
    assert read["wanted"].keys() == read["met"].keys() <= read["figures"].keys()


def test_marks_are_read_as_written(result: dict[str, Any]) -> None:
    """A figure is met exactly if it stands on the right side of its mark."""
    for name, (sign, mark) in result["wanted"].items():
        figure = result["figures"][name]
        assert result["met"][name] == (figure >= mark if sign == ">=" else figure <= mark)


def test_every_entrant_stands_in_every_table(result: dict[str, Any]) -> None:
    """The frontier has one table per floor, and each has all entrants, and the figures give each arm's NDCG at full shares."""
    tables = result["tables"]["completejourney"]
    assert tables.keys() == {"100"}
    assert all(table.keys() == ENTRANTS.keys() for table in tables.values())
    assert {f"ndcg10_{name}_at_100" for name in ENTRANTS} <= result["figures"].keys()


def test_the_page_needs_nothing_else(result: dict[str, Any]) -> None:
    """One file: plots are data addresses, nothing is fetched, and every arm is named."""
    page = Path(result["report"]).read_text()
    assert set(re.findall(r'(?:src|href)="([a-z]+):', page)) == {"data"}
    assert page.count("data:image/svg+xml") == 3  # frontier, differences and drift
    assert all(f"<td>{entrant.label}</td>" in page for entrant in ENTRANTS.values())
    assert page.count('class="met">met') == sum(result["met"].values())


def test_without_a_pipeline_the_message_says_what_to_run(tmp_path: Path) -> None:
    """An empty state directory is refused with the command that fills it."""
    with pytest.raises(FileNotFoundError, match=r"python -m training\.pipeline"):
        bench.run(Layout(tmp_path))
