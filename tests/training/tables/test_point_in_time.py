"""Features through the real Feast: what training joins, what the online store serves, and that both say the same."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from ranking.assemble import arrays, user_features
from ranking.features import (
    FEATURE_SERVICES,
    ITEM_SCALARS,
    ITEM_STATISTICS,
    MAX_QUERY_TOKENS,
    MODEL_COLUMNS,
    USER_BEHAVIOUR,
    USER_SCALARS,
    USER_SESSION,
    VIEWS,
)
from ranking.layout import Layout
from tests.training.tables.slices import Slice
from training.dataset import FeastError, Features, assemble_lists, materialised, point_in_time
from training.lists.impressions import ads_lists
from training.lists.queries import search_lists
from training.lists.retrieval import retrieval_scores, retrieve
from training.lists.types import RankingLists
from training.online import alive, apply
from training.tables.tokens import Tokens

pytestmark = [pytest.mark.servers, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # ibis calls old names of duckdb's API
_LISTS = ("history", "categories", "types", "makers")
AS_OF = datetime(2017, 12, 25, 5, tzinfo=UTC)  # the start of week 53


@pytest.fixture(scope="module")
def lists(applied: Slice) -> tuple[RankingLists, ...]:
    return tuple(make(applied.canonical, "test", count=60) for make in (ads_lists, search_lists))


@pytest.fixture(scope="module")
def features(applied: Slice, lists: tuple[RankingLists, ...]) -> Features:
    return point_in_time(applied.layout, lists)


def test_joined_values_equal_an_independent_asof_join(applied: Slice, lists: tuple[RankingLists, ...], features: Features) -> None:
    """Every value of every (item, time) and (user, time) equals DuckDB's own join of the feature files, default where it has none."""
    ads = lists[0]
    pairs = {(ads.items[c], t) for g, c in zip(ads.groups(), ads.item_codes, strict=True) for t in [ads.times[g]]}
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute("CREATE TABLE asked (item_id VARCHAR, asked_at TIMESTAMPTZ)")
        db.executemany("INSERT INTO asked VALUES (?, ?)", [(i, t.astype(datetime).replace(tzinfo=UTC)) for i, t in sorted(pairs)])
        names, defaults = zip(*((f.name, f.default) for f in ITEM_STATISTICS if f.dtype == "float32"), strict=True)
        alive = ", ".join(f"CASE WHEN a.asked_at - s.event_timestamp <= INTERVAL 14 DAY THEN s.{n} END" for n in names)
        found = db.execute(f"""
            SELECT a.item_id, epoch_us(a.asked_at), {alive}
            FROM asked a ASOF LEFT JOIN '{applied.layout.features}/item_statistics.parquet' s
            ON a.item_id = s.item_id AND a.asked_at >= s.event_timestamp""").fetchall()
    code = {name: c for c, name in enumerate(ads.items)}
    columns = [ITEM_SCALARS.index(n) for n in names]
    assert len(found) == len(pairs) > 100
    for item, at, *values in found:
        row = features.items.rows(np.datetime64(at, "us"), np.array([code[item]], np.int32))
        known = [default if value is None else value for value, default in zip(values, defaults, strict=True)]
        assert features.items.block.scalars[row[0], columns].tolist() == known
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        for i, user in enumerate(ads.user_ids):
            at = ads.times[i].astype(datetime).replace(tzinfo=UTC)
            table = db.execute(
                f"SELECT * FROM '{applied.layout.features}/user_behaviour.parquet' WHERE user_id = ? AND event_timestamp = ?", [user, at]
            ).to_arrow_table()
            expected = user_features(table.to_pylist()[0])
            got = features.users.at(user, ads.times[i])
            behaviour = [USER_SCALARS.index(f.name) for f in USER_BEHAVIOUR if f.dtype == "float32"]
            assert got.scalars[behaviour].tolist() == expected.scalars[behaviour].tolist()
            for (name, ours), theirs in zip(arrays(got).items(), arrays(expected).values(), strict=True):
                if name.startswith(_LISTS):
                    assert np.array_equal(ours, theirs), name
            assert got.interest_text == expected.interest_text != ""


def test_vectors_that_meet_are_of_one_factorisation(applied: Slice, lists: tuple[RankingLists, ...], features: Features) -> None:
    """At a list's time the user's vector and those of all its items are of the snapshot taken then, or there is none: items not sold
    lately too, for every snapshot has all it knows."""
    vectors = 0
    for part in lists:
        for i, (start, end) in enumerate(zip(part.offsets[:-1], part.offsets[1:], strict=True)):
            stamp = int(part.times[i].astype("datetime64[s]").astype(np.int64))
            user = features.users.at(part.user_ids[i], part.times[i])
            block = features.items.block.take(features.items.rows(part.times[i], part.item_codes[start:end]))
            assert user.taste_at in (0, stamp)
            assert set(block.taste_at.tolist()) <= {0, stamp}
            assert ((block.taste_at == stamp) == block.taste.any(axis=1)).all()
            vectors += int((block.taste_at == stamp).sum())
    assert vectors > 100


