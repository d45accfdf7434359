"""Keeps a Triton that somebody else runs in the desired state: ``python -m deploy.reconciler --triton HOST:PORT``.

For containers: Triton is one of its own, started and restarted by whoever runs containers, and this stands beside it with the same model
repository (``<home>/triton/repository``). A fresh Triton, which loads nothing by itself, is brought to the active release and the one on
trial; so is one that stopped answering as it should. `controller` is the other way: it starts Triton itself. Answers nobody but Prometheus.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy import lifecycle, store, verify
from deploy.metrics import DeployMetrics, exposed
from deploy.triton.client import TritonClient
from ranking.errors import InvalidRelease, LongtailError, Unavailable
from ranking.layout import Layout
from ranking.pointer import Pointer
from ranking.release import Release

_POLL_S = 0.2
_PROBE_S = 5.0  # between looks at whether the models still give their golden outputs
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0  # between attempts that failed
_log = logging.getLogger(__name__)


class Reconciler:
    """The loop: reconcile, watch, reconcile again."""

    def __init__(
        self,
        layout: Layout,
        address: str,
        metrics: DeployMetrics,
        *,
        probe_s: float = _PROBE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is asked yet.

        Args:
            layout: the state directory; its model repository is the one Triton was given.
            address: host:port of Triton's gRPC endpoint.
            metrics: told how it goes.
            probe_s: seconds between two looks at what is served.
            sleep: waits; raises to end the loop.
        """
        self._layout, self._address, self._metrics = layout, address, metrics
        self._probe_s, self._sleep = probe_s, sleep
        self._release: str | None = None

    def run(self) -> None:
        """Until `sleep` raises."""
        wait, said = _FIRST_WAIT_S, ""
        while True:
            try:
                serving = self._reconcile()
                wait, said = _FIRST_WAIT_S, ""
                self._watch(serving)
            except LongtailError as problem:
                if str(problem) != said:  # once while it goes on failing alike
                    _log.error("%s", problem)
                said = str(problem)
                self._metrics.said(ready=False, release=None)
                self._sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT_S)

    def _reconcile(self) -> Sequence[Release]:
        """Bring Triton to the desired state; what it then serves to requests."""
        with self._metrics.reconciling():
            release = lifecycle.reconcile(self._layout, self._address, otherwise=self._release)
        self._release = release.id if release else None
        tried = _on_trial(store.pointer(self._layout.releases))
        _log.info("Triton at %s serves release %s%s", self._address, self._release, f" and {tried} on trial" if tried else "")
        self._metrics.said(ready=True, release=self._release)
        return [*([release] if release else []), *([store.read_manifest(self._layout.releases, tried)] if tried else [])]

    def _watch(self, serving: Sequence[Release]) -> None:
        """Return when the pointer moved or Triton has to be helped; a pointer that is gone has not moved."""
        wanted = (self._release, _on_trial(store.pointer(self._layout.releases)))
        next_probe = time.monotonic() + self._probe_s
        while (now := store.pointer(self._layout.releases)) is None or (now.release, _on_trial(now)) == wanted:
            self._sleep(_POLL_S)
            if time.monotonic() < next_probe:
                continue
            try:
                with TritonClient(self._address) as client:
                    client.index()
                    for release in serving:
                        verify.served(client, release, self._layout.triton_repository)
            except (Unavailable, InvalidRelease) as wrong:
                _log.warning("what is served no longer answers as it should: %s", wrong)
                self._metrics.missed()
                return
            next_probe = time.monotonic() + self._probe_s


def _on_trial(now: Pointer | None) -> str | None:
    return now.trial.release if now and now.trial else None


def parser() -> argparse.ArgumentParser:
    """The command line."""
    known = argparse.ArgumentParser(prog="python -m deploy.reconciler", description=__doc__.partition("\n")[0])
    known.add_argument("--triton", default="127.0.0.1:8001", help="host:port of its gRPC endpoint (default %(default)s)")
    known.add_argument("--scrape-address", default="127.0.0.1:0", help="host:port for Prometheus, or off (default %(default)s)")
    return known


def main(arguments: list[str] | None = None) -> None:
    """Run until told to stop."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    metrics = DeployMetrics()
    try:
        with exposed(options.scrape_address, metrics) as address:
            _log.info("metrics at %s", address or "no address")
            Reconciler(Layout(Path(os.environ.get("LONGTAIL_HOME", ".longtail")).resolve()), options.triton, metrics).run()
    except Unavailable as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
