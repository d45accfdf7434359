"""What a prepared source holds and how far it is from balance: counts, head and tail shares, labels, by split; as text and as a page.

Reads canonical tables of any source; knows neither features nor models.
"""

from __future__ import annotations

from training.describe.page import write_page
from training.describe.tables import Description, describe
from training.describe.text import text

__all__ = ["Description", "describe", "text", "write_page"]
