"""The front door: `longtail`, every command a few lines. Heavy imports stand inside the command that needs them."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ranking.errors import LongtailError, UnknownName
from ranking.layout import Layout
from ranking.types import Explain, Surface

if TYPE_CHECKING:
    from ranking.release import Release
    from training.lists.requests import SampleRequest

ROOT = Path(__file__).parent
app = typer.Typer(help="Longtail: ranking for e-commerce search and ads that keeps tail items visible.", no_args_is_help=True)
release_app = typer.Typer(help="Releases: what the platform serves, and what it served before.", no_args_is_help=True)
bench_app = typer.Typer(help="Benchmarks: ours and its yardstick in one run, one JSON object last.", no_args_is_help=True)
policy_app = typer.Typer(
    help="Fairness policies of the active release: look at them, change them without new models.", no_args_is_help=True
)
report_app = typer.Typer(help="Pages: what was measured, as one HTML file each.", no_args_is_help=True)
data_app = typer.Typer(help="Data sources: canonical tables, and how imbalanced they are.", no_args_is_help=True)
features_app = typer.Typer(help="Features: what there are, and whether they are served as they were trained on.", no_args_is_help=True)
users_app = typer.Typer(help="Users: what becomes of what is known of them.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(users_app, name="users")
app.add_typer(features_app, name="features")
app.add_typer(release_app, name="release")
app.add_typer(policy_app, name="policy")
app.add_typer(bench_app, name="bench")
app.add_typer(report_app, name="report")
out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def layout() -> Layout:
    """The state directory: LONGTAIL_HOME, else .longtail in the working directory."""
    return Layout(Path(os.environ.get("LONGTAIL_HOME") or ".longtail").resolve())


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Errors people can act on are printed as one line; LONGTAIL_DEBUG=1 keeps the traceback."""
    try:
        yield
    except (LongtailError, ValueError, OSError, RuntimeError) as error:
        if os.environ.get("LONGTAIL_DEBUG"):
            raise
        Console(stderr=True, highlight=False).print(f"[red]longtail:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def train(
    profile: Annotated[str, typer.Option(help="tiny, demo or full: how much of everything")] = "demo",
    ungated: Annotated[bool, typer.Option("--ungated", help="publish even what the calibration gate refuses")] = False,
) -> None:
    """Data to release: prepare, Feast, frames, BERT, search, calibration gate, publish. Reuses what is there."""
    from training import pipeline
    from training.profile import PROFILES

    if profile not in PROFILES:
        raise typer.BadParameter(f"{profile!r} is not known; known: {', '.join(PROFILES)}", param_hint="--profile")
    with explained():
        result = pipeline.run(layout(), PROFILES[profile], ungated=ungated)
    print(json.dumps({"release": result.release.id, "reused": result.reused}))


@app.command()
def install_triton() -> None:
    """Fetch Triton's wheel into the state directory, unless it is there."""
    from deploy.triton import wheel

    with explained():
        wheel.install(layout().triton_server)


@app.command()
def up(
    address: Annotated[str, typer.Option(help="host:port of the gateway")] = "127.0.0.1:50051",
    triton_port: Annotated[int, typer.Option(help="gRPC port of Triton; 0: a free one")] = 8001,
) -> None:
    """Start Triton, its controller, the feature process and the gateway in the background; activates the newest release if none is."""
    from deploy import local
    from deploy.triton import wheel

    with explained():
        wheel.install(layout().triton_server)
        with out.status("starting Triton and the gateway, verifying the release"):
            local.up(layout(), ROOT / "feature_repo", address=address, triton_port=triton_port)
        _print_status(layout())


@app.command()
def down() -> None:
    """Stop what `up` started."""
    from deploy import local

    with explained():
        stopped = local.down(layout())
    out.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def status() -> None:
    """What runs, where it listens, which release is active. Exit status 1 unless everything is ready."""
    with explained():
        ready = _print_status(layout())
    if not ready:
        raise typer.Exit(1)


