"""Batch feature tables: the declared views as Parquet files, one row per entity and snapshot, computed in DuckDB.

A row stamped with an instant uses only what happened strictly before it. What the columns mean is declared in `ranking.features`;
this package knows no source but the canonical tables, and nothing of Feast, which reads what it writes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from ranking.features import ITEM_PROFILE, ITEM_REVIEWS, ITEM_STATISTICS, ITEM_TASTE, ITEM_WINDOWS, USER_BEHAVIOUR, USER_TASTE, schema_hash
from ranking.layout import Layout
from ranking.privacy import tombstone
from training.progress import Bar
from training.stage import CORE, Staged, key_of, source_files, stage
from training.tables import facts, reviews
from training.tables.duck import connect, together
from training.tables.embeddings import write_item_embedding
from training.tables.forgotten import forgotten_users
from training.tables.grow import append, past
from training.tables.history import write_history
from training.tables.items import write_item_profile, write_item_statistics
from training.tables.taste import write_taste
from training.tables.tokens import Tokens, tokenizer_file
from training.tables.users import write_user_behaviour, write_user_profile
from training.tables.windows import write_item_windows

FIRST_WEEK = 27  # half a year of history before the first training row
LAST_WEEK = 54  # the instant at which the data end
GROWING = (USER_BEHAVIOUR, ITEM_STATISTICS, ITEM_WINDOWS, ITEM_REVIEWS, USER_TASTE, ITEM_TASTE)  # views with rows for every snapshot


def write_tables(
    canonical: Path,
    out: Path,
    *,
    first_week: int = FIRST_WEEK,
    last_week: int = LAST_WEEK,
    until: datetime | None = None,
    older: Path | None = None,
    sentiment: Path | None = None,
    embeddings: Path | None = None,
    forgotten: Sequence[str] = (),
) -> dict[str, float]:
    """Write one Parquet file per feature view and what events go on from into the existing directory `out`.

    ``meta.json`` has the rows of each file, the first and the last snapshot, the watermark (an instant: everything that happened before it
    is in these files, nothing of it or later), the starts of all weeks there are, and what a later run needs to go on from here.

    Args:
        canonical: folder of the canonical tables.
        out: the directory.
        first_week: the first snapshot is taken at the start of this week,
        last_week: the last at the start of this one, and one at the start of each between.
        until: the watermark (aware); no snapshot is later. The start of `last_week` by default.
        older: what an earlier run left; its snapshots are kept, and only later ones computed, if what they were computed from is unchanged.
        sentiment: file of what reviews say, see `reviews`; it need not be there.
        embeddings: file of texts read so far, see `embeddings`; it need not be there.
        forgotten: ids of users of whom no file may say anything; see `training.tables.forgotten`.

    Returns:
        Seconds taken by part: facts, views, older; and of the views, which are written side by side, profiles, user_behaviour,
        item_statistics, item_windows, taste.

    Raises:
        ValueError: the canonical tables have no such week, `until` comes before the first snapshot, or `sentiment` is not what it must be.
    """
    clock = _Clock()
    with connect(out) as db:
        facts.load(db, canonical, forgotten)
        reviews.load(db, sentiment)
        weeks = {week: start.astimezone(UTC) for week, start in db.execute("SELECT week, start_time FROM weeks ORDER BY week").fetchall()}
        if not all(week in weeks for week in range(first_week, last_week + 1)):
            raise ValueError(f"first_week, last_week: {first_week} to {last_week} are not all weeks of {canonical}")
        watermark = (until or weeks[last_week]).astimezone(UTC)
        snapshots = [weeks[week] for week in range(first_week, last_week + 1) if weeks[week] <= watermark]
        if not snapshots:
            raise ValueError(f"until: {watermark.isoformat()} is before the first snapshot, {weeks[first_week].isoformat()}")
        kept = _still_true(db, older, snapshots) if older else None
        fresh = [at for at in snapshots if kept is None or at > kept]
        clock.lap("facts")
        with Bar("feature tables, week by week", 4 * len(fresh)) as bar:
            rows = _write_views(db, out, _first_instant(canonical), watermark, fresh, older if kept else None, embeddings, clock, bar)
        clock.lap("views")
        if older and kept:
            rows |= {v.name: append(older / f"{v.name}.parquet", out / f"{v.name}.parquet") for v in GROWING}
            clock.lap("older")
        meta = {
            "rows": rows,
            "first": snapshots[0].isoformat(),
            "last": snapshots[-1].isoformat(),
            "watermark": watermark.isoformat(),
            "grown_from": kept.isoformat() if kept else None,
            "week_starts": [start.isoformat() for start in weeks.values()],
            "recipe": recipe(),
            "past": past(db, snapshots[-1]),
        }
    (out / "meta.json").write_text(json.dumps(meta))
    return clock.seconds


def _write_views(
    db: duckdb.DuckDBPyConnection,
    out: Path,
    known_at: datetime,
    watermark: datetime,
    fresh: Sequence[datetime],
    older: Path | None,
    embeddings: Path | None,
    clock: _Clock,
    bar: Bar,
) -> dict[str, int]:
    """What needs nothing but the facts, side by side; rows by file. Views of snapshots only where there are fresh ones."""

    def users(own: duckdb.DuckDBPyConnection) -> dict[str, int]:
        with clock.part("user_behaviour"):
            written = {"user_profile": write_user_profile(own, out, known_at)}
            return written | ({"user_behaviour": write_user_behaviour(own, out, fresh, bar.advance)} if fresh else {})

    def items(own: duckdb.DuckDBPyConnection) -> dict[str, int]:
        with clock.part("profiles"):
            written = {"item_profile": write_item_profile(own, out, known_at, Tokens())}
            written["item_embedding"] = write_item_embedding(out / f"{ITEM_PROFILE.name}.parquet", embeddings, out)
            written |= write_history(own, out, watermark)
        if fresh:
            with clock.part("item_statistics"):
                written["item_statistics"] = write_item_statistics(own, out, fresh, bar.advance)
            with clock.part("item_windows"):
                written["item_windows"] = write_item_windows(own, out, fresh, bar.advance)
                written["item_reviews"] = reviews.write_item_reviews(own, out, fresh)
        return written

    def tastes(own: duckdb.DuckDBPyConnection) -> dict[str, int]:
        with clock.part("taste"):
            return write_taste(own, out, fresh, bar.advance, older=older) if fresh else {}

    return {name: count for part in together(db, users, items, tastes) for name, count in part.items()}


class _Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, part: str) -> None:
        """A part ends that began where the last one ended."""
        now = time.perf_counter()
        self.seconds[part], self._since = now - self._since, now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part among others at the same time."""
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def compute(
    layout: Layout,
    source: Staged,
    *,
    first_week: int = FIRST_WEEK,
    last_week: int = LAST_WEEK,
    until: datetime | None = None,
    full: bool = False,
) -> Staged:
    """Feature tables under `layout.features` from a prepared source, made unless they are there, grown where they can be.

    Until the new tables are whole the old ones stand. `full` computes everything anew; the other arguments are those of `write_tables`.
    Users with a tombstone under `layout` are left out, and made tables of whom there was more are made again; who is forgotten while this
    runs is in the new tables, so they are made once more.
    """
    gone = forgotten_users(layout, source.path)
    told = layout.sentiment.read_bytes() if layout.sentiment.exists() else b""
    inputs = {"source": source.key, "recipe": recipe(), "weeks": [first_week, last_week], "until": until and until.isoformat()}
    inputs |= {"sentiment": hashlib.blake2b(told, digest_size=16).hexdigest()}
    inputs |= {"forgotten": key_of({"tombstones": [tombstone(user).hex() for user in gone]})}  # what is written down names nobody
    older = None if full else layout.features

    def build(out: Path) -> None:
        write_tables(
            source.path,
            out,
            first_week=first_week,
            last_week=last_week,
            until=until,
            older=older,
            sentiment=layout.sentiment,
            embeddings=layout.embeddings,
            forgotten=gone,
        )

    made = stage(layout.features, inputs, build, anew=full)
    if forgotten_users(layout, source.path) != gone:
        return compute(layout, source, first_week=first_week, last_week=last_week, until=until, full=full)
    return made


def recipe() -> str:
    """What rows are made by: the schema, the tokenizer and the code. Rows of another recipe are never mixed with ours."""
    code = [*source_files("training/tables", "training/discovery"), *CORE]
    return key_of({"schema": schema_hash(), "tokenizer": tokenizer_file().stat().st_size}, code)


def _still_true(db: duckdb.DuckDBPyConnection, older: Path, snapshots: Sequence[datetime]) -> datetime | None:
    """The last snapshot in `older`, if its rows are what would be computed today; None otherwise."""
    try:
        meta: dict[str, Any] = json.loads((older / "meta.json").read_text())
        first, last = (datetime.fromisoformat(meta[name]) for name in ("first", "last"))
        made_by, digest = meta["recipe"], meta["past"]
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError, TypeError, ValueError):
        return None  # no tables, or none that can be trusted
    if made_by != recipe() or first != snapshots[0] or last not in snapshots:
        return None
    return last if past(db, last) == digest else None


def _first_instant(canonical: Path) -> datetime:
    """Midnight before the first event: profiles carry no date of their own and are taken as known from the start."""
    first = datetime.fromisoformat(json.loads((canonical / "meta.json").read_text())["first_event"])
    return (first.astimezone(UTC) - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0)
