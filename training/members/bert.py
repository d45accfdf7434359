"""The BERT ranker: a cross-encoder fine-tuned from all-MiniLM-L6-v2, and its ONNX form.

It reads "[CLS] query or interests [SEP] item text [SEP]" and gives the log-odds that the item is bought. The encoder was
trained to mean-pool sentences, so the head pools the two segments apart and starts from their cosine similarity: with few
labels that keeps what the encoder already knows, where a fresh [CLS] head would have to learn it again.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranking.text import PAIR_INPUTS, SpecialTokens, pair_tensors
from training.bert.encoder import load, placement, pretrained, special_tokens
from training.bert.segments import compared, pooled
from training.progress import Bar

__all__ = ["OUTPUT", "PairRanker", "Pairs", "export", "fine_tune", "pretrained", "score", "special_tokens"]

OUTPUT = "logit"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Training pairs.

    Attributes:
        queries: (p,) index into `query_ids`.
        query_ids: token ids of each distinct first text, without special tokens.
        token_ids: (p, t) int32 item token ids, right-padded with 0.
        labels: (p,) 0 or 1.
    """

    queries: NDArray[np.int64]
    query_ids: tuple[NDArray[np.int64], ...]
    token_ids: NDArray[np.int32]
    labels: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.labels)


class PairRanker(nn.Module):
    """BERT encoder, mean pooling per segment, and logit = scale · cos(q, d) + w · [|q - d|, q ⊙ d] + b."""

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.head = nn.Linear(2 * width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, -3.0)

    @classmethod
    def from_pretrained(cls, path: Path) -> PairRanker:
        """The pretrained encoder under an untrained head."""
        encoder = load(path)
        return cls(encoder, encoder.config.hidden_size)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Log-odds (n,) of n pairs; with `labels` (n,) float also the mean binary cross-entropy."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state
        q, d = pooled(states, attention_mask, token_type_ids)
        logits = self.scale * (q * d).sum(-1) + self.head(compared(q, d)).squeeze(-1)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, labels), "logits": logits}


def fine_tune(
    pairs: Pairs,
    special: SpecialTokens,
    out: Path,
    *,
    epochs: int = 1,
    learning_rate: float = 1e-4,
    batch_size: int = 32,
    seed: int = 0,
) -> PairRanker:
    """Fine-tune the whole encoder with binary cross-entropy; deterministic by seed on one machine.

    Args:
        pairs: training pairs, training weeks only.
        special: framing ids.
        out: where the trainer may write.
        epochs: passes over the pairs.
        learning_rate: peak, after 10 % warm-up, then linear to 0; the new head learns 20 times faster than the encoder.
        batch_size: pairs per step.
        seed: order and dropout.
    """
    from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

    class _Steps(TrainerCallback):
        def __init__(self, bar: Bar) -> None:
            self.bar = bar

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.bar.advance()

    set_seed(seed)
    model = PairRanker.from_pretrained(pretrained())
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=0.01,
        warmup_steps=max(1, epochs * len(pairs) // batch_size // 10),
        lr_scheduler_type="linear",
        **placement(),
        logging_steps=25,
        save_strategy="no",
        report_to=[],
        train_sampling_strategy="group_by_length",  # most pairs have 20 tokens and some 50: a random batch is half padding
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=seed,
    )
    head = [model.scale, *model.head.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": model.encoder.parameters()}, {"params": head, "lr": 20 * learning_rate}],
        lr=learning_rate,
        weight_decay=0.01,
        fused=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=_Dataset(pairs, special),
        data_collator=_Collator(special),
        optimizers=(optimizer, None),
    )
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    with Bar(f"fine-tune BERT on {len(pairs)} pairs", epochs * ceil(len(pairs) / batch_size)) as bar:
        trainer.add_callback(_Steps(bar))
        trainer.train()
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # the training's bf16 would stay on it, and get into exports
    return model.cpu().eval()


