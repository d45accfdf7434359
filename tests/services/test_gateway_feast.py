"""The Feast adapter against a real store."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast import FeatureStore
from feast.protos.feast.core.Registry_pb2 import Registry

from ranking.assemble import item_features, user_features
from ranking.errors import Unavailable
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import TASTE_WIDTH, Entity, schema_hash, stable_key
from services.feature_store import feast
from services.feature_store.feast import FeastStore
from services.gateway.features import Features
from services.snapshot.latest import Latest
from tests.services import feast_home

NOW = datetime(2026, 1, 10, tzinfo=UTC)
HISTORY = {"history_item_keys": [-5, 7], "history_counts": [1.0, 2.0], "history_days": [3.0, 4.0]}
TASTE = {"taste": [0.1 * i for i in range(TASTE_WIDTH)], "taste_at": 2**40}


@pytest.fixture(scope="module")
def feast_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("feast")
    feast_home.apply(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LONGTAIL_HOME", str(home))
        store = FeatureStore(repo_path=str(feast_home.REPO))
        users = {"u": {"orders_all": 3.0, "interest_text": "buys ice", "category_keys": [], "category_shares": [], **HISTORY}}
        feast_home.write(store, "user_behaviour", NOW, users)
        profile = {
            f"i{i}": {
                "category_key": -(2**62) + i,
                "type_key": 2**61 + i,
                "maker_key": -(2**61) + i,
                "text_digest": 2**62 + i,
                "token_ids": [4, 5, 6],
                "seller": f"s{i}",
            }
            for i in range(3)
        }
        feast_home.write(store, "item_profile", NOW, profile)
        old = {"i0": {"price_28d": 2.5, "popularity_tier": "tail"}}
        feast_home.write(store, "item_statistics", NOW - timedelta(days=15), old)
        feast_home.write(store, "user_taste", NOW, {"u": TASTE})
        feast_home.write(store, "item_taste", NOW, {"i0": TASTE})
    return home


@pytest.fixture
def store(feast_dir: Path, monkeypatch: pytest.MonkeyPatch) -> FeastStore:
    monkeypatch.setenv("LONGTAIL_HOME", str(feast_dir))  # put back afterwards: the adapter sets it
    return FeastStore(feast_home.REPO, feast_dir)


@pytest.mark.servers
def test_values_come_back_as_they_were_written(store: FeastStore) -> None:
    """Scalars, strings, lists and 64-bit keys survive exactly; nulls become declared defaults in the core."""
    read = store.read(Entity.USER, ["u"])
    user = user_features({name: column[0] for name, column in read.values.items()})
    expected = user_features({"orders_all": 3.0, "interest_text": "buys ice", **HISTORY, **TASTE})
    assert (user.interest_text, user.history.keys.tolist()) == (expected.interest_text, [-5, 7])
    np.testing.assert_array_equal(user.scalars, expected.scalars)
    np.testing.assert_array_equal(user.taste, expected.taste)
    assert user.taste_at == TASTE["taste_at"]
    rows = store.read(Entity.ITEM, ["i1", "i0"])
    items = item_features(np.array([stable_key("i1"), stable_key("i0")]), rows.values)
    assert items.category_keys.tolist() == [-(2**62) + 1, -(2**62)]
    assert items.text_digests.tolist() == [2**62 + 1, 2**62]
    assert items.token_ids[:, :4].tolist() == [[4, 5, 6, 0]] * 2
    assert rows.values["seller"] == ["s1", "s0"]
    assert items.attribute_keys.tolist() == [[stable_key(f"s{i}") if name == "seller" else 0 for name in ITEM_ATTRIBUTES] for i in (1, 0)]
    np.testing.assert_array_equal(items.taste, [np.zeros(TASTE_WIDTH, np.float32), expected.taste])
    assert items.taste_at.tolist() == [0, TASTE["taste_at"]]
    assert (items.type_keys.tolist(), items.maker_keys.tolist()) == ([2**61 + 1, 2**61], [-(2**61) + 1, -(2**61)])
    assert items.tiers.tolist() == [2, 1]  # unknown statistics: new; i0: tail


@pytest.mark.servers
def test_event_times_say_which_view_has_a_row(store: FeastStore) -> None:
    """NaN where there is no row, the row's own event time elsewhere."""
    times = store.read(Entity.ITEM, ["i0", "i1", "unknown"]).event_times
    now, old, nan = NOW.timestamp(), (NOW - timedelta(days=15)).timestamp(), float("nan")
    np.testing.assert_array_equal(times, [[now, now, nan], [old, nan, nan], [now, nan, nan]])


