"""Data sources, features and users: what is known, and what becomes of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from cli.common import ROOT, explained, layout, out, progress

if TYPE_CHECKING:
    from training.skew import Skew

data_app = typer.Typer(help="Data sources: canonical tables, and how imbalanced they are.", no_args_is_help=True)
features_app = typer.Typer(help="Features: what there are, and whether they are served as they were trained on.", no_args_is_help=True)
users_app = typer.Typer(help="Users: what becomes of what is known of them.", no_args_is_help=True)


_FORGETS = {
    "event log": "events",
    "feature state": "purchase lines that rows are counted from",
    "online store": "values (SQLite) or users (Redis) that lists are made by",
    "served log": "results of answered rankings",
    "pushed rows": "rows made of events, kept for `features verify`",
    "feature tables": "rows of the batch's user tables and of its purchases",
    "drafts": "files that killed processes left half written, whoever's",
}
"""What is removed of each store."""


@data_app.command("prepare")
def data_prepare(
    source: Annotated[str, typer.Argument(help="name of the source; a wrong one is answered with those there are")],
    path: Annotated[Path | None, typer.Option(help="folder of the source's files, where it needs any; nothing is copied from it")] = None,
) -> None:
    """A source's files to canonical tables, checked."""
    from training import sources

    with explained():
        made = sources.prepare(layout(), source, path)
        rows = json.loads((made.path / "meta.json").read_text())
    print(json.dumps({"tables": str(made.path), "reused": made.reused, **rows}))


@data_app.command("describe")
def data_describe(source: Annotated[str, typer.Argument(help="name of a prepared source")]) -> None:
    """How imbalanced a prepared source is: a table here, plots in an HTML page."""
    from training import describe

    with explained():
        text, page = describe.report(layout(), source)
    print(text)
    out.print(f"page with plots: {escape(str(page))}")


@features_app.command("compute")
def features_compute(
    until: Annotated[datetime | None, typer.Option(help="the watermark, UTC: nothing of it or later; default: the end of the data")] = None,
    full: Annotated[bool, typer.Option("--full", help="compute every week anew instead of going on from the last run's watermark")] = False,
    source: Annotated[str, typer.Option(help="of this source; only completejourney has what they need, not tables of your own")] = "",
) -> None:
    """Feature tables from the canonical tables: what is there is kept, later weeks are added. Prints what they hold.

    They are offline then: training reads them. `longtail features materialize` brings them to the gateways.
    """
    from training import sources, tables

    with explained():
        state = layout()
        prepared = sources.prepare(state, sources.of_features(state, source))
        made = tables.compute(state, prepared, until=until and until.replace(tzinfo=UTC), full=full)
        held = json.loads(state.feature_meta.read_text())
    out.print("next, for gateways to serve by them: longtail features materialize")
    print(json.dumps({"reused": made.reused, **{key: held[key] for key in ("rows", "first", "last", "watermark", "grown_from")}}))


@features_app.command("materialize")
def features_materialize(
    as_of: Annotated[
        datetime | None, typer.Option(help="every entity's newest row by this instant, UTC; default: now, or the instant that is replayed")
    ] = None,
) -> None:
    """Feature tables into the online store: `feast apply`, then `feast materialize` of all views, by their lifetimes. Gateways follow."""
    from training import online

    with explained():
        state = layout()
        at = as_of.replace(tzinfo=UTC) if as_of else online.serving_time(state)
        online.bring(state, at)
    print(json.dumps({"as_of": at.isoformat(), "views": [view.name for view in online.BATCH_VIEWS]}))


@features_app.command("embed")
def features_embed() -> None:
    """What items' texts mean, as vectors (`item_embedding`): texts nobody has read yet are read, some minutes for 20,000."""
    from training import embed

    with explained():
        done = embed.run(layout())
    print(json.dumps({"texts_read": done.texts_read, "items": done.items, "seconds": round(done.seconds, 1)}))


@features_app.command("docs")
def features_docs() -> None:
    """The catalogue of features as a table in Markdown: every feature with its view, type, unit, default, lifetime, owner and meaning."""
    from ranking.catalogue import markdown

    print(markdown())