@app.command()
def rank(
    surface: Annotated[Surface, typer.Option(help="search or ads")],
    user: Annotated[str, typer.Option(help="user id; empty or unknown is ranked with defaults")] = "",
    query: Annotated[str, typer.Option(help="search text: finds search's candidates; ads are what the store promotes, ranked for it")] = "",
    top_k: Annotated[int, typer.Option(help="number of results", min=1)] = 10,
    candidates: Annotated[int, typer.Option(help="candidates to rank", min=1, max=1000)] = 100,
    policy: Annotated[str, typer.Option(help="fairness policy by name; default: the active one")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="why each result stands there, and what the policy cost")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the answer as JSON")] = False,
) -> None:
    """Ask the running gateway; candidates come from the prepared data."""
    from training.lists import requests

    with explained():
        state = layout()
        address, canonical = _gateway(state), state.canonical("completejourney")
        if not (canonical / "meta.json").exists():
            raise FileNotFoundError(f"{canonical}: no prepared data to take candidates from; `make demo` or `longtail train` makes them")
        sample = requests.for_user(state, canonical, _clock(state), surface, user_id=user, query=query, n=candidates)
        _ask(address, sample, top_k=top_k, policy=policy, explain=Explain.FULL if explain else Explain.NONE, as_json=as_json)


@app.command()
def demo(
    profile: Annotated[str, typer.Option(help="tiny, demo or full")] = "demo",
    keep: Annotated[bool, typer.Option("--keep", help="leave the platform running")] = False,
) -> None:
    """The whole path on real data, from raw transactions to ranked lists over gRPC; stops what it started."""
    from deploy import local
    from deploy.triton import wheel
    from services.client import render
    from training import pipeline
    from training.profile import PROFILES

    start, state = time.monotonic(), layout()
    with explained():
        out.rule("Triton server")
        wheel.install(state.triton_server)
        out.rule("data → features → training → search → release")
        result = pipeline.run(state, PROFILES[profile])
        release = result.release
        for split in ("validation", "test"):
            out.print(render.metrics(release.metrics, split))
        out.rule(f"release {release.id} → Triton → gateway")
        ours = not local.status(state)["processes"]
        try:
            with out.status("starting Triton and the gateway, verifying the release"):
                local.up(state, ROOT / "feature_repo", release=release.id, address="127.0.0.1:0", triton_port=0)
            _print_status(state)
            for sample in _samples(result.requests):
                _ask(_gateway(state), sample, top_k=10, policy="", explain=Explain.FULL, as_json=False)
        finally:
            if ours and not keep:
                out.print(f"stopped {', '.join(local.down(state)) or 'nothing'}")
    out.rule(f"done in {time.monotonic() - start:.0f} s; `longtail up` keeps it running, `longtail rank --help` asks it")


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
        done = lifecycle.activate(layout(), release, _triton(layout()))
    out.print(f"release {done.id} is active")


@release_app.command("rollback")
def release_rollback() -> None:
    """Go back to the release that was active before."""
    from deploy import lifecycle

    with explained():
        done = lifecycle.rollback(layout(), _triton(layout()))
    out.print(f"release {done.id} is active")


@release_app.command("verify")
def release_verify(release: Annotated[str, typer.Argument(help="release id")]) -> None:
    """Check a release without moving any traffic: files, digests, schema, golden scores on the running Triton."""
    from deploy import lifecycle

    with explained():
        done = lifecycle.check(layout(), release, _triton(layout()))
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
        done = trials.promote(layout(), _triton(layout()))
    out.print(f"release {done.id} is active")


@release_app.command("end")
def release_end() -> None:
    """End the trial: every request is the active release's again."""
    from deploy import trials

    with explained():
        ended = trials.end(layout(), _triton(layout()))
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
        trial = trials.start(layout(), release, _triton(layout()), mode=Mode(mode), share=percent / 100)
    out.print(f"release {trial.release} is on trial: {trial.mode} for {100 * trial.share:g} % of the users")


@app.command()
def train_ranker(
    source: Annotated[str, typer.Option(help="a source with judged queries: esci")] = "esci",
    path: Annotated[Path | None, typer.Option(help="folder of the source's files; default: what `longtail data prepare` made")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="train even where these data and this program made one already")] = False,
) -> None:
    """Train the rankers of typed queries (ensemble, and BERT alone) and keep them in the state directory; cross-validated figures last."""
    from training.relevance import train as ranker

    with explained():
        if source != ranker.SOURCE:
            raise UnknownName("source", source, [ranker.SOURCE])
        made = ranker.train(layout(), path=path, anew=anew)
        said = json.loads((made.path / "ranker.json").read_text())
    print(json.dumps({"ranker": str(made.path), "reused": made.reused, "late": said["late"], "metrics": said["metrics"]}))


