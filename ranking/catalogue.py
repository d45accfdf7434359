"""The catalogue of features in words: tables in Markdown of the views and features that `ranking.features` declares."""

from __future__ import annotations

from collections.abc import Iterable

from ranking.features import (
    ALL_VIEWS,
    DERIVED,
    FOREVER,
    LIVE_FEATURES,
    MODEL_COLUMNS,
    PUSHED_VIEWS,
    REQUEST_COLUMNS,
    SIDE_DERIVED,
    VIEWS,
    Entity,
    Feature,
    View,
)

_VIEWS = ("view", "of", "lifetime", "owner", "filled by", "what it is")
_LEGEND = (
    "A row older than its view's lifetime is stale. For good: Feast's registry, which wants a number, says "
    f"{FOREVER.days:,} days. Releases read "
    f"{', '.join(view.name for view in VIEWS)}."
)
_HEAD = ("feature", "view", "type", "unit", "default", "lifetime", "owner", "model", "what it is")


def markdown() -> str:
    """All views, and all features: those of users, of items, what a request brings and what is derived from all of them."""
    views = [(f"`{v.name}`", v.entity.value, _lifetime(v), v.owner, _filled_by(v), _escaped(v.description)) for v in ALL_VIEWS]
    parts = [(f"Features of {entity}s", [_line(f, v) for v in ALL_VIEWS if v.entity is entity for f in v]) for entity in Entity]
    parts.append(("Brought by the request", [_line(f, None) for f in REQUEST_COLUMNS]))
    parts.append(("Derived from user, item and query", [_line(f, None) for f in (*DERIVED, *SIDE_DERIVED)]))
    tables = [("Views", f"{_table(_VIEWS, views)}\n\n{_LEGEND}"), *((title, _table(_HEAD, lines)) for title, lines in parts)]
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in tables)


def _line(feature: Feature, view: View | None) -> tuple[str, ...]:
    default = (
        "empty" if feature.default in (None, "") else f"{feature.default:g}" if isinstance(feature.default, float) else str(feature.default)
    )
    return (
        f"`{feature.name}`",
        view.name if view else "",
        feature.dtype,
        feature.unit,
        default,
        _lifetime(view) if view else "",
        view.owner if view else "ranking",
        "yes" if feature.name in MODEL_COLUMNS else "",
        _escaped(feature.description),
    )


def _lifetime(view: View) -> str:
    days = view.ttl.total_seconds() / 86400
    return "for good" if view.ttl == FOREVER else f"{days:g} day{'s' if days != 1 else ''}"


def _filled_by(view: View) -> str:
    return "events" if view in PUSHED_VIEWS else "batch and events" if view.name in LIVE_FEATURES else "batch"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
