from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.bert.tiny_bert import SPECIAL, pairs, tiny
from tests.training.data import ensemble_data
from training.bert.data import Pairs
from training.bert.masked import ADAPTATIONS
from training.members.registry import UNSERVED
from training.search.choices import Choices
from training.search.fine_tune import Rankers
from training.search.kept import ARRAYS, MANIFEST, cosines, keep, read, with_member_scores, with_members
from training.search.stages import with_rankers
from training.search.texts import Part, TextData, digest_of, load_texts, save_texts

FAST = {"learning_rate": 2e-3, "epochs": 2, "loss": "list", "length": 8}


def text_data(lists: int = 16) -> TextData:
    """Lists of three; the parts have a row and a list without text."""
    made = pairs(lists, click="")
    part = pairs(4, seed=1, click="")
    first = [*part.first[::3][:-1], np.empty(0, np.int64)]
    second = [np.empty(0, np.int64), *part.second[1:]]
    scored = Part(first, second, part.offsets)
    return TextData(made, np.arange(lists) // 2, {"calibrate": scored, "select": scored})


RANKERS = Rankers(tiny, SPECIAL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[dict[str, float], bool]]]:
    folder = tmp_path_factory.mktemp("whole") / "0000"
    return folder, list(RANKERS(FAST, text_data(), 0, folder, 0))


def test_a_trial_reports_each_epoch_and_leaves_its_scores(whole: tuple[Path, list[tuple[dict[str, float], bool]]]) -> None:
    """Two epochs, two reports, the second the last; scores of every training pair, of the parts where there is text, no checkpoints."""
    folder, reported = whole
    assert [last for _, last in reported] == [False, True]
    assert all(0.0 < metrics["ndcg10"] <= 1.0 for metrics, _ in reported)
    kept, data = read(folder), text_data()
    assert kept.manifest["metrics"] == reported[-1][0]
    assert kept.manifest["data"] == digest_of(data)
    assert np.isfinite(kept.arrays["scores.train"]).all()
    assert np.isnan(kept.arrays["scores.select"]).tolist() == [True, *[False] * 8, *[True] * 3]
    assert kept.arrays["texts.select"][0] == -1
    folds, distinct, width = kept.arrays["embeddings"].shape
    assert (folds, width) == (2, 32)
    assert kept.arrays["texts.train"].max() < distinct
    assert kept.arrays["queries.select"].tolist()[-1] == -1
    assert sorted(p.name for p in folder.iterdir()) == [ARRAYS, MANIFEST, "model-0.pt", "model-1.pt"]


def test_every_pair_is_scored_by_a_model_that_has_not_seen_its_asker(tmp_path: Path) -> None:
    """Other labels of one asker's lists change everybody's scores but those of the fold the asker is in."""
    data = text_data()
    changed = data.train.labels["click"].copy()
    changed[:6] = np.roll(changed[:6], 1)  # of asker 0, whose two lists come first
    other = TextData(Pairs(data.train.first, data.train.second, {"click": changed}, data.train.offsets), data.askers, {})
    found = []
    for name, one in (("a", data), ("b", other)):
        list(RANKERS(FAST, one, 0, tmp_path / name, 0))
        found.append(read(tmp_path / name).arrays)
    fold = found[0]["fold.train"]
    same = found[0]["scores.train"] == found[1]["scores.train"]
    assert same[fold == fold[0]].all()
    assert not same[fold != fold[0]].any()


