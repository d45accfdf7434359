"""What is sent to the model server, and what is not sent twice."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranking.assemble import ItemFeatures, item_features
from ranking.features import MODEL_COLUMNS
from ranking.layout import Layout
from ranking.release import Release
from ranking.types import Surface
from services.gateway.pace import Pace
from services.gateway.releases import LoadedRelease, load
from services.gateway.scores.table import CLAIM_S, WAYS, WORDS, ScoreTable
from services.gateway.scoring import Scores, Scoring, _asked
from tests.services.gateway_fakes import FakeModels, eventually, item


@pytest.fixture
def loaded(home: Path) -> LoadedRelease:
    return load(Layout(home).releases, "r1")


def scoring(models: FakeModels, **options: Any) -> Scoring:
    return Scoring(models, **({"cache": ScoreTable.private(10_000), "chunk": 128, "backlog": 4096, "timeout_s": 5.0} | options))


def distinct(n: int) -> ItemFeatures:
    """n items, each with a text of its own, of 1 to 9 tokens."""
    tokens = [[4 + i % 14] * (1 + i % 9) for i in range(n)]
    return item_features(np.arange(1, n + 1), {"token_ids": tokens, "text_digest": np.arange(1, n + 1)})


async def ask(scorer: Scoring, loaded: LoadedRelease, items: ItemFeatures, text: str = "ice", seconds: float = 5.0) -> Scores:
    matrix = np.zeros((len(items), 1), np.float32)  # no feature member in `text_only`
    return await scorer.score(loaded, text_only(loaded.release), matrix=matrix, items=items, text=text, deadline=time.monotonic() + seconds)


def text_only(release: Release) -> Any:
    spec = release.blends[Surface.SEARCH]
    return type(spec)(("bert",), dict.fromkeys(spec.weights, (1.0,)), (spec.calibrators[1],))


async def test_each_distinct_text_is_sent_once(loaded: LoadedRelease) -> None:
    """40 items share 4 texts (and every tenth has none): 4 pairs travel, all 36 items with text get a score."""
    rows = [item(i) for i in range(40)]
    items = item_features(np.arange(40), {name: [r[name] for r in rows] for name in rows[0]})
    models = FakeModels()
    found = await ask(scoring(models), loaded, items)
    assert models.rows("bert") == len({r["text_digest"] for r in rows} - {0})
    assert np.isnan(found.logits[0]).tolist() == [r["text_digest"] == 0 for r in rows]


async def test_a_second_list_sends_only_what_is_new(loaded: LoadedRelease) -> None:
    """Scores are kept per query text: the same query sends nothing again, another query everything."""
    models = FakeModels()
    scorer = scoring(models)
    await ask(scorer, loaded, distinct(10))
    await ask(scorer, loaded, distinct(15))
    assert models.rows("bert") == 15
    await ask(scorer, loaded, distinct(15), text="milk")
    assert models.rows("bert") == 30


async def test_long_lists_travel_in_chunks_and_scores_find_their_items(loaded: LoadedRelease) -> None:
    """50 texts in chunks of 8 give the same scores as in one piece."""
    models = FakeModels()
    whole = await ask(scoring(FakeModels()), loaded, distinct(50))
    parts = await ask(scoring(models, chunk=8), loaded, distinct(50))
    assert [n for _, _, n in models.calls] == [8, 8, 8, 8, 8, 8, 2]
    np.testing.assert_allclose(parts.logits, whole.logits, rtol=0, atol=1e-5)  # padding differs, and with it the sums' order


async def test_concurrent_lists_share_what_is_under_way(loaded: LoadedRelease) -> None:
    """Three calls for the same texts at once send them once, and all three get the scores."""
    models = FakeModels(hung={"bert"})
    scorer = scoring(models)
    calls = [asyncio.create_task(ask(scorer, loaded, distinct(12))) for _ in range(3)]
    await eventually(lambda: models.calls)
    models.release.set()
    found = await asyncio.gather(*calls)
    assert models.rows("bert") == 12
    assert not np.isnan(found[0].logits).any()
    assert all((f.logits == found[0].logits).all() for f in found)


def workers() -> tuple[ScoreTable, ScoreTable]:
    """The tables of two workers, over the same memory."""
    words = np.zeros((WORDS, 1000, WAYS), np.uint64)
    return ScoreTable(words), ScoreTable(words, pid=os.getppid())


async def test_workers_share_what_is_under_way(loaded: LoadedRelease) -> None:
    """What one worker has sent another waits for: 12 texts are sent once, and the 3 that only the second list has."""
    one, other = workers()
    first, second = FakeModels(hung={"bert"}), FakeModels()
    early = asyncio.create_task(ask(scoring(first, cache=other), loaded, distinct(12)))
    await eventually(lambda: first.calls)
    late = asyncio.create_task(ask(scoring(second, cache=one), loaded, distinct(15), seconds=60.0))
    await eventually(lambda: second.calls)
    first.release.set()
    found = [await early, await late]
    assert (first.rows("bert"), second.rows("bert")) == (12, 3)
    assert (found[1].logits[0, :12] == found[0].logits[0]).all()
    assert not any(f.degradations for f in found)


async def test_a_worker_that_hangs_does_not_keep_others_from_their_scores(loaded: LoadedRelease) -> None:
    """A claim beyond its time counts for nothing: the texts are sent from here, and the list is whole."""
    words = np.zeros((WORDS, 1000, WAYS), np.uint64)
    one, other = ScoreTable(words, clock=lambda: time.time() + CLAIM_S + 2), ScoreTable(words, pid=os.getppid())
    first, second = FakeModels(hung={"bert"}), FakeModels()
    early = asyncio.create_task(ask(scoring(first, cache=other), loaded, distinct(12)))
    await eventually(lambda: first.calls)
    found = await ask(scoring(second, cache=one), loaded, distinct(12))
    assert second.rows("bert") == 12
    assert not found.degradations
    first.release.set()
    await early


async def test_a_failure_is_not_waited_for(loaded: LoadedRelease) -> None:
    """A worker whose request fails takes its claims back."""
    one, other = workers()
    failed = await ask(scoring(FakeModels(gone={"bert"}), cache=other), loaded, distinct(5))
    assert [d.reason for d in failed.degradations] == ["UNAVAILABLE"]
    assert one.claimants(_asked(loaded.release.member("bert"), "ice"), np.arange(1, 6)).tolist() == [0] * 5


async def test_an_answer_does_not_depend_on_room_in_the_table(loaded: LoadedRelease) -> None:
    """With room for 8 scores a list of 50 is whole: what was scored for it is used, wherever it is kept."""
    found = await ask(scoring(FakeModels(), cache=ScoreTable.private(8)), loaded, distinct(50))
    assert not np.isnan(found.logits).any()
    assert not found.degradations


async def test_texts_beyond_the_backlog_are_not_sent(loaded: LoadedRelease) -> None:
    """With room for 10 pairs the other 5 are not scored: OVERLOADED; once there is room they are."""
    models = FakeModels()
    scorer = scoring(models, backlog=10)
    found = await ask(scorer, loaded, distinct(15))
    assert int(np.isnan(found.logits).sum()) == 5
    assert [(d.component, d.reason) for d in found.degradations] == [("member:bert", "OVERLOADED")]
    assert not (await ask(scorer, loaded, distinct(15))).degradations


async def test_a_list_that_would_be_late_is_not_sent_in_part(loaded: LoadedRelease) -> None:
    """At a tenth of a second a pair, behind ten others, ten more take 2 s: sent with twice that left, not with 3 s."""
    models, seconds = FakeModels(), [0.0]
    scorer = scoring(models)
    scorer._pace = Pace(lambda: seconds[0])
    scorer._pace.began(10)
    seconds[0] = 1.0
    scorer._pace.ended(10, answered=True)
    models.hung.add("bert")
    before = asyncio.create_task(ask(scorer, loaded, distinct(10), text="milk"))
    await eventually(lambda: scorer._pace.under_way == 10)
    found = await ask(scorer, loaded, distinct(10), seconds=3.0)
    assert np.isnan(found.logits).all()
    assert [d.reason for d in found.degradations] == ["OVERLOADED"]
    assert scorer._pace.under_way == 10
    inside = asyncio.create_task(ask(scorer, loaded, distinct(10), seconds=4.5))
    await eventually(lambda: scorer._pace.under_way == 20)
    models.release.set()
    assert not (await before).degradations
    assert not (await inside).degradations


async def test_what_arrives_in_time_is_used(loaded: LoadedRelease) -> None:
    """With one of two chunks late, the first one's scores count and the rest is DEADLINE."""
    models = FakeModels(hung={"bert"})
    scorer = scoring(models, chunk=8)
    late = asyncio.create_task(ask(scorer, loaded, distinct(8), seconds=0.05))
    assert [d.reason for d in (await late).degradations] == ["DEADLINE"]
    models.hung.clear()
    found = await ask(scorer, loaded, distinct(12), seconds=0.05)  # 8 still hang, 4 are answered
    assert int(np.isnan(found.logits).sum()) == 8
    assert [d.reason for d in found.degradations] == ["DEADLINE"]
    models.release.set()
    await eventually(lambda: not scorer._under_way)
    models.calls.clear()
    assert not (await ask(scorer, loaded, distinct(12))).degradations
    assert not models.calls


