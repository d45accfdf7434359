"""Columns from values as Feast keeps them: each the bytes of one `feast.types.Value` message.

The few shapes the schema's types have are read straight from the bytes, a column at a time; whatever looks different goes through the
message's own parser, so that nothing is guessed. Knows neither Feast nor any store.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from ranking.features import Dtype
from ranking.types import Float32Array

Stored: TypeAlias = bytes | None  # None or nothing at all: the store has no value
Parse: TypeAlias = Callable[[bytes], Any]  # of `feast.types.Value`

# A field's number << 3 | its wire type, as it stands before the value.
_FLOAT, _STRING, _FLOAT_LIST = 0x35, 0x12, b"\x82\x01"
_VAL = 0x0A  # the only field of a list message
_NAN = bytes([_FLOAT]) + struct.pack("<f", np.nan)
_NO_FLOATS = np.empty(0, np.float32)


def column(dtype: Dtype, stored: Sequence[Stored], parse: Parse) -> Sequence[Any] | Float32Array:
    """(n,) values: numbers as a float32 array with NaN where there is none, anything else as a list with None.

    Args:
        dtype: as the schema declares it.
        stored: (n,)
        parse: the message's parser.
    """
    if dtype == "float32":
        return _floats(stored, parse)
    read = {"string": _text, "float32_list": _float_list}.get(dtype, _parsed)
    known: dict[Stored, Any] = {value: read(value, parse) if value else None for value in set(stored)}
    return [known[value] for value in stored]


def _floats(stored: Sequence[Stored], parse: Parse) -> Float32Array:
    filled = [value or _NAN for value in stored]
    if {len(value) for value in filled} <= {len(_NAN)}:
        table = np.frombuffer(b"".join(filled), np.uint8).reshape(-1, len(_NAN))
        if (table[:, 0] == _FLOAT).all():
            return np.ascontiguousarray(table[:, 1:]).view("<f4").ravel()
    parsed = [_parsed(value, parse) for value in filled]
    return np.array([np.nan if value is None else value for value in parsed], np.float32)


def _text(value: bytes, parse: Parse) -> Any:
    if value[0] == _STRING and len(value) < 128 and value[1] == len(value) - 2:  # its length takes one byte
        return value[2:].decode()
    return _parsed(value, parse)


def _float_list(value: bytes, parse: Parse) -> Any:
    if value == _FLOAT_LIST + b"\0":
        return _NO_FLOATS
    if value[:2] == _FLOAT_LIST:
        length, at = _varint(value, 2)
        if at + length == len(value) and value[at] == _VAL:
            count, at = _varint(value, at + 1)
            if at + count == len(value) and count % 4 == 0:
                return np.frombuffer(value, "<f4", count // 4, at)
    return _parsed(value, parse)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def _parsed(value: bytes, parse: Parse) -> Any:
    """What the message holds; a list's repeated field; None when unset."""
    message = parse(value)
    kind = message.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    held = getattr(message, kind)
    return held.val if kind.endswith("list_val") else held
