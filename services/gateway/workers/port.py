"""The port that all workers listen on: one process holds it without listening, so that it is theirs between two lives of a worker.

The kernel spreads connections over whoever listens (SO_REUSEPORT). Holding it first without that option makes a port that is another
program's an error, not a silent split; every later socket of this user's may then join.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from services.rpc.ports import PortTakenError


@contextmanager
def held(address: str) -> Iterator[str]:
    """Keep a port for sockets with SO_REUSEPORT while the context lasts; gives the address with its port.

    Args:
        address: `host:port`; port 0 takes a free one. A name is held on every address it stands for.

    Raises:
        PortTakenError: naming the address.
    """
    host, _, port = address.rpartition(":")
    with ExitStack() as closing:
        try:
            found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            bound = int(port)
            for family, kind, protocol, _, where in dict.fromkeys(found):
                one = closing.enter_context(socket.socket(family, kind, protocol))
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a gateway that ended do not count
                one.bind((where[0], bound, *where[2:]))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                bound = one.getsockname()[1]
        except OSError as error:
            raise PortTakenError(f"cannot listen on {address}: {error.strerror}; is another process using the port?") from None
        yield f"{host}:{bound}"
