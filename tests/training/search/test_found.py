"""What a release takes of a finished search: its trials, its rankers' scores, and their models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ranking.text import PAIR_INPUTS, pair_tensors
from tests.training.bert.tiny_bert import SPECIAL, tiny
from tests.training.data import ensemble_data
from tests.training.search.test_fine_tune import FAST, text_data
from training.artefacts import digest, write_json
from training.bert.data import frame
from training.blends.ensemble import DEFAULT
from training.search import found
from training.search.bagged import Bagged, shortened
from training.search.fine_tune import Rankers
from training.search.kept import keep, read


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Runs a ranker's trial and gives the folder of what it kept."""

    def run(**config: Any) -> Path:
        folder = tmp_path_factory.mktemp("trial") / "0000"
        list(Rankers(tiny, SPECIAL)({**FAST, "epochs": 1, **config}, text_data(), 0, folder, 0))
        return folder

    return run


def _scores(model: Bagged) -> np.ndarray:
    """Of the part `select`, row by row, as serving frames pairs; NaN without text."""
    part = text_data().parts["select"]
    out, rows = np.full(len(part.second), np.nan), part.readable()
    framed = frame([part.first[i] for i in part.lists_of(rows)], [part.second[i] for i in rows], SPECIAL)
    with torch.no_grad():
        out[rows] = model(*(framed[name] for name in PAIR_INPUTS))["logits"].numpy()
    return out


@pytest.mark.parametrize(
    "config",
    [{}, {"method": "lora", "rank": 2}, {"method": "adapters", "rank": 2}, {"method": "ia3"}, {"length": 3}],
    ids=lambda config: "-".join(map(str, config.values())) or "full",
)
def test_the_model_gives_the_scores_that_were_kept(config: Mapping[str, Any], trial: Callable[..., Path]) -> None:
    """However it was tuned, and where training cut items to three tokens, whole items given: the mean of the folds' models."""
    folder = trial(**config)
    model = found.model_of(folder, tiny, SPECIAL.sep)
    np.testing.assert_allclose(_scores(model), read(folder).arrays["scores.select"], atol=1e-5)


def test_a_pair_is_shortened_as_if_its_item_had_been() -> None:
    """For every length the tokens that are left, unmasked, are those of a pair framed of the shorter item."""
    query, item = np.array([7, 8]), np.array([[11, 12, 13, 14, 15], [21, 22, 0, 0, 0]], np.int32)
    whole = [torch.from_numpy(pair_tensors(query, item, SPECIAL)[name]) for name in PAIR_INPUTS]
    for length in range(1, 8):
        want = pair_tensors(query, item[:, :length], SPECIAL)
        ids, mask, types = (t.numpy() for t in shortened(*whole, length, SPECIAL.sep))
        for row in range(2):
            seen, framed = mask[row] == 1, want["attention_mask"][row] == 1
            assert ids[row][seen].tolist() == want["input_ids"][row][framed].tolist()
            assert types[row][seen].tolist() == want["token_type_ids"][row][framed].tolist()
            assert not types[row][~seen].any()


def test_a_model_that_is_not_what_was_kept_is_refused(trial: Callable[..., Path]) -> None:
    """One byte changed, or a file gone: the path is named."""
    folder = trial()
    file = folder / "model-1.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model-1\.pt: damaged"):
        found.model_of(folder, tiny, SPECIAL.sep)
    file.unlink()
    with pytest.raises(ValueError, match=r"model-1\.pt: not there"):
        found.model_of(folder, tiny, SPECIAL.sep)


def _search(path: Path) -> Path:
    """A finished search of two stages that could choose either of two rankers, and whose second trial has one for a member."""
    data = ensemble_data(rows=100)
    scores = {f"scores.{part}": np.zeros(len(data.select.labels)) for part in ("calibrate", "select", "test")}
    for ranker in ("0001", "0002"):
        keep(path / "rankers" / "work" / ranker, {}, scores)
    rows = [{"trial": f"000{i}", "config": {**DEFAULT, "members": m}} for i, m in enumerate(("boosting+bert", "boosting+ranker_0002"))]
    write_json(path / "ensemble" / "result.json", {"name": "ensemble", "best_trial": "0001", "trials": rows})
    asked = {"members": ["boosting+bert", "boosting+ranker_0001", "boosting+ranker_0002"]}
    write_json(path / "ensemble" / "asked.json", asked)
    write_json(path / "ensemble" / "asked.json", asked | {"data": digest(found.at(path).data(data))})
    return path


def test_a_search_is_taken_with_the_rankers_its_ensembles_could_name(tmp_path: Path) -> None:
    """All of them, though no trial came by one: its scores were in the data. Written down and read back alike; other data are refused."""
    path, data = _search(tmp_path / "demo"), ensemble_data(rows=100)
    search = found.at(path)
    assert (search.name, search.best_trial, set(search.rankers)) == ("demo", "0001", {"0001", "0002"})
    assert found.Found.from_json(json.loads(json.dumps(search.to_json()))) == search
    assert set(search.data(data).select.given) == {"bert", "bm25", "ranker_0001", "ranker_0002"}
    assert "ranker_0002" in search.lists(data.select, "test").given
    with pytest.raises(ValueError, match="rankers: 0001 has no scores of week, whose lists"):
        search.lists(data.select, "week")
    found.check_data(path, search, data)
    with pytest.raises(ValueError, match=r"search: .*demo searched the data \w{12}, a release is made of \w{12} here"):
        found.check_data(path, search, ensemble_data(seed=1, rows=100))


def test_a_search_is_known_by_what_it_found(tmp_path: Path) -> None:
    """Another result, or another artefact of a ranker it names, is another search."""
    path = _search(tmp_path / "demo")
    before = found.identity(path)
    assert found.identity(path) == before
    keep(path / "rankers" / "work" / "0002", {"trial": "again"}, {"scores.select": np.ones(3)})
    assert found.identity(path) != before


def test_what_is_no_finished_search_is_named(tmp_path: Path) -> None:
    """An empty folder holds none; a search of ensembles alone is one, without rankers."""
    with pytest.raises(FileNotFoundError, match="holds no finished search of ensembles"):
        found.at(tmp_path)
    write_json(tmp_path / "asked.json", {"members": ["boosting+bert"]})
    write_json(tmp_path / "result.json", {"name": "x", "best_trial": "0000", "trials": [{"trial": "0000", "config": DEFAULT}]})
    assert found.at(tmp_path).rankers == {}
