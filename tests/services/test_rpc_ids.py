"""Ids are 128 random bits that nobody else was given."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor

from services.rpc import ids


def test_nobody_gets_an_id_twice() -> None:
    """Not on one thread, not on several at once; each is 32 hexadecimal digits."""
    with ThreadPoolExecutor(4) as pool:
        given = [i for some in pool.map(lambda _: [ids.new_id() for _ in range(2000)], range(4)) for i in some]
    assert len(set(given)) == len(given) == 8000
    assert all(re.fullmatch("[0-9a-f]{32}", i) for i in given)


def test_a_forked_process_does_not_give_out_its_parents() -> None:
    """What the parent had drawn and not given out is not in the child."""
    ids.new_id()  # some are left
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, ids.new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 32).decode()
    os.close(reader)
    os.close(writer)
    assert theirs not in {ids.new_id() for _ in range(512)}
