"""Served rows against rows computed again: equal where nothing is wrong, and what is wrong is told column by column."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from ranking.features import ITEM_STATISTICS, MODEL_COLUMNS, REQUEST_COLUMNS, USER_BEHAVIOUR, USER_TASTE, VIEWS, View, schema_hash
from ranking.layout import Layout
from ranking.privacy import user_digest
from tests.training.tables.slices import Slice
from training.dataset import assemble_lists, point_in_time
from training.lists.impressions import ads_lists
from training.lists.queries import search_lists
from training.lists.types import RankingLists
from training.skew import Column, verify
from training.tables.tokens import Tokens

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # ibis calls old names of duckdb's API
KEY = b"k" * 32
AS_MANY = 1000
ANSWERED = np.datetime64("2100-01-10T12:00:00", "us")  # by the wall clock, after the tables were made; what is served is older, replayed
ONLINE = np.datetime64("2100-01-10T11:00:00", "us")  # when the tables were
SECOND = np.timedelta64(1, "s")


@pytest.fixture(scope="module")
def served(applied: Slice) -> list[dict[str, Any]]:
    """The log's rows of a few lists of both surfaces, answered by what training would have joined; the first list is nobody's."""
    rows = []
    for make in (ads_lists, search_lists):
        lists = make(applied.canonical, "test", count=4)
        lists = replace(lists, user_ids=("", *lists.user_ids[1:]))
        rows += _rows(applied.layout, lists)
    return rows


def _rows(layout: Layout, lists: RankingLists) -> list[dict[str, Any]]:
    x = assemble_lists(lists, point_in_time(layout, [lists]), Tokens()).x
    return [
        {
            "ranking_id": f"{lists.surface.value}-{g}",
            "owner": lists.user_ids[g],
            "time": ANSWERED,
            "as_of": lists.times[g],
            "user": user_digest(lists.user_ids[g], KEY),
            "item_id": lists.items[c],
            "query": lists.queries[g],
            "feature_schema_hash": schema_hash(),
            "features": x[i],
        }
        for i, (g, c) in enumerate(zip(lists.groups().tolist(), lists.item_codes.tolist(), strict=True))
    ]


@pytest.fixture
def layout(applied: Slice, tmp_path: Path) -> Layout:
    """A home of the test's own, for its log, over the same features."""
    home = Layout(tmp_path)
    (tmp_path / "features").symlink_to(applied.layout.features)
    home.feast.mkdir()
    shutil.copy(applied.layout.feast / "registry.db", home.feast)
    _materialised(home, {view.name: ONLINE for view in VIEWS})
    home.served_key.write_bytes(KEY)
    return home


def _materialised(layout: Layout, at: dict[str, np.datetime64], until: np.datetime64 = ANSWERED) -> None:
    """Feast's registry as it is after each of these views was materialised, by the wall clock, and none of the others ever."""
    from feast.protos.feast.core.Registry_pb2 import Registry

    path = layout.feast / "registry.db"
    registry = Registry.FromString(path.read_bytes())
    for view in registry.feature_views:
        del view.meta.materialization_intervals[:]
        if view.spec.name in at:
            view.meta.last_updated_timestamp.FromDatetime(at[view.spec.name].item())
            interval = view.meta.materialization_intervals.add()
            interval.start_time.FromDatetime(datetime(2000, 1, 1, tzinfo=UTC))
            interval.end_time.FromDatetime(until.item())
    path.write_bytes(registry.SerializeToString())


def _write(layout: Layout, rows: list[dict[str, Any]], name: str = "1") -> None:
    layout.served.mkdir(parents=True, exist_ok=True)
    columns = {k: [row[k] for row in rows] for k in rows[0]}
    for instant in ("time", "as_of"):
        columns[instant] = pa.array(np.array(columns[instant], "datetime64[us]")).cast(pa.timestamp("us", "UTC"))
    columns["features"] = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(columns["features"])), len(MODEL_COLUMNS))
    pq.write_table(pa.table(columns), layout.served / f"{name}.parquet")


def _changed(rows: list[dict[str, Any]], row: int, column: str, value: float) -> list[dict[str, Any]]:
    features = rows[row]["features"].copy()
    features[MODEL_COLUMNS.index(column)] = value
    return [*rows[:row], rows[row] | {"features": features}, *rows[row + 1 :]]


def test_equal_rows_have_no_skew(layout: Layout, served: list[dict[str, Any]]) -> None:
    """Lists of both surfaces, a user nobody knows among them, in several files: every value is the same bits."""
    half = next(i for i, row in enumerate(served) if row["ranking_id"].startswith("search"))
    _write(layout, served[:half], "1")
    _write(layout, served[half:], "2")
    found = verify(layout, rankings=AS_MANY)
    assert (found.mismatches, found.rankings, found.rows, found.unknown_users, found.other_schema) == (0, 8, len(served), 2, 0)
    assert {c.name for c in found.columns} == set(MODEL_COLUMNS) - {f.name for f in REQUEST_COLUMNS}


