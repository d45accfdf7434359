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
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ranking.errors import Unavailable
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import FEATURE_SERVICES, ITEM_SCALARS, Dtype, Entity, Feature, View
from ranking.types import IntArray
from services.feature_store.forget import removed
from services.feature_store.layouts import Found, RedisRows, Rows, SqliteRows, Wanted
from services.feature_store.online_file import OnlineFile, identity
from services.feature_store.port import ENTITY_VIEWS, READABLE_VIEWS, FeatureRows
from services.feature_store.schema import same_schema
from services.feature_store.values import Parse, column
from services.feature_store.writes import guard_sqlite, write_redis

JOIN_KEYS = {Entity.USER: "user_id", Entity.ITEM: "item_id"}
_ITEM_KEYS = ("category_key", "type_key", "maker_key", "text_digest")
_ITEM_WANTED = frozenset((*ITEM_SCALARS, *_ITEM_KEYS, "popularity_tier", "token_ids", "taste", "taste_at", *ITEM_ATTRIBUTES))
"""The item features ranking reads; the others (title …) cost as much to read and are for people."""
RANKING: dict[Entity, tuple[str, ...]] = {
    e: tuple(f.name for view in views for f in view if e is Entity.USER or f.name in _ITEM_WANTED) for e, views in ENTITY_VIEWS.items()
}
"""What is read when nobody says what to read."""
_REGISTRY_S = 10.0  # how often a reader looks whose definitions the registry is of; Feast reads it in the background
_DTYPES: dict[Entity, dict[str, Dtype]] = {e: {f.name: f.dtype for view in views for f in view} for e, views in READABLE_VIEWS.items()}


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
        self._writers: dict[str, _Writer] = {}
        self._writing = threading.Lock()
        self._catalogue: Any = None

    def read(self, entity: Entity, ids: Sequence[str], features: Sequence[str] = ()) -> FeatureRows:
        """See `port.FeatureStore.read`."""
        try:
            if entity not in self._readers:
                with self._opening:
                    self._readers[entity] = self._open(entity)
            return self._readers[entity].read(ids, features)
        except Unavailable:  # the reader knows why, and looks again the next time
            raise
        except Exception as error:  # feast and every online store's client raise their own; to us they mean one thing
            self._readers.pop(entity, None)
            raise _unavailable(error) from error

    def push(self, view: View, ids: Sequence[str], columns: Mapping[str, Sequence[Any]], event_times: IntArray) -> None:
        """See `port.Sink.push`; the guard against late rows is in `writes.py`."""
        try:
            with self._writing:
                if view.name not in self._writers:
                    self._writers[view.name] = _Writer(view, self.opened())
                self._writers[view.name].write(ids, columns, event_times.tolist())
        except (ValueError, Unavailable):
            raise
        except Exception as error:  # as in `read`
            self._writers.pop(view.name, None)
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
            same_schema(views)
            said = repr([(v.name, v.last_updated_timestamp, v.materialization_intervals[-1:]) for v in views])
            if store.config.online_store.type == "sqlite":
                said += repr(identity(_sqlite_path(store.config)))  # another file has other rows, whatever the registry says of them
            return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
        except Unavailable:
            raise
        except Exception as error:  # as in `read`
            self._catalogue = None
            raise _unavailable(error) from error

    def forget(self, users: Sequence[str]) -> int:
        """See `services.privacy.forget.Store.forget`."""
        try:
            return removed(self.opened(), JOIN_KEYS[Entity.USER], users)
        except Unavailable:
            raise
        except Exception as error:  # as in `read`
            raise _unavailable(error) from error

    def _known(self) -> Any:
        """The store that is asked about itself; its registry is read when it is opened, and when asked to."""
        if self._catalogue is None:
            self._catalogue = self.opened()
        return self._catalogue

    def opened(self) -> Any:
        """A store of Feast's, opened anew; outside this module for what is no reading, and for those who measure Feast itself."""
        os.environ["LONGTAIL_HOME"] = str(self._home)  # feature_store.yaml is expanded from the environment by feast itself
        from feast import FeatureStore

        logging.getLogger("feast").setLevel(logging.WARNING)  # it reports every refresh of its registry's cache
        return FeatureStore(repo_path=str(self._repo))

    def _open(self, entity: Entity) -> _Reader:
        """A store per entity: its connection is then used by one thread at a time."""
        store = self.opened()
        served: set[str] = set()
        for name in FEATURE_SERVICES:
            service = store.get_feature_service(name)
            served = {f"{p.name}:{f.name}" for p in service.feature_view_projections for f in p.features}
            refs = {f"{view.name}:{f.name}" for view in ENTITY_VIEWS[entity] for f in view if f.name in RANKING[entity]}
            if absent := sorted(refs - served):
                raise Unavailable(f"feature service {name} does not serve {', '.join(absent)}: apply feature_repo again")
        return _Reader(entity, store)


