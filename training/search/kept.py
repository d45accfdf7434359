"""What a ranker leaves behind for ensembles and releases: scores and embeddings in one .npz, its model's files, and a manifest with
digests. Knows no model and no Ray.

The ensemble stage takes it as a member: nothing is read or encoded again. The manifest is written last, so that arrays without one are no
artefact.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.lists.arrays import EnsembleData, EvalLists
from training.members.registry import RANKER, VECTORS
from training.search.journal import write_durably

ARRAYS, MANIFEST = "arrays.npz", "manifest.json"
SCORES = "scores."
EMBEDDED = "embeddings"
TEXTS, QUERIES = "texts.", "queries."


@dataclass(frozen=True, slots=True)
class Kept:
    """One ranker's artefact, checked against its digest.

    Attributes:
        manifest: trial, configuration, metrics, digest of the data and of the arrays.
        arrays: ``scores.train``, out of fold, and ``scores.PART`` of every part, NaN without text; ``embeddings`` (folds, t, width) float16
            of the t distinct texts by each fold's encoder, rows of length 1; ``texts.train`` and ``texts.PART``, the place of each pair's
            item among them, ``queries.PART`` that of each list's first text, -1 without one; ``fold.train``, whose model has not seen the
            pair: ``embeddings[fold.train, texts.train]`` is out of fold.
    """

    manifest: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]


def keep(
    folder: Path, manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], files: Mapping[str, bytes] = MappingProxyType({})
) -> None:
    """Write an artefact, with files beside its arrays; the same again replaces it."""
    folder.mkdir(parents=True, exist_ok=True)
    made = io.BytesIO()
    np.savez(made, **dict[str, Any](arrays))
    (folder / ARRAYS).write_bytes(made.getvalue())
    for name, content in files.items():
        (folder / name).write_bytes(content)
    shapes = {name: [str(array.dtype), *array.shape] for name, array in arrays.items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    said = {**manifest, "sha256": hashlib.sha256(made.getvalue()).hexdigest(), "arrays": shapes, "files": digests}
    write_durably(folder / MANIFEST, json.dumps(said, indent=1, sort_keys=True) + "\n")


def read(folder: Path) -> Kept:
    """Read an artefact.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its bytes are not those the manifest was made for.
    """
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{folder}: holds no ranker's scores; the stage `rankers` of a search leaves them")
    manifest, content = json.loads((folder / MANIFEST).read_text()), (folder / ARRAYS).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise ValueError(f"{folder / ARRAYS}: damaged, its digest is not the manifest's; delete the trial and let it run again")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return Kept(manifest, {name: stored[name] for name in stored.files})


def file_of(folder: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    """A file that was kept beside the arrays.

    Raises:
        ValueError: none of that name was kept, or its bytes are not those the manifest was made for.
    """
    wanted, file = manifest.get("files", {}).get(name), folder / name
    if wanted is None or not file.is_file():
        raise ValueError(f"{file}: not there; let the trial run again under another name")
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != wanted:
        raise ValueError(f"{file}: damaged, its digest is not the manifest's; let the trial run again under another name")
    return content


def with_members(data: EnsembleData, rankers: Mapping[str, Kept]) -> EnsembleData:
    """The same rows and lists, with each ranker's scores as a given member, ``ranker_TRIAL``, and its vectors' as ``vectors_TRIAL``.

    Raises:
        ValueError: scores that are of other lists.
    """
    calibrate, select = (with_member_scores(getattr(data, part), part, rankers) for part in ("calibrate", "select"))
    return EnsembleData(data.train, calibrate, select)


def with_member_scores(lists: EvalLists, part: str, rankers: Mapping[str, Kept]) -> EvalLists:
    """The same of one part's lists.

    Raises:
        ValueError: scores that are of other lists.
    """
    scores = {}
    for trial, kept in rankers.items():
        found = kept.arrays.get(SCORES + part)
        if found is None or len(found) != len(lists.labels):
            has = "no" if found is None else str(len(found))
            raise ValueError(f"rankers: {trial} has {has} scores of {part}, whose lists have {len(lists.labels)} rows; it read other data")
        scores[RANKER + trial] = found.astype(np.float64)
        if QUERIES + part in kept.arrays:  # what older searches left has none
            scores[VECTORS + trial] = cosines(kept.arrays, part, lists.offsets)
    return replace(lists, given={**lists.given, **scores})


def cosines(arrays: Mapping[str, NDArray[Any]], part: str, offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) cosine of each row's item and its list's first text, the encoders of the folds on average; NaN where a text is missing.

    Args:
        arrays: of a `Kept`.
        part: of the lists.
        offsets: (L + 1,) theirs.
    """
    items, queries = arrays[TEXTS + part], np.repeat(arrays[QUERIES + part], np.diff(offsets))
    rows = np.flatnonzero((items >= 0) & (queries >= 0))
    vectors, out = arrays[EMBEDDED].astype(np.float32), np.full(len(items), np.nan)
    out[rows] = np.einsum("fnd,fnd->n", vectors[:, items[rows]], vectors[:, queries[rows]]) / len(vectors)
    return out
