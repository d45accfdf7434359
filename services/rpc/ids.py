"""Random ids: 128 bits from the kernel as 32 hexadecimal digits.

Drawn 256 at a time: the system call lets go of the interpreter's lock, and on a busy server another thread takes it each time.
"""

from __future__ import annotations

import os

_BYTES, _DRAWN = 16, 256
_left: list[str] = []
os.register_at_fork(after_in_child=_left.clear)  # or both would give out the same


def new_id() -> str:
    """One that nobody has had. Safe on any thread."""
    try:
        return _left.pop()
    except IndexError:
        digits = os.urandom(_BYTES * _DRAWN).hex()
        first, *rest = (digits[at : at + 2 * _BYTES] for at in range(0, len(digits), 2 * _BYTES))
        _left.extend(rest)
        return first
