"""The page of a search: trials, what they depend on, learning curves, the front, what each method against imbalance gained or lost.

One HTML file that needs nothing else, made from the search's files, at any time. Knows no Ray.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import page
from training.search.journal import Journal, Row
from training.search.logs import flat
from training.search.status import STAGES, Status, figures, objectives_of, of

_SHOWN = 30  # trials in the table
_BINS = 4  # of a number, by its quantiles
_METHODS = ("resampler", "loss", "options/neural/loss", "calibrator", "blend", "members", "method")
_PLAIN: Mapping[str, str] = {"resampler": "none", "loss": "bce", "options/neural/loss": "bce", "calibrator": "platt", "method": "full"}


def write(path: Path, out: Path | None = None) -> Path:
    """Write the page of a search.

    Args:
        path: the search's folder, storage and name.
        out: the page; default: `report.html` in that folder.

    Raises:
        FileNotFoundError: there is no search.
    """
    found, out = of(path), out or path / "report.html"
    page.write(out, f"Search {path.name}", [part for status in found for part in _stage(path, status)])
    return out


def _stage(path: Path, status: Status) -> Iterator[str]:
    journal = Journal(path / status.stage if (path / status.stage).is_dir() and status.stage in STAGES else path)
    yield f"<h2>{escape(status.stage)}</h2>"
    done = "" if status.ended >= status.trials else " The search has not ended; the same command goes on."
    yield f"<p>{status.ended} of {status.trials} trials ended, {status.failed} failed, {status.stopped} were given up.{done}</p>"
    metric = next(iter(name for name, weight in objectives_of(status.asked).weights.items() if weight))
    rows = sorted(status.rows, key=lambda row: int(row["number"]))
    yield from trials(rows, metric)
    yield from importance(rows, metric)
    yield from curves(journal, rows, metric)
    yield from pareto(rows, status.front)
    yield from methods(rows)
    yield "<h3>Trials, best first</h3>"
    head = ("trial", "figures", "configuration", "seconds", "")
    yield page.table(head, [(r["trial"], figures(r["metrics"]), _said(r["config"]), r["seconds"], _fate(r)) for r in status.rows[:_SHOWN]])


def trials(rows: Sequence[Row], metric: str) -> Iterator[str]:
    """Every trial's figure by number, and the best so far."""
    points = [(row["number"], row["metrics"][metric]) for row in rows if metric in row["metrics"]]
    if not points:
        return
    figure, axes = page.axes(10, 3.5)
    x, y = np.array(points, float).T
    axes.plot(x, y, "o", color="#8c959f", markersize=4, label="trial")
    axes.step(x, np.maximum.accumulate(y), where="post", color="#0969da", label="best so far")
    axes.set(xlabel="trial", ylabel=metric)
    axes.legend(fontsize=8, frameon=False)
    yield page.image(figure, f"{metric} by trial")


def importance(rows: Sequence[Row], metric: str) -> Iterator[str]:
    """How much of the figure's variance between trials each parameter tells alone."""
    found = sorted(importances(rows, metric).items(), key=lambda pair: pair[1])
    if not found:
        return
    figure, axes = page.axes(10, 0.8 + 0.3 * len(found))
    axes.barh([name for name, _ in found], [share for _, share in found], color="#0969da")
    axes.set(xlabel=f"share of the variance of {metric} between trials that the parameter tells alone (η²)", xlim=(0, 1))
    yield "<h3>What it depends on</h3>"
    yield page.image(figure, "parameter importance")


def importances(rows: Sequence[Row], metric: str) -> dict[str, float]:
    """η² by parameter: variance between groups of trials over all of it; a number is grouped by its quartiles. Trials are no designed
    experiment: a searcher that learns tries what looks good, so this tells what went together, not what would.
    """
    known = [(flat(row["config"]), row["metrics"][metric]) for row in rows if metric in row["metrics"]]
    values = np.array([value for _, value in known], float)
    total = float(((values - values.mean()) ** 2).sum()) if len(values) else 0.0
    if total <= 0.0:
        return {}
    out = {}
    for name in dict.fromkeys(name for config, _ in known for name in config):
        group = _groups([config.get(name) for config, _ in known])
        if 1 < len(np.unique(group)) < len(values):
            means = np.bincount(group, values) / np.bincount(group)
            out[name] = float((np.bincount(group) * (means - values.mean()) ** 2).sum() / total)
    return out


