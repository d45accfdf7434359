"""Which of the served rankings there is something to compare with."""

from __future__ import annotations

import pyarrow as pa

from training.skew import NEVER, before, since


def test_rankings_of_before_are_counted_and_left_out() -> None:
    """What was answered before an instant was so by tables that are gone; a ranking counts once, however many rows it has."""
    times = pa.array([8, 8, 9, 10, 10, 11], pa.timestamp("us", "UTC"))
    table = pa.table({"ranking_id": ["a", "a", "b", "c", "c", "d"], "time": times})
    later, left_out = since(table, 10)
    assert (later["ranking_id"].to_pylist(), left_out) == (["c", "c", "d"], 2)
    assert since(table, 12)[1] == 4
    assert since(table, 8)[1] == 0


def test_rankings_of_later_instants_than_were_brought_online_are_left_out() -> None:
    """What was asked for at the first row that is not online, or later, was answered by an older one; earlier ones were not."""
    instants = pa.array([8, 8, 9, 10, 10, 11], pa.timestamp("us", "UTC"))
    table = pa.table({"ranking_id": ["a", "a", "b", "c", "c", "d"], "as_of": instants})
    earlier, beyond = before(table, 10)
    assert (earlier["ranking_id"].to_pylist(), beyond) == (["a", "a", "b"], 2)
    assert before(table, NEVER) == (table, 0)
