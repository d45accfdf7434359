"""How a search stands, from its files alone: while it runs, when it was killed, or when it has ended. Knows no Ray."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.search.choose import ENSEMBLE, front, ranked
from training.search.claim import ASKED, running
from training.search.journal import Journal, Row
from training.search.samplers import Objectives

STAGES = ("rankers", "ensemble")


@dataclass(frozen=True, slots=True)
class Status:
    """One stage of a search.

    Attributes:
        stage: `rankers` or `ensemble`.
        asked: what it asks.
        running: who works on it; empty where nobody does.
        trials: to be tried in all.
        ended: trials that have, those that failed or were given up among them.
        failed: trials that raised or whose process died too often.
        stopped: trials that the scheduler gave up.
        rows: all that ended, best first.
        front: names of those that no other dominates.
        under_way: trials that have reported and not ended: number -> reports.
    """

    stage: str
    asked: Mapping[str, Any]
    running: str
    trials: int
    ended: int
    failed: int
    stopped: int
    rows: list[Row]
    front: list[str]
    under_way: dict[str, list[dict[str, float]]]

    @property
    def best(self) -> Row | None:
        """The best whole trial so far by the search's own weights; the winner is chosen when all have ended."""
        whole = [row for row in self.rows if not row["error"] and not row["stopped"]]
        return whole[0] if whole else None

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        said = {key: value for key, value in asdict(self).items() if key not in ("rows", "asked")}
        return said | {"best": self.best}


def of(path: Path) -> list[Status]:
    """The stages of a search that have begun.

    Args:
        path: its folder, storage and name.

    Raises:
        FileNotFoundError: there is no search.
    """
    folders = [path, *(path / stage for stage in STAGES)]
    found = [_of_stage(folder) for folder in folders if (folder / ASKED).is_file()]
    if not found:
        raise FileNotFoundError(f"{path}: no search of this name has begun")
    return found


def objectives_of(asked: Mapping[str, Any]) -> Objectives:
    """What is better, as the stage asked."""
    if asked.get("stage") == "rankers":
        return Objectives({"ndcg10": 1.0}, {"ndcg10": 1})
    return Objectives(dict(asked.get("objective_weights", ENSEMBLE.weights)), ENSEMBLE.front)


def _of_stage(folder: Path) -> Status:
    asked, journal = json.loads((folder / ASKED).read_text()), Journal(folder)
    rows, objectives = journal.rows(), objectives_of(asked)
    ended = {row["trial"] for row in rows}
    reports = sorted((folder / "reports").glob("*.jsonl"))
    return Status(
        str(asked.get("stage", "ensemble")),
        asked,
        running(folder),
        int(asked["trials"]),
        len(rows),
        sum(bool(row["error"]) for row in rows),
        sum(bool(row["stopped"]) for row in rows),
        ranked(rows, objectives),
        front([row for row in rows if not row["stopped"]], objectives),
        {file.stem: journal.reports(int(file.stem)) for file in reports if file.stem not in ended},
    )


def lines(status: Status) -> list[str]:
    """For people."""
    idle = "all done" if status.ended >= status.trials else "nobody is at it: the same command goes on"
    who = f"by {status.running}" if status.running else idle
    out = [f"{status.stage}: {status.ended} of {status.trials} trials ended ({status.failed} failed, {status.stopped} given up); {who}"]
    if status.best:
        out.append(f"  best so far: trial {status.best['trial']}, {figures(status.best['metrics'])}")
    by_name = {row["trial"]: row for row in status.rows}
    out += [f"  front: trial {name}, {figures(by_name[name]['metrics'])}" for name in status.front]
    for name, reports in status.under_way.items():
        out.append(f"  under way: trial {name}, {len(reports)} reports, the last {figures(reports[-1])}")
    return out


def figures(metrics: Mapping[str, float]) -> str:
    """Metrics as people read them."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items() if math.isfinite(value) and name != "seconds")
