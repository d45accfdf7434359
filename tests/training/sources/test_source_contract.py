"""What every source must do: one suite over all of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from ranking.features import stable_key
from ranking.layout import Layout
from ranking.text import text_digest
from tests.training.sources import tiny
from training.sources import SOURCES, canonical, online_shoppers, prepare

every_source = pytest.mark.parametrize("name", tiny.NAMES)
file_source = pytest.mark.parametrize("name", tiny.FILE_SOURCES)
CanonicalOf = Callable[[str], Path]


def test_the_suite_knows_every_source() -> None:
    """A source without tiny files would be tested by nobody."""
    assert {name.partition(",")[0] for name in tiny.NAMES} == set(SOURCES)


@every_source
def test_tables_keep_all_rules(canonical_of: CanonicalOf, name: str) -> None:
    """Columns, kinds, keys, references and ranges are those of the canonical tables."""
    assert canonical.problems(canonical_of(name)) == []


@every_source
def test_meta_says_what_was_written(canonical_of: CanonicalOf, name: str) -> None:
    """The source's name, a version, and the true number of rows of every file; with events, when they began and ended."""
    folder = canonical_of(name)
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["source"] == name.partition(",")[0]
    assert meta["version"]
    counted = {p.stem: duckdb.read_parquet(str(p)).count("*").fetchone()[0] for p in folder.glob("*.parquet")}
    assert meta["rows"] == counted
    assert min(counted.values()) > 0
    assert ("first_event" in meta) == ("events" in counted)


@every_source
def test_items_carry_the_keys_features_use(canonical_of: CanonicalOf, name: str) -> None:
    """Keys are `ranking`'s of the id, category and title; codes are dense in the order of the keys."""
    file = canonical_of(name) / "items.parquet"
    if not file.exists():
        assert name == "online_shoppers"  # the one source without items
        return
    rows = duckdb.sql(
        f"SELECT item_code, item_key, item_id, category_key, category, text_digest, title FROM '{file}' ORDER BY 1"
    ).fetchall()
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert [row[1] for row in rows] == sorted(stable_key(row[2]) for row in rows)
    assert all((row[3], row[5]) == (stable_key(row[4]), text_digest(row[6])) for row in rows)


@file_source
def test_a_path_is_asked_for(tmp_path: Path, name: str) -> None:
    """Without --path the error names the option and the files."""
    with pytest.raises(ValueError, match=r"say where with --path, .*(folder)"):
        prepare(Layout(tmp_path), name.partition(",")[0])


@pytest.mark.parametrize("name", ["completejourney", "imbalanced_shop"])
def test_a_path_is_refused_where_none_is_read(tmp_path: Path, name: str) -> None:
    """A source that brings its own data does not silently ignore --path."""
    with pytest.raises(ValueError, match=rf"--path: source '{name}' brings its own data"):
        prepare(Layout(tmp_path), name, tmp_path)


@file_source
def test_an_empty_folder_is_named(tmp_path: Path, name: str) -> None:
    """Where the file is not there, the error names it or its folder, and nothing is left behind."""
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "nothing")):
        prepare(Layout(tmp_path / "home"), name.partition(",")[0], tmp_path / "nothing")
    assert not (tmp_path / "home").exists()


@file_source
def test_preparing_again_reads_changed_files_only(tmp_path: Path, name: str) -> None:
    """Equal files are reused; a changed one is read again. The user's folder is left as it was."""
    raw, layout = tmp_path / "raw", Layout(tmp_path / "home")
    raw.mkdir()
    module, fill = tiny.FILE_SOURCES[name]
    fill(raw)
    before = {p.name: p.read_bytes() for p in raw.iterdir()}
    source = name.partition(",")[0]
    first, second = prepare(layout, source, raw), prepare(layout, source, raw)
    assert (first.reused, second.reused) == (False, True)
    assert {p.name: p.read_bytes() for p in raw.iterdir()} == before
    changed = module.files(raw)[-1]
    if changed.suffix == ".csv":
        changed.write_bytes(changed.read_bytes() + b"\n")
        assert not prepare(layout, source, raw).reused


