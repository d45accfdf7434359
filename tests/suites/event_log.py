"""What every `EventLog` must do; the fake passes what the real ones pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ranking.types import Surface
from services.feedback.log.event_log import EventLog
from services.feedback.types import Event, EventType, Outcome
from tests.services.feedback.fakes import FULL, event

STORED, DUPLICATE, CONFLICT, FORGOTTEN = Outcome.STORED, Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.FORGOTTEN
Opener = Callable[[], EventLog]


def everything(log: EventLog, after: int = 0) -> list[Event]:
    """All events from an offset on, read in pages."""
    found: list[Event] = []
    while rows := log.read(after, 7):
        assert [row.offset for row in rows] == sorted({row.offset for row in rows})
        assert rows[0].offset > after
        events = [row.event for row in rows if isinstance(row.event, Event)]
        assert len(events) == len(rows)
        found += events
        after = rows[-1].offset
    return found


class EventLogSuite:
    """Subclasses give `opener`, whose logs all share one place that is empty at first."""

    def test_an_empty_log_has_nothing(self, opener: Opener) -> None:
        """No row, and appending nothing is nothing."""
        log = opener()
        assert log.append([]) == []
        assert log.read(0, 10) == []
        assert log.forget(["u"]) == 0

    def test_what_is_appended_is_there_for_others(self, opener: Opener) -> None:
        """Another connection reads every field as it was, in the order of the appends, whatever the times say."""
        events = [FULL, event("2", event_time_ns=5), event("3", type=EventType.RATING, rating=4.5, user_id="", surface=Surface.SEARCH)]
        opener().append(events[:2])
        opener().append(events[2:])
        assert everything(opener()) == events

    def test_reading_goes_on_after_an_offset(self, opener: Opener) -> None:
        """`read` gives at most `limit` rows beyond `after`, the oldest first."""
        log = opener()
        log.append([event(str(i)) for i in range(5)])
        offsets = [row.offset for row in log.read(0, 100)]
        assert [row.event.event_id for row in log.read(offsets[1], 2)] == ["2", "3"]
        assert log.read(offsets[-1], 100) == []

    def test_a_log_is_known_by_its_identity(self, opener: Opener) -> None:
        """It is the same for every connection, and stays when events come or are forgotten; the last offset given is not taken back."""
        log, other = opener(), opener()
        empty = other.head()
        assert (log.head(), len(empty.identity), empty.given) == (empty, 32, 0)
        log.append([event("1"), event("2", "ann")])
        newest = log.last()
        assert log.head() == other.head() == empty._replace(given=newest)
        log.forget(["ann"])
        assert log.last() < newest
        assert opener().head() == empty._replace(given=newest)

    def test_an_event_is_stored_with_its_moment(self, opener: Opener) -> None:
        """Of the append that stored it: sent again it is a duplicate, and the moment stays."""
        before, log = time.time_ns(), opener()
        log.append([event("1")])
        (row,) = log.read(0, 10)
        assert before <= row.recorded_ns <= time.time_ns()
        assert opener().append([event("1")]) == [DUPLICATE]
        assert opener().read(0, 10) == [row]

    def test_the_last_offset_is_that_of_the_newest_event(self, opener: Opener) -> None:
        """0 where there is none, and the same for every connection."""
        log, other = opener(), opener()
        assert log.last() == 0
        log.append([event("1"), event("2", "ann"), event("1")])
        assert log.last() == other.last() == log.read(0, 10)[-1].offset
        log.forget(["ann"])
        assert log.last() == other.last() == log.read(0, 10)[-1].offset

    def test_an_event_stands_once(self, opener: Opener) -> None:
        """Within a batch, in a later one, and from another connection, the same event is a duplicate and changes nothing."""
        log = opener()
        assert log.append([event("a"), event("b"), event("a")]) == [STORED, STORED, DUPLICATE]
        assert log.append([event("b"), event("c")]) == [DUPLICATE, STORED]
        assert opener().append([event("a")]) == [DUPLICATE]
        assert everything(log) == [event("a"), event("b"), event("c")]

    @pytest.mark.parametrize("field", Event._fields[1:])
    def test_an_id_has_one_content(self, opener: Opener, field: str) -> None:
        """An event that differs from the stored one of its id in any one field is a conflict and changes nothing."""
        other = {"type": EventType.CLICK, "surface": None, "position": None, "quantity": 0.3, "value_micros": 0, "rating": 1.0}
        changed = FULL._replace(**{field: other.get(field, "x" if isinstance(getattr(FULL, field), str) else 7)})
        log = opener()
        assert log.append([FULL, changed, FULL]) == [STORED, CONFLICT, DUPLICATE]
        assert everything(log) == [FULL]

    def test_a_forgotten_user_is_gone_and_stays_gone(self, opener: Opener) -> None:
        """Their events are removed, replays and new ones are refused, and everybody else's stay where they are."""
        log, other = opener(), opener()
        log.append([event("1", "ann"), event("2", "bob"), event("3", ""), event("4", "ann"), event("5", "cid"), event("6", "bob")])
        before = {row.event.event_id: row.offset for row in log.read(0, 10)}
        assert log.forget(["ann", "bob"]) == 4
        assert {row.event.event_id: row.offset for row in other.read(0, 10)} == {key: before[key] for key in "35"}
        assert other.append([event("1", "ann"), event("7", "bob"), event("5", "cid"), event("8", "")]) == [
            FORGOTTEN,
            FORGOTTEN,
            DUPLICATE,
            STORED,
        ]
        assert log.forget(["ann"]) == 0
        assert [one.event_id for one in everything(log)] == ["3", "5", "8"]
        assert log.read(0, 10)[-1].offset > max(before.values())  # the offsets of what is gone are not given again

    def test_nobody_cannot_be_forgotten(self, opener: Opener) -> None:
        """The empty id is refused, with all that came beside it: it would remove the events of everybody unknown."""
        log = opener()
        log.append([event("1", ""), event("2", "ann")])
        with pytest.raises(ValueError, match="must not be empty"):
            log.forget(["ann", ""])
        assert log.append([event("3", ""), event("4", "ann")]) == [STORED, STORED]
        assert len(everything(log)) == 4

    def test_an_id_of_a_forgotten_event_is_free(self, opener: Opener) -> None:
        """What is forgotten is no reason to refuse another user's event."""
        log = opener()
        log.append([event("1", "ann")])
        log.forget(["ann"])
        assert log.append([event("1", "bob")]) == [STORED]

    def test_writers_at_once_lose_and_double_nothing(self, opener: Opener) -> None:
        """Threads with a connection each that append overlapping batches: each event is stored by exactly one of them."""
        writers, batches = 4, 20

        def write(_: int) -> int:
            log = opener()
            stored = sum(log.append([event(str(i)) for i in range(b, b + 10)]).count(STORED) for b in range(batches))
            log.close()
            return stored

        with ThreadPoolExecutor(writers) as pool:
            stored = sum(pool.map(write, range(writers)))
        found = everything(opener())
        assert stored == len(found) == batches - 1 + 10
        assert len({one.event_id for one in found}) == len(found)

    def test_a_closed_log_opens_again(self, opener: Opener) -> None:
        """Closing forgets nothing, and a call after it works."""
        log = opener()
        log.append([event("a")])
        log.close()
        assert log.append([event("a"), event("b")]) == [DUPLICATE, STORED]