class _Keys:
    """Serialises one entity's ids as Feast does."""

    def __init__(self, entity: Entity, version: int) -> None:
        self.entity, self._version = entity, version
        # A key ends in the id's length and the id; what stands before them is the same for all. Making each by itself takes 3 µs.
        self._head = self._serialised("")[:-4]
        if self.of("é") != self._serialised("é"):
            raise Unavailable(f"Feast serialises keys in a way that is not known here: entity_key_serialization_version {version}")

    def of(self, entity_id: str) -> bytes:
        """The key of one id."""
        text = entity_id.encode()
        return self._head + struct.pack("<I", len(text)) + text

    def message(self, entity_id: str) -> Any:
        """The message a key is made of."""
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        return EntityKey(join_keys=[JOIN_KEYS[self.entity]], entity_values=[Value(string_val=entity_id)])

    def _serialised(self, entity_id: str) -> bytes:
        from feast.infra.key_encoding_utils import serialize_entity_key

        return bytes(serialize_entity_key(self.message(entity_id), entity_key_serialization_version=self._version))


class _Reader:
    """One entity's rows in the online store that is configured."""

    def __init__(self, entity: Entity, store: Any) -> None:
        from feast.protos.feast.types.Value_pb2 import Value

        self._entity, self._keys = entity, _Keys(entity, store.config.entity_key_serialization_version)
        self._rows, self._parse = _rows(entity, store), _parser(Value)
        self._store, self._checked = store, float("-inf")

    def read(self, ids: Sequence[str], features: Sequence[str]) -> FeatureRows:
        """As `FeastStore.read`."""
        if time.monotonic() - self._checked >= _REGISTRY_S:
            same_schema(self._store.get_feature_view(view.name, allow_registry_cache=True) for view in ENTITY_VIEWS[self._entity])
            self._checked = time.monotonic()
        chosen = frozenset(features or RANKING[self._entity])
        views = ENTITY_VIEWS[self._entity]
        if any(f.name in chosen for view in READABLE_VIEWS[self._entity][len(views) :] for f in view):
            views = READABLE_VIEWS[self._entity]
        wanted = [Wanted(view.name, [f.name for f in view if f.name in chosen]) for view in views]
        if not ids:
            return FeatureRows({name: [] for name in chosen}, np.empty((len(wanted), 0)))
        distinct = list(dict.fromkeys(ids))
        found = self._rows.fetch([self._keys.of(i) for i in distinct], wanted)
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


