"""The Feast adapter: the only module of `services` that imports feast.

Reads the response's protobuf columns, never `.to_dict()`. What a row is worth is not asked from Feast, which serves expired values as
present: `event_times` say it. A missing row looks different in every online store (SQLite: NOT_FOUND; Redis: present, unset and dated
1970), so a row counts as there when at least one of its features has a value.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ranking.errors import Unavailable
from ranking.fairness.policy import ITEM_ATTRIBUTES
from ranking.features import FEATURE_SERVICES, ITEM_SCALARS, Entity, View
from ranking.types import IntArray
from services.feature_store.port import ENTITY_VIEWS, FeatureRows

JOIN_KEYS = {Entity.USER: "user_id", Entity.ITEM: "item_id"}
_STAMP = "event_timestamp"
_ITEM_KEYS = ("category_key", "type_key", "maker_key", "text_digest")
_ITEM_WANTED = frozenset((*ITEM_SCALARS, *_ITEM_KEYS, "popularity_tier", "token_ids", "taste", "taste_at", *ITEM_ATTRIBUTES))
"""The item features ranking reads; the others (title …) cost as much to read and are for people."""


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
        self._readers: dict[Entity, Callable[[Sequence[str]], FeatureRows]] = {}
        self._opening = threading.Lock()
        self._catalogue: Any = None

    def read(self, entity: Entity, ids: Sequence[str]) -> FeatureRows:
        """See `port.FeatureStore.read`."""
        try:
            if entity not in self._readers:
                with self._opening:
                    self._readers[entity] = self._open(entity)
            return self._readers[entity](ids)
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

    def _open(self, entity: Entity) -> Callable[[Sequence[str]], FeatureRows]:
        """A store per entity: its connection is then used by one thread at a time."""
        store = self._store()
        wanted: list[list[str]] = []
        for view in ENTITY_VIEWS[entity]:
            names = [f.name for f in view if entity is Entity.USER or f.name in _ITEM_WANTED]
            wanted.append([f"{view.name}:{name}" for name in names])
        refs = [ref for view_refs in wanted for ref in view_refs]
        for name in FEATURE_SERVICES:
            served = {f"{p.name}:{f.name}" for p in store.get_feature_service(name).feature_view_projections for f in p.features}
            if absent := sorted(set(refs) - served):
                raise Unavailable(f"feature service {name} does not serve {', '.join(absent)}: apply feature_repo again")

        def read(ids: Sequence[str]) -> FeatureRows:
            # References and not the service itself: a service spans both entities and would ask for both keys.
            response = store.get_online_features(features=refs, entity_rows={JOIN_KEYS[entity]: list(ids)}).proto
            columns = dict(zip(response.metadata.feature_names.val, response.results, strict=True))
            values: dict[str, list[Any]] = {}
            times = np.full((len(wanted), len(ids)), np.nan)
            for row, view_refs in enumerate(wanted):
                present = np.zeros(len(ids), bool)
                for ref in view_refs:
                    name = ref.partition(":")[2]
                    values[name] = [_value(v) for v in columns[name].values]
                    present |= np.fromiter((v is not None for v in values[name]), bool, len(ids))
                stamps = columns[view_refs[0].partition(":")[2]].event_timestamps
                times[row] = np.fromiter((t.seconds + t.nanos * 1e-9 for t in stamps), np.float64, len(ids))
                times[row, ~present] = np.nan
            return FeatureRows(values, times)

        return read


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable(f"feature store: {type(error).__name__}: {error}")


def _value(value: Any) -> Any:
    """The Python value of a Feast `Value` message; a list's repeated field; None when unset."""
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    held = getattr(value, kind)
    return held.val if kind.endswith("list_val") else held