def test_each_kind_of_skew_is_told_by_its_column(layout: Layout, served: list[dict[str, Any]]) -> None:
    """A changed value, one that was lost and one that came from nowhere are counted apart, with how far off they are."""
    price, days = MODEL_COLUMNS.index("price_28d"), MODEL_COLUMNS.index("repeat_days")
    sold = [i for i, row in enumerate(served) if row["features"][price] > 0][:2]
    fresh = next(i for i, row in enumerate(served) if row["features"][days] == 999.0)
    rows = _changed(served, sold[0], "price_28d", 3 * served[sold[0]]["features"][price])
    rows = _changed(rows, sold[1], "price_28d", 0.0)
    rows = _changed(rows, fresh, "repeat_days", 2.0)
    _write(layout, rows)
    wrong = {c.name: c for c in verify(layout, rankings=AS_MANY).columns if c.mismatches}
    n = len(served)
    assert wrong == {
        "price_28d": Column("price_28d", 2, 1, 0, pytest.approx((2 / 2 + 1 / 0.5) / n)),  # (3p − p) / 2p, and p / (p / 2)
        "repeat_days": Column("repeat_days", 1, 0, 1, pytest.approx(997.0 / 500.5 / n)),
    }


def test_a_value_of_the_future_is_skew(layout: Layout, served: list[dict[str, Any]]) -> None:
    """Rows served by what was known a week later than they say do not pass."""
    early = [row | {"as_of": row["as_of"] - np.timedelta64(7, "D")} for row in served]
    _write(layout, early)
    found = verify(layout, rankings=AS_MANY)
    assert {"days_since_order", "purchases_all", "discovery"} <= {c.name for c in found.columns if c.mismatches}


def _push(layout: Layout, view: View, row: dict[str, Any], event_time: np.datetime64, pushed_at: np.datetime64) -> None:
    """A row as the feature process keeps it."""
    folder = layout.pushed_rows / view.name
    folder.mkdir(parents=True, exist_ok=True)
    instants = {name: pa.scalar(at.astype("datetime64[us]")) for name, at in (("event_timestamp", event_time), ("pushed_at", pushed_at))}
    columns = {name: pa.array([value]) for name, value in (row | instants).items()}
    columns |= {name: columns[name].cast(pa.timestamp("us", "UTC")) for name in instants}
    pq.write_table(pa.table(columns), folder / f"{len(list(folder.iterdir())):020d}-1.parquet")


def _batch_row(layout: Layout, view: View, key: str, as_of: np.datetime64) -> dict[str, Any]:
    rows = pq.read_table(layout.features / f"{view.name}.parquet", filters=[(f"{view.entity}_id", "=", key)]).to_pylist()
    return max((row for row in rows if row["event_timestamp"].replace(tzinfo=None) <= as_of.item()), key=lambda row: row["event_timestamp"])


def test_rows_pushed_between_batches_are_what_was_served(layout: Layout, served: list[dict[str, Any]]) -> None:
    """Of a user and an item: from when it was in the store, the newest that was; before, and of other features, the batch's."""
    rows = [row for row in served if row["ranking_id"] == served[-1]["ranking_id"]]
    user, as_of = rows[0]["owner"], rows[0]["as_of"]
    place, item = next((i, row["item_id"]) for i, row in enumerate(rows) if row["features"][MODEL_COLUMNS.index("purchases_all")] > 0)
    batch = _batch_row(layout, USER_BEHAVIOUR, user, as_of)
    for distinct, event_time, pushed_at in (
        (70.0, as_of + SECOND, ANSWERED - 3 * SECOND),
        (60.0, as_of, ANSWERED - 2 * SECOND),  # came late: the store kept the newer one
        (80.0, as_of + 2 * SECOND, ANSWERED + 2 * SECOND),  # was not there yet
        (90.0, as_of - np.timedelta64(60, "D"), ANSWERED - 2 * SECOND),  # older than the batch's
    ):
        _push(layout, USER_BEHAVIOUR, batch | {"distinct_items": distinct}, event_time, pushed_at)
    sold = _batch_row(layout, ITEM_STATISTICS, item, as_of)
    _push(layout, ITEM_STATISTICS, sold | {"discount_28d": 0.75}, as_of + SECOND, ANSWERED - 2 * SECOND)

    fresh = _changed(rows, place, "discount_28d", 0.75)
    for i in range(len(fresh)):
        fresh = _changed(fresh, i, "distinct_items", 70.0)
    _write(layout, fresh)
    assert verify(layout, rankings=AS_MANY).mismatches == 0
    _write(layout, rows)
    found = {c.name: c.mismatches for c in verify(layout, rankings=AS_MANY).columns if c.mismatches}
    assert found == {"discount_28d": 1, "distinct_items": len(rows)}
    _write(layout, [row | {"time": ANSWERED - 5 * SECOND} for row in rows])
    assert verify(layout, rankings=AS_MANY).mismatches == 0


