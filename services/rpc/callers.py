"""Who calls: the identity that was proved, else what the call says of itself.

Without credentials the name is only a label, for limits and metrics: anybody can say another.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, TypeAlias

import grpc

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs only
HEADER = "x-caller"
current: ContextVar[str] = ContextVar("caller", default="")
"""Who calls, for whatever runs on behalf of the call."""
_LONGEST = 128  # characters of a name that are told apart


def named(context: Context) -> str:
    """The caller by its certificate, else by `x-caller`, else by its address without the port."""
    return certified(context) or _header(context) or _host(context.peer())


def certified(context: Context) -> str:
    """The name in the certificate the caller proved to own: its first alternative name, else its common name; empty: it has none."""
    found = context.peer_identities()
    return next((name.decode("utf-8", "replace")[:_LONGEST] for name in found or ()), "")


def _header(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == HEADER and isinstance(value, str):
            return value[:_LONGEST]
    return ""


def _host(peer: str) -> str:
    """`ipv4:10.0.0.7:41234` -> `10.0.0.7`; a peer of another kind as it is."""
    kind, _, rest = peer.partition(":")
    return rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer[:_LONGEST]
