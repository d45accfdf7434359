"""The text part of the benchmark on made-up scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.training.data import ensemble_data, lists
from training.toolbox import texts
from training.toolbox.texts import TREES


def test_text_members_stand_alone_and_beside_the_trees() -> None:
    """Every given member is a row by itself and one with the trees, with its paired gain; the truth gains, noise does not."""
    data, test = ensemble_data(), lists(np.random.default_rng(9), 60)
    rng = np.random.default_rng(1)

    def told(some):  # type: ignore[no-untyped-def]
        return replace(some, given={"bert": some.labels + rng.normal(size=len(some.labels)) / 4, "bm25": rng.normal(size=len(some.labels))})

    outcomes = texts.compare(
        "made_up", replace(data, calibrate=told(data.calibrate), select=told(data.select)), told(test), rounds=10, draws=50
    )
    assert [o.method for o in outcomes] == [TREES, "bert", "bm25", f"{TREES} + bert", f"{TREES} + bm25", f"{TREES} + all"]
    gains = {o.method: o.figure("ndcg10_gain") for o in outcomes}
    assert gains["bert"][1] > 0.0  # type: ignore[operator]
    assert gains["bm25"][2] < 0.0  # type: ignore[operator]
    assert gains[f"{TREES} + all"][1] > 0.0  # type: ignore[operator]
    assert {o.kind for o in outcomes} == {"member", "blend"}
