"""A part of `longtail bench features`: one user and 100, 500 or 1,000 items, ours against Feast's own, of the same rows in one run.

Feast's is what its users call: `get_online_features(…).to_dict()`, once for the user and once for the items, with every feature that
ranking reads. Ours is what a Rank call does: the user from the gateway's cache and the items from the snapshot (`…_ratio`), the same with
the user read from the store every time (`…_cold_user_ratio`), and everything read from the store, no snapshot and no cache
(`…_miss_ratio`). Ours ends with arrays that the models' rows are made of, Feast's with Python lists. First both are checked to agree.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ranking.assemble import UserFeatures, arrays, item_features, user_features
from ranking.features import TASTE_WIDTH, Entity, Feature, stable_key
from ranking.layout import Layout
from ranking.types import TIERS
from services.bench.redis_server import redis_server
from services.feature_store.feast import JOIN_KEYS, RANKING, FeastStore
from services.feature_store.items import items_of
from services.feature_store.port import ENTITY_VIEWS
from services.gateway.features import Features
from services.snapshot.latest import Latest
from services.snapshot.writer import Writer

SIZES = (100, 500, 1000)
WANTED: dict[str, tuple[str, float]] = {
    "sqlite_500_ratio": (">=", 100.0),
    "redis_500_ratio": (">=", 100.0),
    "sqlite_500_miss_ratio": (">=", 2.0),
    "redis_500_miss_ratio": (">=", 2.0),
}
REPO = Path(__file__).parents[2] / "feature_repo"
_USERS = 20
_Said = tuple[Any, Any]  # of the user and of the items: arrays, or what Feast has of them


def figures(_layout: Layout, quick: bool) -> dict[str, float]:
    """Figures by name; milliseconds are p50 and p99 of single reads."""
    sizes, items, rounds = (SIZES[:2], 500, 2) if quick else (SIZES, 2000, 25)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="longtail-bench-") as folder, redis_server(Path(folder) / "redis") as address:
        home = Path(folder) / "home"
        (home / "feast").mkdir(parents=True)
        with _environment({"LONGTAIL_HOME": str(home), "LONGTAIL_FEATURE_REDIS": address}):
            feast = Path(sys.executable).with_name("feast")
            done = subprocess.run([feast, "-c", REPO, "apply"], cwd=REPO.parent, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"feast apply ended with {done.returncode}: {done.stderr[-1000:]}")
            for name, yaml in (("sqlite", "feature_store.yaml"), ("redis", "feature_store.redis.yaml")):
                with _environment({"FEAST_FS_YAML_FILE_PATH": str(REPO / yaml)}):
                    found |= {f"{name}_{key}": value for key, value in asyncio.run(_measured(home, name, sizes, items, rounds)).items()}
    return found


async def _measured(home: Path, name: str, sizes: Sequence[int], items: int, rounds: int) -> dict[str, float]:
    store, item_ids, user_ids = FeastStore(REPO, home), [f"item-{i}" for i in range(items)], [f"user-{i}" for i in range(_USERS)]
    _fill(store, Entity.ITEM, item_ids)
    _fill(store, Entity.USER, user_ids)
    path = home / f"snapshot-{name}"
    with Writer(path) as writer:
        rows = store.read(Entity.ITEM, item_ids)
        features, names = items_of(item_ids, rows)
        writer.build(item_ids, features, rows.event_times, names, as_of=time.time())
    snapshot = Latest(path)
    snapshot.poll()
    with_cache, without = (
        Features(
            store, user_ttl_s=ttl, user_cache=1000, item_refresh_s=60.0, item_cache=2000, snapshot=snapshot, snapshot_stale_s=float("inf")
        )
        for ttl in (float("inf"), 0.0)
    )
    feast = store.opened()
    refs = {e: [f"{v.name}:{f.name}" for v in views for f in v if f.name in RANKING[e]] for e, views in ENTITY_VIEWS.items()}

    async def yardstick(user: str, some: list[str]) -> _Said:
        asked = ((Entity.USER, [user]), (Entity.ITEM, some))
        said = [feast.get_online_features(features=refs[e], entity_rows={JOIN_KEYS[e]: ids}).to_dict() for e, ids in asked]
        return said[0], said[1]

    async def from_store(user: str, some: list[str]) -> _Said:
        found = store.read(Entity.USER, [user])
        return _user(found.values), items_of(some, store.read(Entity.ITEM, some))[0]

    def through(reader: Features) -> Callable[[str, list[str]], Awaitable[_Said]]:
        async def read(user: str, some: list[str]) -> _Said:
            found = await reader.get(user, some, float("inf"))
            if found.degradations:
                raise RuntimeError(f"a read was not whole: {found.degradations[0]}")
            return found.user, found.items

        return read

    ways: dict[str, Callable[[str, list[str]], Awaitable[_Said]]] = {
        "feast": yardstick,
        "miss": from_store,
        "cold_user": through(without),
        "snapshot": through(with_cache),
    }
    figures: dict[str, float] = {}
    rng = np.random.default_rng(0)
    for size in sizes:
        took: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(rounds + 1):  # all ways by turns, so that a busy moment is none's; the first turn is the check
            user, some = user_ids[int(rng.integers(_USERS))], [item_ids[i] for i in rng.choice(items, size, replace=False).tolist()]
            said: dict[str, _Said] = {}
            for way, read in ways.items():
                for _ in range(1 if way in ("feast", "miss") else 5):
                    start = time.perf_counter()
                    said[way] = await read(user, some)
                    took[way].append(1e3 * (time.perf_counter() - start))
            if turn == 0:
                _check(some, said)
                took = {way: [] for way in ways}
        for way, each in took.items():
            figures |= {f"{size}_{way}_p50_ms": float(np.median(each)), f"{size}_{way}_p99_ms": float(np.percentile(each, 99))}
        for way, key in (("snapshot", "ratio"), ("cold_user", "cold_user_ratio"), ("miss", "miss_ratio")):
            figures[f"{size}_{key}"] = figures[f"{size}_feast_p50_ms"] / figures[f"{size}_{way}_p50_ms"]
    for reader in (with_cache, without):
        await reader.close()
    return figures


def _check(items: Sequence[str], said: dict[str, _Said]) -> None:
    """Ours are, bit by bit, the arrays that Feast's values make.

    Raises:
        RuntimeError: naming what differs.
    """
    user, columns = said.pop("feast")
    keys = np.array([stable_key(i) for i in items], np.int64)
    wanted: tuple[Any, Any] = (_user(user), item_features(keys, columns))
    for way, found in said.items():
        for ours, theirs in zip(found, wanted, strict=True):
            for (name, a), b in zip(arrays(ours).items(), arrays(theirs).values(), strict=True):
                if a.dtype != b.dtype or a.tobytes() != b.tobytes():
                    raise RuntimeError(f"{way}: {name} is not what Feast says")


def _user(values: Mapping[str, Any]) -> UserFeatures:
    return user_features({name: column[0] for name, column in values.items()})


def _fill(store: FeastStore, entity: Entity, ids: Sequence[str]) -> None:
    rng = np.random.default_rng(len(ids))
    times = np.full(len(ids), int(time.time()) * 10**6, np.int64)
    for view in ENTITY_VIEWS[entity]:
        store.push(view, ids, {f.name: _values(f, len(ids), rng) for f in view}, times)


def _values(feature: Feature, n: int, rng: np.random.Generator) -> list[Any]:
    """Generated values, as long as real ones are; one in twenty is missing. No lists: a user's go together."""
    length = TASTE_WIDTH if feature.name == "taste" else 24 if feature.name == "token_ids" else 30
    made: dict[str, Callable[[], list[Any]]] = {
        "float32": lambda: rng.standard_normal(n).astype(np.float32).tolist(),
        "int64": lambda: rng.integers(0, 2**62, n).tolist(),
        "string": lambda: [f"{feature.name} {i % 50}" for i in range(n)],
        "float32_list": lambda: rng.standard_normal((n, length)).astype(np.float32).tolist(),
        "int64_list": lambda: rng.integers(1, 30_000, (n, length)).tolist(),
    }
    if feature.name == "popularity_tier":
        return [TIERS[i % 3] for i in range(n)]
    values = made[feature.dtype]()
    if not feature.dtype.endswith("list"):
        values = [None if missing else v for v, missing in zip(values, (rng.random(n) < 0.05).tolist(), strict=True)]
    return values


@contextmanager
def _environment(changed: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
