"""The gateway in front of a real Triton."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from deploy import lifecycle, trials
from deploy.triton import process
from ranking.layout import Layout
from ranking.trial import Mode, Trial, tried
from services.gateway.trials.log import Shadowed, read
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


async def test_a_trial_under_load_fails_no_call_and_degrades_none(tmp_path: Path) -> None:
    """Canary, more of it, promotion, rollback, shadow, its end: every call is whole, by one release, and by the one its user is to meet."""
    layout = Layout(tmp_path)
    for version in (1, 2):
        build_release(layout.releases, f"r{version}", version, bias=float(version))
    users = [f"user-{i}" for i in range(20)]
    answers: list[tuple[str, pb.RankResponse]] = []
    done = asyncio.Event()
    with running_triton(layout) as triton:
        await asyncio.to_thread(lifecycle.activate, layout, "r1", triton.address)
        async with gateway(tmp_path, triton=triton.address, budget_ms=200_000, triton_timeout_s=200) as gw:

            async def load(worker: int) -> None:
                turn = worker
                while not done.is_set():
                    user = users[turn % len(users)]
                    answers.append((user, await gw.rank(search(10, user_id=user, query=f"ice {turn}"))))
                    turn += 3

            async def settled(trial: Trial | None, active: str) -> None:
                """Wait until every user is answered as the pointer has it."""
                canary = trial if trial is not None and trial.mode is Mode.CANARY else None
                to_meet = {user: "r2" if canary is not None and tried(canary, user) else active for user in users}

                async def as_told() -> bool:
                    return {user: (await gw.rank(search(2, user_id=user))).release for user in users} == to_meet

                await eventually(as_told)
                so_far = len(answers)
                await eventually(lambda: len(answers) > so_far + 20)

            def start(mode: Mode, share: float) -> Trial:
                return trials.start(layout, "r2", triton.address, mode=mode, share=share)

            workers = [asyncio.create_task(load(i)) for i in range(3)]
            for share in (0.5, 0.8):
                await settled(await asyncio.to_thread(start, Mode.CANARY, share), "r1")
            await asyncio.to_thread(trials.promote, layout, triton.address)
            await settled(None, "r2")
            await asyncio.to_thread(lifecycle.rollback, layout, triton.address)
            await settled(None, "r1")
            await settled(await asyncio.to_thread(start, Mode.SHADOW, 1.0), "r1")
            await eventually(lambda: any(isinstance(line, Shadowed) for line in read(layout.trials)))
            await asyncio.to_thread(trials.end, layout, triton.address)
            await settled(None, "r1")
            done.set()
            await asyncio.gather(*workers)  # raises if one call failed
    for _, answer in answers:
        assert set(answer.model_versions.values()) == {answer.release[1:]}
        assert not {d.component for d in answer.degradations if d.component.startswith(("member", "blend"))}, answer.degradations
    shadows = [line for line in read(layout.trials) if isinstance(line, Shadowed)]
    assert {(line.active, line.tried, line.overlap) for line in shadows} == {("r1", "r2", 1.0)}
