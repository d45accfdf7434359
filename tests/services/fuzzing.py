"""Messages nobody should send: valid ones with fields changed by their descriptors, and then bytes. One seed, one sequence."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

Make: TypeAlias = Callable[[], Message]

_TEXTS = (
    "", "u", "i0", "i1", "i7", "i4999", "i5000", "i-1", "none", "floors", "r1", "price_28d", "p_conversion", "on_display", "ice",
    "\x00", "\n", "'; DROP TABLE events; --", "../../etc/passwd", "%s%n", "ü" * 128, "🍕" * 64, "a" * 256, "a" * 257, "a" * 1025, "\u202ex",
    "NaN", "-1", "\ufeff", "e\u0301" * 40,
)  # fmt: skip
_FLOATS = (0.0, -0.0, 1.0, 0.5, -1.0, 1e-45, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 3.4e38)
_WHOLE: dict[int, tuple[int, int]] = {
    Field.TYPE_INT32: (-(2**31), 2**31 - 1),
    Field.TYPE_INT64: (-(2**63), 2**63 - 1),
    Field.TYPE_UINT32: (0, 2**32 - 1),
    Field.TYPE_UINT64: (0, 2**64 - 1),
    Field.TYPE_ENUM: (-(2**31), 2**31 - 1),
}


def messages(seed: int, seeds: Sequence[Make]) -> Iterator[tuple[int, bytes]]:
    """Endlessly: which of `seeds` it began as, and the bytes to send."""
    rng = random.Random(seed)
    while True:
        which = rng.randrange(len(seeds))
        message = seeds[which]()
        for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 8))):
            _change(message, rng)
        raw = message.SerializeToString()
        yield which, _damaged(raw, rng) if rng.random() < 0.3 else raw


def _change(message: Any, rng: random.Random) -> None:
    """One field of the message, or of one inside it, is set, emptied, repeated or cut."""
    field = rng.choice(message.DESCRIPTOR.fields)
    if rng.random() < 0.1:
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        entries = getattr(message, field.name)
        for _ in range(rng.choice((1, 1, 3, 40))):
            entries[f"{rng.choice(_TEXTS)}{rng.randrange(50)}"] = rng.choice(_TEXTS)
    elif field.is_repeated:
        _change_many(getattr(message, field.name), field, rng)
    elif field.type == Field.TYPE_MESSAGE:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _change(inner, rng)
    else:
        setattr(message, field.name, _value(field, rng))


def _change_many(values: Any, field: Field, rng: random.Random) -> None:
    what = rng.choice(("one", "one", "cut", "more", "many", "again"))
    if what == "cut":
        del values[rng.randrange(len(values) + 1) :]
    elif what == "again" and len(values):
        values.extend(list(values)[: rng.randrange(1, len(values) + 1)])
    elif field.type == Field.TYPE_MESSAGE:
        for _ in range(rng.choice((1, 1, 2, 70)) if what != "one" else 0):
            _change(values.add(), rng)
        if len(values):
            _change(values[rng.randrange(len(values))], rng)
    elif what == "one" and len(values):
        values[rng.randrange(len(values))] = _value(field, rng)
    else:
        values.extend(_value(field, rng) for _ in range(1200 if what == "many" and rng.random() < 0.1 else rng.randrange(4)))


def _value(field: Field, rng: random.Random) -> Any:
    if field.type == Field.TYPE_STRING:
        return rng.choice(_TEXTS) if rng.random() < 0.8 else "".join(chr(rng.randrange(1, 0xD800)) for _ in range(rng.randrange(300)))
    if field.type == Field.TYPE_BYTES:
        return rng.randbytes(rng.randrange(64))
    if field.type == Field.TYPE_BOOL:
        return rng.random() < 0.5
    if field.type in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        value = rng.choice(_FLOATS) if rng.random() < 0.7 else rng.gauss(0.0, 1e3)
        return value if field.type == Field.TYPE_DOUBLE else _narrow(value)
    low, high = _WHOLE[field.type]
    return rng.choice((0, 1, 2, 3, high, low, max(low, -1), rng.randrange(low, high + 1), rng.randrange(2000)))


def _narrow(value: float) -> float:
    """As a float32 that protobuf takes."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _damaged(raw: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut, put in, doubled, or all random."""
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0 if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                del out[at:]
            case 2:
                out[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                out += out[: rng.randrange(len(out) + 1)]
            case _ if rng.random() < 0.1:
                return rng.randbytes(rng.randrange(200))
    return bytes(out)
