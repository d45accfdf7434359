"""What the figures say of a method, and which one to take: rules stated once, the report only prints them. Knows no method by name."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from training.toolbox.outcome import GAIN, Outcome

JUDGED_BY = {
    "ads": "ndcg10",
    "ads_lists_served": "ndcg10",
    "search_lists_served": "ndcg10",
    "imbalanced_shop": "tail_recall10",
    "online_shoppers": "ap",
    "clothing_reviews": "macro_f1",
}
"""The metric that methods of a data set are chosen by; a data set that is not named is judged by the first gain it states."""
GUARDS = {"imbalanced_shop": ("ndcg10", 0.01)}
"""What a method may lose of another metric at most and still be recommended: there the tail must not be paid for by everybody."""
SLACK = 0.005
"""Among methods that help, one that is this close to the best (in the metric's own unit) and quicker to train is taken instead."""
RULES = (
    "A method helps if the whole paired 95 % interval of its gain over the plain method of its kind lies above 0, and loses if it lies "
    "below; between them nothing was shown. Of the methods of a kind that help, the quickest within "
    f"{SLACK:g} of the largest gain is recommended; where none helps, the plain method is. On the generated shop a method may lose .01 of "
    "NDCG@10 at most. A calibrator does not set an order, so the one with the least normalised entropy is recommended, of those that keep "
    "predicted over actual within 5 % if any does."
)


class Verdict(StrEnum):
    """What the paired interval of a gain says."""

    HELPS = "helps"
    LOSES = "loses"
    OPEN = "no difference shown"
    PLAIN = "plain"
    UNKNOWN = ""


def judge(outcomes: Sequence[Outcome], data: str) -> str:
    """The metric by which the methods of a data set are chosen, without ``_gain``; empty where none states a gain."""
    ours = [outcome for outcome in outcomes if outcome.data == data]
    gains = [metric for outcome in ours for metric in outcome.figures.get("all", {}) if metric.endswith(GAIN)]
    wanted = JUDGED_BY.get(data, "") + GAIN
    return (wanted if wanted in gains else next(iter(gains), "")).removesuffix(GAIN)


def verdict(outcome: Outcome, metric: str) -> Verdict:
    """What the outcome's gain in `metric` says."""
    _, low, high = outcome.figure(metric + GAIN)
    if low is None or high is None:
        return Verdict.UNKNOWN if outcome.baseline else Verdict.PLAIN
    return Verdict.HELPS if low > 0.0 else Verdict.LOSES if high < 0.0 else Verdict.OPEN


def recommended(outcomes: Sequence[Outcome], data: str) -> list[Outcome]:
    """One outcome per kind of a data set, by `RULES`; rules and ablations are yardsticks, what is final was chosen."""
    metric = judge(outcomes, data)
    chosen = []
    for kind in dict.fromkeys(o.kind for o in outcomes if o.data == data and o.kind not in ("rule", "ablation", "final")):
        if not metric and kind != "calibrator":
            continue  # no gain is stated: nothing to choose by
        rows = [o for o in outcomes if (o.data, o.kind) == (data, kind)]
        found = _calibrator(rows) if kind == "calibrator" else _quickest(rows, metric)
        chosen += [found] if found is not None else []
    return chosen


def _quickest(rows: Sequence[Outcome], metric: str) -> Outcome | None:
    gains = {id(o): o.figure(metric + GAIN)[0] or 0.0 for o in rows}
    helping = [o for o in rows if verdict(o, metric) is Verdict.HELPS and _guarded(o)]
    if not helping:
        return next((o for o in rows if not o.baseline), None)
    best = max(gains[id(o)] for o in helping)
    return min((o for o in helping if gains[id(o)] >= best - SLACK), key=lambda o: o.seconds)


def _guarded(o: Outcome) -> bool:
    metric, most = GUARDS.get(o.data, ("", 0.0))
    gain = o.figure(metric + GAIN)[0]
    return gain is None or gain >= -most


def _calibrator(rows: Sequence[Outcome]) -> Outcome | None:
    def ratio_holds(o: Outcome) -> bool:
        ratio = o.figure("predicted_over_actual")[0]
        return ratio is not None and 0.95 <= ratio <= 1.05

    judged = [o for o in rows if o.figure("ne")[0] is not None]
    return min([o for o in judged if ratio_holds(o)] or judged, key=lambda o: o.figure("ne")[0] or 0.0, default=None)
