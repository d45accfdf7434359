"""Variants: what is written comes back, and what strays too far is refused by name and figure, wherever it turns up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ranking.errors import InvalidRelease
from ranking.release import Release
from ranking.variants import BOUNDS, Parity, Variant, Variants, beyond, parity
from tests.ranking.builders import manifest


def _with(variants: Any) -> dict[str, Any]:
    data = manifest()
    data["members"][1]["variants"] = variants
    return data


def _said(**served: Parity) -> dict[str, Any]:
    return Variants(tuple(Variant(name, "models/bert/model.onnx", "0" * 64, p) for name, p in served.items())).to_json()


def test_variants_and_parity_survive_the_round_trip() -> None:
    """JSON → Release → JSON is the identity with variants in it; a manifest without them has none, as it always was."""
    data = _with(_said(fp32=Parity(256, 1e-6, 1.0), bf16=Parity(256, 0.02, 0.9999)))
    data["members"][1]["variants"]["refused"] = {"int8": {"rows": 256, "max_error": 0.25, "rank_correlation": 0.9965}}
    data["members"][0]["parity"] = {"rows": 2000, "max_error": 1e-6, "rank_correlation": 1.0}
    release = Release.from_json(data)
    assert release.to_json() == data
    assert [v.name for v in release.member("bert").variants.served] == ["fp32", "bf16"]
    assert release.member("behaviour").parity == Parity(2000, 1e-6, 1.0)
    old = Release.from_json(manifest())
    assert (old.member("bert").variants, old.member("bert").parity) == (Variants(), None)


def test_variants_of_a_later_version_say_nothing() -> None:
    """A reader that does not know them serves the member as it always was."""
    assert Release.from_json(_with({"version": 2, "anything": True})).member("bert").variants == Variants()


@pytest.mark.parametrize("name", BOUNDS)
def test_a_variant_beyond_its_bound_is_refused_by_name_and_figure(name: str) -> None:
    """At the bound it is served; beyond it, in error or in order, the manifest is no manifest."""
    bound = BOUNDS[name]
    Release.from_json(_with(_said(**{name: Parity(256, bound.max_error, bound.rank_correlation)})))
    worse = Parity(256, 1.5 * bound.max_error, 1.0)
    with pytest.raises(InvalidRelease, match=f"is off by up to {worse.max_error:.3g} log-odds on 256 rows, its bound is") as caught:
        Release.from_json(_with(_said(**{name: worse})))
    assert caught.value.key == f"members[1].variants.{name}"
    with pytest.raises(InvalidRelease, match=r"has rank correlation 0\.9 on 256 rows"):
        Release.from_json(_with(_said(**{name: Parity(256, 0.0, 0.9)})))


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], r"variants: variants: must be an object"),
        ({"served": []}, r"variants.version: is missing"),
        ({"version": 1, "served": [], "refused": {}}, r"need at least one"),
        ({"version": 1, "served": [{"path": "m"}], "refused": {}}, r"variants.name: is missing"),
        ({"version": 1, "served": [{"name": "fp8"}], "refused": {}}, r"'fp8' is not one of fp32, bf16, int8"),
        ({"version": 1, "served": [{"name": "fp32", "path": "../m", "sha256": "0"}], "refused": {}}, r"path: must stay inside"),
    ],
)
def test_malformed_variants_are_refused_by_key(variants: Any, message: str) -> None:
    """What cannot be read is named with its full key."""
    with pytest.raises(InvalidRelease, match=r"members\[1\]\." + message if message.startswith("var") else message):
        Release.from_json(_with(variants))


def test_parity_is_the_largest_error_and_the_correlation_of_ranks() -> None:
    """Off by .5 in one place and in another order: Spearman of (1, 2, 3) against (1, 3, 2) is 1 − 6·2 / (3·8) = .5."""
    found = parity(np.array([1.0, 3.5, 3.0]), np.array([1.0, 3.0, 4.0]))
    assert found == Parity(3, 1.0, pytest.approx(1 - 6 * 2 / (3 * (9 - 1))))


def test_ties_share_their_rank() -> None:
    """Equal scores are neither right nor wrong in order; all equal is all right."""
    assert parity(np.ones(4), np.ones(4)) == Parity(4, 0.0, 1.0)
    found = parity(np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.0, 2.0]))
    assert found.rank_correlation == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_none_are_beyond_every_bound(wrong: float) -> None:
    """A model that gives no number is no variant of anything."""
    found = parity(np.array([1.0, wrong]), np.array([1.0, 2.0]))
    assert all(beyond(found, bound) for bound in BOUNDS.values())
