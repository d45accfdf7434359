"""The catalogue of features in words: one Markdown table per entity, from the declarations in `ranking.features`."""

from __future__ import annotations

from collections.abc import Iterable

from ranking.features import ALL_VIEWS, DERIVED, FOREVER, MODEL_COLUMNS, REQUEST_COLUMNS, SIDE_DERIVED, Entity, Feature, View

_HEAD = ("feature", "view", "type", "unit", "default", "lifetime", "owner", "model", "what it is")


def markdown() -> str:
    """All features: those of users, of items, what a request brings and what is derived from all of them."""
    parts = [(f"Features of {entity}s", [_line(f, v) for v in ALL_VIEWS if v.entity is entity for f in v]) for entity in Entity]
    parts.append(("Brought by the request", [_line(f, None) for f in REQUEST_COLUMNS]))
    parts.append(("Derived from user, item and query", [_line(f, None) for f in (*DERIVED, *SIDE_DERIVED)]))
    return "\n\n".join(f"## {title}\n\n{_table(lines)}" for title, lines in parts)


def _line(feature: Feature, view: View | None) -> tuple[str, ...]:
    lifetime = "" if view is None else "for good" if view.ttl == FOREVER else f"{view.ttl.total_seconds() / 86400:g} days"
    default = (
        "empty" if feature.default in (None, "") else f"{feature.default:g}" if isinstance(feature.default, float) else str(feature.default)
    )
    return (
        f"`{feature.name}`",
        view.name if view else "",
        feature.dtype,
        feature.unit,
        default,
        lifetime,
        view.owner if view else "ranking",
        "yes" if feature.name in MODEL_COLUMNS else "",
        feature.description.replace("|", "\\|"),
    )


def _table(lines: Iterable[tuple[str, ...]]) -> str:
    rows = [_HEAD, ("---",) * len(_HEAD), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
