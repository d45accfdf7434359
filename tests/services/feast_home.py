"""The project's own Feast repository, applied under a state directory of the test's own, with rows put straight into its online store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from feast import FeatureStore

from ranking.features import VIEWS, Entity

REPO = Path(__file__).resolve().parents[2] / "feature_repo"
KEYS = {Entity.USER: "user_id", Entity.ITEM: "item_id"}


def apply(home: Path, environment: Mapping[str, str] | None = None) -> None:
    """`feast apply` with nothing materialised; `environment` chooses another YAML."""
    feast = Path(sys.executable).parent / "feast"
    env = os.environ | {"LONGTAIL_HOME": str(home)} | (environment or {})
    done = subprocess.run([feast, "-c", REPO, "apply"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def redis_environment(url: str) -> dict[str, str]:
    """What chooses Redis, at a `redis://host:port/…` URL, as the online store."""
    place = urlsplit(url)
    return {
        "FEAST_FS_YAML_FILE_PATH": str(REPO / "feature_store.redis.yaml"),
        "LONGTAIL_FEATURE_REDIS": f"{place.hostname}:{place.port},socket_timeout=5,socket_connect_timeout=5",
    }


def write(store: FeatureStore, view_name: str, event_time: datetime, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Put rows (entity id -> values by feature name; absent ones null) of one view into the online store."""
    view = next(v for v in VIEWS if v.name == view_name)
    frame = pd.DataFrame(
        {
            KEYS[view.entity]: list(rows),
            "event_timestamp": [event_time] * len(rows),
            **{f.name: [values.get(f.name) for values in rows.values()] for f in view},
        }
    )
    store.write_to_online_store(view_name, df=frame)
