"""Who may move traffic: the holder of one token, of which this machine keeps the SHA-256 alone. Knows no transport."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from deploy.files import write_atomically


class Refused(Exception):  # noqa: N818  named after what happened, like the errors of ranking.errors
    """The caller showed no token, or another one."""


def issue(path: Path) -> str:
    """A new token, the only one that counts from now on; its digest replaces the one in `path`.

    Returns:
        The token, which nobody can be told again.
    """
    token = secrets.token_urlsafe(32)
    write_atomically(path, hashlib.sha256(token.encode()).hexdigest() + "\n")
    return token


def check(path: Path, shown: str) -> None:
    """Let the holder of the token pass. The file is read at every call, so that a new token counts at once.

    Args:
        path: the digest's file.
        shown: what the caller says, `Bearer TOKEN`.

    Raises:
        Refused: saying what is missing, never what would be right.
    """
    try:
        digest = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise Refused("no token was issued for this service; `longtail release token` issues one") from None
    kind, _, token = shown.partition(" ")
    if kind != "Bearer" or not token:
        raise Refused("needs the metadata `authorization: Bearer TOKEN`")
    if not hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest().encode(), digest.encode()):
        raise Refused("the token is not the one that was issued last")
