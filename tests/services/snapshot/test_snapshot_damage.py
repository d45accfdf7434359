"""A file that cannot be trusted is named with what is wrong with it, and nothing of it is served."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.snapshot.errors import InvalidSnapshotError
from services.snapshot.latest import Latest
from services.snapshot.layout import ITEMS, PAGE, Header
from services.snapshot.snapshot import Snapshot
from services.snapshot.writer import Writer
from tests.services.snapshot.catalogue import at, marked, marks

IDS = [f"i{i}" for i in range(20)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "items"
    build(path, 1)
    return path


def build(path: Path, mark: int) -> None:
    with Writer(path, clock=lambda: 50.0) as writer:
        writer.build(IDS, marked(IDS, mark), at(1.0, len(IDS)), {}, as_of=40.0)


def flip(content: bytes, at_byte: int) -> bytes:
    return content[:at_byte] + bytes([content[at_byte] ^ 1]) + content[at_byte + 1 :]


def header(content: bytes, **changes: object) -> bytes:
    """The content with a header that says something else, and a right checksum of it."""
    length = struct.unpack_from("<I", content, 8)[0]
    text = json.dumps(json.loads(content[16 : 16 + length]) | changes).encode()
    return (content[:8] + struct.pack("<II", len(text), zlib.crc32(text)) + text).ljust(PAGE, b"\0") + content[PAGE:]


STATE = {"writes": 0, "as_of": 8, "rows": 16}  # where the counts stand on the second page

DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "is no snapshot: 0 bytes, a header has 4096"),
    "something else": (lambda b: b"SQLite format 3\0" + b[16:], "is no snapshot: begins with b'SQLite f'"),
    "another format": (lambda b: b[:7] + b"\x63" + b[8:], "is of format 99, this process reads 2"),
    "damaged header": (lambda b: flip(b, 30), "has a damaged header: the checksum is wrong"),
    "strange header": (lambda b: header(b, colour="red"), "has a header that cannot be understood: .*colour"),
    "another schema": (
        lambda b: header(b, schema="0123456789abcdef"),
        f"is of feature schema 0123456789abcdef, this process has {ITEMS.schema}",
    ),
    "truncated": (lambda b: b[: 3 * PAGE], r"is truncated or longer than it was made: 12288 bytes instead of \d+"),
    "one byte short": (lambda b: b[:-1], "is truncated"),
    "longer": (lambda b: b + b"\0", "is truncated or longer"),
    "impossible count": (lambda b: b[: PAGE + 16] + b"\xff" * 8 + b[PAGE + 24 :], r"is damaged: \d+ rows where \d+ fit"),
    "damaged index": (lambda b: flip(b, 2 * PAGE), "has damaged rows: the checksum is wrong"),
    "damaged last byte": (lambda b: flip(b, len(b) - 1), "has damaged rows"),
    "the machine stopped": (
        lambda b: header(b, boot="another")[:PAGE] + b"\2" + b[PAGE + 1 :],
        "may be damaged: the machine stopped after",
    ),
}


@pytest.mark.parametrize(("damage", "why"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_refused(path: Path, damage: Callable[[bytes], bytes], why: str) -> None:
    """Each error begins with the file and says what is wrong; a writer says it too and makes a new one."""
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidSnapshotError, match=f"^{path}: .*{why}"):
        Snapshot.open(path)
    with Writer(path) as writer:
        assert writer.snapshot is None
        assert writer.problem.startswith(f"{path}: ")
    build(path, 2)
    assert marks(Snapshot.open(path).gather(IDS)[0]) == [{2.0}] * len(IDS)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """So is a folder in its place."""
    for absent in (tmp_path / "none", tmp_path):
        with pytest.raises(InvalidSnapshotError, match=f"^{absent}: cannot be read: "):
            Snapshot.open(absent)


def test_updated_rows_are_no_damage(path: Path) -> None:
    """The checksum is of the file as it was made; a row put since does not make it wrong."""
    with Writer(path) as writer:
        writer.put(IDS[:1], marked(IDS[:1], 3), at(2.0, 1), {})
        assert Snapshot.open(path).gather(IDS[:1])[2].all()


def test_a_header_is_read_as_it_was_written(path: Path) -> None:
    """Every field of it."""
    found = Header.from_bytes(path, path.read_bytes()[:PAGE])
    assert (found.schema, found.generation, found.created_at, found.rows) == (ITEMS.schema, 1, 50.0, 1 + len(IDS))
    other = replace(found, generation=9, source="x")
    assert Header.from_bytes(path, other.to_bytes()) == other


def test_the_last_good_file_serves_until_there_is_another(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bad file is logged and counted once, and what was read before stays; a good one takes its place later."""
    latest = Latest(path, clock=lambda: 100.0)
    assert (latest.current, latest.age_s) == (None, float("inf"))
    latest.poll()
    first = latest.current
    assert first is not None
    assert latest.age_s == 60.0
    good = path.read_bytes()
    bad = path.with_suffix(".bad")
    bad.write_bytes(flip(header(good, generation=2), len(good) - 1))
    bad.replace(path)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            latest.poll()
    assert (latest.current, latest.refused) == (first, 1)
    assert [r.getMessage() for r in caplog.records] == ["snapshot_refused"]
    path.unlink()
    latest.poll()
    assert latest.current is first
    build(path, 2)
    latest.poll()
    assert latest.current is not first
    assert marks(latest.current.gather(IDS)[0]) == [{2.0}] * len(IDS)  # type: ignore[union-attr]
    assert marks(first.gather(IDS)[0]) == [{1.0}] * len(IDS)  # whoever began with it goes on with it


def test_a_file_that_is_the_same_is_not_opened_again(path: Path) -> None:
    """Neither looking twice nor rows updated in place make another of it."""
    latest = Latest(path)
    latest.poll()
    first = latest.current
    with Writer(path) as writer:
        writer.put(IDS[:1], marked(IDS[:1], 3), at(2.0, 1), {})
        latest.poll()
    assert latest.current is first
    assert marks(first.gather(IDS[:1])[0]) == [{3.0}]  # type: ignore[union-attr]
