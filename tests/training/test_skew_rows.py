"""Which of the served rankings there is something to compare with."""

from __future__ import annotations

import pyarrow as pa

from training.skew import since


def test_rankings_of_before_are_counted_and_left_out() -> None:
    """What was answered before an instant was so by tables that are gone; a ranking counts once, however many rows it has."""
    times = pa.array([8, 8, 9, 10, 10, 11], pa.timestamp("us", "UTC"))
    table = pa.table({"ranking_id": ["a", "a", "b", "c", "c", "d"], "time": times})
    later, left_out = since(table, 10)
    assert (later["ranking_id"].to_pylist(), left_out) == (["c", "c", "d"], 2)
    assert since(table, 12)[1] == 4
    assert since(table, 8)[1] == 0
