"""What Feast knows: entities, views and services, generated from the schema in `ranking.features`.

The only Python file of this folder, because `feast apply` imports every one. It declares and computes nothing: the Parquet files it
points to are written by `training.tables`.
"""

from __future__ import annotations

import os

import feast
from feast.data_format import ParquetFormat
from feast.types import Array, Float32, Int64, String
from feast.value_type import ValueType

from ranking import features

if not os.path.isabs(os.environ.get("LONGTAIL_HOME", "")):  # noqa: PTH117 - stdlib os is all this file needs
    raise RuntimeError("LONGTAIL_HOME must be set to the absolute path of the state directory, e.g. LONGTAIL_HOME=$PWD/.longtail")

FOLDER = os.path.join(os.environ["LONGTAIL_HOME"], "features")  # noqa: PTH118
PUSHED = os.path.join(os.environ["LONGTAIL_HOME"], "pushed")  # noqa: PTH118
DTYPES = {"float32": Float32, "int64": Int64, "string": String, "float32_list": Array(Float32), "int64_list": Array(Int64)}

user = feast.Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING, description="a household or account")
item = feast.Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING, description="a product")
ENTITIES = {features.Entity.USER: user, features.Entity.ITEM: item}


def _view(view: features.View) -> feast.FeatureView:
    """The declared view over its Parquet file; what follows from events is pushed as well."""
    entity = ENTITIES[view.entity]
    batch = feast.FileSource(
        name=f"{view.name}_batch",
        path=os.path.join(PUSHED if view in features.PUSHED_VIEWS else FOLDER, f"{view.name}.parquet"),  # noqa: PTH118
        timestamp_field="event_timestamp",
        file_format=ParquetFormat(),
    )
    pushed = view.name in features.LIVE_FEATURES or view in features.PUSHED_VIEWS
    return feast.FeatureView(
        name=view.name,
        entities=[entity],
        ttl=view.ttl,
        schema=[
            feast.Field(name=entity.join_key, dtype=String),
            *(feast.Field(name=f.name, dtype=DTYPES[f.dtype], description=f"{f.description} [{f.unit}]") for f in view),
        ],
        source=feast.PushSource(name=features.push_source(view), batch_source=batch) if pushed else batch,
        online=True,
        owner=view.owner,
        description=view.description,
        tags={"schema_hash": features.schema_hash()},
    )


def _service(name: str) -> feast.FeatureService:
    """The declared service: everything one surface's ranking reads, under one name."""
    return feast.FeatureService(
        name=name,
        features=[VIEWS[view.name] for view in features.FEATURE_SERVICES[name]],
        tags={"schema_hash": features.schema_hash()},
    )


# Feast finds objects by module-level name only: it does not look into lists.
user_profile = _view(features.USER_PROFILE)
user_behaviour = _view(features.USER_BEHAVIOUR)
user_taste = _view(features.USER_TASTE)
item_profile = _view(features.ITEM_PROFILE)
item_statistics = _view(features.ITEM_STATISTICS)
item_taste = _view(features.ITEM_TASTE)
item_windows = _view(features.ITEM_WINDOWS)
item_reviews = _view(features.ITEM_REVIEWS)
item_embedding = _view(features.ITEM_EMBEDDING)
item_live = _view(features.ITEM_LIVE)
user_session = _view(features.USER_SESSION)
VIEWS = {view.name: view for view in (user_profile, user_behaviour, user_taste, item_profile, item_statistics, item_taste)}

ads_ranking_v1 = _service("ads_ranking_v1")
search_ranking_v1 = _service("search_ranking_v1")
