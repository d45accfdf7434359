"""Releases: activate, try on some users, go back, compare, clear away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from cli.common import explained, layout, out, triton_address
from ranking.layout import Layout
from ranking.variants import Parity

if TYPE_CHECKING:
    from deploy.operations import Releases
    from ranking.variants import Parity

release_app = typer.Typer(help="Releases: what the platform serves, and what it served before.", no_args_is_help=True)


ADDRESS = typer.Option(help="host:port of a ReleaseService; its token in LONGTAIL_RELEASE_TOKEN; default: this state directory")
Address = Annotated[str, ADDRESS]


@release_app.command("list")
def release_list(address: Address = "") -> None:
    """Every release of the store, oldest first."""
    table = Table("release", "created", "active", "problem")
    with _releases(address) as releases:
        for row in releases.listed():
            table.add_row(row.id, row.created, "●" if row.active else "", escape(row.problem))
        problems = [] if address else [_pointer_problem()]
    out.print(table)
    for problem in filter(None, problems):
        out.print(f"[red]{escape(problem)}[/]; `longtail release activate ID` mends it")


@release_app.command("activate")
def release_activate(release: Annotated[str, typer.Argument(help="release id")], address: Address = "") -> None:
    """Load a release on the running Triton, verify its golden scores, then give it all traffic."""
    with _releases(address) as releases:
        done = releases.activate(release)
    out.print(f"release {done.id} is active")


@release_app.command("rollback")
def release_rollback(address: Address = "") -> None:
    """Go back to the release that was active before."""
    with _releases(address) as releases:
        done = releases.rollback()
    out.print(f"release {done.id} is active")


@release_app.command("verify")
def release_verify(release: Annotated[str, typer.Argument(help="release id")], address: Address = "") -> None:
    """Check a release without moving any traffic: files, digests, schema, golden scores on the running Triton."""
    with _releases(address) as releases:
        done = releases.verify(release)
    out.print(f"release {done.id} is in order: {', '.join(f'{m.name} (version {m.version} of {m.model})' for m in done.members)}")


@release_app.command("show")
def release_show(release: Annotated[str, typer.Argument(help="release id")], address: Address = "") -> None:
    """Where a release comes from, its members, and how exact each of their forms is; nothing is loaded."""
    with _releases(address) as releases:
        found = releases.get(release)
    out.print(f"release {found.id} of {found.created}: {', '.join(f'{key} {escape(value)}' for key, value in found.lineage.items())}")
    table = Table("member", "model", "form", *(Column(name, justify="right") for name in ("rows", "largest error", "rank correlation")), "")
    for m in found.members:
        forms: list[tuple[str, Parity | None, str]] = [(name, parity, "served") for name, parity in m.variants]
        forms += [(name, parity, "beyond its bound") for name, parity in m.refused]
        for name, parity, standing in forms or [("", m.parity, "served")]:
            figures = (f"{parity.rows:,}", f"{parity.max_error:.2g}", f"{parity.rank_correlation:.5f}") if parity else ("", "", "")
            table.add_row(m.name, f"{m.model} {m.version}", name, *figures, standing)
    out.print(table)


@release_app.command("canary")
def release_canary(
    percent: Annotated[float, typer.Argument(min=0, max=100, help="share of the users it answers")],
    release: Annotated[str, typer.Argument(help="release id; default: the one on trial")] = "",
    address: Address = "",
) -> None:
    """Let a verified release answer a share of the users, always the same ones; raising the share keeps those who are in."""
    _try(release, "canary", percent, address)


@release_app.command("shadow")
def release_shadow(
    release: Annotated[str, typer.Argument(help="release id; default: the one on trial")] = "",
    percent: Annotated[float, typer.Option(min=0, max=100, help="share of the users whose requests it ranks too")] = 100.0,
    address: Address = "",
) -> None:
    """Let a verified release rank what the active one answers, unseen by anyone; `longtail release compare` tells the differences."""
    _try(release, "shadow", percent, address)


@release_app.command("promote")
def release_promote(address: Address = "") -> None:
    """Make the release on trial the active one."""
    with _releases(address) as releases:
        done = releases.promote()
    out.print(f"release {done.id} is active")


@release_app.command("end")
def release_end(address: Address = "") -> None:
    """End the trial: every request is the active release's again."""
    with _releases(address) as releases:
        ended = releases.end_trial()
    out.print(f"the trial of {ended.release} is ended" if ended else "no release was on trial")


