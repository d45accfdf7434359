"""What stages hand each other on disk: arrays as .npz without pickling, small facts as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from training.lists.arrays import EnsembleData, EvalLists, TrainRows

_GIVEN = "given."  # before the name of the member whose scores they are


def save_ensemble_data(path: Path, data: EnsembleData) -> None:
    """Write to one .npz; scalars become 0-d arrays."""
    parts = {part.name: _flat(getattr(data, part.name)) for part in fields(data)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{f"{part}.{name}": value for part, flat in parts.items() for name, value in flat.items()})


def load_ensemble_data(path: Path) -> EnsembleData:
    """Read what `save_ensemble_data` wrote.

    Raises:
        FileNotFoundError: says which stage makes the file.
        ValueError: it is damaged, or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; `python -m training.pipeline` makes it")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:  # ours to close where numpy gives up

            def part(name: str) -> dict[str, Any]:
                return {key.removeprefix(f"{name}."): stored[key] for key in stored.files if key.startswith(f"{name}.")}

            train = part("train")
            train["negatives_rate"] = float(train["negatives_rate"])
            return EnsembleData(TrainRows(**train), _lists(part("calibrate")), _lists(part("select")))
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:  # each way of not being what was written
        raise ValueError(f"{path}: holds no surface's rows and lists, or is damaged: {type(error).__name__}: {error}") from None


def digest(data: EnsembleData) -> str:
    """What tells one surface's data from another's: 12 hex digits of the names, types, shapes and bytes of all arrays."""
    found = hashlib.sha256()
    for part in fields(data):
        for name, value in sorted(_flat(getattr(data, part.name)).items()):
            array = np.ascontiguousarray(value)
            found.update(f"{part.name}.{name} {array.dtype} {array.shape}".encode())
            found.update(array.data)
    return found.hexdigest()[:12]


def save_lists(path: Path, lists: EvalLists) -> None:
    """Write one split's lists to .npz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **_flat(lists))


def load_lists(path: Path) -> EvalLists:
    """Read what `save_lists` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        return _lists({key: stored[key] for key in stored.files})


def write_json(path: Path, value: Any) -> None:
    """Write small facts, readable by people; all of them or none."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole: whoever is stopped meanwhile leaves what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    beside.write_text(text)
    beside.replace(path)


def _flat(part: TrainRows | EvalLists) -> dict[str, Any]:
    """Name -> array; of the given scores one array per member, of what is unknown none."""
    flat = {f.name: getattr(part, f.name) for f in fields(part)}
    given = flat.pop("given", {})
    return {k: v for k, v in flat.items() if v is not None} | {_GIVEN + name: scores for name, scores in given.items()}


def _lists(flat: Mapping[str, Any]) -> EvalLists:
    given = {key.removeprefix(_GIVEN): scores for key, scores in flat.items() if key.startswith(_GIVEN)}
    return EvalLists(given=given, **{key: value for key, value in flat.items() if not key.startswith(_GIVEN)})
