"""A process that puts, claims and reads scores in a shared table as fast as it can: `score_hammer.py PATH CAPACITY SEED ROUNDS`.

Every score is a function of its key, so that a wrong one is known as such. Prints how many it found; ends with 1 at the first wrong one.
With 0 rounds it claims the texts 0 … 9 of the question "q0", says so and waits.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from ranking.types import FloatArray, IntArray
from services.gateway.scores.file import opened
from services.gateway.scores.table import Asked


def asked(question: int) -> Asked:
    return Asked("bert", 1, "sha", f"q{question}")


def score(question: int, digests: IntArray) -> FloatArray:
    """(n,) the only right answer."""
    return np.sin(digests * 31.7 + question).astype(np.float32).astype(np.float64)


def main(path: Path, capacity: int, seed: int, rounds: int) -> int:
    table, rng, found = opened(path, capacity), np.random.default_rng(seed), 0
    if not rounds:
        table.claim(asked(0), np.arange(10))
        print("claimed", flush=True)
        time.sleep(600)
    for _ in range(rounds):
        question, digests = int(rng.integers(4)), rng.choice(40, 20, replace=False)
        said = table.get(asked(question), digests)
        known = ~np.isnan(said)
        found += int(known.sum())
        if (said[known] != score(question, digests)[known]).any():
            print("wrong", said, score(question, digests))
            return 1
        lacking = digests[~known]
        if rng.random() < 0.3:
            table.claim(asked(question), lacking)
        if rng.random() < 0.1:
            table.disclaim(asked(question), lacking)
        else:
            table.put(asked(question), lacking, score(question, lacking))
    print(found)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
