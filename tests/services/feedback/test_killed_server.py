"""An acknowledged event is never lost: the gateway's process, and Redis, are killed at random moments while clients record."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from longtail.feedback.v1 import feedback_service_pb2 as pb
from longtail.feedback.v1.feedback_service_pb2_grpc import FeedbackServiceStub

from ranking.layout import Layout
from services.feedback.log.event_log import EventLog
from services.feedback.log.redis import RedisLog
from services.feedback.log.sqlite import SqliteLog
from services.feedback.types import Event
from tests.services.feedback.fakes import event, message
from tests.services.gateway_fakes import eventually
from tests.services.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = 8


@dataclass
class Client:
    """Sends batches of 1 to 20 events, each again until it is acknowledged: by this server or by the next."""

    name: str
    rng: random.Random
    sent: int = 0
    pending: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    async def record(self, channel: grpc.aio.Channel) -> None:
        """Record until the server is gone."""
        while True:
            if not self.pending:
                self.pending = [f"{self.name}.{self.sent + i}" for i in range(self.rng.randint(1, 20))]
                self.sent += len(self.pending)
            request = pb.RecordEventsRequest(events=[message(key, user_id=self.name) for key in self.pending])
            try:
                answer = await FeedbackServiceStub(channel).RecordEvents(request, timeout=30)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return
                raise
            assert answer.accepted + answer.duplicates == len(self.pending)
            self.acknowledged += self.pending
            self.pending = []


Process = tuple[asyncio.subprocess.Process, str]


async def feedback_server(home: Path, where: str) -> Process:
    """FeedbackService alone in a process, which starts fast."""
    command = [sys.executable, "-m", "services.bench.feedback", where or str(Layout(home).events)]
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert running.stdout is not None
    return running, (await running.stdout.readline()).decode().strip()


async def gateway_server(home: Path, where: str) -> Process:
    """The gateway, as it is deployed."""
    status = Layout(home).run / "gateway.json"
    status.unlink(missing_ok=True)  # a killed gateway leaves its own
    options = ["--home", str(home), "--address", "127.0.0.1:0", "--metrics-address", "off", "--served-log", "false", "--event-log", where]
    command = [sys.executable, "-m", "services.gateway", *options]
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL)
    await eventually(status.exists)
    return running, json.loads(status.read_text())["address"]


async def survive(
    start: Callable[[Path, str], Awaitable[Process]], home: Path, rounds: int, log: EventLog, redis: RedisServer | None = None
) -> None:
    """Kill for so many rounds; after each one everything acknowledged so far is in the log, once and as it was sent."""
    rng = random.Random(rounds)
    clients = [Client(f"c{i}", random.Random(i)) for i in range(CLIENTS)]
    kept: dict[str, Event] = {}
    after = 0
    for number in range(rounds):
        running, address = await start(home, redis.url if redis else "")
        before = sum(len(client.acknowledged) for client in clients)
        async with grpc.aio.insecure_channel(address) as channel:
            await channel.channel_ready()
            recording = [asyncio.create_task(client.record(channel)) for client in clients]
            await eventually(lambda before=before: sum(len(client.acknowledged) for client in clients) > before)
            await asyncio.sleep(rng.uniform(0.0, 0.2))
            if redis is not None and number % 2:
                redis.kill()
                await asyncio.gather(*recording)  # each is told UNAVAILABLE by the server, which lives
                redis.start()
            running.kill()
            await asyncio.gather(*recording)
            await running.wait()
        while rows := log.read(after, 10_000):
            for offset, one, _ in rows:
                assert one.event_id not in kept, f"twice, again at {offset}"
                kept[one.event_id] = one
                after = offset
        for client in clients:
            missing = [key for key in client.acknowledged if key not in kept]
            assert not missing, f"round {number}: acknowledged and lost: {missing}"
    log.close()
    assert all(one == event(key, key.split(".")[0]) for key, one in kept.items())
    assert len(kept) <= sum(client.sent for client in clients)  # nothing nobody sent
    print(f"{rounds} kills, {sum(len(c.acknowledged) for c in clients)} events acknowledged, {len(kept)} in the log")


MANY = [pytest.mark.exhaustive, pytest.mark.timeout(3600)]


@pytest.mark.servers
@pytest.mark.parametrize(
    ("start", "rounds"),
    [
        (feedback_server, 5),
        (gateway_server, 1),
        pytest.param(feedback_server, 200, marks=MANY),
        pytest.param(gateway_server, 200, marks=MANY),
    ],
)
async def test_nothing_acknowledged_is_lost_on_sqlite(
    tmp_path: Path, start: Callable[[Path, str], Awaitable[Process]], rounds: int
) -> None:
    """SIGKILL to the server at random moments: every acknowledged event is in events.db exactly once."""
    await survive(start, tmp_path, rounds, SqliteLog(Layout(tmp_path).events))


@pytest.mark.servers
@pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=MANY)])
async def test_nothing_acknowledged_is_lost_on_redis(tmp_path: Path, redis_server: RedisServer, redis_url: str, rounds: int) -> None:
    """SIGKILL to the server, and in every other round to Redis: every acknowledged event is in the stream exactly once."""
    await survive(feedback_server, tmp_path, rounds, RedisLog(redis_url, timeout_s=30.0), redis_server)
