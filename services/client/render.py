"""An answer as tables for a terminal: the list with and without the fairness floor, exposure, versions, times."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

STAGES = ("total", "convert", "features", "assemble", "score", "blend", "fairness", "explain")


def answer(response: Any, *, titles: Mapping[str, str], bids: Mapping[str, int], bought: Collection[str] = ()) -> RenderableType:
    """The whole answer.

    Args:
        response: a `RankResponse`; with explanations the list shows member scores and the rank without floors.
        titles: item id -> text to show.
        bids: item id -> bid in micros; empty for search.
        bought: items the user went on to buy, marked where the truth is known.
    """
    parts: list[RenderableType] = [_results(response, titles, bids, bought), _exposure(response), Text(_footer(response))]
    if response.degradations:
        parts.append(
            Text("degraded: " + "; ".join(f"{d.component} {d.reason} ({d.detail})" for d in response.degradations), style="yellow")
        )
    return Group(*parts)


def before_after(plain: Any, fair: Any, *, titles: Mapping[str, str], width: int = 48) -> RenderableType:
    """The list by score alone beside the list with the floor; both answers need explanations."""
    table = Table(title="by score alone → with the fairness floor", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("by score alone", max_width=width, no_wrap=True)
    table.add_column("with the floor", max_width=width + 12, no_wrap=True)
    kept = {e.item_id for e in fair.explanations}
    for before, after in zip(plain.explanations, fair.explanations, strict=False):
        was = Text(f"{before.group:<4} {titles.get(before.item_id, before.item_id)}", style="" if before.item_id in kept else "dim strike")
        now = Text(
            f"{after.group:<4} {titles.get(after.item_id, after.item_id)[: width - 5]}", style="green" if after.binding_floor else ""
        )
        if after.binding_floor:
            now.append(f"  ↑ from {after.rank_before}", style="bold green")
        table.add_row(str(after.rank), was, now)
    return table


def metrics(release_metrics: Mapping[str, Any], split: str) -> RenderableType:
    """One split's table of rankers, overall and per tier, with 95 % intervals."""
    table = Table(title=f"{split} lists, value [95 % bootstrap interval over lists]", title_justify="left")
    for column in ("", "ranker", "NDCG@10", "recall@10", "… head", "… tail", "… new", "tail+new in top 10", "NE", "pred/actual"):
        table.add_column(column, justify="left" if column in ("", "ranker") else "right", no_wrap=True)
    for surface, rankers in release_metrics.get(split, {}).items():
        for name, tiers in rankers.items():
            row = tiers["all"]
            cells = [
                _interval(row["ndcg10"]),
                _interval(row["recall10"]),
                *(_number(tiers[t]["recall10"]) for t in ("head", "tail", "new")),
            ]
            cells += [_number(row["tail_share10"]), _interval(row.get("ne")), _interval(row.get("predicted_over_actual"))]
            table.add_row(surface, name, *cells)
        table.add_section()
    lines = [
        f"{surface}: NDCG@10 of the blend minus {key.removeprefix('ndcg10_minus_').replace('_', ' ')} {_interval(value)}"
        for surface, rankers in release_metrics.get(split, {}).items()
        for key, value in rankers["blend"]["all"].items()
        if key.startswith("ndcg10_minus_")
    ]
    note = {"validation": "validation lists are the ones the configuration was chosen on; test lists were read once"}.get(split, "")
    return Group(table, *(Text(line) for line in (*lines, note) if line))


def _results(response: Any, titles: Mapping[str, str], bids: Mapping[str, int], bought: Collection[str]) -> Table:
    results, explained = response.results, {e.item_id: e for e in response.explanations}
    members = [m.member for m in response.explanations[0].members] if response.explanations else []
    table = Table(title=f"ranking {response.ranking_id}", title_justify="left")
    table.add_column("#", justify="right")
    if explained:
        table.add_column("was", justify="right")
        table.add_column("group")
    table.add_column("item", no_wrap=True)
    table.add_column("text", max_width=40, no_wrap=True)
    for column in (["bid", "eCPM", "price"] if bids else []) + [f"{m} p (w)" for m in members] + ["p"]:
        table.add_column(column, justify="right", no_wrap=True)
    if bought:
        table.add_column("bought")
    for rank, item in enumerate(results.item_ids, 1):
        cells: list[str | Text] = [str(rank)]
        if item in explained:
            e = explained[item]
            cells += [str(e.rank_before) + (" ↑" if e.binding_floor else ""), e.group]
        cells += [Text(item), Text(titles.get(item, ""))]  # not str: an id or a title with [brackets] is no markup
        if bids:
            cells += [_money(bids.get(item, 0)), _money(results.scores[rank - 1]), _money(results.price_micros[rank - 1])]
        if item in explained:
            cells += [_member(m) for m in explained[item].members]
        cells.append(f"{results.probabilities[rank - 1]:.4f}")
        if bought:
            cells.append("✓" if item in bought else "")
        table.add_row(*cells, style="green" if item in explained and explained[item].binding_floor else "")
    return table


def _exposure(response: Any) -> Table:
    table = Table(title=f"exposure by group (policy {response.policy} version {response.policy_version})", title_justify="left")
    for column in ("group", "candidates", "floor", "places before → after", "exposure before → after", "shortfall"):
        table.add_column(column, justify="left" if column == "group" else "right")
    for g in response.exposure:
        table.add_row(
            g.group,
            str(g.candidates),
            f"{g.target_share:.0%}",
            f"{g.count_before} → {g.count}",
            f"{g.exposure_before:.1%} → {g.exposure:.1%}",
            str(g.shortfall),
        )
    return table


def _footer(response: Any) -> str:
    versions = ", ".join(f"{name}:{version}" for name, version in sorted(response.model_versions.items()))
    f = response.feature_freshness
    ms = {name: d.seconds * 1e3 + d.nanos / 1e6 for name, d in response.stage_durations.items()}
    first = [name for name in STAGES if name in ms]
    stages = ", ".join(f"{name} {ms[name]:.1f}" for name in [*first, *sorted(set(ms) - set(first))])
    return (
        f"release {response.release} · models {versions} · features {response.feature_schema_hash}: "
        f"{f.fresh} fresh, {f.stale} stale, {f.missing} missing, {f.defaulted} defaulted\nstages in ms: {stages}"
    )


def _member(score: Any) -> str:
    return f"{score.probability:.4f} ({score.weight:.2f})" if score.HasField("probability") else "—"


def _money(micros: float) -> str:
    return f"{micros / 1e6:.4f}"


def _number(interval: Any) -> str:
    return "—" if interval is None or interval[0] is None else f"{interval[0]:.3f}".removeprefix("0")


def _interval(interval: Any) -> str:
    if interval is None or interval[0] is None:
        return "—"
    low, high = (None if x is None else f"{x:.2f}".removeprefix("0") for x in interval[1:])
    return f"{_number(interval)} [{low}, {high}]" if low is not None else _number(interval)
