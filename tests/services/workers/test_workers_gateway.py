"""Real gateways under a parent: one port, one scrape, one status; a killed worker costs no later call, a killed parent leaves nobody."""

from __future__ import annotations

import asyncio
import os
import signal
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest

from ranking.layout import Layout
from tests.services.gateway_fakes import Gateway, eventually, search
from tests.services.test_gateway_server import process, status

OPTIONS = ("--workers", "2", "--triton", "127.0.0.1:1")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # whoever reaps orphans here is slow


async def rank(home: Path, address: str) -> int:
    """Places in the answer to one call, on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        client = Gateway(None, channel, None, None, Layout(home))  # type: ignore[arg-type]
        return len((await client.rank(search(3))).results.item_ids)


@pytest.mark.servers
async def test_two_workers_serve_one_port(home: Path) -> None:
    """Both listen on it, one scrape has both, a killed one is replaced on the port while the other answers, SIGTERM ends all with 0."""
    with process(home, *OPTIONS) as running:
        found = await status(home, running, ready=True)
        assert (found["pid"], found["release"], len(found["workers"])) == (running.pid, "r1", 2)
        first, second = (one["pid"] for one in found["workers"])
        assert [await rank(home, found["address"]) for _ in range(8)] == [3] * 8

        host, _, port = found["metrics"].rpartition(":")
        connection = HTTPConnection(host, int(port))
        connection.request("GET", "/metrics")
        page = (await asyncio.to_thread(connection.getresponse)).read().decode()
        connection.close()
        assert all(f'longtail_release_info{{release="r1",worker="{worker}"}} 1.0' in page for worker in (1, 2))

        os.kill(first, signal.SIGKILL)
        told = await status(home, running, ready=False)
        assert told["error"] == "of 2 workers 1 died and is being started again"
        assert await rank(home, found["address"]) == 3
        again = await status(home, running, ready=True)
        assert again["address"] == found["address"]
        assert [one["pid"] for one in again["workers"]][1] == second
        running.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.wait) == 0
        assert not list(Layout(home).run.glob("gateway*.json"))


@pytest.mark.servers
async def test_workers_end_with_a_parent_that_is_killed(home: Path) -> None:
    """SIGKILL to the parent: both workers drain and end by themselves."""
    with process(home, *OPTIONS) as running:
        found = await status(home, running, ready=True)
        running.kill()
        for one in found["workers"]:
            await eventually(lambda one=one: _gone(one["pid"]))


@pytest.mark.servers
async def test_a_taken_port_is_named_by_the_parent(home: Path, tmp_path: Path) -> None:
    """The port of another gateway is an error before any worker starts, and ends with 2."""
    with process(home) as first:
        address = (await status(home, first, ready=False))["address"]
        with process(tmp_path / "other", "--workers", "2", "--address", address) as second:
            assert await asyncio.to_thread(second.wait) == 2
            assert second.stderr is not None
            assert f"gateway: cannot listen on {address}" in second.stderr.read()
