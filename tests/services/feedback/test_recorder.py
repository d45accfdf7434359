"""Group commit: who waits at the same time shares one append, and each gets its own answer."""

from __future__ import annotations

import asyncio

import pytest

from ranking.errors import Unavailable
from services.feedback.recorder import GROUP, Recorder
from services.feedback.types import Event, Outcome
from tests.services.feedback.fakes import Place, event
from tests.services.gateway_fakes import eventually


async def held(place: Place, recorder: Recorder) -> asyncio.Task[list[Outcome]]:
    """A call whose append hangs until `place.hold` is set, so that all that follow wait together."""
    place.hold.clear()
    first = asyncio.create_task(recorder.append([event("first")]))
    await eventually(lambda: place.appends)
    return first


async def test_calls_that_wait_share_an_append() -> None:
    """Ten calls that came while one was being written are written together, and each learns of its own events."""
    place = Place()
    recorder = Recorder(place())
    first = await held(place, recorder)
    calls = [asyncio.create_task(recorder.append([event(f"{i}"), event("first" if i == 3 else f"{i}b")])) for i in range(10)]
    await asyncio.sleep(0)
    place.hold.set()
    assert await first == [Outcome.STORED]
    stored, duplicate = Outcome.STORED, Outcome.DUPLICATE
    assert await asyncio.gather(*calls) == [[stored, duplicate if i == 3 else stored] for i in range(10)]
    assert place.appends == [1, 20]
    await recorder.close()


async def test_forgotten_users_are_refused_whatever_the_log_knows() -> None:
    """A log that is new has no tombstone: those of the machine count, and the other events of the call are stored."""
    place = Place()
    recorder = Recorder(place(), {"ann"})
    outcomes = await recorder.append([event("a", "ann"), event("b", "bob"), event("c", ""), event("d", "ann")])
    assert outcomes == [Outcome.FORGOTTEN, Outcome.STORED, Outcome.STORED, Outcome.FORGOTTEN]
    assert list(place.rows) == ["b", "c"]
    await recorder.close()


async def test_an_append_has_a_size() -> None:
    """Calls are not parted, and one that no longer fits begins the next append."""
    place = Place()
    recorder = Recorder(place())
    first = await held(place, recorder)
    half = GROUP // 2 + 1
    calls = [asyncio.create_task(recorder.append([event(f"{c}.{i}") for i in range(n)])) for c, n in enumerate((half, half, 1, 2 * GROUP))]
    await asyncio.sleep(0)
    place.hold.set()
    await asyncio.gather(first, *calls)
    assert place.appends == [1, half, half + 1, 2 * GROUP]
    await recorder.close()


async def test_a_failure_reaches_everybody_and_the_next_call_works() -> None:
    """Nobody is told of success when the log fails, and it is asked anew."""
    place = Place()
    recorder = Recorder(place())
    first = await held(place, recorder)
    calls = [asyncio.create_task(recorder.append([event(f"{i}")])) for i in range(3)]
    await asyncio.sleep(0)
    place.down = True
    place.hold.set()
    for call in (first, *calls):
        with pytest.raises(Unavailable, match="it is down"):
            await call
    place.down = False
    assert await recorder.append([event("0")]) == [Outcome.STORED]
    await recorder.close()


async def test_who_gave_up_is_not_written_and_holds_nobody_up() -> None:
    """A call cancelled while it waits is dropped; one cancelled while it is written disturbs no other."""
    place = Place()
    recorder = Recorder(place())
    first = await held(place, recorder)
    gone, stays = (asyncio.create_task(recorder.append([event(key)])) for key in ("gone", "stays"))
    await asyncio.sleep(0)
    gone.cancel()
    first.cancel()
    await asyncio.sleep(0)
    place.hold.set()
    assert await stays == [Outcome.STORED]
    assert set(place.rows) == {"first", "stays"}
    await recorder.close()


async def test_many_callers_lose_nothing() -> None:
    """A thousand calls in any order: every event is stored once and every call is answered."""
    place = Place()
    recorder = Recorder(place())

    async def one(i: int) -> list[Outcome]:
        await asyncio.sleep((i % 7) / 1000)
        return await recorder.append([event(f"{i // 2}"), event(f"x{i}")])

    answers = await asyncio.gather(*(one(i) for i in range(1000)))
    flat: list[Outcome] = [outcome for answer in answers for outcome in answer]
    assert flat.count(Outcome.STORED) == len(place.rows) == 500 + 1000
    assert flat.count(Outcome.DUPLICATE) == 500
    assert all(isinstance(row.event, Event) for row in place.rows.values())
    await recorder.close()
