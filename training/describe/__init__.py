"""What a prepared source holds and how far it is from balance: counts, head and tail shares, labels, by split; as text and as a page.

Reads canonical tables of any source; knows neither features nor models.
"""

from __future__ import annotations

from pathlib import Path

from ranking.layout import Layout
from training.describe.page import write_page
from training.describe.tables import Description, describe
from training.describe.text import text
from training.sources import source

__all__ = ["Description", "describe", "report", "text", "write_page"]


def report(layout: Layout, name: str) -> tuple[str, Path]:
    """Describe a prepared source: the text for the terminal, and the page written under the state directory's `reports`.

    Raises:
        UnknownName: there is no such source.
        FileNotFoundError: it was not prepared; the message names the command.
    """
    source(name)
    found, page = describe(layout.canonical(name)), layout.home / "reports" / f"data-{name}.html"
    write_page(page, found)
    return text(found), page
