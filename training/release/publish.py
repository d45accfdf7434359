"""The last stage of training: one immutable release directory, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranking.blend import BlendSpec
from ranking.errors import InvalidRelease
from ranking.fairness.policy import FairnessPolicy
from ranking.features import MODEL_COLUMNS, schema_hash
from ranking.release import MANIFEST, Explainer, Golden, Member, Release, TensorSpec, Tokenizer
from ranking.text import PAIR_INPUTS, SpecialTokens
from ranking.types import Surface
from ranking.variants import BF16, BOUNDS, FP32, Bound, Variant, Variants, beyond, parity
from training.blends.ensemble import TEXT, Fitted
from training.members.contract import INPUT, OUTPUT, Explainable, Exportable
from training.members.registry import check_servable, reads_text
from training.release.draft import finish, publication
from training.release.policies import ACTIVE_POLICY
from training.release.precision import Precision, run

FEATURES = Bound(1e-4, 0.9999)  # float32 sums of leaves or products in another order
TEXT_ATOL = BOUNDS[BF16].max_error  # for readers that know no variants, which run the file in whatever precision is fast
GOLDEN_ROWS = 8


@dataclass(frozen=True, slots=True)
class Material:
    """Everything a release is made of.

    Attributes:
        ensembles: one trained ensemble per surface.
        sample_rows: surface -> (n, d) real feature rows that parity is measured on; the first are the golden batch.
        text_model: the exported BERT ranker in every precision, the first of which is fp32.
        sample_pairs: its golden batch, tensor name -> (n, L).
        tokenizer: `tokenizer.json`.
        special: its framing ids.
        lineage: where it all came from.
        metrics: as `training.release.evaluate` gives them, by split and surface.
        policies: from `training.release.policies.shipped`.
        active: surface -> name of the policy it is served by; a surface not named: `ACTIVE_POLICY`.
        rankers: surface -> member -> a ranker that a search found, exported like the text model; what no ensemble counts is left out.
    """

    ensembles: Mapping[Surface, Fitted]
    sample_rows: Mapping[Surface, NDArray[np.float32]]
    text_model: Sequence[Precision]
    sample_pairs: Mapping[str, NDArray[np.int64]]
    tokenizer: Path
    special: SpecialTokens
    lineage: Mapping[str, str]
    metrics: Mapping[str, Any]
    policies: tuple[FairnessPolicy, ...]
    active: Mapping[Surface, str] = field(default_factory=dict)
    rankers: Mapping[Surface, Mapping[str, Sequence[Precision]]] = field(default_factory=dict)


def publish(store: Path, material: Material) -> Release:
    """Write a release into the store and return it. Nobody serves it before it is activated.

    The directory appears under its name only when every byte of it is on disk; what a crash leaves behind starts with a dot
    and is not a release.

    A member that no group gives weight is left out, and so is a precision of the text model that is beyond its bound; the manifest says
    by how much.

    Raises:
        InvalidRelease: a member cannot be served, or the manifest would not be readable; nothing is published.
        Unavailable: somebody else is publishing, or the disk took no more; nothing is published.
    """
    served = _served(material)
    with publication(store) as (draft, version):
        members = [
            _text_member(draft, _name(name, surface), material.rankers[surface][name], material.sample_pairs, version)
            if name in material.rankers.get(surface, {})
            else _features_member(draft, surface, name, material.ensembles[surface], material.sample_rows[surface], version)
            for surface, spec in served.items()
            for name in spec.members
            if name != TEXT
        ]
        if any(TEXT in spec.members for spec in served.values()):
            members.append(_text_member(draft, TEXT, material.text_model, material.sample_pairs, version))
        tokenizer = _copy(material.tokenizer, draft, "tokenizer/tokenizer.json")
        digest = hashlib.sha256("".join(m.sha256 for m in members).encode()).hexdigest()
        release = Release(
            id=f"r{version:04d}-{digest[:8]}",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            lineage=dict(material.lineage),
            feature_schema_hash=schema_hash(),
            tokenizer=Tokenizer("tokenizer/tokenizer.json", tokenizer, material.special),
            members=tuple(members),
            blends={s: replace(spec, members=tuple(_name(m, s) for m in spec.members)) for s, spec in served.items()},
            policies={p.name: p for p in material.policies},
            active_policy={surface: material.active.get(surface, ACTIVE_POLICY) for surface in material.ensembles},
            metrics=material.metrics,
        )
        text = json.dumps(release.to_json(), indent=1, allow_nan=False)
        if Release.from_json(json.loads(text)).to_json() != release.to_json():
            raise InvalidRelease(MANIFEST, "does not read back as it was written")
        (draft / MANIFEST).write_text(text + "\n")
        finish(draft, store / release.id)
    return release


def code_revision(root: Path) -> str:
    """The checkout's commit, with "+changes" where files differ from it; "unknown" outside a checkout."""
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def _served(material: Material) -> dict[Surface, BlendSpec]:
    """Per surface the blend of the members that count somewhere, all of which can be exported.

    Raises:
        InvalidRelease: naming the member that cannot.
    """
    served = {}
    for surface, fitted in material.ensembles.items():
        spec, names = fitted.spec, fitted.counting()
        kept = [spec.members.index(name) for name in names]
        try:
            check_servable(names)
        except ValueError as error:
            raise InvalidRelease(f"blends.{surface.value}", f"{error}; give it no weight") from None
        for name in names:
            read = name == TEXT or name in material.rankers.get(surface, {})
            if not read and not isinstance(fitted.scorers.get(name), Exportable):
                lacks = "the search that found it left no model" if reads_text(name) else "it has no ONNX form"
                why = f"members: {name} cannot be served: {lacks}; give it no weight"
                raise InvalidRelease(f"blends.{surface.value}", why)
        served[surface] = replace(
            spec,
            members=names,
            weights={tier: tuple(w[i] for i in kept) for tier, w in spec.weights.items()},
            calibrators=tuple(spec.calibrators[i] for i in kept),
        )
    return served


