"""Which row the online store had of an entity: one that events made, or the batch's."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ranking.features import USER_SESSION
from ranking.layout import Layout
from training.pushed import Pushed, Row

INSTANT = 1_500_000_000_000_000  # of the batch's row, µs since 1970
SERVED = 1_800_000_000_000_000  # by the wall clock
_STAMP = pa.timestamp("us", "UTC")


def _pushed(home: Path, batch: dict[str, int], rows: dict[str, list[int]]) -> Pushed:
    """A row of the batch per user, and rows that were in the store a second before `SERVED`: user -> event times."""
    layout = Layout(home)
    layout.features.mkdir()
    table = {"user_id": pa.array(list(batch), pa.string()), "event_timestamp": pa.array(list(batch.values()), _STAMP)}
    pq.write_table(pa.table(table), layout.features / f"{USER_SESSION.name}.parquet")
    pairs = [(user, time) for user, times in rows.items() for time in times]
    columns = {f.name: pa.array([[] for _ in pairs], pa.list_(pa.int64())) for f in USER_SESSION}
    columns |= {"user_id": pa.array([user for user, _ in pairs]), "event_timestamp": pa.array([time for _, time in pairs], _STAMP)}
    columns["pushed_at"] = pa.array([SERVED - 10**6 for _ in pairs], _STAMP)
    folder = layout.pushed_rows / USER_SESSION.name
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "1.parquet")
    return Pushed(layout, USER_SESSION, rows)


@pytest.mark.parametrize("batch", [{}, {"ann": INSTANT - 1}, {"ann": INSTANT}, {"bob": INSTANT + 1, "ann": INSTANT}])
def test_in_a_replayed_clock_a_first_purchase_is_what_was_served(tmp_path: Path, batch: dict[str, int]) -> None:
    """The clock stands at the batch's instant, and so does a row pushed: it counts, whether the batch has a row of the user or none."""
    (row,) = _pushed(tmp_path, batch, {"ann": [INSTANT]}).stood("ann", SERVED, SERVED, INSTANT)
    assert row is not None
    assert row.event_time == INSTANT


def test_the_batchs_newer_row_stands(tmp_path: Path) -> None:
    """The newer row is served, of those there were at the instant asked for; and nothing pushed counts before it was in the store."""
    pushed = _pushed(tmp_path, {"ann": INSTANT + 5, "bob": INSTANT}, {"ann": [INSTANT, INSTANT + 2]})
    assert pushed.stood("ann", SERVED, SERVED, INSTANT + 5) == [None]
    (row,) = pushed.stood("ann", SERVED, SERVED, INSTANT + 4)
    assert row is not None
    assert row.event_time == INSTANT + 2
    assert pushed.stood("ann", SERVED - 2 * 10**6, SERVED - 2 * 10**6, INSTANT) == [None]
    assert pushed.stood("bob", SERVED, SERVED, INSTANT) == [None]


def test_all_that_stood_within_some_time(tmp_path: Path) -> None:
    """The row there was when it began, and each that took its place by its end, the end's own moment with it; none that came too late."""
    pushed = _pushed(tmp_path, {"ann": INSTANT}, {"ann": [INSTANT + 2, INSTANT + 1, INSTANT + 3]})
    moment = SERVED - 10**6  # all three came in it, the middle one after a newer one
    assert _times(pushed.stood("ann", moment - 1, moment, INSTANT)) == [None, INSTANT + 2, INSTANT + 3]
    assert _times(pushed.stood("ann", moment, moment + 1, INSTANT)) == [INSTANT + 3]
    assert _times(pushed.stood("ann", moment - 2, moment - 1, INSTANT)) == [None]


def _times(rows: list[Row | None]) -> list[int | None]:
    return [row and row.event_time for row in rows]
