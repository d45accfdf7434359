"""Feature tables that go on from older ones equal those computed from the beginning."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ranking.features import SIDE_VIEWS, VIEWS
from ranking.layout import Layout
from tests.training.tables.shops import STARTS, WEEKS, Line, Shop, shops, write_shop
from training import tables
from training.stage import stage
from training.tables import embeddings

FILES = (*(view.name for view in (*VIEWS, *SIDE_VIEWS)), "history", "first_shown")
MICROSECOND = timedelta(microseconds=1)
SHOP = Shop(
    tuple(
        Line(user=n % 4, basket=n, item=n * 7 % 9, at=STARTS[0] + timedelta(hours=29 * n), quantity=1, cents=100 + n, discount=n)
        for n in range(40)
    ),
    frozenset((week, week % 2, week) for week in range(1, 8)),
)


def _until(shop: Shop, cut: datetime) -> Shop:
    """What had happened before `cut`."""
    return Shop(tuple(line for line in shop.lines if line.at < cut), frozenset(p for p in shop.promotions if STARTS[p[0] - 1] < cut))


def _write(shop: Shop, folder: Path, until: datetime, older: Path | None = None) -> Path:
    """Feature tables in `folder` of a shop as it was at `until`."""
    for part in ("canonical", "features"):
        (folder / part).mkdir(parents=True)
    write_shop(_until(shop, until), folder / "canonical")
    tables.write_tables(folder / "canonical", folder / "features", first_week=2, last_week=WEEKS, until=until, older=older)
    return folder / "features"


def _meta(features: Path) -> dict[str, Any]:
    return dict(json.loads((features / "meta.json").read_text()))


def _check_same(grown: Path, full: Path) -> None:
    for name in FILES:
        ours, theirs = (pq.read_table(folder / f"{name}.parquet") for folder in (grown, full))
        assert ours.equals(theirs), name
        assert _meta(grown)["rows"][name] == len(ours)
    assert _meta(full)["grown_from"] is None
    assert _meta(grown) | {"grown_from": None} == _meta(full)


def _check_grown(shop: Shop, cuts: list[datetime]) -> None:
    with tempfile.TemporaryDirectory() as name:
        home, older = Path(name), None
        for i, cut in enumerate([*cuts, STARTS[-1]]):
            features = _write(shop, home / str(i), cut, older)
            assert _meta(features)["watermark"] == cut.isoformat()
            assert _meta(features)["grown_from"] == (_meta(older)["last"] if older else None)
            older = features
        _check_same(features, _write(shop, home / "full", STARTS[-1]))


_CUTS = st.lists(
    st.integers(0, (STARTS[-1] - STARTS[1]) // MICROSECOND - 1).map(lambda us: STARTS[1] + us * MICROSECOND)
    | st.sampled_from(STARTS[1:-1]),
    min_size=1,
    max_size=3,
    unique=True,
).map(sorted)
_SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow])


@settings(_SLOW, max_examples=2, phases=[Phase.generate])
@given(shops(), _CUTS)
def test_runs_from_watermark_to_watermark_equal_one_full_run(shop: Shop, cuts: list[datetime]) -> None:
    """Wherever the runs stop, in the middle of a week too, all rows are those of one run over the whole history, bit for bit."""
    _check_grown(shop, cuts)


@pytest.mark.exhaustive
@settings(_SLOW, max_examples=60)
@given(shops(), _CUTS)
def test_very_many_runs_from_watermark_to_watermark_equal_one_full_run(shop: Shop, cuts: list[datetime]) -> None:
    """The same, looked for longer."""
    _check_grown(shop, cuts)


def test_a_run_every_day_equals_one_full_run(tmp_path: Path) -> None:
    """Four daily runs, of which one comes upon a new week, leave what one run over all of it leaves."""
    days = [STARTS[1] + timedelta(days=n) for n in range(5, 9)]
    _write(SHOP, tmp_path / "0", days[0])
    for n, day in enumerate(days[1:], 1):
        _write(SHOP, tmp_path / str(n), day, tmp_path / str(n - 1) / "features")
    _check_same(tmp_path / "3" / "features", _write(SHOP, tmp_path / "full", days[3]))


@pytest.mark.parametrize(
    "change",
    [
        lambda shop: replace(shop, lines=(*shop.lines, replace(shop.lines[0], basket=99, at=STARTS[1] - MICROSECOND))),
        lambda shop: replace(shop, lines=(replace(shop.lines[0], cents=1), *shop.lines[1:])),
        lambda shop: replace(shop, promotions=shop.promotions | {(1, 0, 3)}),
    ],
    ids=["a late purchase", "a corrected price", "a promotion nobody told of"],
)
def test_a_changed_past_is_computed_anew(tmp_path: Path, change: Any) -> None:
    """Rows are kept only while what they were computed from is what it was."""
    older = _write(SHOP, tmp_path / "older", STARTS[3])
    grown = _write(change(SHOP), tmp_path / "grown", STARTS[4], older)
    assert _meta(grown)["grown_from"] is None
    assert not pq.read_table(grown / "item_statistics.parquet")[: _meta(older)["rows"]["item_statistics"]].equals(
        pq.read_table(older / "item_statistics.parquet")
    )


@pytest.fixture(scope="module")
def two_weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(SHOP, tmp_path_factory.mktemp("two_weeks"), STARTS[2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda meta: "{",
        lambda meta: json.dumps({k: v for k, v in meta.items() if k != "past"}),
        lambda meta: json.dumps(meta | {"recipe": "another code's"}),
        lambda meta: json.dumps(meta | {"first": STARTS[0].isoformat()}),
        lambda meta: json.dumps(meta | {"last": (STARTS[2] + MICROSECOND).isoformat()}),
        lambda meta: json.dumps(meta | {"last": "soon"}),
    ],
    ids=["no JSON", "no digest", "another recipe", "another first week", "no snapshot of ours", "no instant"],
)
def test_tables_that_cannot_be_trusted_are_not_grown(tmp_path: Path, two_weeks: Path, spoil: Any) -> None:
    """Whatever is wrong with the older tables' meta file, everything is computed anew."""
    older = tmp_path / "older"
    shutil.copytree(two_weeks, older)
    (older / "meta.json").write_text(spoil(_meta(older)))
    assert _meta(_write(SHOP, tmp_path / "grown", STARTS[2], older))["grown_from"] is None


