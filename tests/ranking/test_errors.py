"""The domain's errors: they name what is wrong."""

from __future__ import annotations

from ranking.errors import InvalidField, InvalidFields, InvalidRelease, LongtailError, NotReady, Unavailable, UnknownName


def test_every_error_is_one_of_ours() -> None:
    """A caller can tell what the platform raised on purpose from a bug by one base class."""
    for kind in (InvalidField, InvalidFields, UnknownName, InvalidRelease, Unavailable, NotReady):
        assert issubclass(kind, LongtailError)


def test_the_message_begins_with_the_field() -> None:
    """Field or key first, then the reason; several at once are joined in their order."""
    one, two = InvalidField("top_k", "must be at least 1"), InvalidField("query", "is too long")
    assert str(one) == "top_k: must be at least 1"
    both = InvalidFields([one, two])
    assert str(both) == "top_k: must be at least 1; query: is too long"
    assert both.violations == (one, two)
    assert str(InvalidRelease("members[0].sha256", "differs")) == "members[0].sha256: differs"


def test_an_unknown_name_says_which_are_known() -> None:
    """The names that would have worked stand in the message, sorted, or "none"."""
    unknown = UnknownName("policy", "x", ["b", "a"])
    assert str(unknown) == "policy: 'x' is not known; known: a, b"
    assert unknown.known == ("a", "b")
    assert str(UnknownName("release", "x", [])) == "release: 'x' is not known; known: none"