@pytest.mark.parametrize("after", [-0.9, 0.9])
def test_about_a_push_either_row_is_right(layout: Layout, served: list[dict[str, Any]], after: float) -> None:
    """Features were read a moment before or after it: by the user's old row or the new one, and by each item's own; not by half of each."""
    rows = [row for row in served if row["ranking_id"] == served[-1]["ranking_id"]]
    user, as_of, pushed_at = rows[0]["owner"], rows[0]["as_of"], ANSWERED - np.timedelta64(round(1000 * after), "ms")
    sold = [i for i, row in enumerate(rows) if row["features"][MODEL_COLUMNS.index("purchases_all")] > 0][:2]
    _push(layout, USER_BEHAVIOUR, _batch_row(layout, USER_BEHAVIOUR, user, as_of) | {"distinct_items": 70.0}, as_of + SECOND, pushed_at)
    for i in sold:
        batch = _batch_row(layout, ITEM_STATISTICS, rows[i]["item_id"], as_of)
        _push(layout, ITEM_STATISTICS, batch | {"discount_28d": 0.75}, as_of + SECOND, pushed_at)

    newer = rows
    for i in range(len(rows)):
        newer = _changed(newer, i, "distinct_items", 70.0)
    for right in (rows, newer, _changed(newer, sold[0], "discount_28d", 0.75)):
        _write(layout, right)
        assert verify(layout, rankings=AS_MANY).mismatches == 0
    for wrong, column in (
        (_changed(rows, 0, "distinct_items", 70.0), "distinct_items"),
        (_changed(newer, sold[1], "discount_28d", 0.5), "discount_28d"),
    ):
        _write(layout, wrong)
        assert {c.name: c.mismatches for c in verify(layout, rankings=AS_MANY).columns if c.mismatches} == {column: 1}
    _write(layout, rows if after > 0 else newer)
    assert verify(layout, rankings=AS_MANY, visible_s=0.1).mismatches > 0


def test_a_user_only_events_know_is_found(layout: Layout, served: list[dict[str, Any]]) -> None:
    """The feature tables lack them; who they are is known from the rows that were pushed, and a file that is none of these is named."""
    as_of = served[0]["as_of"]
    batch = _batch_row(layout, USER_BEHAVIOUR, served[-1]["owner"], served[-1]["as_of"])
    _push(layout, USER_BEHAVIOUR, batch | {"user_id": "newcomer"}, as_of, ANSWERED)
    _write(layout, [row | {"user": user_digest("newcomer", KEY)} for row in served if row["ranking_id"] == served[0]["ranking_id"]])
    assert verify(layout, rankings=AS_MANY).unknown_users == 0
    pq.write_table(pa.table({"user_id": ["x"]}), layout.pushed_rows / USER_BEHAVIOUR.name / "00000000000000000009-1.parquet")
    with pytest.raises(ValueError, match=r"0009-1\.parquet: has no column event_timestamp"):
        verify(layout, rankings=AS_MANY)


def test_what_was_answered_before_the_tables_were_online_is_left_out(layout: Layout, served: list[dict[str, Any]]) -> None:
    """Between their making and the last view's materialisation other rows were online: counted, not compared; so while gateways follow."""
    stale = _changed(served, 0, "price_28d", 1e6)  # as another row would have it
    _write(layout, stale)
    late = {view.name: ONLINE for view in VIEWS} | {USER_TASTE.name: ANSWERED - 10 * SECOND}
    _materialised(layout, late)
    found = verify(layout, rankings=AS_MANY)
    assert (found.rankings, found.mismatches, found.left_out, found.not_online) == (0, 0, 0, 8)
    assert found.online_since == (ANSWERED - 10 * SECOND).astype(np.int64)
    assert verify(layout, rankings=AS_MANY, settle_s=5).mismatches == 1
    _materialised(layout, {name: at for name, at in late.items() if name != USER_TASTE.name})
    found = verify(layout, rankings=AS_MANY, settle_s=0)
    assert (found.rankings, found.mismatches, found.not_online, found.online_since) == (0, 0, 8, None)
    _materialised(layout, late | {USER_TASTE.name: np.datetime64("2001-01-01", "us")})  # of tables that were there before
    assert verify(layout, rankings=AS_MANY, settle_s=0).online_since is None


