"""The server around the pages: headers, files, start, capacity, errors."""

from __future__ import annotations

import copy
import logging
import shutil
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from app import documents, pages, search
from app.main import create_app
from app.middleware import SECURITY_HEADERS
from app.settings import Settings, asset_folder
from app.turns import SearchSlots
from tests.app.served import Listening, Planted, serve


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.json",
        "/live",
        "/ready",
        "/nothing/here",
        "/static/app.css",
        "/static/missing.css",
        "/{base}/search?q=x&page=0",
        "/{base}/features/random",
    ],
)
def test_every_answer_has_the_security_headers(path: str, planted: Planted, client: TestClient) -> None:
    headers = client.get(path.format(base=planted.base.strip("/"))).headers
    for name, value in SECURITY_HEADERS.items():
        assert headers[name] == value
    assert "unsafe" not in headers["content-security-policy"]
    assert "cache-control" in headers


def test_refused_hosts_get_the_security_headers_too(client: TestClient) -> None:
    assert "content-security-policy" in client.get("/", headers={"Host": "evil"}).headers


def test_files_with_a_version_are_kept_for_ever(client: TestClient) -> None:
    assert "immutable" in client.get("/static/app.css?v=1234567890").headers["cache-control"]
    assert client.get("/static/app.css").headers["cache-control"] == "no-cache"
    assert client.get("/static/missing.css?v=1").headers["cache-control"] == "no-cache"


def test_an_unexpected_error_is_a_page_with_a_number_and_no_traceback(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(documents, "document_view", fail)
    with TestClient(serve(planted)) as client, caplog.at_level(logging.ERROR, "saefari"):
        answer = client.get(f"/{planted.explorer.name}/documents/doc-0100")
        twin = client.get(f"/{planted.explorer.name}/documents/doc-0100.json")
    assert answer.status_code == twin.status_code == 500
    assert "<h1" in answer.text
    assert "secret" not in answer.text + twin.text
    assert "content-security-policy" in answer.headers
    numbers = [record.args[0] for record in caplog.records if isinstance(record.args, tuple) and record.args]
    assert str(numbers[0]) in answer.text
    assert "secret detail" in caplog.text


def test_collections_are_found_below_home(planted: Planted) -> None:
    with TestClient(create_app(Settings(home=planted.home)), follow_redirects=False) as client:
        assert client.get("/").headers["location"] == f"/{planted.explorer.name}"
        assert client.get(f"{planted.base}/features").status_code == 200
        assert client.get("/ready").json()["encoders"] == {planted.explorer.name: "absent"}
        assert client.get("/live").status_code == 200


def test_a_damaged_collection_is_named_and_takes_no_other_down(planted: Planted, tmp_path: Path) -> None:
    shutil.copytree(planted.home / "collections", tmp_path / "collections")
    good = tmp_path / "collections" / planted.explorer.name
    bad = tmp_path / "collections" / "broken"
    shutil.copytree(good, bad)
    index = next(bad.rglob("index.faiss"))
    index.write_bytes(index.read_bytes()[:-1])
    with TestClient(create_app(Settings(home=tmp_path)), follow_redirects=False) as client:
        home = client.get("/")
        assert home.status_code == 200
        [(name, problem)] = client.get("/index.json").json()["problems"]
        assert name == "broken"
        assert "index.faiss" in problem
        assert client.get(f"{planted.base}/features").status_code == 200
        broken = client.get("/broken")
        assert broken.status_code == 404
        assert "index.faiss" in broken.text
        assert client.get("/ready").json()["not_served"] == ["broken"]


def test_an_empty_home_says_how_to_begin(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(home=tmp_path / "none"))) as client:
        assert "saefari" in client.get("/").text
        assert client.get("/index.json").json() == {"collections": [], "problems": []}


def test_pages_answer_while_the_encoder_is_loading(planted: Planted) -> None:
    explorer, release = copy.copy(planted.explorer), threading.Event()
    embedder, explorer._embedder, explorer.embedder_state = explorer._embedder, None, "loading"
    assert embedder is not None
    loaded = threading.Event()

    def load_encoder(**_: Any) -> None:
        release.wait(10)
        explorer.attach_encoder(embedder)
        loaded.set()

    explorer.load_encoder = load_encoder  # type: ignore[method-assign]
    with TestClient(serve(planted, explorer)) as client:
        assert client.get(f"{planted.base}/features").status_code == 200
        assert "loaded" in client.get(f"{planted.search}?q=a+new+query").text
        release.set()
        assert loaded.wait(10)
        assert client.get(f"{planted.search}?q=a+new+query").text.count('class="result"') == 10


def test_an_encoder_that_fails_in_an_unforeseen_way_is_said_to_have_failed(planted: Planted) -> None:
    explorer, tried = copy.copy(planted.explorer), threading.Event()
    explorer._embedder, explorer.embedder_state = None, "loading"

    def load_encoder(**_: Any) -> None:
        tried.set()
        raise MemoryError

    explorer.load_encoder = load_encoder  # type: ignore[method-assign]
    with TestClient(serve(planted, explorer)) as client:
        assert tried.wait(10)
        for _ in range(100):
            if client.get("/ready").json()["encoders"] == {explorer.name: "failed"}:
                break
        assert "MemoryError" in client.get(f"{planted.search}?q=asked+of+no+encoder").text


