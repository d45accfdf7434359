"""What a Triton serves, asked in the terms of the tests' two-member releases."""

from __future__ import annotations

import time

import numpy as np

from deploy.triton.client import TritonClient
from tests.deploy.releases import (
    bert_logits,
    features_batch,
    text_batch,
    trees_logits,
)


def score(address: str, version: int, n: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Both members' outputs, (n,), on a pinned version for the same batch of n."""
    with TritonClient(address) as client:
        trees = client.infer("trees", version, {"features": features_batch(n, seed=1)}, "logit")
        return trees.reshape(-1), client.infer("bert", version, text_batch(n, seed=1), "logit").reshape(-1)


def expected(bias: float, n: int = 50) -> tuple[np.ndarray, np.ndarray]:
    return trees_logits(features_batch(n, seed=1), bias), bert_logits(text_batch(n, seed=1), bias)


def assert_serves(address: str, version: int, bias: float) -> None:
    for got, want in zip(score(address, version), expected(bias), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def ready(address: str) -> set[tuple[str, int]]:
    """Versions that are ready, once nothing is on its way in or out any more."""
    with TritonClient(address) as client:
        while any(seen.state in ("LOADING", "UNLOADING") for seen in client.index().values()):
            time.sleep(0.05)
        return {version for version, seen in client.index().items() if seen.state == "READY"}


def both(*versions: int) -> set[tuple[str, int]]:
    return {(model, version) for model in ("trees", "bert") for version in versions}
