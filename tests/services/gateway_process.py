"""A gateway over fakes in a process of its own, which starts fast: `python -m tests.services.gateway_process`, options as the gateway's."""

from __future__ import annotations

import asyncio
import os
import sys

from services.gateway.server import running
from services.gateway.settings import load
from services.rpc import log
from services.rpc.signals import stop_signal
from tests.services.gateway_fakes import FakeModels, FakeStore


async def main() -> None:
    settings = load(sys.argv[1:], os.environ)
    log.configure(settings.log_level)
    asked = stop_signal()
    async with running(settings, store=FakeStore(), models=FakeModels()):
        await asked.wait()


if __name__ == "__main__":
    asyncio.run(main())
