"""Bearer tokens: made, kept as digests, looked up, taken back. One JSON file, written whole and renamed.

A token is `lt_<id>_<secret>`; the id finds the entry, 256 random bits of secret prove it. What is kept is the SHA-256 of the whole token,
with neither salt nor a slow hash: those protect secrets that people choose, of which there are few enough to try them all. Of 2**256 there
are not, and a slow hash would let anybody without a token spend the processor. Digests are compared in constant time; where nobody
has the id something is compared all the same, so that the time does not tell which ids exist.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from ranking.errors import Unauthenticated, UnknownName
from services.rpc.settings import InvalidSettingError

log = logging.getLogger(__name__)
_PREFIX = "lt"
_NOBODY = hashlib.sha256(b"").hexdigest()
_KEYS = ("id", "name", "scopes", "sha256", "created", "expires")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST = 128  # characters of a name
_LOOK_S = 1.0  # a token taken back is of no use this much later


class Scope(StrEnum):
    """What a token is good for."""

    RANK = "rank"
    FEEDBACK = "feedback"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """One entry of the file; the secret is not in it."""

    id: str
    name: str  # of the caller, in limits, metrics and errors
    scopes: frozenset[Scope]
    sha256: str
    created: datetime
    expires: datetime | None = None


def scopes(names: Sequence[str]) -> frozenset[Scope]:
    """Scopes by name.

    Raises:
        UnknownName: one is none.
    """
    for name in names:
        if name not in set(Scope):
            raise UnknownName("scope", name, list(Scope))
    return frozenset(map(Scope, names))


def create(path: Path, name: str, good_for: frozenset[Scope], *, now: datetime, expires: datetime | None = None) -> str:
    """Add a token; gives its text, which is nowhere else.

    Raises:
        ValueError: the name is empty, too long or not printable, or there is no scope.
        InvalidSettingError: the file is not what it should be.
    """
    if not 0 < len(name) <= _LONGEST or not name.isprintable():
        raise ValueError(f"name: must be 1 to {_LONGEST} printable characters, got {name!r}")
    if not good_for:
        raise ValueError(f"scopes: need at least one of {', '.join(Scope)}")
    own = secrets.token_hex(6)
    text = f"{_PREFIX}_{own}_{secrets.token_urlsafe(32)}"
    with _alone(path):
        known = read(path) if path.exists() else {}
        _write(path, {**known, own: Token(own, name, good_for, _digest(text), now, expires)})
    return text


def revoke(path: Path, which: str) -> list[Token]:
    """Take back the token with this id, or all of this name.

    Raises:
        UnknownName: there is none.
        InvalidSettingError: the file is not what it should be.
    """
    read(path)  # a file that is not there gets no lock beside it
    with _alone(path):
        known = read(path)
        gone = [token for token in known.values() if which in (token.id, token.name)]
        if not gone:
            raise UnknownName("token", which, [t.name for t in known.values()])
        _write(path, {own: token for own, token in known.items() if token not in gone})
    return gone


def read(path: Path) -> dict[str, Token]:
    """The file's tokens by id.

    Raises:
        InvalidSettingError: naming the file and the key.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidSettingError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(found, dict) or set(found) != {"tokens"} or not isinstance(found["tokens"], list):
        raise InvalidSettingError(f'{path}: must be an object with the one key "tokens", a list')
    known: dict[str, Token] = {}
    for i, entry in enumerate(found["tokens"]):
        token = _token(f"{path}: tokens[{i}]", entry)
        if token.id in known:
            raise InvalidSettingError(f"{path}: tokens[{i}].id: {token.id!r} is there twice")
        known[token.id] = token
    return known


