"""One Triton server process: start it, know whether it lives, stop it.

Starts with no model loaded and loads none by itself (EXPLICIT mode); what is loaded is `deploy.lifecycle`'s business.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from deploy.triton import guard
from deploy.triton.client import TritonClient
from deploy.triton.wheel import Installed
from ranking.errors import Unavailable

HOST = "127.0.0.1"
_EXIT_S = 5  # what the server grants running inferences when told to stop
_POLL_S = 0.05
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where the Python backend keeps the tensors it passes on


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on the loopback interface."""

    grpc: int
    http: int
    metrics: int


@dataclass(frozen=True, slots=True)
class TritonServer:
    """A started server."""

    process: subprocess.Popen[bytes]
    ports: Ports
    log: Path
    prefix: str  # of its shared memory regions

    @property
    def address(self) -> str:
        """host:port of the gRPC endpoint."""
        return f"{HOST}:{self.ports.grpc}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return once the server answers.

        Raises:
            Unavailable: it ended, or did not answer in time; the message ends with the last lines of its log.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.alive():
                raise Unavailable(f"Triton ended with status {self.process.returncode} while starting:\n{self._tail()}")
            # A fresh client each time: a channel that was refused once waits a second before it tries again.
            with TritonClient(self.address) as client:
                if client.server_ready():
                    return
            time.sleep(_POLL_S)
        raise Unavailable(f"Triton did not answer within {timeout_s:.0f} s:\n{self._tail()}")

    def stop(self) -> None:
        """End the server: politely, then not. Also right for one that is already dead: what it left behind goes too."""
        if self.alive():
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_EXIT_S + 5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its own group: the server if it hangs, and stubs that outlived it
        self.process.wait()
        for region in _SHARED_MEMORY.glob(f"{self.prefix}*"):
            region.unlink(missing_ok=True)

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])


def start(installed: Installed, repository: Path, ports: Ports, log: Path) -> TritonServer:
    """Start a server on `repository` and return at once; `wait_ready` tells when it answers.

    Args:
        installed: from `wheel.locate`.
        repository: the model repository; made if absent.
        ports: all three free.
        log: file its output is appended to.
    """
    repository.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"longtail_{uuid.uuid4().hex[:12]}_"
    command = [
        sys.executable,
        guard.__file__,
        str(os.getpid()),
        str(installed.binary),
        f"--model-repository={repository}",
        f"--backend-directory={installed.backends}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",  # the configuration is written whole; guessing starts every model once more
        "--strict-readiness=false",  # ready means: answers; a model's readiness is asked for by name and version
        "--allow-gpu-metrics=false",
        f"--exit-timeout-secs={_EXIT_S}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        *(f"--{service}-address={HOST}" for service in ("grpc", "http", "metrics")),
        f"--grpc-port={ports.grpc}",
        f"--http-port={ports.http}",
        f"--metrics-port={ports.metrics}",
        "--log-verbose=0",
        "--log-format=ISO8601",
    ]
    environment = os.environ | {
        "LD_LIBRARY_PATH": ":".join(map(str, installed.libraries)),
        "PATH": f"{installed.programs}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONDONTWRITEBYTECODE": "1",  # version directories stay as written
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    return TritonServer(process, ports, log, prefix)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether nobody listens on `port` of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # old connections in TIME_WAIT do not matter
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
