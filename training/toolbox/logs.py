"""Outcomes where people look at runs: TensorBoard always, Weights & Biases when it is configured.

TensorBoard files are written with tensorboardX (it comes with Ray); W&B is an optional extra (`tracking`), and its offline mode needs no
account. Knows outcomes, not how they were measured.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from training.toolbox.outcome import Outcome


def write(folder: Path, outcomes: Sequence[Outcome]) -> list[str]:
    """Log every outcome as a run below `folder`, replacing what an earlier run left there.

    Returns:
        Names of what was written to: `tensorboard`, and `wandb` where it is configured.
    """
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    _tensorboard(folder / "tensorboard", outcomes)
    if not wandb_configured(os.environ):
        return ["tensorboard"]
    _wandb(folder, outcomes)
    return ["tensorboard", "wandb"]


def wandb_configured(environment: Mapping[str, str]) -> bool:
    """Whether W&B is wanted (WANDB_MODE, unless it says disabled, or WANDB_API_KEY) and installed.

    Raises:
        RuntimeError: it is wanted and not installed.
    """
    mode = environment.get("WANDB_MODE", "")
    if mode == "disabled" or not (mode or environment.get("WANDB_API_KEY")):
        return False
    if importlib.util.find_spec("wandb") is None:
        raise RuntimeError("WANDB_MODE or WANDB_API_KEY is set and wandb is not installed; `pip install longtail[tracking]` or unset them")
    return True


def scalars(outcome: Outcome) -> Iterator[tuple[str, float]]:
    """Every value of an outcome with its tag, ``group/metric``; the ends of an interval as ``…_low`` and ``…_high``."""
    for group, row in outcome.figures.items():
        for metric in row:
            for end, value in zip(("", "_low", "_high"), outcome.figure(metric, group), strict=True):
                if value is not None:
                    yield f"{group}/{metric}{end}", float(value)
    yield "all/seconds", outcome.seconds


def learning(outcome: Outcome) -> Iterator[tuple[str, list[list[float]]]]:
    """Learning curves of an outcome with their tags."""
    for name, points in outcome.curves.items():
        if name.split("/")[0] == "learning":
            yield name, points


def _tensorboard(folder: Path, outcomes: Iterable[Outcome]) -> None:
    from tensorboardX import SummaryWriter

    for o in outcomes:
        with SummaryWriter(str(folder / o.data / f"{o.kind}-{_plain(o.method)}"), write_to_disk=True) as board:
            for tag, points in learning(o):
                for step, value in points:
                    board.add_scalar(tag, value, int(step))
            board.add_hparams({"data": o.data, "kind": o.kind, "method": o.method}, dict(scalars(o)), name="figures")
            if o.note:
                board.add_text("note", o.note)


def _wandb(folder: Path, outcomes: Iterable[Outcome]) -> None:
    import wandb

    for o in outcomes:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "longtail"),
            dir=str(folder),
            group=o.data,
            job_type=o.kind,
            name=f"{o.data} {o.kind} {o.method}",
            config={"data": o.data, "kind": o.kind, "method": o.method, "baseline": o.baseline},
            notes=o.note or None,
            reinit="finish_previous",
        )
        for tag, points in learning(o):
            run.define_metric(tag, step_metric="round")
            for step, value in points:
                run.log({"round": step, tag: value})
        run.summary.update(dict(scalars(o)))
        run.finish()


def _plain(name: str) -> str:
    """A name as a folder's."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
