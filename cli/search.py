"""Searches: how they stand, their pages, and sending one to a Ray cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from cli.common import ROOT, explained, layout, out

search_app = typer.Typer(help="Searches: how they stand, their pages, and sending one to a cluster.", no_args_is_help=True)
_NAME = typer.Argument(help="name of the search")
_STORAGE = typer.Option(help="folder of all searches; default: search/ in the state directory")


@search_app.command("status")
def search_status(
    name: Annotated[str, _NAME],
    storage: Annotated[Path | None, _STORAGE] = None,
) -> None:
    """Trials that ended, the best so far and the front, while it runs or after; one JSON object last."""
    from training.search import status

    with explained():
        found = status.of((storage or layout().search) / name)
    for one in found:
        for line in status.lines(one):
            out.print(escape(line))
    print(json.dumps({one.stage: one.to_json() for one in found}))


@search_app.command("report")
def search_report(
    name: Annotated[str, _NAME],
    storage: Annotated[Path | None, _STORAGE] = None,
    to: Annotated[Path | None, typer.Option(help="the page; default: report.html in the search's folder")] = None,
) -> None:
    """One HTML page: trials, what they depend on, learning curves, the front, what each method gained or lost."""
    from training.search import report

    with explained():
        page = report.write((storage or layout().search) / name, to)
    print(page)


@search_app.command("rollout")
def search_rollout(
    profile: Annotated[str, typer.Option(help="tiny, demo or full: how much of everything")] = "tiny",
    trials: Annotated[int, typer.Option(help="of the ensembles; rankers get a fourth as many", min=1)] = 8,
    ungated: Annotated[bool, typer.Option("--ungated", help="release the best trial whatever it breaks")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="leave the platform running")] = False,
) -> None:
    """A search as a job of a Ray cluster of two nodes here, its winner released, on Triton, answering; says where each artefact lies."""
    from cli import rollout
    from training.profile import PROFILES

    if profile not in PROFILES:
        raise typer.BadParameter(f"{profile!r} is not known; known: {', '.join(PROFILES)}", param_hint="--profile")
    with explained():
        found = rollout.run(layout(), PROFILES[profile], trials, ungated=ungated, keep=keep)
    for what, where in found.items():
        out.print(f"{what:<18} {escape(where)}", soft_wrap=True)
    print(json.dumps(found))


@search_app.command("submit", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def search_submit(
    words: Annotated[list[str], typer.Argument(help="what `python -m training.search` is given, such as --config search.toml")],
    address: Annotated[str, typer.Option(envvar="RAY_JOBS_ADDRESS", help="the cluster's job server")] = "http://127.0.0.1:8265",
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="print the job's log until it ends")] = True,
) -> None:
    """Send the tracked files of this checkout to a Ray cluster and search there. The same words again go on with what was interrupted."""
    from deploy import submit

    with explained():
        upload = submit.pack(ROOT)
        out.print(f"upload: {upload.files} tracked files, {upload.size / 1e6:.2f} MB, sha256 {upload.digest[:16]}")
        job = submit.submit(upload, words, address)
        out.print(f"job {job} on {address}")
        state = submit.follow(job, address, print) if follow else "SUBMITTED"
    print(json.dumps({"job": job, "state": state, "size": upload.size, "sha256": upload.digest}))
    if state not in ("SUCCEEDED", "SUBMITTED"):
        raise typer.Exit(1)
