"""`kill -9` at random moments: afterwards everything is as if the process had never been killed."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest

from ranking.features import Entity
from services.feedback.types import Event, EventType
from tests.services.features.stream_fakes import DAY, ITEMS, NOON, Shop, bought, said
from tests.services.features.stream_process import run

USERS = ["", *(f"u{i}" for i in range(8))]


def events_of(rng: random.Random, first: int, n: int) -> list[Event]:
    """Purchases of the last 40 days in any order, some of one order, some of nobody, some beyond belief; in between other events."""
    kinds = [EventType.PURCHASE] * 3 + [EventType.CLICK, EventType.IMPRESSION]
    return [
        bought(
            f"e{i}",
            rng.choice(USERS),
            rng.choice(ITEMS),
            NOON - rng.random() * 40 * DAY,
            order_id=rng.choice(["", "", f"o{rng.randint(0, 20)}"]),
            type=rng.choice(kinds),
            value_micros=rng.choice([None, 10**15, *(rng.randint(0, 10**7) for _ in range(8))]),
        )
        for i in range(first, first + n)
    ]


@pytest.mark.servers
@pytest.mark.parametrize("rounds", [20, pytest.param(200, marks=[pytest.mark.exhaustive, pytest.mark.timeout(3600)])])
def test_a_killed_process_leaves_what_an_unharmed_one_has(tmp_path: Path, rounds: int) -> None:
    """Lines, offset, counts and rows pushed equal those of a process that saw the same log in one go; the snapshot has the rows too."""
    rng = random.Random(rounds)
    killed, unharmed = tmp_path / "killed", tmp_path / "unharmed"
    for home in (killed, unharmed):
        home.mkdir()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.services.features.stream_process"])
    with Shop(killed) as shop:
        everything: list[Event] = []
        shop.writer.close()  # the lock is the process'
        for _ in range(rounds):
            events = events_of(rng, len(everything), rng.randint(1, 40))
            everything += events
            process = processes.Process(target=run, args=(killed, rng.randint(1, 8)))
            process.start()
            for event in events:
                shop.log.append([event])
            time.sleep(rng.uniform(0.0, 0.15))
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            process.close()
    with Shop(killed) as shop, Shop(unharmed) as other:
        assert shop.store.rows().keys() - other.store.rows().keys()  # they came to something
        shop.settle()
        other.record(*everything)
        assert shop.stream.progress() == other.stream.progress()
        assert said(shop.store) == said(other.store)
        for kind, ids in ((Entity.USER, USERS), (Entity.ITEM, ITEMS)):
            assert {key: sorted(map(tuple, lines(shop, kind, key))) for key in ids} == {
                key: sorted(map(tuple, lines(other, kind, key))) for key in ids
            }
        kept = [shop.snapshot.gather(ITEMS)[0].scalars[:, :3].tolist() for shop in (shop, other)]
        assert kept[0] == kept[1]


def lines(shop: Shop, kind: Entity, key: str) -> list[tuple[int, ...]]:
    """What the state knows of one entity, without the numbers that it gave to users and items."""
    found = shop.state.bought(kind, shop.state.code(kind, key), 2**62)
    return [tuple(row) for row in zip(*(column.tolist() for column in found[2:]), strict=True)]
