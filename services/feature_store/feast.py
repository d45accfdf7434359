"""The Feast adapter: the only module of `services` that imports feast.

Feast opens the store, says what is in it and makes the keys; rows of SQLite and Redis are read from where they lie (`layouts.py`), those of
any other online store through Feast's `online_read`. What a row is worth is not asked from Feast, which serves expired values as present:
`event_times` say it. A row is there when the store has an event time of it: Feast reports an entity that Redis does not know as present,
unset and dated 1970.
"""

from __future__ import annotations

import hashlib
import logging
import os
import struct
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ranking.errors import Unavailable
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import FEATURE_SERVICES, ITEM_SCALARS, Dtype, Entity, View
from ranking.types import IntArray
from services.feature_store.layouts import Found, RedisRows, Rows, SqliteRows, Wanted
from services.feature_store.port import ENTITY_VIEWS, FeatureRows
from services.feature_store.values import Parse, column

JOIN_KEYS = {Entity.USER: "user_id", Entity.ITEM: "item_id"}
_STAMP = "event_timestamp"
_ITEM_KEYS = ("category_key", "type_key", "maker_key", "text_digest")
_ITEM_WANTED = frozenset((*ITEM_SCALARS, *_ITEM_KEYS, "popularity_tier", "token_ids", "taste", "taste_at", *ITEM_ATTRIBUTES))
"""The item features ranking reads; the others (title …) cost as much to read and are for people."""
RANKING: dict[Entity, tuple[str, ...]] = {
    e: tuple(f.name for view in views for f in view if e is Entity.USER or f.name in _ITEM_WANTED) for e, views in ENTITY_VIEWS.items()
}
"""What is read when nobody says what to read."""
_DTYPES: dict[Entity, dict[str, Dtype]] = {e: {f.name: f.dtype for view in views for f in view} for e, views in ENTITY_VIEWS.items()}


