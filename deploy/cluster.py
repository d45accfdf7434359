"""A Ray cluster of several nodes on this machine, by Ray's own command line: what a search is submitted to where there is no other.

Whoever reaches a Ray cluster may run anything on it: this one's job server listens on loopback, and all of it asks for a token of its own.
It lives as long as the block that started it; no other Ray on the machine is touched, and no settings of the user's are read or written.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranking.errors import Unavailable

_LOOPBACK = "127.0.0.1"
_WAIT_S = 300.0  # a node takes 10 s to start, and many times that on a machine that has other work
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster.

    Attributes:
        jobs: address of its job server.
        environment: variables by which a process finds it and shows its token.
        nodes: process ids of the nodes' commands, the head first.
    """

    jobs: str
    environment: Mapping[str, str]
    nodes: tuple[int, ...]


@contextlib.contextmanager
def started(nodes: int = 2, *, cpus: int = 1) -> Iterator[Cluster]:
    """Start a head and further nodes; all of them are stopped at the end of the block.

    Args:
        nodes: in all.
        cpus: that Ray counts on, per node.

    Raises:
        Unavailable: a node ended by itself or did not come up; the end of its output is in the message.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    port, jobs = _free(), _free()
    address = f"http://{_LOOPBACK}:{jobs}"
    token = secrets.token_hex(32)
    mine = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # a job's `python` is this one
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }
    theirs = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR")}
    running: list[subprocess.Popen[bytes]] = []
    try:
        head = ["--head", "--port", str(port), "--dashboard-host", _LOOPBACK, "--dashboard-port", str(jobs)]
        for number in range(nodes):
            role = head if number == 0 else ["--address", f"{_LOOPBACK}:{port}"]
            log = folder / f"node-{number}.log"
            # Each unpacks a job's files below a folder of its own: in a common one, who joins a job takes them away from under the others.
            own = folder / str(number)
            running.append(_node([*role, "--num-cpus", str(cpus), "--temp-dir", str(own)], theirs | mine | {"HOME": str(folder)}, log))
            _until(lambda number=number: _alive(address, token) > number, running[-1], log)  # type: ignore[misc]
        yield Cluster(address, mine | {"RAY_JOBS_ADDRESS": address}, tuple(node.pid for node in running))
    finally:
        for node in reversed(running):
            _stop(node)
        shutil.rmtree(folder, ignore_errors=True)


def _node(role: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """`ray start` in the foreground, in a session of its own, on ports that no other node of this machine has."""
    ports = ["--node-manager-port", "--object-manager-port", "--dashboard-agent-listen-port", "--dashboard-agent-grpc-port"]
    ports += ["--runtime-env-agent-port", "--metrics-export-port"]
    own = [word for name in ports for word in (name, str(_free()))]
    ray = Path(sys.executable).with_name("ray")
    command = [str(ray), "start", *role, *own, "--node-ip-address", _LOOPBACK, "--disable-usage-stats", "--block"]
    with log.open("wb") as out:
        return subprocess.Popen(command, env=dict(environment), start_new_session=True, stdout=out, stderr=out, stdin=subprocess.DEVNULL)


def _until(true: Callable[[], bool], node: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _WAIT_S
    while not true():
        if node.poll() is not None or time.monotonic() > end:
            what = "did not come up" if node.poll() is None else f"ended with status {node.returncode}"
            raise Unavailable(f"Ray: a node {what}: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.2)


def _alive(address: str, token: str) -> int:
    """Nodes that are up; 0 while nobody answers."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    try:
        connection.request("GET", "/api/v0/nodes", headers={"Authorization": f"Bearer {token}"})
        said: Any = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError):
        return 0
    finally:
        connection.close()
    return sum(node["state"] == "ALIVE" for node in (said.get("data") or {"result": {"result": []}})["result"]["result"])


def _stop(node: subprocess.Popen[bytes]) -> None:
    """The command ends what it started; what is left lies in its session, as nobody else's processes do."""
    node.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        node.wait(_STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def _free() -> int:
    with socket.socket() as taken:
        taken.bind((_LOOPBACK, 0))
        return int(taken.getsockname()[1])