class Tokens:
    """The tokens of a file, as of a moment ago. A file that is there makes a token a must; once seen, it stays one."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            InvalidSettingError: it is there and not what it should be, or nobody can say whether it is.
        """
        self._path = path
        self._looked = float("-inf")
        try:
            self._seen = self._stamp()
        except OSError as error:  # taken for absent, it would leave the door open
            raise InvalidSettingError(f"{path}: cannot be read: {error.strerror}") from None
        self._known: Mapping[str, Token] | None = None if self._seen is None else read(path)

    def required(self, now: float) -> bool:
        """Whether callers need one; looks at the file once a second.

        Args:
            now: monotonic seconds.
        """
        if now - self._looked >= _LOOK_S:
            self._looked = now
            self._follow()
        return self._known is not None

    def find(self, text: str, at: datetime) -> Token:
        """The entry of a token.

        Raises:
            Unauthenticated: it is none, was taken back, or its time is over.
        """
        prefix, _, rest = text.partition("_")
        entry = (self._known or {}).get(rest.partition("_")[0]) if prefix == _PREFIX else None
        same = hmac.compare_digest(_digest(text), entry.sha256 if entry else _NOBODY)
        if entry is None or not same:
            raise Unauthenticated("the bearer token is not known here: it is not whole, or was revoked")
        if entry.expires is not None and entry.expires <= at:
            raise Unauthenticated(f"the bearer token of {entry.name!r} expired at {entry.expires.isoformat()}")
        return entry

    def _follow(self) -> None:
        try:
            stamp = self._stamp()
        except OSError:
            stamp = None
        if stamp == self._seen:
            return
        self._seen = stamp
        if stamp is None:  # gone: whoever deletes it must not open the door
            log.error("tokens_gone", extra={"path": str(self._path)})
            return
        try:
            self._known = read(self._path)
        except InvalidSettingError as error:  # those known before go on
            log.error("tokens_refused", extra={"detail": str(error)})
        else:
            log.info("tokens_read", extra={"path": str(self._path), "tokens": len(self._known)})

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            said = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return said.st_mtime_ns, said.st_size, said.st_ino


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _token(at: str, entry: Any) -> Token:
    if not isinstance(entry, dict):
        raise InvalidSettingError(f"{at}: must be an object")
    for key in entry:
        if key not in _KEYS:
            raise InvalidSettingError(f"{at}.{key}: is not known; known: {', '.join(_KEYS)}")
    for key in _KEYS[:-1]:
        if key not in entry:
            raise InvalidSettingError(f"{at}.{key}: is required")
    for key in ("id", "name"):
        if not isinstance(entry[key], str) or not 0 < len(entry[key]) <= _LONGEST or not entry[key].isprintable():
            raise InvalidSettingError(f"{at}.{key}: must be 1 to {_LONGEST} printable characters")
    if not isinstance(entry["sha256"], str) or not _DIGEST.fullmatch(entry["sha256"]):
        raise InvalidSettingError(f"{at}.sha256: must be 64 hexadecimal digits in lower case")
    if not isinstance(entry["scopes"], list):
        raise InvalidSettingError(f"{at}.scopes: must be a list of {', '.join(Scope)}")
    for scope in entry["scopes"]:
        if scope not in list(Scope):
            raise InvalidSettingError(f"{at}.scopes: {scope!r} is not known; known: {', '.join(Scope)}")
    try:
        expires = None if entry.get("expires") is None else datetime.fromisoformat(entry["expires"])
        created = datetime.fromisoformat(entry["created"])
    except (TypeError, ValueError):
        raise InvalidSettingError(f"{at}: created and expires must be RFC 3339") from None
    if any(moment is not None and moment.tzinfo is None for moment in (created, expires)):
        raise InvalidSettingError(f"{at}: created and expires must say their time zone")
    return Token(entry["id"], entry["name"], frozenset(map(Scope, entry["scopes"])), entry["sha256"], created, expires)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile: of two who do at once the later would undo the earlier, and bring back what was revoked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, tokens: Mapping[str, Token]) -> None:
    entries = [
        {
            "id": t.id,
            "name": t.name,
            "scopes": sorted(t.scopes),
            "sha256": t.sha256,
            "created": t.created.astimezone(UTC).isoformat(timespec="seconds"),
            "expires": None if t.expires is None else t.expires.astimezone(UTC).isoformat(timespec="seconds"),
        }
        for t in tokens.values()
    ]
    draft = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:  # readable by nobody else
        json.dump({"tokens": entries}, out, indent=1)
        out.write("\n")
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)
