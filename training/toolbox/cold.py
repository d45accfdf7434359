"""Cold start on ads: how well those are served whom nobody knows yet, and how often what is new is found.

Users by how much they had bought before the list, and the same lists asked by a stranger: every feature of the user gone, as the gateway
has them for an unknown id. Items by whether they had ever been sold, and by age. One model of the plain recipe, and the same one trained on
some lists asked by strangers, which it otherwise never saw; nothing is chosen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ranking import metrics
from ranking.assemble import as_unknown_user
from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.metrics import bootstrap_interval
from ranking.types import TIERS, Float32Array, FloatArray
from training.lists.strangers import with_strangers
from training.members.contract import Rows
from training.profile import DEMO
from training.progress import Bar
from training.release.evaluate import Row, as_row
from training.toolbox import ads_data
from training.toolbox.ads_data import Part
from training.toolbox.ads_methods import MEMBERS, RULES, WHOLE
from training.toolbox.ads_trained import SEED, Tests
from training.toolbox.outcome import Outcome

DATA = "ads_cold_start"
FEW, SOME = 10, 30  # orders
YOUNG_DAYS = 28
RULES_SHOWN = ("popularity", "repeat_purchase")
PREPARED = f"{WHOLE}, a tenth of its lists strangers'"
RANKERS = (*RULES_SHOWN, WHOLE, PREPARED)
SHARE = DEMO.strangers  # of the training lists
STRANGER = "asked by strangers"
_PLACES = 50
_ORDERS, _AGE = MODEL_COLUMNS.index("orders_all"), MODEL_COLUMNS.index("age_days")


def measure(layout: Layout, *, quick: bool = False, threads: int = 2) -> tuple[list[Outcome], dict[str, float]]:
    """One outcome per ranker, for users as they are and as strangers; no figure has a mark.

    Args:
        layout: a state directory with prepared data and features.
        quick: a fraction of the lists.
        threads: of whatever trains.

    Raises:
        FileNotFoundError: data or features are not there; the message names the command.
    """
    made = ads_data.prepare(layout, ads_data.QUICK if quick else ads_data.FULL).path
    return run({name: ads_data.load(made / name) for name in ("train", "test")}, threads=threads)


def run(parts: Mapping[str, Part], *, threads: int = 2) -> tuple[list[Outcome], dict[str, float]]:
    """`measure` on parts that are there."""
    tests, part = Tests(parts, threads, {}), parts["test"]
    users, items = user_groups(part), item_groups(part)
    outcomes, figures = [], {}
    with Bar("cold start", len(RANKERS)) as bar:
        for name in RANKERS:
            if name == PREPARED:
                trained = tests.keep(name, prepared(parts["train"]), MEMBERS[WHOLE], float(np.log(parts["train"].negatives_rate)))
            else:
                trained = tests.train(name, RULES[name] if name in RULES_SHOWN else MEMBERS[name])
            for title, asked in ((name, part), (f"{name}, {STRANGER}", strangers(part))):
                rows = quality(trained.logits(asked), part, users, items)
                outcomes.append(Outcome(DATA, "member", title, rows, round(trained.seconds, 2)))
                if name in (WHOLE, PREPARED):
                    kind = ("strangers" if asked is not part else "known") + ("_prepared" if name == PREPARED else "")
                    figures[f"cold_ndcg10_{kind}"] = rows["all"]["ndcg10"][0] or 0.0
            tests.forget(name)
            bar.advance()
    return outcomes, figures


def quality(
    scores: NDArray[np.float32], part: Part, users: Mapping[str, NDArray[np.bool_]], items: Mapping[str, NDArray[np.bool_]]
) -> dict[str, Row]:
    """Figures of one ranking: over all lists, those of each group of users, and of each group of items the positives that are found."""
    labels, lists = np.asarray(part.labels, np.float64), part.eval_lists()
    top = metrics.top_of_lists(scores, lists.offsets, _PLACES)
    ndcg = metrics.ndcg_of_lists(scores, labels, lists.offsets, k=10, ideal=lists.ideal_positives, top=top)
    recall = metrics.recall_of_lists(scores, labels, lists.offsets, k=_PLACES, ideal=lists.ideal_positives, top=top)
    out = {}
    for name, chosen in {"all": np.ones(len(part), bool), **users}.items():
        of = {"ndcg10": ndcg, "recall50": recall}
        out[name] = {m: _mean(v[chosen], part.households[chosen]) for m, v in of.items()} | {"lists": [float(chosen.sum()), None, None]}
    for name, rows in items.items():
        found = metrics.recall_of_lists(scores, labels * rows, lists.offsets, k=_PLACES, top=top)
        out[name] = {"recall50": _mean(found, part.households), "positives": [float(labels[rows].sum()), None, None]}
    return out


def user_groups(part: Part) -> dict[str, NDArray[np.bool_]]:
    """(L,) lists of each group: by the user's orders before the list."""
    orders = np.asarray(part.x[np.asarray(part.offsets[:-1]), _ORDERS])
    return {
        f"users of at most {FEW} orders": orders <= FEW,
        f"users of {FEW + 1} to {SOME} orders": (orders > FEW) & (orders <= SOME),
        f"users of more than {SOME} orders": orders > SOME,
    }


def item_groups(part: Part) -> dict[str, NDArray[np.bool_]]:
    """(N,) rows of each group: never sold before the list, known for at most four weeks, and the others."""
    never, young = np.asarray(part.tiers) == TIERS.index("new"), np.asarray(part.x[:, _AGE]) <= YOUNG_DAYS
    return {
        "items never sold": never,
        f"items first sold or promoted in the last {YOUNG_DAYS} days": young,
        "all other items": ~never & ~young,
    }


def prepared(part: Part) -> Rows:
    """Training rows of a part of which `SHARE` of the lists, drawn at random, are asked by strangers."""
    lists = part.owners()
    return Rows.of(with_strangers(np.asarray(part.x), lists, SHARE, SEED), np.asarray(part.labels), lists)


def strangers(part: Part) -> Part:
    """The part with its rows read as strangers', a slice at a time: changed as a whole it would need as much memory again."""
    return replace(part, x=cast(Float32Array, _Rows(part.x)))


class _Rows:
    """Rows of a matrix, changed when they are read."""

    def __init__(self, x: NDArray[np.float32]) -> None:
        self._x = x

    def __getitem__(self, rows: slice) -> Float32Array:
        return as_unknown_user(np.asarray(self._x[rows]))


def _mean(per_list: FloatArray, households: NDArray[np.int64]) -> list[float | None]:
    return as_row(bootstrap_interval(per_list, SEED, groups=households))
