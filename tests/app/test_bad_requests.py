"""Requests that a naive application answers with a traceback: ours says what is wrong, and writes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from tests.app.served import Planted, serve

HUGE = "99999999999999999999"
ODD_WORDS = [
    "\0",
    "😀\"'",
    "the OR *",
    "",
    '"',
    "NEAR(a b)",
    "title:x",
    "-a",
    "(",
    "a AND",
    "*",
    "^a",
    "{",
    "';--",
]


def fingerprint(folder: Path) -> str:
    """Sha256 over names, contents and times of change of all files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path} {path.stat().st_mtime_ns}".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_written(planted: Planted) -> Iterator[None]:
    before = fingerprint(planted.home)
    yield
    assert fingerprint(planted.home) == before


def bad_addresses() -> list[str]:
    found = [
        f"/{{base}}/features/{HUGE}",
        "/{base}/features/-1",
        "/{base}/features/1.5",
        "/{base}/features/nan",
        "/{base}/features/%00",
        "/{base}/features/%D9%A1",
        f"/{{base}}/families/{HUGE}",
        "/{base}/families/x",
        f"/{{collection}}/documents/{HUGE}",
        "/{collection}/documents/%00",
        "/{collection}/documents/../../../etc/passwd",
        "/{collection}/documents/..%2f..%2f..%2fetc%2fpasswd",
        "/{collection}/documents",
        "/{collection}/documents?id=" + "x" * 1001,
        "/{collection}/documents/doc-0100?sae=gone",
        "/{collection}/nosuchsae",
        "/{collection}/k6-n64-000000/search?q=dust&f=3:+0.4",
        "/nosuchcollection",
        "/nosuchcollection/x/search?q=1",
        "/%00",
        "/a/b/c/d/e/f",
        "/docs",
        "/openapi.json",
        "/static/",
        "/static/%00",
        "/static/..%2f..%2fpyproject.toml",
        "/static/../pyproject.toml",
        "/static/%2e%2e/pyproject.toml",
        "/static/" + "x" * 5000,
    ]
    for name in ("page", "year_min", "year_max"):
        found += [
            f"/{{base}}/search?q=x&{name}={value}"
            for value in (HUGE, "-1", "nan", "inf", "1e999", "x", "1;2")
        ]
    found += [
        f"/{{base}}/search?q=x&f=3:{value}" for value in ("nan", "inf", "-inf", "1e999", "", "x", "1:2", HUGE)
    ]
    found += [
        f"/{{base}}/search?q=x&f={value}"
        for value in (f"{HUGE}:0.1", "-1:0.1", "3", ":", "64:0.1", "1,2:0.1")
    ]
    found += [
        "/{base}/search?" + "&".join(f"f={i}:0.1" for i in range(5000)),
        "/{base}/search?q=" + "x" * 2001,
        "/{base}/search?q=" + "x" * 60_000,
        "/{base}/features?page=0",
        f"/{{base}}/features?page={HUGE}",
        "/{base}/features?sort=drop",
        "/{base}/features?min_density=nan",
        "/{base}/features?max_density=-1",
        "/{base}/features/3?tab=secret",
        "/{base}/features/3?tab=all&page=-1",
        "/{base}/families?sort=x",
        "/{base}/families?page=1e9",
        f"/{{base}}/families/3?open={HUGE}",
        "/{base}/families/3?open=" + ",".join(map(str, range(200))),
        "/{base}/families?algorithm=nesting",
        "/{base}/families?min_size=50&max_size=40",
        *[f"/{{base}}/families?threshold={value}" for value in ("nan", "inf", "1e999", "-0.1", "1.1", "x")],
        *[f"/{{base}}/families?max_size={value}" for value in (HUGE, "0", "-4", "4.5", "x")],
    ]
    return found


@pytest.mark.parametrize("pattern", bad_addresses(), ids=lambda pattern: pattern[:60])
def test_bad_addresses_get_a_page_that_says_so(pattern: str, planted: Planted, client: TestClient) -> None:
    url = pattern.format(base=f"{planted.explorer.name}/{planted.sae}", collection=planted.explorer.name)
    answer = client.get(url, headers={"Accept": "text/html"})
    assert 400 <= answer.status_code < 500
    assert "Traceback" not in answer.text
    if ".json" not in url:
        assert "<h1" in answer.text
    else:
        assert answer.json()["status"] == answer.status_code


