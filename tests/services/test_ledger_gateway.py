"""Gateways that share a ledger: what one serves the other knows, a restart is warm, and a store that is down stops nobody."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ranking.layout import Layout
from services.gateway.ledger.sqlite import SqliteStore
from services.gateway.server import running
from services.gateway.settings import Settings
from services.rpc.ports import PortTakenError
from tests.services.gateway_fakes import FakeModels, FakeStore, Gateway, add_policy, eventually, floors, gateway, reasons, search

TAIL = ("popularity_tier", "tail")
SYNC_S = 0.01


@pytest.fixture(autouse=True)
def owed(home: Path) -> None:
    """The active policy keeps accounts."""
    add_policy(home, "owed", rules=floors("popularity_tier", tail=0.3), scope="amortised")


async def debt(gw: Gateway) -> float:
    """What the tail is owed, as the next answer reports it."""
    response = await gw.rank(search(30, top_k=10))
    (line,) = [g for g in response.exposure if (g.attribute, g.group) == TAIL]
    return line.debt


async def test_gateways_share_what_is_owed(home: Path) -> None:
    """Lists served by one gateway are in the accounts of another on the same state directory, and of one that starts later."""
    async with gateway(home, ledger_sync_s=SYNC_S) as one, gateway(home, ledger_sync_s=SYNC_S) as two:
        assert await debt(one) == 0.0
        await eventually(lambda: SqliteStore(Layout(home).exposure).changes(0).rows)

        async def known() -> bool:
            return await debt(two) != 0.0

        await eventually(known)
    async with gateway(home) as later:
        assert await debt(later) != 0.0


async def test_a_store_that_is_down_stops_nobody(home: Path) -> None:
    """Answers come, say that exposure is unavailable, and stop saying so once the store is mended."""
    path = Layout(home).exposure
    path.write_bytes(b"no database" * 100)
    async with gateway(home, ledger_sync_s=SYNC_S) as gw:
        response = await gw.rank(search(30, top_k=10))
        assert len(response.results.item_ids) == 10
        assert reasons(response)["exposure"] == "UNAVAILABLE"
        path.unlink()

        async def mended() -> bool:
            return "exposure" not in reasons(await gw.rank(search(30, top_k=10)))

        await eventually(mended)


async def test_metrics_are_where_the_status_says(home: Path) -> None:
    """A scrape of the address in `run/gateway.json` has the lists that were served and the active release's name."""
    async with gateway(home, metrics_address="127.0.0.1:0") as gw:
        for _ in range(3):
            await gw.rank(search(30, top_k=10))
        address = json.loads((gw.layout.run / "gateway.json").read_text())["metrics"]

        def read() -> str:
            with urllib.request.urlopen(f"http://{address}/metrics") as response:
                return response.read().decode()

        text = await asyncio.to_thread(read)
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert [s.value for s in samples if s.name == "longtail_rankings_total"] == [3.0]
    assert [s.labels for s in samples if s.name == "longtail_release_info"] == [{"release": "r1"}]
    shown = {s.labels["group"]: s.value for s in samples if s.name == "longtail_predicted_probability_count_total"}
    assert sum(shown.values()) == 3 * 10


async def test_a_taken_metrics_port_is_an_error_before_anything_is_served(home: Path) -> None:
    """An operator who named an address gets it or is told."""
    async with gateway(home, metrics_address="127.0.0.1:0") as gw:
        taken = json.loads((gw.layout.run / "gateway.json").read_text())["metrics"]
        with pytest.raises(PortTakenError, match=taken):
            async with running(Settings(home=home, address="127.0.0.1:0", metrics_address=taken), store=FakeStore(), models=FakeModels()):
                pass
        assert json.loads((gw.layout.run / "gateway.json").read_text())["address"] == gw.server.address
