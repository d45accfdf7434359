"""A search of a plain function on real Ray, a process that tests can kill: `python -m tests.training.search.toy_driver FOLDER`.

Trials leave marks in FOLDER/marks: ``start-NUMBER`` and ``end-NUMBER``, a line per time. Trial WAITS waits while there is no
FOLDER/go; DIES kills its own process the first time, HOPELESS every time; RAISES raises.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from training.search.claim import claimed
from training.search.order import Order
from training.search.samplers import Objectives, sampler
from training.search.space import Choice, Uniform

COUNT, LAG, SEED = 7, 2, 3
WAITS, DIES, HOPELESS, RAISES = 2, 4, 5, 6
SPACE = {"x": Uniform(0.0, 1.0), "kind": Choice(("a", "b"))}
BETTER = Objectives({"up": 1.0}, {"up": 1})


def steps(
    config: Mapping[str, Any], data: dict[str, np.ndarray], seed: int, folder: Path, seen: int
) -> Iterator[tuple[dict[str, float], bool]]:
    """A trial of one rung."""
    number, root = int(folder.name), folder.parents[2]
    _mark(root, "start", number, str(os.getpid()))
    while number == WAITS and not (root / "go").exists():
        time.sleep(0.05)
    if number == HOPELESS or (number == DIES and _marks(root, "start", number) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if number == RAISES:
        raise ValueError("x: not today")
    _mark(root, "end", number)
    yield value(config) | {"shared": float(not data["matrix"].flags.writeable)}, True


def value(config: Mapping[str, Any]) -> dict[str, float]:
    return {"up": 1.0 - (float(config["x"]) - 0.3) ** 2 + (config["kind"] == "b")}


def order(finished: Mapping[int, Any]) -> Order:
    return Order(sampler("bayesian", SPACE, BETTER, SEED), COUNT, LAG, finished)


def marks(root: Path, what: str) -> dict[int, int]:
    """Number -> times it was marked."""
    return {n: count for n in range(COUNT) if (count := _marks(root, what, n))}


def _marks(root: Path, what: str, number: int) -> int:
    file = root / "marks" / f"{what}-{number}"
    return len(file.read_text().splitlines()) if file.exists() else 0


def pid(root: Path, number: int) -> int:
    """The process that started the trial last."""
    return int((root / "marks" / f"start-{number}").read_text().splitlines()[-1])


def _mark(root: Path, what: str, number: int, said: str = "x") -> None:
    (root / "marks").mkdir(exist_ok=True)
    with (root / "marks" / f"{what}-{number}").open("a") as file:
        file.write(f"{said}\n")


def main(root: Path) -> None:
    from tests.training.search import toy_driver
    from training.search import tuning

    with claimed(root / "toy", {}) as journal:
        finished = {row["number"]: None if row["error"] else row["metrics"] for row in journal.rows()}
        data = {"matrix": np.zeros((1000, 100))}  # large enough not to be sent along with the call
        tuning.run(toy_driver.steps, data, order(finished), journal, seed=SEED, what="toy", cpus=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
