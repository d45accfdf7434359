"""scikit-learn's decision trees as ONNX: the sum of what each tree's leaf is worth, exactly. Knows no method and no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.members.contract import INPUT, OUTPUT
from training.members.dense import graph
from training.members.scaling import Scale
from training.members.trees import floor32


@dataclass(frozen=True, slots=True)
class Worth:
    """A fitted tree and what its leaves are worth.

    Attributes:
        tree: scikit-learn's `tree_`.
        values: (nodes, t) by node; those of inner nodes count nothing.
    """

    tree: Any
    values: NDArray[np.float64]


def votes(tree: Any, weight: float) -> Worth:
    """A tree that votes for its leaf's larger class: ± its weight, the negative class where both are equal."""
    shares = tree.value[:, 0, :]
    return Worth(tree, np.where(shares[:, 1:] > shares[:, :1], weight, -weight))


def shares(tree: Any, weight: float) -> Worth:
    """A tree that gives its leaf's shares of (negatives, positives), times a weight."""
    return Worth(tree, tree.value[:, 0, :] * weight)


def summed(trees: Sequence[Worth], scale: Scale, *, offset: float) -> bytes:
    """An ONNX model of the sum of all trees' one value, plus an offset; unknown inputs count as their column's median."""
    from onnx import helper

    nodes = [*_filled(), _ensemble(trees, "sum"), helper.make_node("Add", ["sum", "offset"], [OUTPUT])]
    return graph(nodes, {"medians": scale.medians, "offset": np.array(offset, np.float32)}, len(scale.medians))


def log_ratio(trees: Sequence[Worth], scale: Scale, *, offset: float, even: float) -> bytes:
    """An ONNX model of ln(p / q), where trees sum to the shares (q, p), each kept within [even, 1 - even], plus an offset.

    Both shares are summed: 1 - p in float32 would have lost the digits of a small q.
    """
    from onnx import helper

    make = helper.make_node
    nodes = [
        *_filled(),
        _ensemble(trees, "summed"),
        make("Clip", ["summed", "low", "high"], ["clipped"]),
        make("Log", ["clipped"], ["logs"]),
        make("MatMul", ["logs", "signs"], ["ratio"]),
        make("Add", ["ratio", "offset"], [OUTPUT]),
    ]
    constants = {
        "medians": scale.medians,
        "low": np.array(even, np.float32),
        "high": np.array(1 - even, np.float32),
        "signs": np.array([[-1.0], [1.0]], np.float32),
        "offset": np.array(offset, np.float32),
    }
    return graph(nodes, constants, len(scale.medians))


def _filled() -> list[Any]:
    from onnx import helper

    return [helper.make_node("IsNaN", [INPUT], ["unknown"]), helper.make_node("Where", ["unknown", "medians", INPUT], ["filled"])]


def _ensemble(trees: Sequence[Worth], output: str) -> Any:
    """The node that sums trees. A split sends x left when x <= t in float64: for float32 x the same as x <= floor32(t)."""
    from onnx import helper

    sizes = [t.tree.node_count for t in trees]
    inner = np.concatenate([t.tree.children_left >= 0 for t in trees])
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    targets = trees[0].values.shape[1]
    leaves = np.flatnonzero(~inner)
    thresholds = np.concatenate([t.tree.threshold for t in trees])
    return helper.make_node(
        "TreeEnsembleRegressor",
        ["filled"],
        [output],
        domain="ai.onnx.ml",
        n_targets=targets,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_featureids=np.where(inner, np.concatenate([t.tree.feature for t in trees]), 0).tolist(),
        nodes_modes=np.where(inner, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_values=[float(floor32(float(t))) if i else 0.0 for t, i in zip(thresholds, inner, strict=True)],
        nodes_truenodeids=np.where(inner, np.concatenate([t.tree.children_left for t in trees]), 0).tolist(),
        nodes_falsenodeids=np.where(inner, np.concatenate([t.tree.children_right for t in trees]), 0).tolist(),
        nodes_missing_value_tracks_true=np.zeros(len(inner), int).tolist(),
        target_treeids=np.repeat(tree_ids[leaves], targets).tolist(),
        target_nodeids=np.repeat(node_ids[leaves], targets).tolist(),
        target_ids=np.tile(np.arange(targets), len(leaves)).tolist(),
        target_weights=np.concatenate([t.values for t in trees])[leaves].astype(np.float32).reshape(-1).tolist(),
    )
