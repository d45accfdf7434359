"""A part of `longtail bench features`: how long after its acknowledgement a purchase is in what the gateway ranks by.

FeedbackService and the feature process each in a process of its own, on a home of generated items and purchases with real Feast; here the
gateway's own reader. One purchase after the other: acknowledged, then asked for as the next list would, until user and item both show it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.timestamp_pb2 import Timestamp
from longtail.feedback.v1 import feedback_service_pb2 as pb
from longtail.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub

from ranking.features import ITEM_PROFILE, ITEM_SCALARS, USER_SCALARS, stable_key
from ranking.layout import Layout
from services.feature_store.changes import Changes
from services.feature_store.feast import FeastStore
from services.gateway.features import Features
from services.gateway.settings import Settings
from services.snapshot.latest import Latest

if TYPE_CHECKING:
    from longtail.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceAsyncStub

WANTED: dict[str, tuple[str, float]] = {"push_visible_p99_ms": ("<=", 1000.0)}
REPO = Path(__file__).parents[2] / "feature_repo"
EVENTS = 300
ITEMS, USERS, LINES = 2000, 200, 300  # lines: of each user's history
_LIST = 100  # candidates of the list that is asked for
_ORDERS, _SOLD = USER_SCALARS.index("orders_all"), ITEM_SCALARS.index("purchases_all")
_START_S, _LOST_S = 120.0, 30.0
_PAUSE_S = 0.002  # between two looks


def figures(_layout: Layout, quick: bool) -> dict[str, float]:
    """Milliseconds from the acknowledgement to the list that shows it: `push_visible_p50_ms`, `push_visible_p99_ms`.

    Raises:
        RuntimeError: a process does not start, or a purchase is not seen.
    """
    with tempfile.TemporaryDirectory(prefix="longtail-bench-push-") as folder:
        before = os.environ.get("LONGTAIL_HOME")
        os.environ["LONGTAIL_HOME"] = folder  # Feast reads it
        try:
            layout = Layout(Path(folder))
            _fill(layout)
            took = asyncio.run(_measured(layout, 20 if quick else EVENTS))
        finally:
            if before is None:
                del os.environ["LONGTAIL_HOME"]
            else:
                os.environ["LONGTAIL_HOME"] = before
    p50, p99 = np.percentile(took, [50, 99])
    return {"push_visible_p50_ms": float(p50), "push_visible_p99_ms": float(p99), "push_events": float(len(took))}


async def _measured(layout: Layout, events: int) -> list[float]:
    rng = random.Random(0)
    async with AsyncExitStack() as closing:
        address = await closing.enter_async_context(_process("services.bench.feedback", str(layout.events)))
        options = ["--home", str(layout.home), "--feature-repo", str(REPO), "--log-level", "ERROR"]
        await closing.enter_async_context(_process("services.features", *options, speaks=False))
        channel = await closing.enter_async_context(grpc.aio.insecure_channel(address))
        latest = Latest(layout.item_snapshot)
        deadline = time.monotonic() + _START_S
        while latest.current is None:
            latest.poll()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the feature process made no snapshot within {_START_S:g} s")
            await asyncio.sleep(0.1)
        reader = Features(
            FeastStore(REPO, layout.home),
            user_ttl_s=3600.0,  # nothing but what the feature process says makes a user be read again
            user_cache=USERS,
            item_refresh_s=3600.0,
            item_cache=ITEMS,
            snapshot=latest,
            snapshot_stale_s=3600.0,
            change=Changes(layout.user_changes).of,
        )
        closing.push_async_callback(reader.close)
        following = asyncio.create_task(_follow(latest))
        closing.callback(following.cancel)
        stub = FeedbackServiceStub(channel)
        await _seen(stub, reader, rng)  # everything is opened before anything is measured
        return [await _seen(stub, reader, rng) for _ in range(events)]


async def _follow(latest: Latest) -> None:
    """Look for a new snapshot as often as a gateway does: one that is full of updates makes room for a larger one."""
    while True:
        await asyncio.sleep(Settings().snapshot_poll_s)
        await asyncio.to_thread(latest.poll)


async def _seen(stub: FeedbackServiceAsyncStub, reader: Features, rng: random.Random) -> float:
    """Record one purchase; milliseconds from its acknowledgement until a list shows it."""
    user, items = f"u{rng.randrange(USERS)}", [f"i{i}" for i in rng.sample(range(ITEMS), _LIST)]
    bought = rng.randrange(_LIST)
    before = await reader.get(user, items, time.monotonic() + _LOST_S)
    now = Timestamp()
    now.GetCurrentTime()
    event = pb.Event(
        event_id=uuid.uuid4().hex,
        type=pb.EVENT_TYPE_PURCHASE,
        event_time=now,
        user_id=user,
        item_id=items[bought],
        quantity=1.0,
        value_micros=rng.randrange(10**6, 10**7),
    )
    answer = await stub.RecordEvents(pb.RecordEventsRequest(events=[event]))
    acknowledged = time.perf_counter()
    if answer.accepted != 1:
        raise RuntimeError("a purchase was not accepted")
    orders, sold = before.user.scalars[_ORDERS], before.items.scalars[bought, _SOLD]
    while True:
        found = await reader.get(user, items, time.monotonic() + _LOST_S)
        if found.user.scalars[_ORDERS] > orders and found.items.scalars[bought, _SOLD] > sold:
            return 1e3 * (time.perf_counter() - acknowledged)
        if time.perf_counter() - acknowledged > _LOST_S:
            raise RuntimeError(f"a purchase of {user} was not seen within {_LOST_S:g} s")
        await asyncio.sleep(_PAUSE_S)


def _fill(layout: Layout) -> None:
    """Apply the feature repository and write a catalogue, and a batch's purchases, into the home."""
    layout.features.mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("feast")), "-c", str(REPO), "apply"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPO.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"feast apply ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    now = datetime.now(UTC).replace(microsecond=0)
    ids = [f"i{i}" for i in range(ITEMS)]
    pq.write_table(pa.table({"item_id": ids, "event_timestamp": [now] * ITEMS}), layout.features / f"{ITEM_PROFILE.name}.parquet")
    columns: dict[str, list[Any]] = {f.name: [f.default] * ITEMS for f in ITEM_PROFILE}
    categories = [f"category {i % 300}" for i in range(ITEMS)]
    columns |= {
        "category": list(categories),
        "category_key": [stable_key(name) for name in categories],
        "type_key": [1 + i % 900 for i in range(ITEMS)],
        "maker_key": [1 + i % 1500 for i in range(ITEMS)],
        "token_ids": [[1 + i % 1000, 7, 9] for i in range(ITEMS)],
    }
    FeastStore(REPO, layout.home).push(ITEM_PROFILE, ids, columns, np.full(ITEMS, int(now.timestamp()) * 10**6))
    _write_history(layout, now)


