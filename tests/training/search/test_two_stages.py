"""Rankers, then ensembles of what they left, on real Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.bert.tiny_bert import SPECIAL, pairs, tiny
from tests.training.data import ensemble_data
from training.artefacts import save_ensemble_data
from training.search import fine_tune, rankers, stages
from training.search.config import parse
from training.search.texts import Part, TextData, save_texts

pytestmark = [pytest.mark.servers, pytest.mark.exhaustive, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """One Ray for the module."""
    from training.search import tuning

    with tuning.connected(2):
        yield


def _texts() -> TextData:
    """Twelve lists of three to learn from, and thirty lists of forty of which only the first have texts."""
    made, few = pairs(12, click=""), pairs(4, seed=1, click="")
    empty = np.empty(0, np.int64)
    part = Part([*few.first[::3], *[empty] * 26], [*few.second, *[empty] * 1188], np.arange(31) * 40)
    return TextData(made, np.arange(12), {"calibrate": part, "select": part})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, session: None) -> tuple[Path, dict[str, Any]]:
    home = tmp_path_factory.mktemp("stages")
    save_texts(home / "texts.npz", _texts())
    save_ensemble_data(home / "ads.npz", ensemble_data(rows=600))
    rates = {"learning_rate": [1e-3, 2e-3], "losses": ["list"], "methods": ["full"], "ranks": [4], "negatives_rates": [1.0], "lengths": [8]}
    file = {
        "name": "demo",
        "storage": "searches",
        "rankers": {"data": "texts.npz", "trials": 3, "epochs": 2, "factor": 3.0, **rates},
        "ensemble": {
            "data": "ads.npz", "trials": 3, "rounds": 3, "searcher": "grid", "rankers": 1, "compare": True,
            "members": ["boosting+bert", "logistic+vectors"], "resamplers": ["none"], "calibrators": ["platt"],
        },
    }  # fmt: skip
    results = stages.run(parse(file, home), made=(tiny, SPECIAL))
    return home / "searches" / "demo", results


def test_every_ranker_is_whole_given_up_or_failed(found: tuple[Path, dict[str, Any]]) -> None:
    """Three trials: of those that reach the first epoch at least one goes on to the last, and only whole ones leave scores."""
    path, results = found
    rows = results["rankers"].trials
    assert [row["error"] for row in rows] == [""] * 3
    whole = [row for row in rows if not row["stopped"]]
    assert whole
    for row in rows:
        reports = (path / "rankers" / "reports" / f"{row['trial']}.jsonl").read_text().splitlines()
        assert len(reports) == (1 if row["stopped"] else 2)
        assert (path / "rankers" / "work" / row["trial"] / "manifest.json").exists() is not row["stopped"]
    assert results["rankers"].best_trial in {row["trial"] for row in whole}


def test_the_best_ranker_is_a_member_of_ensembles(found: tuple[Path, dict[str, Any]]) -> None:
    """The ensembles tried are those named and the same with the best ranker for a text member; its scores were not made again."""
    path, results = found
    best = results["rankers"].best_trial
    members = {"boosting+bert", f"boosting+ranker_{best}", f"logistic+vectors_{best}"}
    assert {row["config"]["members"] for row in results["ensemble"].trials} == members
    assert [row["error"] for row in results["ensemble"].trials] == [""] * 3
    assert json.loads((path / "ensemble" / "result.json").read_text())["name"] == "ensemble"


def test_trials_never_read_or_encode_again(
    found: tuple[Path, dict[str, Any]], tmp_path: Path, session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished search of rankers is only read: no model is made, though the encoder would refuse to be."""

    def refuse() -> Any:
        raise AssertionError("an encoder was made")

    path, results = found
    settings = {"trials": 3, "seed": 0, "tunings": rankers.Tunings((1e-3, 2e-3), 2, ("list",), (1.0,), (8,), ("full",), (4,))}
    again = rankers.run(_texts(), name="rankers", storage=path, made=(refuse, SPECIAL), **settings)  # type: ignore[arg-type]
    assert again.best_trial == results["rankers"].best_trial
    assert fine_tune.METRIC in again.trials[0]["metrics"]
