"""`longtail soak`: the running platform under load while its processes are killed and stopped at random, and what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.common import clock, explained, gateway_address, layout, prepared_samples
from ranking.layout import Layout
from ranking.types import Surface

if TYPE_CHECKING:
    from services.bench.soak import Fault

app = typer.Typer()
_GATEWAY_SHARE = 1 / 3  # of the time: afterwards gateways live on, and their memory can be judged


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(help="of load and faults", min=0.01)] = 10.0,
    seed: Annotated[int, typer.Option(help="of the faults")] = 0,
) -> None:
    """Load with random faults on the running platform (`longtail up` first): one JSON object last, exit status 1 unless it passed."""
    import asyncio

    from services.bench import soak as bench
    from services.client.client import rank_request

    with explained():
        state = layout()
        address = gateway_address(state)
        samples = prepared_samples(state.training / "frames" / "requests.json", all_of_them=True)
        requests = [
            rank_request(
                Surface(s.surface),
                s.item_ids,
                user_id=s.user_id,
                query=s.query,
                retrieval_scores=s.retrieval_scores,
                bid_micros=s.bid_micros,
                columns=s.columns,
            )
            for s in samples
        ]
        said = asyncio.run(
            bench.soak(
                address,
                requests,
                faults(state),
                seconds=60 * minutes,
                seed=seed,
                clock=lambda: clock(state).timestamp(),
                kept=lambda prefix: _kept(state, prefix),
                memory=lambda: _memory(state),
            )
        )
    print(json.dumps(said))
    if said["verdict"] != "passed":
        raise typer.Exit(1)


def faults(state: Layout) -> list[Fault]:
    """What can strike a platform on this machine; everything passes by itself or is mended."""
    import signal

    from services.bench.soak import Fault

    def sent(part: str, key: str, number: signal.Signals) -> None:
        from deploy import local

        _signal(local.status(state)[part], key, number)

    kill, stop, go = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
    return [
        Fault("triton killed", lambda: sent("triton", "triton_pid", kill)),
        Fault("triton hangs", lambda: sent("triton", "triton_pid", stop), lambda: sent("triton", "triton_pid", go)),
        Fault("gateway killed", lambda: sent("gateway", "pid", kill), share=_GATEWAY_SHARE),
        Fault("features killed", lambda: sent("features", "pid", kill)),
        Fault("features hang", lambda: sent("features", "pid", stop), lambda: sent("features", "pid", go)),
    ]


def _signal(part: dict[str, Any] | None, key: str, number: int) -> None:
    """Send a signal to the process a part names, if it does and it runs."""
    import os
    from contextlib import suppress

    pid = part.get(key, 0) if part else 0
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _memory(state: Layout) -> dict[int, int]:
    """Resident bytes of the gateway that runs now."""
    import os
    from pathlib import Path

    from deploy import local

    part = local.status(state)["gateway"]
    try:
        pages = int(Path(f"/proc/{part['pid']}/statm").read_text().split()[1]) if part else 0
    except (FileNotFoundError, ProcessLookupError):
        pages = 0
    return {part["pid"]: pages * os.sysconf("SC_PAGE_SIZE")} if part and pages else {}


def _kept(state: Layout, prefix: str) -> int:
    """Events of a prefix in the platform's log, each counted once."""
    import os

    from services.feedback.log.event_log import EventLog
    from services.feedback.log.redis import RedisLog
    from services.feedback.log.sqlite import SqliteLog

    where = os.environ.get("LONGTAIL_EVENT_LOG", "")
    log: EventLog = RedisLog(where, timeout_s=30.0) if where else SqliteLog(state.events)
    found: set[str] = set()
    after = 0
    try:
        while rows := log.read(after, 10_000):
            found.update(row.event.event_id for row in rows if row.event.event_id.startswith(prefix))
            after = rows[-1].offset
    finally:
        log.close()
    return len(found)
