"""`python -m services.features [--option value …]`; `--help` lists the settings."""

from __future__ import annotations

import logging
import os
import sys

from services.features.process import keep
from services.features.settings import load
from services.rpc import log
from services.rpc.ports import PortTakenError
from services.rpc.settings import InvalidSettingError
from services.snapshot.errors import SnapshotTakenError


def main() -> int:
    """Run the feature process; 2 when it cannot start as asked."""
    try:
        settings = load(sys.argv[1:], os.environ)
        log.configure(settings.log_level)
        if not keep(settings):
            logging.shutdown()
            os._exit(0)  # not by Python's own end, which would wait for a thread that reads Feast
    except (InvalidSettingError, PortTakenError, SnapshotTakenError) as error:
        print(f"features: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