@app.command()
def evaluate(
    source: Annotated[str, typer.Option(help="what the labelled files are of: esci, clothing_reviews")],
    judgments: Annotated[Path | None, typer.Option(help="CSV with the columns query, asin, esci_label, gain")] = None,
    products: Annotated[Path | None, typer.Option(help="products as JSON lines, gzipped; default: the prepared ones")] = None,
    reviews: Annotated[Path | None, typer.Option(help="CSV with the columns Title, Review Text, Rating, Recommended IND")] = None,
    ranker: Annotated[
        str | None,
        typer.Option(help="esci: ensemble (default), late, maxsim, cosine, bm25, rating_count; reviews: bert (default), words, blend"),
    ] = None,
) -> None:
    """Score a named ranker, or reader of reviews, on labelled files given by path: one JSON object last."""
    from training import evaluate as judging

    with explained():
        found = judging.judge(layout(), source, ranker=ranker, files={"judgments": judgments, "products": products, "reviews": reviews})
    print(json.dumps(found))


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
) -> None:
    """Feature tables from the canonical tables: what is there is kept, later weeks are added. Prints what they hold."""
    from training import sources, tables

    with explained():
        state = layout()
        made = tables.compute(state, sources.prepare(state), until=until and until.replace(tzinfo=UTC), full=full)
        held = json.loads(state.feature_meta.read_text())
    print(json.dumps({"reused": made.reused, **{key: held[key] for key in ("rows", "first", "last", "watermark", "grown_from")}}))


@features_app.command("embed")
def features_embed() -> None:
    """What items' texts mean, as vectors (`item_embedding`): texts nobody has read yet are read, some minutes for 20,000."""
    from training import embed

    with explained():
        done = embed.run(layout())
    print(json.dumps({"texts_read": done.texts_read, "items": done.items, "seconds": round(done.seconds, 1)}))


@policy_app.command("list")
def policy_list() -> None:
    """The policies of the active release."""
    from services.client.policies import table

    with explained():
        out.print(table(_active(layout())))


@policy_app.command("show")
def policy_show(name: Annotated[str, typer.Argument(help="policy name")]) -> None:
    """One policy as JSON: a starting point for a change."""
    with explained():
        release = _active(layout())
        if name not in release.policies:
            raise UnknownName("policy", name, list(release.policies))
        print(json.dumps(release.policies[name].to_json(), indent=1))


@policy_app.command("check")
def policy_check(file: Annotated[Path, typer.Argument(help="JSON: one policy or a list of them")]) -> None:
    """Say what is wrong with a file of policies, or nothing."""
    from deploy import policies

    with explained():
        found = policies.read(file)
    out.print(f"{escape(str(file))}: {', '.join(f'{p.name} version {p.version}' for p in found)}: in order")


@policy_app.command("apply")
def policy_apply(
    file: Annotated[Path, typer.Argument(help="JSON: one policy or a list of them; those of the same name are replaced")],
    default: Annotated[list[str] | None, typer.Option(help="SURFACE=NAME: what requests that name no policy get; may be repeated")] = None,
) -> None:
    """Publish the active release with these policies and activate it: no model is loaded, no request fails."""
    from deploy import policies

    with explained():
        state = layout()
        triton = _triton(state)
        done = policies.apply(state, policies.read(file), _defaults(default or []), triton)
    out.print(f"release {done.id} is active; `longtail release rollback` goes back")


@features_app.command("docs")
def features_docs() -> None:
    """The catalogue of features as a table in Markdown: every feature with its view, type, unit, default, lifetime, owner and meaning."""
    from ranking.catalogue import markdown

    print(markdown())


