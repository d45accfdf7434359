from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import pytest

from deploy import store
from ranking.blend import blend
from ranking.errors import InvalidRelease, Unavailable
from ranking.features import MODEL_COLUMNS, schema_hash
from ranking.text import SpecialTokens
from ranking.types import Surface
from ranking.variants import BF16, FP32, INT8, Parity
from tests.deploy.releases import bert_model, text_batch
from tests.training.data import ensemble_data
from training.blends.ensemble import DEFAULT, fit
from training.lists.arrays import EvalLists
from training.members.registry import UNSERVED
from training.release.draft import next_version
from training.release.policies import shipped, tail_floor
from training.release.precision import Precision
from training.release.publish import Material, publish


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder, data = tmp_path_factory.mktemp("material"), ensemble_data()
    fitted = fit({**DEFAULT, "rounds": 5, "negatives_rate": 0.5}, data, 0)
    onnx.save(bert_model(), folder / "bert.onnx")
    (folder / "tokenizer.json").write_text("{}")
    return Material(
        ensembles={Surface.ADS: fitted, Surface.SEARCH: fitted},
        sample_rows=dict.fromkeys(Surface, data.select.features[:40]),
        text_model=[Precision(FP32, folder / "bert.onnx", Parity(64, 1e-6, 1.0))],
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
    assert {m.name for m in read.members} == {"boosting_ads", "boosting_search", "bert"}
    assert read.blends[Surface.ADS].members == ("boosting_ads", "bert")
    assert read.member("boosting_ads").inputs[0].shape == (-1, len(MODEL_COLUMNS))


@pytest.fixture(scope="module")
def many(material: Material) -> Material:
    """Three members on ads, two of them of behaviour; on search one, for which the others count nothing."""
    data, config = ensemble_data(), {**DEFAULT, "rounds": 5, "negatives_rate": 0.5, "options": {"neural": {"epochs": 1}}}
    ads = fit({**config, "members": "boosting_weighted+logistic+bert", "blend": "equal"}, data, 0)
    members = "neural+bagging+lambdarank+popularity+adaboost+bm25+bert"
    weights = {"neural": 1.0, "bagging": 1.0, "lambdarank": 2.0, "popularity": 0.5, "adaboost": 0.3}
    search = fit({**config, "members": members, "blend": "weighted", "weights": weights}, data, 0)
    return replace(material, ensembles={Surface.ADS: ads, Surface.SEARCH: search})


def test_any_exportable_members_are_published_and_those_without_weight_are_not(many: Material, tmp_path: Path) -> None:
    """Every member with weight has a model of its own per surface, with its scores as golden batch; those without weight have none."""
    release = store.read(tmp_path, publish(tmp_path, many).id)
    assert release.blends[Surface.ADS].members == ("boosting_weighted_ads", "logistic_ads", "bert")
    assert release.blends[Surface.SEARCH].members == (
        "neural_search",
        "bagging_search",
        "lambdarank_search",
        "popularity_search",
        "adaboost_search",
    )
    assert len(release.members) == 3 + 5
    for surface, fitted in many.ensembles.items():
        for name in ("boosting_weighted", "logistic", "neural", "bagging", "lambdarank", "popularity", "adaboost"):
            if name in fitted.scorers and f"{name}_{surface.value}" in release.blends[surface].members:
                member = release.member(f"{name}_{surface.value}")
                want = fitted.scorers[name].logits(np.array(member.golden.inputs["features"], np.float32)) + fitted.shift(name)
                np.testing.assert_allclose(member.golden.outputs, want, atol=member.golden.atol)
    assert {m.name for m in release.members if m.explainer} == {"boosting_weighted_ads", "bagging_search", "lambdarank_search"}


def test_leaving_out_members_without_weight_changes_no_probability(many: Material, tmp_path: Path) -> None:
    """The published blend of the members that count gives what the whole ensemble gives."""
    fitted, lists = many.ensembles[Surface.SEARCH], ensemble_data().select
    published = publish(tmp_path, many).blends[Surface.SEARCH]
    kept = [i for i, w in enumerate(fitted.spec.matrix().max(axis=0)) if w > 0]
    want = fitted.blend(lists).probabilities
    np.testing.assert_allclose(blend(published, fitted.logits(lists)[kept], lists.tiers).probabilities, want, rtol=1e-12)


def test_a_member_that_cannot_be_served_is_named_before_anything_is_written(material: Material, tmp_path: Path) -> None:
    """With weight it stops the release, and the store is not even made."""
    config = {**DEFAULT, "rounds": 5, "negatives_rate": 0.5, "members": "boosting+bm25", "blend": "equal"}
    fitted = fit(config, ensemble_data(), 0)
    with pytest.raises(InvalidRelease, match=f"blends.ads: members: bm25 cannot be served: {UNSERVED['bm25']}"):
        publish(tmp_path / "store", replace(material, ensembles={Surface.ADS: fitted}))
    assert not (tmp_path / "store").exists()


def test_a_found_ranker_is_a_text_member_of_its_surface(material: Material, tmp_path: Path) -> None:
    """Each surface's is a model of its own, beside BERT where another counts it; one that left no model is named and stops the release."""
    data = ensemble_data()
    data = replace(data, **{part: _also_ranker(getattr(data, part)) for part in ("calibrate", "select")})
    config = {**DEFAULT, "rounds": 5, "negatives_rate": 0.5, "members": "boosting+ranker_0002", "blend": "equal"}
    found = replace(material, ensembles={**material.ensembles, Surface.SEARCH: fit(config, data, 0)})
    with pytest.raises(InvalidRelease, match=r"blends\.search: members: ranker_0002 cannot be served: the search that found it left no"):
        publish(tmp_path / "store", found)
    assert not (tmp_path / "store").exists()
    release = publish(tmp_path / "store", replace(found, rankers={Surface.SEARCH: {"ranker_0002": material.text_model}}))
    read = store.read(tmp_path / "store", release.id)
    assert read.blends[Surface.SEARCH].members == ("boosting_search", "ranker_0002_search")
    assert read.blends[Surface.ADS].members == ("boosting_ads", "bert")
    ranker, bert = read.member("ranker_0002_search"), read.member("bert")
    assert (ranker.kind, ranker.model, ranker.path) == ("text", "ranker_0002_search", "models/ranker_0002_search/model.onnx")
    assert ranker.golden == bert.golden  # the same file here


def test_a_surface_is_served_by_the_policy_it_was_given(material: Material, tmp_path: Path) -> None:
    """One whose floor was searched by that floor's, the other by the default."""
    chosen = tail_floor(0.4, Surface.SEARCH)
    given = replace(material, policies=(*material.policies, chosen), active={Surface.SEARCH: chosen.name})
    read = store.read(tmp_path, publish(tmp_path, given).id)
    assert read.active_policy == {Surface.ADS: "tail-floor", Surface.SEARCH: "tail-floor-search"}
    assert read.policies["tail-floor-search"] == chosen


def _also_ranker(lists: EvalLists) -> EvalLists:
    return replace(lists, given={**lists.given, "ranker_0002": lists.given["bert"]})


def test_every_release_has_its_own_version(material: Material, tmp_path: Path) -> None:
    """The next release uses the next Triton version, so both can be loaded at once."""
    assert next_version(tmp_path) == 1
    first, second = publish(tmp_path, material), publish(tmp_path, material)
    assert {m.version for m in first.members} == {1}
    assert {m.version for m in second.members} == {2}
    assert first.id != second.id


def test_a_failing_publish_leaves_nothing(material: Material, tmp_path: Path) -> None:
    """A missing model fails the publish, and the store holds no part of a release."""
    with pytest.raises(Unavailable, match=r"nothing was published: No such file or directory \(.*gone\.onnx\)"):
        publish(tmp_path, replace(material, text_model=[Precision(FP32, tmp_path / "gone.onnx", Parity(64, 1e-6, 1.0))]))
    assert list(tmp_path.iterdir()) == []


def test_unfinished_drafts_are_not_releases(material: Material, tmp_path: Path) -> None:
    """What a crash left behind neither is listed nor takes a version."""
    (tmp_path / ".publishing-0007-1").mkdir()
    release = publish(tmp_path, material)
    assert [r.id for r in store.list_releases(tmp_path)] == [release.id]
    assert [p.name for p in tmp_path.iterdir()] == [release.id]


def test_numbers_that_json_cannot_say_are_refused(material: Material, tmp_path: Path) -> None:
    """NaN in the metrics would make a manifest other readers reject."""
    with pytest.raises(ValueError, match="JSON"):
        publish(tmp_path, replace(material, metrics={"test": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_golden_scores_are_the_members_own(material: Material, tmp_path: Path) -> None:
    """The golden batch of the trees holds what LightGBM says, offset included."""
    release = publish(tmp_path, material)
    golden = release.member("boosting_ads").golden
    fitted = material.ensembles[Surface.ADS]
    rows = np.array(golden.inputs["features"], np.float32)
    want = fitted.scorers["boosting"].logits(rows) + fitted.offset
    np.testing.assert_allclose(golden.outputs, want, atol=golden.atol)


def test_the_trees_come_with_what_their_attributions_are_computed_from(material: Material, tmp_path: Path) -> None:
    """The published text has the digest the manifest says, and base + Σ attributions are the golden scores; BERT has none."""
    release = publish(tmp_path, material)
    assert release.member("bert").explainer is None
    trees = release.member("boosting_ads")
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


def test_precisions_within_their_bounds_are_published_and_others_named(material: Material, tmp_path: Path) -> None:
    """fp32 and bf16 share a file, int8 has one of its own; one beyond its bound leaves its figures in the manifest and no file."""
    plain = material.text_model[0]
    small = tmp_path / "small.onnx"
    small.write_bytes(plain.model.read_bytes())
    forms = [plain, Precision(BF16, plain.model, Parity(64, 0.02, 0.9999)), Precision(INT8, small, Parity(64, 0.05, 0.999))]
    member = store.read(tmp_path / "a", publish(tmp_path / "a", replace(material, text_model=forms)).id).member("bert")
    assert [(v.name, v.path) for v in member.variants.served] == [
        ("fp32", "models/bert/model.onnx"),
        ("bf16", "models/bert/model.onnx"),
        ("int8", "models/bert/model.int8.onnx"),
    ]
    off = Parity(64, 0.25, 0.996)
    release = publish(tmp_path / "b", replace(material, text_model=[*forms[:2], Precision(INT8, small, off)]))
    assert release.member("bert").variants.refused == {"int8": off}
    assert [p.name for p in (tmp_path / "b" / release.id / "models" / "bert").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize(
    ("parity", "message"),
    [
        (Parity(64, 0.002, 1.0), r"fp32 is off by up to 0\.002 log-odds on 64 rows, its bound is 0\.001"),
        (Parity(64, 1e-4, 0.99), r"fp32 has rank correlation 0\.99 on 64 rows, its bound is 0\.9999"),
        (Parity(64, float("inf"), 0.0), r"fp32 is off by up to inf log-odds"),
    ],
)
def test_an_export_that_is_another_model_is_not_published(material: Material, tmp_path: Path, parity: Parity, message: str) -> None:
    """Without a form that gives the trained model's scores there is no release."""
    wrong = [replace(material.text_model[0], parity=parity)]
    with pytest.raises(InvalidRelease, match=message):
        publish(tmp_path, replace(material, text_model=wrong))
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_states_how_exact_each_member_is(material: Material, tmp_path: Path) -> None:
    """Every member has its parity with the framework that trained it, on all the rows it was given and not on the golden ones alone."""
    release = store.read(tmp_path, publish(tmp_path, material).id)
    trees = release.member("boosting_ads")
    assert trees.parity is not None
    assert (trees.parity.rows, len(trees.golden.outputs)) == (40, 8)
    assert trees.parity.max_error < 1e-4
    assert release.member("bert").parity == material.text_model[0].parity
