"""Start it, ask it, look whether it runs, and the whole demo."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import ROOT, clock, explained, gateway_address, layout, out, prepared_samples, ranking_client
from ranking.layout import Layout
from ranking.types import Explain, Surface

if TYPE_CHECKING:
    from training.lists.requests import SampleRequest

app = typer.Typer()


@app.command()
def train(
    profile: Annotated[str, typer.Option(help="tiny, demo or full: how much of everything")] = "demo",
    ungated: Annotated[bool, typer.Option("--ungated", help="publish even what the calibration gate refuses")] = False,
    search: Annotated[list[str] | None, typer.Option(help="SURFACE=FOLDER of a finished search, taken in place of an own one")] = None,
) -> None:
    """Data to release: prepare, Feast, frames, BERT, search, calibration gate, publish. Reuses what is there."""
    from training import pipeline
    from training.profile import PROFILES
    from training.searched import by_surface

    if profile not in PROFILES:
        raise typer.BadParameter(f"{profile!r} is not known; known: {', '.join(PROFILES)}", param_hint="--profile")
    with explained():
        result = pipeline.run(layout(), PROFILES[profile], ungated=ungated, searches=by_surface(search or []))
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
    workers: Annotated[int | None, typer.Option(help="gateway processes on the address; default: LONGTAIL_WORKERS, else 1", min=1)] = None,
    instances: Annotated[int, typer.Option(min=0, help="of each model in Triton; 0: as before, at first one")] = 0,
) -> None:
    """Start Triton, its controller, the feature process and the gateway in the background; activates the newest release if none is."""
    from deploy import local
    from deploy.triton import wheel
    from deploy.triton.target import Target

    with explained():
        wheel.install(layout().triton_server)
        written_for = Target(instances=instances) if instances else None
        with out.status("starting Triton and the gateway, verifying the release"):
            local.up(layout(), ROOT / "feature_repo", address=address, triton_port=triton_port, workers=workers, written_for=written_for)
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
    """What runs, where it listens, which release is active. Exit status 1 unless all is ready, and features follow the event log."""
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
        address, canonical = gateway_address(state), state.canonical("completejourney")
        if not (canonical / "meta.json").exists():
            raise FileNotFoundError(f"{canonical}: no prepared data to take candidates from; `make demo` or `longtail train` makes them")
        sample = requests.for_user(state, canonical, clock(state), surface, user_id=user, query=query, n=candidates)
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
            for sample in prepared_samples(result.requests):
                _ask(gateway_address(state), sample, top_k=10, policy="", explain=Explain.FULL, as_json=False)
        finally:
            if ours and not keep:
                out.print(f"stopped {', '.join(local.down(state)) or 'nothing'}")
    out.rule(f"done in {time.monotonic() - start:.0f} s; `longtail up` keeps it running, `longtail rank --help` asks it")


def _ask(address: str, sample: SampleRequest, *, top_k: int, policy: str, explain: Explain, as_json: bool) -> None:
    """Send one request and print the answer."""
    import grpc
    from google.protobuf.json_format import MessageToJson

    from services.client import render
    from services.client.client import rank_request

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
    with ranking_client(address) as client:
        try:
            response, plain = client.rank(request), None
            if explain != Explain.NONE:
                request.policy = "none"
                plain = client.rank(request)
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


def _print_status(state: Layout) -> bool:
    """Print what runs; True when all of it is ready."""
    from deploy import local

    now = local.status(state)
    table = Table("part", "pid", "listens on, or holds", "ready", "problem")
    triton, features, gateway = now["triton"], now["features"], now["gateway"]
    parts = (
        ("Triton", triton, "triton_pid", triton and triton["grpc"]),
        ("features", features and {**features, **_features_state(features)}, "pid", features and _features_held(features)),
        ("gateway", gateway, "pid", gateway and gateway["address"]),
    )
    for name, part, pid, where in parts:
        row = (str(part[pid]), where, str(part["ready"]), escape(part.get("error", ""))) if part else ("—", "—", "not running", "")
        table.add_row(name, *row)
    out.print(table)
    problem = f"   [red]{escape(now['problem'])}[/]" if now.get("problem") else ""
    out.print(f"release: {now['release'] or 'none active'}   state: {now['home']}{problem}")
    follows = bool(features) and _features_state(features)["ready"] == "True"
    return bool(now["release"]) and follows and all(part and part["ready"] for part in (now["triton"], now["gateway"]))


def _features_state(said: dict[str, Any]) -> dict[str, str]:
    """Whether the feature process follows the event log, as `ready`, and as `error` what keeps it or the snapshot from it."""
    from services.rpc.status import silent_s

    stream, silent = said.get("stream", {}), silent_s(said, time.time())
    waits = stream.get("error", "")
    problems = [f"not heard of for {silent:.0f} s" if silent else "", said.get("error", ""), f"events wait: {waits}" if waits else ""]
    if silent:
        ready = "stalled"
    elif not said["ready"] or waits:
        ready = "False"
    else:
        ready = "starting" if stream.get("state") == "starting" else "True"
    return {"ready": ready, "error": "; ".join(filter(None, problems))}


def _features_held(said: dict[str, Any]) -> str:
    """What the feature process holds, how far it is behind the event log, and what it could not count."""
    stream, parts = said.get("stream", {}), [f"{said.get('items', 0):,} items"]
    lag_s, behind, waiting = stream.get("lag_s"), stream.get("behind", 0), stream.get("waiting", 0)
    if behind or waiting:
        parts.append(f"{behind:,} events and {waiting:,} rows behind, {lag_s:g} s")
    elif lag_s:
        parts.append(f"not known how far behind, {lag_s:g} s")
    if refused := stream.get("refused"):
        parts.append(f"{refused:,} events refused, which stay in the event log")
    if notice := stream.get("notice"):
        parts.append(notice)
    return escape("; ".join(parts))
