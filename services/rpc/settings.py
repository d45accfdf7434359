"""Settings of a process: one frozen dataclass from command line and environment, with the key named where a value makes no sense.

Each field's environment variable is `LONGTAIL_<FIELD>` and its option `--<field>`; the command line wins. A field's metadata has its help.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from services.rpc.ports import is_loopback

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MOST = 1e12
"""Of any number: what is beyond is a slip, and as a time in nanoseconds none any more."""
_REDIS_URLS = ("redis://", "rediss://", "unix://")
T = TypeVar("T", bound="DataclassInstance")


class InvalidSettingError(ValueError):
    """A setting makes no sense; the message names its environment variable."""


def variable(name: str) -> str:
    """The environment variable of a field."""
    return f"LONGTAIL_{name.upper()}"


def moment(name: str, text: str) -> float | None:
    """Seconds since 1970 of a setting that is an instant; None where it is empty.

    Raises:
        InvalidSettingError: naming the variable.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSettingError(f"{variable(name)}: must be RFC 3339, e.g. 2017-11-19T00:00:00Z, got {text!r}") from None
    if found.tzinfo is None:
        raise InvalidSettingError(f"{variable(name)}: must say its time zone, e.g. end in Z, got {text!r}")
    return found.timestamp()


def check_redis(name: str, url: str) -> None:
    """Refuse what is neither empty nor the URL of a Redis.

    Raises:
        InvalidSettingError: naming the variable.
    """
    shown = _without_secrets(url)
    if url and not url.startswith(_REDIS_URLS):
        raise InvalidSettingError(f"{variable(name)}: must be empty or begin with {', '.join(_REDIS_URLS)}, got {shown!r}")
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise InvalidSettingError(f"{variable(name)}: must name a port from 0 to 65535, or none, got {shown!r}") from None


def _without_secrets(url: str) -> str:
    """What may be told of a URL, right or wrong: nothing before its last @, as a password may have any sign in it, and no parameters."""
    shown = re.sub(r"^(\w+:(?=//))?.*@", lambda found: f"{found[1] or ''}//…@", url, flags=re.DOTALL)
    return re.sub(r"\?.*", "?…", shown, flags=re.DOTALL)


def check_reach(name: str, address: str, *, insecure: bool, guarded: bool = False) -> None:
    """Refuse an address without credentials that other machines can reach.

    Args:
        name: the setting's.
        address: `host:port`, or "off".
        insecure: `insecure_beyond_loopback`: it is meant so.
        guarded: clients need a certificate.

    Raises:
        InvalidSettingError: naming both variables.
    """
    if address != "off" and not insecure and not guarded and not is_loopback(address):
        why = (
            f"other machines could reach {address!r} without credentials; if that is meant, set {variable('insecure_beyond_loopback')}=true"
        )
        raise InvalidSettingError(f"{variable(name)}: {why}")


def load(kind: type[T], program: str, description: str, argv: Sequence[str], environ: Mapping[str, str]) -> T:
    """Settings from the command line, else the environment, else the defaults; paths become absolute.

    Raises:
        InvalidSettingError: naming the variable.
        SystemExit: an option is unknown, or help was asked for.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description)
    for f in fields(kind):
        parser.add_argument(f"--{f.name.replace('_', '-')}", help=f"{f.metadata['help']} ({variable(f.name)}, default {f.default})")
    given = {k: v for k, v in vars(parser.parse_args(argv)).items() if v is not None}
    values: dict[str, Any] = {}
    for f in fields(kind):
        text = given.get(f.name, environ.get(variable(f.name), ""))
        value = _parse(f.name, text, type(f.default)) if text != "" else f.default
        values[f.name] = value.absolute() if isinstance(value, Path) else value
    return kind(**values)


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise InvalidSettingError(f"{variable(name)}: must be true or false, got {text!r}")
        return text.lower() in ("true", "1")
    try:
        return kind(text)
    except ValueError:
        raise InvalidSettingError(f"{variable(name)}: must be {'a whole number' if kind is int else 'a number'}, got {text!r}") from None
