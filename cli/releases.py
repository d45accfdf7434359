"""Releases: activate, try on some users, go back, compare, clear away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from cli.common import explained, layout, out, triton_address
from ranking.layout import Layout

if TYPE_CHECKING:
    pass

release_app = typer.Typer(help="Releases: what the platform serves, and what it served before.", no_args_is_help=True)


@release_app.command("list")
def release_list() -> None:
    """Every release of the store, oldest first."""
    from deploy import store

    table = Table("release", "created", "active", "problem")
    with explained():
        for row in store.list_releases(layout().releases):
            table.add_row(row.id, row.created, "●" if row.active else "", escape(row.problem))
        _, problem = store.look(layout().releases)
    out.print(table)
    if problem:
        out.print(f"[red]{escape(problem)}[/]; `longtail release activate ID` mends it")


@release_app.command("activate")
def release_activate(release: Annotated[str, typer.Argument(help="release id")]) -> None:
    """Load a release on the running Triton, verify its golden scores, then give it all traffic."""
    from deploy import lifecycle

    with explained():
        done = lifecycle.activate(layout(), release, triton_address(layout()))
    out.print(f"release {done.id} is active")


@release_app.command("rollback")
def release_rollback() -> None:
    """Go back to the release that was active before."""
    from deploy import lifecycle

    with explained():
        done = lifecycle.rollback(layout(), triton_address(layout()))
    out.print(f"release {done.id} is active")


@release_app.command("verify")
def release_verify(release: Annotated[str, typer.Argument(help="release id")]) -> None:
    """Check a release without moving any traffic: files, digests, schema, golden scores on the running Triton."""
    from deploy import lifecycle

    with explained():
        done = lifecycle.check(layout(), release, triton_address(layout()))
    out.print(f"release {done.id} is in order: {', '.join(f'{m.name} (version {m.version} of {m.model})' for m in done.members)}")


@release_app.command("canary")
def release_canary(
    percent: Annotated[float, typer.Argument(min=0, max=100, help="share of the users it answers")],
    release: Annotated[str, typer.Argument(help="release id; default: the one on trial")] = "",
) -> None:
    """Let a verified release answer a share of the users, always the same ones; raising the share keeps those who are in."""
    _try(release, "canary", percent)


@release_app.command("shadow")
def release_shadow(
    release: Annotated[str, typer.Argument(help="release id; default: the one on trial")] = "",
    percent: Annotated[float, typer.Option(min=0, max=100, help="share of the users whose requests it ranks too")] = 100.0,
) -> None:
    """Let a verified release rank what the active one answers, unseen by anyone; `longtail release compare` tells the differences."""
    _try(release, "shadow", percent)


@release_app.command("promote")
def release_promote() -> None:
    """Make the release on trial the active one."""
    from deploy import trials

    with explained():
        done = trials.promote(layout(), triton_address(layout()))
    out.print(f"release {done.id} is active")


@release_app.command("end")
def release_end() -> None:
    """End the trial: every request is the active release's again."""
    from deploy import trials

    with explained():
        ended = trials.end(layout(), triton_address(layout()))
    out.print(f"the trial of {ended.release} is ended" if ended else "no release was on trial")


@release_app.command("status")
def release_status(as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False) -> None:
    """What is active, what was, what is on trial, what Triton serves and what the gateway answers with. Exit status 1 with a problem."""
    from deploy import standing

    with explained():
        found = standing.standing(layout())
    if as_json:
        print(json.dumps(found))
    else:
        trial, triton, gateway = found["trial"], found["triton"], found["gateway"]
        table = Table("", "", show_header=False)
        table.add_row("active", f"{found['active']} since {found['activated']}" if found["active"] else "none")
        table.add_row("previous", ", ".join(found["previous"]) or "none")
        table.add_row(
            "on trial", f"{trial['release']}: {trial['mode']} for {100 * trial['share']:g} % since {trial['started']}" if trial else "none"
        )
        serves = (
            [f"{model} {version} {state}" for model, versions in (triton["serves"] or {}).items() for version, state in versions.items()]
            if triton
            else []
        )
        table.add_row(
            "Triton", f"{triton['address']}: {', '.join(serves) or triton['error'] or 'nothing loaded'}" if triton else "not running"
        )
        tried = gateway and gateway["trial"]
        beside = f", {tried['release']} on trial ({tried['mode']}, {100 * tried['share']:g} %)" if tried else ""
        table.add_row("gateway", f"{gateway['address']}: {gateway['release'] or 'no release'}{beside}" if gateway else "not running")
        out.print(table)
        for problem in found["problems"]:
            out.print(f"[red]{escape(problem)}[/]")
    if found["problems"]:
        raise typer.Exit(1)


