"""What was served is written down, off the request path."""

from __future__ import annotations

import json
import stat
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from longtail.ranking.v1 import ranking_service_pb2 as pb

from ranking.features import MODEL_COLUMNS, Entity, schema_hash
from ranking.layout import Layout
from ranking.privacy import user_digest
from ranking.types import Candidates, RankRequest, Surface
from services.gateway import served as module
from services.gateway.served import SCHEMA, Served, ServedLog, digest_key
from services.privacy.forgotten import Forgotten
from tests.deploy.releases import alter
from tests.services.gateway_fakes import ads, eventually, gateway, search


def files(home: Path) -> list[Path]:
    return sorted(Layout(home).served.glob("*"))


def rows(home: Path) -> list[dict[str, Any]]:
    """All rows of all finished files."""
    return [row for path in files(home) if path.suffix == ".parquet" for row in pq.read_table(path, schema=SCHEMA).to_pylist()]


async def test_rows_equal_the_answer(home: Path) -> None:
    """Each returned result is one row with its place, scores, price, members' log-odds and feature row, as the answer explains them."""
    full = pb.EXPLAIN_LEVEL_FULL
    lists = [
        search(30, top_k=10, explain=full, session_id="s1", context={"page": "start", "a": "ü"}),
        ads(12, explain=full),
        search(10, explain=full, user_id=""),
    ]
    async with gateway(home) as gw:
        answers = [await gw.rank(request) for request in lists]
    found = rows(home)
    assert len(found) == sum(len(a.results.item_ids) for a in answers) == 10 + 12 + 10
    key = (home / "served.key").read_bytes()
    for request, answer in zip(lists, answers, strict=True):
        mine = [r for r in found if r["ranking_id"] == answer.ranking_id]
        assert [r["item_id"] for r in mine] == list(answer.results.item_ids)
        assert [r["position"] for r in mine] == list(range(1, len(mine) + 1))
        assert [r["score"] for r in mine] == list(answer.results.scores)
        assert [r["probability"] for r in mine] == list(answer.results.probabilities)
        assert [r["price_micros"] for r in mine] == (list(answer.results.price_micros) or [None] * len(mine))
        for row, e in zip(mine, answer.explanations, strict=True):
            assert row["position_by_score"] == e.rank_before
            assert dict(row["logits"]) == {m.member: m.raw if m.HasField("raw") else None for m in e.members}
            assert dict(zip(MODEL_COLUMNS, row["features"], strict=True)) == dict(e.features)
            assert (row["release"], row["policy"], row["policy_version"]) == (answer.release, answer.policy, answer.policy_version)
            assert (row["propensity"], row["feature_schema_hash"]) == (1.0, schema_hash())
            assert row["surface"] == ("ads" if request.surface == pb.SURFACE_ADS else "search")
            assert (row["query"], row["session_id"]) == (request.query, request.session_id)
            assert json.loads(row["context"]) == dict(request.context)
            assert (row["time"] - row["as_of"]).total_seconds() == pytest.approx(0.0, abs=5.0)
            assert row["user"] == user_digest(request.user_id, key)
    assert [r["user"] for r in found[-10:]] == [""] * 10
    assert any(v is None for r in found for _, v in r["logits"])  # `i9` has no text


async def test_dropped_candidates_have_no_row_and_no_rank_by_score(home: Path) -> None:
    """Where bids are below the reserve, ranks by score count the others only."""
    alter(Layout(home).releases, "r1", lambda m: m["policies"][0].update(reserve_micros=104_000))
    async with gateway(home) as gw:
        answer = await gw.rank(ads(9, explain=pb.EXPLAIN_LEVEL_SCORES))
    found = rows(home)
    assert {r["item_id"] for r in found} == {"i4", "i5", "i6", "i7", "i8"}
    assert [r["position_by_score"] for r in found] == [e.rank_before for e in answer.explanations]


