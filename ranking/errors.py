"""The domain's errors. They name a field or key and know no transport: `services/rpc/errors.py` maps them to status codes."""

# ruff: noqa: N818 (InvalidRelease, NotReady … read as what happened; an Error suffix would say nothing more)

from __future__ import annotations


class LongtailError(Exception):
    """Every error the platform raises on purpose."""


class InvalidField(LongtailError):
    """A caller's value is wrong.

    Attributes:
        field: path of the offending field as the caller wrote it, e.g. ``candidates.bid_micros[3]``.
        reason: what is wrong and what would be right.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class InvalidFields(LongtailError):
    """Several fields of one request are wrong; all are reported at once."""

    def __init__(self, violations: list[InvalidField]) -> None:
        super().__init__("; ".join(str(v) for v in violations))
        self.violations = tuple(violations)


class UnknownName(LongtailError):
    """A policy, release or model was asked for by a name that does not exist."""

    def __init__(self, field: str, name: str, known: list[str]) -> None:
        super().__init__(f"{field}: {name!r} is not known; known: {', '.join(sorted(known)) or 'none'}")
        self.field = field
        self.name = name
        self.known = tuple(sorted(known))


class InvalidRelease(LongtailError):
    """A release directory or manifest cannot be trusted.

    Attributes:
        key: path of the offending manifest key or file, e.g. ``members[0].sha256``.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.reason = reason


class Superseded(LongtailError):
    """The release that another was made from is no longer the active one."""

    def __init__(self, base: str, active: str | None) -> None:
        super().__init__(f"{active} became active instead of {base} meanwhile")


class Unavailable(LongtailError):
    """A dependency (model server, feature store, event log) did not answer; the caller degrades, or tries again later."""


class NotReady(LongtailError):
    """No release is active, so nothing can be ranked yet."""


class OutOfTime(LongtailError):
    """The caller's deadline came before a dependency answered."""


class Overloaded(LongtailError):
    """There is no room, or no time, for this call now; the same call may succeed later.

    Attributes:
        retry_s: seconds after which trying again makes sense.
    """

    def __init__(self, reason: str, retry_s: float) -> None:
        super().__init__(reason)
        self.retry_s = retry_s


class OverQuota(Overloaded):
    """The caller has had what it may ask for; whether there is room for others is not said."""


class Unauthenticated(LongtailError):
    """Nobody knows who calls: there are no credentials, or none that count."""


class Forbidden(LongtailError):
    """The caller is known, and may not do this.

    Attributes:
        scope: what its credentials would have to include.
    """

    def __init__(self, reason: str, scope: str) -> None:
        super().__init__(reason)
        self.scope = scope
