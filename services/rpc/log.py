"""Structured logging to stderr: one JSON object per event, so that a log collector needs no parser.

Usage: `log = logging.getLogger(__name__)`, then `log.info("release_active", extra={"release": "r1"})`. The message is the
event's name; everything in `extra` becomes a key. Nothing is logged per request; what is logged during one has its id and its trace's.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from services.rpc import calls

_GRPC = "grpc._cython.cygrpc"
_LEFT = "ExecuteBatchError raised in core"  # what gRPC says of an answer whose caller had left by then; calls are counted by status anyway
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "logger", "event", "request_id"?, "trace_id"?, …extra, "traceback"?}` on one line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        call = calls.current.get()
        if call is not None:
            entry |= {"request_id": call.request_id} | ({"trace_id": call.trace_id} if call.trace_id else {})
        entry.update((k, v) for k, v in vars(record).items() if k not in _STANDARD)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def configure(level: str = "INFO") -> None:
    """Send every logger's events of at least `level` to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger(_GRPC).addFilter(_of_our_making)


def _of_our_making(record: logging.LogRecord) -> bool:
    """Whether an event is for whoever runs the server: callers that leave are no error of its."""
    return not record.getMessage().startswith(_LEFT)
