"""Bearer tokens: what is kept of them, which count, and how they are taken back."""

from __future__ import annotations

import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli import app
from ranking.errors import Unauthenticated, UnknownName
from services.rpc.settings import InvalidSettingError
from services.rpc.tokens import Scope, Tokens, create, read, revoke

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RANK = frozenset({Scope.RANK})
NIL = "0" * 64  # nobody's digest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_the_file_holds_a_digest_and_no_secret(path: Path) -> None:
    """SHA-256 of the whole token; neither it nor its secret part is in the file, which only its owner may read."""
    text = create(path, "shop", RANK, now=NOW)
    (entry,) = json.loads(path.read_text())["tokens"]
    assert entry["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert text.split("_", 2)[2] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_token_has_256_bits_of_its_own(path: Path) -> None:
    """43 characters of base64 each; of twenty none is another's, and all are found."""
    made = [create(path, f"c{i}", RANK, now=NOW) for i in range(20)]
    assert len({text.split("_", 2)[2] for text in made}) == 20
    assert all(len(text.split("_", 2)[2]) == 43 for text in made)
    tokens = Tokens(path)
    assert [tokens.find(text, NOW).name for text in made] == [f"c{i}" for i in range(20)]


def test_what_is_not_whole_does_not_count(path: Path) -> None:
    """Another secret, another id, a prefix, nothing at all, text of any kind: Unauthenticated, and the token is not in the message."""
    text = create(path, "shop", RANK, now=NOW)
    tokens = Tokens(path)
    head, own, secret = text.split("_", 2)
    for wrong in (
        f"{head}_{own}_{secret[:-1]}",
        f"{head}_{'0' * 12}_{secret}",
        f"xx_{own}_{secret}",
        own,
        "",
        "ü" * 1000,
        f"{head}_{own}_",
    ):
        with pytest.raises(Unauthenticated) as caught:
            tokens.find(wrong, NOW)
        assert secret[:8] not in str(caught.value)


def test_a_token_counts_until_it_expires(path: Path) -> None:
    """The second before its time is over it does, then no more."""
    text = create(path, "shop", RANK, now=NOW, expires=NOW + timedelta(days=1))
    tokens = Tokens(path)
    assert tokens.find(text, NOW + timedelta(hours=23)).scopes == RANK
    with pytest.raises(Unauthenticated, match="'shop' expired at 2026-01-02"):
        tokens.find(text, NOW + timedelta(days=1))


def test_tokens_are_taken_back_by_id_or_by_name(path: Path) -> None:
    """An id takes one of two of the same name, the name the other; a third stays; what is not there is named."""
    texts = [create(path, name, RANK, now=NOW) for name in ("shop", "shop", "other")]
    assert [t.name for t in revoke(path, texts[0].split("_")[1])] == ["shop"]
    assert len(read(path)) == 2
    revoke(path, "shop")
    assert [t.name for t in read(path).values()] == ["other"]
    with pytest.raises(UnknownName, match="'shop' is not known; known: other"):
        revoke(path, "shop")


def test_a_running_process_follows_the_file(path: Path) -> None:
    """Absent: none is asked for. Then created, added to and revoked: known at the next look, a second later."""
    tokens = Tokens(path)
    assert not tokens.required(0.0)
    text = create(path, "shop", RANK, now=NOW)
    assert not tokens.required(0.5)
    assert tokens.required(1.0)
    assert tokens.find(text, NOW).name == "shop"
    revoke(path, "shop")
    assert tokens.required(2.0)
    with pytest.raises(Unauthenticated):
        tokens.find(text, NOW)


def test_a_file_that_goes_or_breaks_opens_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Deleted or damaged while running: those known before go on, and it is logged."""
    text = create(path, "shop", RANK, now=NOW)
    tokens = Tokens(path)
    path.write_text("{")
    assert tokens.required(1.0)
    path.unlink()
    assert tokens.required(2.0)
    assert tokens.find(text, NOW).name == "shop"
    assert caplog.messages == ["tokens_refused", "tokens_gone"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "cannot be read as JSON"),
        ([], 'one key "tokens"'),
        ({"tokens": [], "more": 1}, 'one key "tokens"'),
        ({"tokens": [5]}, "tokens[0]: must be an object"),
        ({"tokens": [{"scope": "rank"}]}, "tokens[0].scope: is not known; known: id, name, scopes"),
        ({"tokens": [{"id": "a"}]}, "tokens[0].name: is required"),
        ({"tokens": [{"id": "a", "name": "n", "scopes": ["all"], "sha256": NIL, "created": "2026-01-01T00:00:00Z"}]}, "'all' is not known"),
        ({"tokens": [{"id": "a", "name": "n", "scopes": [], "sha256": NIL, "created": "now"}]}, "must be RFC 3339"),
        ({"tokens": [{"id": "a", "name": "n", "scopes": [], "sha256": NIL, "created": "2026-01-01"}]}, "must say their time zone"),
    ],
)
def test_a_wrong_file_is_refused_and_the_key_named(path: Path, content: Any, why: str) -> None:
    """A process does not start on it."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InvalidSettingError) as caught:
        Tokens(path)
    assert str(caught.value).startswith(str(path))
    assert why in str(caught.value)


@pytest.mark.parametrize(("name", "scopes", "why"), [("", RANK, "name"), ("a\n", RANK, "name"), ("shop", frozenset(), "scopes")])
def test_a_token_needs_a_name_and_a_scope(path: Path, name: str, scopes: frozenset[Scope], why: str) -> None:
    """Nothing is written otherwise."""
    with pytest.raises(ValueError, match=f"^{why}: "):
        create(path, name, scopes, now=NOW)
    assert not path.exists()


def test_the_command_line_makes_lists_and_takes_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Created with two scopes, it counts; listed without its secret; revoked, it is gone; a scope nobody has is named."""
    monkeypatch.setenv("LONGTAIL_TOKENS", str(path))
    runner = CliRunner()
    made = runner.invoke(app, ["tokens", "create", "shop", "--scope", "rank", "--scope", "feedback", "--days", "9"])
    text = made.output.strip()
    assert Tokens(path).find(text, datetime.now(UTC)).scopes == {Scope.RANK, Scope.FEEDBACK}
    listed = runner.invoke(app, ["tokens", "list"]).output
    assert "shop" in listed
    assert "feedback, rank" in listed
    assert text.split("_", 2)[2] not in listed
    assert "revoked" in runner.invoke(app, ["tokens", "revoke", "shop"]).output
    assert not read(path)
    refused = runner.invoke(app, ["tokens", "create", "shop", "--scope", "all"])
    assert refused.exit_code == 1
    assert "scope: 'all' is not known; known: admin, feedback, rank" in refused.output


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        *(({"scopes": scopes}, r"tokens[0].scopes: ") for scopes in (5, None, [[]], "rank", {"rank": 1})),
        *(({"sha256": digest}, r"tokens[0].sha256: ") for digest in ("ü" * 64, None, "0" * 63, "A" * 64)),
        *(({"id": own}, r"tokens[0].id: ") for own in (None, {}, "")),
        *(({"name": name}, r"tokens[0].name: ") for name in (None, "", "a\nb", "x" * 129)),
    ],
)
def test_an_entry_written_by_hand_is_refused_and_not_tripped_over(path: Path, wrong: dict[str, Any], why: str) -> None:
    """At the start and while it is followed: what was known before goes on, and the call that found it is answered."""
    text = create(path, "shop", RANK, now=NOW)
    tokens = Tokens(path)
    (entry,) = json.loads(path.read_text())["tokens"]
    path.write_text(json.dumps({"tokens": [entry | wrong]}))
    with pytest.raises(InvalidSettingError) as caught:
        read(path)
    assert f"{path}: {why}" in str(caught.value)
    assert tokens.required(1e9)
    assert tokens.find(text, NOW).name == "shop"


@pytest.mark.parametrize("content", ["[" * 100_000, "{", "[]"])
def test_a_file_that_is_no_list_of_tokens_changes_nothing(path: Path, content: str) -> None:
    """However deep it is."""
    text = create(path, "shop", RANK, now=NOW)
    tokens = Tokens(path)
    path.write_text(content)
    assert tokens.required(1e9)
    assert tokens.find(text, NOW).name == "shop"


def test_an_id_is_one_tokens(path: Path) -> None:
    """Of two entries one would count for nothing, whichever it is."""
    create(path, "shop", RANK, now=NOW)
    (entry,) = json.loads(path.read_text())["tokens"]
    path.write_text(json.dumps({"tokens": [entry, entry | {"name": "other"}]}))
    with pytest.raises(InvalidSettingError, match=r"tokens\[1\].id: .* is there twice"):
        read(path)


def test_whoever_changes_the_file_undoes_nothing(path: Path) -> None:
    """Thirty tokens made at once are all there; a file that is not there gets no lock beside it."""
    with pytest.raises(InvalidSettingError):
        revoke(path, "shop")
    assert list(path.parent.iterdir()) == []
    with ThreadPoolExecutor(10) as threads:
        made = list(threads.map(lambda i: create(path, f"c{i}", RANK, now=NOW), range(30)))
    assert {text.split("_")[1] for text in made} == set(read(path))


def test_a_file_nobody_can_look_at_is_not_taken_for_absent(tmp_path: Path) -> None:
    """Else the door would stand open, e.g. in a folder whose rights are wrong; here the name is too long for the file system."""
    with pytest.raises(InvalidSettingError, match="cannot be read: File name too long"):
        Tokens(tmp_path / ("t" * 300))
