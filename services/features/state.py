"""What the stream remembers: purchase lines by user and item, how far it has read the event log, and which rows are yet to be pushed.

One SQLite file. Events become lines in the same transaction that moves the offset on, so each counts exactly once whoever is killed when;
an entity stays marked until its row was pushed, so a push that was cut short is made again. Knows neither what features are computed of
the lines nor where they go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ranking.features import ITEM_LIVE, ITEM_STATISTICS, ITEM_WINDOWS, MAX_RECENT, USER_BEHAVIOUR, USER_SESSION, Entity, View
from ranking.types import IntArray
from services.features.purchases import Happening, Purchase
from services.feedback.types import MAX_VALUE_MICROS
from services.stores.sqlite import SqliteFile

_VERSION = 2
_LINE_OF_ITEM = "CREATE INDEX line_of_item ON line (item, bought_at)"
_SCHEMA = f"""
CREATE TABLE entity (
    code INTEGER PRIMARY KEY, kind TEXT NOT NULL, id TEXT NOT NULL,
    first_shown INTEGER, -- instant an item was first promoted; NULL: never, as far as the batch knows
    UNIQUE (kind, id)
);
CREATE TABLE view_row ( -- of those only that had an event
    view TEXT NOT NULL, code INTEGER NOT NULL,
    newest INTEGER NOT NULL, -- instant of the latest event that counts in it
    stamp INTEGER NOT NULL DEFAULT 0, -- event time of the row pushed last
    due INTEGER, -- offset of the event that made it old; NULL: it was pushed
    PRIMARY KEY (view, code)
) WITHOUT ROWID;
CREATE INDEX due ON view_row (view, due) WHERE due IS NOT NULL;
CREATE TABLE line (
    user INTEGER NOT NULL, item INTEGER NOT NULL, basket INTEGER NOT NULL, bought_at INTEGER NOT NULL, value INTEGER NOT NULL,
    unit_price INTEGER NOT NULL, off_shelf INTEGER NOT NULL, -- as the batch computed them; -1: not known
    paid INTEGER NOT NULL, quantity INTEGER NOT NULL, -- of events, whose unit price is the one by the other
    PRIMARY KEY (user, item, basket)
) WITHOUT ROWID;
{_LINE_OF_ITEM};
CREATE TABLE tally ( -- events of an item by type and hour
    item INTEGER NOT NULL, type TEXT NOT NULL, hour INTEGER NOT NULL, events INTEGER NOT NULL, total INTEGER NOT NULL,
    PRIMARY KEY (item, type, hour)
) WITHOUT ROWID;
CREATE TABLE recent ( -- what a user did last
    user INTEGER NOT NULL, at INTEGER NOT NULL, event INTEGER NOT NULL, item INTEGER NOT NULL, type TEXT NOT NULL,
    PRIMARY KEY (user, at, event)
) WITHOUT ROWID;
CREATE TABLE applied (key INTEGER PRIMARY KEY); -- of every event counted: sent to another log it counts no second time
CREATE TABLE fact (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
_UPGRADES = {1: "CREATE TABLE applied (key INTEGER PRIMARY KEY);"}
_HOUR_US = 3600 * 10**6
_NOT_KNOWN = -1
_FROM_HISTORY = -1  # a line's `quantity` that says no event made it
_CODE = "INSERT INTO entity (kind, id) VALUES (?, ?) ON CONFLICT DO UPDATE SET id = id RETURNING code"
_NEW_LINE = f"INSERT INTO line VALUES (?, ?, ?, ?, ?, {_NOT_KNOWN}, {_NOT_KNOWN}, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608
_MORE_OF_LINE = f"""
UPDATE line SET bought_at = min(bought_at, ?4), value = value + ?5, paid = paid + ?6, quantity = quantity + ?7
WHERE user = ?1 AND item = ?2 AND basket = ?3 AND quantity <> {_FROM_HISTORY}
"""  # noqa: S608
_IN_HISTORY = f"SELECT 1 FROM line WHERE user = ? AND item = ? AND bought_at = ? AND quantity = {_FROM_HISTORY}"  # noqa: S608
_TOUCH = """
INSERT INTO view_row (view, code, newest, due) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET newest = max(newest, excluded.newest), due = coalesce(due, excluded.due)
"""
_TALLY = """
INSERT INTO tally VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE SET events = events + 1, total = total + excluded.total
"""
_FORGET_OLD = f"""
DELETE FROM recent WHERE user = ?1 AND (at, event) <= (
    SELECT at, event FROM recent WHERE user = ?1 ORDER BY at DESC, event DESC LIMIT 1 OFFSET {MAX_RECENT})
"""  # noqa: S608
_LINES = """
SELECT {ids} basket, bought_at, value, unit_price, off_shelf, paid, quantity FROM line {join} WHERE {by} = ? AND bought_at < ?
"""
_OF = {
    Entity.USER: _LINES.format(ids="user, id,", join="JOIN entity ON code = item", by="user"),
    Entity.ITEM: _LINES.format(ids="user, NULL,", join="", by="item"),
}


class HistoryLines(NamedTuple):
    """The batch's purchase lines, columnar."""

    users: Sequence[str]
    items: Sequence[str]
    user: IntArray  # (n,) index into `users`
    item: IntArray  # (n,) index into `items`
    basket: IntArray  # (n,) and so are all that follow; see `ranking.behaviour.Lines` for the units
    bought_at: IntArray
    value: IntArray
    unit_price: IntArray
    off_shelf: IntArray


class Due(NamedTuple):
    """An entity whose row is to be computed anew."""

    code: int
    id: str
    newest: int  # µs since 1970, of its latest event
    stamp: int  # of the row that was pushed last, 0: none was
    first_shown: int | None  # instant an item was first promoted


class Bought(NamedTuple):
    """Purchase lines of one entity, as arrays; see `ranking.behaviour.Lines` for the units."""

    item_ids: Sequence[str]  # (n,) for users; empty for items, where it is the same for each line
    user_code: IntArray
    basket: IntArray
    bought_at: IntArray
    value: IntArray
    unit_price: IntArray
    off_shelf: IntArray


class State:
    """One file. Blocks; used by one thread at a time. Every method may raise `Unavailable`."""

    def __init__(self, path: Path, *, busy_s: float = 5.0) -> None:
        """Nothing is opened yet."""
        self._file = SqliteFile(
            "feature state",
            path,
            _SCHEMA,
            _VERSION,
            pragmas=["synchronous = NORMAL"],  # a power cut may take the last transactions, offset and all: they are read again
            busy_s=busy_s,
            upgrades=_UPGRADES,
            damaged="move it away, and it is made anew from the batch's history and the event log",
        )

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def fact(self, name: str) -> str:
        """Something written down with `note`; empty where it was not."""
        with self._file.open() as db:
            found = db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def note(self, **facts: str) -> None:
        """Write down a few facts."""
        with self._transaction() as db:
            _note(db, facts)

    def offset(self) -> int:
        """Up to where the event log was taken in."""
        return int(self.fact("offset") or 0)

    def follow(self, log: str, *, notice: str) -> None:
        """Read another log, from its beginning; what was counted of the one before stays, and no event counts twice."""
        with self._transaction() as db:
            db.execute("UPDATE view_row SET due = 0 WHERE due IS NOT NULL")  # offsets of the log that is gone
            _note(db, {"log": log, "offset": "0", "newest": "", "notice": notice})

    def take_in(
        self, happenings: Sequence[Happening], offset: int, *, newest: int, complete_before: int, now: int, refused: int = 0
    ) -> None:
        """Count events and move the offset on, all or nothing.

        Args:
            happenings: up to `offset`; one that was counted before is not again, and a purchase that is in the history adds no line.
            offset: of the last event.
            newest: key of the last event.
            complete_before: instant before which the history may have a purchase, µs since 1970.
            now: a purchase from then on makes rows old although the history has it: history is being replayed.
            refused: events that could not be counted, added to the fact of that name.
        """
        with self._transaction() as db:
            for one in happenings:
                if not db.execute("INSERT OR IGNORE INTO applied VALUES (?)", (one.key,)).rowcount:
                    continue
                user, item = (
                    int(db.execute(_CODE, pair).fetchone()[0]) for pair in ((Entity.USER, one.user_id), (Entity.ITEM, one.item_id))
                )
                if one.purchase is not None and (_counted(db, user, item, one.purchase, complete_before) or one.at >= now):
                    _touch(db, one, USER_BEHAVIOUR, user, ITEM_STATISTICS, item)
                    _touch(db, one, None, user, ITEM_WINDOWS, item)
                db.execute(_TALLY, (item, one.type, one.at // _HOUR_US, one.total))
                if one.recent and one.user_id:
                    db.execute("INSERT OR IGNORE INTO recent VALUES (?, ?, ?, ?, ?)", (user, one.at, one.key, item, one.type))
                    db.execute(_FORGET_OLD, (user,))
                _touch(db, one, USER_SESSION if one.recent else None, user, ITEM_LIVE, item)
            facts = {"offset": str(offset), "newest": str(newest)}
            if refused:
                known = db.execute("SELECT value FROM fact WHERE name = 'refused'").fetchone()
                facts["refused"] = str(refused + (int(known[0]) if known else 0))
            _note(db, facts)

    def due(self, view: View, limit: int) -> list[Due]:
        """Entities whose row of a view is to be pushed, those first that have waited longest."""
        with self._file.open() as db:
            query = """
                SELECT code, id, newest, stamp, first_shown FROM view_row JOIN entity USING (code)
                WHERE view = ? AND due IS NOT NULL ORDER BY due LIMIT ?"""
            return [Due(*row) for row in db.execute(query, (view.name, limit))]

    def due_count(self) -> int:
        """How many rows wait for a push."""
        with self._file.open() as db:
            return int(db.execute("SELECT count(*) FROM view_row WHERE due IS NOT NULL").fetchone()[0])

    def oldest_due(self) -> int:
        """Offset of the oldest event that made a row old which is not pushed yet; 0: there is none."""
        with self._file.open() as db:
            found = db.execute("SELECT min(due) FROM view_row WHERE due > 0").fetchone()[0]
        return int(found or 0)

    def all_due(self, **facts: str) -> None:
        """Mark every row there is, since whatever was pushed of it may have been overwritten; notes facts with it."""
        with self._transaction() as db:
            db.execute("UPDATE view_row SET due = coalesce(due, 0)")
            _note(db, facts)

    def pushed(self, view: View, stamps: Mapping[int, int]) -> None:
        """Rows of these codes were pushed, with these event times."""
        with self._transaction() as db:
            query = "UPDATE view_row SET due = NULL, stamp = ? WHERE view = ? AND code = ?"
            db.executemany(query, [(stamp, view.name, code) for code, stamp in stamps.items()])

    def bought(self, kind: Entity, code: int, before: int) -> Bought:
        """An entity's purchase lines before an instant, in no order."""
        with self._file.open() as db:
            rows = db.execute(_OF[kind], (code, before)).fetchall()
        users, ids, *numbers = zip(*rows, strict=True) if rows else ((),) * 9
        user, basket, bought_at, value, unit_price, off_shelf, paid, quantity = (np.array(c, np.int64) for c in (users, *numbers))
        told = paid > 0
        price = np.floor(paid[told] / quantity[told] * 1e6 + 0.5)
        unit_price[told] = np.minimum(price, MAX_VALUE_MICROS).astype(np.int64)  # states from before the limit have lines beyond it
        return Bought(ids if kind is Entity.USER else (), user, basket, bought_at, value, unit_price, off_shelf)

    def tally(self, item: int) -> list[tuple[str, int, int, int]]:
        """Of an item: type of event, hours since 1970, how many, and what their ratings add up to in millionths."""
        with self._file.open() as db:
            return db.execute("SELECT type, hour, events, total FROM tally WHERE item = ?", (item,)).fetchall()

    def recent(self, user: int) -> list[tuple[str, str, int]]:
        """Of a user: item id, type of event, µs since 1970; at most `MAX_RECENT`, the latest first."""
        with self._file.open() as db:
            query = "SELECT id, type, at FROM recent JOIN entity ON code = item WHERE user = ? ORDER BY at DESC, event DESC"
            return db.execute(query, (user,)).fetchall()

    def code(self, kind: Entity, key: str) -> int:
        """The number of an entity; 0: nothing is known of it."""
        with self._file.open() as db:
            found = db.execute("SELECT code FROM entity WHERE kind = ? AND id = ?", (kind, key)).fetchone()
        return int(found[0]) if found else 0

    def purchases(self, before: int) -> dict[int, int]:
        """Item code -> purchase lines before an instant, of every item that has one."""
        with self._file.open() as db:
            return dict(db.execute("SELECT item, count(*) FROM line WHERE bought_at < ? GROUP BY item", (before,)))

    def begin(self, lines: HistoryLines, first_shown: Mapping[str, int], **facts: str) -> None:
        """Fill a new file; notes facts with it.

        Args:
            lines: of the batch's history.
            first_shown: item id -> instant it was first promoted.
            facts: names and values.
        """
        items = list(dict.fromkeys([*lines.items, *first_shown]))
        first_item = len(lines.users) + 1  # codes: users from 1, then items
        rows = [1 + lines.user, first_item + lines.item, *lines[4:]]
        order = np.lexsort((rows[2], rows[1], rows[0]))  # as the table keeps them: ten times as fast
        with self._transaction() as db:
            db.execute("DROP INDEX line_of_item")
            db.executemany(
                f"INSERT OR IGNORE INTO line VALUES (?, ?, ?, ?, ?, ?, ?, 0, {_FROM_HISTORY})",  # noqa: S608
                zip(*(column[order].tolist() for column in rows), strict=True),
            )
            db.execute(_LINE_OF_ITEM)
            db.executemany("INSERT INTO entity (kind, id) VALUES (?, ?)", [(Entity.USER, user) for user in lines.users])
            db.executemany(
                "INSERT INTO entity (kind, id, first_shown) VALUES (?, ?, ?)",
                [(Entity.ITEM, item, first_shown.get(item)) for item in items],
            )
            _note(db, facts)

    def forget(self, users: Sequence[str]) -> int:
        """Remove users and their lines, so that no byte of them is left in the file. Returns how many lines went; 0 without a file."""
        if not self.path.exists():
            return 0
        removed = 0
        with self._file.open() as db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("BEGIN IMMEDIATE")
            for user in users:
                theirs = db.execute("DELETE FROM entity WHERE kind = ? AND id = ? RETURNING code", (Entity.USER, user)).fetchall()
                for code in theirs:
                    removed += db.execute("DELETE FROM line WHERE user = ?", code).rowcount
                    db.execute("DELETE FROM recent WHERE user = ?", code)
                    db.execute("DELETE FROM view_row WHERE code = ?", code)
            db.execute("COMMIT")
            self._file.rewrite(db)
        return removed

    def close(self) -> None:
        """Let go of the file; a later call opens it again."""
        self._file.close()

    def remove(self) -> None:
        """Close and remove it: the file first, for what was written ahead of it must not meet another file of its name."""
        self.close()
        for end in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + end).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._file.open() as db:  # whatever fails within closes the connection, which undoes what was begun
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")


def _note(db: sqlite3.Connection, facts: Mapping[str, str]) -> None:
    db.executemany("INSERT INTO fact VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", list(facts.items()))


def _counted(db: sqlite3.Connection, user: int, item: int, one: Purchase, complete_before: int) -> bool:
    """Add a purchase to its line; False where the history has it."""
    if one.bought_at < complete_before and db.execute(_IN_HISTORY, (user, item, one.bought_at)).fetchone():
        return False
    values = (user, item, one.basket, one.bought_at, one.value, one.paid, one.quantity)
    return bool(db.execute(_NEW_LINE, values).rowcount or db.execute(_MORE_OF_LINE, values).rowcount)


def _touch(db: sqlite3.Connection, one: Happening, user_view: View | None, user: int, item_view: View, item: int) -> None:
    """Mark the rows that an event makes old; nobody has none."""
    rows = [(item_view.name, item)] + ([(user_view.name, user)] if user_view and one.user_id else [])
    db.executemany(_TOUCH, [(view, code, one.at, one.offset) for view, code in rows])
