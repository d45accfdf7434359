"""What reads text, alone and beside boosted trees: BM25, BERT's bi-encoder and cross-encoder, on the lists the pipeline serves.

Uses the scores that the pipeline kept (`longtail train`), so nothing is encoded here: test lists of the demo's size, cut as retrieval
cuts them. Says what a text member is worth where behaviour is known; the table of the release says what the winner made of it.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np

from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.types import FloatArray, Surface
from training.artefacts import load_ensemble_data, load_lists
from training.blends.ensemble import fit
from training.lists.arrays import EnsembleData, EvalLists
from training.members.registry import GIVEN
from training.progress import Bar
from training.release.evaluate import evaluate, versus
from training.toolbox.outcome import GAIN, Outcome

DATA = {Surface.ADS: "ads_lists_served", Surface.SEARCH: "search_lists_served"}
TREES = "boosting"
_ROUNDS, _DRAWS, _SEED = 150, 500, 11
_REPEAT = MODEL_COLUMNS.index("repeat_count")


def lacking(layout: Layout) -> str:
    """What has to be made before, in words that name the command; empty where nothing lacks."""
    scores = layout.training / "scores"
    return "" if (scores / "stage.json").exists() else f"{scores}: not there; `longtail train` makes it"


def measure(layout: Layout, *, quick: bool = False) -> tuple[list[Outcome], dict[str, float]]:
    """Outcomes of both surfaces; no figure has a mark.

    Args:
        layout: a state directory in which the pipeline has run.
        quick: fewer boosting rounds and draws.
    """
    outcomes = []
    for surface, name in DATA.items():
        data = load_ensemble_data(layout.training / "scores" / f"{surface.value}.npz")
        test = load_lists(layout.training / "scores" / f"{surface.value}_test.npz")
        outcomes += compare(name, data, test, rounds=20 if quick else _ROUNDS, draws=50 if quick else _DRAWS)
    return outcomes, {}


def compare(name: str, data: EnsembleData, test: EvalLists, *, rounds: int, draws: int) -> list[Outcome]:
    """Trees, each text member alone, and trees with each of them and with all, weighed by Caruana's selection."""
    given = [member for member in GIVEN if member in test.given]
    tried = {TREES: (TREES,), **{member: (member,) for member in given}}
    tried |= {f"{TREES} + {member}": (TREES, member) for member in given}
    if len(given) > 1:
        tried[f"{TREES} + all"] = (TREES, *given)
    outcomes: list[Outcome] = []
    plain: FloatArray | None = None
    with Bar(f"{name}: text members", len(tried)) as bar:
        for label, members in tried.items():
            start = perf_counter()
            config = {"members": list(members), "blend": "caruana", "rounds": rounds, "negatives_rate": data.train.negatives_rate}
            p = fit(config, data, _SEED).blend(test).probabilities
            seconds = perf_counter() - start
            repeat = test.features[:, _REPEAT] > 0
            figures = evaluate({label: p}, test, probabilities=frozenset({label}), seed=_SEED, n=draws, repeat=repeat)[label]
            if plain is None:
                plain = p
            else:
                figures["all"]["ndcg10" + GAIN] = versus(p, plain, test, seed=_SEED, n=draws)
            kind = "member" if len(members) == 1 else "blend"
            note = f"{len(test)} lists of about {round(float(np.diff(test.offsets).mean()))} candidates"
            outcomes.append(Outcome(name, kind, label, figures, round(seconds, 2), "" if label == TREES else TREES, note=note))
            bar.advance()
    return outcomes