@release_app.command("status")
def release_status(as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False, address: Address = "") -> None:
    """What is active, what was, what is on trial, what Triton serves and what the gateway answers with. Exit status 1 with a problem."""
    with _releases(address) as releases:
        found = releases.status()
    if as_json:
        print(json.dumps(found))
    else:
        trial, triton, gateway = found["trial"], found["triton"], found.get("gateway")
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
        if "gateway" in found:
            table.add_row("gateway", f"{gateway['address']}: {gateway['release'] or 'no release'}{beside}" if gateway else "not running")
        out.print(table)
        for problem in found["problems"]:
            out.print(f"[red]{escape(problem)}[/]")
    if found["problems"]:
        raise typer.Exit(1)


@release_app.command("gc")
def release_gc(
    keep: Annotated[int, typer.Option(min=0, help="how many releases to keep beyond those needed, the newest")] = 5,
    address: Address = "",
) -> None:
    """Remove releases that are neither active, to be rolled back to, on trial, nor named by requests under way."""
    with _releases(address) as releases:
        gone = releases.collect(keep)
    for one in gone:
        out.print(f"removed {one.release} of {one.created}: {one.freed / 2**20:,.1f} MiB")
    out.print(f"{len(gone)} releases removed, {sum(one.freed for one in gone) / 2**20:,.1f} MiB freed")


@release_app.command("token")
def release_token() -> None:
    """Issue the token by which `ReleaseService` knows who may move traffic; the one before no longer counts. Shown once."""
    from deploy.service import credentials

    with explained():
        print(credentials.issue(layout().release_token))


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
    renumber: Annotated[bool, typer.Option("--renumber", help="where a model's version is another model here, take a free one")] = False,
) -> None:
    """Copy a release from a store elsewhere into this one, verified; nobody serves it before it is activated."""
    from deploy import elsewhere

    with explained():
        done = elsewhere.pull(url, release, layout().releases, renumber=renumber)
    out.print(f"release {done.id} is in {layout().releases}")


@release_app.command("render")
def release_render(
    release: Annotated[str, typer.Argument(help="release id")],
    folder: Annotated[Path, typer.Argument(help="the model repository to write; must be empty")],
    backend: Annotated[str, typer.Option(help="onnxruntime (NVIDIA's container) or python (any Triton)")] = "onnxruntime",
    device: Annotated[str, typer.Option(help="cpu or gpu: whose instances are made")] = "cpu",
    instances: Annotated[int, typer.Option(min=1, help="of each model")] = 1,
) -> None:
    """Write a release as a model repository for a Triton of one's own; nothing is started or loaded."""
    from deploy.render import render
    from deploy.triton.target import Target

    with explained():
        done = render(layout().releases, release, folder, Target(backend, device, instances))
    out.print(f"release {done.id} is in {escape(str(folder))}, for the {backend} backend on {device}")


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


def _try(release: str, mode: str, percent: float, address: str) -> None:
    from ranking.trial import Mode

    with _releases(address) as releases:
        trial = releases.try_out(release, Mode(mode), percent / 100)
    out.print(f"release {trial.release} is on trial: {trial.mode} for {100 * trial.share:g} % of the users")


def _pointer_problem() -> str:
    from deploy import store

    return store.look(layout().releases)[1]


@contextmanager
def _releases(address: str) -> Iterator[Releases]:
    """The releases of this state directory, or of the platform behind a `ReleaseService`; errors are told as everywhere."""
    from deploy.operations import Here

    with explained():
        if not address:
            yield Here(layout(), lambda: triton_address(layout()))
            return
        from deploy.service.client import There

        token = os.environ.get("LONGTAIL_RELEASE_TOKEN", "")
        if not token:
            raise ValueError("LONGTAIL_RELEASE_TOKEN: is not set; `longtail release token` issues a token where the controller runs")
        with There(address, token) as there:
            yield there
