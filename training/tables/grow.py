"""Going on from older feature tables: whether their rows still hold, and joining new ones to them.

A snapshot's rows follow from what happened before it, so they hold as long as that is unchanged: `past` is a digest of it, kept with the
tables and computed again before anything is added to them. Knows no view.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

# All that rows read of what happened before an instant, by names and not by codes: those shift when users or items come. Their order must
# stand, though: the factors' last bits depend on it.
_PAST = """
SELECT md5(concat_ws('|',
    (SELECT concat_ws(',', count(*), sum(hash(
         u.user_id, c.item_id, c.item_key, c.category, c.category_key, c.type_key, c.maker_key, c.is_private,
         l.basket_id, l.bought_at, l.value, l.unit_price, l.off_shelf, w.start_time)))
     FROM lines l JOIN users u USING (user_code) JOIN catalogue c USING (item_code) JOIN weeks w USING (week) WHERE l.bought_at < $until),
    (SELECT concat_ws(',', count(*), sum(hash(promoted)))
     FROM (SELECT item_id, shown.* EXCLUDE (item_code) FROM shown JOIN catalogue USING (item_code) WHERE start_time < $until) promoted),
    (SELECT concat_ws(',', count(*), sum(hash(reviews))) FROM reviews WHERE told_at < $until),
    (SELECT hash(list(user_id ORDER BY user_code)) FROM users SEMI JOIN (FROM lines WHERE bought_at < $until) USING (user_code)),
    (SELECT hash(list(item_id ORDER BY item_code)) FROM catalogue SEMI JOIN (FROM lines WHERE bought_at < $until) USING (item_code))))
"""


def past(db: duckdb.DuckDBPyConnection, until: datetime) -> str:
    """Digest of everything a snapshot at `until` or before it was computed from. Reads the tables of `facts` and `reviews`."""
    row = db.execute(_PAST, {"until": until}).fetchone()
    assert row is not None
    return str(row[0])


def append(older: Path, newer: Path) -> int:
    """Put the rows of Parquet file `older` before those of `newer`, which need not be there; rows in all. Row groups stay what they are."""
    joined = newer.with_suffix(".joined")
    rows = 0
    with pq.ParquetWriter(joined, pq.read_schema(older), compression="zstd") as writer:
        for path in (older, newer):
            if path.exists():
                with pq.ParquetFile(path) as part:
                    for group in range(part.num_row_groups):
                        writer.write_table(part.read_row_group(group))
                    rows += part.metadata.num_rows
    joined.rename(newer)
    return rows
