"""The reconciler beside a real Triton that somebody else starts, kills and starts again."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy import store
from deploy.metrics import DeployMetrics, exposed
from deploy.reconciler import Reconciler
from deploy.triton import process
from deploy.triton.client import TritonClient
from ranking.errors import Unavailable
from ranking.layout import Layout
from tests.deploy.releases import build_release
from tests.deploy.servers import free_ports, installed

_PATIENCE_S = 120  # long past what any step takes


class _Ended(Exception):  # noqa: N818 - no error
    pass


@contextmanager
def _reconciling(layout: Layout, address: str) -> Iterator[Callable[[], dict[str, float]]]:
    """A reconciler on a thread; gives its metrics as scraped, labels but `outcome` and `release` left out."""
    ended, metrics = threading.Event(), DeployMetrics()

    def sleep(seconds: float) -> None:
        if ended.wait(seconds):
            raise _Ended

    def run() -> None:
        with pytest.raises(_Ended):
            Reconciler(layout, address, metrics, probe_s=0.2, sleep=sleep).run()

    thread = threading.Thread(target=run)
    with exposed("127.0.0.1:0", metrics) as scraped:

        def read() -> dict[str, float]:
            with urllib.request.urlopen(f"http://{scraped}/metrics") as page:
                families = text_string_to_metric_families(page.read().decode())
                return {".".join((s.name, *s.labels.values())): s.value for f in families for s in f.samples}

        thread.start()
        try:
            yield read
        finally:
            ended.set()
            thread.join()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.servers
def test_a_fresh_triton_is_brought_to_the_active_release_each_time(layout: Layout) -> None:
    """No Triton yet: not ready. One that loads nothing by itself: brought to the release; killed and replaced: again."""
    build_release(layout.releases, "r1", 1)
    store.activate(layout.releases, "r1")
    ports = free_ports()
    with _reconciling(layout, f"{process.HOST}:{ports.grpc}") as read:
        _until(lambda: read().get("longtail_reconciles_total.failed", 0) >= 1)
        assert read()["longtail_triton_ready"] == 0
        for turn in (1, 2):
            fresh = process.Ports(ports.grpc, process.free_port(), process.free_port())
            server = process.start(installed(), layout.triton_repository, fresh, layout.logs / "triton.log")
            try:
                _until(lambda done=turn: read().get("longtail_reconciles_total.ok", 0) >= done and read()["longtail_triton_ready"] == 1)  # type: ignore[misc]
                assert read()["longtail_triton_release_info.r1"] == 1
                with TritonClient(server.address) as client:
                    assert client.index()["trees", 1].state == "READY"
            finally:
                server.stop()
            _until(lambda: read()["longtail_triton_ready"] == 0)
        assert read()["longtail_triton_probe_misses_total"] >= 1


def test_a_taken_address_is_named() -> None:
    """Two processes cannot be scraped at one address."""
    with (
        exposed("127.0.0.1:0", DeployMetrics()) as address,
        pytest.raises(Unavailable, match=f"--scrape-address: cannot listen on {address}"),
        exposed(address, DeployMetrics()),
    ):
        pass
