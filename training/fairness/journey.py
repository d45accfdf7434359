"""Ads lists of the Complete Journey's validation and test weeks, scored by boosted trees: made once, then read by every run.

The trees learn from the training rows that `training.pipeline` keeps. A seed is one replication: its own boosting and sampling, and its
own draw of the candidates that retrieval leaves to chance; the household-weeks are the same for all, so that seeds can be averaged per
list.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ranking.layout import Layout
from ranking.types import TIERS
from training.artefacts import load_ensemble_data
from training.blends.ensemble import DEFAULT, Fitted, fit
from training.dataset import Features, assemble_lists, point_in_time
from training.fairness.lists import ScoredLists, ideal_dcg, load, save
from training.lists.arrays import EvalLists
from training.lists.impressions import ads_lists
from training.lists.retrieval import retrieval_scores
from training.lists.types import RankingLists, Split, cut
from training.progress import Bar
from training.stage import CORE, Staged, key_of, source_files, stage
from training.tables.tokens import Tokens

SEEDS = (1, 2, 3, 4, 5)
COUNTS: dict[Split, int] = {"valid": 600, "test": 1500}  # household-weeks
CANDIDATES = 200  # of about 3,900 that were promoted
EXPLORE = 0.6  # of the candidates are drawn from all that were promoted: without them eight in ten would be head items
ROUNDS = 150
_LISTS_SEED = 11  # another hash than the pipeline's: mostly other household-weeks


def prepare(layout: Layout) -> Staged:
    """The scored lists of every seed, in a stage directory: `valid-1.npz`, `test-1.npz` …

    Raises:
        FileNotFoundError: the pipeline has not run in this state directory.
    """
    rows = layout.training / "scores" / "ads.npz"
    data = load_ensemble_data(rows)
    config = DEFAULT | {"members": "boosting", "rounds": ROUNDS, "negatives_rate": data.train.negatives_rate}
    upstream = {name: (layout.training / name / "stage.json").read_text() for name in ("scores", "feast")}

    def build(out: Path) -> None:
        canonical = layout.canonical("completejourney")
        with Bar("lists for the fairness benchmark", 2 + 3 * len(SEEDS)) as bar:
            uncut = {s: ads_lists(canonical, s, count=n, seed=_LISTS_SEED, spill=layout.training) for s, n in COUNTS.items()}
            bar.advance()
            features = point_in_time(layout, uncut.values())
            first_stage = {split: retrieval_scores(lists, features) for split, lists in uncut.items()}
            bar.advance()
            for seed in SEEDS:
                fitted = fit(config, data, seed)
                bar.advance()
                for split, lists in uncut.items():
                    asked = cut(lists, first_stage[split], CANDIDATES, explore=EXPLORE, seed=seed)
                    save(out / f"{split}-{seed}.npz", _scored(asked, features, fitted))
                    bar.advance()

    inputs = {
        "upstream": key_of(upstream),
        "counts": COUNTS,
        "candidates": CANDIDATES,
        "explore": EXPLORE,
        "rounds": ROUNDS,
        "seeds": SEEDS,
    }
    code = source_files("training/blends", "training/members", "training/lists", "training/dataset.py")
    code += source_files("training/fairness/journey.py", "training/fairness/lists.py")
    return stage(layout.training / "fairness", inputs, build, code=[*code, *CORE])


def read(made: Path, split: Split, seed: int) -> ScoredLists:
    """One split of one seed."""
    return load(made / f"{split}-{seed}.npz")


def _scored(lists: RankingLists, features: Features, fitted: Fitted) -> ScoredLists:
    assembled = assemble_lists(lists, features, Tokens())
    whole = EvalLists(assembled.x, lists.labels, assembled.tiers, {}, lists.offsets, lists.ideal_positives)
    return ScoredLists(
        fitted.blend(whole).probabilities,
        assembled.tiers.astype(np.int64),
        lists.labels.astype(np.float64),
        lists.offsets,
        ideal_dcg(lists.ideal_positives),
        np.arange(len(lists)),
        TIERS,
    )
