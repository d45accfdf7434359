"""The release manifest: the type of `release.json`, the only thing that passes from training to serving.

A release is one immutable directory::

    <store>/<id>/release.json
    <store>/<id>/models/<member>/model.onnx      (one per member)
    <store>/<id>/models/<member>/model.int8.onnx (where a text member has a form in eight bits)
    <store>/<id>/models/<member>/model.txt       (where a member has a form that feature attributions are computed from)
    <store>/<id>/tokenizer/tokenizer.json        (where a text member needs it)

This module turns the manifest into values and back and refuses what cannot be trusted, naming the key. Reading files and
checking digests is `deploy`'s and `services`' business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ranking.blend import BlendSpec
from ranking.errors import InvalidRelease
from ranking.fairness.policy import OBJECTIVES, FairnessPolicy
from ranking.parse import inside, integer, number, numbers, text_of
from ranking.text import SpecialTokens
from ranking.types import Surface
from ranking.variants import Parity, Variants

FORMAT = 2  # 2: policies of rules, over any attribute
MANIFEST = "release.json"
TENSOR_TYPES = ("FP32", "INT64")
ID = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}\Z")
MOST_ROWS = 1024  # of one request to a features member: a list's most candidates (1,000) in one piece, with room
MOST_PAIRS = 256  # of one request to a text member, and of requests that a processor runs as one: it takes as long, and all of them wait
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One model input or output; -1 is a free dimension."""

    name: str
    dtype: Literal["FP32", "INT64"]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Golden:
    """A small batch with the outputs it must give, wherever the model runs.

    Attributes:
        inputs: tensor name -> nested list of its shape.
        outputs: (n,) expected log-odds.
        atol: largest absolute error that still counts as the same model (reduced precision needs more).
    """

    inputs: Mapping[str, Any]
    outputs: tuple[float, ...]
    atol: float


@dataclass(frozen=True, slots=True)
class Explainer:
    """A member in the form its feature attributions are computed from: LightGBM's text, giving the same log-odds as the ONNX file."""

    path: str  # relative to the release directory
    sha256: str


@dataclass(frozen=True, slots=True)
class Member:
    """One scoring model of the ensemble.

    Attributes:
        name: as in the blends, the explanations and `model_versions`.
        kind: `features` reads the assembled matrix, `text` reads the (query, item) token pair.
        model: the Triton model's name.
        version: the Triton version directory; every release has its own.
        path: the ONNX file, relative to the release directory.
        output: name of the (n,) or (n, 1) float32 output that holds the log-odds.
        explainer: what its attributions come from; None: it has none.
        parity: how its scores compare with those of the framework that trained it; None: made before that was written down.
        variants: the forms a text member may be served in; without any it is `path`, on whatever gives the golden outputs.
    """

    name: str
    kind: Literal["features", "text"]
    model: str
    version: int
    path: str
    sha256: str
    inputs: tuple[TensorSpec, ...]
    output: str
    golden: Golden
    explainer: Explainer | None = None
    parity: Parity | None = None
    variants: Variants = field(default_factory=Variants)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """The tokenizer of the text members: file, digest and framing ids."""

    path: str
    sha256: str
    special: SpecialTokens