def _write_history(layout: Layout, now: datetime) -> None:
    rng = np.random.default_rng(0)
    n = USERS * LINES
    basket = rng.integers(0, USERS * 40, n)
    lines = {
        "user_id": [f"u{b % USERS}" for b in basket.tolist()],
        "item_id": [f"i{i}" for i in rng.integers(0, ITEMS, n).tolist()],
        "basket": basket,
        "bought_at": pa.array([now - timedelta(hours=1 + b % 8000) for b in basket.tolist()], pa.timestamp("us", tz="UTC")),
        "value": rng.integers(10**5, 10**7, n),
        "unit_price": rng.integers(10**5, 10**7, n),
        "off_shelf": rng.integers(0, 3 * 10**5, n),
    }
    pq.write_table(pa.table(lines), layout.history)
    nothing = {"item_id": pa.array([], pa.string()), "first_shown": pa.array([], pa.timestamp("us", tz="UTC"))}
    pq.write_table(pa.table(nothing), layout.first_shown)
    weeks = [(now - timedelta(days=7 * k)).isoformat() for k in range(60, -1, -1)]
    layout.feature_meta.write_text(json.dumps({"watermark": now.isoformat(), "week_starts": weeks}))


@asynccontextmanager
async def _process(module: str, *words: str, speaks: bool = True) -> AsyncIterator[str]:
    """The first line a process says, for as long as the context lasts."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *words, stdout=asyncio.subprocess.PIPE if speaks else None)
    try:
        yield (await process.stdout.readline()).decode().strip() if process.stdout else ""
    finally:
        process.terminate()
        await process.wait()
