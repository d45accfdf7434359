"""One ranker in fp32, bf16 and int8: files, runtimes, speed and what each loses, so that a release can choose. Knows no release.

Runtimes carry the names that serving knows them by (`deploy/triton/backend_model.py`), and are set up alike.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranking.metrics.intervals import bootstrap_interval, paired_bootstrap_interval
from ranking.text import PAIR_INPUTS, SpecialTokens
from ranking.types import FloatArray
from training.bert.compare import Encoder, ndcg, ranked, three, trained
from training.bert.data import frame
from training.bert.encoder import fast_bf16
from training.bert.fit import Settings
from training.bert.heads import Similarity, task
from training.bert.lists import Lists
from training.bert.model import Heads
from training.members.bert import OUTPUT, PairRanker, export

Scorer = Callable[[Mapping[str, NDArray[np.int64]]], FloatArray]
_TIMED, _REPEATS, _SEED, _DRAWS, _BATCH = 100, 15, 11, 500, 64


@dataclass(frozen=True, slots=True)
class Variant:
    """What one form of a ranker does.

    Attributes:
        name: precision, and the runtime it runs on.
        megabytes: of the file.
        milliseconds: median for 100 pairs.
        native: the host computes in this precision; where it does not, the runtime uses fp32, which says nothing of hosts that do.
        ndcg10: value, low, high over lists.
        loss: the paired difference to fp32; 0 for that one.
        error: largest difference of a score to fp32, in log-odds.
    """

    name: str
    runtime: str
    megabytes: float
    milliseconds: float
    native: bool
    ndcg10: tuple[float, float, float]
    loss: tuple[float, float, float]
    error: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What computing in a precision does to training; weights and the file it ends with are of fp32 either way.

    Attributes:
        name: precision.
        seconds: of the processor for a step.
        ndcg10: value, low, high over lists; each list's value is the mean over seeds.
        loss: the paired difference to fp32; 0 for that one.
        seeds: mean quality of each seed.
    """

    name: str
    seconds: float
    ndcg10: tuple[float, float, float]
    loss: tuple[float, float, float]
    seeds: list[float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def training(made: Encoder, train: Lists, test: Lists, special: SpecialTokens, *, settings: Settings, seeds: int) -> list[Learnt]:
    """The list head tuned in full in fp32 and, where the host computes in it, in bf16, on the same lists and seeds.

    Args:
        made: makes the encoder.
        train: lists.
        test: lists that quality is measured on.
        special: framing ids.
        settings: of each run.
        seeds: runs of each precision, in turns.
    """
    precisions = {"fp32": False} | ({"bf16": True} if fast_bf16() else {})
    values: dict[str, list[FloatArray]] = {name: [] for name in precisions}
    seconds: dict[str, list[float]] = {name: [] for name in precisions}
    for seed in range(seeds):
        for name, bf16 in precisions.items():
            chosen = replace(settings, seed=seed, bf16=bf16)
            model, _, ran = trained(made(), train.pairs, [task("list")], special, settings=chosen)
            values[name].append(ndcg(ranked(model, test, special), test))
            seconds[name].append(ran.processor / ran.steps)
    means: dict[str, FloatArray] = {name: np.mean(found, axis=0) for name, found in values.items()}
    return [
        Learnt(
            name,
            round(float(np.mean(seconds[name])), 4),
            three(bootstrap_interval(mean, _SEED, n=_DRAWS)),
            three(paired_bootstrap_interval(mean, means["fp32"], _SEED, n=_DRAWS)),
            [round(float(np.nanmean(one)), 5) for one in values[name]],
        )
        for name, mean in means.items()
    ]


def served(model: Heads, task: str = "list") -> PairRanker:
    """The ranker that serving knows, from a model's encoder and one of its ranking heads."""
    head = model.heads[task]
    if not isinstance(head, Similarity):
        raise ValueError(f"task: {task} has no head that compares two texts, and is served by nothing")
    ranker = PairRanker(model.encoder, int(model.encoder.config.hidden_size))
    with torch.no_grad():
        ranker.scale.copy_(head.scale)
        ranker.head.weight.copy_(head.linear.weight)
        ranker.head.bias.copy_(head.linear.bias)
    return ranker.eval()


def quantised(path: Path, out: Path) -> None:
    """The ONNX model with weights of eight bits, its activations quantised as they come.

    Weights have a scale per column (one for a whole matrix errs more than twice as much on single scores) and seven of the eight bits:
    products of eight overflow on processors without VNNI, and every processor is to give the same scores.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(path))
    del model.graph.value_info[:]  # shapes the exporter noted, which no longer hold within the quantiser
    said = logging.getLogger()  # the quantiser advises a pass over models other than ours, on the root logger
    level = said.level
    said.setLevel(logging.ERROR)
    try:
        quantize_dynamic(model, str(out), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    finally:
        said.setLevel(level)


def measure(ranker: PairRanker, folder: Path, lists: Lists, special: SpecialTokens, *, threads: int = 2) -> list[Variant]:
    """Every variant's figures on the same lists.

    Args:
        ranker: as served.
        folder: where the files are written, and stay.
        lists: that quality is measured on.
        special: framing ids.
        threads: of a runtime.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plain, eight = folder / "fp32.onnx", folder / "int8.onnx"
    export(ranker, plain)
    quantised(plain, eight)
    forms: list[tuple[str, str, Path, bool]] = [
        ("fp32", "onnxruntime", plain, True),
        ("fp32", "openvino-f32", plain, True),
        ("bf16", "openvino-bf16", plain, fast_bf16()),
        ("int8", "onnxruntime", eight, True),
    ]
    rows = []
    base: tuple[FloatArray, FloatArray] | None = None
    scorers = [
        _onnxruntime(path, threads) if runtime == "onnxruntime" else _openvino(path, runtime.removeprefix("openvino-"), threads)
        for _, runtime, path, _ in forms
    ]
    taken = _median_ms(scorers, lists, special)
    for (name, runtime, path, native), score, milliseconds in zip(forms, scorers, taken, strict=True):
        scores = _scores(score, lists, special)
        values = ndcg(scores, lists)
        base = base or (scores, values)
        size = sum(file.stat().st_size for file in folder.glob(f"{path.name}*")) / 1e6
        rows.append(
            Variant(
                name,
                runtime,
                round(size, 1),
                round(milliseconds, 2),
                native,
                three(bootstrap_interval(values, _SEED, n=_DRAWS)),
                three(paired_bootstrap_interval(values, base[1], _SEED, n=_DRAWS)),
                round(float(np.abs(scores - base[0]).max()), 5),
            )
        )
    return rows


def _scores(score: Scorer, lists: Lists, special: SpecialTokens) -> FloatArray:
    p = lists.pairs
    order = np.argsort([len(a) + len(b) for a, b in zip(p.first, p.second, strict=True)], kind="stable")
    out = np.empty(len(order))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        out[rows] = score(_feed(lists, rows, special))
    return out


def _feed(lists: Lists, rows: NDArray[np.int64], special: SpecialTokens) -> dict[str, NDArray[np.int64]]:
    made = frame([lists.pairs.first[i] for i in rows], [lists.pairs.second[i] for i in rows], special)
    return {name: made[name].numpy() for name in PAIR_INPUTS}


def _median_ms(scorers: Sequence[Scorer], lists: Lists, special: SpecialTokens) -> list[float]:
    """Of each; they take turns, so that other work on the host disturbs all alike."""
    feed = _feed(lists, np.resize(np.arange(len(lists.pairs.first)), _TIMED), special)
    for score in scorers:
        score(feed)  # the first run of a shape compiles
    taken: list[list[float]] = [[] for _ in scorers]
    for _ in range(_REPEATS):
        for score, found in zip(scorers, taken, strict=True):
            start = perf_counter()
            score(feed)
            found.append(1e3 * (perf_counter() - start))
    return [float(np.median(found)) for found in taken]


def _onnxruntime(path: Path, threads: int) -> Scorer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feed: np.asarray(session.run([OUTPUT], dict(feed))[0], np.float64).reshape(-1)


def _openvino(path: Path, precision: str, threads: int) -> Scorer:
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(str(path)), "CPU", options).create_infer_request()
    return lambda feed: np.array(request.infer(dict(feed))[OUTPUT], np.float64).reshape(-1)