@dataclass(frozen=True, slots=True)
class Release:
    """The parsed manifest."""

    id: str
    created: str  # RFC 3339, UTC
    lineage: Mapping[str, str]  # code_revision, data_digest, feast_registry_digest, search_experiment, search_trial
    feature_schema_hash: str
    tokenizer: Tokenizer
    members: tuple[Member, ...]
    blends: Mapping[Surface, BlendSpec]
    policies: Mapping[str, FairnessPolicy]
    active_policy: Mapping[Surface, str]  # what a request without a policy gets
    objectives: Mapping[Surface, Mapping[str, BlendSpec]] = field(default_factory=dict)  # how outcomes other than a click are scored
    metrics: Mapping[str, Any] = field(
        default_factory=dict
    )  # split -> surface -> ranker -> tier -> metric -> [value, low, high]; `gate`: what judged them

    def member(self, name: str) -> Member:
        return next(m for m in self.members if m.name == name)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "id": self.id,
            "created": self.created,
            "lineage": dict(self.lineage),
            "feature_schema_hash": self.feature_schema_hash,
            "tokenizer": {
                "path": self.tokenizer.path,
                "sha256": self.tokenizer.sha256,
                "cls": self.tokenizer.special.cls,
                "sep": self.tokenizer.special.sep,
                "pad": self.tokenizer.special.pad,
            },
            "members": [
                {
                    "name": m.name,
                    "kind": m.kind,
                    "model": m.model,
                    "version": m.version,
                    "path": m.path,
                    "sha256": m.sha256,
                    "inputs": [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in m.inputs],
                    "output": m.output,
                    "golden": {"inputs": dict(m.golden.inputs), "outputs": list(m.golden.outputs), "atol": m.golden.atol},
                    **({"explainer": {"path": m.explainer.path, "sha256": m.explainer.sha256}} if m.explainer else {}),
                    **({"parity": m.parity.to_json()} if m.parity else {}),
                    **({"variants": m.variants.to_json()} if m.variants.served else {}),
                }
                for m in self.members
            ],
            "blends": {s.value: b.to_json() for s, b in self.blends.items()},
            "policies": [p.to_json() for p in self.policies.values()],
            "active_policy": {s.value: name for s, name in self.active_policy.items()},
            **(
                {"objectives": {s.value: {o: b.to_json() for o, b in bs.items()} for s, bs in self.objectives.items()}}
                if self.objectives
                else {}
            ),
            "metrics": dict(self.metrics),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Release:
        """Parse and check a manifest.

        Raises:
            InvalidRelease: naming the first key that is absent, malformed or inconsistent with the others.
        """
        need(data, "format", lambda v: v == FORMAT, f"must be {FORMAT}, others have to be made again (`longtail train`)")
        policies = [
            _parse(f"policies[{i}]", lambda p=p: FairnessPolicy.from_json(p))  # type: ignore[misc]
            for i, p in enumerate(need(data, "policies", lambda v: isinstance(v, list) and v, "need at least one"))
        ]
        members = tuple(
            _parse(f"members[{i}]", lambda m=m: _member(m))  # type: ignore[misc]
            for i, m in enumerate(need(data, "members", lambda v: isinstance(v, list) and v, "need at least one"))
        )
        tokenizer = need(data, "tokenizer", lambda v: isinstance(v, dict), "must be an object")
        if len({p.name for p in policies}) != len(policies):
            raise InvalidRelease("policies", "names must be unique")
        release = cls(
            id=need(data, "id", lambda v: isinstance(v, str) and ID.match(v), f"must match {ID.pattern}"),
            created=need(data, "created", lambda v: isinstance(v, str), "must be a string"),
            lineage=need(data, "lineage", lambda v: isinstance(v, dict), "must be an object"),
            feature_schema_hash=need(data, "feature_schema_hash", lambda v: isinstance(v, str) and v, "must be a non-empty string"),
            tokenizer=_parse("tokenizer", lambda: _tokenizer(tokenizer)),
            members=members,
            blends={
                _parse("blends", lambda s=s: Surface(s)): _parse(f"blends.{s}", lambda b=b: BlendSpec.from_json(b))  # type: ignore[misc]
                for s, b in need(data, "blends", lambda v: isinstance(v, dict) and v, "need at least one surface").items()
            },
            policies={p.name: p for p in policies},
            active_policy={
                _parse("active_policy", lambda s=s: Surface(s)): name  # type: ignore[misc]
                for s, name in need(data, "active_policy", lambda v: isinstance(v, dict), "must be an object").items()
            },
            objectives={
                _parse("objectives", lambda s=s: Surface(s)): {  # type: ignore[misc]
                    o: _parse(f"objectives.{s}.{o}", lambda b=b: BlendSpec.from_json(b))  # type: ignore[misc]
                    for o, b in _object(f"objectives.{s}", blends).items()
                }
                for s, blends in _object("objectives", data.get("objectives", {})).items()
            },
            metrics=data.get("metrics", {}),
        )
        release._check()
        return release

    def _check(self) -> None:
        names = {m.name for m in self.members}
        if len(names) != len(self.members):
            raise InvalidRelease("members", "names must be unique")
        for surface, spec in self.blends.items():
            self._check_blend(f"blends.{surface}", spec, names)
            active = self.active_policy.get(surface)
            if not isinstance(active, str) or active not in self.policies:
                raise InvalidRelease(
                    f"active_policy.{surface}", f"{active!r} is not a policy; policies: {', '.join(sorted(self.policies))}"
                )
            allowed = self.policies[active].surfaces
            if allowed and surface not in allowed:
                raise InvalidRelease(f"active_policy.{surface}", f"{active!r} is for {', '.join(allowed)} only")
        for surface, blends in self.objectives.items():
            for objective, spec in blends.items():
                key = f"objectives.{surface}.{objective}"
                if objective == "click" or objective not in OBJECTIVES:
                    raise InvalidRelease(key, f"must be one of {', '.join(o for o in OBJECTIVES if o != 'click')}; clicks have `blends`")
                if surface not in self.blends:
                    raise InvalidRelease(f"objectives.{surface}", f"the surface has no blend; surfaces: {', '.join(self.blends)}")
                self._check_blend(key, spec, names)

    @staticmethod
    def _check_blend(key: str, spec: BlendSpec, names: set[str]) -> None:
        for name in spec.members:
            if name not in names:
                raise InvalidRelease(f"{key}.members", f"{name!r} is not a member; members: {', '.join(sorted(names))}")


