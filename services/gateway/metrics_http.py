"""The address Prometheus scrapes, for a process that lives on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from services.rpc.scraping import scraped
from services.rpc.tls import Files


@asynccontextmanager
async def exposed(address: str, registry: CollectorRegistry, files: Files | None = None) -> AsyncIterator[str]:
    """As `scraped`; the loop does not wait for its end."""
    server = ExitStack()
    bound = server.enter_context(scraped(address, registry, files))
    try:
        yield bound
    finally:
        await asyncio.to_thread(server.close)
