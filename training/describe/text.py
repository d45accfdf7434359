"""A description for the terminal: plain tables of text, readable anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.describe.tables import Description, Labels
from training.splits import PARTS

BALANCE_HEAD = ("", "part", "how many", "total", "with none", "largest : smallest", "top fifth has", "the others", "Gini")
LABEL_HEAD = ("label", "value", "rows", "share", *PARTS)


def balance_rows(found: Description) -> list[tuple[str, ...]]:
    """One row per kind of thing and part, under `BALANCE_HEAD`."""
    return [
        (
            what if i == 0 else "",
            part,
            f"{b.things:,}",
            f"{b.total:,}",
            f"{b.untouched:,}",
            f"{b.imbalance_ratio:,.1f}",
            f"{b.head_share:.1%}",
            f"{b.tail_share:.1%}",
            f"{b.gini:.3f}",
        )
        for what, parts in found.balances.items()
        for i, (part, b) in enumerate(parts.items())
    ]


def label_rows(name: str, labels: Labels) -> list[tuple[str, ...]]:
    """One row per value, under `LABEL_HEAD`; what is in no part counts in none."""
    total = max(sum(map(sum, labels.counts.values())), 1)
    return [
        (name if i == 0 else "", value, f"{sum(parts):,}", f"{sum(parts) / total:.2%}", *(f"{n:,}" for n in parts))
        for i, (value, parts) in enumerate(labels.counts.items())
    ]


def text(found: Description) -> str:
    """The whole description, as lines."""
    blocks = [f"{found.source}", _aligned(("table", "rows"), [(name, f"{n:,}") for name, n in found.rows.items()])]
    if found.balances:
        blocks.append(f"split: {found.split}\n" + _aligned(BALANCE_HEAD, balance_rows(found)))
    for name, labels in found.labels.items():
        ratio = f"{name}: largest : smallest {labels.imbalance.imbalance_ratio:,.1f}; split: {labels.split}"
        blocks.append(ratio + "\n" + _aligned(LABEL_HEAD, label_rows(name, labels)))
    return "\n\n".join(blocks)


def _aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Texts on the left, everything else on the right, two spaces between."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = 2 if len(head) > 2 else 1
    return "\n".join(
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    )