@features_app.command("verify")
def features_verify(
    rankings: Annotated[int, typer.Option(min=1, help="how many of the latest served rankings to compare, at most")] = 2000,
) -> None:
    """Served against offline features, column by column. Exit status 1 where any value differs; one JSON object last."""
    from training import skew

    with explained():
        found = skew.verify(layout(), rankings=rankings)
    table = Table(
        "column", *(Column(name, justify="right") for name in ("rows that differ", "lost", "from nowhere", "symmetric difference"))
    )
    for column in sorted(found.columns, key=lambda c: -c.mismatches):
        share = f"{column.mismatches} ({column.mismatches / found.rows:.2%})" if column.mismatches else "0"
        table.add_row(column.name, share, str(column.missing), str(column.extra), f"{column.difference:.2g}")
    out.print(table)
    if found.unknown_users:
        out.print(f"{found.unknown_users} rankings are of users without features; they were compared as nobody's")
    if found.other_schema:
        out.print(f"{found.other_schema} rows are of another feature schema and were left out")
    print(json.dumps({"rankings": found.rankings, "rows": found.rows, "mismatches": found.mismatches}))
    if found.mismatches:
        raise typer.Exit(1)


@users_app.command("forget")
def users_forget(
    users: Annotated[list[str], typer.Argument(help="user ids")],
    event_log: Annotated[
        str, typer.Option(envvar="LONGTAIL_EVENT_LOG", help="the event log's Redis, as for the gateway; empty: SQLite")
    ] = "",
) -> None:
    """Remove users from every store of this machine, for good; says what was done. Exit status 1 where it has to be asked again."""
    from services.features import stores
    from services.privacy.forget import forget

    with explained(), stores.opened(layout(), ROOT / "feature_repo", event_log) as opened:
        done = forget(layout(), users, opened)
    table = Table("store", Column("removed", justify="right"), "")
    for one in done:
        table.add_row(one.store, str(one.removed), one.failed or "done")
    out.print(table)
    out.print(
        "Replays of their events are refused. What was prepared from your own tables (data/, training/) is yours to remove and train anew."
    )
    print(
        json.dumps(
            {"users": len(set(users)), "removed": {one.store: one.removed for one in done}, "failed": [d.store for d in done if d.failed]}
        )
    )
    if any(one.failed for one in done):
        raise typer.Exit(1)


@bench_app.command("rank")
def bench_rank(quick: Annotated[bool, typer.Option("--quick", help="a few seconds instead of about a minute")] = False) -> None:
    """Latency and throughput of the running gateway beside a bare echo server."""
    from services.bench import rank as bench

    with explained():
        state = layout()
        samples = _samples(state.training / "frames" / "requests.json", all_of_them=True)
        items = list(dict.fromkeys(i for s in samples for i in s.item_ids))
        result = bench.run(
            _gateway(state),
            users=sorted({s.user_id for s in samples}),
            items=items,
            queries=sorted({s.query for s in samples} - {""}),
            quick=quick,
        )
    print(json.dumps(result))


@bench_app.command("features")
def bench_features(
    quick: Annotated[bool, typer.Option("--quick", help="a few seconds: shows that it runs")] = False,
    only: Annotated[list[str] | None, typer.Option(help="a part by name; may be repeated")] = None,
) -> None:
    """Events taken in per second, a million items in the item snapshot, the batch's rows per second; needs no running platform."""
    from services.bench import features as bench
    from training.tables import bench as batch

    with explained():
        result = bench.run(layout(), quick=quick, only=only or (), others={"batch": (batch.figures, batch.WANTED)})
    print(json.dumps(result))


@bench_app.command("fairness")
def bench_fairness(
    quick: Annotated[bool, typer.Option("--quick", help="a fraction of the lists and one seed: shows that it runs")] = False,
    esci: Annotated[Path | None, typer.Option(help="folder with products.jsonl.gz and judgments.csv: adds a search data set")] = None,
) -> None:
    """NDCG against tail exposure for ours and the comparison arms, drift, latency; writes reports/fairness.html."""
    from training.fairness import bench

    with explained():
        result = bench.run(layout(), quick=quick, esci=esci)
    print(json.dumps(result))


@bench_app.command("training")
def bench_training(
    quick: Annotated[bool, typer.Option("--quick", help="a fraction of everything: shows that it runs")] = False,
    shoppers: Annotated[Path | None, typer.Option(help="folder with sessions.csv, the Online Shoppers data; adds their part")] = None,
    reviews: Annotated[Path | None, typer.Option(help="folder with reviews.csv.gz, the clothing reviews; adds their part")] = None,
    only: Annotated[list[str] | None, typer.Option(help="a part by name; may be repeated; the others keep what was measured")] = None,
) -> None:
    """What each method of the imbalance toolbox and of the ensemble gains or loses; writes reports/training.html."""
    from training.toolbox import bench

    with explained():
        result = bench.run(layout(), quick=quick, shoppers=shoppers, reviews=reviews, only=only or ())
    print(json.dumps(result))


