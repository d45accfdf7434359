"""`python -m services.gateway [--option value …]`; `--help` lists the settings."""

from __future__ import annotations

import asyncio
import os
import sys

from services.gateway.server import serve
from services.gateway.settings import load
from services.rpc import log, tracing
from services.rpc.ports import PortTakenError
from services.rpc.settings import InvalidSettingError


def main() -> int:
    """Run the gateway; 2 when it cannot start as asked."""
    try:
        settings = load(sys.argv[1:], os.environ)
        log.configure(settings.log_level)
        with tracing.exporting("longtail-gateway", os.environ):
            asyncio.run(serve(settings))
    except (InvalidSettingError, PortTakenError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
