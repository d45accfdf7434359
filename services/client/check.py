"""What a client's arguments must be before a message is made of them, each error naming the field. Limits are the server's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from ranking.errors import InvalidField

T = TypeVar("T")
_BEYOND = 2**1024  # the least whole number that is no float any more, nor infinite: that is for the server to refuse
_SHOWN = 100  # characters of a wrong value in an error
_LONGEST_S = 315_576_000_000.0  # of a google.protobuf.Duration: 10,000 years


def typed(field: str, value: object, *types: type) -> None:
    """Of one of the types; a bool is none of the numbers.

    Raises:
        InvalidField: it is not.
    """
    if not isinstance(value, types) or isinstance(value, bool):
        raise InvalidField(field, f"must be {' or '.join(t.__name__ for t in types)}, got {shown(value)}")


def text(field: str, value: object) -> None:
    """A text that UTF-8 can carry.

    Raises:
        InvalidField: it is none.
    """
    typed(field, value, str)
    try:
        str(value).encode()
    except UnicodeEncodeError as wrong:
        raise InvalidField(field, f"is no text: {wrong.reason} at {wrong.start}, got {shown(value)}") from None


def texts(field: str, values: Iterable[str]) -> list[str]:
    """Several texts.

    Raises:
        InvalidField: it is one text, or one of them is none, named by its place.
    """
    found: list[str] = several(field, values)
    try:
        "".join(found).encode()  # a thousand at once: one by one they would take as long as the message itself
    except (TypeError, UnicodeEncodeError):
        for i, value in enumerate(found):
            text(f"{field}[{i}]", value)
    return found


def numbers(field: str, values: Iterable[float], *, whole_below: int = 0) -> list[float]:
    """Several numbers, of Python or numpy.

    Args:
        field: its name.
        values: they.
        whole_below: 0: any numbers; else whole ones of a smaller magnitude.

    Raises:
        InvalidField: it is one thing, or one of them is no such number, named by its place.
    """
    found: list[float] = several(field, values)
    kind: type = Integral if whole_below else Real
    for i, value in enumerate(found):
        if isinstance(value, bool) or not isinstance(value, kind):
            raise InvalidField(f"{field}[{i}]", f"must be a {'whole ' if whole_below else ''}number, got {shown(value)}")
        if (whole_below or isinstance(value, int)) and abs(value) >= (whole_below or _BEYOND):
            raise InvalidField(f"{field}[{i}]", f"{shown(value)} is beyond what the wire can carry")
    return found


def all_of(field: str, values: Sequence[T], kind: type[T]) -> list[T]:
    """Several messages of a kind.

    Raises:
        InvalidField: it is one message, or one of them is of another kind, named by its place.
    """
    found: list[T] = several(field, values)
    for i, value in enumerate(found):
        typed(f"{field}[{i}]", value, kind)
    return found


def several(field: str, values: Any) -> list[Any]:
    """A list of what there are several of; a text is one thing and not its characters, a mapping not its keys.

    Raises:
        InvalidField: it is one thing.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidField(field, f"must be a list, got {shown(values)}")
    if isinstance(values, np.ndarray):
        if values.ndim != 1:
            raise InvalidField(field, f"must have one dimension, got an array of shape {values.shape}")
        found: list[Any] = values.tolist()
        return found
    return list(values)


def number(field: str, value: object) -> None:
    """One number that a float can hold, of Python.

    Raises:
        InvalidField: it is none.
    """
    typed(field, value, float, int)
    if isinstance(value, int) and abs(value) >= _BEYOND:
        raise InvalidField(field, f"{shown(value)} is beyond what the wire can carry")


def shown(value: object) -> str:
    """A value as an error tells it: of a very long one the beginning."""
    try:
        text = repr(value)
    except ValueError:  # of a whole number with thousands of digits
        return f"a {type(value).__name__} of thousands of digits"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def duration_s(field: str, value: object) -> float:
    """Seconds that the wire can carry.

    Raises:
        InvalidField: they are none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LONGEST_S:
        raise InvalidField(field, f"must be a number of seconds, got {shown(value)}")
    return float(value)
