"""An answer as a person reads it in a terminal: the list with and without fairness, why, what it cost, exposure, versions, times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.client import words

STAGES = ("total", "convert", "features", "assemble", "score", "blend", "fairness", "explain")
TOLD = 3  # results explained in words, from the top
TOLD_LIFTED = 2  # and of those behind them that the policy moved up
REASONS = 3  # named per direction
GROUPS = 12  # lines of the table of groups, costs or prices; a policy for every seller has hundreds


def answer(response: Any, *, titles: Mapping[str, str], bids: Mapping[str, int], bought: Collection[str] = ()) -> RenderableType:
    """The whole answer.

    Args:
        response: a `RankResponse`; with explanations the list shows member scores and the rank without floors.
        titles: item id -> text to show.
        bids: item id -> bid in micros; empty for search.
        bought: items the user went on to buy, marked where the truth is known.
    """
    parts: list[RenderableType] = [_results(response, titles, bids, bought)]
    if response.explanations:
        parts.append(_why(response, titles, bids))
    if response.HasField("fairness") and response.fairness.costs:
        parts.append(_costs(response, titles, bids))
    parts += [_exposure(response, bids), Text(_footer(response))]
    if response.degradations:
        parts.append(
            Text("degraded: " + "; ".join(f"{d.component} {d.reason} ({d.detail})" for d in response.degradations), style="yellow")
        )
    return Group(*parts)


def before_after(plain: Any, fair: Any, *, titles: Mapping[str, str], width: int = 48) -> RenderableType:
    """The list by score alone beside the list with the floor; both answers need explanations."""
    only = ", which only reports" if fair.policy_mode == "report_only" else ""
    table = Table(title=f"by score alone → with the fairness policy{only}", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("by score alone", max_width=width, no_wrap=True)
    table.add_column("with the policy", max_width=width + 12, no_wrap=True)
    kept = {e.item_id for e in fair.explanations}
    for before, after in zip(plain.explanations, fair.explanations, strict=False):
        was = Text(f"{before.group:<4} {titles.get(before.item_id, before.item_id)}", style="" if before.item_id in kept else "dim strike")
        now = Text(f"{after.group:<4} {titles.get(after.item_id, after.item_id)[: width - 5]}", style="green" if _up(after) else "")
        if _up(after):
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
    lines += [_calibration(surface, rankers["blend"]) for surface, rankers in release_metrics.get(split, {}).items()]
    note = {"validation": "validation lists are the ones the configuration was chosen on; test lists were read once"}.get(split, "")
    return Group(table, *(Text(line) for line in (*lines, note) if line))


def _calibration(surface: str, tiers: Mapping[str, Any]) -> str:
    """The blend's calibration by group: predicted over actual, and ECE, where a group had something to count."""
    known = {tier: row for tier, row in tiers.items() if tier != "all" and row.get("predicted_over_actual")}
    parts = [f"{tier} {_interval(row['predicted_over_actual'])}, ECE {_interval(row.get('ece'))}" for tier, row in known.items()]
    return f"{surface}: predicted/actual of the blend by tier: {'; '.join(parts)}" if parts else ""


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
    for column in (["bid", "bid × p", "price"] if bids else []) + [f"{m} p (w)" for m in members] + ["p"]:
        table.add_column(column, justify="right", no_wrap=True)
    if bought:
        table.add_column("bought")
    for rank, item in enumerate(results.item_ids, 1):
        cells: list[str | Text] = [str(rank)]
        if item in explained:
            e = explained[item]
            cells += [str(e.rank_before) + (" ↑" if _up(e) else ""), e.group]
        cells += [Text(item), Text(titles.get(item, ""))]  # not str: an id or a title with [brackets] is no markup
        if bids:
            cells += [_money(bids.get(item, 0)), _money(results.scores[rank - 1]), _money(results.price_micros[rank - 1])]
        if item in explained:
            cells += [_member(m) for m in explained[item].members]
        cells.append(f"{results.probabilities[rank - 1]:.4f}")
        if bought:
            cells.append("✓" if item in bought else "")
        table.add_row(*cells, style="green" if item in explained and _up(explained[item]) else "")
    return table