def export(model: nn.Module, path: Path) -> None:
    """Write the ranker as one ONNX file: three int64 inputs (n, L), output `logit` (n,) float32, n and L free."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ranker = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
            return self.ranker(input_ids, attention_mask, token_type_ids)["logits"]  # type: ignore[no-any-return]

    ids = torch.tensor([[101, 2000, 102, 2001, 2002, 102], [101, 2000, 102, 2001, 102, 0]])
    mask = (ids != 0).long()
    types = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]])
    n, length = torch.export.Dim("n"), torch.export.Dim("length")
    with _quiet():
        program = torch.onnx.export(
            Plain().eval(),
            (ids, mask, types),
            dynamo=True,
            dynamic_shapes=({0: n, 1: length},) * 3,
            input_names=list(PAIR_INPUTS),
            output_names=[OUTPUT],
            verbose=False,
        )
    assert program is not None  # dynamo=True always returns a program
    path.parent.mkdir(parents=True, exist_ok=True)
    program.save(str(path))
    _check_parity(model, path)


def _check_parity(model: nn.Module, path: Path, atol: float = 1e-3) -> None:
    """Refuse an export that computes something else: a shape or mask of the example can be folded in as a constant."""
    import onnxruntime

    rng = np.random.default_rng(0)
    tokens = np.zeros((16, 20), np.int32)
    for row, length in zip(tokens, rng.integers(1, 20, 16), strict=True):
        row[:length] = rng.integers(1000, 20_000, length)
    feed = pair_tensors(rng.integers(1000, 20_000, 7), tokens, SpecialTokens(101, 102, 0))
    with torch.no_grad():
        want = model(*(torch.from_numpy(feed[name]) for name in PAIR_INPUTS))["logits"].numpy()
    got = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run([OUTPUT], feed)[0]
    error = float(np.abs(got - want).max())
    if not error <= atol:
        raise RuntimeError(f"{path}: ONNX and torch differ by {error:g} log-odds, more than {atol:g}")


def score(
    model_path: Path,
    query_ids: tuple[NDArray[np.int64], ...],
    offsets: NDArray[np.int64],
    token_ids: NDArray[np.int32],
    digests: NDArray[np.int64],
    special: SpecialTokens,
    *,
    batch_size: int = 64,
    threads: int = 2,
    progress: Any = None,
) -> NDArray[np.float64]:
    """Score lists with the exported model, equal texts of a list once, as the gateway does.

    Args:
        model_path: from `export`.
        query_ids: one per list; an empty one has nothing to match.
        offsets: (L + 1,) list boundaries.
        token_ids: (N, t) of all lists' items.
        digests: (N,) text digests; 0 means no text.
        special: framing ids.
        batch_size: pairs per run.
        threads: of the runtime.
        progress: called with the number of lists done since the last call.

    Returns:
        (N,) log-odds, NaN where an item or its list has no text.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model_path), options, providers=["CPUExecutionProvider"])
    out = np.full(len(digests), np.nan)
    for i, query in enumerate(query_ids):
        rows = np.arange(offsets[i], offsets[i + 1])
        rows = rows[digests[rows] != 0] if len(query) else rows[:0]
        _, first, inverse = np.unique(digests[rows], return_index=True, return_inverse=True)
        distinct = rows[first]
        by_length = np.argsort((token_ids[distinct] != 0).sum(axis=1), kind="stable")  # less padding per batch
        logits = np.empty(len(distinct))
        for start in range(0, len(distinct), batch_size):
            chosen = by_length[start : start + batch_size]
            feed = pair_tensors(query, token_ids[distinct[chosen]], special)
            logits[chosen] = session.run([OUTPUT], feed)[0]
        out[rows] = logits[inverse]
        if progress is not None:
            progress(1)
    return out


class _Dataset(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """One pair per row, framed by the function serving uses."""

    def __init__(self, pairs: Pairs, special: SpecialTokens) -> None:
        self.pairs, self.special = pairs, special

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> dict[str, Any]:
        p = self.pairs
        tensors = pair_tensors(p.query_ids[p.queries[i]], p.token_ids[i : i + 1], self.special)
        return {name: tensor[0] for name, tensor in tensors.items()} | {"labels": float(p.labels[i])}


class _Collator:
    """Rows of different lengths to one padded batch."""

    def __init__(self, special: SpecialTokens) -> None:
        self.special = special

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        length = max(len(row["input_ids"]) for row in rows)
        batch = {}
        for name in PAIR_INPUTS:
            padded = np.full((len(rows), length), self.special.pad if name == "input_ids" else 0, np.int64)
            for line, row in zip(padded, rows, strict=True):
                line[: len(row[name])] = row[name]
            batch[name] = torch.from_numpy(padded)
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of operators of packages we do not have and of its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