def _features_member(draft: Path, surface: Surface, name: str, fitted: Fitted, rows: NDArray[np.float32], version: int) -> Member:
    """A member's ONNX file and what the manifest says of it, parity with the trained scorer included."""
    scorer, offset, model = fitted.scorers[name], fitted.shift(name), _name(name, surface)
    assert isinstance(scorer, Exportable)  # `_served` refused it otherwise
    path = f"models/{model}/model.onnx"
    (draft / path).parent.mkdir(parents=True)
    (draft / path).write_bytes(scorer.to_onnx(offset=offset, columns=len(MODEL_COLUMNS)))
    want = scorer.logits(rows) + offset
    got = run(draft / path, {INPUT: rows})
    found = parity(got, want)
    if problem := beyond(found, FEATURES):
        raise InvalidRelease(path, f"the ONNX form of {name} {problem}")
    return Member(
        name=model,
        kind="features",
        model=model,
        version=version,
        path=path,
        sha256=_sha256(draft / path),
        inputs=(TensorSpec(INPUT, "FP32", (-1, len(MODEL_COLUMNS))),),
        output=OUTPUT,
        golden=Golden({INPUT: rows[:GOLDEN_ROWS].tolist()}, tuple(map(float, got[:GOLDEN_ROWS])), FEATURES.max_error),
        explainer=_explainer(draft, model, scorer.to_text(offset=offset)) if isinstance(scorer, Explainable) else None,
        parity=found,
    )


def _explainer(draft: Path, model: str, text: str) -> Explainer:
    path = f"models/{model}/model.txt"
    (draft / path).write_text(text)
    return Explainer(path, _sha256(draft / path))


def _text_member(draft: Path, name: str, forms: Sequence[Precision], pairs: Mapping[str, NDArray[np.int64]], version: int) -> Member:
    path, plain = f"models/{name}/model.onnx", forms[0]
    if plain.name != FP32 or plain.problem:
        raise InvalidRelease(path, f"{plain.name} {plain.problem}" if plain.problem else f"the first precision must be {FP32}")
    sha256 = _copy(plain.model, draft, path)
    served = []
    for form in forms:
        if form.model == plain.model and not form.problem:
            served.append(Variant(form.name, path, sha256, form.parity))
        elif not form.problem:
            own = f"models/{name}/model.{form.name}.onnx"
            served.append(Variant(form.name, own, _copy(form.model, draft, own), form.parity))
    got = run(draft / path, pairs)
    return Member(
        name=name,
        kind="text",
        model=f"{TEXT}_ranker" if name == TEXT else name,
        version=version,
        path=path,
        sha256=sha256,
        inputs=tuple(TensorSpec(n, "INT64", (-1, -1)) for n in PAIR_INPUTS),
        output=OUTPUT,
        golden=Golden({n: pairs[n].tolist() for n in PAIR_INPUTS}, tuple(map(float, got)), TEXT_ATOL),
        parity=plain.parity,
        variants=Variants(tuple(served), {form.name: form.parity for form in forms if form.problem}),
    )


def _name(member: str, surface: Surface) -> str:
    """BERT is one for all surfaces; of any other member each surface has its own."""
    return member if member == TEXT else f"{member}_{surface.value}"


def _copy(source: Path, draft: Path, path: str) -> str:
    (draft / path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, draft / path)
    return _sha256(draft / path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