class FeastStore:
    """Online features through Feast's own `feature_store.yaml`.

    Opened on first use and again after a failure, so that the gateway starts before the registry exists.
    """

    def __init__(self, repo: Path, home: Path) -> None:
        """Remember where the repository is.

        Args:
            repo: directory of `feature_store.yaml`, which names its files as ${LONGTAIL_HOME}/…
            home: what ${LONGTAIL_HOME} stands for.
        """
        self._repo = repo
        self._home = home
        self._readers: dict[Entity, _Reader] = {}
        self._opening = threading.Lock()
        self._catalogue: Any = None

    def read(self, entity: Entity, ids: Sequence[str], features: Sequence[str] = ()) -> FeatureRows:
        """See `port.FeatureStore.read`."""
        try:
            if entity not in self._readers:
                with self._opening:
                    self._readers[entity] = self._open(entity)
            return self._readers[entity].read(ids, features)
        except Exception as error:  # feast and every online store's client raise their own; to us they mean one thing
            self._readers.pop(entity, None)
            raise _unavailable(error) from error

    def push(self, view: View, ids: Sequence[str], columns: Mapping[str, Sequence[Any]], event_times: IntArray) -> None:
        """See `port.Sink.push`; Feast's SQLite store would overwrite whatever is there, so it is asked first.

        Between asking and writing another process could write a newer row; there is no such process but Feast's own `materialize`, whose
        end changes `revision`.
        """
        try:
            import pandas as pd

            store = self._known()
            key = JOIN_KEYS[view.entity]
            stored = store.get_online_features(features=[f"{view.name}:{view.features[0].name}"], entity_rows={key: list(ids)}).proto
            # To the second: the SQLite store keeps no parts of it, and what is as old as ours to the second is ours or as good.
            there = np.fromiter((t.seconds for t in stored.results[-1].event_timestamps), np.int64, len(ids))
            newer = np.flatnonzero(event_times // 1_000_000 >= there)
            if not len(newer):
                return
            frame = pd.DataFrame(
                {
                    key: [ids[i] for i in newer.tolist()],
                    _STAMP: pd.to_datetime(event_times[newer], unit="us", utc=True),
                    **{f.name: pd.Series([columns[f.name][i] for i in newer.tolist()], dtype=object) for f in view},
                }
            )
            # What `push` does for each view of its source. It would also read the registry file anew on every call, 50 ms of processor.
            store.write_to_online_store(view.name, df=frame)
        except Exception as error:  # as in `read`
            self._catalogue = None
            raise _unavailable(error) from error

    def ids(self, entity: Entity) -> Sequence[str]:
        """See `port.Catalogue.ids`.

        Online stores cannot be asked which entities they hold (no such call in Feast's interface of them); the offline store can, whichever
        it is, for it holds what was materialised.
        """
        try:
            from feast.infra.offline_stores.offline_utils import get_offline_store_from_config

            store = self._known()
            source = store.get_feature_view(ENTITY_VIEWS[entity][0].name).batch_source
            job = get_offline_store_from_config(store.config.offline_store).pull_all_from_table_or_query(
                config=store.config,
                data_source=source,
                join_key_columns=[JOIN_KEYS[entity]],
                feature_name_columns=[],
                timestamp_field=source.timestamp_field,
                start_date=datetime.min.replace(year=1970, tzinfo=UTC),
                end_date=datetime.max.replace(tzinfo=UTC),
            )
            return [str(key) for key in job.to_arrow().column(JOIN_KEYS[entity]).unique().to_pylist()]
        except Exception as error:  # as in `read`
            raise _unavailable(error) from error

    def revision(self) -> str:
        """See `port.Catalogue.revision`."""
        try:
            store = self._known()
            store.refresh_registry()
            views = sorted(store.list_feature_views(), key=lambda view: str(view.name))
            said = repr([(v.name, v.last_updated_timestamp, v.materialization_intervals[-1:]) for v in views])
            return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
        except Exception as error:  # as in `read`
            self._catalogue = None
            raise _unavailable(error) from error

    def opened(self) -> Any:
        """Feast's own store, opened anew, for what is no reading."""
        return self._store()

    def _known(self) -> Any:
        """The store that is asked about itself; its registry is read when it is opened, and when asked to."""
        if self._catalogue is None:
            self._catalogue = self._store()
        return self._catalogue

    def _store(self) -> Any:
        """A store of Feast's, opened anew."""
        os.environ["LONGTAIL_HOME"] = str(self._home)  # feature_store.yaml is expanded from the environment by feast itself
        from feast import FeatureStore

        logging.getLogger("feast").setLevel(logging.WARNING)  # it reports every refresh of its registry's cache
        return FeatureStore(repo_path=str(self._repo))

    def _open(self, entity: Entity) -> _Reader:
        """A store per entity: its connection is then used by one thread at a time."""
        store = self._store()
        served: set[str] = set()
        for name in FEATURE_SERVICES:
            service = store.get_feature_service(name)
            served = {f"{p.name}:{f.name}" for p in service.feature_view_projections for f in p.features}
            refs = {f"{view.name}:{f.name}" for view in ENTITY_VIEWS[entity] for f in view if f.name in RANKING[entity]}
            if absent := sorted(refs - served):
                raise Unavailable(f"feature service {name} does not serve {', '.join(absent)}: apply feature_repo again")
        return _Reader(entity, store)


class _Reader:
    """One entity's rows in the online store that is configured."""

    def __init__(self, entity: Entity, store: Any) -> None:
        from feast.infra.key_encoding_utils import serialize_entity_key
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        version = store.config.entity_key_serialization_version

        def serialised(entity_id: str) -> bytes:
            key = EntityKey(join_keys=[JOIN_KEYS[entity]], entity_values=[Value(string_val=entity_id)])
            return bytes(serialize_entity_key(key, entity_key_serialization_version=version))

        # A key ends in the id's length and the id; what stands before them is the same for all. Making each by itself takes 3 µs.
        self._head = serialised("")[:-4]
        if self._key("é") != serialised("é"):
            raise Unavailable(f"Feast serialises keys in a way that is not known here: entity_key_serialization_version {version}")
        self._entity, self._rows, self._parse = entity, _rows(entity, store), _parser(Value)

    def read(self, ids: Sequence[str], features: Sequence[str]) -> FeatureRows:
        """As `FeastStore.read`."""
        chosen = frozenset(features or RANKING[self._entity])
        wanted = [Wanted(view.name, [f.name for f in view if f.name in chosen]) for view in ENTITY_VIEWS[self._entity]]
        if not ids:
            return FeatureRows({name: [] for name in chosen}, np.empty((len(wanted), 0)))
        distinct = list(dict.fromkeys(ids))
        found = self._rows.fetch([self._key(i) for i in distinct], wanted)
        dtypes = _DTYPES[self._entity]
        values: dict[str, Any] = {}
        for (_, names), (columns, _) in zip(wanted, found, strict=True):
            values |= {name: column(dtypes[name], stored, self._parse) for name, stored in zip(names, columns, strict=True)}
        times = np.stack([one.times for one in found])
        if len(distinct) < len(ids):  # the store is asked once for each
            place = {entity_id: i for i, entity_id in enumerate(distinct)}
            at = np.array([place[i] for i in ids])
            values = {name: of[at] if isinstance(of, np.ndarray) else [of[i] for i in at] for name, of in values.items()}
            times = times[:, at]
        return FeatureRows(values, times)

    def _key(self, entity_id: str) -> bytes:
        text = entity_id.encode()
        return self._head + struct.pack("<I", len(text)) + text


def _rows(entity: Entity, store: Any) -> Rows:
    """Where the rows lie, by the kind of online store."""
    from feast.infra.online_stores.helpers import _mmh3, compute_table_id, compute_versioned_name, get_online_store_from_config

    config = store.config
    versioned = config.registry.enable_online_feature_view_versioning
    views = {view.name: store.get_feature_view(view.name) for view in ENTITY_VIEWS[entity]}
    if config.online_store.type == "sqlite":
        path = config.repo_path / config.online_store.path if config.repo_path else Path(config.online_store.path)
        return SqliteRows(path, {name: compute_table_id(config.project, view, versioned) for name, view in views.items()})
    online: Any = get_online_store_from_config(config.online_store)
    if config.online_store.type == "redis" and config.online_store.client == "redis":
        names = {name: compute_versioned_name(view, versioned) for name, view in views.items()}
        client = online._get_client(config.online_store)  # the one that knows of clusters and sentinels
        fields = {(view, f.name): _mmh3(f"{names[view]}:{f.name}") for view in views for f in views[view].features}
        return RedisRows(client, config.project, fields, {view: f"_ts:{name}".encode() for view, name in names.items()})
    return _FeastRows(online, config, views)


class _FeastRows:
    """Any other online store, read by Feast."""

    def __init__(self, online: Any, config: Any, views: Mapping[str, Any]) -> None:
        self._online, self._config, self._views = online, config, views

    def fetch(self, keys: Sequence[bytes], wanted: Sequence[Wanted]) -> list[Found]:
        """See `Rows.fetch`."""
        from feast.infra.key_encoding_utils import deserialize_entity_key

        version = self._config.entity_key_serialization_version
        entities = [deserialize_entity_key(key, entity_key_serialization_version=version) for key in keys]
        found = []
        for view, names in wanted:
            asked = list(names) or [self._views[view].features[0].name]
            rows = self._online.online_read(self._config, self._views[view], entities, asked)
            columns = [[values[name].SerializeToString() if values and name in values else None for _, values in rows] for name in names]
            # No store has rows of 1970: it is how Feast's own Redis reader says that there is none.
            times = [time.timestamp() if time and time.timestamp() > 0 else np.nan for time, _ in rows]
            found.append(Found(columns, np.array(times, np.float64)))
        return found


def _parser(message: Any) -> Parse:
    parse: Parse = message.FromString
    return parse


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"feature store: {type(error).__name__}: {error}")