def test_a_trial_that_died_ends_as_one_that_did_not(whole: tuple[Path, list[tuple[dict[str, float], bool]]], tmp_path: Path) -> None:
    """Killed after its first report, with a half-written checkpoint of the second epoch: the rest is the same to the bit."""
    folder = tmp_path / "0000"
    running = RANKERS(FAST, text_data(), 0, folder, 0)
    first = next(running)
    running.close()
    at = int(next((folder / "fold-0").glob("checkpoint-*")).name.removeprefix("checkpoint-"))
    (folder / "fold-0" / f"checkpoint-{2 * at}").mkdir()
    rest = list(RANKERS(FAST, text_data(), 0, folder, 1))
    assert [first, *rest] == whole[1]
    np.testing.assert_array_equal(read(folder).arrays["scores.train"], read(whole[0]).arrays["scores.train"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"loss": "hinge"}, "loss: 'hinge' is not known; known: bce, focal, list"),
        ({"method": "prompt"}, "method: 'prompt' is not known; known: full"),
        ({"adaptation": "prefix"}, "adaptation: 'prefix' is not known; known: none, masked"),
        ({"lenght": 8}, "lenght: unknown; known: learning_rate"),
        ({"epochs": 0}, "epochs: must be from 1 to 100, got 0"),
        ({"negatives_rate": 0.0}, "negatives_rate: must be above 0 and at most 1, got 0.0"),
    ],
)
def test_configurations_that_cannot_be_are_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The key is named, before anything is read."""
    with pytest.raises(ValueError, match=message):
        next(RANKERS(config, text_data(), 0, tmp_path / "x", 0))


@pytest.mark.parametrize(
    "config", [{"method": "lora", "rank": 2, "loss": "focal"}, {"method": "adalora", "rank": 2, "negatives_rate": 0.5}]
)
def test_other_ways_of_tuning_are_trials_too(config: dict[str, Any], tmp_path: Path) -> None:
    """Low-rank additions of a given rank, a focal loss, half of the negatives: the trial ends with its scores."""
    reported = list(RANKERS({**FAST, "epochs": 1, **config}, text_data(), 0, tmp_path / "x", 0))
    assert [last for _, last in reported] == [True]
    assert np.isfinite(read(tmp_path / "x").arrays["scores.train"]).all()


def test_the_encoder_may_read_the_items_first(whole: tuple[Path, list[tuple[dict[str, float], bool]]], tmp_path: Path) -> None:
    """As a masked language model, once per fold and before any label: other models than without, and the same ones after a restart."""
    config = {**FAST, "adaptation": "masked"}
    straight = list(RANKERS(config, text_data(), 0, tmp_path / "straight", 0))
    running = RANKERS(config, text_data(), 0, tmp_path / "died", 0)
    first = next(running)
    running.close()
    assert [first, *RANKERS(config, text_data(), 0, tmp_path / "died", 1)] == straight
    scores = [read(folder).arrays["scores.train"] for folder in (whole[0], tmp_path / "straight", tmp_path / "died")]
    np.testing.assert_array_equal(scores[1], scores[2])
    assert not (scores[0] == scores[1]).any()


def test_items_without_a_word_leave_the_encoder_as_it_is(tmp_path: Path) -> None:
    """There is nothing to read first, and that is no error."""
    encoder, untouched = tiny(), tiny()
    ADAPTATIONS["masked"](encoder, [np.empty(0, np.int64)] * 3, SPECIAL, tmp_path, 0)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), untouched.parameters(), strict=True))


def test_texts_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Every text, label and boundary; a damaged file and another stage's are refused by path."""
    data = text_data()
    save_texts(tmp_path / "texts.npz", data)
    again = load_texts(tmp_path / "texts.npz")
    assert digest_of(again) == digest_of(data)
    assert [t.tolist() for t in again.parts["select"].second] == [t.tolist() for t in data.parts["select"].second]
    (tmp_path / "cut.npz").write_bytes((tmp_path / "texts.npz").read_bytes()[:500])
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name in ("cut", "other"):
        with pytest.raises(ValueError, match=rf"{name}\.npz: holds no texts of lists, or is damaged"):
            load_texts(tmp_path / f"{name}.npz")


