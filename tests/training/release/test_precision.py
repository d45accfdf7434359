"""A ranker in every precision: files, what each loses against torch on the same pairs, and the refusal of what is another model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from ranking.errors import InvalidRelease
from ranking.text import PAIR_INPUTS, SpecialTokens, pair_tensors
from ranking.variants import BOUNDS
from tests.deploy.releases import bert_model
from training.bert import encoder
from training.members.bert import PairRanker
from training.release import precision

SPECIAL = SpecialTokens(101, 102, 0)


@pytest.fixture(scope="module")
def ranker() -> PairRanker:
    """Two layers of width 32 with random weights."""
    made = encoder.untrained(seed=0, num_hidden_layers=2, hidden_size=32, num_attention_heads=2, intermediate_size=64)
    return PairRanker(made, 32).eval()


@pytest.fixture(scope="module")
def pairs() -> dict[str, np.ndarray]:
    """Of three lists, one of which has no first text; one item has none either."""
    rng = np.random.default_rng(0)
    first = (rng.integers(1000, 2000, 3), np.empty(0, np.int64), rng.integers(1000, 2000, 5))
    tokens = rng.integers(1000, 2000, (90, 6)).astype(np.int32)
    digests = np.arange(90)  # the first item's is 0: it has no text
    return precision.sample(first, np.array([0, 30, 60, 90]), tokens, digests, SPECIAL, seed=1)


def test_pairs_are_what_serving_would_frame(pairs: dict[str, np.ndarray]) -> None:
    """Every pair with two texts is drawn once, framed by the function the gateway calls."""
    assert {name: t.shape for name, t in pairs.items()} == dict.fromkeys(PAIR_INPUTS, (59, 14))
    assert pairs["attention_mask"].any(axis=1).all()
    row = {name: t[0][pairs["attention_mask"][0] == 1] for name, t in pairs.items()}
    query, item = (row["input_ids"][row["token_type_ids"] == side] for side in (0, 1))
    framed = pair_tensors(query[1:-1], item[None, :-1].astype(np.int32), SPECIAL)
    for name in PAIR_INPUTS:
        np.testing.assert_array_equal(framed[name][0], row[name])


def test_lists_without_texts_are_nothing_to_measure_on() -> None:
    """Parity is stated on real pairs or not at all."""
    with pytest.raises(ValueError, match="lists: none has both"):
        precision.sample((np.empty(0, np.int64),), np.array([0, 1]), np.ones((1, 2), np.int32), np.ones(1, np.int64), SPECIAL, seed=0)


def test_every_precision_is_made_and_measured(ranker: PairRanker, pairs: dict[str, np.ndarray], tmp_path: Path) -> None:
    """fp32 is torch's model; the others lose something, are in order, and what is read back is what was said."""
    made = {p.name: p for p in precision.export_all(ranker, tmp_path, pairs)}
    assert list(made) == ["fp32", "bf16", "int8"]
    assert made["fp32"].parity.rows == 59
    assert made["fp32"].parity.max_error < 1e-4
    assert made["fp32"].parity.max_error < made["bf16"].parity.max_error
    assert made["fp32"].model == made["bf16"].model
    assert made["int8"].model.stat().st_size < made["fp32"].model.stat().st_size
    assert [p.problem == "" for p in made.values()][:2] == [True, True]
    assert (made["int8"].problem == "") == (made["int8"].parity.max_error <= BOUNDS["int8"].max_error)
    assert precision.read(tmp_path) == tuple(made.values())
    scores = precision.run(made["int8"].model, pairs)
    assert scores.shape == (59,)
    assert np.isfinite(scores).all()


def test_an_export_of_another_model_is_refused(
    ranker: PairRanker, pairs: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fp32 beyond its bound ends the export, by name and figure: nothing could be served."""
    monkeypatch.setattr(precision, "export", lambda _, path: onnx.save(bert_model(), path))
    with pytest.raises(InvalidRelease, match=r"model\.onnx: fp32 is off by up to .* log-odds on 59 rows, its bound is 0\.001"):
        precision.export_all(ranker, tmp_path, pairs)
