"""What users do, as one self-contained HTML page: who they are, what they buy, how often again, the tail over time, and funnels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ranking.features import HEAD_SHARE
from training import page
from training.describe.behaviour import FUNNEL, THIRDS, Behaviour

_LONGEST_GAP_DAYS = 120


def write_page(path: Path, found: Behaviour) -> None:
    """Write the page; its folder is made."""
    page.write(path, f"Longtail users: {found.source}", _parts(found))


def _parts(b: Behaviour) -> Iterator[str]:
    yield page.table(
        ("what", "how many"),
        [
            ("users who bought", f"{b.users:,}"),
            ("orders (what a user bought at one time)", f"{b.orders:,}"),
            ("lines (an item of an order)", f"{b.lines:,}"),
            ("orders per user, median", f"{np.median(b.frequency):,.0f}"),
            ("days since a user's last order, median", f"{np.median(b.recency_days):,.1f}"),
        ],
    )
    yield (
        "<h2>Segments by recency, frequency and spend</h2><p>Users in thirds by how lately and by how often they ordered. Who comes often "
        "and lately is upper right; who came often and stays away, lower right, is worth a letter.</p>"
    )
    yield page.image(_segments(b), "users and spend by recency and frequency")
    if b.categories:
        yield (
            "<h2>Category affinities</h2><p>The largest categories. Lift: a category's share of the lines of a third of users (by how "
            "often they order) over its share of all lines. Repeats: lines whose user had bought that very item before.</p>"
        )
        rows = [
            (name, *(f"{v:.2f}" for v in lift), f"{repeat:.0%}")
            for name, lift, repeat in zip(b.categories, b.lift, b.repeat_by_category, strict=True)
        ]
        yield page.table(("category", *(f"lift, {third} frequency" for third in THIRDS), "repeats"), rows)
    yield "<h2>Repeats</h2>"
    yield page.image(_repeats(b), "repeats by week, and the time between two purchases of an item")
    yield (
        "<h2>Head and tail over time</h2><p>Each week's lines by what their items had sold before that week: head are the items of which "
        f"fewer than {HEAD_SHARE:.0%} of all sold ones sold more.</p>"
    )
    yield page.image(_tail(b), "shares of head, tail and new items by week")
    yield "<h2>Funnels by surface</h2><p>User, item and day counted once per stage; a dash where nothing is recorded.</p>"
    yield page.table(
        ("from", "surface", *FUNNEL, "purchases per impression"),
        [(f.source, f.surface or "none", *(f"{n:,}" if n else "–" for n in f.counts), _rate(f.counts[-1], f.counts[0])) for f in b.funnels],
    )


def _rate(part: int, whole: int) -> str:
    return f"{part / whole:.3%}" if whole else "–"


def _segments(b: Behaviour) -> Any:
    figure, both = page.axes(11, 4, columns=2)
    for axes, values, title, form in (
        (both[0], b.rfm_users / max(b.users, 1), "share of users", "{:.0%}"),
        (both[1], b.rfm_spend, "share of money spent", "{:.0%}"),
    ):
        axes.grid(visible=False)
        axes.imshow(np.nan_to_num(values), origin="lower", cmap="Greens", vmin=0.0)
        for r in range(3):
            for f in range(3):
                text = "–" if np.isnan(values[r, f]) else form.format(values[r, f])
                dark = values[r, f] > 0.6 * np.nanmax(values) if text != "–" else False
                axes.text(f, r, text, ha="center", va="center", color="white" if dark else "black")
        axes.set_xticks(range(3), THIRDS)
        axes.set_yticks(range(3), THIRDS)
        axes.set(xlabel="frequency", ylabel="recency")
        axes.set_title(title, loc="left")
    return figure


def _repeats(b: Behaviour) -> Any:
    figure, (by_week, gaps) = page.axes(11, 3.5, columns=2)
    by_week.plot(b.weeks, b.repeat_share, color="#1a7f37")
    by_week.set(ylabel="share of lines", ylim=(0, 1))
    by_week.set_title("Bought before by the same user", loc="left")
    by_week.tick_params(axis="x", rotation=30)
    gaps.hist(b.gap_days[b.gap_days <= _LONGEST_GAP_DAYS], bins=np.arange(0, _LONGEST_GAP_DAYS + 1, 2), color="#1a7f37")
    gaps.set(xlabel="days", ylabel="pairs of purchases")
    gaps.set_title("Until the same item is bought again", loc="left")
    return figure


def _tail(b: Behaviour) -> Any:
    figure, axes = page.axes(11, 3.5)
    head, new = np.nan_to_num(b.head_share), b.new_share
    axes.stackplot(b.weeks, head, 1 - head - new, new, labels=("head", "tail", "new"), colors=("#8c959f", "#1a7f37", "#9be9a8"))
    axes.set(ylabel="share of lines", ylim=(0, 1))
    axes.legend(fontsize=8, loc="lower right")
    return figure
