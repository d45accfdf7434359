from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.data import ensemble_data
from training.blends.ensemble import DEFAULT
from training.imbalance.losses import LOSSES
from training.imbalance.resample import RESAMPLERS
from training.members.registry import GIVEN, MEMBERS, UNSERVED
from training.search.choices import Choices
from training.search.ensemble import run
from training.search.space import Choice, Uniform, within


def test_every_name_there_is_can_be_chosen() -> None:
    """All resamplers, members, losses, optimisers, blends, fusions and calibrators are valid names of a space."""
    choices = Choices(
        members=("+".join((*MEMBERS, *GIVEN)),),
        blends=("equal", "weighted", "per_tier", "stacking", "caruana", "rrf", "isr", "combsum", "combmnz"),
        resamplers=RESAMPLERS,
        calibrators=("platt", "isotonic", "temperature"),
        losses=tuple(LOSSES),
        optimisers=("adamw", "adagrad"),
    )
    assert choices.combinations() == 9 * len(RESAMPLERS) * 3 * len(LOSSES) * 2
    space = choices.space(0.03, 50)
    assert {name for name in space if name.startswith("weights/")} == {f"weights/{name}" for name in (*MEMBERS, *GIVEN)}
    assert space["options/neural/loss"] == Choice(tuple(LOSSES))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"members": ("boosting+forest",)}, "members: 'forest' is not known"),
        ({"blends": ("mean",)}, "blends: 'mean' is not known; known: equal"),
        ({"resamplers": ("smite",)}, "resamplers: 'smite' is not known"),
        ({"losses": ("hinge",)}, "losses: 'hinge' is not known"),
        ({"optimisers": ("sgd",)}, "optimisers: 'sgd' is not known"),
        ({"floors": (0.2, 0.8)}, "floors: must be from 0 to 0.667, since new items get half as much again, got 0.8"),
        ({"calibrators": ()}, "calibrators: need at least one"),
    ],
)
def test_names_nobody_knows_are_refused_before_anything_runs(names: dict[str, tuple[str, ...]], message: str) -> None:
    """The error names the kind, the name and what is known."""
    with pytest.raises(ValueError, match=message):
        Choices(**names)


def test_floors_are_searched_where_they_are_named() -> None:
    """One more choice in the space and in the grid; without any, lists are ordered by probability."""
    some = Choices(resamplers=("none",), calibrators=("platt",), floors=(0.0, 0.2, 0.4))
    assert some.space(0.03, 5)["floor"] == Choice((0.0, 0.2, 0.4))
    assert some.combinations() == 3
    assert "floor" not in Choices().space(0.03, 5)


def test_first_configurations_stay_within_the_choices() -> None:
    """What needs no search is tried first where the space has it, and left out where it has not."""
    point = within({**DEFAULT, "negatives_rate": 0.03, "rounds": 5}, Choices().space(0.03, 5))
    assert point == {key: value for key, value in DEFAULT.items() if key != "rounds"}
    assert within(DEFAULT, Choices(members=("logistic",)).space(0.03, 5)) == {}
    assert within({"strength": 0.9}, {"strength": Uniform(0.05, 0.5)}) == {}


def test_ensembles_that_cannot_be_served_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """A search whose winner is to be released names the member and why, and leaves nothing; one that only compares may have it."""
    data, choices = ensemble_data(rows=100), Choices(members=("boosting+bert", "boosting+bi_encoder"), resamplers=("none",))
    with pytest.raises(ValueError, match=rf"members: bi_encoder cannot be served: {UNSERVED['bi_encoder']}; a search that is to compare"):
        run(data, name="x", storage=tmp_path, trials=1, rounds=1, seed=0, choices=choices)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="grid has 6 combinations, more than 5"):  # 2 ensembles, 3 calibrators: what is asked next
        run(data, name="x", storage=tmp_path, trials=5, rounds=1, seed=0, searcher="grid", choices=choices, compare=True)


def test_a_grid_larger_than_the_trials_and_unknown_searchers_are_refused(tmp_path: Path) -> None:
    """A grid is run whole or not at all; the searcher's name is checked like the others."""
    data = ensemble_data(rows=100)
    with pytest.raises(ValueError, match="trials: the grid has 15 combinations, more than 5"):
        run(data, name="x", storage=tmp_path, trials=5, rounds=1, seed=0, searcher="grid", choices=Choices(resamplers=RESAMPLERS[:5]))
    with pytest.raises(ValueError, match="trials: must be at least 1, got 0"):
        run(data, name="x", storage=tmp_path, trials=0, rounds=1, seed=0)
    with pytest.raises(ValueError, match="rounds: must be at least 1, got -1"):
        run(data, name="x", storage=tmp_path, trials=1, rounds=-1, seed=0)
    with pytest.raises(ValueError, match="at_once: must be at least 1, got 0"):
        run(data, name="x", storage=tmp_path, trials=1, rounds=1, seed=0, at_once=0)
    for name in ("../x", "a/b", "", ".."):
        with pytest.raises(ValueError, match="name: must be a folder's name"):
            run(data, name=name, storage=tmp_path, trials=1, rounds=1, seed=0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="searcher: 'lucky' is not known; known: bayesian, pareto, random, grid"):
        run(data, name="x", storage=tmp_path, trials=5, rounds=1, seed=0, searcher="lucky")