def _groups(values: Sequence[Any]) -> NDArray[np.int64]:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(values) and len(set(values)) > _BINS:
        edges = np.quantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1])
        values = np.digitize(numbers, edges).tolist()
    return np.unique(np.array([str(v) for v in values]), return_inverse=True)[1].astype(np.int64)


def curves(journal: Journal, rows: Sequence[Row], metric: str) -> Iterator[str]:
    """Figures by rung, where trials have several."""
    found = {row["trial"]: [report.get(metric, math.nan) for report in journal.reports(row["number"])] for row in rows}
    if max((len(points) for points in found.values()), default=0) < 2:
        return
    figure, axes = page.axes(10, 3.5)
    for row in rows:
        points = found[row["trial"]]
        axes.plot(range(1, len(points) + 1), points, marker="o", markersize=3, linewidth=1, linestyle=":" if row["stopped"] else "-")
    axes.set(xlabel="rung; dotted: given up", ylabel=metric)
    yield "<h3>Learning curves</h3>"
    yield page.image(figure, "learning curves")


def pareto(rows: Sequence[Row], front: Sequence[str]) -> Iterator[str]:
    """Order against exposure of the tail, coloured by the entropy of the probabilities."""
    known = [row for row in rows if {"ndcg10", "tail_share10", "ne"} <= set(row["metrics"])]
    if not known:
        return
    figure, axes = page.axes(10, 4.5)
    x, y, colour = (np.array([row["metrics"][name] for row in known]) for name in ("tail_share10", "ndcg10", "ne"))
    shown = axes.scatter(x, y, c=colour, cmap="viridis_r", s=24)
    for row, a, b in zip(known, x, y, strict=True):
        if row["trial"] in front:
            axes.plot(a, b, "o", markersize=10, fillstyle="none", color="#b42318")
            axes.annotate(row["trial"], (a, b), xytext=(6, 4), textcoords="offset points", fontsize=8)
    figure.colorbar(shown, label="normalised entropy, less is better")
    axes.set(xlabel="share of the first ten places that tail and new items hold", ylabel="NDCG@10")
    yield "<h3>The front: no other trial is at least as good in all three (ringed)</h3>"
    yield page.image(figure, "Pareto front")


def methods(rows: Sequence[Row]) -> Iterator[str]:
    """Means by method, and the difference to the plain one's."""
    known = [(flat(row["config"]), row["metrics"]) for row in rows if "ndcg10" in row["metrics"]]
    for name in _METHODS:
        groups: dict[str, list[Mapping[str, float]]] = {}
        for config, metrics in known:
            if name in config:
                groups.setdefault(str(config[name]), []).append(metrics)
        if len(groups) < 2:
            continue
        plain = groups.get(_PLAIN.get(name, ""))
        lines = [(value, len(of), *(_gain(of, plain, m) for m in ("ndcg10", "tail_share10", "ne"))) for value, of in groups.items()]
        to = f"to {_PLAIN[name]}" if plain else "to the plain method, where it was tried"
        yield f"<h3>By {escape(name)}</h3>"
        yield f'<p class="quiet">Means over trials that differ in other things too; beside them the difference {to}.</p>'
        yield page.table((name, "trials", "NDCG@10", "tail+new in 10", "NE"), sorted(lines))


def _gain(of: Sequence[Mapping[str, float]], plain: Sequence[Mapping[str, float]] | None, metric: str) -> str:
    ours = [m[metric] for m in of if metric in m]
    theirs = [m[metric] for m in plain or () if metric in m]
    if not ours:
        return ""
    mean = float(np.mean(ours))
    return f"{mean:.4f}" + (f" ({mean - float(np.mean(theirs)):+.4f})" if theirs else "")


def _said(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in flat(config).items())


def _fate(row: Row) -> str:
    return row["error"] or ("given up" if row["stopped"] else "")
