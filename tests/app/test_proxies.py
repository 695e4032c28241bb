"""Who asks, where a proxy stands in between: believed only from addresses of the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from tests.app.proxies import caddy, needs_caddy
from tests.app.served import Listening, Planted, serve

ROOT = Path(__file__).parents[2]
Clients = Callable[[], list[str]]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Clients]:
    """Who asked, as the log has it."""
    with caplog.at_level(logging.INFO, "saefari.request"):
        yield lambda: [each.__dict__["client"] for each in caplog.records if each.name == "saefari.request"]


@pytest.mark.parametrize(
    "case",  # peer, X-Forwarded-For, SAEFARI_TRUSTED_PROXIES, client
    [
        ("127.0.0.1", "192.0.2.7", "", "127.0.0.1"),  # nobody is believed unless that is set
        ("192.0.2.9", "192.0.2.7", "127.0.0.1", "192.0.2.9"),  # a visitor who says so
        ("127.0.0.1", "192.0.2.7", "127.0.0.1", "192.0.2.7"),
        ("10.1.2.3", "192.0.2.7", "10.0.0.0/8", "192.0.2.7"),
        ("127.0.0.1", "198.51.100.1, 192.0.2.7", "127.0.0.1", "192.0.2.7"),  # only the last is the proxy's
        ("127.0.0.1", "192.0.2.7, 10.0.0.2", "127.0.0.1,10.0.0.2", "192.0.2.7"),  # two proxies of ours
    ],
)
def test_a_visitors_address_is_believed_from_our_proxies_alone(
    planted: Planted, logged: Clients, case: tuple[str, str, str, str]
) -> None:
    peer, forwarded, proxies, client = case
    app = serve(planted, log_requests=True, trusted_proxies=proxies)
    with TestClient(app, client=(peer, 4711)) as browser:
        browser.get("/live", headers={"X-Forwarded-For": forwarded})
    assert logged() == [client]


@pytest.mark.parametrize("proxies", ["localhost", "*", "10.0.0.1/8", "10.0.0.0/33", "::1, caddy"])
def test_what_is_no_address_of_a_proxy_is_refused(proxies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAEFARI_TRUSTED_PROXIES", proxies)
    with pytest.raises(ValueError, match="no address of a proxy"):
        Settings()


@needs_caddy
def test_behind_caddy_visitors_are_who_they_are(planted: Planted, tmp_path: Path, logged: Clients) -> None:
    chosen = {"trusted_proxies": ("127.0.0.1",), "trust_request_ids": True, "log_requests": True}
    with (
        Listening(planted, **chosen) as upstream,
        caddy((ROOT / "Caddyfile").read_text(encoding="utf-8"), upstream, tmp_path) as port,
    ):
        forged = {"X-Forwarded-For": "198.51.100.1", "X-Request-Id": "mine", "Accept-Encoding": "gzip"}
        page = httpx2.get(f"http://127.0.0.1:{port}{planted.base}", headers=forged)
    assert page.status_code == 200
    assert page.headers["content-encoding"] == "gzip"
    assert "server" not in {name.lower() for name in page.headers}
    assert page.headers["x-request-id"] != "mine"
    assert set(logged()) == {"127.0.0.1"}  # who asked Caddy, not who was claimed
