"""Another process that pushes rows, beginning when it has said that it is ready: `REPO HOME ITEM`."""

from __future__ import annotations

import sys
from pathlib import Path

from ranking.features import ITEM_STATISTICS
from services.feature_store.feast import FeastStore
from tests.suites.online_store import DAY, NOW, push, take_turns


def main(repo: str, home: str, item: str) -> None:
    store = FeastStore(Path(repo), Path(home))
    push(store, ITEM_STATISTICS, {item: {"price_28d": -1.0}}, NOW - DAY)  # opened before the turns begin
    print("ready", flush=True)
    take_turns(store, item, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