def test_a_run_that_fails_leaves_the_old_tables_and_the_next_goes_on_from_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watermark moves with the tables or not at all."""
    layout = Layout(tmp_path / "home")

    def compute(until: datetime, *, full: bool = False) -> Path:
        source = stage(layout.canonical("shop"), {"until": until.isoformat()}, lambda out: write_shop(_until(SHOP, until), out))
        return tables.compute(layout, source, first_week=2, last_week=WEEKS, until=until, full=full).path

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    before = _meta(compute(STARTS[2]))
    with monkeypatch.context() as broken:
        broken.setattr(tables, "write_taste", fail)
        with pytest.raises(OSError, match="disk full"):
            compute(STARTS[4])
    assert _meta(layout.features) == before
    assert sorted(path.name for path in layout.home.iterdir()) == ["data", "features"]
    assert _meta(compute(STARTS[4]))["grown_from"] == before["last"]
    assert _meta(compute(STARTS[4]))["grown_from"] == before["last"]  # reused: nothing to do
    assert _meta(compute(STARTS[4], full=True))["grown_from"] is None


def test_the_batch_takes_over_the_texts_that_were_read(tmp_path: Path) -> None:
    """What `longtail features embed` once read is in the tables of every later run, and nothing where nothing was."""
    layout = Layout(tmp_path / "home")
    source = stage(layout.canonical("shop"), {}, lambda out: write_shop(SHOP, out))

    def embedded() -> int:
        tables.compute(layout, source, first_week=2, last_week=WEEKS, full=True)
        return pq.read_metadata(layout.features / "item_embedding.parquet").num_rows

    assert embedded() == 0
    profile = layout.features / "item_profile.parquet"
    read = embeddings.read_texts(profile, layout.embeddings, lambda texts: np.ones((len(texts), 384), np.float32))
    assert read > 0
    assert embedded() == sum(digest != 0 for digest in pq.read_table(profile)["text_digest"].to_pylist())


def test_a_watermark_before_the_first_snapshot_is_an_error(tmp_path: Path) -> None:
    """The message names the argument and the first instant there could be."""
    with pytest.raises(ValueError, match=r"until: 2017-01-01.* is before the first snapshot, 2017-02-20T05"):
        _write(SHOP, tmp_path, datetime(2017, 1, 1, tzinfo=UTC))
