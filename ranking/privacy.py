"""How logs know users, and how those are remembered who are to be forgotten."""

from __future__ import annotations

import hashlib

TOMBSTONE_DIGITS = 32
"""Length of a line in a file of tombstones, without its end."""


def user_digest(user_id: str, key: bytes) -> str:
    """32 hex digits that stand for the user, empty for no user: without the key nobody can tell whose they are, nor test a guess.

    Args:
        user_id: may be empty.
        key: secret, at most 64 bytes.
    """
    return hashlib.blake2b(user_id.encode(), key=key, digest_size=16).hexdigest() if user_id else ""


def tombstone(user: str) -> bytes:
    """(16,) bytes that stand for a forgotten user: who has the id can tell that it was forgotten.

    No key: every machine that is sent the user's events again has to know it. So whoever has this can test a guess, and find an id that is
    one of few, such as a number, by trying them all: it is pseudonymous and not anonymous.

    Raises:
        ValueError: the id is empty, which stands for nobody and for everybody unknown.
    """
    if not user:
        raise ValueError("a user's id must not be empty")
    return hashlib.blake2b(user.encode(), digest_size=16, person=b"longtail.forget").digest()


def tombstones(text: str) -> frozenset[str]:
    """The tombstones in the text of a file of them, as hex digits; a last line that was cut short stands for nobody."""
    return frozenset(line for line in text.split("\n")[:-1] if len(line) == TOMBSTONE_DIGITS)
