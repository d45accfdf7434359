"""What N workers are as one: the status file, the scrape page, the port."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.workers.port import held
from services.gateway.workers.scrape import WorkerMetrics
from services.gateway.workers.told import summary
from services.rpc.ports import PortTakenError
from services.rpc.scraping import scraped


def listener(port: int, *, share: bool) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        one.bind(("127.0.0.1", port))
        one.listen()
    except OSError:
        one.close()
        raise
    return one


def said(worker: int, *, ready: bool = True, release: str = "r1") -> dict[str, object]:
    return {"pid": 100 + worker, "address": "a:1", "metrics": "", "ready": ready, "release": release, "trial": None}


def test_ready_when_all_are() -> None:
    """One of three that is starting, or has not said anything, keeps the whole from being ready; it names them all the same."""
    assert summary("a:1", "m:2", [said(1), said(2), said(3)], restarting=[])["ready"] is True
    for third in (said(3, ready=False), None):
        now = summary("a:1", "m:2", [said(1), said(2), third], restarting=[])
        assert (now["ready"], now["address"], now["metrics"], "release" in now, "error" in now) == (False, "a:1", "m:2", False, False)
        assert now["workers"][2] == {"worker": 3, "pid": 103 if third else None, "ready": False}


def test_a_release_is_told_once_all_follow_it() -> None:
    """While workers differ there is none."""
    assert summary("a:1", "", [said(1), said(2)], restarting=[])["release"] == "r1"
    assert summary("a:1", "", [said(1), said(2, release="r2")], restarting=[])["release"] is None


def test_a_worker_that_died_is_named() -> None:
    """The error says which of how many."""
    assert summary("a:1", "", [said(1), None], restarting=[2])["error"] == "of 2 workers 2 died and is being started again"


def test_one_scrape_has_every_worker() -> None:
    """Each worker's samples with its number; one that does not answer is down, and its absence spoils nothing."""
    with ExitStack() as closing:
        pages = {3: "", 4: "127.0.0.1:1"}
        for worker, lists in ((1, 5), (2, 7)):
            registry = CollectorRegistry()
            Counter("longtail_rankings", "Lists ranked", ["surface"], registry=registry).labels("search").inc(lists)
            pages[worker] = closing.enter_context(scraped("127.0.0.1:0", registry))
        whole = CollectorRegistry()
        whole.register(WorkerMetrics(lambda: pages, lambda: {1: 0, 2: 3}))
        families = {f.name: f for f in text_string_to_metric_families(generate_latest(whole).decode())}
    samples = {s.labels["worker"]: s for s in families["longtail_rankings"].samples if s.name == "longtail_rankings_total"}
    assert {worker: (s.labels["surface"], s.value) for worker, s in samples.items()} == {"1": ("search", 5), "2": ("search", 7)}
    assert {s.labels["worker"]: s.value for s in families["longtail_worker_up"].samples} == {"1": 1, "2": 1, "3": 0, "4": 0}
    assert {s.labels["worker"]: s.value for s in families["longtail_worker_restarts"].samples} == {"1": 0, "2": 3}


def test_a_held_port_is_for_those_who_share_it() -> None:
    """While it is held, before anybody listens and after, sockets without SO_REUSEPORT are refused and two with it listen."""
    with held("127.0.0.1:0") as address:
        port = int(address.rpartition(":")[2])
        assert port > 0
        with pytest.raises(OSError, match="in use"):
            listener(port, share=False)
        taken = pytest.raises(PortTakenError, match=f"cannot listen on {address}")
        with listener(port, share=True), listener(port, share=True), taken, held(address):
            pass
    listener(port, share=False).close()


def test_a_name_is_held_on_every_address_it_has() -> None:
    """`localhost` with port 0: one port, taken on each of its addresses."""
    with held("localhost:0") as address:
        assert address.startswith("localhost:")
        with pytest.raises(OSError, match="in use"):
            listener(int(address.rpartition(":")[2]), share=False)
