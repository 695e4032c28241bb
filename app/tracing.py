"""Spans for a collector that speaks OpenTelemetry's OTLP over HTTP: one for each request, one for each stage.

They carry methods, routes, statuses and ids of requests; never addresses, queries or what an error said.
What is not set here is read by the SDK itself from the environment variables that begin with OTEL_.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from sae_core.errors import SaefariError

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
    from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as error:
    raise SaefariError(
        "SAEFARI_OTLP_ENDPOINT is set, but OpenTelemetry's SDK is not installed.",
        remedy="pip install -c constraints.txt '.[otel]'",
    ) from error

log = logging.getLogger("saefari")

SECONDS_TO_SEND = 3.0  # a batch, with everything that is tried again
SECONDS_TO_END = 3.0  # for what is still to be sent when the server stops
SECONDS_BETWEEN_WARNINGS = 300.0
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_TALKATIVE = (  # in their own words, at each try and at each span that is lost: `_Exporter` says it once
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)


class Tracing:
    """Collects the spans of this process, and sends them from a thread of its own."""

    def __init__(self, endpoint: str) -> None:
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        ours = Resource(
            {"service.name": "saefari", "service.version": version("saefari"), "process.pid": os.getpid()}
        )
        resource = ours.merge(OTELResourceDetector().detect())  # no name of the machine, no command
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(_Exporter(endpoint)))
        self._tracer = self._provider.get_tracer("saefari")

    def begin(self, method: str, headers: Mapping[str, str]) -> RequestSpan:
        """The span of a request, below the one that `headers` (traceparent, tracestate) name, if any."""
        method = method if method in _METHODS else "_OTHER"  # which could be any words of a visitor
        above = TraceContextTextMapPropagator().extract(headers)
        span = self._tracer.start_span(
            method, context=above, kind=SpanKind.SERVER, attributes={"http.request.method": method}
        )
        return RequestSpan(self, span, method)

    def note(self, name: str, above: Span, seconds: float) -> None:
        """A span that has just ended, and took so long."""
        end = time.time_ns()
        began = end - round(1e9 * seconds)
        self._tracer.start_span(name, set_span_in_context(above), start_time=began).end(end)

    def close(self) -> None:
        """Send what there is, for `SECONDS_TO_END` at most: what a slow collector has not got is lost."""
        closing = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        closing.start()
        closing.join(SECONDS_TO_END)


class RequestSpan:
    """One request, while it is answered."""

    def __init__(self, tracing: Tracing, span: Span, method: str) -> None:
        self._tracing = tracing
        self._span = span
        self._method = method

    def stage(self, name: str, seconds: float) -> None:
        """Note a stage that has just ended."""
        self._tracing.note(name, self._span, seconds)

    def end(self, route: str | None, status: int, request: str) -> None:
        """Note the route's pattern, the status (0: nobody waited for one) and the id of the request."""
        if route is not None:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if status >= 500:  # noqa: PLR2004
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.set_attribute("saefari.request_id", request)
        self._span.end()


class _Exporter(OTLPSpanExporter):
    """Says seldom, and in a sentence, that a collector takes nothing."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(f"{endpoint}/v1/traces", timeout=SECONDS_TO_SEND)
        self._shown = endpoint
        self._lost = 0
        self._warned = -SECONDS_BETWEEN_WARNINGS

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            return result
        self._lost += len(spans)
        now = time.monotonic()
        if now - self._warned >= SECONDS_BETWEEN_WARNINGS:
            self._warned = now
            log.warning(
                "The collector at %s does not take traces; %d spans are lost so far. Requests are answered "
                "all the same. Look whether it runs, and at SAEFARI_OTLP_ENDPOINT.",
                self._shown,
                self._lost,
            )
        return result
