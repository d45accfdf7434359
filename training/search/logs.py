"""A search where people look at runs: TensorBoard as trials end, Weights & Biases when it is configured. Knows rows of trials, no Ray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from training.search.journal import Journal, Row
from training.toolbox.logs import wandb_configured

FOLDER = "tensorboard"


def board(journal: Journal, row: Row) -> None:
    """Write one trial that ended to TensorBoard, a run of its name: metrics by rung, configuration and figures."""
    from tensorboardX import SummaryWriter  # type: ignore[import-untyped]

    with SummaryWriter(str(journal.path / FOLDER / row["trial"]), write_to_disk=True) as writer:
        for rung, report in enumerate(journal.reports(row["number"]), 1):
            for name, value in report.items():
                writer.add_scalar(f"learning/{name}", value, rung)
        for name, value in row["metrics"].items():
            writer.add_scalar(f"trial/{name}", value, row["number"])
        writer.add_hparams(flat(row["config"]), row["metrics"], name="figures")
        if row["error"]:
            writer.add_text("error", row["error"])


def wandb(journal: Journal, name: str) -> bool:
    """Write all trials to Weights & Biases, a run each, where WANDB_MODE or WANDB_API_KEY ask for it; offline needs no account.

    Raises:
        RuntimeError: it is asked for and not installed.
    """
    if not wandb_configured(os.environ):
        return False
    import wandb as client

    project = os.environ.get("WANDB_PROJECT", "longtail")
    for row in journal.rows():
        run = client.init(
            project=project,
            dir=str(journal.path),
            group=name,
            name=f"{name} {row['trial']}",
            config=flat(row["config"]),
            reinit="finish_previous",
        )
        for rung, report in enumerate(journal.reports(row["number"]), 1):
            run.log({"rung": rung, **report})
        run.summary.update({**row["metrics"], "error": row["error"], "stopped": row["stopped"]})
        run.finish()
    return True


def flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested names joined by ``/``."""
    out: dict[str, Any] = {}
    for name, value in config.items():
        out |= flat(value, f"{before}{name}/") if isinstance(value, Mapping) else {before + name: value}
    return out
