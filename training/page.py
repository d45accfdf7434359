"""What pages of training have in common: one HTML file that needs nothing else, its style, tables, and plots. Knows no report."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #d8dee4; text-align: right }
th:first-child, td:first-child { text-align: left }
img { max-width: 100% } code { background: #f2f4f7; padding: .1rem .3rem }
.wide { overflow-x: auto } .wide table { font-size: 13px } .wide th, .wide td { padding: .2rem .5rem; white-space: nowrap }
.wide td:first-child { position: sticky; left: 0; background: #fff } thead th { border-bottom: 2px solid #8c959f; vertical-align: bottom }
td.words, th.words { text-align: left; white-space: normal } small { color: #656d76; display: block; line-height: 1.1 }
tr.chosen td, .wide tr.chosen td:first-child { background: #eaf5ea } tr.part td { background: #f6f8fa; font-weight: 600 }
.met { color: #1a7f37; font-weight: 600 } .missed { color: #b42318; font-weight: 600 } .quiet { color: #656d76 }
nav a { margin-right: 1rem } a { color: #0969da }
"""


def write(path: Path, title: str, parts: Iterable[str]) -> None:
    """Write a page of HTML parts; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    path.write_text("\n".join([head, f"<h1>{escape(title)}</h1>", *parts, "</html>\n"]), encoding="utf-8")


def table(head: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of plain texts and numbers, escaped here."""

    def line(cells: Iterable[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join(["<table>", line(head, "th"), *(line(row, "td") for row in rows), "</table>"])


def html_table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], *, words: frozenset[int] = frozenset()) -> str:
    """A table whose cells are HTML already, in a box that scrolls sideways.

    Args:
        head: column titles, as HTML.
        rows: class of the row (``chosen``, ``part`` or none) and its cells; a row of one cell spans the table.
        words: columns that hold sentences: set left and wrapped.
    """

    def cell(tag: str, place: int, text: str) -> str:
        return f'<{tag} class="words">{text}</{tag}>' if place in words else f"<{tag}>{text}</{tag}>"

    def line(kind: str, cells: Sequence[str]) -> str:
        whole = len(cells) == 1 < len(head)
        inside = f'<td colspan="{len(head)}">{cells[0]}</td>' if whole else "".join(cell("td", *c) for c in enumerate(cells))
        return f'<tr class="{kind}">{inside}</tr>' if kind else f"<tr>{inside}</tr>"

    top = "".join(cell("th", *c) for c in enumerate(head))
    return "\n".join(
        ['<div class="wide"><table>', f"<thead><tr>{top}</tr></thead>", *(line(*row) for row in rows), "</table></div>"],
    )


def axes(width: float = 10.0, height: float = 4.0, *, columns: int = 1) -> tuple[Any, Any]:
    """A figure, in inches, and its axes: one, or an array of `columns` side by side."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    figure = Figure(figsize=(width, height), layout="constrained")
    made = figure.subplots(1, columns, squeeze=False)[0]
    for one in made:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.25)
    return figure, made[0] if columns == 1 else made


def image(figure: Any, alt: str) -> str:
    """As a data address: identifiers of several drawings in one page cannot clash."""
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "longtail"}):  # with the date left out, equal figures give equal pages
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f'<p><img alt="{escape(alt)}" src="data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"></p>'
