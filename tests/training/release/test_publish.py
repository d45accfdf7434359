from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import pytest

from deploy import store
from ranking.errors import InvalidRelease
from ranking.features import MODEL_COLUMNS, schema_hash
from ranking.text import SpecialTokens
from ranking.types import Surface
from tests.deploy.releases import bert_model, text_batch
from tests.training.data import ensemble_data
from training.blends.ensemble import DEFAULT, fit
from training.release.policies import shipped
from training.release.publish import Material, next_version, publish


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder, data = tmp_path_factory.mktemp("material"), ensemble_data()
    fitted = fit({**DEFAULT, "rounds": 5, "negatives_rate": 0.5}, data, 0)
    onnx.save(bert_model(), folder / "bert.onnx")
    (folder / "tokenizer.json").write_text("{}")
    return Material(
        ensembles={Surface.ADS: fitted, Surface.SEARCH: fitted},
        sample_rows=dict.fromkeys(Surface, data.select.features[:4]),
        text_model=folder / "bert.onnx",
        sample_pairs=text_batch(4),
        tokenizer=folder / "tokenizer.json",
        special=SpecialTokens(2, 3, 0),
        lineage={"code_revision": "abc"},
        metrics={"test": {}},
        policies=shipped({Surface.ADS: 300.0, Surface.SEARCH: 0.01}),
    )


def test_a_published_release_is_whole(material: Material, tmp_path: Path) -> None:
    """What training publishes, the release store reads with every digest right."""
    release = publish(tmp_path, material)
    read = store.read(tmp_path, release.id)
    assert read.to_json() == release.to_json()
    assert read.feature_schema_hash == schema_hash()
    assert {m.name for m in read.members} == {"trees_ads", "trees_search", "bert"}
    assert read.blends[Surface.ADS].members == ("trees_ads", "bert")
    assert read.member("trees_ads").inputs[0].shape == (-1, len(MODEL_COLUMNS))


def test_every_release_has_its_own_version(material: Material, tmp_path: Path) -> None:
    """The next release uses the next Triton version, so both can be loaded at once."""
    assert next_version(tmp_path) == 1
    first, second = publish(tmp_path, material), publish(tmp_path, material)
    assert {m.version for m in first.members} == {1}
    assert {m.version for m in second.members} == {2}
    assert first.id != second.id


def test_a_failing_publish_leaves_nothing(material: Material, tmp_path: Path) -> None:
    """A missing model fails the publish, and the store holds no part of a release."""
    with pytest.raises(FileNotFoundError):
        publish(tmp_path, replace(material, text_model=tmp_path / "gone.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_unfinished_drafts_are_not_releases(material: Material, tmp_path: Path) -> None:
    """What a crash left behind neither is listed nor takes a version."""
    (tmp_path / ".publishing-0007-1").mkdir()
    release = publish(tmp_path, material)
    assert [r.id for r in store.list_releases(tmp_path)] == [release.id]


def test_numbers_that_json_cannot_say_are_refused(material: Material, tmp_path: Path) -> None:
    """NaN in the metrics would make a manifest other readers reject."""
    with pytest.raises(ValueError, match="JSON"):
        publish(tmp_path, replace(material, metrics={"test": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_golden_scores_are_the_members_own(material: Material, tmp_path: Path) -> None:
    """The golden batch of the trees holds what LightGBM says, offset included."""
    release = publish(tmp_path, material)
    golden = release.member("trees_ads").golden
    fitted = material.ensembles[Surface.ADS]
    rows = np.array(golden.inputs["features"], np.float32)
    want = fitted.booster.predict(rows, raw_score=True) + fitted.offset
    np.testing.assert_allclose(golden.outputs, want, atol=golden.atol)


def test_the_trees_come_with_what_their_attributions_are_computed_from(material: Material, tmp_path: Path) -> None:
    """The published text has the digest the manifest says, and base + Σ attributions are the golden scores; BERT has none."""
    release = publish(tmp_path, material)
    assert release.member("bert").explainer is None
    trees = release.member("trees_ads")
    assert trees.explainer is not None
    content = (tmp_path / release.id / trees.explainer.path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == trees.explainer.sha256
    rows = np.array(trees.golden.inputs["features"], np.float32)
    parts = lightgbm.Booster(model_str=content.decode()).predict(rows, pred_contrib=True)
    assert parts.shape == (len(rows), len(MODEL_COLUMNS) + 1)
    np.testing.assert_allclose(parts.sum(axis=1), trees.golden.outputs, atol=trees.golden.atol)


def test_a_manifest_that_does_not_read_back_is_not_published(material: Material, tmp_path: Path) -> None:
    """A blend that names no policy would be refused by every reader, so it never gets a name."""
    with pytest.raises((InvalidRelease, ValueError)):
        publish(tmp_path, replace(material, ensembles={}))
    assert [p for p in tmp_path.iterdir() if (p / "release.json").exists()] == []
