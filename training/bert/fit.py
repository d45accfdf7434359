"""Training a model with heads, by transformers' Trainer: accumulation, early stopping, checkpoints, resume, bf16 where the host has it.

Deterministic by seed on one machine; a run that was interrupted and resumed ends with the weights of one that was not. Knows no task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranking.text import SpecialTokens
from training.bert.data import Buckets, Collator, Dataset, Pairs
from training.bert.encoder import placement
from training.bert.model import Heads
from training.progress import Bar

Metric = Callable[[NDArray[np.float32], Pairs], Mapping[str, float]]
"""Figures of (p, Σ outputs) logits of validation pairs, higher is better for the one that stops early."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run goes.

    Attributes:
        epochs: passes over the lists.
        learning_rate: the encoder's peak, after the warm-up, then linear to 0; `layer_decay` times less for each layer further down.
        head_rate: the heads learn so many times faster than the encoder.
        layer_decay: 1: all layers learn alike.
        frozen: lowest layers that do not learn, and the embeddings with them; 0: everything does. A step is then that much cheaper.
        batch: lists per step.
        accumulate: steps whose gradients are summed into one.
        warmup: share of the steps.
        weight_decay: of AdamW.
        share: of the lists marked common that an epoch reads.
        evaluate: times per run that validation pairs are scored, where there are such; 0: never.
        patience: evaluations without a better one after which the run stops; 0: it never does.
        judge: the metric that patience is about; the best evaluation's weights are kept.
        checkpoints: steps between checkpoints; 0: none.
        seed: of order and dropout.
        bf16: compute in bfloat16 (weights stay float32); None: where the host multiplies it in hardware.
    """

    epochs: float = 1
    learning_rate: float = 1e-4
    head_rate: float = 10.0
    layer_decay: float = 1.0
    frozen: int = 0
    batch: int = 32
    accumulate: int = 1
    warmup: float = 0.1
    weight_decay: float = 0.01
    share: float = 1.0
    evaluate: int = 0
    patience: int = 0
    judge: str = ""
    checkpoints: int = 0
    seed: int = 0
    bf16: bool | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a run was.

    Attributes:
        steps: of the optimiser.
        seconds: of training, evaluations among them.
        processor: seconds of it that this process computed, on all its threads: what other work and pauses add to `seconds` is not in it.
        history: (step, loss) as logged.
        evaluations: (step, metrics).
    """

    steps: int
    seconds: float
    processor: float
    history: list[tuple[int, float]]
    evaluations: list[tuple[int, dict[str, float]]]


def steps_of(settings: Settings, lists: int) -> int:
    """Steps of the optimiser in a whole run over so many lists per epoch."""
    return ceil(settings.epochs * ceil(ceil(lists / settings.batch) / settings.accumulate))


def fit(
    model: Heads,
    pairs: Pairs,
    special: SpecialTokens,
    out: Path,
    *,
    settings: Settings | None = None,
    valid: Pairs | None = None,
    metric: Metric | None = None,
    common: NDArray[np.bool_] | None = None,
    collator: Collator | None = None,
    resume: bool = False,
    stop_at: int = 0,
    what: str = "train BERT",
) -> Fitted:
    """Train what of the model requires gradients, in place.

    Args:
        model: encoder and heads.
        pairs: training lists, with labels for every task.
        special: framing ids.
        out: where checkpoints lie.
        settings: of the run.
        valid: lists the run is judged by on the way.
        metric: of `valid`.
        common: (L,) lists of which an epoch reads `settings.share`.
        collator: what makes batches of the pairs; default: their texts and labels as they are.
        resume: go on from the newest checkpoint in `out`; without one it starts.
        stop_at: give up after that step, as if interrupted; 0: go to the end.
        what: name of the progress bar.

    Raises:
        ValueError: labels that do not belong to the model's tasks, patience without validation lists, or two ways of reading images.
    """
    from transformers import PrinterCallback, ProgressCallback, Trainer, set_seed
    from transformers.trainer_utils import get_last_checkpoint

    settings = settings or Settings()
    if settings.patience and (valid is None or metric is None or not settings.judge or not settings.evaluate):
        raise ValueError("patience: needs validation lists, a metric, the name of the one to judge by, and evaluations")
    pairs, valid = _ordered(pairs, model), None if valid is None else _ordered(valid, model)
    _freeze(model, settings.frozen)
    set_seed(settings.seed)
    order = Buckets(pairs.lengths(), settings.batch, settings.seed, common=common, share=settings.share)
    steps = steps_of(settings, len(order))

    class Ordered(Trainer):
        """Reads an epoch in the buckets' order."""

        def _get_train_sampler(self, train_dataset: Any = None) -> Buckets:
            return order

    judged = valid is not None and metric is not None and settings.evaluate > 0
    trainer = Ordered(
        model=model,
        args=_arguments(settings, out, steps, judged=judged),
        train_dataset=Dataset(pairs),
        eval_dataset=None if valid is None else Dataset(valid),
        data_collator=collator or Collator(pairs, special),
        compute_metrics=(lambda found: dict(metric(found.predictions, valid))) if judged else None,
        optimizers=(torch.optim.AdamW(groups(model, settings), lr=settings.learning_rate, fused=True), None),
    )
    for callback in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(callback)
    last = get_last_checkpoint(str(out)) if resume and out.is_dir() else None
    start, computed = perf_counter(), process_time()
    with Bar(what, steps) as bar:
        for callback in _callbacks(settings, bar, stop_at):
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=last)
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # the training's bf16 would stay on it, and get into exports
    model.cpu().eval()
    log = trainer.state.log_history
    return Fitted(
        trainer.state.global_step,
        perf_counter() - start,
        process_time() - computed,
        [(int(line["step"]), float(line["loss"])) for line in log if "loss" in line],
        [(int(line["step"]), _figures(line)) for line in log if "eval_loss" in line],
    )