@features_app.command("verify")
def features_verify(
    rankings: Annotated[int, typer.Option(min=1, help="how many of the latest served rankings to compare, at most")] = 2000,
    settle: Annotated[
        float, typer.Option(min=0, help="seconds after a materialisation within which gateways may have answered by what they had before")
    ] = 120.0,
    visible: Annotated[
        float, typer.Option(min=0, help="seconds about the push of a row within which the row before it may have answered")
    ] = 1.0,
) -> None:
    """Served against offline features, column by column. Exit status 1 where any value differs; one JSON object last."""
    from training import skew

    with explained():
        found = skew.verify(layout(), rankings=rankings, settle_s=settle, visible_s=visible)
    table = Table(
        "column", *(Column(name, justify="right") for name in ("rows that differ", "lost", "from nowhere", "symmetric difference"))
    )
    for column in sorted(found.columns, key=lambda c: -c.mismatches):
        share = f"{column.mismatches} ({column.mismatches / found.rows:.2%})" if column.mismatches else "0"
        table.add_row(column.name, share, str(column.missing), str(column.extra), f"{column.difference:.2g}")
    out.print(table)
    oldest, newest = (at and datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="seconds") for at in (found.oldest, found.newest))
    out.print(f"{found.rankings} rankings compared" + (f", answered from {oldest} to {newest}" if found.rankings else ""))
    out.print("the log has LONGTAIL_SERVED_SHARE of all users (default: a tenth); its files are written every LONGTAIL_SERVED_S seconds")
    if found.left_out:
        out.print(f"{found.left_out} rankings are older than the feature tables, which were made anew since, and were left out")
    if found.not_online:
        out.print(f"{found.not_online} rankings were answered by other rows than the tables', {_why_not_online(found)}, and were left out")
    if found.unknown_users:
        out.print(f"{found.unknown_users} rankings are of users without features; they were compared as nobody's")
    if found.other_schema:
        out.print(f"{found.other_schema} rows are of another feature schema and were left out")
    told: dict[str, object] = {"rankings": found.rankings, "rows": found.rows, "mismatches": found.mismatches}
    told |= {"left_out": found.left_out, "not_online": found.not_online}
    print(json.dumps(told | {"oldest": oldest, "newest": newest}))
    if found.mismatches:
        raise typer.Exit(1)


def _why_not_online(found: Skew) -> str:
    """The reason in words, and what can be done."""
    if found.online_since is None:
        return "which are not in the online store (`longtail features materialize`)"
    since = datetime.fromtimestamp(found.online_since / 1e6, UTC).isoformat(timespec="seconds")
    return f"which came online at {since}, or asked for instants beyond what was brought there"


@users_app.command("forget")
def users_forget(
    users: Annotated[list[str], typer.Argument(help="user ids")],
    event_log: Annotated[
        str, typer.Option(envvar="LONGTAIL_EVENT_LOG", help="the event log's Redis, as for the gateway; empty: SQLite")
    ] = "",
) -> None:
    """Remove users from every store of this machine, for good; says what was done. Exit status 1 where it has to be asked again."""
    from services.features import stores
    from services.privacy.forget import forget, prepared
    from services.privacy.forgotten import Forgotten

    with explained(), stores.opened(layout(), ROOT / "feature_repo", event_log) as opened:
        known = Forgotten(layout().forgotten)
        again = [user for user in dict.fromkeys(users) if user in known]
        done = forget(layout(), users, opened, told=lambda store: progress.print(f"  {store} …"))
        still = prepared(layout(), users)
    table = Table("store", Column("removed", justify="right"), "of what", "")
    for one in done:
        table.add_row(one.store, str(one.removed), _FORGETS[one.store], escape(one.failed) or "done")
    out.print(table)
    if not any(one.removed or one.failed for one in done if one.store != "drafts"):
        strangers = "known from files of your own only" if still else "never seen"
        who = "forgotten before" if len(again) == len(set(users)) else f"forgotten before, or {strangers}" if again else strangers
        out.print(f"Nothing of {escape(', '.join(dict.fromkeys(users)))} was in any store: {who}. A tombstone stands all the same.")
    out.print("Replays of their events are refused for good: tombstones never expire.")
    if still:
        out.print(
            f"Tables prepared from your own files still have rows of them: {escape(', '.join(map(str, still)))}. "
            "Features leave them out; the files are yours to change and to prepare again."
        )
    out.print("What was trained before (training/, releases/) was trained on them; train anew where that matters.")
    print(
        json.dumps(
            {"users": len(set(users)), "removed": {one.store: one.removed for one in done}, "failed": [d.store for d in done if d.failed]}
        )
    )
    if any(one.failed for one in done):
        raise typer.Exit(1)
