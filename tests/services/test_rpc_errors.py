"""One table from exceptions to codes."""

from __future__ import annotations

from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from ranking import errors as domain
from services.rpc import errors


def test_every_domain_error_has_a_code_of_its_own() -> None:
    """No error raised on purpose can become INTERNAL."""
    raised = [c for c in vars(domain).values() if isinstance(c, type) and issubclass(c, domain.LongtailError)]
    assert {c for c in raised if c is not domain.LongtailError} == set(errors.CODES)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (domain.InvalidField("query", "too long"), grpc.StatusCode.INVALID_ARGUMENT),
        (domain.UnknownName("policy", "x", ["a"]), grpc.StatusCode.NOT_FOUND),
        (domain.NotReady("no release"), grpc.StatusCode.UNAVAILABLE),
        (ZeroDivisionError("secret"), grpc.StatusCode.INTERNAL),
    ],
)
def test_the_status_follows_the_table(error: Exception, code: grpc.StatusCode) -> None:
    """Code and message come from the table; a bug's text stays inside."""
    status = errors.to_status(error)
    assert status.code == code.value[0]
    assert ("secret" in status.message) is False


def test_an_unknown_name_says_which_resource() -> None:
    """NOT_FOUND carries a google.rpc.ResourceInfo with the field and the name."""
    info = error_details_pb2.ResourceInfo()
    assert errors.to_status(domain.UnknownName("policy", "x", ["a"])).details[0].Unpack(info)
    assert (info.resource_type, info.resource_name) == ("policy", "x")


def test_details_fit_the_trailers_however_much_is_wrong() -> None:
    """Thousands of violations stay far below the 8 kB a client accepts, and those left out are counted."""
    found = domain.InvalidFields([domain.InvalidField(f"candidates.item_ids[{i}]", "ü" * 200) for i in range(1000)])
    status = errors.to_status(found)
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    assert len(status.SerializeToString()) < 6000
    shown = len(bad.field_violations) - 1
    assert bad.field_violations[-1].description == f"and {1000 - shown} more violations from here on"


@given(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.integers(1, 1000),
    st.integers(1, 60),
)
def test_the_trailers_stay_within_6_kb_for_any_text(field: str, reason: str, repeat: int, count: int) -> None:
    """Message percent-encoded and status in base64 take at most 6,000 bytes together, and the first violation is always named."""
    status = errors.to_status(domain.InvalidFields([domain.InvalidField(field * repeat, reason * repeat)] * count))
    bad = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(bad)
    printable = "".join(chr(c) for c in range(ord(" "), ord("~") + 1) if chr(c) != "%")
    assert len(quote(status.message, safe=printable)) + (status.ByteSize() + 2) // 3 * 4 <= 6000
    assert bad.field_violations[0].description.startswith(reason[:10])


@pytest.mark.parametrize("letter", ["a", "%", "ü", "🍕"])
def test_a_message_is_cut_only_where_it_must_be(letter: str) -> None:
    """A message that fits is whole; one letter more and it ends in an ellipsis."""
    taken = 1 if letter == "a" else 3 * len(letter.encode())
    fits = letter * (1000 // taken)
    assert errors.to_status(domain.NotReady(fits)).message == fits
    cut = errors.to_status(domain.NotReady(fits + letter)).message
    assert cut == letter * ((1000 - 3 * len("…".encode())) // taken) + "…"
