"""The gateway's wiring: every part is made and connected here and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial

import grpc
from longtail.features.v1.online_feature_service_pb2_grpc import add_OnlineFeatureServiceServicer_to_server
from longtail.feedback.v1.feedback_service_pb2_grpc import add_FeedbackServiceServicer_to_server
from longtail.ranking.v1.ranking_service_pb2_grpc import add_RankingServiceServicer_to_server

from ranking.layout import Layout
from ranking.types import Ranking, RankRequest
from services.feature_store.changes import Changes
from services.feature_store.feast import FeastStore
from services.feature_store.port import FeatureStore
from services.feedback.log.event_log import EventLog
from services.feedback.log.sqlite import SqliteLog
from services.feedback.recorder import Recorder
from services.feedback.servicer import NAME as FEEDBACK
from services.feedback.servicer import FeedbackServicer
from services.gateway import doors
from services.gateway.attributions import Attributions
from services.gateway.event_metrics import EventMetrics
from services.gateway.features import Features, ListFeatures
from services.gateway.ledger.ledger import Ledger
from services.gateway.ledger.sqlite import SqliteStore
from services.gateway.ledger.store import LedgerStore
from services.gateway.metrics import Metrics, registry
from services.gateway.metrics_http import exposed
from services.gateway.model_metrics import MeasuredModels
from services.gateway.pipeline import Pipeline
from services.gateway.ports import ModelServer
from services.gateway.rank_metrics import RankMetrics
from services.gateway.releases import LoadedRelease, Releases
from services.gateway.scores.file import opened
from services.gateway.scores.table import ScoreTable
from services.gateway.scoring import Scoring
from services.gateway.served import ServedLog
from services.gateway.servicer import NAME, RankingServicer
from services.gateway.settings import Settings
from services.gateway.snapshot_metrics import SnapshotMetrics
from services.gateway.stream_metrics import StreamMetrics
from services.gateway.trials.log import TrialLog
from services.gateway.trials.metrics import TrialMetrics
from services.gateway.trials.observer import Trials
from services.gateway.triton import Triton
from services.gateway.workers.told import told as told_by
from services.online.read import Reader
from services.online.servicer import NAME as ONLINE
from services.online.servicer import OnlineFeatureServicer
from services.privacy.forgotten import Forgotten
from services.rpc import loop, status, tls
from services.rpc.call_metrics import CallMetrics
from services.rpc.server import Server
from services.rpc.signals import stop_signal, stop_without_parent
from services.snapshot.latest import Latest

log = logging.getLogger(__name__)
_SHADOW_PART = 8  # of the text scores kept and under way, what shadows may have beside


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    store: FeatureStore | None = None,
    models: ModelServer | None = None,
    accounts: LedgerStore | None = None,
    events: EventLog | None = None,
) -> AsyncIterator[Server]:
    """A gateway that answers while the context lasts, and drains when it ends.

    Args:
        settings: all of it.
        store: in place of Feast.
        models: in place of Triton.
        accounts: of the ledger, in place of SQLite or Redis.
        events: in place of SQLite or Redis.

    Raises:
        PortTakenError: an address is in use.
        InvalidSettingError: a file that a setting names is not what it should be, or an address is open to other machines.
    """
    layout = Layout(settings.home)
    async with AsyncExitStack() as closing:  # whatever fails, here or in the caller, what was opened is closed, the last first
        snapshot = Latest(layout.item_snapshot)
        features = _features(settings, store, snapshot, Changes(layout.user_changes))
        closing.push_async_callback(features.close)
        if models is None:
            models = triton = Triton(settings.triton)
            closing.push_async_callback(triton.close)
        measured = MeasuredModels(models)
        scoring = Scoring(
            measured,
            cache=await asyncio.to_thread(opened, layout.score_table, settings.score_cache),
            chunk=settings.text_chunk,
            backlog=settings.text_backlog,
            timeout_s=settings.triton_timeout_s,
        )
        closing.push_async_callback(scoring.close)
        served = _served(settings, layout) if settings.served_log else None
        if served is not None:
            closing.push_async_callback(asyncio.to_thread, served.close)
        ledger = Ledger(accounts or _accounts(settings, layout), sync_s=settings.ledger_sync_s)
        closing.push_async_callback(ledger.close, settings.ledger_wait_s)
        told = told_by(layout, settings.worker)
        warming: set[asyncio.Task[None]] = set()  # held: the loop itself only knows its tasks weakly

        async def serving(release: str) -> None:
            await server.set_serving(serving=True)
            on_trial = releases.trial
            await asyncio.to_thread(
                status.write,
                told,
                address=server.address,
                metrics=scraped,
                ready=True,
                release=release,
                trial=asdict(on_trial.trial) if on_trial else None,
            )
            for one in (releases.get(release), *([on_trial.loaded] if on_trial else [])):
                warming.add(task := asyncio.create_task(attributions.warm(one.release)))
                task.add_done_callback(warming.discard)

        releases = Releases(layout.releases, layout.pointer, kept=settings.releases_kept, on_active=serving)
        metrics = Metrics(ledger, lambda: releases.active.release if releases.active else None)
        lines = TrialLog(layout.trials, queue=settings.trial_queue, lines=settings.trial_lines, files=settings.trial_files)
        closing.push_async_callback(asyncio.to_thread, lines.close)
        tried = TrialMetrics(lambda: lines.dropped)
        shadow = Scoring(  # its own: what nobody waits for takes no room in the cache and the backlog of what somebody does
            models,
            cache=ScoreTable.private(max(settings.score_cache // _SHADOW_PART, 1)),
            chunk=settings.text_chunk,
            backlog=max(settings.text_backlog // _SHADOW_PART, 1),
            timeout_s=settings.triton_timeout_s,
        )
        closing.push_async_callback(shadow.close)

        async def rehearse(request: RankRequest, loaded: LoadedRelease, found: ListFeatures, deadline: float) -> Ranking:
            return await pipeline.rehearse(request, loaded, found, deadline)  # made below: each of the two needs the other

        ranked = RankMetrics(
            {"score": lambda: scoring.looked, **{name: partial(features.looked, name) for name in ("user", "snapshot", "item")}},
            {"queue_full": lambda: served.dropped, "not_written": lambda: served.failed} if served else {},
        )
        trials = Trials(lines, tried, rehearse, at_once=settings.shadows_at_once, budget_s=settings.budget_ms / 1e3)
        closing.push_async_callback(trials.close)
        attributions = Attributions(layout.releases)
        closing.callback(attributions.close)
        keep = served.offer if served else None
        pipeline = Pipeline(
            releases,
            features,
            scoring,
            ledger,
            attributions,
            rehearsal=shadow,
            keep=keep,
            observe=metrics.observe,
            measure=ranked.observe,
            answered=trials.answered,
        )
        servicer = RankingServicer(pipeline, budget_s=settings.budget_ms / 1e3, margin_s=settings.margin_ms / 1e3)

        recorder = Recorder(events or _events(settings, layout), Forgotten(layout.forgotten))
        closing.push_async_callback(recorder.close)
        clock = _clock(settings)  # an event of now is far in the future of replayed data, and would outrank all that is yet to come
        feedback = FeedbackServicer(recorder, wait_s=settings.event_wait_s, clock=lambda: int(clock() * 1e9))

        reader = Reader(store or _feast(settings), snapshot, stale_s=settings.snapshot_stale_s, clock=_clock(settings))
        closing.callback(reader.close)
        online = OnlineFeatureServicer(reader, wait_s=settings.online_wait_s)

        def register(target: grpc.aio.Server) -> None:
            add_RankingServiceServicer_to_server(servicer, target)
            add_FeedbackServiceServicer_to_server(feedback, target)
            add_OnlineFeatureServiceServicer_to_server(online, target)

        called = CallMetrics()
        server = Server(
            settings.address,
            (NAME, FEEDBACK, ONLINE),
            register,
            doors.options(settings, layout.tokens),
            called,
        )
        scraped = ""
        if settings.metrics_address != "off":
            scraped = await closing.enter_async_context(
                exposed(
                    settings.metrics_address,
                    registry(
                        called,
                        ranked,
                        measured,
                        metrics,
                        tried,
                        EventMetrics(recorder),
                        SnapshotMetrics(snapshot),
                        StreamMetrics(layout.run / "features.json"),
                    ),
                    tls.named(settings, "metrics"),
                )
            )
        closing.push_async_callback(asyncio.to_thread, status.remove, told)  # not before the port is ours: it may be another gateway's
        closing.push_async_callback(server.stop)
        await asyncio.to_thread(status.write, told, address=server.address, metrics=scraped, ready=False)
        await server.start()
        for needs_no_release in (FEEDBACK, ONLINE):
            await server.set_serving(needs_no_release, serving=True)
        log.info("listening", extra={"address": server.address, "metrics": scraped})
        await ledger.start(settings.ledger_wait_s)  # before SERVING: the first list knows what is owed
        await asyncio.to_thread(snapshot.poll)
        following = asyncio.create_task(_follow(snapshot, settings.snapshot_poll_s))
        closing.callback(following.cancel)
        await features.warm()  # before the first release makes it SERVING: Feast takes seconds to import
        await releases.poll()
        watching = asyncio.create_task(releases.watch(settings.poll_s))
        closing.callback(watching.cancel)
        yield server


def _features(settings: Settings, store: FeatureStore | None, snapshot: Latest, changes: Changes) -> Features:
    return Features(
        store or _feast(settings),
        user_ttl_s=settings.user_ttl_s,
        user_cache=settings.user_cache,
        item_refresh_s=settings.item_refresh_s,
        item_cache=settings.item_cache,
        snapshot=snapshot,
        snapshot_stale_s=settings.snapshot_stale_s,
        change=changes.of,
        clock=_clock(settings),
    )


def _feast(settings: Settings) -> FeatureStore:
    """A store with connections of its own."""
    return FeastStore(settings.feature_repo, settings.home)


def _clock(settings: Settings) -> Callable[[], float]:
    fixed = settings.fixed_time
    return time.time if fixed is None else lambda: fixed


def _accounts(settings: Settings, layout: Layout) -> LedgerStore:
    if not settings.ledger:
        return SqliteStore(layout.exposure)
    from services.gateway.ledger.redis import RedisStore

    return RedisStore(settings.ledger)


def _events(settings: Settings, layout: Layout) -> EventLog:
    if not settings.event_log:
        return SqliteLog(layout.events, busy_s=settings.event_wait_s)
    from services.feedback.log.redis import RedisLog

    return RedisLog(settings.event_log, timeout_s=settings.event_wait_s)


def _served(settings: Settings, layout: Layout) -> ServedLog:
    return ServedLog(
        layout.served,
        layout.served_key,
        Forgotten(layout.forgotten),
        share=settings.served_share,
        queue=settings.served_queue,
        rows=settings.served_rows,
        seconds=settings.served_s,
        files=settings.served_files,
    )


async def _follow(snapshot: Latest, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            await asyncio.to_thread(snapshot.poll)
        except Exception:  # the boundary of the task: ended, it would leave the gateway on an old snapshot for good
            log.exception("snapshot_poll_failed")


async def serve(settings: Settings) -> None:
    """Answer until SIGTERM or SIGINT, and as a worker no longer than its parent lives."""
    asked = stop_signal()
    if settings.worker:
        stop_without_parent(asked)
    async with running(settings):
        loop.started()
        await asked.wait()