def test_a_row_older_than_its_lifetime_is_worth_nothing(applied: Slice, lists: tuple[RankingLists, ...]) -> None:
    """Three weeks after the last snapshot every behaviour and statistic is its default; profiles, which do not age, remain."""
    late = replace(lists[0], times=np.full(len(lists[0]), np.datetime64("2018-01-22T05:00", "us")))
    found = point_in_time(applied.layout, [late])
    assert all(user.interest_text == "" and len(user.history.keys) == 0 for user in found.users.rows.values())
    assert all(user.taste_at == 0 and not user.taste.any() for user in found.users.rows.values())
    assert (found.items.block.tiers == 2).all()
    assert not found.items.block.taste_at.any()
    assert (found.items.block.text_digests != 0).any()


def test_assembled_lists_are_complete_and_finite(lists: tuple[RankingLists, ...], features: Features) -> None:
    """One row per candidate in order, no NaN; repeat purchases and query words are found."""
    for part in lists:
        x = assemble_lists(part, features, Tokens())
        assert x.x.shape == (len(part.labels), len(MODEL_COLUMNS))
        assert np.isfinite(x.x).all()
        assert x.token_ids.shape[0] == len(x.text_digests) == len(x.tiers) == len(part.labels)
        assert (x.x[:, MODEL_COLUMNS.index("repeat_count")] > 0).any()
        assert all((len(q) > 0) == bool(text) for q, text in zip(x.query_tokens, part.queries, strict=True))
    assert (x.x[:, MODEL_COLUMNS.index("query_overlap")] > 0).any()
    assert max(len(q) for q in x.query_tokens) <= MAX_QUERY_TOKENS


def test_retrieval_cuts_by_features_alone(lists: tuple[RankingLists, ...], features: Features) -> None:
    """The first stage keeps at most n candidates, and the same ones whatever the labels say."""
    ads = lists[0]
    short = retrieve(ads, features, 20)
    blind = retrieve(replace(ads, labels=np.zeros_like(ads.labels)), features, 20)
    assert np.diff(short.offsets).max() <= 20
    assert np.array_equal(short.item_codes, blind.item_codes)
    assert (retrieval_scores(ads, features) >= 0).all()


def test_the_online_store_serves_what_training_joins(applied: Slice, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `features materialize`, which the registry then tells of, every served value equals the row stamped at that instant."""
    began = time.time_ns() // 1000
    monkeypatch.setenv("LONGTAIL_HOME", str(applied.layout.home))
    done = CliRunner().invoke(app, ["features", "materialize", "--as-of", "2017-12-25T05:00:00"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["as_of"] == AS_OF.isoformat()
    ended = time.time_ns() // 1000
    told = materialised(applied.layout, [*VIEWS, USER_SESSION])
    assert {name: online.until for name, online in told.items()} == {
        v.name: round(AS_OF.timestamp() * 1e6) for v in VIEWS
    }  # nobody's batch has sessions
    assert all(began <= online.at <= ended for online in told.values())
    remembered = json.loads(applied.layout.materialised.read_text())
    assert {v.name: [told[v.name].at, told[v.name].until] for v in VIEWS} == {v.name: remembered[v.name] for v in VIEWS}
    from feast import FeatureStore

    from training.dataset import REPO

    store = FeatureStore(repo_path=str(REPO))
    for view in FEATURE_SERVICES["ads_ranking_v1"]:
        key = f"{view.entity}_id"
        with duckdb.connect() as db:
            db.execute("SET TimeZone = 'UTC'")
            file = f"'{applied.layout.features}/{view.name}.parquet'"
            newest = f"(SELECT max(event_timestamp) FROM {file} WHERE event_timestamp <= ?)"
            rows = db.execute(
                f"SELECT * FROM '{applied.layout.features}/{view.name}.parquet' WHERE event_timestamp = {newest} ORDER BY 1 LIMIT 25",
                [AS_OF],
            ).to_arrow_table()
        served = store.get_online_features(
            features=[f"{view.name}:{f.name}" for f in view], entity_rows=[{key: i} for i in rows[key].to_pylist()]
        ).to_dict()
        for feature in view:
            stored = rows[feature.name].to_pylist()
            assert [s or None for s in served[feature.name]] == [s or None for s in stored], feature.name


def test_an_instant_at_which_no_row_is_alive_is_refused(small: Slice) -> None:
    """Before the first week, or two weeks after the last: an error with what there is, instead of an empty online store."""
    last = datetime(2018, 1, 1, 5, tzinfo=UTC)  # the start of week 54
    alive(small.layout, last + timedelta(days=14))
    for wrong in (last + timedelta(days=15), datetime(2017, 1, 1, tzinfo=UTC)):
        with pytest.raises(
            ValueError, match=r"user_behaviour: its rows are of 2017-\d\d-\d\d to 2018-01-01 and live 14 days.*--as-of 2018-01-01T05:00:00"
        ):
            alive(small.layout, wrong)


def test_a_failing_command_says_what_feast_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ends with an error becomes one error that carries its exit status and its last words."""
    feast = tmp_path / "bin" / "feast"
    feast.parent.mkdir()
    feast.write_text("#!/bin/sh\necho no registry in $LONGTAIL_HOME >&2; exit 3\n")
    feast.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(feast.with_name("python")))
    with pytest.raises(FeastError, match=f"(?s)apply ended with 3:.*no registry in {tmp_path}"):
        apply(Layout(tmp_path))
