"""Every call has a request id, a place in the metrics and, if wanted, a trace; over real gRPC."""

from __future__ import annotations

import json
import logging
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from longtail.ranking.v1.ranking_service_pb2_grpc import RankingServiceStub
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from ranking.layout import Layout
from services.gateway.served import SCHEMA
from services.rpc import calls, tracing
from services.rpc.call_metrics import CALLERS, NOBODY, OTHERS, CallMetrics
from services.rpc.log import JsonFormatter
from services.rpc.settings import InvalidSettingError
from services.rpc.tokens import Scope, create
from tests.services import fake_triton
from tests.services.gateway_fakes import Gateway, eventually, gateway, search

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Tracing is on, into memory."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with tracing.using(provider):
        yield exporter
    provider.shutdown()


async def ask(gw: Gateway, request: Any, **metadata: str) -> dict[str, Any]:
    """Rank with metadata; the trailing metadata, whether it fails or not."""
    call = RankingServiceStub(gw.channel).Rank(request, metadata=tuple((k.replace("_", "-"), v) for k, v in metadata.items()))
    await call.code()
    return dict(await call.trailing_metadata())


async def test_the_callers_request_id_comes_back_and_is_on_every_line(gw: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """What is logged during a call carries its id and its trace's, and the answer brings the id back."""
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(record)))

    async def faulty(*_: Any) -> Any:
        raise KeyError("a bug")

    gw.models.infer = faulty  # type: ignore[method-assign]
    logger, handler = logging.getLogger("services.gateway.scoring"), Kept()
    logger.addHandler(handler)
    try:
        said = await ask(gw, search(3), x_request_id="r-17", traceparent=TRACEPARENT)
    finally:
        logger.removeHandler(handler)
    assert said[calls.REQUEST_ID] == "r-17"
    assert lines
    assert {(line["event"], line["request_id"], line["trace_id"]) for line in lines} == {("member_failed", "r-17", TRACE)}


async def test_without_one_the_messages_request_id_is_the_calls(gw: Gateway) -> None:
    """`RankRequest.request_id` names the call where metadata do not; without either one is made."""
    assert (await ask(gw, search(3, request_id="from-message")))[calls.REQUEST_ID] == "from-message"
    assert len((await ask(gw, search(3)))[calls.REQUEST_ID]) == 32


@pytest.mark.parametrize("wrong", ["with space", "x" * 129])
async def test_an_id_that_is_none_is_not_repeated(gw: Gateway, wrong: str) -> None:
    """What is too long or not printable never reaches the log: an id is made instead."""
    assert (await ask(gw, search(3), x_request_id=wrong))[calls.REQUEST_ID] not in wrong


async def test_a_refused_call_has_its_id_too(gw: Gateway) -> None:
    """The status' details and the request id travel together."""
    said = await ask(gw, search(0), x_request_id="r-18")
    assert said[calls.REQUEST_ID] == "r-18"
    assert "grpc-status-details-bin" in said


async def test_the_served_log_has_the_request_id(home: Path) -> None:
    """A served row leads to the log's lines of its call."""
    import pyarrow.parquet as pq

    assert "request_id" in SCHEMA.names
    async with gateway(home, served_s=0.01) as gw:
        await ask(gw, search(3), x_request_id="r-19")
        await eventually(lambda: list(gw.layout.served.glob("*.parquet")))
        (file,) = gw.layout.served.glob("*.parquet")
        assert set(pq.read_table(file).column("request_id").to_pylist()) == {"r-19"}


