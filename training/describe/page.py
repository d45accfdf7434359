"""A description as one self-contained HTML page: its tables, the long tail, what the head has, and the labels by part."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from training import page
from training.describe.measures import Balance, lorenz
from training.describe.tables import ALL, Description, Labels
from training.describe.text import BALANCE_HEAD, LABEL_HEAD, balance_rows, label_rows
from training.splits import PARTS

_DRAWN = 400  # points of a curve
_BARS = 120  # categories shown one by one


def write_page(path: Path, found: Description) -> None:
    """Write the page; its folder is made."""
    parts = ["<h2>Tables</h2>", page.table(("table", "rows"), [(name, f"{n:,}") for name, n in found.rows.items()])]
    if found.balances:
        parts += [
            f"<h2>Items and categories</h2><p>Split: {escape(found.split)}. The imbalance ratio is the largest count over the smallest "
            "above 0; the Gini coefficient is 0 where all have the same and nears 1 where one has all.</p>",
            page.table(BALANCE_HEAD, balance_rows(found)),
            page.image(_curves({what: by_part[ALL] for what, by_part in found.balances.items()}), "long tail and Lorenz curves"),
        ]
        parts += [
            page.image(_bars(what, by_part[ALL]), f"{what}, one bar each")
            for what, by_part in found.balances.items()
            if by_part[ALL].things <= _BARS
        ]
    for name, labels in found.labels.items():
        ratio = f"Imbalance ratio {labels.imbalance.imbalance_ratio:,.1f}. Split: {escape(labels.split)}."
        parts += [
            f"<h2>{escape(name)}</h2><p>{ratio}</p>",
            page.table(LABEL_HEAD, label_rows(name, labels)),
            page.image(_labels(labels), name),
        ]
    page.write(path, f"Longtail data: {found.source}", parts)


def _curves(balances: dict[str, Balance]) -> Any:
    figure, (tail, head) = page.axes(11, 4, columns=2)
    for what, b in balances.items():
        some = b.ranked[b.ranked > 0]
        rank = np.unique(np.geomspace(1, max(len(some), 1), _DRAWN).astype(np.int64))
        if len(some):
            tail.loglog(rank, some[rank - 1], label=what)
        head.plot(*lorenz(b.ranked), label=f"{what}: Gini {b.gini:.2f}")
    head.plot([0, 1], [0, 1], color="#8c959f", linewidth=0.8, linestyle="--", label="balance")
    tail.set(xlabel="rank", ylabel="count")
    tail.set_title("The long tail", loc="left")
    head.set(xlabel="share of the things, most frequent first", ylabel="share of the total")
    head.set_title("What the head has", loc="left")
    for axes in (tail, head):
        if axes.get_legend_handles_labels()[0]:  # the long tail of nothing has no line
            axes.legend(fontsize=8, frameon=False)
    return figure


def _bars(what: str, b: Balance) -> Any:
    figure, axes = page.axes(11, 3)
    axes.bar(np.arange(1, b.things + 1), b.ranked, width=0.9, color="#1a7f37")
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlabel="rank", ylabel="count (log)")
    axes.set_title(what, loc="left")
    return figure


def _labels(labels: Labels) -> Any:
    figure, axes = page.axes(11, 3)
    counts = np.array(list(labels.counts.values()), np.float64)  # (values, parts)
    shares = counts / np.maximum(counts.sum(axis=0), 1.0)
    at, width = np.arange(len(counts)), 0.8 / len(PARTS)
    for part, name in enumerate(PARTS):
        axes.bar(at + (part - (len(PARTS) - 1) / 2) * width, shares[:, part], width, label=name)
    axes.set_xticks(at, list(labels.counts))
    axes.set(xlabel="value", ylabel="share of the part")
    axes.legend(fontsize=8, frameon=False)
    return figure
