from __future__ import annotations

from pathlib import Path

import pytest

from training.search.config import load
from training.search.stages import with_ranker

GOOD = """
name = "demo"
storage = "searches"

[rankers]
data = "texts.npz"
trials = 4
losses = ["bce", "focal"]
learning_rate = [1e-5, 1]

[ensemble]
data = "ads.npz"
searcher = "pareto"
rankers = 2
objective_weights = { ndcg10 = 1, tail_share10 = 0.1 }
"""


def test_a_file_becomes_settings(tmp_path: Path) -> None:
    """Paths are below the file's folder, whole numbers serve as numbers, what is left out is as documented."""
    (tmp_path / "search.toml").write_text(GOOD)
    read = load(tmp_path / "search.toml")
    assert (read.name, read.storage) == ("demo", tmp_path / "searches")
    assert read.rankers is not None
    assert read.ensemble is not None
    assert (read.rankers.data, read.rankers.losses, read.rankers.learning_rate) == (tmp_path / "texts.npz", ("bce", "focal"), (1e-5, 1.0))
    assert (read.rankers.folds, read.rankers.searcher) == (2, "random")
    assert read.ensemble.objective_weights == {"ndcg10": 1.0, "tail_share10": 0.1}


BAD = {
    "no TOML": ("name = ", "not TOML"),
    "unknown at the top": ('nme = "x"\n' + GOOD, "nme: unknown key; known: name, storage, rankers, ensemble"),
    "unknown in a stage": (GOOD.replace("trials = 4", "trails = 4"), "rankers.trails: unknown key; known: data, trials"),
    "no name": (GOOD.replace('name = "demo"', ""), "name: missing"),
    "no storage": (GOOD.replace('storage = "searches"', ""), "storage: missing"),
    "no stage": ('name = "x"\nstorage = "y"', "rankers, ensemble: need at least one stage"),
    "no data": (GOOD.replace('data = "texts.npz"', ""), "rankers.data: missing"),
    "a text for a number": (GOOD.replace("trials = 4", 'trials = "4"'), "rankers.trials: must be a whole number, got '4'"),
    "a truth value for a number": (GOOD.replace("trials = 4", "trials = true"), "rankers.trials: must be a whole number, got True"),
    "a number for a truth value": (GOOD + "compare = 1", "ensemble.compare: must be true or false, got 1"),
    "a text for a list": (GOOD.replace('["bce", "focal"]', '"bce"'), "rankers.losses: must be a list, each a text, got 'bce'"),
    "a text in a weight": (
        GOOD.replace("tail_share10 = 0.1", 'tail_share10 = "much"'),
        "ensemble.objective_weights.tail_share10: must be a",
    ),
    "a stage that is none": ('name = "x"\nstorage = "y"\nrankers = 3', "rankers: must be a table, got 3"),
    "a name that is no folder's": (GOOD.replace('"demo"', '"../demo"'), "name: must be a folder's name, got '../demo'"),
    "members of no stage": (
        'name = "x"\nstorage = "y"\n[ensemble]\ndata = "d"\nrankers = 1',
        r"ensemble.rankers: there is no stage \[rankers\]",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_wrong_file_is_refused_by_key(tmp_path: Path, text: str, message: str) -> None:
    """The file and the key are named."""
    (tmp_path / "search.toml").write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        load(tmp_path / "search.toml")
    assert str(tmp_path / "search.toml") in str(refused.value)


def test_a_found_ranker_takes_the_text_members_place() -> None:
    """Where there is a text member it is replaced, elsewhere the ranker stands beside the others."""
    assert with_ranker("boosting+bert", "0003") == "boosting+ranker_0003"
    assert with_ranker("boosting", "0003") == "boosting+ranker_0003"
