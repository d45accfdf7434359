"""Rules that train nothing: one or a few columns of the models' input row, put on a logarithmic scale where they are rates or counts.

Columns are looked up by name when a rule is asked for, so that a rule and the schema can change apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranking.features import MODEL_COLUMNS
from training.members.contract import INPUT, OUTPUT, Rows
from training.members.dense import graph

_LEAST = 1e-6  # of a rate: what was never seen to happen gets a finite logarithm


@dataclass(frozen=True, slots=True)
class Rule:
    """A scorer: Σ w_c · column c, its logarithm where the columns are rates; an unknown value counts 0."""

    weights: NDArray[np.float32]  # (d,) over the model's columns
    logarithm: bool
    log_odds: bool = False

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) scores of (n, d) rows."""
        if features.shape[1] != len(self.weights):
            raise ValueError(f"features: a rule reads the {len(self.weights)} columns of the models' input row, got {features.shape[1]}")
        value = (np.where(np.isnan(features), np.float32(0.0), features) @ self.weights).astype(np.float64)
        return np.log(np.maximum(value, _LEAST)) if self.logarithm else value

    def to_onnx(self, *, offset: float, columns: int) -> bytes:
        """As `training.members.contract.Exportable` says."""
        from onnx import helper

        constants = {"weights": self.weights[:, None], "zero": np.float32(0.0), "least": np.float32(_LEAST), "offset": np.float32(offset)}
        nodes = [
            helper.make_node("IsNaN", [INPUT], ["unknown"]),
            helper.make_node("Where", ["unknown", "zero", INPUT], ["filled"]),
            helper.make_node("MatMul", ["filled", "weights"], ["value"]),
            helper.make_node("Max", ["value", "least"], ["positive"]),
            helper.make_node("Log", ["positive"], ["logarithm"]),
            helper.make_node("Add", ["logarithm" if self.logarithm else "value", "offset"], [OUTPUT]),
        ]
        return graph(nodes if self.logarithm else [*nodes[:3], nodes[-1]], constants, columns)


def popularity(rows: Rows, *, seed: int, threads: int) -> Rule:
    """How often the item was bought when promoted, `promo_rate_28d`: the same for every user."""
    return _rule("popularity", {"promo_rate_28d": 1.0}, rows)


def repeat_purchase(rows: Rows, *, seed: int, threads: int) -> Rule:
    """How often this user bought this very item, `repeat_share`; among items never bought, the more popular ones."""
    return _rule("repeat_purchase", {"repeat_share": 1.0, "promo_rate_28d": 1e-3}, rows)


def interest_score(rows: Rows, *, seed: int, threads: int) -> Rule:
    """p_ui = Σ_h s(h, i) · n_uh over what user u bought, with two kinds of likeness: the same item and the same category.

    With n_uh the purchases of h in shares of the user's, Σ over items of i's category is `category_share`, and h = i is
    `repeat_share` (per basket): p_ui = category_share + repeat_share, plus 0.001 of the item's popularity to part equals.
    """
    return _rule("interest_score", {"category_share": 1.0, "repeat_share": 1.0, "promo_rate_28d": 1e-3}, rows)


def discovery(rows: Rows, *, seed: int, threads: int) -> Rule:
    """The column `discovery`: how well the item goes with what the user buys, whether or not the user ever bought it."""
    return _rule("discovery", {"discovery": 1.0}, rows, logarithm=False)


def _rule(name: str, columns: dict[str, float], rows: Rows, *, logarithm: bool = True) -> Rule:
    absent = [c for c in columns if c not in MODEL_COLUMNS]
    if absent:
        raise ValueError(f"{name}: the models' input row has no column {absent[0]!r}")
    if rows.features.shape[1] != len(MODEL_COLUMNS):
        raise ValueError(f"{name}: reads the {len(MODEL_COLUMNS)} columns of the models' input row, got {rows.features.shape[1]}")
    weights = np.zeros(len(MODEL_COLUMNS), np.float32)
    for column, weight in columns.items():
        weights[MODEL_COLUMNS.index(column)] = weight
    return Rule(weights, logarithm)
