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
from tests.planted import WORDS

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
        "/docs.csv",
        "/openapi",
        "/openapi.csv",
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
        f"/{{base}}/search?q=x&{name}={value}"
        for name in ("keep", "keywords", "cited_min", "refine", "diverse")
        for value in (HUGE, "-1", "nan", "inf", "1e999", "x", "2;1")
    ]
    found += [
        f"/{{base}}/search?q=x&{name}={value}"
        for name in ("ignore", "require", "exclude", "lock")
        for value in (HUGE, "-1", "64", "1.5", "nan", "x")
    ]
    found += [
        f"/{{base}}/search?q=x&family={value}" for value in ("3", "3:nan", "3:1e9", "-1:0.1", f"{HUGE}:0.1")
    ]
    found += [
        "/{base}/search?q=x&view=grid",
        "/{base}/search?q=x&against=doc-0001",
        "/{base}/search?q=x&why=" + "x" * 1001,
        "/{base}/search?q=x&lens=x",
        "/{base}/search?q=x&lens=a;b;c",
        "/{base}/search?q=x&paste={{",
        *[
            "/{base}/search?q=x&" + "&".join(f"{name}=d{i}" for i in range(60))
            for name in ("up", "a", "like")
        ],
        *[
            "/{base}/search?q=x&" + "&".join(f"{name}=v{i}" for i in range(40))
            for name in ("venue", "category")
        ],
        "/{base}/search?" + "&".join(f"require={i}" for i in range(5000)),
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
        f"search?q=x&category={sent}&cited_min=1",
        f"search?q={sent}&keywords=0.5",
        f"search?q=x&why={sent}",
        f"search?q=x&up={sent}&down={sent}&a={sent}&b={sent}",
        f"search?q=x&like={sent}&unlike={sent}",
    ):
        assert client.get(f"{planted.base}/{url}").status_code == 200


ALL_ZERO = "&".join(f"f={latent}:+0.00" for latent in range(64))
DEAD_END = {
    "every slider at zero": (f"q={WORDS[0]}&{ALL_ZERO}", ""),
    "nothing but zeros": (ALL_ZERO, "nothing to search for"),
    "a document and its opposite": ("like=doc-0100&unlike=doc-0100", "cancels out"),
    "a feature twice": (f"q={WORDS[0]}&f=3:+0.40&f=3:-0.20", ""),
    "ignored and set": (f"q={WORDS[0]}&f=3:+0.40&ignore=3", ""),
    "required and excluded": (f"q={WORDS[0]}&require=3&exclude=3", "both has and lacks"),
    "years the wrong way round": (f"q={WORDS[0]}&year_min=2011&year_max=2003", "year_max"),
    "filters that leave nothing": (f"q={WORDS[0]}&year_min=2005&cited_min=1000", "No document passes"),
    "beyond the end": (f"q={WORDS[0]}&page=999", "There is no page 999"),
    "beyond the end, with marks": (f"q={WORDS[0]}&page=999&up=doc-0101&why=doc-0102&view=ab", "no page 999"),
    "unknown documents": (f"q={WORDS[0]}&like=x&unlike=y&up=z&down=z&a=v&why=w", "There is no document"),
    "only unknown documents": ("like=x", "There is no document"),
    "marked up and down": (f"q={WORDS[0]}&up=doc-0101&down=doc-0101", "0 wanted, 0 not"),
    "why against itself": (f"q={WORDS[0]}&why=doc-0101&against=doc-0101", "captured by features"),
    "an unknown family": (f"q={WORDS[0]}&family=63:+0.40", ""),
    "a lens of another": (f"q={WORDS[0]}&lens=mine;k9-n9-abc;3:%2B0.40", "mine"),
    "words without a query": ("f=3:+0.40&keywords=1", "no words"),
    "a cosine that cannot be kept": (f"q={WORDS[0]}&f=3:-9.00&keep=0.99", "0.99"),
    "refined to nothing": (f"q={WORDS[0]}&refine=1", ""),
    "everything at once": (
        (
            f"q={WORDS[0]}&{ALL_ZERO}&ignore=3&require=4&exclude=5&keep=0.5&refine=1&keywords=1&diverse=1"
            "&year_min=2001&venue=x&category=y&cited_min=0&view=ab&why=doc-0101&against=doc-0102&up=doc-0103"
        ),
        "No document here has the venue",
    ),
}


@pytest.mark.parametrize("name", DEAD_END)
def test_the_panel_stays_and_the_message_says_what_to_do(
    name: str, planted: Planted, client: TestClient
) -> None:
    query, words = DEAD_END[name]
    partial = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
    for headers in ({}, partial):
        answer = client.get(f"{planted.search}?{query}", headers=headers)
        assert answer.status_code in {200, 400}
        assert words in answer.text
        assert headers or 'id="steer"' in answer.text
    twin = client.get(f"{planted.search}.json?{query}")
    assert twin.status_code == answer.status_code


@pytest.mark.parametrize("state", ["loading", "failed", "absent"])
def test_without_an_encoder_documents_and_features_can_be_searched(state: str, planted: Planted) -> None:
    with TestClient(serve(planted, planted.without_encoder(state))) as client:
        for query in ("like=doc-0100&f=3:%2B0.30", "f=3:%2B0.30&up=doc-0101", "like=doc-0100&why=doc-0101"):
            assert len(client.get(f"{planted.search}.json?{query}").json()["results"]) == 10
        text = "q=never+embedded&like=doc-0100&up=doc-0101&keywords=0.5&f=3:%2B0.30"
        page = client.get(f"{planted.search}?{text}")
        assert page.status_code == 200
        for part in ('id="s3"', 'id="keywords"', 'form="steer" name="up" value="doc-0101"'):
            assert part in page.text


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
