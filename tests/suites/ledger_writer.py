"""A process that adds lists to a ledger's store and prints the number of each batch that is done; it begins when its input ends.

`python -m tests.suites.ledger_writer WHERE REPLICA BATCHES`
"""

from __future__ import annotations

import sys
from pathlib import Path

from services.gateway.ledger.redis import RedisStore
from services.gateway.ledger.sqlite import SqliteStore
from tests.suites.ledger_store import TAIL, exposure


def main(where: str, replica: str, batches: int) -> None:
    store = RedisStore(where, retry_s=30.0) if where.startswith("redis:") else SqliteStore(Path(where), busy_s=30.0)
    print("ready", flush=True)
    sys.stdin.read()
    for sequence in range(1, batches + 1):
        store.add(replica, sequence, [exposure(TAIL, 0.5, 0.25)])
        print(sequence, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
