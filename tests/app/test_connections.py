"""What comes too slowly, too large or not at all, sent byte by byte to a real server on a real port."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from fastapi.responses import StreamingResponse
from starlette.routing import Route

from app.authored import schema
from app.connections import Bounded
from app.middleware import SECURITY_HEADERS
from tests.app.served import Listening, Planted

HEAD = "Host: localhost\r\n"
FORM = f"{HEAD}Sec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\n"
LIMITS: dict[str, Any] = {
    "header_seconds": 0.4,
    "body_seconds": 0.4,
    "reader_seconds": 0.5,
    "idle_seconds": 1,
    "max_body_bytes": 100_000,
}


@pytest.fixture(scope="module")
def port(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    url = f"sqlite:///{tmp_path_factory.mktemp('authored')}/authored.sqlite"
    schema.upgrade(url)
    with Listening(planted, editing=True, database_url=url, **LIMITS) as port:
        yield port


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING):
        yield
    assert [record.getMessage() for record in caplog.records] == []


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read_to_end(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def sent(port: int, *parts: str | bytes, pause: float = 0.0) -> tuple[int, str, bytes]:
    """Status, headers and body of all that is answered until the server closes; 0 for nothing."""
    with connect(port) as connection:
        for part in parts:
            connection.sendall(part.encode() if isinstance(part, str) else part)
            time.sleep(pause)
        answer = read_to_end(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head[9:12] or 0), head.decode(), body


def is_well(port: int) -> bool:
    return sent(port, f"GET /live HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n")[::2] == (200, b"live\n")


def sentence(head: str, body: bytes) -> str:
    """What a refusal says, after a look at its form."""
    for name, value in SECURITY_HEADERS.items():
        assert f"\r\n{name}: {value}\r\n" in head
    assert f"\r\nContent-Length: {len(body)}" in head
    assert "\r\nConnection: close\r\n" in head
    assert "\r\ndate: " in head
    return body.decode()


def test_headers_that_come_byte_by_byte_are_not_waited_for(port: int) -> None:
    began = time.monotonic()
    with connect(port) as slow:
        slow.sendall(b"GET /live HTTP/1.1\r\n")
        slow.settimeout(0.05)
        answer = b""
        while not answer and time.monotonic() - began < 5:
            slow.sendall(b"a")
            try:
                answer = slow.recv(1 << 16)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert 0.3 < time.monotonic() - began < 2
    head, _, body = answer.partition(b"\r\n\r\n")
    assert "in time" in sentence(head.decode(), body)


@pytest.mark.parametrize("beginning", ["", "\r\n", "G", "GET /live HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_connection_without_a_request_ends(port: int, beginning: str) -> None:
    began = time.monotonic()
    status = sent(port, beginning)[0]
    assert status == (408 if beginning else 0)  # a browser's spare connection must not find an answer
    assert 0.3 < time.monotonic() - began < 3


def test_empty_lines_do_not_keep_a_connection(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(f"GET /live HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        connection.settimeout(0.1)
        while time.monotonic() - began < 5:
            connection.sendall(b"\r\n")
            try:
                connection.recv(1 << 16)
                break
            except TimeoutError:
                continue
        assert time.monotonic() - began < 2


def test_half_open_connections_keep_nobody_waiting(planted: Planted) -> None:
    with Listening(planted, **(LIMITS | {"header_seconds": 60})) as port, ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(connect(port)).sendall(b"GET / HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        assert is_well(port)
        assert time.monotonic() - began < 1


def test_an_idle_connection_is_closed_and_a_busy_one_is_kept(port: int) -> None:
    with connect(port) as connection:
        for _ in range(3):
            connection.sendall(f"GET /live HTTP/1.1\r\n{HEAD}\r\n".encode())
            assert connection.recv(1 << 16).endswith(b"live\n")
            time.sleep(0.5)  # longer than headers may take
        began = time.monotonic()
        assert connection.recv(1) == b""
        assert time.monotonic() - began < 3


def test_a_body_that_comes_too_slowly_is_refused(port: int) -> None:
    began = time.monotonic()
    status, head, body = sent(port, f"POST /sign-in HTTP/1.1\r\n{FORM}Content-Length: 50\r\n\r\n", "a")
    assert (status, time.monotonic() - began < 2) == (408, True)
    assert "in time" in sentence(head, body)


def test_who_leaves_while_sending_a_form_is_no_error(port: int) -> None:
    """The fixture looks at the log."""
    for _ in range(5):
        with connect(port) as connection:
            connection.sendall(f"POST /sign-in HTTP/1.1\r\n{FORM}Content-Length: 50\r\n\r\na".encode())
            time.sleep(0.02)
    with connect(port) as connection:
        connection.sendall(f"POST /sign-in HTTP/1.1\r\n{FORM}Content-Length: 50\r\n\r\na".encode())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    assert is_well(port)


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(port: int) -> None:
    began = time.monotonic()
    for expecting in ("", "Expect: 100-continue\r\n"):
        with connect(port) as connection:
            connection.sendall(
                f"POST /sign-in HTTP/1.1\r\n{FORM}{expecting}Content-Length: 100001\r\n\r\n".encode()
            )
            head, _, body = connection.recv(1 << 16).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413")
        assert "100,000 bytes" in sentence(head.decode(), body)
    assert time.monotonic() - began < 0.3


def test_a_body_that_grows_too_large_is_refused_while_it_comes(port: int) -> None:
    start = f"POST /sign-in HTTP/1.1\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"2710\r\n" + b"a" * 10_000 + b"\r\n"
    assert sent(port, start, *[chunk] * 9, b"0\r\n\r\n")[0] not in {408, 413}
    status, head, body = sent(port, start, *[chunk] * 30)
    assert status == 413
    assert "100,000 bytes" in sentence(head, body)


def test_what_follows_the_last_chunk_is_bounded_and_unread(port: int) -> None:
    start = f"POST /sign-in HTTP/1.1\r\n{FORM}Transfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: "
    assert sent(port, start, *[b"a" * 100_000] * 10)[0] == 413


@pytest.mark.parametrize(
    "start",
    ["GET /live HTTP/1.1\r\nX: ", "GET /", f"GET /live HTTP/1.1\r\n{HEAD}"],
    ids=["value", "url", "lines"],
)
def test_headers_are_refused_while_they_come(port: int, start: str) -> None:
    """No end of them is waited for, and no more of them kept than is allowed."""
    more = b"X-Some: thing\r\n" * 1000 if start.endswith("\n") else b"a" * 15_000
    status, head, body = sent(port, start, *[more] * 12)
    assert status == 431
    assert "too large" in sentence(head, body)


def test_headers_within_the_limits_are_answered(port: int) -> None:
    many = "".join(f"X-{i}: {'x' * 300}\r\n" for i in range(100))
    assert sent(port, f"GET /live HTTP/1.1\r\n{HEAD}{many}Connection: close\r\n\r\n")[0] == 200


def test_who_does_not_read_is_dropped(planted: Planted) -> None:
    listening = Listening(planted, idle_seconds=60, reader_seconds=0.5)
    with listening as port, socket.socket() as stalled, connect(port) as reader:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", port))
        for connection in (stalled, reader):
            connection.sendall(f"GET /static/app.css HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert reader.recv(1 << 20)
        connections = listening.server.server_state.connections
        assert len(connections) == 2
        deadline = time.monotonic() + 5
        while len(connections) == 2:
            assert time.monotonic() < deadline
            reader.setblocking(False)
            with suppress(BlockingIOError):
                reader.recv(1 << 20)
            time.sleep(0.05)
        reader.setblocking(True)
        reader.sendall(f"GET /live HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n".encode())
        assert read_to_end(reader).endswith(b"live\n")


def test_a_request_that_comes_as_its_connection_ends_for_idleness_is_answered(planted: Planted) -> None:
    """The loop was busy: the request is there, and the timer rings before anybody has looked."""
    listening = Listening(planted, idle_seconds=60)
    request = f"GET /live HTTP/1.1\r\n{HEAD}\r\n".encode()
    with listening as port, connect(port) as connection:
        connection.sendall(request)
        assert connection.recv(1 << 16).endswith(b"live\n")
        [idle] = listening.server.server_state.connections
        assert isinstance(idle, Bounded)

        def ring_after_a_request() -> None:
            connection.sendall(request)
            idle.timeout_keep_alive_handler()

        idle.loop.call_soon_threadsafe(ring_after_a_request)
        assert connection.recv(1 << 16).endswith(b"live\n")
        idle.loop.call_soon_threadsafe(idle.timeout_keep_alive_handler)
        assert connection.recv(1 << 16) == b""


def test_an_idle_connection_that_the_client_resets_leaves_no_timer(planted: Planted) -> None:
    """Where it rang later it asked a socket that was gone."""
    listening = Listening(planted, idle_seconds=60)
    with listening as port:
        with connect(port) as connection:
            connection.sendall(f"GET /live HTTP/1.1\r\n{HEAD}\r\n".encode())
            assert connection.recv(1 << 16).endswith(b"live\n")
            [idle] = listening.server.server_state.connections
            assert isinstance(idle, Bounded)
            assert idle.timeout_keep_alive_task
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert is_well(port)  # by now the loop has seen the reset
        assert not listening.server.server_state.connections & {idle}
        assert idle.timeout_keep_alive_task is None


@pytest.mark.parametrize(
    "request_of",
    [
        "POST /sign-in HTTP/1.1\r\n{form}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /sign-in HTTP/1.1\r\n{form}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /sign-in HTTP/1.1\r\n{form}Content-Length: -1\r\n\r\n",
        "POST /sign-in HTTP/1.1\r\n{form}Content-Length: 99999999999999999999999\r\n\r\n",
        "POST /sign-in HTTP/1.1\r\n{form}Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
        "POST /sign-in HTTP/1.1\r\n{form}Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        "POST /sign-in HTTP/1.1\r\n{form}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\na\r\n",
        "POST /sign-in HTTP/1.1\r\n{form}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /sign-in HTTP/1.1\r\n{form}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "GET /live HTTP/1.1\r\n{head} X: folded\r\n\r\n",
        "GET /live HTTP/1.1\n{head}\n",
        "GET /live HTTP/1.1\r\n{head}X: a\0b\r\n\r\n",
        "GET /live HTTP/9.9\r\n{head}\r\n",
        "GET /li\u00e9ve HTTP/1.1\r\n{head}\r\n",
        "CONNECT localhost:22 HTTP/1.1\r\n{head}\r\n",
        "hello\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",  # how TLS begins
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=range(18),
)
def test_what_two_servers_might_read_differently_is_refused(port: int, request_of: str) -> None:
    """And nothing that follows it on the connection is taken for a request."""
    text = request_of.format(form=FORM, head=HEAD)
    status, head, body = sent(port, text, f"GET /live HTTP/1.1\r\n{HEAD}\r\n")
    assert status in {400, 413}
    assert body.count(b"HTTP/1.1") == 0
    assert sentence(head, body)


def test_a_request_that_comes_too_early_gets_no_answer_of_its_own(port: int) -> None:
    live = f"GET /live HTTP/1.1\r\n{HEAD}\r\n"
    for second in (live, "garbage\r\n\r\n", "POST"):
        status, head, body = sent(port, live + second)
        assert (status, body) == (200, b"live\n")
        assert "connection: close" in head


def test_no_other_protocol_is_spoken(port: int) -> None:
    for protocol in (
        "websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "h2c",
    ):
        upgrade = f"GET /live HTTP/1.1\r\n{HEAD}Connection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        status, head, body = sent(port, upgrade.encode() + b"\x81\x05hello")  # later, it would be reset
        assert (status, body) == (200, b"live\n")
        assert "connection: close" in head


def test_old_clients_and_careful_ones_are_answered(port: int) -> None:
    assert sent(port, f"GET /live HTTP/1.0\r\n{HEAD}\r\n")[::2] == (200, b"live\n")
    form = f"POST /sign-in HTTP/1.1\r\n{FORM}Expect: 100-continue\r\nConnection: close\r\n"
    with connect(port) as connection:
        connection.sendall(f"{form}Content-Length: 7\r\n\r\n".encode())
        assert connection.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"token=x")
        assert re.match(rb"HTTP/1.1 [34]\d\d ", read_to_end(connection))


def test_one_client_may_have_only_so_many_connections(planted: Planted) -> None:
    with Listening(planted, max_client_connections=3) as port, ExitStack() as stack:
        held = [stack.enter_context(connect(port)) for _ in range(3)]
        time.sleep(0.05)
        status, head, body = sent(port)
        assert status == 503
        assert "too many connections" in sentence(head, body)
        held[0].close()
        time.sleep(0.05)
        assert is_well(port)
    with Listening(planted, max_client_connections=1, trusted_proxies="127.0.0.1") as port, connect(port):
        assert is_well(port)
    with Listening(planted, max_connections=1, trusted_proxies="127.0.0.1") as port, connect(port):
        time.sleep(0.05)
        assert sent(port)[0] == 503


def test_a_server_that_stops_waits_only_so_long_for_answers(planted: Planted) -> None:
    """The fixture looks at the log: nobody's answer is torn in a way that is an error."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"a" * 100_000
            await asyncio.sleep(0)

    listening = Listening(planted, stop_seconds=0.5)
    listening.app.router.routes.insert(0, Route("/endless", lambda _: StreamingResponse(endless())))
    with listening as port, connect(port) as stalled, connect(port) as fast:
        for connection in (stalled, fast):
            connection.sendall(f"GET /endless HTTP/1.1\r\n{HEAD}\r\n".encode())
        assert fast.recv(1 << 16)
        began = time.monotonic()
        listening.server.should_exit = True
        with suppress(ConnectionResetError):
            while fast.recv(1 << 20):
                pass
        listening.thread.join(10)
        assert 0.4 < time.monotonic() - began < 3
