"""The gateway in front of a real Triton."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from deploy import lifecycle
from deploy.triton import process
from ranking.layout import Layout
from tests.deploy.releases import build_release
from tests.deploy.servers import installed, running_triton
from tests.services.gateway_fakes import eventually, gateway, reasons, search

pytestmark = pytest.mark.servers


async def test_killing_triton_under_load_fails_no_call_and_its_return_is_noticed(tmp_path: Path) -> None:
    """`kill -9` on Triton: every call is answered, some with degradations; once Triton is back answers are whole and equal again."""
    layout = Layout(tmp_path)
    build_release(layout.releases, "r1", 1)
    with running_triton(layout) as triton:
        await asyncio.to_thread(lifecycle.activate, layout, "r1", triton.address)
        async with gateway(tmp_path, triton=triton.address) as gw:
            whole = await gw.rank(search(20))
            assert not whole.degradations
            answers: list[pb.RankResponse] = []
            done = asyncio.Event()

            async def load() -> None:
                while not done.is_set():
                    answers.append(await gw.rank(search(20, query=f"ice {len(answers)}")))

            workers = [asyncio.create_task(load()) for _ in range(4)]
            await eventually(lambda: len(answers) > 20)
            os.kill(triton.pid, signal.SIGKILL)
            await eventually(lambda: any(a.degradations for a in answers))
            so_far = len(answers)
            await eventually(lambda: len(answers) > so_far + 20)
            # The gateway knows the gRPC port only; another test may have taken the other two meanwhile.
            ports = process.Ports(triton.ports.grpc, process.free_port(), process.free_port())
            again = await asyncio.to_thread(process.start, installed(), layout.triton_repository, ports, layout.logs / "again.log")
            try:
                await asyncio.to_thread(again.wait_ready)
                await asyncio.to_thread(lifecycle.reconcile, layout, again.address)

                async def recovered() -> bool:
                    return not (await gw.rank(search(20))).degradations

                await eventually(recovered)
                done.set()
                await asyncio.gather(*workers)  # raises if one call failed
                assert (await gw.rank(search(20))).results == whole.results
            finally:
                await asyncio.to_thread(again.stop)
    assert {reason for a in answers for reason in reasons(a).values()} <= {"UNAVAILABLE", "PARTIAL", "DEADLINE"}
    assert all(len(a.results.item_ids) == 20 for a in answers)
