"""The process that keeps Triton running and in the desired state: ``python -m deploy.controller``.

Starts Triton, starts it again when it dies, and brings a fresh one (which loads nothing by itself) to the active release and the one on
trial. Its state stands in ``<home>/run/triton.json``. Beside that it serves `ReleaseService` (`deploy.service`). Stops Triton when it is
told to stop; should it be killed, Triton is told by the kernel.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from deploy import lifecycle, store, verify
from deploy.files import locked, write_atomically
from deploy.metrics import DeployMetrics, exposed
from deploy.operations import Here
from deploy.service.server import ReleaseServer
from deploy.told import STATE, State
from deploy.triton import process, wheel
from deploy.triton.client import TritonClient
from ranking.errors import InvalidRelease, LongtailError, Unavailable
from ranking.layout import Layout
from ranking.pointer import Pointer
from ranking.release import Release

_POLL_S = 0.2
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0  # between attempts that failed
_PORT_WAIT_S = 15.0  # a Triton whose controller was killed needs as long to end
_PROBE_S = 5.0  # between looks at whether the models still give their golden outputs
_MISSES = 3  # probes in a row without an answer before Triton counts as hung; each waits for its own deadline
_log = logging.getLogger(__name__)


class Controller:
    """The loop: start, reconcile, watch, start again."""

    def __init__(
        self, layout: Layout, ports: process.Ports, metrics: DeployMetrics | None = None, scrape: str = "", releases: str = ""
    ) -> None:
        """Start nothing yet.

        Args:
            layout: the state directory.
            ports: of Triton.
            metrics: told how it goes.
            scrape: where those are read, to be said in the state.
            releases: where `ReleaseService` listens, to be said there, too.
        """
        self._layout = layout
        self._ports = ports
        self._metrics, self._scrape = metrics or DeployMetrics(), scrape
        self._releases = releases
        self._server: process.TritonServer | None = None
        self._release: str | None = None
        self._trial: str | None = None

    def run(self) -> NoReturn:
        """Serve until told to stop (SystemExit); Triton is stopped on the way out."""
        installed = wheel.locate(self._layout.triton_server)
        wait = _FIRST_WAIT_S
        try:
            while True:
                try:
                    self._serve_once(installed)
                    wait = _FIRST_WAIT_S
                except LongtailError as problem:
                    _log.error("%s", problem)  # a sentence for operators: the trace would tell them nothing
                    wait = self._back_off(str(problem), wait)
                except Exception as problem:  # noqa: BLE001  nothing starts the controller again, and Triton would end with it
                    _log.exception("unexpected, tried again in %g s", wait)
                    wait = self._back_off(f"{type(problem).__name__}: {problem}", wait)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if self._server:
                self._server.stop()
            (self._layout.run / STATE).unlink(missing_ok=True)

    def _back_off(self, error: str, wait: float) -> float:
        """Say what is wrong, wait; returns how long to wait should it fail again."""
        with contextlib.suppress(OSError):  # a full disk may be the very error, and does not keep it from being tried again
            self._say(ready=False, error=error)
        time.sleep(wait)
        return min(2 * wait, _LONGEST_WAIT_S)

    def _serve_once(self, installed: wheel.Installed) -> None:
        """Make sure a server runs and is in the desired state, then watch until it dies or the pointer moves."""
        if self._server is None or not self._server.alive():
            if self._server:
                _log.warning("Triton (pid %d) ended with status %s", self._server.pid, self._server.process.returncode)
                self._server.stop()  # what it left behind
            self._say(ready=False)
            self._metrics.started()
            self._server = process.start(installed, self._layout.triton_repository, self._ports, self._layout.logs / "triton.log")
            try:
                self._server.wait_ready()
            except Unavailable:
                self._server.stop()  # one that hangs while starting is not waited for twice
                raise
        with self._metrics.reconciling():
            release = lifecycle.reconcile(self._layout, self._server.address, otherwise=self._release)
        self._release = release.id if release else None
        self._trial = _on_trial(store.pointer(self._layout.releases))
        beside = f" and {self._trial} on trial" if self._trial else ""
        _log.info("Triton (pid %d) at %s serves release %s%s", self._server.pid, self._server.address, self._release, beside)
        tried = [store.read_manifest(self._layout.releases, self._trial)] if self._trial else []
        self._watch(self._server, [*([release] if release else []), *tried])
        if not self._server.alive():
            self._say(ready=False)

    def _watch(self, server: process.TritonServer, serving: Sequence[Release]) -> None:
        """Return when there is something to do: the server died or hangs, the pointer moved, or a model stopped answering.

        The last cannot be learnt from Triton: a model whose process has died stays READY and fails every request. A pointer that is
        gone has not moved: it names nothing to serve instead, so it is only said.
        """
        missed, next_probe, said = 0, time.monotonic() + _PROBE_S, None
        while server.alive() and self._still(now := store.pointer(self._layout.releases)):
            error = self._missing(now)
            if error != said:
                self._say(ready=True, error=error)
                said = error
            time.sleep(_POLL_S)
            if time.monotonic() < next_probe:
                continue
            try:
                _probe(server.address, serving, self._layout.triton_repository)
                missed = 0
            except Unavailable as silent:
                self._metrics.missed()
                missed += 1
                if missed == _MISSES:
                    _log.warning("Triton (pid %d) hangs and is started again: %s", server.pid, silent)
                    server.stop()
            except InvalidRelease as wrong:
                self._metrics.missed()
                _log.warning("what is served no longer answers as it should: %s", wrong)
                return
            next_probe = time.monotonic() + _PROBE_S

    def _still(self, now: Pointer | None) -> bool:
        """Whether the pointer names what is served, or is gone."""
        return now is None or (now.release, _on_trial(now)) == (self._release, self._trial)

    def _missing(self, now: Pointer | None) -> str:
        """What to say where a release is served and the pointer names none."""
        return f"{store.POINTER}: is missing; still serving {self._release}" if self._release and now is None else ""

    def _say(self, *, ready: bool, error: str = "") -> None:
        host, ports = process.HOST, self._ports
        state = State(
            pid=os.getpid(),
            triton_pid=self._server.pid if self._server and self._server.alive() else 0,
            grpc=f"{host}:{ports.grpc}",
            http=f"{host}:{ports.http}",
            metrics=f"{host}:{ports.metrics}",
            ready=ready,
            release=self._release if ready else None,
            error=error,
            scrape=self._scrape,
            releases=self._releases,
        )
        self._metrics.said(ready=ready, release=state.release)
        write_atomically(self._layout.run / STATE, json.dumps(asdict(state)) + "\n")


def _on_trial(now: Pointer | None) -> str | None:
    return now.trial.release if now and now.trial else None


def _probe(address: str, serving: Sequence[Release], repository: Path) -> None:
    """Raises Unavailable where Triton does not answer, InvalidRelease where a model does not answer as it should."""
    with TritonClient(address) as client:
        client.index()
        for release in serving:
            verify.served(client, release, repository)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.controller", description=__doc__.partition("\n")[0])
    parser.add_argument("--grpc-port", type=int, default=8001, help="of Triton, kept across its restarts (default %(default)s)")
    parser.add_argument("--http-port", type=int, default=0, help="of Triton (default: a free one)")
    parser.add_argument("--metrics-port", type=int, default=0, help="of Triton, for Prometheus (default: a free one)")
    parser.add_argument("--scrape-address", default="127.0.0.1:0", help="host:port of its own metrics, or off (default %(default)s)")
    parser.add_argument("--release-address", default=f"{process.HOST}:0", help="host:port of ReleaseService (default: a free port)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))  # unwinds `run`, which stops Triton
    layout = Layout(Path(os.environ.get("LONGTAIL_HOME", ".longtail")).resolve())
    try:
        with locked(layout.run / "controller.lock", wait=False):
            _wait_for_port(options.grpc_port)
            ports = process.Ports(options.grpc_port, options.http_port or process.free_port(), options.metrics_port or process.free_port())
            metrics = DeployMetrics()
            with (
                exposed(options.scrape_address, metrics) as scrape,
                _release_service(layout, options.release_address, f"{process.HOST}:{options.grpc_port}") as releases,
            ):
                Controller(layout, ports, metrics, scrape, releases).run()
    except BlockingIOError:
        sys.exit(f"another controller runs on {layout.home}")
    except (Unavailable, ValueError) as problem:
        sys.exit(str(problem))


@contextlib.contextmanager
def _release_service(layout: Layout, address: str, triton: str) -> Iterator[str]:
    """`ReleaseService` on the releases that this controller looks after; gives where it listens."""
    server = ReleaseServer(Here(layout, lambda: triton), address, layout.release_token)
    server.start()
    try:
        yield server.address
    finally:
        server.stop()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + _PORT_WAIT_S
    while not process.port_is_free(port):
        if time.monotonic() > deadline:
            raise Unavailable(f"--grpc-port: {port} is in use; stop what listens there or choose another")
        time.sleep(_POLL_S)


if __name__ == "__main__":
    main()
