"""The project's own Feast repository, applied under a state directory of the test's own, with rows put straight into its online store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from feast import FeatureStore

from ranking.features import VIEWS, Entity

REPO = Path(__file__).resolve().parents[2] / "feature_repo"
KEYS = {Entity.USER: "user_id", Entity.ITEM: "item_id"}


def apply(home: Path) -> None:
    """`feast apply` with nothing materialised."""
    feast = Path(sys.executable).parent / "feast"
    done = subprocess.run(
        [feast, "-c", REPO, "apply"], env=os.environ | {"LONGTAIL_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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
