"""Addresses that processes listen on, and what is wrong with one that is taken."""

from __future__ import annotations


class PortTakenError(RuntimeError):
    """The listen address could not be bound."""


def is_address(text: str) -> bool:
    """Whether this is `host:port`."""
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and int(port) <= 65535
