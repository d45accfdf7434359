"""Small, complete, honest releases for tests: two tiny ONNX models, a tokenizer, a manifest with golden outputs computed by hand.

Shared with the gateway's tests. The models are real ONNX graphs, small enough to be written out, so every expected score can be
derived in numpy from the same weights (`trees_logits`, `bert_logits`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer as FileTokenizer
from tokenizers import models, normalizers, pre_tokenizers

from ranking.blend import BlendSpec
from ranking.calibrate import Calibrator
from ranking.fairness.policy import FairnessPolicy, GroupRule, Share
from ranking.features import MODEL_COLUMNS, schema_hash
from ranking.release import MANIFEST, Golden, Member, Release, TensorSpec, Tokenizer
from ranking.text import SpecialTokens
from ranking.types import Surface

COLUMNS = len(MODEL_COLUMNS)
VOCABULARY = 97  # token ids are taken modulo this, so any tokenizer's ids will do
WIDTH = 8
WORDS = ("ice", "milk", "bread", "pizza", "frozen", "cheese", "beer", "soda", "national", "private", "buys", "crushed", "oz", "lb")
TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
FLOORS = (GroupRule("popularity_tier", {"tail": Share(0.3), "new": Share(0.1)}),)

_generator = np.random.default_rng(7)
TREES_WEIGHTS = _generator.normal(0, 0.05, (COLUMNS, 1)).astype(np.float32)
EMBEDDING = _generator.normal(0, 0.5, (VOCABULARY, WIDTH)).astype(np.float32)
BERT_WEIGHTS = _generator.normal(0, 1.0, (WIDTH, 1)).astype(np.float32)
TYPE_WEIGHT = np.float32(0.25)  # on the share of second-text tokens, so that all three inputs matter


def trees_logits(features: NDArray[np.float32], bias: float = 0.0) -> NDArray[np.float32]:
    """(n, COLUMNS) -> (n,): what the features member must answer."""
    return (features @ TREES_WEIGHTS).reshape(-1) + np.float32(bias)


def bert_logits(batch: Mapping[str, NDArray[np.int64]], bias: float = 0.0) -> NDArray[np.float32]:
    """Three (n, L) tensors -> (n,): what the text member must answer."""
    mask = batch["attention_mask"].astype(np.float32)
    length = mask.sum(axis=1)
    mean = (EMBEDDING[batch["input_ids"] % VOCABULARY] * mask[:, :, None]).sum(axis=1) / length[:, None]
    second = (batch["token_type_ids"] * mask).sum(axis=1) / length
    return np.asarray((mean @ BERT_WEIGHTS).reshape(-1) + TYPE_WEIGHT * second + np.float32(bias), np.float32)


def features_batch(n: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 1, (n, COLUMNS)).astype(np.float32)


def text_batch(n: int, length: int = 12, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """n padded pairs of at least 3 tokens."""
    generator = np.random.default_rng(seed)
    position = np.arange(length)
    mask = (position < generator.integers(3, length + 1, (n, 1))).astype(np.int64)
    ids = generator.integers(1, VOCABULARY, (n, length)) * mask
    return dict(zip(TEXT_INPUTS, (ids, mask, (position >= 2) * mask), strict=True))


def trees_model(bias: float = 0.0, *, input_name: str = "features", weights: NDArray[np.float32] = TREES_WEIGHTS) -> onnx.ModelProto:
    """A linear model: FP32 [n, COLUMNS] -> `logit` FP32 [n, 1]."""
    nodes = [helper.make_node("MatMul", [input_name, "weights"], ["product"]), helper.make_node("Add", ["product", "bias"], ["logit"])]
    return _model(
        nodes,
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["n", COLUMNS])],
        helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n", 1]),
        {"weights": weights, "bias": np.array([bias], np.float32)},
    )


def bert_model(bias: float = 0.0) -> onnx.ModelProto:
    """Masked mean of embeddings, then linear: three INT64 [n, L] -> `logit` FP32 [n]."""
    node = helper.make_node
    nodes = [
        node("Mod", ["input_ids", "vocabulary"], ["known"]),
        node("Gather", ["embedding", "known"], ["vectors"]),  # (n, L, WIDTH)
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["mask", "last"], ["column"]),
        node("Mul", ["vectors", "column"], ["masked"]),
        node("ReduceSum", ["masked", "one"], ["summed"], keepdims=0),
        node("ReduceSum", ["mask", "one"], ["length"], keepdims=1),
        node("Div", ["summed", "length"], ["mean"]),
        node("MatMul", ["mean", "weights"], ["text"]),
        node("Mul", ["types", "mask"], ["second"]),
        node("ReduceSum", ["second", "one"], ["second_count"], keepdims=1),
        node("Div", ["second_count", "length"], ["second_share"]),
        node("Mul", ["second_share", "type_weight"], ["type_part"]),
        node("Add", ["text", "type_part"], ["both"]),
        node("Add", ["both", "bias"], ["column_logit"]),
        node("Squeeze", ["column_logit", "one"], ["logit"]),
    ]
    constants = {
        "vocabulary": np.array(VOCABULARY, np.int64),
        "embedding": EMBEDDING,
        "last": np.array([2], np.int64),
        "one": np.array([1], np.int64),
        "weights": BERT_WEIGHTS,
        "type_weight": np.array([TYPE_WEIGHT], np.float32),
        "bias": np.array([bias], np.float32),
    }
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "length"]) for name in TEXT_INPUTS]
    return _model(nodes, inputs, helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"]), constants)


def build_release(store: Path, id: str, version: int, *, bias: float = 0.0) -> Release:  # noqa: A002  the manifest's own word
    """Write a complete, valid release with members `trees` (features) and `bert` (text), both on both surfaces.

    Args:
        store: the release store; made if absent.
        id: the release's id and directory name.
        version: Triton version of both members.
        bias: added to every log-odds, so that two releases can be told apart by their scores.
    """
    directory = store / id
    features, texts = features_batch(4), text_batch(4)
    members = (
        _member(
            directory,
            trees_model(bias),
            name="trees",
            kind="features",
            version=version,
            inputs=(TensorSpec("features", "FP32", (-1, COLUMNS)),),
            golden=Golden({"features": features.tolist()}, tuple(map(float, trees_logits(features, bias))), 1e-4),
        ),
        _member(
            directory,
            bert_model(bias),
            name="bert",
            kind="text",
            version=version,
            inputs=tuple(TensorSpec(name, "INT64", (-1, -1)) for name in TEXT_INPUTS),
            golden=Golden({n: t.tolist() for n, t in texts.items()}, tuple(map(float, bert_logits(texts, bias))), 2e-2),
        ),
    )
    blend = BlendSpec(
        ("trees", "bert"),
        {"head": (0.7, 0.3), "tail": (0.3, 0.7), "new": (0.1, 0.9)},
        (Calibrator("platt", 1.0, -1.0), Calibrator("platt", 1.0, -1.0)),
    )
    policies = (FairnessPolicy("floors", "1", FLOORS), FairnessPolicy("none", "1", mode="off"))
    release = Release(
        id=id,
        created=f"2026-01-01T00:00:{version % 60:02d}Z",
        lineage={"code_revision": "test", "data_digest": "test"},
        feature_schema_hash=schema_hash(),
        tokenizer=_tokenizer(directory),
        members=members,
        blends={Surface.SEARCH: blend, Surface.ADS: blend},
        policies={p.name: p for p in policies},
        active_policy={Surface.SEARCH: "floors", Surface.ADS: "floors"},
    )
    (directory / MANIFEST).write_text(json.dumps(release.to_json()))
    return release


def alter(store: Path, id: str, change: Callable[[dict[str, Any]], None]) -> None:  # noqa: A002
    """Rewrite a release's manifest after `change` has edited it."""
    path = store / id / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_model(store: Path, id: str, member: str, content: bytes) -> None:  # noqa: A002
    """Put other bytes in place of a member's ONNX file and make the manifest's digest agree."""
    path = store / id / "models" / member / "model.onnx"
    path.write_bytes(content)

    def change(manifest: dict[str, Any]) -> None:
        entry = next(m for m in manifest["members"] if m["name"] == member)
        entry["sha256"] = hashlib.sha256(content).hexdigest()

    alter(store, id, change)


def _member(
    directory: Path, model: onnx.ModelProto, *, name: str, kind: Any, version: int, inputs: tuple[TensorSpec, ...], golden: Golden
) -> Member:
    path = directory / "models" / name / "model.onnx"
    path.parent.mkdir(parents=True)
    content = model.SerializeToString()
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return Member(name, kind, name, version, f"models/{name}/model.onnx", digest, inputs, "logit", golden)


def _tokenizer(directory: Path) -> Tokenizer:
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    words = {word: i for i, word in enumerate(WORDS, start=len(special))}
    tokenizer = FileTokenizer(models.WordLevel(special | words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = directory / "tokenizer" / "tokenizer.json"
    path.parent.mkdir(parents=True)
    tokenizer.save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Tokenizer("tokenizer/tokenizer.json", digest, SpecialTokens(cls=special["[CLS]"], sep=special["[SEP]"], pad=special["[PAD]"]))


def _model(nodes: list[Any], inputs: list[Any], output: Any, constants: Mapping[str, NDArray[Any]]) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "test", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