@pytest.mark.parametrize(
    ("gone", "every", "asked"),
    [(set(), False, {"trees"}), ({"trees"}, False, {"trees", "bert"}), (set(), True, {"trees", "bert"})],
)
async def test_a_member_without_weight_is_only_asked_where_it_matters(
    loaded: LoadedRelease, gone: set[str], every: bool, asked: set[str]
) -> None:
    """A weight of 0 in every group: nobody waits for that member, unless the others are gone or an explanation wants it."""
    spec = loaded.release.blends[Surface.SEARCH]
    alone = type(spec)(spec.members, dict.fromkeys(spec.weights, (1.0, 0.0)), spec.calibrators)
    models = FakeModels(gone=gone)
    items, matrix = distinct(5), np.zeros((5, len(MODEL_COLUMNS)), np.float32)
    found = await scoring(models).score(loaded, alone, matrix=matrix, items=items, text="ice", deadline=time.monotonic() + 5.0, every=every)
    assert {name for name, _, _ in models.calls} == asked
    assert not np.isnan(found.logits).all(axis=0).any()
    assert [d.component for d in found.degradations] == [f"member:{name}" for name in sorted(gone)]


async def test_numbers_that_are_none_count_as_absent(loaded: LoadedRelease) -> None:
    """NaN and infinity from a model are no scores, are reported, and are not remembered."""

    class Broken(FakeModels):
        async def infer(self, *args: Any, **kwargs: Any) -> Any:
            good = await super().infer(*args, **kwargs)
            return np.where(np.arange(len(good)) % 2, np.nan, np.inf).astype(np.float32)

    models = Broken()
    scorer = scoring(models)
    found = await ask(scorer, loaded, distinct(4))
    assert np.isnan(found.logits).all()
    assert [d.reason for d in found.degradations] == ["UNAVAILABLE"]
    await ask(scorer, loaded, distinct(4))
    assert models.rows("bert") == 8


async def test_a_call_cancelled_before_its_members_began_leaves_nothing_behind(
    loaded: LoadedRelease, recwarn: pytest.WarningsRecorder
) -> None:
    """Cancelled between asking all members at once and the first of them starting: no coroutine is left that nobody waits for."""
    matrix, spec = np.zeros((3, len(MODEL_COLUMNS)), np.float32), loaded.release.blends[Surface.SEARCH]
    assert len(spec.members) > 1
    models = FakeModels()
    asked = scoring(models).score(loaded, spec, matrix=matrix, items=distinct(3), text="ice", deadline=time.monotonic() + 5.0)
    call = asyncio.create_task(asked)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    gc.collect()
    assert models.calls == []
    assert [str(w.message) for w in recwarn if "never awaited" in str(w.message)] == []