async def test_a_trace_goes_through_the_gateway_to_triton(home: Path, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's span is the parent of Rank's, which is above feature reads and Triton's calls; Triton is sent their trace and span."""
    heard: list[dict[str, Any]] = []
    infer = fake_triton.FakeTriton.ModelInfer

    async def listening(self: Any, request: Any, context: Any) -> Any:
        heard.append({"model": request.model_name, **dict(context.invocation_metadata())})
        return await infer(self, request, context)

    monkeypatch.setattr(fake_triton.FakeTriton, "ModelInfer", listening)
    triton, address = await fake_triton.start()
    try:
        async with gateway(home, triton=address) as gw:
            await ask(gw, search(3), x_request_id="r-20", traceparent=TRACEPARENT)
    finally:
        await triton.stop(None)
    told = {(s.name, (s.attributes or {}).get("model") or (s.attributes or {}).get("entity")): s for s in _of(spans, TRACE)}
    rank = told["longtail.ranking.v1.RankingService/Rank", None]
    assert rank.parent is not None
    assert f"{rank.parent.span_id:016x}" == PARENT
    assert (rank.attributes or {})["longtail.request_id"] == "r-20"
    assert (rank.attributes or {})["rpc.grpc.status"] == "OK"
    features, score = told["features", None], told["score", None]
    assert _parent(features) == _parent(score) == rank.context.span_id
    assert _parent(told["snapshot.read", None]) == _parent(told["feast.read", "user"]) == _parent(told["feast.read", "item"])
    assert _parent(told["feast.read", "user"]) == features.context.span_id
    sent = {h["model"]: h["traceparent"] for h in heard}
    assert set(sent) == {"bert", "trees"}
    for model, parent in sent.items():
        asked = told["triton.infer", model]
        assert _parent(asked) == score.context.span_id
        assert parent == f"00-{TRACE}-{asked.context.span_id:016x}-01"


async def test_a_call_without_a_trace_begins_one(gw: Gateway, spans: InMemorySpanExporter) -> None:
    """No traceparent, or a malformed one: Rank is the root of a new trace, and two calls are two traces."""
    for metadata in ({}, {"traceparent": "nonsense"}):
        await ask(gw, search(3), **metadata)
    roots = [s for s in spans.get_finished_spans() if s.name.endswith("/Rank")]
    assert [s.parent for s in roots] == [None, None]
    assert len({s.context.trace_id for s in roots}) == 2


async def test_untraced_the_callers_parent_is_still_passed_on(gw: Gateway) -> None:
    """Off, the gateway is no part of the trace and does not cut it either."""
    token = calls.current.set(calls.received({"traceparent": TRACEPARENT}))
    try:
        assert tracing.outgoing() == (("traceparent", TRACEPARENT),)
        with tracing.span("nothing") as span:
            assert span is None
    finally:
        calls.current.reset(token)
    assert tracing.outgoing() == ()


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
    ],
)
def test_the_environment_turns_it_on(environ: dict[str, str], on: bool) -> None:
    """Off by default; the standard variables turn it on and off."""
    with tracing.exporting("test", environ):
        assert (tracing.span("x") is not tracing.span("x")) == on  # off: always the same nothing


