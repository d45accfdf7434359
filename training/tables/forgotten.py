"""The users of the canonical tables who asked to be forgotten: the batch knows them by the tombstones in the state directory.

Their lines are in no feature table: not in those of users, and not in the counts of items either, as if they had never come. The feature
process, which makes rows of events from the same history, has forgotten their lines as well, so that both still count the same.
Knows not how users are forgotten elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from ranking.layout import Layout
from ranking.privacy import tombstone, tombstones


def forgotten_users(layout: Layout, canonical: Path) -> tuple[str, ...]:
    """Ids of the forgotten in the canonical tables, ascending.

    Raises:
        OSError: the tombstones are there and cannot be read.
    """
    known = tombstones(layout.forgotten.read_text()) if layout.forgotten.exists() else frozenset()
    if not known:
        return ()
    users = pq.read_table(canonical / "users.parquet", columns=["user_id"])["user_id"].unique().to_pylist()
    return tuple(sorted(user for user in users if user and tombstone(user).hex() in known))
