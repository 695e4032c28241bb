"""What a collector of OpenTelemetry gets of requests, and what it costs when there is none."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app import tracing
from app.settings import Settings
from tests.app.proxies import caddy, needs_caddy
from tests.app.served import Listening, Planted, serve

ROOT = Path(__file__).parents[2]
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Collector(ThreadingHTTPServer):
    """Keeps what it is sent; answers after `delay` seconds."""

    daemon_threads = True

    def __init__(self, delay: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.delay = delay
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Span]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        scopes = [scope for each in requests for rs in each.resource_spans for scope in rs.scope_spans]
        return [span for scope in scopes for span in scope.spans]


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.paths.add(self.path)
        time.sleep(self.server.delay)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector
        collector.shutdown()


def said(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_a_search_is_a_span_with_its_stages_and_without_its_query(
    planted: Planted, collector: Collector
) -> None:
    query = planted.queries[3]
    with TestClient(serve(planted, otlp_endpoint=collector.url)) as client:
        answer = client.get(f"{planted.search}?q={query}", headers={"traceparent": PARENT, "X-Secret": query})
    [request] = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    stages = [span for span in collector.spans if span is not request and span.parent_span_id]
    assert request.name == "GET /{collection}/{sae}/search"
    assert said(request) == {
        "http.request.method": "GET",
        "http.route": "/{collection}/{sae}/search",
        "http.response.status_code": 200,
        "saefari.request_id": answer.headers["x-request-id"],
    }
    assert {span.name for span in stages} == {"plan", "rank", "say", "write"}
    for span in stages:
        assert (span.trace_id, span.parent_span_id) == (request.trace_id, request.span_id)
        assert request.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    assert request.trace_id.hex() != TRACE, "a visitor chose the trace"
    assert collector.paths == {"/v1/traces"}
    sent = b"".join(collector.bodies)
    assert b"saefari" in sent
    for secret in (query, planted.explorer.name, planted.sae, "127.0.0.1", "testclient", "testserver"):
        assert secret.encode() not in sent


def test_a_trusted_proxy_names_the_trace_and_its_sampling(planted: Planted, collector: Collector) -> None:
    app = serve(planted, otlp_endpoint=collector.url, trust_request_ids=True)
    with TestClient(app) as client:
        client.get("/live", headers={"traceparent": PARENT})
        client.get("/live", headers={"traceparent": f"{PARENT[:-1]}0"})  # it does not keep this one
        client.get("/live", headers={"traceparent": "00-nonsense"})
    ours, other = sorted(collector.spans, key=lambda span: span.trace_id.hex() != TRACE)
    assert (ours.trace_id.hex(), ours.parent_span_id.hex()) == (TRACE, PARENT.split("-")[2])
    assert other.trace_id.hex() != TRACE
    assert not other.parent_span_id


@needs_caddy
def test_behind_our_caddy_visitors_name_no_trace(
    planted: Planted, collector: Collector, tmp_path: Path
) -> None:
    with (
        Listening(planted, otlp_endpoint=collector.url, trust_request_ids=True) as upstream,
        caddy((ROOT / "Caddyfile").read_text(encoding="utf-8"), upstream, tmp_path) as port,
    ):
        httpx2.get(f"http://127.0.0.1:{port}/live", headers={"traceparent": PARENT})
    [span] = collector.spans
    assert span.trace_id.hex() != TRACE


def test_a_failure_is_an_error_without_its_words(
    planted: Planted, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("my secret illness")

    monkeypatch.setattr("app.documents.document_view", fail)
    with TestClient(serve(planted, otlp_endpoint=collector.url)) as client:
        assert client.get(f"/{planted.explorer.name}/documents/doc-0100").status_code == 500
        client.request("MYSECRET", "/live")
    failed, odd = collector.spans
    if failed.name.startswith("_OTHER"):
        failed, odd = odd, failed
    assert said(failed)["http.response.status_code"] == 500
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert odd.name == "_OTHER"
    assert b"secret" not in b"".join(collector.bodies).lower()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_collector_that_takes_nothing_costs_no_request_and_a_line(
    planted: Planted, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(tracing, "SECONDS_TO_SEND", 0.3)
    monkeypatch.setattr(tracing, "SECONDS_TO_END", 0.6)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    with Collector(delay=5.0) as slow:
        if not is_there:
            slow.shutdown()
            slow.server_close()
        with TestClient(serve(planted, otlp_endpoint=slow.url)) as client:
            began = time.perf_counter()
            for _ in range(60):
                assert client.get("/live").status_code == 200
                time.sleep(0.01)
            assert time.perf_counter() - began < 2.5
            ending = time.perf_counter()
        assert time.perf_counter() - ending < 1.5
        if is_there:
            slow.shutdown()
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["saefari"]
    assert f"The collector at {slow.url} does not take traces" in warnings[0].getMessage()


def test_without_the_extra_there_is_a_sentence_and_without_the_setting_no_import() -> None:
    blocked = "import sys; sys.modules['opentelemetry.sdk'] = None; from app.cli import main; main()"
    arguments = ["serve", "--home", "/nowhere", "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-c", blocked, *arguments],
        cwd=ROOT,
        env={"SAEFARI_OTLP_ENDPOINT": "http://127.0.0.1:1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "pip install -c constraints.txt '.[otel]'" in done.stderr
    assert "Traceback" not in done.stderr
    script = (
        "import sys; from app.main import create_app; create_app().build_middleware_stack()\n"
        "print([name for name in ('opentelemetry.sdk', 'google.protobuf') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "address", ["127.0.0.1:4318", "http://key@host:4318", "http://h/v1/traces", "http://h/?key=1"]
)
def test_an_odd_address_of_a_collector_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"as http://127\.0\.0\.1:4318"):
        Settings(otlp_endpoint=address)
