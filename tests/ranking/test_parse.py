"""Checked reading of single JSON values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from ranking.parse import integer, mapping, number, numbers, only, sequence, text, within


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
        (mapping, [1], "a: must be an object, got [1]"),
        (sequence, "ab", "a: must be a list, got 'ab'"),
        (sequence, {"x": 1}, "a: must be a list, got {'x': 1}"),
    ],
)
def test_anything_else_is_refused_by_key(read: Callable[[str, Any], Any], value: Any, message: str) -> None:
    """The error names the key, the position and the value."""
    with pytest.raises(ValueError, match=r".") as refused:
        read("a", value)
    assert str(refused.value) == message


def test_unknown_keys_and_whole_paths_are_named() -> None:
    """A misspelt key is refused beside the known ones; an error inside an object names the way to it."""
    only({"floor": 1}, ["floor", "ceiling"])
    with pytest.raises(ValueError, match=r"^flor: unknown key; known: floor, ceiling$"):
        only({"flor": 1, "floor": 2}, ["floor", "ceiling"])
    assert within("rules[0]", lambda: integer("share", 1)) == 1
    with pytest.raises(ValueError, match=r"^rules\[0\]\.share: must be a number"):
        within("rules[0]", lambda: integer("share", "1"))
    with pytest.raises(ValueError, match=r"^rules\[0\]: must be an object"):
        within("rules[0]", lambda: mapping("", 3))
