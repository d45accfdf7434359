"""The report's tables: marks, choices, the big table overall and by group, and what did not help. Knows outcomes, draws nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from training.page import html_table
from training.toolbox.outcome import GAIN, Outcome
from training.toolbox.outcome_verdicts import GUARDS, Verdict, judge, recommended, verdict

_KINDS = {
    "rule": "Rules without training",
    "member": "Members",
    "final": "The choice, on all test lists",
    "blend": "Blends",
    "resampler": "Resamplers",
    "generator": "Generators",
    "loss": "Losses",
    "optimiser": "Optimisers",
    "calibrator": "Calibrators",
    "ablation": "Ablations: what is lost without",
}
_WORDS = {
    "ndcg10": "NDCG@10",
    "recall10": "recall@10",
    "recall50": "recall@50",
    "recall50_new": "recall@50 of new",
    "ap": "AP",
    "auc": "ROC-AUC",
    "ne": "NE",
    "ece": "ECE",
    "predicted_over_actual": "predicted / actual",
    "tail_share10": "tail share of first 10",
    "macro_f1": "macro-F1",
    "ndcg10_validation": "NDCG@10, validation",
    "all_weeks_ne": "NE, all test weeks",
    "all_weeks_predicted_over_actual": "predicted / actual, all test weeks",
}
_LEFT_OUT = frozenset({"positives", "base_rate", "ndcg50"})  # in the JSON; a table that shows everything shows nothing
_SIGNS = {Verdict.HELPS: "▲", Verdict.LOSES: "▼"}
_CLASSES = {Verdict.HELPS: "met", Verdict.LOSES: "missed"}


def marks(result: Mapping[str, Any]) -> str:
    """What was wanted, what was measured."""
    rows = []
    for name, (sign, mark) in result["wanted"].items():
        figure = result["figures"].get(name)
        said = '<span class="met">met</span>' if result["met"].get(name) else '<span class="missed">missed</span>'
        measured = ("–", "not measured") if figure is None else (f"{figure:g}", said)
        rows.append(("", (f"<code>{escape(name)}</code>", escape(_mark(sign, mark)), *measured)))
    return "<h2>What it must reach</h2>" + html_table(("figure", "wanted", "measured", ""), rows)


def choices(outcomes: Sequence[Outcome], data_sets: Sequence[str]) -> str:
    """One line per data set and kind: what to take, what it gains, and why."""
    rows: list[tuple[str, Sequence[str]]] = []
    for data in data_sets:
        metric = judge(outcomes, data)
        rows += [
            ("", (escape(data), o.kind, f"<b>{escape(o.method)}</b>", _gain(o, metric), _seconds(o), escape(_why(o, outcomes, metric))))
            for o in recommended(outcomes, data)
        ]
    return html_table(("data", "kind", "take", "gain", "training", "why"), rows, words=frozenset({5}))


def overall(outcomes: Sequence[Outcome], metric: str, chosen: set[tuple[str, str]]) -> str:
    """The big table over all rows of a data set: method × metric, with intervals."""
    names = list(dict.fromkeys(m for o in outcomes for m in o.figures.get("all", {})))
    names = [m for m in names if not m.endswith(GAIN) and m not in _LEFT_OUT] + [m for m in names if m.endswith(GAIN)]
    rows = _by_kind(outcomes, chosen, lambda o: (*(_cell(o, m) for m in names), _seconds(o)))
    told = f" Rows in green are recommended; the metric that decides is {_word(metric)}." if metric else ""
    text = f"<p>▲ and ▼ mark gains whose interval excludes 0.{told} Below a value stands its 95 % interval.</p>"
    return text + html_table(("method", *map(_word, names), "training"), rows)


def by_group(outcomes: Sequence[Outcome], metric: str, chosen: set[tuple[str, str]]) -> str:
    """The big table by group: tier or class × metric; nothing where the data set has no groups."""
    groups = list(dict.fromkeys(g for o in outcomes for g in o.figures if g != "all"))
    if not groups:
        return ""
    pairs = [(g, m) for g in groups for m in dict.fromkeys(m for o in outcomes for m in o.figures.get(g, {})) if m not in _LEFT_OUT]
    kept = [o for o in outcomes if any(g in o.figures for g in groups)]
    rows = _by_kind(kept, chosen, lambda o: tuple(_cell(o, m, g) for g, m in pairs))
    return "<h3>By group</h3>" + html_table(("method", *(f"{escape(g)}<br>{_word(m)}" for g, m in pairs)), rows)


def against(outcomes: Sequence[Outcome]) -> str:
    """Methods that gained nothing that repeats, with what they lost."""
    rows: list[tuple[str, Sequence[str]]] = []
    for data in dict.fromkeys(o.data for o in outcomes):
        metric = judge(outcomes, data)
        found = [o for o in outcomes if o.data == data and o.kind != "ablation" and verdict(o, metric) in (Verdict.LOSES, Verdict.OPEN)]
        found.sort(key=lambda o: o.figure(metric + GAIN)[0] or 0.0)
        rows += [
            (
                "",
                (
                    escape(o.method),
                    o.kind,
                    escape(data),
                    _gain(o, metric),
                    _seconds(o),
                    f"{verdict(o, metric)} against {escape(o.baseline)}",
                ),
            )
            for o in found
        ]
    if not rows:
        return "<p>Everything that was measured helped.</p>"
    text = "<p>Worst first. They stay selectable by name: other data may want them; these data do not.</p>"
    return text + html_table(("method", "kind", "data", "gain", "training", ""), rows, words=frozenset({5}))


def _by_kind(outcomes: Sequence[Outcome], chosen: set[tuple[str, str]], cells: Any) -> list[tuple[str, Sequence[str]]]:
    rows: list[tuple[str, Sequence[str]]] = []
    for kind, title in _KINDS.items():
        of_kind = [o for o in outcomes if o.kind == kind]
        if of_kind:
            rows.append(("part", (title,)))
            rows += [("chosen" if (o.kind, o.method) in chosen else "", (escape(o.method), *cells(o))) for o in of_kind]
    return rows


def _cell(o: Outcome, metric: str, group: str = "all") -> str:
    value, low, high = o.figure(metric, group)
    if value is None:
        return '<span class="quiet">–</span>'
    if metric.endswith(GAIN):
        sure = Verdict.HELPS if low is not None and low > 0 else Verdict.LOSES if high is not None and high < 0 else Verdict.OPEN
        text = f'<span class="{_CLASSES.get(sure, "quiet")}">{value:+.4f} {_SIGNS.get(sure, "")}</span>'
        return text + (f"<small>{low:+.3f} … {high:+.3f}</small>" if low is not None and high is not None else "")
    ends = f"<small>{_number(low)} … {_number(high)}</small>" if low is not None and high is not None else ""
    return f"{_number(value)}{ends}"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 10 or 0 < abs(value) < 0.001 else f"{value:.3f}"


def _gain(o: Outcome, metric: str) -> str:
    return _cell(o, metric + GAIN) if metric else '<span class="quiet">–</span>'


def _why(o: Outcome, outcomes: Sequence[Outcome], metric: str) -> str:
    rivals = [r for r in outcomes if (r.data, r.kind) == (o.data, o.kind) and r.baseline]
    helping = [r for r in rivals if verdict(r, metric) is Verdict.HELPS]
    guarded = f", keeping the {_word(GUARDS[o.data][0])}," if o.data in GUARDS else ""
    if o.kind == "calibrator":
        ratio = o.figure("predicted_over_actual")[0]
        return f"least normalised entropy, {o.figure('ne')[0]:.4f}" + (f", predicted over actual {ratio:.3f}" if ratio is not None else "")
    if not o.baseline:
        return (
            f"the plain method: none of {len(rivals)} others is shown to gain {_word(metric)}{guarded}" if rivals else "alone of its kind"
        )
    best = max(r.figure(metric + GAIN)[0] or 0.0 for r in helping)
    mine = o.figure(metric + GAIN)[0] or 0.0
    quick = "" if mine >= best else f" of those near the largest gain ({best:+.4f}) the quickest;"
    return f"{len(helping)} of {len(rivals)} help;{quick} {_word(metric)} {mine:+.4f} over {o.baseline}"


def _seconds(o: Outcome) -> str:
    return "–" if not o.seconds else f"{o.seconds:.1f} s" if o.seconds < 100 else f"{o.seconds / 60:.1f} min"


def _word(metric: str) -> str:
    name = metric.removesuffix(GAIN)
    return escape(_WORDS.get(name, name.replace("_", " "))) + (" gain" if metric.endswith(GAIN) else "")


def _mark(sign: str, mark: Any) -> str:
    if sign == "within":
        return f"{mark[0]:g} … {mark[1]:g}"
    return f"{ {'>=': '≥', '<=': '≤'}.get(sign, sign) } {mark:g}"
