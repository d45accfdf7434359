"""The feature process over real Feast: a purchase that was acknowledged is in the next list the gateway reads."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore

from ranking.features import ITEM_SCALARS, ITEM_STATISTICS, ITEM_WINDOWS, PUSHED_VIEWS, USER_BEHAVIOUR, USER_SCALARS, Entity, stable_key
from ranking.layout import Layout
from services.feature_store.changes import Changes
from services.feature_store.feast import FeastStore
from services.features.process import keep
from services.features.settings import Settings
from services.feedback.log.sqlite import SqliteLog
from services.gateway.features import Features
from services.snapshot.latest import Latest
from tests.services import feast_home
from tests.services.features.stream_fakes import ITEMS, bought, profile
from tests.services.gateway_fakes import eventually

NOW = datetime.now(UTC)
ORDERS, SOLD = USER_SCALARS.index("orders_all"), ITEM_SCALARS.index("purchases_all")


@pytest.fixture(scope="module")
def feast_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Feast with a catalogue, and a batch's row of one item."""
    home = tmp_path_factory.mktemp("stream")
    feast_home.apply(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_HOME", str(home))
        store = FeatureStore(repo_path=str(feast_home.REPO))
        feast_home.write(store, "item_profile", NOW, {key: profile(i) for i, key in enumerate(ITEMS)})
        feast_home.write(store, "item_statistics", NOW - timedelta(days=1), {"i0": {"promo_rate_28d": 0.25, "popularity_tier": "tail"}})
    (home / "features").mkdir()
    pd.DataFrame({"item_id": ITEMS, "event_timestamp": [NOW] * len(ITEMS)}).to_parquet(home / "features" / "item_profile.parquet")
    return home


@pytest.fixture
def process(feast_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """A running feature process, as soon as it has a snapshot."""
    monkeypatch.setenv("LONGTAIL_HOME", str(feast_dir))
    stop, layout = threading.Event(), Layout(feast_dir)
    settings = Settings(home=feast_dir, feature_repo=feast_home.REPO, registry_poll_s=0.2)
    running = threading.Thread(target=keep, args=(settings,), kwargs={"stop": stop})
    running.start()
    while not (layout.item_snapshot.exists() and layout.user_changes.exists()):
        time.sleep(0.01)
    yield layout
    stop.set()
    running.join()


@pytest.mark.servers
@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # of ibis, through which Feast asks DuckDB
async def test_a_purchase_is_in_the_next_list(process: Layout) -> None:
    """User and item: what the event says, what the batch had said of the item, and no wait for the user's cache to grow old."""
    log, latest, changes = SqliteLog(process.events), Latest(process.item_snapshot), Changes(process.user_changes)
    latest.poll()
    reader = Features(
        FeastStore(feast_home.REPO, process.home),
        user_ttl_s=3600.0,
        user_cache=10,
        item_refresh_s=3600.0,
        item_cache=100,
        snapshot=latest,
        snapshot_stale_s=3600.0,
        change=changes.of,
    )
    for count in range(1, 4):
        log.append([bought(f"e{count}", "ann", "i0", time.time() - count)])
        found = await reader.get("ann", ["i0"], time.monotonic() + 60)
        while found.user.scalars[ORDERS] != count:
            await asyncio.sleep(0.01)
            found = await reader.get("ann", ["i0"], time.monotonic() + 60)
        assert found.items.scalars[0, [SOLD, ITEM_SCALARS.index("promo_rate_28d")]].tolist() == [count, 0.25]
        assert found.user.history.keys.tolist() == [stable_key("i0")]
        assert found.user.history.columns[0].tolist() == [count, 0.0]
    online = FeatureStore(repo_path=str(feast_home.REPO))
    while True:  # pushed after what lists need
        asked = online.get_online_features(features=["user_session:recent_item_keys"], entity_rows=[{"user_id": "ann"}]).to_dict()
        if asked["recent_item_keys"] == [[stable_key("i0")] * 3]:
            break
        await asyncio.sleep(0.01)
    await eventually(lambda: _told(process).get("offset") == log.last())  # what it tells is half a second old at most
    assert (_told(process)["error"], _told(process)["refused"]) == ("", 0)
    await reader.close()
    log.close()


def _told(layout: Layout) -> dict[str, Any]:
    file = layout.run / "features.json"
    return dict(json.loads(file.read_text())["stream"]) if file.exists() else {}


@pytest.mark.servers
def test_an_older_row_overwrites_nothing(feast_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row pushed late is left out, its neighbour that is newer is not; every kind of value comes back as it was pushed."""
    monkeypatch.setenv("LONGTAIL_HOME", str(feast_dir))
    store = FeastStore(feast_home.REPO, feast_dir)

    def push(orders: float, *at_s: int) -> None:
        row = {f.name: f.default for f in USER_BEHAVIOUR} | {"orders_all": orders, "interest_text": "buys ü"}
        row |= {f.name: np.array([-(2**62), 7]) for f in USER_BEHAVIOUR if f.dtype == "int64_list"}
        row |= {f.name: np.array([0.1, 2.0], np.float32) for f in USER_BEHAVIOUR if f.dtype == "float32_list"}
        columns = {name: [value] * len(at_s) for name, value in row.items()}
        store.push(USER_BEHAVIOUR, [f"p{i}" for i in range(len(at_s))], columns, np.array(at_s) * 10**6 + 5)

    push(1.0, 2000, 2000)
    push(2.0, 1000, 3000)
    found = store.read(Entity.USER, ["p0", "p1"])
    assert found.values["orders_all"].tolist() == [1.0, 2.0]
    assert [list(keys) for keys in found.values["category_keys"]] == [[-(2**62), 7]] * 2
    assert [list(map(np.float32, shares)) for shares in found.values["category_shares"]] == [[np.float32(0.1), np.float32(2.0)]] * 2
    assert found.values["interest_text"] == ["buys ü"] * 2
    assert found.event_times[1].tolist() == [2000.0, 3000.0]


def test_what_is_pushed_has_a_source(feast_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The views made of events are fed by push sources, beside their batch source, so that others can push to them as well."""
    monkeypatch.setenv("LONGTAIL_HOME", str(feast_dir))
    store = FeatureStore(repo_path=str(feast_home.REPO))
    pushed = {v.name: (v.stream_source.name, v.batch_source.name) for v in store.list_feature_views() if v.stream_source is not None}
    names = [view.name for view in (USER_BEHAVIOUR, ITEM_STATISTICS, ITEM_WINDOWS, *PUSHED_VIEWS)]
    assert pushed == {name: (f"{name}_push", f"{name}_batch") for name in names}
