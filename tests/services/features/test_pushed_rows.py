"""Rows that were pushed are kept offline as they were, for so long and of whom it is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ranking.features import ITEM_REVIEWS, USER_SESSION
from ranking.layout import Layout
from services.features.pushed import PushedRows
from tests.services.features.stream_fakes import DAY, NOON, Shop, bought
from tests.services.features.test_stream_history import follow

US = 10**6


class Clock:
    now = float(NOON)

    def __call__(self) -> float:
        return self.now


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.parquet"))


def test_what_the_stream_pushes_is_kept(tmp_path: Path) -> None:
    """Each row of each view with its event time; when the follower has ended, all of it is in files."""
    with Shop(tmp_path) as shop:
        follow(shop, bought("a", "ann", "i1"))
        kept = {path.parent.name: pq.read_table(path).to_pylist() for path in _files(Layout(tmp_path).pushed_rows)}
        assert set(kept) == {"item_statistics", "user_behaviour", "item_windows", "item_live", "user_session"}
        (row,) = kept["user_behaviour"]
        time, values = shop.store.row("user_behaviour", "ann")
        assert (row["user_id"], round(row["event_timestamp"].timestamp() * US)) == ("ann", time)
        assert (row["orders_all"], row["history_item_keys"]) == (values["orders_all"], values["history_item_keys"])
        assert kept["item_statistics"][0]["promo_rate_28d"] == 0.25  # what the batch knew is in the row too


def test_no_row_of_who_was_forgotten_is_written(tmp_path: Path) -> None:
    """Also where the row had been pushed before; the others are written."""
    forgotten: set[str] = set()
    kept = PushedRows(tmp_path, forgotten, keep_s=DAY, clock=Clock())
    columns = {f.name: [[1], [2]] for f in USER_SESSION}
    kept.add(USER_SESSION, ["ann", "bob"], columns, np.array([1, 2]))
    forgotten.add("ann")
    kept.write(all_of_them=True)
    (path,) = _files(tmp_path)
    assert pq.read_table(path)["user_id"].to_pylist() == ["bob"]
    assert b"ann" not in path.read_bytes()
    kept.add(USER_SESSION, ["ann"], {f.name: [[1]] for f in USER_SESSION}, np.array([3]))
    kept.write(all_of_them=True)
    assert _files(tmp_path) == [path]


def test_files_are_removed_when_they_are_old(tmp_path: Path) -> None:
    """A file stays as long as it is said to, and goes with the next one written after that."""
    clock = Clock()
    kept = PushedRows(tmp_path, (), keep_s=DAY, clock=clock)
    for later in (0, DAY, DAY + 1):
        clock.now = NOON + later
        kept.add(ITEM_REVIEWS, ["i1"], {"review_sentiment": [0.5], "reviews": [1.0]}, np.array([later]))
        kept.write(all_of_them=True)
        kept.write(all_of_them=True)  # nothing waits: no file
    ages = [int(path.name[:20]) // 10**9 - NOON for path in _files(tmp_path)]
    assert ages == [DAY, DAY + 1]


def test_a_disk_that_is_full_holds_up_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What could not be written is told and gone; the next rows are written."""
    folder = tmp_path / "pushed"
    folder.write_text("in the way")
    kept = PushedRows(folder, (), keep_s=DAY, clock=Clock())
    row = {"review_sentiment": [0.5], "reviews": [1.0]}
    kept.add(ITEM_REVIEWS, ["i1"], row, np.array([1]))
    kept.write(all_of_them=True)
    assert [record.message for record in caplog.records] == ["pushed_rows_lost"]
    folder.unlink()
    kept.add(ITEM_REVIEWS, ["i2"], row, np.array([2]))
    kept.write(all_of_them=True)
    assert [pq.read_table(path)["item_id"].to_pylist() for path in _files(folder)] == [["i2"]]