def test_an_artefact_that_was_changed_is_refused(whole: tuple[Path, list[tuple[dict[str, float], bool]]], tmp_path: Path) -> None:
    """One byte of the arrays, or no manifest, and it is none."""
    shutil.copytree(whole[0], tmp_path / "0000")
    content = bytearray((tmp_path / "0000" / ARRAYS).read_bytes())
    content[200] ^= 1
    (tmp_path / "0000" / ARRAYS).write_bytes(content)
    with pytest.raises(ValueError, match=r"arrays\.npz: damaged, its digest is not the manifest's"):
        read(tmp_path / "0000")
    (tmp_path / "0000" / MANIFEST).unlink()
    with pytest.raises(FileNotFoundError, match="holds no ranker's scores"):
        read(tmp_path / "0000")


def test_kept_vectors_become_members(whole: tuple[Path, list[tuple[dict[str, float], bool]]], tmp_path: Path) -> None:
    """The cosine of a row's item and its list's first text, each encoder's on average, unknown where one has no text; what older searches
    left has no place of first texts, and gives no such member.
    """
    one, two, even = [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]
    arrays = {
        "embeddings": np.array([[one, two, even], [one, even, two]], np.float16),
        "texts.select": np.array([0, -1, 1, 2, 0], np.int32),
        "queries.select": np.array([0, 2, -1], np.int32),
    }
    found = cosines(arrays, "select", np.array([0, 2, 4, 5]))
    want = [1.0, np.nan, 0.8, 1.0, np.nan]  # (0.8 + 0.8) / 2: the second fold has the two swapped
    np.testing.assert_allclose(found, want, atol=1e-3)
    real, part = read(whole[0]), text_data().parts["select"]
    lists = replace(ensemble_data(rows=100).select.lists(np.arange(4)), labels=np.zeros(12, np.int8), offsets=part.offsets)
    given = with_member_scores(lists, "select", {"0003": real}).given
    assert np.isnan(given["vectors_0003"]).tolist() == np.isnan(given["ranker_0003"]).tolist()
    assert np.nanmax(np.abs(given["vectors_0003"])) <= 1.0 + 1e-3
    older = {name: array for name, array in real.arrays.items() if not name.startswith("queries.")}
    assert "vectors_0003" not in with_member_scores(lists, "select", {"0003": replace(real, arrays=older)}).given


def test_kept_vectors_are_tried_by_name_and_compared_only() -> None:
    """`vectors` in an ensemble's name are each found ranker's; a search whose winner is to be served refuses them, and says why."""
    named = with_rankers(("boosting+bert", "boosting+bert+vectors", "logistic+vectors"), ("0003", "0001"))
    assert named == (
        "boosting+bert",
        "boosting+ranker_0003",
        "boosting+ranker_0001",
        "boosting+bert+vectors_0003",
        "boosting+ranker_0003+vectors_0003",
        "boosting+bert+vectors_0001",
        "boosting+ranker_0001+vectors_0001",
        "logistic+vectors_0003",
        "logistic+vectors_0001",
    )
    with pytest.raises(ValueError, match=rf"members: vectors_0003 cannot be served: {UNSERVED['bi_encoder']}; a search that is to compare"):
        Choices(members=named).check_servable()


def test_kept_scores_become_members(tmp_path: Path) -> None:
    """A ranker's scores of the ensemble's lists are given scores like BERT's; those of other lists are refused."""
    data = ensemble_data(rows=100)
    n = len(data.select.labels)
    keep(tmp_path / "0001", {}, {"scores.calibrate": np.arange(n), "scores.select": -np.arange(n)})
    both = with_members(data, {"0001": read(tmp_path / "0001")})
    assert both.select.given["ranker_0001"].tolist() == (-np.arange(n)).tolist()
    assert set(both.calibrate.given) == {*data.calibrate.given, "ranker_0001"}
    assert json.loads((tmp_path / "0001" / MANIFEST).read_text())["arrays"]["scores.select"] == ["int64", n]
    keep(tmp_path / "0002", {}, {"scores.calibrate": np.arange(n), "scores.select": np.arange(3)})
    with pytest.raises(ValueError, match="rankers: 0002 has 3 scores of select, whose lists have 1200 rows; it read other data"):
        with_members(data, {"0002": read(tmp_path / "0002")})