@bench_app.command("relevance")
def bench_relevance(
    path: Annotated[Path | None, typer.Option(help="folder of the ESCI files; default: what `longtail data prepare esci` made")] = None,
    cuts: Annotated[int, typer.Option(min=1, help="ways to cut the queries into folds: shows how much of a figure is the cut's")] = 1,
) -> None:
    """Rankers of typed queries on queries apart, beside plain ones: a table, and one JSON object last."""
    from training.relevance import bench

    with explained():
        result = bench.run(layout(), path=path, cuts=cuts)
        print(bench.table(result))
    print(json.dumps(result))


@bench_app.command("bert")
def bench_bert(
    quick: Annotated[bool, typer.Option("--quick", help="an encoder of random weights: shows that it runs")] = False,
    reviews: Annotated[Path | None, typer.Option(help="folder with reviews.csv.gz, the clothing reviews; adds their part")] = None,
    esci: Annotated[Path | None, typer.Option(help="folder with products.jsonl.gz and judgments.csv: adds real queries")] = None,
    only: Annotated[list[str] | None, typer.Option(help="a part by name; may be repeated; the others keep what was measured")] = None,
) -> None:
    """BERT's heads by ways of tuning, sentiment, transfer, fusion with images, precisions; writes reports/bert.html."""
    from training.bert import bench

    with explained():
        result = bench.run(layout(), quick=quick, reviews=reviews, judgments=esci, only=only or ())
    print(json.dumps(result))


@report_app.command("bert")
def report_bert() -> None:
    """The page of the last `longtail bench bert`, written again without measuring anything."""
    from training.bert import bench

    with explained():
        page = bench.rewrite(layout())
    print(page)


@report_app.command("users")
def report_users(source: Annotated[str, typer.Option(help="a prepared source with events")] = "completejourney") -> None:
    """What users do: segments, categories, repeats, the tail over time, funnels by surface; writes reports/users-SOURCE.html."""
    from training import describe

    with explained():
        page = describe.report_users(layout(), source)
    print(page)


@report_app.command("training")
def report_training() -> None:
    """The page of the last `longtail bench training`, written again without measuring anything."""
    from training.toolbox import bench

    with explained():
        page = bench.rewrite(layout())
    print(page)


def _active(state: Layout) -> Release:
    """The active release's manifest."""
    from deploy import store

    active = store.active(state.releases)
    if active is None:
        raise FileNotFoundError(f"{state.releases}: no release is active; `longtail up` activates the newest")
    return store.read_manifest(state.releases, active)


def _defaults(pairs: list[str]) -> dict[Surface, str]:
    """SURFACE=NAME options as a mapping."""
    out: dict[Surface, str] = {}
    for pair in pairs:
        surface, _, name = pair.partition("=")
        if surface not in list(Surface) or not name:
            raise ValueError(f"--default: must be SURFACE=NAME with a surface of {', '.join(Surface)}, got {pair!r}")
        out[Surface(surface)] = name
    return out


def _ask(address: str, sample: SampleRequest, *, top_k: int, policy: str, explain: Explain, as_json: bool) -> None:
    """Send one request and print the answer."""
    import grpc
    from google.protobuf.json_format import MessageToJson

    from services.client import render
    from services.client.client import RankClient, rank_request

    request = rank_request(
        Surface(sample.surface),
        sample.item_ids,
        user_id=sample.user_id,
        query=sample.query,
        retrieval_scores=sample.retrieval_scores,
        bid_micros=sample.bid_micros,
        columns=sample.columns,
        top_k=top_k,
        policy=policy,
        explain=explain,
    )
    with RankClient(address) as client:
        try:
            response, plain = client.rank(request, timeout_s=30), None
            if explain != Explain.NONE:
                request.policy = "none"
                plain = client.rank(request, timeout_s=30)
        except grpc.RpcError as error:
            raise RuntimeError(f"gateway at {address}: {error.code().name}: {error.details()}") from None
    if as_json:
        print(MessageToJson(response, preserving_proto_field_name=True))
        return
    titles = dict(zip(sample.item_ids, sample.titles, strict=True))
    bids = dict(zip(sample.item_ids, sample.bid_micros, strict=True)) if sample.bid_micros else {}
    out.print()
    out.rule(escape(sample.name + (f", query “{sample.query}”" if sample.query else "")))
    if plain is not None:
        out.print(render.before_after(plain, response, titles=titles))
    out.print(render.answer(response, titles=titles, bids=bids, bought=sample.bought))