class _Writer:
    """One view's rows in the online store that is configured; used by one thread at a time."""

    def __init__(self, view: View, store: Any) -> None:
        from feast.infra.online_stores.helpers import _mmh3, compute_table_id, compute_versioned_name, get_online_store_from_config

        self._view, self._config = view, store.config
        self._keys = _Keys(view.entity, store.config.entity_key_serialization_version)
        self._declared = store.get_feature_view(view.name)
        self._online: Any = get_online_store_from_config(store.config.online_store)
        versioned = store.config.registry.enable_online_feature_view_versioning
        name = compute_versioned_name(self._declared, versioned)
        self._fields = {f.name: _mmh3(f"{name}:{f.name}") for f in view}
        self._time_field = f"_ts:{name}".encode()
        self._table = compute_table_id(store.config.project, self._declared, versioned)
        self._file = OnlineFile(_sqlite_path(store.config), "rw") if store.config.online_store.type == "sqlite" else None

    def write(self, ids: Sequence[str], columns: Mapping[str, Sequence[Any]], times_us: Sequence[int]) -> None:
        """As `FeastStore.push`."""
        rows = [dict(zip(self._fields, row, strict=True)) for row in zip(*(self._messages(f, columns) for f in self._view), strict=True)]
        config = self._config.online_store
        if config.type == "redis":
            write_redis(
                self._online._get_client(config),
                [self._keys.of(i) + self._config.project.encode() for i in ids],
                self._time_field,
                times_us,
                [{self._fields[name]: value.SerializeToString() for name, value in row.items()} for row in rows],
                expire_s=config.key_ttl_seconds or 0,
            )
            return
        if self._file is not None:
            self._online._conn = self._guarded(self._file)  # its own way to open the file makes one where there is none
        moments = [datetime.fromtimestamp(t // 10**6, UTC) + timedelta(microseconds=t % 10**6) for t in times_us]
        data = [(self._keys.message(i), row, moment, None) for i, row, moment in zip(ids, rows, moments, strict=True)]
        self._online.online_write_batch(self._config, self._declared, data, None)

    def _guarded(self, file: OnlineFile) -> sqlite3.Connection:
        db = file.connection()
        if db is not self._online._conn:
            guard_sqlite(db, [self._table])
        return db

    def _messages(self, feature: Feature, columns: Mapping[str, Sequence[Any]]) -> list[Any]:
        from feast.protos.feast.types import Value_pb2 as pb

        if feature.name not in columns:
            raise ValueError(f"{self._view.name}: the feature {feature.name} is missing")
        kinds: dict[Dtype, tuple[str, Callable[[Any], Any]]] = {
            "float32": ("float_val", float),
            "int64": ("int64_val", int),
            "string": ("string_val", str),
            "float32_list": ("float_list_val", lambda values: pb.FloatList(val=values)),
            "int64_list": ("int64_list_val", lambda values: pb.Int64List(val=values)),
        }
        field, made = kinds[feature.dtype]
        try:
            return [pb.Value() if v is None else pb.Value(**{field: made(v)}) for v in columns[feature.name]]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self._view.name}: {feature.name} must be {feature.dtype}: {error}") from None


def _rows(entity: Entity, store: Any) -> Rows:
    """Where the rows lie, by the kind of online store."""
    from feast.infra.online_stores.helpers import _mmh3, compute_table_id, compute_versioned_name, get_online_store_from_config

    config = store.config
    versioned = config.registry.enable_online_feature_view_versioning
    views = {view.name: store.get_feature_view(view.name) for view in READABLE_VIEWS[entity]}
    if config.online_store.type == "sqlite":
        return SqliteRows(_sqlite_path(config), {name: compute_table_id(config.project, view, versioned) for name, view in views.items()})
    online: Any = get_online_store_from_config(config.online_store)
    if config.online_store.type == "redis" and config.online_store.client == "redis":
        names = {name: compute_versioned_name(view, versioned) for name, view in views.items()}
        client = online._get_client(config.online_store)  # the one that knows of clusters and sentinels
        fields = {(view, f.name): _mmh3(f"{names[view]}:{f.name}") for view in views for f in views[view].features}
        return RedisRows(client, config.project, fields, {view: f"_ts:{name}".encode() for view, name in names.items()})
    return _FeastRows(online, config, views)


def _sqlite_path(config: Any) -> Path:
    return Path(config.repo_path or "", config.online_store.path)


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
