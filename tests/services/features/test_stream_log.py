"""The log a stream follows may be replaced, by a new one or by an older copy: it is noticed and said, and no event counts twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ranking.errors import Unavailable
from services.feedback.log.sqlite import SqliteLog
from tests.services.features.stream_fakes import NOON, Shop, bought


def moved_away(shop: Shop, to: Path) -> None:
    """As whoever is told that the file is damaged does."""
    shop.log.close()
    shop.layout.events.rename(to)


def test_a_new_log_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Its offsets begin anew; what was counted stays, what is sent again counts no second time, and the status says what happened."""
    with Shop(tmp_path) as shop:
        first = [bought(f"a{i}", "ann", f"i{i}", NOON + i) for i in range(5)]
        shop.record(*first)
        moved_away(shop, tmp_path / "old.db")
        shop.record(first[4], bought("b", "ann", "i9", NOON + 9))
        assert shop.user("ann")["orders_all"] == 5.0 + 1.0
        progress = shop.stream.progress()
        assert (progress.offset, progress.behind, progress.waiting) == (2, 0, 0)
        assert "another one was found" in progress.notice
        assert "after 5 events" in progress.notice
        shop.record(bought("c", "bob", "i1"))
        assert shop.user("bob")["orders_all"] == 1.0


def test_rows_that_waited_are_pushed_all_the_same(tmp_path: Path) -> None:
    """An event of the log that is gone was taken in: its row does not wait for the new log to come so far."""
    with Shop(tmp_path) as shop:
        shop.store.down = True
        with pytest.raises(Unavailable):
            shop.record(bought("a", "ann", "i1"))
        moved_away(shop, tmp_path / "old.db")
        shop.store.down = False
        shop.settle()
        assert (shop.user("ann")["orders_all"], shop.stream.progress().waiting) == (1.0, 0)


def test_a_copy_that_is_behind_is_an_error(tmp_path: Path) -> None:
    """Its next events would be given offsets that were read already: nothing is taken in, and the message has what to do."""
    with Shop(tmp_path) as shop:
        shop.record(bought("a", "ann", "i1"))
        shop.log.close()
        copy = shutil.copy(shop.layout.events, tmp_path / "copy.db")
        shop.record(bought("b", "ann", "i2", NOON + 1), bought("c", "ann", "i3", NOON + 2))
        moved_away(shop, tmp_path / "newer.db")
        Path(copy).rename(shop.layout.events)
        with pytest.raises(Unavailable, match=r"an older copy of it took its place: 3 events were taken in.*feature_state\.db away"):
            shop.record(bought("d", "ann", "i4", NOON + 3))
        moved_away(shop, tmp_path / "older.db")
        (tmp_path / "newer.db").rename(shop.layout.events)
        shop.record(bought("d", "ann", "i4", NOON + 3))
        assert shop.user("ann")["orders_all"] == 4.0


def test_a_copy_that_went_on_is_an_error(tmp_path: Path) -> None:
    """Where the last event stood that was taken in stands another one: whoever begins to follow the log notices."""
    with Shop(tmp_path) as shop:
        shop.record(bought("a", "ann", "i1"))
        shop.log.close()
        copy = SqliteLog(Path(shutil.copy(shop.layout.events, tmp_path / "copy.db")))
        shop.record(bought("b", "ann", "i2"))
        copy.append([bought("other", "ann", "i3"), bought("another", "ann", "i4")])
        copy.close()
        moved_away(shop, tmp_path / "newer.db")
        (tmp_path / "copy.db").rename(shop.layout.events)
    with Shop(tmp_path) as shop, pytest.raises(Unavailable, match="an older copy of it took its place"):
        shop.settle()


def test_forgetting_the_newest_event_is_no_older_copy(tmp_path: Path) -> None:
    """The log then ends before what was taken in, and is the same log."""
    with Shop(tmp_path) as shop:
        shop.record(bought("a", "bob", "i1"), bought("b", "ann", "i2"))
        shop.log.forget(["ann"])
        shop.record(bought("c", "bob", "i3", NOON + 1))
    with Shop(tmp_path) as shop:
        shop.settle()
        assert shop.user("bob")["orders_all"] == 2.0


def test_the_lag_is_that_of_the_oldest_event_that_waits(tmp_path: Path) -> None:
    """From when it was recorded, whatever its own time, until its row is in the store; then there is none."""
    with Shop(tmp_path) as shop:
        shop.store.down = True
        with pytest.raises(Unavailable):
            shop.record(bought("a", "ann", "i1"))
        with shop.log._file.open() as db:  # as if it had come an hour ago
            db.execute("UPDATE event SET recorded_ns = recorded_ns - 3600 * 1000000000")
        shop.log.append([bought("b", "bob", "i2")])
        assert 3600.0 <= shop.stream.progress().lag_s < 2 * 3600.0
        shop.store.down = False
        shop.settle()
        assert shop.stream.progress().lag_s == 0.0
