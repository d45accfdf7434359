"""The one module that knows OpenTelemetry: spans of a call, under the caller's trace and above those of the servers it asks.

Off unless the standard variables name an exporter: OTEL_TRACES_EXPORTER (otlp or console) or OTEL_EXPORTER_OTLP_ENDPOINT; the SDK
reads the others (OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_EXPORTER_OTLP_*, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME) itself. Off, a
span costs a comparison, and the caller's `traceparent` is passed on as it came. The SDK is only imported when it is on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.rpc import calls
from services.rpc.settings import InvalidSettingError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_EXPORTERS = ("otlp", "console", "none")
_tracer: Tracer | None = None
_NOTHING = nullcontext()
_propagator = TraceContextTextMapPropagator()


@contextmanager
def exporting(service: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Trace while the context lasts, if the environment says so; its end sends what is left.

    Args:
        service: name of the process where OTEL_SERVICE_NAME gives none.
        environ: with the OTEL_* variables.

    Raises:
        InvalidSettingError: naming the variable.
    """
    provider = _provider(service, environ)
    if provider is None:
        yield
        return
    try:
        with using(provider):
            yield
    finally:
        provider.shutdown()


@contextmanager
def using(provider: trace.TracerProvider) -> Iterator[None]:
    """Spans go to this provider while the context lasts."""
    global _tracer  # noqa: PLW0603 - of the process, like the loggers
    _tracer = provider.get_tracer("longtail")
    try:
        yield
    finally:
        _tracer = None


@contextmanager
def _serving(tracer: Tracer, method: str, call: calls.Call) -> Iterator[None]:
    parent = _propagator.extract({calls.TRACEPARENT: call.traceparent}) if call.traceparent else otel_context.Context()
    service, _, name = method.strip("/").rpartition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name, "longtail.request_id": call.request_id}
    with tracer.start_as_current_span(method.strip("/"), parent, SpanKind.SERVER, attributes) as span:
        call.trace_id = f"{span.get_span_context().trace_id:032x}"
        yield


def serving(method: str, call: calls.Call) -> AbstractContextManager[None]:
    """The server's span of a call: a child of the caller's, or the root of a new trace.

    Args:
        method: `/package.Service/Method`.
        call: told its trace id.
    """
    return _NOTHING if _tracer is None else _serving(_tracer, method, call)


def span(name: str, **attributes: str | int | float | bool) -> AbstractContextManager[Any]:
    """A part of what is being done."""
    return _NOTHING if _tracer is None else _tracer.start_as_current_span(name, attributes=attributes)


def asking(name: str, **attributes: str | int | float | bool) -> AbstractContextManager[Any]:
    """A call to another server; `outgoing` within it are the metadata to send."""
    return _NOTHING if _tracer is None else _tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes)


def outgoing() -> tuple[tuple[str, str], ...]:
    """Metadata that make what another server does part of this trace; empty where there is none."""
    if _tracer is None:
        call = calls.current.get()
        return ((calls.TRACEPARENT, call.traceparent),) if call and call.traceparent else ()
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return tuple(carrier.items())


def ended(code: str) -> None:
    """The status that the call being answered ends with; what is not OK is an error of the server only where it is its fault."""
    if _tracer is not None:
        now = trace.get_current_span()
        now.set_attribute("rpc.grpc.status", code)
        if code in ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"):
            now.set_status(Status(StatusCode.ERROR))


def _provider(service: str, environ: Mapping[str, str]) -> TracerProvider | None:
    """From the environment; None: off."""
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    name = environ.get("OTEL_TRACES_EXPORTER", "").strip() or ("otlp" if endpoint else "none")
    if name not in _EXPORTERS:
        raise InvalidSettingError(f"OTEL_TRACES_EXPORTER: must be {', '.join(_EXPORTERS)}, got {name!r}")
    if name == "none" or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if name == "otlp" and protocol != "http/protobuf":
        raise InvalidSettingError(f"OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf, got {protocol!r}")
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

    exporter: SpanExporter
    if name == "console":
        exporter = ConsoleSpanExporter()
    else:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError:
            raise InvalidSettingError("OTEL_TRACES_EXPORTER: otlp needs the package's extra: pip install 'longtail[otlp]'") from None
        exporter = OTLPSpanExporter()
    resource = Resource.create({} if environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
