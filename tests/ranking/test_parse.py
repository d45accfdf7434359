"""Checked reading of single JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from ranking.parse import integer, number, numbers, text


def test_what_json_calls_a_number_is_one() -> None:
    """Integers and floats pass as floats, whole floats as integers, lists as tuples."""
    assert number("a", 3) == 3.0
    assert math.isinf(number("a", math.inf))
    assert (integer("a", 3.0), type(integer("a", 3.0))) == (3, int)
    assert integer("a", 2**62 + 1) == 2**62 + 1  # never through a float
    assert numbers("a", [1, 2.5]) == (1.0, 2.5)
    assert text("a", "x") == "x"


@pytest.mark.parametrize(
    ("read", "value", "message"),
    [
        (number, "3", "a: must be a number, got '3'"),
        (number, True, "a: must be a number, got True"),
        (number, None, "a: must be a number, got None"),
        (integer, 3.5, "a: must be a whole number, got 3.5"),
        (integer, math.nan, "a: must be a whole number, got nan"),
        (integer, math.inf, "a: must be a whole number, got inf"),
        (numbers, "12", "a: must be a list of numbers, got '12'"),
        (numbers, [1, "x"], "a[1]: must be a number, got 'x'"),
        (text, "", "a: must be a non-empty string, got ''"),
        (text, 1, "a: must be a non-empty string, got 1"),
    ],
)
def test_anything_else_is_refused_by_key(read: Callable[[str, Any], Any], value: Any, message: str) -> None:
    """The error names the key, the position and the value."""
    with pytest.raises(ValueError, match=r".") as refused:
        read("a", value)
    assert str(refused.value) == message
