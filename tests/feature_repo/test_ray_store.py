"""`feature_store.ray.yaml`: the same definitions on Feast's Ray offline store, on a Ray of this machine, beside the default one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ranking.features import ITEM_PROFILE, VIEWS, Entity, Feature
from ranking.layout import Layout
from services.feature_store.feast import FeastStore
from training import dataset
from training.dataset import FeastError
from training.online import apply

REPO = Path(__file__).parents[2] / "feature_repo"
NOW = datetime(2026, 1, 10, tzinfo=UTC)
ITEMS = ["k0", "k1", "k2"]
pytestmark = [
    pytest.mark.servers,
    pytest.mark.exhaustive,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),
]  # Ray's and Feast's own


def value(feature: Feature, seed: int) -> Any:
    """Some value; keys as large as real ones are."""
    return {
        "float32": np.float32(seed / 7),
        "int64": 2**62 + seed,
        "string": f"w{seed}",
        "float32_list": np.array([seed, 1.5], np.float32),
        "int64_list": np.array([seed, 2], np.int64),
    }[feature.dtype]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Three entities of each kind, with rows of today, a week ago and three weeks ago; nothing applied."""
    made = Layout(tmp_path_factory.mktemp("ray"))
    made.features.mkdir()
    for view in VIEWS:
        rows = [
            {f"{view.entity}_id": item, "event_timestamp": NOW - timedelta(days=d), **{f.name: value(f, 10 * i + d) for f in view}}
            for i, item in enumerate(ITEMS)
            for d in (0, 7, 21)
        ]
        pd.DataFrame(rows).to_parquet(made.features / f"{view.name}.parquet")
    return made


@pytest.fixture
def ray_store(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    import ray

    monkeypatch.setenv("FEAST_FS_YAML_FILE_PATH", str(REPO / "feature_store.ray.yaml"))
    monkeypatch.setenv("LONGTAIL_HOME", str(layout.home))
    apply(layout)
    yield layout
    ray.shutdown()


def historical(yaml: str, ids: list[str], times: list[datetime]) -> pa.Table:
    """What Feast itself joins through one of the YAML files."""
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(REPO), fs_yaml_file=REPO / yaml)
    asked = pd.DataFrame({"item_id": ids, "event_timestamp": times})
    table = store.get_historical_features(entity_df=asked, features=[f"item_profile:{f.name}" for f in ITEM_PROFILE]).to_arrow()
    return table.sort_by("item_id")


def test_rays_joins_are_those_of_the_default_store_but_for_keys(ray_store: Layout) -> None:
    """Numbers, texts and lists are equal; 64-bit keys are rounded (Feast 0.67), so training refuses to read lists through it."""
    asked = ITEMS, [NOW, NOW - timedelta(days=3), NOW - timedelta(days=8)]
    found, expected = (historical(yaml, *asked) for yaml in ("feature_store.ray.yaml", "feature_store.yaml"))
    for feature in ITEM_PROFILE:
        if feature.dtype != "int64":
            assert found[feature.name].to_pylist() == expected[feature.name].to_pylist(), feature.name
    from feast import FeatureStore

    store = FeatureStore(repo_path=str(REPO), fs_yaml_file=REPO / "feature_store.ray.yaml")
    with pytest.raises(FeastError, match="rounds 64-bit keys"):
        dataset._historical(store, ITEM_PROFILE, np.array(ITEMS, object), np.array([NOW.replace(tzinfo=None)] * 3, "datetime64[us]"))


def test_what_ray_materialises_is_served(ray_store: Layout) -> None:
    """`feast materialize` through it fills the online store with each entity's newest row."""
    command = [Path(sys.executable).with_name("feast"), "-c", REPO, "materialize", "--views", "item_profile"]
    times = [(NOW - timedelta(days=30)).isoformat(), (NOW + timedelta(days=1)).isoformat()]
    env = os.environ | {"PYTHONPATH": str(REPO.parent)}
    done = subprocess.run([*command, *times], cwd=REPO.parent, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = FeastStore(REPO, ray_store.home).read(Entity.ITEM, ITEMS, ["category_key", "title", "token_ids"])
    assert found.values["category_key"] == [2**62 + 10 * i for i in range(3)]
    assert found.values["title"] == [f"w{10 * i}" for i in range(3)]
    assert [list(v) for v in found.values["token_ids"]] == [[10 * i, 2] for i in range(3)]
