"""How logs know a user: by a keyed digest. Whoever has a log but not the key can neither tell whose it is nor test a guess."""

from __future__ import annotations

import hashlib


def user_digest(user_id: str, key: bytes) -> str:
    """32 hex digits that stand for the user; empty for no user.

    Args:
        user_id: may be empty.
        key: secret, at most 64 bytes.
    """
    return hashlib.blake2b(user_id.encode(), key=key, digest_size=16).hexdigest() if user_id else ""
