"""FeedbackService alone in a process, for measuring and for killing: on an event log, or as an echo that keeps nothing, the yardstick.

`python -m services.bench.feedback PATH | redis://… | echo` prints its address and serves until it is terminated.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
from longtail.feedback.v1 import feedback_service_pb2 as pb
from longtail.feedback.v1 import feedback_service_pb2_grpc as pb_grpc

from services.feedback.log.event_log import EventLog
from services.feedback.log.sqlite import SqliteLog
from services.feedback.recorder import Recorder
from services.feedback.servicer import NAME, FeedbackServicer
from services.rpc.server import Options, Server
from services.rpc.signals import stop_signal

ECHO = "echo"


class Echo(pb_grpc.FeedbackServiceServicer):
    """Accepts without looking."""

    async def RecordEvents(  # noqa: N802 - the method's name on the wire
        self, request: pb.RecordEventsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.RecordEventsResponse:
        """All of them accepted, none of them kept."""
        return pb.RecordEventsResponse(accepted=len(request.events))


async def serve(where: str) -> None:
    """Listen on a free port, say which, and answer until terminated."""
    asked = stop_signal()
    if where == ECHO:
        echo = grpc.aio.server()  # bare: what this machine's Python gRPC can do at all
        pb_grpc.add_FeedbackServiceServicer_to_server(Echo(), echo)
        print(f"127.0.0.1:{echo.add_insecure_port('127.0.0.1:0')}", flush=True)
        await echo.start()
        await asked.wait()
        await echo.stop(None)
        return
    recorder = Recorder(_log(where))
    servicer = FeedbackServicer(recorder, wait_s=30.0)
    server = Server(
        "127.0.0.1:0", (NAME,), lambda target: pb_grpc.add_FeedbackServiceServicer_to_server(servicer, target), Options(drain_s=0.0)
    )
    print(server.address, flush=True)
    await server.start()
    await asked.wait()
    await server.stop()
    await recorder.close()


def _log(where: str) -> EventLog:
    if "://" not in where:
        return SqliteLog(Path(where))
    from services.feedback.log.redis import RedisLog

    return RedisLog(where)


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(sys.argv[1])))
