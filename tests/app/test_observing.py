"""Ids and lines of requests, and what Prometheus reads."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import prometheus_client
import pytest
from fastapi.testclient import TestClient

from app import documents
from tests.app.served import Planted, serve

ROOT = Path(__file__).parents[2]


def sample(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


def test_requests_are_counted_by_route_and_status(planted: Planted, client: TestClient) -> None:
    route = "/{collection}/{sae}/features/{latent}"
    before = sample("saefari_request_seconds_count", route=route, status="200")
    lost = sample("saefari_request_seconds_count", route="other", status="404")
    for latent in (1, 2):
        client.get(f"{planted.base}/features/{latent}")
    client.get("/no/such/thing/anywhere/at/all")
    assert sample("saefari_request_seconds_count", route=route, status="200") == before + 2
    assert sample("saefari_request_seconds_count", route="other", status="404") == lost + 1
    assert sample("saefari_requests_running") == 0


def test_stages_of_searches_are_timed(planted: Planted, client: TestClient) -> None:
    before = sample("saefari_search_stage_seconds_count", stage="rank")
    client.get(f"{planted.search}?q={planted.queries[0]}")
    assert sample("saefari_search_stage_seconds_count", stage="rank") == before + 1
    assert sample("saefari_searches_waiting_or_running") == 0


def test_every_answer_has_an_id_which_only_a_trusted_proxy_may_choose(
    planted: Planted, client: TestClient
) -> None:
    given = {"X-Request-Id": "proxy-17"}
    first, second = (client.get(planted.base, headers=given).headers["x-request-id"] for _ in range(2))
    assert len({first, second, "proxy-17"}) == 3
    with TestClient(serve(planted, trust_request_ids=True)) as trusting:
        assert trusting.get(planted.base, headers=given).headers["x-request-id"] == "proxy-17"
        forged = trusting.get(planted.base, headers={"X-Request-Id": 'x" y=1'}).headers["x-request-id"]
        assert forged.isalnum()


def test_an_error_page_names_the_id_of_the_request(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(documents, "document_view", lambda *_: 1 / 0)
    with TestClient(serve(planted)) as client, caplog.at_level(logging.ERROR, "saefari"):
        answer = client.get(f"/{planted.explorer.name}/documents/doc-0100")
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.text
    assert answer.headers["x-request-id"] in caplog.text


def test_a_line_for_each_request_has_no_query(planted: Planted, caplog: pytest.LogCaptureFixture) -> None:
    with (
        TestClient(serve(planted, log_requests=True)) as client,
        caplog.at_level(logging.INFO, "saefari.request"),
    ):
        client.get(f"{planted.search}?q=my+secret+illness")
    [record] = [each for each in caplog.records if each.name == "saefari.request"]
    assert record.getMessage() == f"GET {planted.search}"
    assert record.__dict__["status"] == 200
    assert "illness" not in str(record.__dict__)


def test_lines_for_machines_are_json_with_tracebacks_inside() -> None:
    script = (
        "import logging; from app import logs; from app.settings import Settings\n"
        "logs.set_up(Settings(log_format='json'))\n"
        "log = logging.getLogger('saefari.request')\n"
        "log.info('GET /x', extra={'ms': 3})\n"
        "try: 1 / 0\n"
        "except Exception: log.exception('It failed:\\n%s', 'two\\nlines')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    first, second = map(json.loads, done.stderr.splitlines())
    assert first["event"] == "GET /x"
    assert first["ms"] == 3
    assert first["level"] == "info"
    assert second["exception"][0]["exc_type"] == "ZeroDivisionError"