def test_a_later_apply_passes_for_no_materialisation(layout: Layout, served: list[dict[str, Any]]) -> None:
    """Feast stamps views then too. What we wrote down counts, unless others materialised to another instant since."""
    _write(layout, served)
    made = {view.name: [0, int(ANSWERED.astype(np.int64))] for view in VIEWS}  # before the tables
    layout.materialised.write_text(json.dumps(made))
    assert verify(layout, rankings=AS_MANY).online_since is None
    when = int((ONLINE - 60 * SECOND).astype(np.int64))
    layout.materialised.write_text(json.dumps({name: [when, until] for name, (_, until) in made.items()}))
    found = verify(layout, rankings=AS_MANY)
    assert (found.online_since, found.rankings, found.mismatches) == (when, 8, 0)
    layout.materialised.write_text(json.dumps({name: [0, until - 1] for name, (_, until) in made.items()}))
    assert verify(layout, rankings=AS_MANY, settle_s=1e9).online_since == ONLINE.astype(np.int64)


def test_what_asked_for_rows_that_were_not_brought_online_is_left_out(layout: Layout, served: list[dict[str, Any]]) -> None:
    """The tables go on beyond what was materialised: of later instants the online store had older rows, of earlier ones the same."""
    instants = sorted({row["as_of"] for row in served})
    _write(layout, served)
    _materialised(layout, {view.name: ONLINE for view in VIEWS}, until=instants[-1] - SECOND)
    found = verify(layout, rankings=AS_MANY)
    last = {row["ranking_id"] for row in served if row["as_of"] == instants[-1]}
    assert (found.mismatches, found.not_online, found.rankings) == (0, len(last), 8 - len(last))


def test_only_the_latest_of_this_schema_are_compared(layout: Layout, served: list[dict[str, Any]]) -> None:
    """Asked for two rankings it compares the last two of the last file; rows of another schema are counted and left out."""
    _write(layout, served, "1")
    other = [row | {"feature_schema_hash": "0" * 16} for row in served[:5]]
    _write(layout, [*served, *other], "2")
    found = verify(layout, rankings=2)
    last = list(dict.fromkeys(row["ranking_id"] for row in served))[-2:]
    assert (found.rankings, found.other_schema) == (2, 5)
    assert found.rows == sum(row["ranking_id"] in last for row in served)


def test_files_without_a_row_of_ours_are_passed_over(layout: Layout, served: list[dict[str, Any]]) -> None:
    """The latest files have no row at all, and rows of another schema only: rankings of older files are compared; alone they are none."""
    _write(layout, [row | {"feature_schema_hash": "0" * 16} for row in served[:5]], "2")
    empty = pq.read_table(layout.served / "2.parquet")[:0]
    pq.write_table(empty, layout.served / "3.parquet")
    alone = verify(layout, rankings=AS_MANY)
    assert (alone.rankings, alone.rows, alone.other_schema, alone.mismatches) == (0, 0, 5, 0)
    _write(layout, served, "1")
    found = verify(layout, rankings=AS_MANY)
    assert (found.rankings, found.rows, found.other_schema, found.mismatches) == (8, len(served), 5, 0)


def test_what_is_not_there_is_named(layout: Layout, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """No log, a file that is none of the log's, no key: an error that names it."""
    with pytest.raises(FileNotFoundError, match="nothing was served yet"):
        verify(layout, rankings=AS_MANY)
    _write(layout, [{k: v for k, v in row.items() if k != "user"} for row in served[:3]])
    with pytest.raises(ValueError, match=r"1\.parquet: has no column user"):
        verify(layout, rankings=AS_MANY)
    _write(layout, served)
    layout.served_key.unlink()
    with pytest.raises(FileNotFoundError, match="key of the served log"):
        verify(layout, rankings=AS_MANY)


def test_the_command_ends_with_the_verdict(layout: Layout, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """`longtail features verify` prints a line per column and JSON last; its exit status is 1 where anything differs."""
    monkeypatch.setenv("LONGTAIL_HOME", str(layout.home))
    _write(layout, served)
    equal = CliRunner().invoke(app, ["features", "verify"])
    assert equal.exit_code == 0, equal.output
    assert json.loads(equal.stdout.splitlines()[-1]) == {
        "rankings": 8,
        "rows": len(served),
        "mismatches": 0,
        "left_out": 0,
        "not_online": 0,
        "oldest": "2100-01-10T12:00:00+00:00",
        "newest": "2100-01-10T12:00:00+00:00",
    }
    _write(layout, _changed(served, 0, "age_days", -1.0))
    unequal = CliRunner().invoke(app, ["features", "verify"])
    assert unequal.exit_code == 1
    assert json.loads(unequal.stdout.splitlines()[-1])["mismatches"] == 1
    assert "age_days" in unequal.stdout
    _materialised(layout, {})
    nothing = CliRunner().invoke(app, ["features", "verify"])
    assert nothing.exit_code == 0, nothing.output
    assert "8 rankings were answered by other rows than the tables', which are not in the online store" in nothing.stdout
    assert "longtail features materialize" in nothing.stdout