@pytest.mark.servers
async def test_freshness_is_derived_from_them(store: FeastStore) -> None:
    """Profile fresh, statistics 15 days old stale, absent statistics defaulted, unknown item missing; the user's profile defaulted."""
    nothing = Latest(Path("nowhere"))
    reader = Features(
        store, user_ttl_s=5, user_cache=10, item_refresh_s=60, item_cache=10, snapshot=nothing, snapshot_stale_s=60, clock=NOW.timestamp
    )
    found = await reader.get("u", ["i0", "i1", "unknown"], time.monotonic() + 60)
    assert found.states(np.array([0, 1, 2])) == {
        "user_profile": ["defaulted"] * 3,
        "user_behaviour": ["fresh"] * 3,
        "user_taste": ["fresh"] * 3,
        "item_profile": ["fresh", "fresh", "missing"],
        "item_statistics": ["stale", "defaulted", "missing"],
        "item_taste": ["fresh", "defaulted", "missing"],
    }
    assert found.counts() == {"fresh": 2 + 3, "stale": 1, "missing": 3, "defaulted": 1 + 2}
    await reader.close()


@pytest.mark.servers
def test_a_store_that_is_not_there_yet_is_unavailable_and_found_later(
    feast_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before `feast apply` reads raise Unavailable; afterwards the same adapter answers."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    home = tmp_path / "home"
    store = FeastStore(feast_home.REPO, home)
    with pytest.raises(Unavailable, match="feature store"):
        store.read(Entity.USER, ["u"])
    home.mkdir(exist_ok=True)
    for entry in list(home.iterdir()):
        entry.rename(tmp_path / f"empty-{entry.name}")  # what the failed attempt made
    (home / "feast").symlink_to(feast_dir / "feast")
    assert not np.isnan(store.read(Entity.USER, ["u"]).event_times).all()


@pytest.mark.servers
@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")  # of ibis, through which Feast asks DuckDB
def test_the_catalogue_is_what_features_were_computed_of(store: FeastStore, feast_dir: Path) -> None:
    """Every item of the offline store once; before it has any the store is unavailable."""
    with pytest.raises(Unavailable, match="feature store"):
        store.ids(Entity.ITEM)
    (feast_dir / "features").mkdir()
    rows = pd.DataFrame({"item_id": ["i0", "i1", "i1"], "event_timestamp": [NOW, NOW, NOW + timedelta(days=1)]})
    rows.to_parquet(feast_dir / "features" / "item_profile.parquet")
    assert sorted(store.ids(Entity.ITEM)) == ["i0", "i1"]


@pytest.mark.servers
def test_a_registry_of_another_schema_is_refused(feast_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applied by newer definitions it is an outage that says so, also to who reads already and who makes snapshots; it ends with that."""
    monkeypatch.setenv("LONGTAIL_HOME", str(tmp_path))
    monkeypatch.setattr(feast, "_REGISTRY_S", 0.0)
    shutil.copytree(feast_dir / "feast", tmp_path / "feast")
    registry = tmp_path / "feast" / "registry.db"
    ours = registry.read_bytes()
    declared = Registry.FromString(ours)
    declared.version_id = "newer"  # by which Feast tells two contents apart
    for view in declared.feature_views:
        view.spec.tags["schema_hash"] = "f" * 16
    reading = FeastStore(feast_home.REPO, tmp_path)
    assert reading.read(Entity.USER, ["u"]).values["orders_all"].tolist() == [3.0]
    registry.write_bytes(declared.SerializeToString())
    reading._readers[Entity.USER]._store.refresh_registry()  # as Feast's own thread does every minute
    fresh = FeastStore(feast_home.REPO, tmp_path)
    said = f"registry is of feature schema {'f' * 16} and this program of {schema_hash()}"
    for ask in (lambda: reading.read(Entity.USER, ["u"]), lambda: fresh.read(Entity.ITEM, ["i0"]), fresh.revision):
        with pytest.raises(Unavailable, match=said):
            ask()
    registry.write_bytes(ours)
    reading._readers[Entity.USER]._store.refresh_registry()
    assert reading.read(Entity.USER, ["u"]).values["orders_all"].tolist() == [3.0]
    assert fresh.revision()


@pytest.mark.servers
def test_the_revision_changes_with_what_is_materialised(store: FeastStore, feast_dir: Path) -> None:
    """It is the same until then, whoever asks, and stays a few characters long."""
    before = store.revision()
    assert before == store.revision() == FeastStore(feast_home.REPO, feast_dir).revision()
    known = FeatureStore(repo_path=str(feast_home.REPO))
    known.registry.apply_materialization(known.get_feature_view("item_profile"), known.project, NOW, NOW + timedelta(days=1))
    assert store.revision() != before
    assert len(store.revision()) == 16
