"""A trial of the rankers stage as a plain function: BERT fine-tuned fold by fold, judged on lists it has not seen. Knows no Ray.

A rung is an epoch of every fold's model. Each ends with a checkpoint, so that a trial whose process died goes on from its last whole rung
and ends as if nothing had been; the last one leaves scores, embeddings and the models (`kept`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranking import metrics
from ranking.text import SpecialTokens
from training.bert import tuning
from training.bert.data import Pairs
from training.bert.fit import Settings, fit, outputs, steps_of
from training.bert.heads import Loss, Similarity, Task, binary, listwise
from training.bert.masked import ADAPTATIONS
from training.bert.model import Heads
from training.blends.folds import by_group
from training.imbalance.losses import focal
from training.members.bi_encoder import encode
from training.search import bagged, kept
from training.search.texts import LABEL, Part, TextData, digest_of

BATCH = 8  # lists per step
METRIC = "ndcg10"
CONFIG: Mapping[str, Any] = {
    "learning_rate": 1e-4,  # of full tuning; the other methods' is `tuning.RATES` times as much
    "epochs": 2,
    "loss": "bce",
    "negatives_rate": 1.0,  # share of the negatives that is kept
    "length": 64,  # tokens of an item's text
    "method": "full",
    "rank": 8,  # of low-rank additions, or the adapters' width
    "adaptation": "none",  # `masked`: the encoder first reads the fold's items as a masked language model
}
"""What a configuration does not name is as here."""


def _focal(outputs: torch.Tensor, labels: torch.Tensor, lists: torch.Tensor) -> torch.Tensor:
    return focal(outputs[:, 0], labels)


LOSSES: Mapping[str, Loss] = {"bce": binary, "focal": _focal, "list": listwise}
_RANKED: Mapping[str, str] = {"lora": "rank", "lora_everywhere": "rank", "adalora": "rank", "adapters": "bottleneck"}


@dataclass(frozen=True, slots=True)
class Rankers:
    """How trials are made.

    Attributes:
        encoder: makes a fresh one.
        special: framing ids.
        folds: of askers; each is scored by a model that was trained on the others.
    """

    encoder: Callable[[], Any]
    special: SpecialTokens
    folds: int = 2

    def __call__(
        self, config: Mapping[str, Any], data: TextData, seed: int, folder: Path, seen: int
    ) -> Iterator[tuple[dict[str, float], bool]]:
        """Fine-tune by a configuration, rung by rung.

        Args:
            config: what is missing is taken from `CONFIG`.
            data: texts and who asked.
            seed: of folds, negatives, order and dropout.
            folder: where checkpoints lie and the artefact is left; they are gone at the end.
            seen: rungs that were reported before.

        Yields:
            Metrics out of fold, and whether that was the last rung: ``ndcg10``, mean over lists with a positive.

        Raises:
            ValueError: an unknown name or a number that cannot be, naming the key.
        """
        config = _checked(config)
        (fold,) = by_group((data.askers,), self.folds, seed)
        epochs, models = int(config["epochs"]), {}
        for rung in range(seen + 1, epochs + 1):
            for f in range(self.folds):
                models[f] = self._train(config, data.train.take(np.flatnonzero(fold != f)), seed, folder / f"fold-{f}", rung)
            held = {f: _cut(data.train.take(np.flatnonzero(fold == f)), config) for f in models}
            scores = self._out_of_fold(models, held, fold, data.train)
            found = {METRIC: _ndcg(scores, data.train)}
            if rung == epochs:
                self._leave(folder, config, data, models, fold, scores, found)
                for f in models:
                    shutil.rmtree(folder / f"fold-{f}", ignore_errors=True)
            yield found, rung == epochs

    def _train(self, config: Mapping[str, Any], pairs: Pairs, seed: int, folder: Path, rung: int) -> Heads:
        """One fold's model after its epoch `rung`, on from the checkpoint of the epoch before."""
        pairs = _cut(_thinned(pairs, float(config["negatives_rate"]), seed), config)
        method, rate = str(config["method"]), tuning.RATES[str(config["method"])]
        settings = Settings(
            epochs=int(config["epochs"]), learning_rate=float(config["learning_rate"]) * rate, head_rate=10.0 / rate, batch=BATCH, seed=seed
        )
        per_epoch = ceil(len(pairs) / BATCH)
        options = {_RANKED[method]: int(config["rank"])} if method in _RANKED else {}
        if method == "adalora":
            options["start"] = 2 * options["rank"]
        encoder = self.encoder()
        if rung == 1:  # later ones read all weights from the checkpoint of the one before
            ADAPTATIONS[str(config["adaptation"])](encoder, pairs.second, self.special, folder / "adaptation", seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = untrained(tuning.apply(method, encoder, steps_of(settings, len(pairs)), seed=seed, **options), config)
        _forget_beyond(folder, (rung - 1) * per_epoch)
        settings = replace(settings, checkpoints=per_epoch)
        fit(model, pairs, self.special, folder, settings=settings, resume=rung > 1, stop_at=rung * per_epoch, what=f"rung {rung}")
        return model

    def _out_of_fold(
        self, models: Mapping[int, Heads], held: Mapping[int, Pairs], fold: NDArray[np.int64], train: Pairs
    ) -> NDArray[np.float64]:
        of_pair = np.repeat(fold, np.diff(train.offsets))
        scores = np.empty(len(of_pair))
        for f, model in models.items():
            scores[of_pair == f] = outputs(model, held[f], self.special)[LABEL][:, 0]
        return scores

    def _leave(
        self,
        folder: Path,
        config: Mapping[str, Any],
        data: TextData,
        models: Mapping[int, Heads],
        fold: NDArray[np.int64],
        scores: NDArray[np.float64],
        found: Mapping[str, float],
    ) -> None:
        """Scores out of fold, scores of the parts (the folds' models on average), the texts' embeddings by each fold's model, and these."""
        limit = int(config["length"])
        arrays: dict[str, NDArray[Any]] = {"scores.train": scores.astype(np.float32)}
        for name, part in data.parts.items():
            arrays[f"scores.{name}"] = np.mean([_score(model, part, self.special, limit) for model in models.values()], axis=0)
        distinct: dict[bytes, int] = {}
        texts: list[NDArray[np.int64]] = []

        def places(of: Any, most: int | None) -> NDArray[np.int32]:
            out = np.full(len(of), -1, np.int32)
            for row, text in enumerate(of):
                if len(text):
                    place = distinct.setdefault(text[:most].tobytes(), len(distinct))
                    if place == len(texts):
                        texts.append(text[:most])
                    out[row] = place
            return out

        arrays[f"{kept.TEXTS}train"] = places(data.train.second, limit)
        arrays |= {kept.TEXTS + name: places(part.second, limit) for name, part in data.parts.items()}
        arrays |= {kept.QUERIES + name: places(part.first, None) for name, part in data.parts.items()}  # whole, as the ranker reads them
        files = {bagged.FILES.format(f): bagged.packed(models[f]) for f in sorted(models)}
        arrays[kept.EMBEDDED] = np.stack([encode(models[f].encoder, texts, self.special) for f in sorted(models)]).astype(np.float16)
        kept.keep(
            folder,
            {"trial": folder.name, "config": dict(config), "metrics": dict(found), "data": digest_of(data), "folds": self.folds},
            arrays | {"fold.train": np.repeat(fold, np.diff(data.train.offsets)).astype(np.int16)},
            files,
        )


def untrained(encoder: Any, config: Mapping[str, Any]) -> Heads:
    """A trial's model around an encoder."""
    return Heads(encoder, [Task(LABEL, Similarity, LOSSES[str(config["loss"])])])


def _checked(config: Mapping[str, Any]) -> dict[str, Any]:
    for key in config:
        if key not in CONFIG:
            raise ValueError(f"{key}: unknown; known: {', '.join(CONFIG)}")
    config = {**CONFIG, **config}
    for key, known in (("loss", LOSSES), ("method", tuning.METHODS), ("adaptation", ADAPTATIONS)):
        if config[key] not in known:
            raise ValueError(f"{key}: {config[key]!r} is not known; known: {', '.join(known)}")
    for key, most in (("epochs", 100), ("length", 512), ("rank", 512)):
        if not 1 <= int(config[key]) <= most:
            raise ValueError(f"{key}: must be from 1 to {most}, got {config[key]}")
    for key in ("learning_rate", "negatives_rate"):
        if not 0.0 < float(config[key]) <= 1.0:
            raise ValueError(f"{key}: must be above 0 and at most 1, got {config[key]}")
    return config


def _cut(pairs: Pairs, config: Mapping[str, Any]) -> Pairs:
    return replace(pairs, second=[text[: int(config["length"])] for text in pairs.second])


def _thinned(pairs: Pairs, rate: float, seed: int) -> Pairs:
    """All positives, and each negative with probability `rate`; a list that would be empty keeps its first row."""
    keep = (pairs.labels[LABEL] > 0) | (np.random.default_rng(seed).random(len(pairs.first)) < rate)
    keep[pairs.offsets[:-1][np.add.reduceat(keep, pairs.offsets[:-1]) == 0]] = True
    rows = np.flatnonzero(keep)
    sizes = np.add.reduceat(keep.astype(np.int64), pairs.offsets[:-1])
    return Pairs(
        [pairs.first[i] for i in rows.tolist()],
        [pairs.second[i] for i in rows.tolist()],
        {LABEL: pairs.labels[LABEL][rows]},
        np.concatenate([[0], np.cumsum(sizes)]),
    )


def _forget_beyond(folder: Path, step: int) -> None:
    """Remove checkpoints of the rung that was under way when the process died: they may be half written."""
    for left in folder.glob("checkpoint-*"):
        if int(left.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(left)


def _ndcg(scores: NDArray[np.float64], pairs: Pairs) -> float:
    found = metrics.ndcg_of_lists(scores, pairs.labels[LABEL].astype(np.float64), pairs.offsets, k=10)
    return float(np.nanmean(found))


def _score(model: Heads, part: Part, special: SpecialTokens, limit: int) -> NDArray[np.float64]:
    """(N,) log-odds of a part's rows; NaN without text."""
    rows = part.readable()
    out = np.full(len(part.second), np.nan)
    if len(rows):
        pairs = Pairs.alone([part.first[i] for i in part.lists_of(rows).tolist()], [part.second[i][:limit] for i in rows.tolist()], {})
        out[rows] = outputs(model, pairs, special)[LABEL][:, 0]
    return out
