"""Batch feature tables: the declared views as Parquet files, one row per entity and snapshot, computed in DuckDB.

A row stamped with an instant uses only what happened strictly before it. What the columns mean is declared in `ranking.features`;
this package knows no source but the canonical tables, and nothing of Feast, which reads what it writes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ranking.features import schema_hash
from ranking.layout import Layout
from training.progress import Bar
from training.stage import CORE, Staged, source_files, stage
from training.tables import facts
from training.tables.duck import connect
from training.tables.history import write_history
from training.tables.items import write_item_profile, write_item_statistics
from training.tables.taste import write_taste
from training.tables.tokens import Tokens, tokenizer_file
from training.tables.users import write_user_behaviour, write_user_profile

FIRST_WEEK = 27  # half a year of history before the first training row
LAST_WEEK = 54  # the instant at which the data end


def write_tables(canonical: Path, out: Path, *, first_week: int = FIRST_WEEK, last_week: int = LAST_WEEK) -> None:
    """Write one Parquet file per feature view and what events go on from into the existing directory `out`.

    ``meta.json`` has the rows of each file, the first and the last snapshot, the watermark (an instant: everything that happened before it
    is in these files, nothing of it or later) and the starts of all weeks there are.

    Args:
        canonical: folder of the canonical tables.
        out: the directory.
        first_week: the first snapshot is taken at the start of this week,
        last_week: the last at the start of this one, and one at the start of each between.

    Raises:
        ValueError: the canonical tables have no such week.
    """
    with connect(out) as db:
        facts.load(db, canonical)
        weeks = {week: start.astimezone(UTC) for week, start in db.execute("SELECT week, start_time FROM weeks ORDER BY week").fetchall()}
        if not all(week in weeks for week in range(first_week, last_week + 1)):
            raise ValueError(f"first_week, last_week: {first_week} to {last_week} are not all weeks of {canonical}")
        snapshots = [weeks[week] for week in range(first_week, last_week + 1)]
        known_at = _first_instant(canonical)
        with Bar("feature tables, week by week", 3 * len(snapshots)) as bar:
            rows = {
                "user_profile": write_user_profile(db, out, known_at),
                "item_profile": write_item_profile(db, out, known_at, Tokens()),
                "user_behaviour": write_user_behaviour(db, out, snapshots, bar.advance),
                "item_statistics": write_item_statistics(db, out, snapshots, bar.advance),
                **write_taste(db, out, snapshots, bar.advance),
                **write_history(db, out, snapshots[-1]),
            }
    meta = {
        "rows": rows,
        "first": snapshots[0].isoformat(),
        "last": snapshots[-1].isoformat(),
        "watermark": snapshots[-1].isoformat(),
        "week_starts": [start.isoformat() for start in weeks.values()],
    }
    (out / "meta.json").write_text(json.dumps(meta))


def compute(layout: Layout, source: Staged, *, first_week: int = FIRST_WEEK, last_week: int = LAST_WEEK) -> Staged:
    """Feature tables under `layout.features` from a prepared source, made unless they are there."""
    return stage(
        layout.features,
        {
            "source": source.key,
            "schema": schema_hash(),
            "tokenizer": tokenizer_file().stat().st_size,
            "weeks": [first_week, last_week],
        },
        lambda out: write_tables(source.path, out, first_week=first_week, last_week=last_week),
        code=[*source_files("training/tables", "training/discovery"), *CORE],
    )


def _first_instant(canonical: Path) -> datetime:
    """Midnight before the first event: profiles carry no date of their own and are taken as known from the start."""
    first = datetime.fromisoformat(json.loads((canonical / "meta.json").read_text())["first_event"])
    return (first.astimezone(UTC) - timedelta(microseconds=1)).replace(hour=0, minute=0, second=0, microsecond=0)