@pytest.mark.parametrize("name", ["ui.html", "base.html", "pages/scorecard.html"])
def test_a_template_that_fails_keeps_no_encoder_from_loading(
    name: str, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    shutil.copytree(asset_folder("templates"), tmp_path / "templates")
    (tmp_path / "templates" / name).write_text("{% this is no template %}")
    explorer, loaded = copy.copy(planted.explorer), threading.Event()
    explorer._embedder, explorer.embedder_state = None, "loading"
    explorer.load_encoder = lambda **_: loaded.set()  # type: ignore[method-assign]
    monkeypatch.setattr(pages, "asset_folder", tmp_path.joinpath)
    pages._environment.cache_clear()
    try:
        with TestClient(serve(planted, explorer)) as client:
            assert loaded.wait(10)
            ready = client.get("/ready")
    finally:
        pages._environment.cache_clear()
    assert ready.status_code == 503
    assert name in ready.json()["templates_not_usable"]
    assert f"The template {name} cannot be used" in caplog.text


# --- capacity -------------------------------------------------------------------------------------


class Visitors:
    """Requests to a `SearchSlots` around an application that counts and waits."""

    def __init__(self, slots: int, queue: int) -> None:
        self.served: list[str] = []
        self.most_at_once = self.at_once = 0
        self.middleware = SearchSlots(self.application, slots=slots, queue=queue, is_search=lambda _: True)

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        assert (await receive())["type"] == "http.request"
        await anyio.sleep(0.02)
        self.served.append(scope["query_string"].decode())
        self.at_once -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def visit(self, name: str, statuses: list[int], *, gone: bool = False) -> None:
        scope: Scope = {"type": "http", "method": "GET", "path": "/search.json", "headers": []}
        scope["query_string"] = name.encode()

        async def receive() -> Message:
            if gone:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await self.middleware(scope, receive, send)


def test_searches_whose_browser_has_gone_are_not_run() -> None:
    visitors, statuses = Visitors(slots=2, queue=100), list[int]()

    async def drag_a_slider() -> None:
        async with anyio.create_task_group() as group:
            for i in range(30):
                group.start_soon(partial(visitors.visit, str(i), statuses, gone=i % 10 != 9))

    anyio.run(drag_a_slider)
    assert sorted(visitors.served) == ["19", "29", "9"]
    assert statuses == [200, 200, 200]
    assert visitors.most_at_once <= 2


def test_a_full_queue_turns_away_and_recovers() -> None:
    visitors, statuses = Visitors(slots=1, queue=2), list[int]()

    async def crowd() -> None:
        for _ in range(2):
            async with anyio.create_task_group() as group:
                for i in range(5):
                    group.start_soon(visitors.visit, str(i), statuses)

    anyio.run(crowd)
    assert sorted(statuses) == [200] * 6 + [503] * 4
    assert (visitors.middleware.turns.n_free, visitors.middleware.turns.n_waiting) == (1, 0)


def ask(port: int, path: str) -> socket.socket:
    """A request on a connection of its own."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def test_a_search_that_waits_is_not_run_when_its_browser_leaves(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search holds the only slot; of those behind it all but the last hang up."""
    ran, release, begun = [], threading.Event(), threading.Event()
    rank = search._rank

    def slow(asked: search.Search, *rest: Any) -> Any:
        ran.append(asked.query.q)
        begun.set()
        release.wait(10)
        return rank(asked, *rest)

    monkeypatch.setattr(search, "_rank", slow)
    with Listening(planted, search_slots=1) as port:
        first = ask(port, f"{planted.search}?q=first")
        assert begun.wait(10)
        waiting = [ask(port, f"{planted.search}?q=gone+{i}") for i in range(5)]
        last = ask(port, f"{planted.search}?q=last")
        time.sleep(0.1)
        for connection in waiting:
            connection.close()
        time.sleep(0.1)
        release.set()
        for connection in (first, last):
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            connection.close()
    assert ran == ["first", "last"]


def test_a_search_that_waits_for_a_thread_is_not_begun_when_its_browser_leaves(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every thread is busy with something else."""
    ran, stays = list[str](), threading.Event()
    answer = search._search

    def counted(request: Any, *rest: Any) -> Any:
        ran.append(request.url.query)
        return answer(request, *rest)

    async def occupy() -> Any:
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens, before = 1, limiter.total_tokens
        async with limiter:
            while not stays.is_set():  # noqa: ASYNC110 (another thread sets it)
                await anyio.sleep(0.01)
        limiter.total_tokens = before
        return PlainTextResponse("free")

    monkeypatch.setattr(search, "_search", counted)
    monkeypatch.setattr("app.main.live", occupy)
    with Listening(planted, search_slots=1) as port:
        busy = ask(port, "/live")
        time.sleep(0.1)
        ask(port, f"{planted.search}?q=gone").close()
        time.sleep(0.1)
        stays.set()
        assert busy.recv(1 << 12).startswith(b"HTTP/1.1 200")
        stayed = ask(port, f"{planted.search}?q=stayed")
        assert stayed.recv(1 << 16).startswith(b"HTTP/1.1 200")
        for connection in (busy, stayed):
            connection.close()
    assert ran == ["q=stayed"]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAEFARI_HOME", str(tmp_path))
    monkeypatch.setenv("SAEFARI_ALLOWED_HOSTS", "a.example, b.example")
    monkeypatch.setenv("SAEFARI_PORT", "9000")
    settings = Settings()
    assert (settings.home, settings.port) == (tmp_path, 9000)
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert all(field.description for field in Settings.model_fields.values())
    monkeypatch.setenv("SAEFARI_PORT", "99999")
    with pytest.raises(ValueError, match="65535"):
        Settings()
