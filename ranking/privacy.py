"""How logs know users, and how those are remembered who are to be forgotten."""

from __future__ import annotations

import hashlib


def user_digest(user_id: str, key: bytes) -> str:
    """32 hex digits that stand for the user, empty for no user: without the key nobody can tell whose they are, nor test a guess.

    Args:
        user_id: may be empty.
        key: secret, at most 64 bytes.
    """
    return hashlib.blake2b(user_id.encode(), key=key, digest_size=16).hexdigest() if user_id else ""


def tombstone(user: str) -> bytes:
    """(16,) bytes that stand for a forgotten user: who has the id can tell that it was forgotten, who has this cannot read the id.

    Raises:
        ValueError: the id is empty, which stands for nobody and for everybody unknown.
    """
    if not user:
        raise ValueError("a user's id must not be empty")
    return hashlib.blake2b(user.encode(), digest_size=16, person=b"longtail.forget").digest()