def outputs(model: Heads, pairs: Pairs, special: SpecialTokens, *, batch: int = 64) -> dict[str, NDArray[np.float32]]:
    """Each task's outputs (p, outputs) of all pairs, in their order; read in batches of like length."""
    order = np.argsort([len(a) + len(b) for a, b in zip(pairs.first, pairs.second, strict=True)], kind="stable")
    alone = replace(pairs, offsets=np.arange(len(pairs.first) + 1), labels={})
    collate, found = Collator(alone, special), None
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            read = {name: tensor for name, tensor in collate(rows.tolist()).items() if name not in ("labels", "lists")}
            logits = model(**read)["logits"].float().numpy()
            if found is None:
                found = np.empty((len(order), logits.shape[1]), np.float32)
            found[rows] = logits
    if found is None:
        raise ValueError("pairs: there are none")
    return {name: part.numpy() for name, part in model.split(torch.from_numpy(found)).items()}


def groups(model: Heads, settings: Settings) -> list[dict[str, Any]]:
    """What is trained, by learning rate: the heads, and the encoder's layers from the embeddings up."""
    depth = int(model.encoder.config.num_hidden_layers)
    by_rate: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            below = depth - _layer(name)
            rate = settings.learning_rate * (settings.layer_decay**below if name.startswith("encoder.") else settings.head_rate)
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0  # neither biases nor norms
            by_rate.setdefault((rate, decay), []).append(parameter)
    return [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in by_rate.items()]


def _freeze(model: Heads, layers: int) -> None:
    if layers:
        for name, parameter in model.encoder.named_parameters():
            if _layer(f"encoder.{name}") <= layers:
                parameter.requires_grad_(requires_grad=False)


def _layer(name: str) -> int:
    """1 for the lowest layer; 0 for the embeddings and whatever is of no layer."""
    before, _, after = name.partition(".layer.")
    return int(after.partition(".")[0]) + 1 if after and before.startswith("encoder") else 0


def _ordered(pairs: Pairs, model: Heads) -> Pairs:
    """The pairs with their labels in the order of the model's tasks."""
    names = [task.name for task in model.tasks]
    if set(names) != set(pairs.labels):
        raise ValueError(f"labels: need those of {', '.join(names)}, got {', '.join(pairs.labels) or 'none'}")
    return replace(pairs, labels={name: pairs.labels[name] for name in names})


def _arguments(settings: Settings, out: Path, steps: int, *, judged: bool) -> Any:
    from transformers import TrainingArguments

    every = max(1, steps // max(1, settings.evaluate))
    best = judged and bool(settings.judge)
    save = every if best else settings.checkpoints
    return TrainingArguments(
        output_dir=str(out),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        warmup_steps=max(1, round(settings.warmup * steps)),
        lr_scheduler_type="linear",
        **placement(settings.bf16),
        logging_steps=max(1, steps // 40),
        eval_strategy="steps" if judged else "no",
        eval_steps=every,
        save_strategy="steps" if save else "no",
        save_steps=save or 1,
        save_total_limit=2,
        load_best_model_at_end=best,
        metric_for_best_model=settings.judge or None,
        greater_is_better=True if best else None,
        report_to=[],
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=settings.seed,
    )


def _callbacks(settings: Settings, bar: Bar, stop_at: int) -> list[Any]:
    from transformers import EarlyStoppingCallback, TrainerCallback

    class Steps(TrainerCallback):
        """Moves the bar, lets AdaLoRA move its ranks, and stops where a test wants the run to be interrupted."""

        def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            moves = getattr(getattr(model.encoder, "base_model", None), "update_and_allocate", None)
            if moves is not None:  # while the gradients are there
                moves(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            bar.advance()
            if stop_at and state.global_step >= stop_at:
                control.should_training_stop = True

    stops = [EarlyStoppingCallback(early_stopping_patience=settings.patience)] if settings.patience else []
    return [Steps(), *stops]


def _figures(line: dict[str, Any]) -> dict[str, float]:
    kept = {key.removeprefix("eval_"): value for key, value in line.items() if key.startswith("eval_")}
    return {key: float(value) for key, value in kept.items() if key not in ("runtime", "samples_per_second", "steps_per_second")}
