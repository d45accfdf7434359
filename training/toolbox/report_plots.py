"""The report's plots, each as HTML: gains with intervals, classes, learning curves, precision over recall, calibration.

Knows outcomes and axes. A plot nobody measured points for is no plot: every function then returns nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from training import page
from training.toolbox.outcome import GAIN, Outcome
from training.toolbox.outcome_verdicts import Verdict, verdict

_COLOURS = {Verdict.HELPS: "#1a7f37", Verdict.LOSES: "#b42318", Verdict.OPEN: "#8c959f"}
_MOST = 10  # lines that can be told apart in one plot
_BARS = 24  # classes shown one by one


def gains(outcomes: Sequence[Outcome], metric: str) -> list[str]:
    """Gain of every method over the plain one of its kind, with its interval; green and red where that excludes 0."""
    rows = [
        o for o in outcomes if o.kind != "rule" and o.figure(metric + GAIN)[0] is not None
    ]  # rules are far off: nothing else would show
    if not rows:
        return []
    kinds = list(dict.fromkeys(o.kind for o in outcomes))[::-1]
    rows.sort(key=lambda o: (kinds.index(o.kind), o.figure(metric + GAIN)[0]))
    figure, axes = page.axes(10, 1.0 + 0.24 * len(rows))
    for place, o in enumerate(rows):
        value, low, high = o.figure(metric + GAIN)
        assert value is not None
        colour = _COLOURS.get(verdict(o, metric), "#8c959f")
        axes.plot([value if low is None else low, value if high is None else high], [place, place], color=colour, linewidth=2)
        axes.plot([value], [place], "o", color=colour, markersize=5)
    axes.axvline(0.0, color="#1b1f24", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{o.method} ({o.kind})" for o in rows], fontsize=8)
    axes.set(xlabel=f"gain in {metric.replace('_', ' ')} over the plain method of its kind, 95 % interval", ylim=(-0.7, len(rows) - 0.3))
    return [page.image(figure, f"gains in {metric}")]


def classes(outcomes: Sequence[Outcome]) -> list[str]:
    """Rows per class before and after each method that changes them."""
    found = [(o, np.asarray(o.curves["classes"], float)) for o in outcomes if o.curves.get("classes")]
    if not found:
        return []
    head = "<h3>Classes before and after each method</h3>"
    if len(found[0][1]) > _BARS:
        figure, axes = page.axes(10, 4)
        before = found[0][1][:, 1]
        axes.plot(np.arange(1, len(before) + 1), np.sort(before)[::-1], color="#1b1f24", linewidth=2, label="before")
        for o, points in found[:_MOST]:
            axes.plot(np.arange(1, len(points) + 1), np.sort(points[:, 2])[::-1], linewidth=1, label=o.method)
        axes.set(xlabel="class, most frequent first", ylabel="rows (log)")
        axes.set_yscale("symlog", linthresh=1)
    else:
        figure, axes = page.axes(10, 1.2 + 0.34 * len(found))
        for place, (_, points) in enumerate(found):
            for column, offset, alpha in ((1, -0.2, 0.4), (2, 0.2, 1.0)):  # before, pale, and after
                left = 0.0
                for code, row in enumerate(points):
                    label = f"class {row[0]:g}" if (place, column) == (0, 2) else None
                    axes.barh(place + offset, row[column], 0.36, left=left, color=f"C{code}", alpha=alpha, label=label)
                    left += row[column]
                axes.annotate(f" {points[:, column].min() / max(left, 1.0):.1%}", (left, place + offset), va="center", fontsize=7)
        axes.set_yticks(range(len(found)), [f"{o.method} ({o.kind})" for o, _ in found], fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.set(xlabel="rows by class, before (pale) and after; the share of the rarest beside them")
    axes.legend(fontsize=8, frameon=False)
    return [head, page.image(figure, "classes before and after each method")]


def learning(outcomes: Sequence[Outcome]) -> list[str]:
    """Learning curves, one plot per curve name: what they are of stands in the name."""
    out = ["<h3>Learning curves</h3>"]
    for name in _names(outcomes, "learning"):
        figure, axes = page.axes(10, 3.5)
        for o in [o for o in outcomes if o.curves.get(name)][:_MOST]:
            points = np.asarray(o.curves[name], float)
            axes.plot(points[:, 0], points[:, 1], marker="o", markersize=3, linewidth=1.2, label=f"{o.method} ({o.kind})")
        axes.set(xlabel="step", ylabel=_group(name) or "value")
        axes.legend(fontsize=8, frameon=False)
        out.append(page.image(figure, f"learning curves {_group(name)}"))
    return out if len(out) > 1 else []


def precision_recall(outcomes: Sequence[Outcome]) -> list[str]:
    """Precision over recall of the given methods, overall and per group side by side."""

    def draw(axes: Any, points: Any, label: str, colour: str) -> None:
        axes.step(points[:, 0], points[:, 1], where="post", label=label, color=colour, linewidth=1.3)
        axes.set(xlabel="recall", xlim=(0, 1))

    return _panels(outcomes, "pr", "Precision and recall", "precision", draw)


def calibration(outcomes: Sequence[Outcome]) -> list[str]:
    """Predicted against actual rates of the given methods, on log axes where rates are small: the diagonal is calibrated."""

    def draw(axes: Any, points: Any, label: str, colour: str) -> None:
        kept = points[(points > 0.0).all(axis=1)]
        if not len(kept):
            return
        axes.loglog(kept[:, 0], kept[:, 1], marker="o", markersize=3, linewidth=1, label=label, color=colour)
        ends = np.array([min(kept.min(), *axes.get_xlim()), kept.max()])
        axes.plot(ends, ends, color="#8c959f", linewidth=0.8, linestyle="--", zorder=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter("")
        axes.set(xlabel="predicted")

    return _panels(outcomes, "calibration", "Calibration", "actual", draw)


def _panels(outcomes: Sequence[Outcome], what: str, title: str, ylabel: str, draw: Any) -> list[str]:
    names = list(_names(outcomes, what))
    if not names:
        return []
    figure, panels = page.axes(max(5.0, 3.2 * len(names)), 3.6, columns=len(names))
    panels = [panels] if len(names) == 1 else panels
    labels: dict[str, Any] = {}
    for axes, name in zip(panels, names, strict=True):
        for place, o in enumerate([o for o in outcomes if any(n in o.curves for n in names)][:_MOST]):
            if o.curves.get(name):
                draw(axes, np.asarray(o.curves[name], float), f"{o.method} ({o.kind})", f"C{place}")
        axes.set_title(_group(name) or "all", loc="left", fontsize=10)
        labels |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    panels[0].set(ylabel=ylabel)
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return [f"<h3>{escape(title)}</h3>", page.image(figure, title)]


def _names(outcomes: Sequence[Outcome], what: str) -> Iterator[str]:
    """Curve names of a kind, the overall one first: ``pr``, ``pr/head`` …"""
    found = dict.fromkeys(n for o in outcomes for n, points in o.curves.items() if n.split("/")[0] == what and points)
    yield from sorted(found, key=lambda n: "/" in n)


def _group(name: str) -> str:
    return name.partition("/")[2]
