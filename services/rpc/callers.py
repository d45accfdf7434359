"""Who calls: the identity that was proved, else what the call says of itself.

Without credentials the name is only a label, for limits and metrics: anybody can say another.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc

from services.rpc import calls

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # quoted: generic in the stubs only
_LONGEST = 128  # characters of a name that are told apart


def named(context: Context) -> str:
    """The caller by its certificate, else by `x-caller`; empty where it has neither."""
    return certified(context) or _header(context)


def certified(context: Context) -> str:
    """The name in the certificate the caller proved to own: its first alternative name, else its common name; empty: it has none."""
    found = context.peer_identities()
    return next((name.decode("utf-8", "replace")[:_LONGEST] for name in found or ()), "")


def _header(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == calls.CALLER and isinstance(value, str):
            return calls.well_formed(value)
    return ""


def host(peer: str) -> str:
    """`ipv4:10.0.0.7:41234` -> `10.0.0.7`; a peer of another kind as it is."""
    kind, _, rest = peer.partition(":")
    return rest.rpartition(":")[0] if kind in ("ipv4", "ipv6") else peer[:_LONGEST]