async def test_answers_without_results_make_no_file(home: Path) -> None:
    """Every bid is below the reserve, twice, before an answer with results: only that one is in a file, and alone they leave none."""
    alter(Layout(home).releases, "r1", lambda m: m["policies"][0].update(reserve_micros=10**9))
    async with gateway(home) as gw:
        for _ in range(2):
            assert not (await gw.rank(ads(3))).results.item_ids
    assert not Layout(home).served.exists()
    async with gateway(home) as gw:
        await gw.rank(ads(3))
        shown = await gw.rank(search(3))
    assert [r["ranking_id"] for r in rows(home)] == [shown.ranking_id] * 3


async def test_a_users_id_is_nowhere_in_the_files_and_the_key_is_private(home: Path) -> None:
    """The id is in no byte of any file, one user has one digest, and only the owner may read the key."""
    async with gateway(home) as gw:
        for user in ("shopper-4711", "shopper-4711", "shopper-4712"):
            await gw.rank(search(3, user_id=user))
        assert not (await gw.rank(search(3, validate_only=True))).results.item_ids
    for path in files(home):
        assert b"shopper-47" not in path.read_bytes()
        assert "shopper-47" not in str(pq.read_table(path).to_pylist())
    users = [r["user"] for r in rows(home)]
    assert len(users) == 9
    assert users[:3] == users[3:6] != users[6:]
    assert stat.S_IMODE((home / "served.key").stat().st_mode) == 0o600


async def test_who_opted_out_is_ranked_as_nobody_and_leaves_no_trace(home: Path) -> None:
    """The order is that of a request without a user, no feature of the user is read, and no id or context is in the log or the messages."""
    mine = {"session_id": "secret-session", "context": {"page": "secret-page"}}
    async with gateway(home) as gw:
        out = await gw.rank(search(20, opted_out=True, explain=pb.EXPLAIN_LEVEL_FULL, **mine))
        said = {d.component: d.detail for d in out.degradations}
        assert said["features:user"] == "no user_id was given, or the user opted out; declared defaults were used"
        nobody = await gw.rank(search(20, user_id="", explain=pb.EXPLAIN_LEVEL_FULL))
        assert {i for entity, ids in gw.store.reads if entity is Entity.USER for i in ids} <= {""}
        known = await gw.rank(search(20, explain=pb.EXPLAIN_LEVEL_FULL))
    assert list(out.results.probabilities) == list(nobody.results.probabilities)
    features = [[dict(e.features) for e in answer.explanations] for answer in (out, nobody, known)]
    assert features[0] == features[1] != features[2]
    assert [(d.component, d.reason) for d in out.degradations] == [(d.component, d.reason) for d in nobody.degradations]
    mine_in_log = [r for r in rows(home) if r["ranking_id"] == out.ranking_id]
    assert len(mine_in_log) == 20
    assert {(r["user"], r["session_id"], r["context"]) for r in mine_in_log} == {("", "", "{}")}


async def test_who_was_forgotten_meanwhile_is_not_written(home: Path) -> None:
    """Answers that wait for their file when their user is forgotten are dropped; those of others are written."""
    async with gateway(home) as gw:
        await gw.rank(search(5))
        kept = await gw.rank(search(5, user_id="other"))
        Forgotten(Layout(home).forgotten).add(["u"])
    assert {r["ranking_id"] for r in rows(home)} == {kept.ranking_id}


def test_the_key_is_made_once(tmp_path: Path) -> None:
    """Whoever asks again gets the same, no draft stays beside it, and a file that is no key is an error."""
    path = tmp_path / "new" / "served.key"
    assert digest_key(path) == digest_key(path) == path.read_bytes()
    assert len(path.read_bytes()) == 32
    assert [p.name for p in path.parent.iterdir()] == ["served.key"]
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="need a key of 32 bytes, got 0"):
        digest_key(path)


