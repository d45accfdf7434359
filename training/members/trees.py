"""The feature ranker: boosted trees over the assembled matrix, their exact ONNX form, and the text that attributions are computed from."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.members.contract import INPUT, OUTPUT

_BINNED_KEPT = 4  # all rows and those of three folds
_binned: OrderedDict[str, Any] = OrderedDict()  # this process's latest, by digest of their rows


def train(
    features: NDArray[np.float32],
    labels: NDArray[np.int8],
    *,
    weights: NDArray[np.float32] | None = None,
    learning_rate: float = 0.05,
    leaves: int = 31,
    rounds: int = 150,
    seed: int = 0,
    threads: int = 2,
    sizes: NDArray[np.int64] | None = None,
    depth: int = 30,
    again: bool = False,
) -> Any:
    """Fit a LightGBM booster; deterministic for one seed and any number of threads.

    A small step and a floor on the leaves' Hessian: with rare positives a large step gets *worse* with more negatives,
    which under-sampling is then wrongly credited for curing.

    Args:
        features: (n, d).
        labels: (n,) 0 or 1.
        weights: (n,) row weights; default: all 1.
        learning_rate: step.
        leaves: per tree.
        rounds: trees.
        seed: of the draws of rows and columns.
        threads: of LightGBM.
        sizes: (L,) rows of each list, lists one after the other: with them the objective is lambdarank, without log loss.
        depth: lambdarank's truncation level.
        again: this process will train on the same rows again: their bins are kept for it.

    Returns:
        `lightgbm.Booster` whose thresholds are float32 values (see `_round_thresholds`), raw output = log-odds, or with `sizes` a score.
    """
    import lightgbm

    parameters: dict[str, Any] = {
        "objective": "binary",
        "learning_rate": learning_rate,
        "num_leaves": leaves,
        "min_sum_hessian_in_leaf": 2.0,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbose": -1,
    }
    if sizes is not None:
        # A list's pairs share one unit of Hessian, a row has a hundredth of what log loss gives it: the floor would forbid every split.
        parameters |= {"objective": "lambdarank", "min_sum_hessian_in_leaf": 1e-3, "lambdarank_truncation_level": depth}
    # Bins do not depend on row weights; but LightGBM makes weights of lists from them, which do not go when these do, and its `set_weight`
    # leaves the last training's where there are none.
    data = _dataset(features, labels, sizes, weights if sizes is not None else None, parameters, again=again)
    data.set_field("weight", None)
    data.set_weight(weights)
    return _round_thresholds(lightgbm.train(parameters, data, rounds))


def _dataset(
    features: NDArray[np.float32],
    labels: NDArray[np.int8],
    sizes: NDArray[np.int64] | None,
    weights: NDArray[np.float32] | None,
    parameters: Mapping[str, Any],
    *,
    again: bool,
) -> Any:
    """The rows in bins: a third of the time of a short training, and the same for every rate, size of tree and row weight.

    Where rows come again the latest are kept as long as the process, by a digest of all that bins follow from.
    """
    import lightgbm

    def made() -> Any:
        return lightgbm.Dataset(features, labels, weight=weights, group=sizes, params=dict(parameters), free_raw_data=True).construct()

    if not again:
        return made()
    found = hashlib.sha256(f"{parameters['objective']} {parameters['seed']}".encode())
    for name, array in (("features", features), ("labels", labels), ("sizes", sizes), ("weights", weights)):
        if array is not None:
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
    key = found.hexdigest()
    data = _binned.pop(key, None) or made()
    _binned[key] = data  # the latest last
    while len(_binned) > _BINNED_KEPT:
        _binned.popitem(last=False)
    return data


def predict(booster: Any, features: NDArray[np.float32], *, threads: int = 2) -> NDArray[np.float64]:
    """(n,) log-odds, before any offset."""
    return np.asarray(booster.predict(features, raw_score=True, num_threads=threads), np.float64)


def to_onnx(booster: Any, *, offset: float, columns: int) -> bytes:
    """The booster as an ONNX model: input `features` (n, columns) float32, output `logit` (n, 1) float32.

    Args:
        booster: from `train`.
        offset: added to the log-odds (undoes sampling; see `training.imbalance.resample`).
        columns: width of the input.
    """
    from onnx import helper
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    # A regression objective makes the converter emit the plain sum of leaves, which is the log-odds.
    plain = _reload(booster, lambda text: re.sub(r"^objective=.*$", "objective=regression", text, flags=re.MULTILINE))
    plain.params["objective"] = "regression"
    model = convert_lightgbm(plain, initial_types=[(INPUT, FloatTensorType([None, columns]))], target_opset=15)
    tree = next(n for n in model.graph.node if n.op_type == "TreeEnsembleRegressor")
    kept = [a for a in tree.attribute if a.name != "base_values"]
    base = sum(a.floats[0] for a in tree.attribute if a.name == "base_values")
    del tree.attribute[:]
    tree.attribute.extend([*kept, helper.make_attribute("base_values", [float(base + offset)])])
    last = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [OUTPUT if o == last else o for o in node.output]
    model.graph.output[0].name = OUTPUT
    return bytes(model.SerializeToString())


def to_text(booster: Any, *, offset: float) -> str:
    """The booster as LightGBM's text, with the offset in its leaves: its raw output is what the ONNX model gives.

    Feature attributions (`pred_contrib`) of this text sum to that log-odds, the offset being part of their base value.

    Args:
        booster: from `train`.
        offset: added to the log-odds.
    """
    shifted = _reload(booster, lambda text: text)
    for leaf in range(shifted.dump_model(num_iteration=1)["tree_info"][0]["num_leaves"]):  # every row falls into one leaf of the first tree
        shifted.set_leaf_output(0, leaf, shifted.get_leaf_output(0, leaf) + offset)
    return str(shifted.model_to_string())


def mean(boosters: Sequence[Any]) -> Any:
    """One booster of all their trees whose raw output is the mean of theirs: every leaf counts 1 / (number of boosters).

    Args:
        boosters: from `train`, on the same columns.
    """
    texts = [re.sub(r"^tree_sizes=.*\n", "", b.model_to_string(), flags=re.MULTILINE) for b in boosters]
    head, tail = texts[0].split("Tree=0\n")[0], texts[0].split("end of trees")[1]
    blocks = [block for text in texts for block in re.split(r"^Tree=\d+\n", text.split("end of trees")[0], flags=re.MULTILINE)[1:]]

    def shared(match: re.Match[str]) -> str:
        return f"{match.group(1)}=" + " ".join(repr(float(v) / len(boosters)) for v in match.group(2).split())

    body = "".join(f"Tree={i}\n{block}" for i, block in enumerate(blocks))
    body = re.sub(r"^(leaf_value|internal_value)=(.*)$", shared, body, flags=re.MULTILINE)
    return _read(f"{head}{body}end of trees{tail}")


def _round_thresholds(booster: Any) -> Any:
    """Lower every split threshold to the next float32, which changes no prediction on float32 input.

    LightGBM splits at float64 midpoints and ONNX at float32 ones; rounding to nearest can move a threshold past a value
    that occurs, and that row takes the other branch. For float32 x: x <= t exactly when x <= floor32(t).
    """

    def lower(match: re.Match[str]) -> str:
        return "threshold=" + " ".join(repr(float(floor32(float(t)))) for t in match.group(1).split())

    return _reload(booster, lambda text: re.sub(r"^threshold=(.*)$", lower, text, flags=re.MULTILINE))


def floor32(value: float) -> np.float32:
    """The largest float32 that is not above a value."""
    nearest = np.float32(value)
    return nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-np.inf))


def _reload(booster: Any, edit: Any) -> Any:
    return _read(edit(booster.model_to_string()))


def _read(text: str) -> Any:
    import lightgbm

    # The header's byte counts of the trees no longer fit the edited text; without them LightGBM parses by line.
    return lightgbm.Booster(model_str=re.sub(r"^tree_sizes=.*\n", "", text, flags=re.MULTILINE))