REVIEW = f"{tiny.REVIEW_HEAD}\n1,7,60,Meh,,STARS,0,0,General,Tops,Blouses\n"
_SESSION = (*online_shoppers.NUMERIC, *online_shoppers.CATEGORICAL, "Revenue")
SESSION = ",".join(_SESSION) + "\n" + "1," * (len(_SESSION) - 1) + "REVENUE\n"
MISSING = [
    ("esci", "judgments.csv", "query,asin,esci_label\ntowel,A1,E\n", "judgments.csv line 2: not a judgment.*gain"),
    ("clothing_reviews", "reviews.csv", "Clothing ID,Age\n1,2\n", r"reviews\.csv: no column Title, .*Class Name; it has Clothing ID, Age"),
    ("online_shoppers", "sessions.csv", "Administrative,Revenue\n1,TRUE\n", r"sessions\.csv: no column .*PageValues.*; it has Admin"),
    ("own", "items.csv", "item_id,name\n1,Lamp\n", r"items\.csv: no column title; it has item_id, name"),
]
WRONG = [
    ("esci", "judgments.csv", "query,asin,gain\ntowel,Z9,1\n", r"judgments\.csv: product 'Z9' is not in products\.jsonl\.gz"),
    ("esci", "judgments.csv", "query,asin,gain\n", r"judgments\.csv: no judgment"),
    ("esci", "judgments.csv", "query,asin,gain\nmat,A1,1\nmat,A1,0\n", r"judgments\.query \+ item_id: must be unique \(1 rows repeat\)"),
    ("clothing_reviews", "reviews.csv", REVIEW.replace("STARS", "9"), r"reviews\.rating: must be BETWEEN 1 AND 5 \(1 rows\)"),
    ("clothing_reviews", "reviews.csv", REVIEW.replace("STARS", "many"), r"reviews\.csv: .*Rating: must be DOUBLE, is 'many' in row 1"),
    (
        "clothing_reviews",
        "reviews.csv",
        REVIEW.replace("STARS,0,0", "2,0.5,1.5"),
        r"IND: must be BIGINT, is '0.5' .*Count: .* is '1.5' in row 1",
    ),
    ("clothing_reviews", "reviews.csv", REVIEW.replace("1,7,60,Meh,,STARS", "1,,60,Meh,,2"), r"items\.item_id: is NULL \(1 rows\)"),
    ("clothing_reviews", "reviews.csv", f"{tiny.REVIEW_HEAD}\n", r"reviews: has no row"),
    ("online_shoppers", "sessions.csv", SESSION.replace("REVENUE", "0.4"), r"sessions\.csv: .*Revenue: must be BIGINT, is '0.4' in row 1"),
    ("online_shoppers", "sessions.csv", SESSION.replace("REVENUE", "2"), r"sessions\.label: must be BETWEEN 0 AND 1 \(1 rows\)"),
    ("online_shoppers", "sessions.csv", SESSION.partition("\n")[0], r"sessions: has no row"),
    ("own", "items.csv", "item_id,title,price\n1,Lamp,cheap\n", r"items\.price: must be DOUBLE, is 'cheap' in row 1 \(1 rows\)"),
    (
        "own",
        "events.csv",
        "event_id,event_time,user_id,item_id,event_type\n1,soon,ann,8,click\n",
        r"events\.event_time: must be TIMESTAMP WITH TIME ZONE, is 'soon' in row 1",
    ),
]


@pytest.mark.parametrize(("name", "file", "text", "message"), MISSING + WRONG)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, file: str, text: str, message: str) -> None:
    """A missing column or a value of the wrong kind: the error names the file, and the column or value."""
    raw = tmp_path / "raw"
    raw.mkdir()
    tiny.FILE_SOURCES[name][1](raw)
    (raw / file).write_text(text)
    where = raw / file if name in ("clothing_reviews", "online_shoppers") else raw
    with pytest.raises(ValueError, match=f"(?s){message}"):
        prepare(Layout(tmp_path / "home"), name, where)


@pytest.mark.parametrize("missing", [1, 8, 200])
@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        ("own", "items", "item_id,title\n" + "".join(f"{i},Lamp {i * i}\n" for i in range(2000))),
        (
            "own",
            "events",
            "event_id,event_time,user_id,item_id,event_type\n" + "".join(f"{i},2026-01-01,u{i},1,click\n" for i in range(2000)),
        ),
        ("clothing_reviews", "reviews", f"{tiny.REVIEW_HEAD}\n" + "".join(f"{i},{i * i},60,Meh,,5,0,0,A,B,C\n" for i in range(2000))),
        ("online_shoppers", "sessions", SESSION.replace("REVENUE", "1") + "".join("1," * 17 + f"{i % 2}\n" for i in range(2000))),
    ],
)
def test_a_truncated_gzip_file_is_damaged(tmp_path: Path, source: str, name: str, text: str, missing: int) -> None:
    """However little is cut off its end, the file is refused by name, though its rows can mostly be read."""
    file = tmp_path / f"{name}.csv.gz"
    file.write_bytes(gzip.compress(text.encode())[:-missing])
    with pytest.raises(ValueError, match=rf"{name}\.csv\.gz: damaged"):
        prepare(Layout(tmp_path / "home"), source, tmp_path if source == "own" else file)


@file_source
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    """Half a file: the error names it, and no half-made tables are left."""
    raw, layout = tmp_path / "raw", Layout(tmp_path / "home")
    raw.mkdir()
    module, fill = tiny.FILE_SOURCES[name]
    fill(raw)
    file = module.files(raw)[0]
    content = file.read_bytes()
    file.write_bytes(b"\xff\xfe" + content[len(content) // 2 :] if file.suffix == ".csv" else content[: len(content) // 2])
    with pytest.raises(ValueError, match=file.name):
        prepare(layout, name.partition(",")[0], raw)
    assert not layout.canonical(name.partition(",")[0]).exists()
