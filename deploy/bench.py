"""What Triton costs: one text model through a real local server, and the same file on the same runtime in this process, by turns.

Other contestants (the framework that trained the model) are the caller's. Knows no release and no pretrained model.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.triton import backend_model, process, repository, runtime, wheel
from deploy.triton.client import TritonClient
from deploy.triton.target import Target
from ranking.layout import Layout
from ranking.release import Golden, Member, TensorSpec

Pairs = Mapping[str, NDArray[np.int64]]
Scorer = Callable[[Pairs], Any]

PAIRS, TOKENS = 100, 32
WANTED: Mapping[str, tuple[str, float]] = {"triton_vs_inprocess_100": (">=", 0.9)}
_MODEL, _OUTPUT, _GOLDEN = "bench", "logit", 4


def pairs(n: int, inputs: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """N pairs of `TOKENS` ordinary tokens: ids, mask and types, (n, TOKENS) each. What they say changes no speed."""
    ids = np.random.default_rng(0).integers(1996, 29_000, (n, TOKENS))
    types = np.broadcast_to((np.arange(TOKENS) >= TOKENS // 2).astype(np.int64), ids.shape)
    return dict(zip(inputs, (ids, np.ones_like(ids), np.ascontiguousarray(types)), strict=True))


def run(layout: Layout, model: Path, inputs: Sequence[str], others: Mapping[str, Scorer], *, rounds: int) -> dict[str, float]:
    """Pairs per second of each contestant, and Triton's against each of the others.

    Every round each contestant scores the same `PAIRS` pairs once, in an order that rotates, so that what else the machine does falls on
    all alike; figures are of medians over the rounds.

    Args:
        layout: where Triton is installed; a repository of its own is used.
        model: ONNX file with the three inputs of a pair and the output `logit`.
        inputs: their names: ids, mask, types.
        others: name -> scorer, side by side with `triton`, `inprocess` (the runtime that Triton was given) and `onnxruntime`.
        rounds: at least 1.

    Raises:
        Unavailable: Triton did not start.
        InvalidRelease: no runtime runs the model.
    """
    feed, machine = pairs(PAIRS, inputs), runtime.host()
    types = dict.fromkeys(inputs, "TYPE_INT64")
    plain = backend_model.open_scorer(model, "onnxruntime", types, _OUTPUT, machine.threads)
    first = {name: rows[:_GOLDEN] for name, rows in feed.items()}
    member = _member(model, inputs, first, plain(first))
    with tempfile.TemporaryDirectory(prefix="longtail-bench-") as folder:
        choice = runtime.choose(member, model.parent, Path(folder) / "runtimes.json", machine, Target())
        with _served(layout, Path(folder), member, model, choice) as triton:
            contestants: dict[str, Scorer] = {
                "triton": triton,
                "inprocess": backend_model.open_scorer(model, choice.runtime, types, _OUTPUT, choice.threads),
                "onnxruntime": plain,
                **others,
            }
            took = _by_turns(contestants, feed, rounds)
    rates = {name: PAIRS / statistics.median(seconds) for name, seconds in took.items()}
    figures = {f"pairs_per_s_{name}_{PAIRS}": rate for name, rate in rates.items()}
    return figures | {f"triton_vs_{name}_{PAIRS}": rates["triton"] / rate for name, rate in rates.items() if name != "triton"}


def _by_turns(contestants: Mapping[str, Scorer], feed: Pairs, rounds: int) -> dict[str, list[float]]:
    names = list(contestants)
    for score in contestants.values():
        score(feed)  # the first run of a shape compiles
    took: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            contestants[name](feed)
            took[name].append(time.perf_counter() - began)
    return took


@contextmanager
def _served(layout: Layout, folder: Path, member: Member, model: Path, choice: runtime.Choice) -> Iterator[Scorer]:
    repository.place(folder / "repository", member, model, choice, Target())
    repository.configure(folder / "repository", member, {member.version}, Target())
    ports = process.Ports(process.free_port(), process.free_port(), process.free_port())
    server = process.start(wheel.locate(layout.triton_server), folder / "repository", ports, folder / "triton.log")
    try:
        server.wait_ready()
        with TritonClient(server.address) as client:
            client.load(member.model)
            yield lambda feed: client.infer(member.model, member.version, feed, member.output)
    finally:
        server.stop()


def _member(model: Path, inputs: Sequence[str], first: Pairs, scores: NDArray[np.float32]) -> Member:
    golden = Golden({name: rows.tolist() for name, rows in first.items()}, tuple(map(float, scores)), 5e-2)
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    specs = tuple(TensorSpec(name, "INT64", (-1, -1)) for name in inputs)
    return Member(_MODEL, "text", _MODEL, 1, model.name, digest, specs, _OUTPUT, golden)
