"""Small valid things to start a test from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ranking.assemble import ItemFeatures, item_features
from ranking.features import schema_hash, stable_key


def items(ids: list[str], **columns: list[Any]) -> ItemFeatures:
    """Items with the given feature columns and defaults for the others."""
    return item_features(np.array([stable_key(i) for i in ids], np.int64), columns)


def manifest() -> dict[str, Any]:
    """A correct `release.json` as parsed JSON, fresh for every caller to break."""

    def member(name: str, kind: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "name": name,
            "kind": kind,
            "model": f"longtail_{name}",
            "version": 3,
            "path": f"models/{name}/model.onnx",
            "sha256": "0" * 64,
            "inputs": inputs,
            "output": "logits",
            "golden": {"inputs": {t["name"]: [[0]] for t in inputs}, "outputs": [0.25], "atol": 0.001},
        }

    return {
        "format": 2,
        "id": "2017-w46-a",
        "created": "2017-11-20T00:00:00Z",
        "lineage": {"code_revision": "abc", "data_digest": "def"},
        "feature_schema_hash": schema_hash(),
        "tokenizer": {"path": "tokenizer/tokenizer.json", "sha256": "1" * 64, "cls": 101, "sep": 102, "pad": 0},
        "members": [
            member("behaviour", "features", [{"name": "x", "dtype": "FP32", "shape": [-1, 30]}]),
            member("bert", "text", [{"name": "input_ids", "dtype": "INT64", "shape": [-1, -1]}]),
        ],
        "blends": {
            surface: {
                "members": ["behaviour", "bert"],
                "weights": {"head": [0.8, 0.2], "tail": [0.5, 0.5], "new": [0.0, 1.0]},
                "calibrators": [{"kind": "platt", "a": 1.5, "b": -0.5}, {"kind": "isotonic", "x": [-2.0, 2.0], "y": [0.1, 0.6]}],
                "final": {"kind": "identity"},
            }
            for surface in ("search", "ads")
        },
        "policies": [
            {
                "name": "tail_floor",
                "version": "1",
                "rules": [
                    {"attribute": "popularity_tier", "floors": {"tail": 0.3, "new": {"of_candidates": 0.5}}, "ceilings": {"head": 0.9}}
                ],
                "mode": "enforce",
                "scope": "both",
                "surfaces": ["search", "ads"],
                "page_length": 10,
                "free_places": 0,
                "controller": {"kind": "dual", "gain": 0.1, "debt_bound": 4.0},
                "objectives": {"click": 1.0},
                "reserve_micros": 10_000,
                "pricing": "gsp",
                "pacing": None,
                "ad_slots": [],
                "organic_value_micros": 100_000,
                "cascade": 25,
            }
        ],
        "active_policy": {"search": "tail_floor", "ads": "tail_floor"},
        "metrics": {"test": {"ads": {"blend": {"all": {"ndcg_at_10": [0.4, 0.38, 0.42]}}}}},
    }
