"""What stages hand each other on disk: arrays as .npz without pickling, small facts as JSON."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from training.blends.ensemble import EnsembleData, EvalLists, TrainRows


def save_ensemble_data(path: Path, data: EnsembleData) -> None:
    """Write to one .npz; scalars become 0-d arrays."""
    flat = {f"{part.name}.{f.name}": getattr(getattr(data, part.name), f.name) for part in fields(data) for f in _columns(part.name)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **flat)


def load_ensemble_data(path: Path) -> EnsembleData:
    """Read what `save_ensemble_data` wrote.

    Raises:
        FileNotFoundError: says which stage makes the file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; `python -m training.pipeline` makes it")
    with np.load(path, allow_pickle=False) as stored:

        def part(name: str) -> dict[str, Any]:
            return {f.name: stored[f"{name}.{f.name}"] for f in _columns(name)}

        train = part("train")
        train["negatives_rate"] = float(train["negatives_rate"])
        return EnsembleData(TrainRows(**train), EvalLists(**part("calibrate")), EvalLists(**part("select")))


def save_lists(path: Path, lists: EvalLists) -> None:
    """Write one split's lists to .npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{f.name: getattr(lists, f.name) for f in fields(lists)})


def load_lists(path: Path) -> EvalLists:
    """Read what `save_lists` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        return EvalLists(**{f.name: stored[f.name] for f in fields(EvalLists)})


def write_json(path: Path, value: Any) -> None:
    """Write small facts, readable by people."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _columns(part: str) -> tuple[Any, ...]:
    return fields(TrainRows if part == "train" else EvalLists)