@pytest.mark.parametrize("words", ODD_WORDS)
def test_odd_words_are_words(words: str, planted: Planted, client: TestClient) -> None:
    sent = quote(words)
    for url in (
        f"search?q={sent}",
        f"search?q=x&find={sent}",
        f"features?words={sent}",
        f"search?venue={sent}",
    ):
        assert client.get(f"{planted.base}/{url}").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_pages_are_only_read(method: str, planted: Planted, client: TestClient) -> None:
    for path in ("/", f"/{planted.explorer.name}", planted.search, f"{planted.base}/features/3"):
        answer = client.request(method, path)
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]
        assert "<h1" in answer.text


@pytest.mark.parametrize(
    "host", ["evil", "evil.example.org", "localhost.evil", "", "127.0.0.1.evil:80", "[::2]"]
)
def test_other_host_names_are_refused(host: str, client: TestClient) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "<h1" in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]"])
def test_its_own_host_names_are_answered(host: str, client: TestClient) -> None:
    assert client.get("/live", headers={"Host": host}).status_code == 200


def test_host_names_can_be_allowed(planted: Planted) -> None:
    with TestClient(serve(planted, host="10.0.0.7", allowed_hosts="*.example.org, explorer")) as client:
        statuses = {
            host: client.get("/live", headers={"Host": host}).status_code
            for host in (
                "10.0.0.7:80",
                "a.example.org",
                "explorer:80",
                "example.org.evil",
                "evilexample.org",
                "localhost",
            )
        }
    assert statuses == {
        "10.0.0.7:80": 200,
        "a.example.org": 200,
        "explorer:80": 200,
        "example.org.evil": 400,
        "evilexample.org": 400,
        "localhost": 400,
    }


def test_ranges_are_not_served(client: TestClient) -> None:
    for ranges in ("bytes=0-0,1-1", "bytes=" + ",".join(["0-"] * 1000), "bytes=9-1", "x"):
        answer = client.get("/static/app.css", headers={"Range": ranges})
        assert answer.status_code == 200
        assert "multipart" not in answer.headers["content-type"]


def test_overlarge_headers_are_refused(client: TestClient) -> None:
    assert client.get("/live", headers={"Cookie": "x" * 40_000}).status_code == 431


def test_a_query_of_a_megabyte_is_refused(planted: Planted) -> None:
    app, answer = serve(planted), []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": planted.search,
        "raw_path": planted.search.encode(),
        "query_string": b"q=" + b"x" * 2**20,
        "headers": [(b"host", b"localhost")],
        "app": app,
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        answer.append(message)

    anyio.run(app, scope, receive, send)
    assert answer[0]["status"] == 414
    assert sum(len(message.get("body", b"")) for message in answer) < 10_000


def test_a_rebuilt_sae_says_so_and_asks_the_same_elsewhere(planted: Planted, client: TestClient) -> None:
    answer = client.get(f"/{planted.explorer.name}/k6-n64-000000/search.json?q=dust&f=3:+0.4")
    assert answer.status_code == 404
    assert "rebuilt" in answer.json()["message"]
    assert f"{planted.search}?q=dust" in [option["url"] for option in answer.json()["suggestions"]]


def test_an_unknown_document_suggests_similar_ones(planted: Planted, client: TestClient) -> None:
    answer = client.get(f"/{planted.explorer.name}/documents/study-123.json")
    assert f"/{planted.explorer.name}/documents/doc-0123" in [o["url"] for o in answer.json()["suggestions"]]


def test_errors_reach_htmx_as_a_block(planted: Planted, client: TestClient) -> None:
    partial = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
    answer = client.get(f"{planted.search}?page=x", headers=partial)
    assert answer.status_code == 400
    assert "<html" not in answer.text
    assert "page" in answer.text
    assert "HX-Target" in answer.headers["vary"]