@pytest.mark.parametrize(("variable", "value"), [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")])
def test_an_exporter_we_have_not_is_refused(variable: str, value: str) -> None:
    """Naming the variable, before anything is served."""
    environ = {"OTEL_TRACES_EXPORTER": "otlp"} | {variable: value}
    with pytest.raises(InvalidSettingError, match=f"{variable}: must be .*got '{value}'"), tracing.exporting("test", environ):
        pass


async def test_calls_are_counted_however_they_end(home: Path) -> None:
    """Rate, errors and durations by surface and caller; lists, caches, models and degradations beside them; over HTTP."""
    port = _free_port()
    async with gateway(home, metrics_address=f"127.0.0.1:{port}") as gw:
        for n, caller in ((3, "shop"), (3, "shop"), (0, "shop"), (3, "")):
            await ask(gw, search(n), **({"x_caller": caller} if caller else {}))
        with pytest.raises(grpc.aio.AioRpcError):
            await RankingServiceStub(gw.channel).Rank(search(3, release="gone"))

        async def all_counted() -> bool:  # an aborted call's status is on its way before the call has ended here
            return sum(v for (name, _), v in (await _scrape(port)).items() if name == "longtail_rpc_calls_total") == 5

        await eventually(all_counted)
        found = await _scrape(port)
    rank = {"method": "Rank", "surface": "search"}
    assert found["longtail_rpc_calls_total", _labels(**rank, caller="shop", code="OK")] == 2
    assert found["longtail_rpc_calls_total", _labels(**rank, caller="shop", code="INVALID_ARGUMENT")] == 1
    assert found["longtail_rpc_calls_total", _labels(**rank, caller=NOBODY, code="NOT_FOUND")] == 1
    assert found["longtail_rpc_duration_seconds_count", _labels(**rank, caller="shop")] == 3
    assert found["longtail_rpc_in_flight", _labels(service="longtail.ranking.v1.RankingService")] == 0
    assert found["longtail_rank_stage_seconds_count", _labels(surface="search", stage="total")] == 3
    assert found["longtail_rank_member_seconds_count", _labels(member="bert")] == 3
    assert found["longtail_rank_candidates_sum", _labels(surface="search")] == 3 * 3
    assert found["longtail_model_scores_total", _labels(model="trees", version="1")] == 3 * 3
    assert 0 < found["longtail_model_probability_sum_total", _labels(model="bert", version="1")] < 3 * 3
    assert found["longtail_model_batch_rows_sum", _labels(model="bert")] == 3  # asked once, kept for the other two
    assert found["longtail_model_requests_total", _labels(model="trees", version="1", outcome="ok")] == 3
    assert found["longtail_cache_lookups_total", _labels(cache="score", outcome="miss")] == 3
    assert found["longtail_cache_lookups_total", _labels(cache="score", outcome="hit")] == 2 * 3
    assert found["longtail_cache_lookups_total", _labels(cache="user", outcome="hit")] == 2
    assert found["longtail_cache_lookups_total", _labels(cache="item", outcome="miss")] == 3
    assert found["longtail_feature_reads_total", _labels(freshness="fresh")] > 0


async def test_a_degradation_is_counted_by_part_and_reason(home: Path) -> None:
    """A member that is gone has its line; text of a caller never becomes a label."""
    port = _free_port()
    async with gateway(home, metrics_address=f"127.0.0.1:{port}") as gw:
        gw.models.gone.add("bert")
        request = search(3)
        request.candidates.columns.add(name="made-up", values=[1.0, 2.0, 3.0])
        await ask(gw, request)
        found = await _scrape(port)
    degraded = {frozenset(labels) for (name, labels) in found if name == "longtail_rank_degradations_total"}
    of = {"surface": "search"}
    assert degraded == {
        _labels(**of, component="member:bert", reason="UNAVAILABLE"),
        _labels(**of, component="column", reason="IGNORED"),
    }
    assert found["longtail_rank_degraded_total", _labels(**of)] == 1
    assert found["longtail_model_scores_absent_total", _labels(model="bert", version="1")] == 3
    assert found["longtail_model_requests_total", _labels(model="bert", version="1", outcome="unavailable")] == 1


def test_invented_callers_are_told_as_one() -> None:
    """The first names are told apart, all later ones are one."""
    metrics = CallMetrics()
    for i in range(CALLERS + 5):
        metrics.began("s")
        metrics.ended("s", "M", "", f"caller-{i}", "OK", 0.1)
    calls_ = {s.labels["caller"]: s.value for m in metrics.collect() for s in m.samples if s.name == "longtail_rpc_calls_total"}
    assert calls_ == {f"caller-{i}": 1 for i in range(CALLERS)} | {OTHERS: 5}


async def test_who_is_not_let_in_is_not_counted_by_name(home: Path) -> None:
    """A stranger cannot be counted as somebody else, nor use up the names that are told apart; health asks nobody who they are."""
    layout = Layout(home)
    create(layout.tokens, "shop", frozenset({Scope.RANK}), now=datetime.now(UTC))
    port = _free_port()
    async with gateway(home, metrics_address=f"127.0.0.1:{port}") as gw:
        metadata = (("x-caller", "somebody"),)
        with pytest.raises(grpc.aio.AioRpcError):
            await RankingServiceStub(gw.channel).Rank(search(3), metadata=metadata)
        await health_pb2_grpc.HealthStub(gw.channel).Check(health_pb2.HealthCheckRequest(), metadata=metadata)

        async def both_counted() -> bool:
            return sum(value for (name, _), value in (await _scrape(port)).items() if name == "longtail_rpc_calls_total") >= 2

        await eventually(both_counted)
        found = await _scrape(port)
    callers = {dict(labels)["caller"] for name, labels in found if name == "longtail_rpc_calls_total"}
    assert callers == {NOBODY}


def _of(spans: InMemorySpanExporter, trace: str) -> list[ReadableSpan]:
    return [s for s in spans.get_finished_spans() if f"{s.context.trace_id:032x}" == trace]


def _parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def _labels(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())


def _free_port() -> int:
    from deploy.triton.process import free_port

    return free_port()


async def _scrape(port: int) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    import asyncio

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            return str(response.read().decode())

    text = await asyncio.to_thread(read)
    return {(s.name, frozenset(s.labels.items())): s.value for f in text_string_to_metric_families(text) for s in f.samples}
