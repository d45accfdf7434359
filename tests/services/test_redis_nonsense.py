"""What is no Redis, or answers what was not asked: the stores are unavailable, which callers and the ledger know how to live with."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from ranking.errors import Unavailable
from services.feedback.log.redis import RedisLog
from services.feedback.types import Event, EventType
from services.gateway.ledger.redis import RedisStore

EVENT = Event(event_id="e", type=EventType.CLICK, event_time_ns=1, user_id="u", item_id="i")
REPLIES = [
    b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$3\r\nab\xff\r\n", b"*0\r\n", b"*2\r\n:1\r\n:2\r\n", b"*1\r\n*1\r\n$1\r\na\r\n",
    b"*-1\r\n", b"%1\r\n+a\r\n+b\r\n", b"_\r\n", b",nan\r\n", b"#t\r\n", b"garbage\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-\xff\r\n",
]  # fmt: skip


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """A server with one answer to every command; gives its URL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while got := self.request.recv(65_536):
                self.request.sendall(reply * max(got.count(b"*"), 1))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that leaves is no error."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("reply", REPLIES)
def test_an_event_log_that_answers_nonsense_is_unavailable(reply: bytes) -> None:
    """Never an error nobody foresaw, and no event counts as kept."""
    with answering(reply) as url:
        log = RedisLog(url, timeout_s=1.0)
        for call in (lambda: log.append([EVENT]), lambda: log.read(0, 10), log.head, lambda: log.forget(["u"])):
            with pytest.raises(Unavailable, match=r"^event log: Redis: "):
                call()
        log.close()


@pytest.mark.parametrize("reply", REPLIES)
def test_a_ledger_that_answers_nonsense_is_unavailable(reply: bytes) -> None:
    """So that the gateway goes on with what it knows, and its end is one."""
    with answering(reply) as url:
        store = RedisStore(url, timeout_s=1.0)
        with pytest.raises(Unavailable, match=r"^ledger: Redis: "):
            store.changes(0)
        with suppress(Unavailable):  # two numbers, or two bytes, may be read as a batch that is known
            store.add("a", 1, [])
        store.close()