async def test_a_full_queue_loses_rows_but_no_call(home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """While the writer hangs, calls beyond the queue are answered and counted; the others are written once it goes on."""
    go, entered = threading.Event(), threading.Event()
    take = module.taken

    def slow(one: Served, key: bytes) -> Any:
        entered.set()
        assert go.wait(30)
        return take(one, key)

    monkeypatch.setattr(module, "taken", slow)
    async with gateway(home, served_queue=2) as gw:
        first = await gw.rank(search(3))
        await eventually(entered.is_set)
        answers = [await gw.rank(search(3)) for _ in range(5)]
        assert all(len(a.results.item_ids) == 3 for a in answers)
        go.set()
    kept = list(dict.fromkeys(r["ranking_id"] for r in rows(home)))
    assert kept == [first.ranking_id, answers[0].ranking_id, answers[1].ranking_id]
    lost = sum(getattr(r, "dropped", 0) for r in caplog.records if r.message == "served_log_full")
    assert lost == len(answers) - 2


async def test_files_are_written_by_rows_and_by_age_and_only_the_latest_kept(home: Path) -> None:
    """Every 4 rows make a file, three files are kept; with a short age a single answer does not wait for the stop."""
    async with gateway(home, served_rows=4, served_files=3) as gw:
        served = []
        for _ in range(5):
            before = files(home)[-1:]
            served.append((await gw.rank(search(4))).ranking_id)
            await eventually(lambda before=before: [p for p in files(home)[-1:] if p.suffix == ".parquet"] not in ([], before))
    assert [p.suffix for p in files(home)] == [".parquet"] * 3
    assert list(dict.fromkeys(r["ranking_id"] for r in rows(home))) == served[-3:]
    async with gateway(home, served_s=0.01, served_files=9) as gw:
        await gw.rank(search(2))
        await eventually(lambda: len(files(home)) == 4)


async def test_a_log_that_cannot_be_written_costs_no_call(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file stands where the directory should be: calls are answered, the loss is logged, and once it is gone rows are written."""
    Layout(home).logs.mkdir()
    blocked = Layout(home).served
    blocked.write_text("")
    async with gateway(home, served_s=0.01) as gw:
        assert len((await gw.rank(search(3))).results.item_ids) == 3
        await eventually(lambda: "served_log_failed" in caplog.text)
        blocked.unlink()
        await gw.rank(search(3))
        await eventually(lambda: blocked.is_dir() and len(rows(home)) == 3)


async def test_it_can_be_switched_off(home: Path) -> None:
    """Without it there are neither files nor a key."""
    async with gateway(home, served_log=False) as gw:
        await gw.rank(search(3))
    assert not (Layout(home).served).exists()
    assert not (home / "served.key").exists()


def test_offering_hands_over_references(tmp_path: Path) -> None:
    """The request path converts nothing: the very object waits in the queue."""
    log = ServedLog(
        tmp_path / "served", tmp_path / "key", Forgotten(tmp_path / "forgotten"), share=1.0, queue=1, rows=10, seconds=60.0, files=1
    )
    log.close()
    empty = _served("u")
    log.offer(empty)
    log.offer(empty)
    assert log._waiting[0] is empty
    assert (len(log._waiting), log.dropped) == (1, 1)


def test_a_user_is_logged_always_or_never(tmp_path: Path) -> None:
    """About the share of the users asked for is chosen, and each of them with every answer."""
    log = ServedLog(
        tmp_path / "served", tmp_path / "key", Forgotten(tmp_path / "forgotten"), share=0.2, queue=10_000, rows=10, seconds=60.0, files=1
    )
    log.close()
    for _ in range(3):
        for user in range(1000):
            log.offer(_served(f"user-{user}"))
    counts = Counter(one.request.user_id for one in log._waiting)
    assert set(counts.values()) == {3}
    standard_error = (0.2 * 0.8 / 1000) ** 0.5
    assert len(counts) / 1000 == pytest.approx(0.2, abs=4 * standard_error)


def _served(user: str) -> Served:
    request = RankRequest("r", Surface.SEARCH, "", user, Candidates(("a",)), 1)
    return Served(0.0, 0.0, "", request, None, (), np.empty((0, 0)), np.empty((0, 0), np.float32), np.empty(0, int), np.empty(0))  # type: ignore[arg-type]


def test_feature_rows_have_the_models_width() -> None:
    """The column's fixed size is the number of model columns."""
    assert SCHEMA.field("features").type == pa.list_(pa.float32(), len(MODEL_COLUMNS))