def _why(response: Any, titles: Mapping[str, str], bids: Mapping[str, int]) -> RenderableType:
    """The first results, and the first that the policy moved up, in words."""
    several = len({g.attribute for g in response.exposure}) > 1
    lifted = [e for e in response.explanations[TOLD:] if _up(e)][:TOLD_LIFTED]
    member = next((e.attributed_member for e in response.explanations if e.attributed_member), "")
    note = f" (± parts of {member}'s log-odds; 0.7 doubles the odds)" if member else ""
    table = Table(title=f"why they stand there{note}", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column("#", justify="right", style="bold")
    table.add_column("why")
    for e in [*response.explanations[:TOLD], *lifted]:
        why = Text(titles.get(e.item_id, e.item_id), style="bold")
        why.append(f"  {words.standing(e, _figure(bids), attribute=several)}", style="green not bold" if _up(e) else "not bold")
        for mark, style, up in (("↑", "cyan", True), ("↓", "magenta", False)):
            if said := words.strongest(e, REASONS, up=up):
                why.append(f"\n{mark} {' · '.join(said)}", style=f"{style} not bold")
        table.add_row(str(e.rank), why)
    return table


def _costs(response: Any, titles: Mapping[str, str], bids: Mapping[str, int]) -> RenderableType:
    """What each promise cost, in the order they were added, and all of them together."""
    figure, f = _figure(bids), response.fairness
    together = f"utility {figure(f.utility_before)} → {figure(f.utility)}"
    if f.utility_before > 0:
        together += f" ({(f.utility - f.utility_before) / f.utility_before:+.2%})".replace("-", "\N{MINUS SIGN}")
    table = Table(title="what each promise cost, given those above it", title_justify="left", show_footer=True)
    table.add_column("promise", footer="together")
    table.add_column("item placed", max_width=48, no_wrap=True, footer=together)
    table.add_column("cost", justify="right", footer=figure(f.utility_before - f.utility))
    for c in f.costs[:GROUPS]:
        table.add_row(Text(words.promise(c)), Text(titles.get(c.item_id, c.item_id)), figure(c.cost))
    if rest := f.costs[GROUPS:]:
        table.add_row(f"{len(rest)} more", "", figure(sum(c.cost for c in rest)), style="dim")
    if f.optimality_gap > 0:
        table.caption = f"at most {f.optimality_gap:.2%} short of the best possible list"
        table.caption_justify = "left"
    return table


def _exposure(response: Any, bids: Mapping[str, int]) -> RenderableType:
    """A line per group; columns that say nothing for any of them are left out."""
    groups = list(response.exposure)
    attributes = {g.attribute for g in groups}
    shown = groups if len(groups) <= GROUPS else [g for g in groups if g.count or g.count_before or g.shortfall or g.excess][:GROUPS]
    figure = _figure(bids)
    columns: list[tuple[str, Callable[[Any], str], bool]] = [
        ("attribute", lambda g: words.plain(g.attribute), len(attributes) > 1),
        ("group", lambda g: g.group, True),
        ("candidates", lambda g: str(g.candidates), True),
        ("floor", lambda g: f"{g.target_share:.0%}", True),
        ("ceiling", lambda g: f"{g.ceiling:.0%}" if g.ceiling < 1 else "", any(0 < g.ceiling < 1 for g in groups)),
        ("places before → after", lambda g: f"{g.count_before} → {g.count}", True),
        ("exposure before → after", lambda g: f"{g.exposure_before:.1%} → {g.exposure:.1%}", True),
        ("shortfall", lambda g: str(g.shortfall), True),
        ("excess", lambda g: str(g.excess), any(g.excess for g in groups)),
        ("owed, in lists", lambda g: f"{g.debt:.2f}", any(g.debt or g.price for g in groups)),
        ("price", lambda g: figure(g.price), any(g.debt or g.price for g in groups)),
    ]
    used = [(name, cell) for name, cell, says in columns if says]
    by = f"by {words.plain(next(iter(attributes)))}" if len(attributes) == 1 and "" not in attributes else "by group"
    would = ", report only: what enforcing it would do" if response.policy_mode == "report_only" else ""
    # Text and not str: a policy named [bold] is no markup.
    table = Table(title=Text(f"exposure {by} (policy {response.policy} version {response.policy_version}{would})"), title_justify="left")
    for name, _ in used:
        table.add_column(name, justify="left" if name in ("attribute", "group") else "right")
    for g in shown:
        table.add_row(*(Text(cell(g)) for _, cell in used))
    hidden = len(groups) - len(shown)
    return Group(table, Text(f"and {hidden} more groups", style="dim")) if hidden else table


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


def _up(e: Any) -> bool:
    """Whether the policy moved this result up."""
    return bool(e.rank < e.rank_before)


def _member(score: Any) -> str:
    return f"{score.probability:.4f} ({score.weight:.2f})" if score.HasField("probability") else "—"


def _figure(bids: Mapping[str, int]) -> Callable[[float], str]:
    """How a score is written: a probability, or with bids an amount of money; small ones with up to six digits."""

    def written(value: float) -> str:
        size = abs(value) / (1e6 if bids else 1.0)
        digits = f"{size:.4f}" if size >= 0.01 else f"{size:.6f}".rstrip("0").ljust(6, "0")
        return ("\N{MINUS SIGN}" if value < 0 and size >= 5e-7 else "") + digits

    return written


def _money(micros: float) -> str:
    return f"{micros / 1e6:.4f}"


def _number(interval: Any) -> str:
    return "—" if interval is None or interval[0] is None else f"{interval[0]:.3f}".removeprefix("0")


def _interval(interval: Any) -> str:
    if interval is None or interval[0] is None:
        return "—"
    low, high = (None if x is None else f"{x:.2f}".removeprefix("0") for x in interval[1:])
    return f"{_number(interval)} [{low}, {high}]" if low is not None else _number(interval)