def _samples(path: Path, *, all_of_them: bool = False) -> list[SampleRequest]:
    """The demo's requests: two lists per surface and one for somebody unknown; or all that were prepared."""
    from dataclasses import replace

    from training.lists.requests import SampleRequest

    if not path.exists():
        raise FileNotFoundError(f"{path}: not there; `make demo` or `longtail train` makes it")
    samples = [SampleRequest(**r) for r in json.loads(path.read_text())]
    if all_of_them:
        return samples
    ads, search = ([s for s in samples if s.surface == kind] for kind in (Surface.ADS, Surface.SEARCH))
    strangers = [replace(s, name="ads, somebody unknown", user_id="nobody-we-know", bought=[]) for s in ads[:1]]
    return [*ads[:2], *strangers, *search[:2]]


def _print_status(state: Layout) -> bool:
    """Print what runs; True when all of it is ready."""
    from deploy import local

    now = local.status(state)
    table = Table("part", "pid", "listens on, or holds", "ready", "problem")
    triton, features, gateway = now["triton"], now["features"], now["gateway"]
    parts = (
        ("Triton", triton, "triton_pid", triton and triton["grpc"]),
        ("features", features and {**features, "ready": _features_ready(features)}, "pid", features and _features_held(features)),
        ("gateway", gateway, "pid", gateway and gateway["address"]),
    )
    for name, part, pid, where in parts:
        row = (str(part[pid]), where, str(part["ready"]), escape(part.get("error", ""))) if part else ("—", "—", "not running", "")
        table.add_row(name, *row)
    out.print(table)
    problem = f"   [red]{escape(now['problem'])}[/]" if now.get("problem") else ""
    out.print(f"release: {now['release'] or 'none active'}   state: {now['home']}{problem}")
    return bool(now["release"]) and all(part and part["ready"] for part in (now["triton"], now["gateway"]))


def _features_ready(said: dict[str, Any]) -> str:
    """Whether the feature process follows the event log, or why not."""
    from services.rpc.status import silent_s

    if silent_s(said, time.time()):
        return "stalled"
    starting = said.get("stream", {}).get("state") == "starting"
    return "starting" if said["ready"] and starting else str(said["ready"])


def _features_held(said: dict[str, Any]) -> str:
    """What the feature process holds, how far it is behind the event log, and what it could not count."""
    from services.rpc.status import silent_s

    stream, parts = said.get("stream", {}), [f"{said.get('items', 0):,} items"]
    if silent := silent_s(said, time.time()):
        parts.append(f"not heard of for {silent:.0f} s")
    if lag_s := stream.get("lag_s"):
        parts.append(f"{stream.get('behind', 0):,} events and {stream.get('waiting', 0):,} rows behind, {lag_s:g} s")
    if refused := stream.get("refused"):
        parts.append(f"{refused:,} events refused")
    if error := stream.get("error"):
        parts.append(f"events wait: {error}")
    if notice := stream.get("notice"):
        parts.append(notice)
    return escape("; ".join(parts))


def _gateway(state: Layout) -> str:
    """Address of the running gateway."""
    from deploy import local

    part = local.status(state)["gateway"]
    if not part:
        raise FileNotFoundError(f"{state.run}: no gateway runs from this state directory; start it with `longtail up`")
    return str(part["address"])


def _triton(state: Layout) -> str:
    from deploy import local

    part = local.status(state)["triton"]
    if not part:
        raise FileNotFoundError(f"{state.run}: no Triton runs from this state directory; start it with `longtail up`")
    return str(part["grpc"])


def _clock(state: Layout) -> datetime:
    if not state.serving.exists():
        return datetime.now(UTC)
    return datetime.fromisoformat(json.loads(state.serving.read_text())["as_of"])


if __name__ == "__main__":
    app()
