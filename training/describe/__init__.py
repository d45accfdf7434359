"""What a prepared source holds and how far it is from balance, as text and as a page; and what its users do, as another page.

Reads canonical tables of any source; knows neither features nor models.
"""

from __future__ import annotations

from pathlib import Path

from ranking.layout import Layout
from training.describe import behaviour_page
from training.describe.behaviour import STEPS, Behaviour, measure
from training.describe.page import write_page
from training.describe.tables import Description, describe
from training.describe.text import text
from training.progress import Bar
from training.sources import source

__all__ = ["Behaviour", "Description", "describe", "measure", "report", "report_users", "text", "write_page"]


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


def report_users(layout: Layout, name: str) -> Path:
    """What the users of a prepared source do, with what the event log has: a page under the state directory's `reports`.

    Raises:
        UnknownName: there is no such source.
        FileNotFoundError: it was not prepared; the message names the command.
        ValueError: it has no purchases of known users.
    """
    source(name)
    page = layout.home / "reports" / f"users-{name}.html"
    with Bar(f"users of {name} measured", STEPS) as bar:
        found = measure(name, layout.canonical(name), layout.events, advance=bar.advance)
    behaviour_page.write_page(page, found)
    return page
