"""Requests as no polite client would send them, byte by byte to a real server on a real port."""

from __future__ import annotations

import gzip
import re
import socket
from collections.abc import Iterator

import pytest

from app.authored import schema
from tests.app.served import Listening, Planted
from tests.planted import WORDS

TRAVERSALS = [
    "/static/../pyproject.toml",
    "/static/..%2fpyproject.toml",
    "/static/%2e%2e/pyproject.toml",
    "/static/%2e%2e%2fpyproject.toml",
    "/static/..%252fpyproject.toml",
    "/static/..%5cpyproject.toml",
    "/static/..\\pyproject.toml",
    "/static/....//pyproject.toml",
    "/static/%c0%ae%c0%ae/pyproject.toml",
    "/static/%c0%ae%c0%ae%c0%afpyproject.toml",
    "/static/%uff0e%uff0e/pyproject.toml",
    "/static/app.css/../../pyproject.toml",
    "/static/app.css%00../../pyproject.toml",
    "/static/..%00/pyproject.toml",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "//etc/passwd",
    "/../../../../etc/passwd",
    "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/planted/../../pyproject.toml",
    "/planted/%2e%2e%2f%2e%2e%2fcorpus.json",
    "/planted/documents/..%2f..%2f..%2fetc%2fpasswd",
    "/planted/documents?id=../../../../etc/passwd",
    "/planted/lists/..%2f..%2fauthored.sqlite",
    "/s/..%2f..%2fauthored.sqlite",
    "/file:///etc/passwd",
]
SECRET = re.compile(rb"root:.*:0:0:|^\[project\]|SQLite format 3", re.MULTILINE)
BREAKS = [
    "%0d%0aX-Injected:%207",
    "%0aX-Injected:%207",
    "%0dX-Injected:%207",
    "%e5%98%8a%e5%98%8dX-Injected:%207",
]
CLAIMS = [
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Port: 666",
    "X-Forwarded-Server: evil.test",
    "X-Forwarded-Prefix: //evil.test",
    "X-Host: evil.test",
    "X-Original-URL: //evil.test/",
    "X-Rewrite-URL: //evil.test/",
    "Forwarded: host=evil.test;proto=https",
]


@pytest.fixture(scope="module")
def port(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    url = f"sqlite:///{tmp_path_factory.mktemp('authored')}/authored.sqlite"
    schema.upgrade(url)
    with Listening(planted, editing=True, database_url=url, max_body_bytes=100_000) as port:
        yield port


def answer(port: int, request: bytes) -> tuple[int, str, bytes]:
    """Status, headers and body of what the server says until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        parts = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = parts.partition(b"\r\n\r\n")
    return int(head[9:12]), head.decode("latin-1"), body


def get(port: int, target: str, *headers: str, host: str = "localhost") -> tuple[int, str, bytes]:
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return answer(port, "\r\n".join(lines).encode("latin-1"))


def test_no_path_leads_out_of_its_folder(port: int) -> None:
    for target in TRAVERSALS:
        status, head, body = get(port, target)
        assert 300 <= status < 500, f"{target}: {status}"
        assert not SECRET.search(body), target
        assert "\r\nlocation: //" not in head.lower(), target
    assert get(port, "/static/app.css")[0] == 200


def test_no_parameter_ends_a_header(port: int, planted: Planted) -> None:
    """Those that come back in a header: where to go on, names of files, where a list goes on."""
    search = f"{planted.search}?q={WORDS[0]}"
    for line in BREAKS:
        targets = [
            f"/sign-in?next=/{line}",
            f"{search}{line}&n=2",
            f"{planted.search}.csv?q={WORDS[0]}{line}",
            f"{planted.search}.json?q={WORDS[0]}{line}",
            f"{planted.base}/features.csv?words={line}",
            f"{planted.base}/features/{line}",
            f"{planted.base}{line}/",
            f"/planted/documents/{line}",
            f"/{line}",
        ]
        for target in targets:
            status, head, _ = get(port, target)
            assert status < 500, target
            assert not re.search(r"[\r\n]\s*x-injected", head, re.IGNORECASE), target
            assert not re.search(r"[^\r]\n|\r[^\n]", head), target
    form = f"next=%2F{BREAKS[0]}&token=x".encode()
    lines = ["POST /sign-in HTTP/1.1", "Host: localhost", "Sec-Fetch-Site: same-origin", "Connection: close"]
    lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(form)}", "", ""]
    assert "\r\nx-injected" not in answer(port, "\r\n".join(lines).encode() + form)[1].lower()


def test_who_asks_does_not_choose_the_name_in_links(port: int, planted: Planted) -> None:
    """Addresses in feeds and previews, redirects, tags for caches: the same whatever is claimed."""
    feed = f"{planted.search}.atom?q={WORDS[0]}"
    page = f"{planted.search}?q={WORDS[0]}"
    assert b"http://localhost/" in get(port, feed)[2]
    for target in (feed, page, "/", "/sign-in", f"{planted.base}/", "/openapi.json"):
        status, head, _ = get(port, target)
        tag = re.findall(r"(?i)\r\netag: (.*)", head)
        for claims in ([claim] for claim in CLAIMS):
            claimed = get(port, target, *claims)
            assert claimed[0] == status, f"{target} {claims}"
            assert b"evil.test" not in claimed[2], f"{target} {claims}"
            assert "evil.test" not in claimed[1], f"{target} {claims}"
            assert re.findall(r"(?i)\r\netag: (.*)", claimed[1]) == tag, f"{target} {claims}"
            assert b"https://localhost" not in claimed[2], f"{target} {claims}"
    for host in (
        "evil.test",
        "localhost:80@evil.test",
        "localhost:80/evil.test",
        "[::1]@evil.test",
        "localhost.evil.test",
        "localhost\tevil.test",
        "",
    ):
        status, head, body = get(port, feed, host=host)
        assert status == 400, host
        assert b"http://evil.test" not in body
    status, head, body = get(port, f"http://evil.test{feed}")  # the form that proxies are asked in
    assert b"http://evil.test/" not in body
    assert "evil.test" not in head


def test_a_packed_form_is_not_unpacked(port: int) -> None:
    """A kilobyte may not become a megabyte, nor hide what it says."""
    for body in (gzip.compress(b"token=" + b"a" * 50_000_000), gzip.compress(b"token=x&next=/")):
        lines = ["POST /sign-in HTTP/1.1", "Host: localhost", "Sec-Fetch-Site: same-origin"]
        lines += ["Connection: close", "Content-Type: application/x-www-form-urlencoded"]
        lines += ["Content-Encoding: gzip", f"Content-Length: {len(body)}", "", ""]
        status, head, said = answer(port, "\r\n".join(lines).encode() + body)
        assert status in {400, 415}
        assert "set-cookie" not in head.lower()
        assert len(said) < 50_000
