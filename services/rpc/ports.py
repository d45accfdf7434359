"""Addresses that processes listen on, and what is wrong with one that is taken."""

from __future__ import annotations

import ipaddress


class PortTakenError(RuntimeError):
    """The listen address could not be bound."""


def is_address(text: str) -> bool:
    """Whether this is `host:port`."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535


def is_loopback(address: str) -> bool:
    """Whether only processes of this machine can reach `host:port`. A name other than localhost may be anything, so it is not."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
