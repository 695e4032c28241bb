"""What can be seen of a server that runs: ids and lines of requests, and numbers for Prometheus.

With several workers each writes its own numbers into a folder, and the parent adds them up.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import prometheus_client as prometheus
import structlog
from fastapi import Request
from fastapi.responses import Response
from prometheus_client import multiprocess
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.datastructures import Headers, MutableHeaders

from sae_core.errors import SaefariError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from app.settings import Settings
    from app.tracing import RequestSpan, Tracing

log = logging.getLogger("saefari.request")

REQUEST_ID, ROUTE = "saefari.request", "saefari.route"  # in the scope of a request
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STEPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds

SECONDS = prometheus.Histogram(
    "saefari_request_seconds", "Seconds until an answer was sent.", ("route", "status"), buckets=_STEPS
)
RUNNING = prometheus.Gauge(
    "saefari_requests_running", "Requests that are being answered.", multiprocess_mode="livesum"
)
SEARCHES = prometheus.Gauge(
    "saefari_searches_waiting_or_running", "Searches that have or want a slot.", multiprocess_mode="livesum"
)
LIMITED = prometheus.Counter(
    "saefari_limited", "Requests beyond what one client may ask in a minute.", ("what",)
)
CUT = prometheus.Counter(
    "saefari_requests_cut", "Requests that were refused before they had come whole.", ("status",)
)
REFUSED = prometheus.Counter("saefari_searches_refused", "Searches turned away because the queue was full.")
STAGES = prometheus.Histogram(
    "saefari_search_stage_seconds", "Seconds of a stage of a search.", ("stage",), buckets=_STEPS
)
KNOWN = prometheus.Counter(
    "saefari_known", "What was looked for in memory (text: its vector; sum: the ranking).", ("what", "found")
)


_SPAN: ContextVar[RequestSpan | None] = ContextVar("saefari_span", default=None)  # threads inherit it
_OF_TRACES = ("traceparent", "tracestate")


class Observed:
    """Gives each request an id, a place in the numbers, and if wanted a line in the log and a span."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.tracing = _tracing(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, self._closing(send))
            return
        name = self._id_of(scope)
        scope[REQUEST_ID] = name
        began, status, size = time.perf_counter(), 0, 0

        async def send_and_count(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = name
            else:
                size += len(message.get("body", b""))
            await send(message)

        RUNNING.inc()
        span = None if self.tracing is None else self.tracing.begin(scope["method"], self._trace_of(scope))
        before = _SPAN.set(span)
        with structlog.contextvars.bound_contextvars(request=name):
            try:
                await self.app(scope, receive, send_and_count)
            finally:
                RUNNING.dec()
                _SPAN.reset(before)
                if span is not None:
                    span.end(scope.get(ROUTE), status, name)
                self._note(scope, status, size, time.perf_counter() - began)

    def _closing(self, send: Send) -> Send:
        """The last spans are sent before the server is told that the application has ended."""

        async def send_last(message: Message) -> None:
            if self.tracing is not None and message["type"].startswith("lifespan.shutdown."):
                await anyio.to_thread.run_sync(self.tracing.close)
            await send(message)

        return send_last

    def _id_of(self, scope: Scope) -> str:
        """The id that a proxy gave, if we are told to believe it; else a new one."""
        given = Headers(scope=scope).get("x-request-id", "") if self.settings.trust_request_ids else ""
        return given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(6)

    def _trace_of(self, scope: Scope) -> dict[str, str]:
        """Which trace a proxy says that this belongs to; believed where its ids are."""
        headers = Headers(scope=scope) if self.settings.trust_request_ids else {}
        return {name: headers[name] for name in _OF_TRACES if name in headers}

    def _note(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        SECONDS.labels(scope.get(ROUTE, "other"), str(status or "left")).observe(seconds)
        if self.settings.log_requests:
            log.info(
                "%s %s",
                scope["method"],
                scope["path"],
                extra={
                    "status": status or "left",  # without waiting for the answer
                    "bytes": size,
                    "ms": round(1e3 * seconds, 1),
                    "client": (scope.get("client") or ("",))[0],
                },
            )


def _tracing(settings: Settings) -> Tracing | None:
    if not settings.otlp_endpoint:
        return None
    from app.tracing import Tracing

    return Tracing(settings.otlp_endpoint)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a stage of a search, also one that fails."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - began
        STAGES.labels(name).observe(seconds)
        if span := _SPAN.get():
            span.stage(name, seconds)


def named(route: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[..., Any]:
    """The endpoint, under this name in the numbers."""

    async def answer(request: Request) -> Response:
        request.scope[ROUTE] = route
        return await endpoint(request)

    return answer


def serve_numbers(host: str, port: int, *, of_workers: bool) -> None:
    """Answer Prometheus at a port of its own, in a thread; SaefariError if it is taken."""
    registry = prometheus.REGISTRY
    if of_workers:
        registry = prometheus.CollectorRegistry()
        registry.register(_OfWorkers())
    try:
        prometheus.start_http_server(port, host, registry)
    except OSError as error:
        what = f"{host}:{port} cannot be listened on: {error.strerror}."
        raise SaefariError(what, remedy="Choose another SAEFARI_METRICS_PORT.") from error


class _OfWorkers(Collector):
    """The sums over all workers; what those that died were doing does not count."""

    def __init__(self) -> None:
        self._files = multiprocess.MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        self._folder = Path(self._files._path)  # noqa: SLF001 (where it found the folder in the environment)

    def collect(self) -> Iterable[Metric]:
        pids = {path.stem.rpartition("_")[2] for path in self._folder.glob("gauge_live*.db")}
        for pid in pids:
            if not Path(f"/proc/{pid}").exists():
                multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
        found: Iterable[Metric] = self._files.collect()  # type: ignore[no-untyped-call]
        return found
