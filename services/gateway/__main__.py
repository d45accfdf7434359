"""`python -m services.gateway [--option value …]`; `--help` lists the settings."""

from __future__ import annotations

import asyncio
import os
import sys

from services.gateway.settings import load
from services.rpc import log, loop, tracing
from services.rpc.ports import PortTakenError
from services.rpc.settings import InvalidSettingError


def main() -> int:
    """Run the gateway; 2 when it cannot start as asked, 1 when its workers die again and again."""
    try:
        settings = load(sys.argv[1:], os.environ)
        log.configure(settings.log_level)
        if settings.workers > 1:
            from services.gateway.workers import parent

            try:
                asyncio.run(parent.run(settings, parent.command(sys.argv[1:], settings)))
            except parent.WorkerError as error:
                print(f"gateway: {error}", file=sys.stderr)
                return parent.REFUSED if isinstance(error, parent.RefusedError) else 1
            return 0
        from services.gateway.server import serve  # the parent needs none of what it imports

        with tracing.exporting("longtail-gateway", os.environ):
            loop.run(serve(settings))
    except (InvalidSettingError, PortTakenError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
