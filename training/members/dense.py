"""Layers of weights over scaled columns, one of them a logistic regression: scored in numpy, written as ONNX by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.members.contract import INPUT, OUTPUT
from training.members.scaling import LIMIT, Scale


@dataclass(frozen=True, slots=True)
class Dense:
    """A scorer: scale, then layers with max(0, ·) between them."""

    scale: Scale
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]  # (weights (in, out), bias (out,)), the last with one output
    log_odds: bool

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) scores of (n, d) rows."""
        x = self.scale(features)
        for weights, bias in self.layers[:-1]:
            x = np.maximum(x @ weights + bias, 0.0)
        weights, bias = self.layers[-1]
        return (x @ weights + bias)[:, 0].astype(np.float64)

    def to_onnx(self, *, offset: float, columns: int) -> bytes:
        """As `training.members.contract.Exportable` says."""
        from onnx import helper

        if columns != len(self.scale.means):
            raise ValueError(f"columns: trained on {len(self.scale.means)}, asked for {columns}")
        constants: dict[str, NDArray[np.float32]] = {
            "medians": self.scale.medians,
            "means": self.scale.means,
            "deviations": self.scale.deviations,
            "low": np.float32(-LIMIT),
            "high": np.float32(LIMIT),
        }
        nodes = [
            helper.make_node("IsNaN", [INPUT], ["unknown"]),
            helper.make_node("Where", ["unknown", "medians", INPUT], ["filled"]),
            helper.make_node("Sub", ["filled", "means"], ["centred"]),
            helper.make_node("Div", ["centred", "deviations"], ["scaled"]),
            helper.make_node("Clip", ["scaled", "low", "high"], ["x0"]),
        ]
        for i, (weights, bias) in enumerate(self.layers):
            last = i == len(self.layers) - 1
            constants |= {f"w{i}": weights, f"b{i}": bias + np.float32(offset) if last else bias}
            nodes += [helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"m{i}"])]
            nodes += [helper.make_node("Add", [f"m{i}", f"b{i}"], [OUTPUT if last else f"a{i}"])]
            nodes += [] if last else [helper.make_node("Relu", [f"a{i}"], [f"x{i + 1}"])]
        return graph(nodes, constants, columns)


def graph(nodes: list[Any], constants: dict[str, NDArray[np.float32]], columns: int) -> bytes:
    """An ONNX model of nodes from `features` (n, columns) to `logit` (n, 1), both float32."""
    from onnx import TensorProto, helper, numpy_helper

    made = helper.make_graph(
        nodes,
        "member",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", columns])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    operators = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(made, opset_imports=operators, ir_version=8).SerializeToString())