@release_app.command("gc")
def release_gc(
    keep: Annotated[int, typer.Option(min=0, help="how many releases to keep beyond those needed, the newest")] = 5,
) -> None:
    """Remove releases that are neither active, to be rolled back to, on trial, nor named by requests under way."""
    from deploy import garbage

    with explained():
        gone = garbage.collect(layout(), keep)
    for one in gone:
        out.print(f"removed {one.release} of {one.created}: {one.freed / 2**20:,.1f} MiB")
    out.print(f"{len(gone)} releases removed, {sum(one.freed for one in gone) / 2**20:,.1f} MiB freed")


@release_app.command("push")
def release_push(
    release: Annotated[str, typer.Argument(help="release id")],
    url: Annotated[str, typer.Argument(help="a release store elsewhere: any URL that fsspec knows, s3://bucket/releases for example")],
) -> None:
    """Copy a release, verified, to a store elsewhere. Of two that push one name, one wins; the other gets an error."""
    from deploy import elsewhere

    with explained():
        done = elsewhere.push(layout().releases, release, url)
    out.print(f"release {done.id} is at {escape(url)}")


@release_app.command("pull")
def release_pull(
    release: Annotated[str, typer.Argument(help="release id; a wrong one is answered with those there are")],
    url: Annotated[str, typer.Argument(help="where it was pushed to")],
) -> None:
    """Copy a release from a store elsewhere into this one, verified; nobody serves it before it is activated."""
    from deploy import elsewhere

    with explained():
        done = elsewhere.pull(url, release, layout().releases)
    out.print(f"release {done.id} is in {layout().releases}")


@release_app.command("compare")
def release_compare(
    release: Annotated[str, typer.Argument(help="release id; default: the one on trial, else the latest that was")] = "",
    event_log: Annotated[
        str, typer.Option(envvar="LONGTAIL_EVENT_LOG", help="the event log's Redis, as for the gateway; empty: SQLite")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """How a release on trial fares beside the active one, with 95 % intervals; says so where it is too little to tell."""
    from services.gateway.trials import compare, events, log

    with explained(), events.opened(layout(), event_log) as feedback:
        sections = compare.compare(log.read(layout().trials), feedback, release or _on_trial(layout()))
    if as_json:
        print(json.dumps({section.mode: section.to_json() for section in sections}))
        return
    for section in sections:
        table = Table("", *(Column(name, justify="right") for name in (section.active, section.tried, "difference", "95 %")), "")
        for f in section.figures:
            low, high = (f"{v:+.4g}" for v in f.difference[1:])
            table.add_row(f.name, f"{f.active:.4g}", f"{f.tried:.4g}", f"{f.difference.value:+.4g}", escape(f"[{low}, {high}]"), f.verdict)
        out.print(f"{section.mode}: {section.requests[0]:,} requests of {section.active}, {section.requests[1]:,} of {section.tried}")
        out.print(table)
        for note in section.notes:
            out.print(escape(note))


def _on_trial(state: Layout) -> str:
    """Id of the release on trial, empty for none."""
    from deploy import store

    now, _ = store.look(state.releases)
    return now.trial.release if now and now.trial else ""


def _try(release: str, mode: str, percent: float) -> None:
    from deploy import trials
    from ranking.trial import Mode

    with explained():
        trial = trials.start(layout(), release, triton_address(layout()), mode=Mode(mode), share=percent / 100)
    out.print(f"release {trial.release} is on trial: {trial.mode} for {100 * trial.share:g} % of the users")