def need(data: Mapping[str, Any], key: str, ok: Callable[[Any], Any], why: str) -> Any:
    """`data[key]`, which must be there and `ok`.

    Raises:
        InvalidRelease: naming the key, with `why` and what stands there instead.
    """
    if key not in data:
        raise InvalidRelease(key, "is missing")
    if not ok(data[key]):
        raise InvalidRelease(key, f"{why}, got {str(data[key])[:80]!r}")
    return data[key]


def _object(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRelease(key, f"must be an object, got {value!r:.80}")
    return value


def _parse(key: str, build: Callable[[], T]) -> T:
    """Run `build`, turning what a constructor raises into an error that names the full key."""
    try:
        return build()
    except KeyError as absent:
        raise InvalidRelease(f"{key}.{absent.args[0]}", "is missing") from None
    except InvalidRelease as inner:
        raise InvalidRelease(f"{key}.{inner.key}", inner.reason) from None
    except (ValueError, TypeError, AttributeError) as wrong:
        raise InvalidRelease(key, str(wrong)) from None


def _member(m: Mapping[str, Any]) -> Member:
    if m["kind"] not in ("features", "text"):
        raise InvalidRelease("kind", f"{m['kind']!r} is not one of features, text")
    version = integer("version", m["version"])
    if version < 1:
        raise InvalidRelease("version", f"must be at least 1, got {version}")
    return Member(
        name=text_of(m, "name"),
        kind=m["kind"],
        model=text_of(m, "model"),
        version=version,
        path=inside(m),
        sha256=text_of(m, "sha256"),
        inputs=tuple(_parse(f"inputs[{i}]", lambda t=t: _tensor(t)) for i, t in enumerate(m["inputs"])),  # type: ignore[misc]
        output=text_of(m, "output"),
        golden=_golden(m["golden"]),
        explainer=_parse("explainer", lambda: _explainer(m["explainer"])) if "explainer" in m else None,
        parity=_parse("parity", lambda: Parity.from_json(m["parity"])) if "parity" in m else None,
        variants=_parse("variants", lambda: Variants.from_json(m["variants"])) if "variants" in m else Variants(),
    )


def _explainer(e: Any) -> Explainer:
    if not isinstance(e, dict):
        raise ValueError(f"must be an object, got {str(e)[:80]!r}")
    return Explainer(inside(e), text_of(e, "sha256"))


def _tensor(t: Mapping[str, Any]) -> TensorSpec:
    if t["dtype"] not in TENSOR_TYPES:
        raise InvalidRelease("dtype", f"{t['dtype']!r} is not one of {', '.join(TENSOR_TYPES)}")
    return TensorSpec(text_of(t, "name"), t["dtype"], tuple(integer(f"shape[{i}]", d) for i, d in enumerate(t["shape"])))


def _golden(g: Mapping[str, Any]) -> Golden:
    for key in ("inputs", "outputs", "atol"):
        if key not in g:
            raise InvalidRelease(f"golden.{key}", "is missing")
    atol = number("golden.atol", g["atol"])
    if not (math.isfinite(atol) and atol > 0.0):
        raise InvalidRelease("golden.atol", f"must be finite and above 0, got {atol}")
    return Golden(g["inputs"], numbers("golden.outputs", g["outputs"]), atol)


def _tokenizer(t: Mapping[str, Any]) -> Tokenizer:
    cls, sep, pad = (integer(key, t[key]) for key in ("cls", "sep", "pad"))
    return Tokenizer(inside(t), text_of(t, "sha256"), SpecialTokens(cls, sep, pad))
