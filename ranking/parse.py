"""Checked reading of JSON values: the error names the key, so that a person can find it in the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ranking.errors import InvalidRelease

T = TypeVar("T")


def number(key: str, value: Any) -> float:
    """The value as a float; a string, a boolean or anything else that JSON does not call a number is refused.

    Raises:
        ValueError: naming the key.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key}: must be a number, got {value!r}")
    return float(value)


def numbers(key: str, values: Any) -> tuple[float, ...]:
    """A JSON list of numbers as a tuple.

    Raises:
        ValueError: naming the key, with the position where one entry is wrong.
    """
    if not isinstance(values, list | tuple):
        raise ValueError(f"{key}: must be a list of numbers, got {values!r}")
    return tuple(number(f"{key}[{i}]", v) for i, v in enumerate(values))


def integer(key: str, value: Any) -> int:
    """The value as an int; 3.0 is one, 3.5, "3" and true are not.

    Raises:
        ValueError: naming the key.
    """
    as_float = number(key, value)
    if not as_float.is_integer():
        raise ValueError(f"{key}: must be a whole number, got {value!r}")
    return int(value)


def text(key: str, value: Any) -> str:
    """A string that says something.

    Raises:
        ValueError: naming the key.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: must be a non-empty string, got {value!r}")
    return value


def text_of(data: Mapping[str, Any], key: str) -> str:
    """`data[key]`, a string that says something.

    Raises:
        InvalidRelease: naming the key; KeyError: it is not there.
    """
    value = data[key]
    if not isinstance(value, str) or not value:
        raise InvalidRelease(key, f"must be a non-empty string, got {value!r}")
    return value


def inside(data: Mapping[str, Any]) -> str:
    """`data["path"]`, which stays inside the release directory.

    Raises:
        InvalidRelease: naming the key; KeyError: it is not there.
    """
    path = text_of(data, "path")
    if path.startswith("/") or ".." in path.split("/"):
        raise InvalidRelease("path", f"must stay inside the release directory, got {path!r}")
    return path


def mapping(key: str, value: Any) -> Mapping[str, Any]:
    """A JSON object.

    Raises:
        ValueError: naming the key.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}: must be an object, got {value!r}")
    return value


def sequence(key: str, value: Any) -> Sequence[Any]:
    """A JSON list.

    Raises:
        ValueError: naming the key.
    """
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key}: must be a list, got {value!r}")
    return value


def only(data: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Refuse keys that nobody reads: a misspelt one would otherwise be a default unnoticed.

    Raises:
        ValueError: naming the first unknown key and the known ones.
    """
    known = list(keys)
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ValueError(f"{unknown[0]}: unknown key; known: {', '.join(known)}")


def within(key: str, build: Callable[[], T]) -> T:
    """What `build` makes; its error names the full key.

    Raises:
        ValueError: `build`'s, with `key` before the key it names.
    """
    try:
        return build()
    except ValueError as wrong:
        raise ValueError(f"{key}.{wrong}" if not str(wrong).startswith(":") else f"{key}{wrong}") from None
