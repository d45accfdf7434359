"""Lists of the fairness benchmark, from a slice of the real data through the real Feast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking.layout import Layout
from tests.training.data import ensemble_data
from tests.training.tables.slices import Slice
from training.artefacts import save_ensemble_data
from training.fairness import journey
from training.online import apply
from training.stage import Staged

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # ibis calls old names of duckdb's API
COUNTS = {"valid": 12, "test": 20}


@pytest.fixture(scope="module")
def made(small: Slice) -> tuple[Layout, Staged, Staged]:
    """Two runs over one state directory."""
    layout = small.layout
    apply(layout)
    canonical = layout.canonical("completejourney")
    if not canonical.exists():
        canonical.parent.mkdir(parents=True, exist_ok=True)
        canonical.symlink_to(small.canonical)
    save_ensemble_data(layout.training / "scores" / "ads.npz", ensemble_data(rows=600))
    for name in ("scores", "feast"):
        (layout.training / name).mkdir(parents=True, exist_ok=True)
        (layout.training / name / "stage.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"COUNTS": COUNTS, "SEEDS": (1, 2), "CANDIDATES": 40, "ROUNDS": 5}.items():
            patch.setattr(journey, name, value)
        return layout, journey.prepare(layout), journey.prepare(layout)


def test_the_second_run_reuses_the_first(made: tuple[Layout, Staged, Staged]) -> None:
    """The stage is made once for its inputs."""
    _, first, second = made
    assert (first.reused, second.reused) == (False, True)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_lists_are_as_a_ranker_would_be_asked(made: tuple[Layout, Staged, Staged], split: str) -> None:
    """At most so many candidates each, scored by probabilities, and the best page counts what retrieval lost too."""
    lists = journey.read(made[1].path, split, 1)
    assert len(lists) == COUNTS[split]
    assert np.diff(lists.offsets).max() <= 40
    assert ((lists.scores > 0.0) & (lists.scores < 1.0)).all()
    among = np.add.reduceat(lists.gains, lists.offsets[:-1])
    assert (lists.ideal[among > 0] >= 1.0).all()  # one wanted item first: a DCG of 1


def test_seeds_draw_other_candidates_for_the_same_lists(made: tuple[Layout, Staged, Staged]) -> None:
    """Seeds share lists, and with them the best pages; what retrieval leaves to chance differs."""
    one, two = (journey.read(made[1].path, "test", seed) for seed in (1, 2))
    np.testing.assert_array_equal(one.ideal, two.ideal)
    np.testing.assert_array_equal(one.ids, two.ids)
    assert not np.array_equal(one.groups, two.groups)


def test_an_empty_state_directory_says_what_to_run(small: Slice, tmp_path: Path) -> None:
    """Without the pipeline's training rows there is nothing to learn from."""
    with pytest.raises(FileNotFoundError, match=r"python -m training\.pipeline"):
        journey.prepare(replace(small.layout, home=tmp_path))
