"""The gateway's wiring: every part is made and connected here and nowhere else."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from longtail.ranking.v1.ranking_service_pb2_grpc import add_RankingServiceServicer_to_server

from ranking.layout import Layout
from services.gateway.feast_store import FeastStore
from services.gateway.features import Features
from services.gateway.pipeline import Pipeline
from services.gateway.ports import FeatureStore, ModelServer
from services.gateway.releases import Releases
from services.gateway.scoring import Scoring
from services.gateway.servicer import NAME, RankingServicer
from services.gateway.settings import Settings
from services.gateway.triton import Triton
from services.rpc.server import Options, Server, stop_signal

log = logging.getLogger(__name__)


@asynccontextmanager
async def running(settings: Settings, *, store: FeatureStore | None = None, models: ModelServer | None = None) -> AsyncIterator[Server]:
    """A gateway that answers while the context lasts, and drains when it ends.

    Args:
        settings: all of it.
        store: in place of Feast.
        models: in place of Triton.

    Raises:
        PortTakenError: the address is in use.
    """
    layout = Layout(settings.home)
    fixed = settings.fixed_time
    features = Features(
        store or FeastStore(settings.feature_repo, settings.home),
        user_ttl_s=settings.user_ttl_s,
        user_cache=settings.user_cache,
        item_refresh_s=settings.item_refresh_s,
        item_cache=settings.item_cache,
        clock=time.time if fixed is None else lambda: fixed,
    )
    triton = None if models else Triton(settings.triton)
    scoring = Scoring(
        models or triton,  # type: ignore[arg-type] # one of the two is there
        cache=settings.score_cache,
        chunk=settings.text_chunk,
        backlog=settings.text_backlog,
        timeout_s=settings.triton_timeout_s,
    )
    status = layout.run / "gateway.json"

    async def serving(_release: str) -> None:
        await server.set_serving(serving=True)
        await asyncio.to_thread(_write_status, status, server.address, ready=True)

    releases = Releases(layout.releases, layout.pointer, kept=settings.releases_kept, on_active=serving)
    servicer = RankingServicer(Pipeline(releases, features, scoring), budget_s=settings.budget_ms / 1e3, margin_s=settings.margin_ms / 1e3)

    def register(target: grpc.aio.Server) -> None:
        add_RankingServiceServicer_to_server(servicer, target)

    server = Server(
        settings.address,
        (NAME,),
        register,
        Options(settings.reuse_port, settings.max_concurrent_rpcs, settings.drain_s, settings.grace_s),
    )
    await asyncio.to_thread(_write_status, status, server.address, ready=False)
    await server.start()
    log.info("listening", extra={"address": server.address})
    await features.warm()  # before the first release makes it SERVING: Feast takes seconds to import
    await releases.poll()
    background = [asyncio.create_task(releases.watch(settings.poll_s))]
    try:
        yield server
    finally:
        await server.stop()
        for task in background:
            task.cancel()
        await scoring.close()
        await features.close()
        if triton is not None:
            await triton.close()
        await asyncio.to_thread(status.unlink, missing_ok=True)


async def serve(settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT."""
    asked = stop_signal()
    async with running(settings):
        await asked.wait()


def _write_status(path: Path, address: str, *, ready: bool) -> None:
    """Tell `longtail up` and `status` where this process listens; written beside and renamed, so that it is never read half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps({"pid": os.getpid(), "address": address, "ready": ready}) + "\n")
    draft.replace(path)
