"""What one connection may cost: how long a request may take to come, how large it may be, who must read.

`Bounded` is uvicorn's own protocol with one timer for what a client has to send. A proxy in front has limits
of its own; these hold without one. What is refused here has not reached the application, so the answer is a
sentence and not a page. Requests on one connection are answered one after the other: a client that sends the
next one too early gets the answer to the first, and then the end, after which HTTP lets it ask again.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections import Counter
from enum import Enum, auto
from functools import lru_cache
from ipaddress import ip_address, ip_network
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.middleware import SECURITY_HEADERS
from app.observing import CUT
from app.turns import client_of

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from app.settings import Settings

LINGER = 2.0  # seconds that a refused client has to read why, before the connection is cut
FRAMING = 8  # times a body's size, at most: chunks of one byte need six, and what follows them is unread
_HEADERS = "".join(f"{name}: {value}\r\n" for name, value in SECURITY_HEADERS.items()).encode()
_clients: WeakKeyDictionary[ServerState, Counter[str]] = WeakKeyDictionary()  # how many connections each has


class _Phase(Enum):
    """What is awaited from the client."""

    NOTHING = auto()  # between requests
    HEADERS = auto()
    BODY = auto()


class _Refused(Exception):  # stops the parser, and never leaves this file
    def __init__(self, status: int, why: str) -> None:
        self.status, self.why = status, why


_UNREADABLE = _Refused(400, "This is no request that HTTP allows.")
_SLOW = _Refused(408, "The request did not come to its end in time.")
_HEADERS_TOO_LARGE = _Refused(431, "The address or the headers of the request are too large.")
_CROWDED = _Refused(503, "There are too many connections; try again in a moment.")


class Bounded(HttpToolsProtocol):
    """HTTP/1.1 for an application whose `state.settings` has the limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.settings = settings = _settings_of(config.loaded_app)
        # A little more than the application refuses with a page: what stands between headers counts here.
        self.most_before_body = settings.max_target_bytes + 2 * settings.max_header_bytes
        self.phase = _Phase.NOTHING
        self.n_bytes = self.n_body = 0  # that came in this phase, and of this body
        self.refused: _Refused | None = None
        self.is_deaf = False  # what still comes is not read
        self.deadline = self.rings = inf  # of what is awaited, and of the timer, by the loop's clock
        self.timer: asyncio.TimerHandle | None = None
        self.clients = _clients.setdefault(server_state, Counter())
        self.who = ""

    # --- the connection ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.who = client_of({"client": self.client})
        self.clients[self.who] += 1
        _drop_who_does_not_read(transport, self.settings.reader_seconds)
        if self._is_crowded():
            self._refuse(_CROWDED)
        else:
            self._await(self.settings.header_seconds)

    def _is_crowded(self) -> bool:
        if len(self.connections) > self.settings.max_connections:
            return True
        most = self.settings.max_client_connections
        return self.clients[self.who] > most and not _is_one_of(
            self.settings.trusted_proxies, (self.client or ("",))[0]
        )

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it where the client reset the connection
        self._ring_at(inf)
        self.clients[self.who] -= 1
        if not self.clients[self.who]:
            del self.clients[self.who]

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, unless its next request came while the loop had other things to do."""
        if not self.transport.is_closing() and _has_unread(self.transport):
            self.timeout_keep_alive_task = self.loop.call_later(LINGER, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """Let a request in flight end; after a while it is treated as one whose client has left."""
        super().shutdown()
        self.loop.call_later(self.settings.stop_seconds, self.transport.abort)

    # --- what comes -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.is_deaf:
            return
        self._unset_keepalive_if_required()
        if self.phase is _Phase.NOTHING:  # also for empty lines, which begin no message
            self._begin()
        try:
            self.parser.feed_data(data)
            self._count(len(data))
        except httptools.HttpParserUpgrade:  # to a protocol that is not spoken: answered as if not asked
            self._end_with_this_answer()
        except (httptools.HttpParserError, _Refused) as error:
            self._refuse(error if isinstance(error, _Refused) else self.refused or _UNREADABLE)

    def _begin(self) -> None:
        self.phase, self.n_bytes, self.n_body = _Phase.HEADERS, 0, 0
        self._await(self.settings.header_seconds)

    def _count(self, n: int) -> None:
        self.n_bytes += n
        if self.phase is _Phase.HEADERS and self.n_bytes > self.most_before_body:
            raise _HEADERS_TOO_LARGE
        if self.phase is _Phase.BODY and self.n_bytes > FRAMING * self.settings.max_body_bytes:
            raise self._body_too_large()

    # The parser calls these; an exception from them stops it.

    def on_message_begin(self) -> None:
        if self._is_answering:
            raise _UNREADABLE  # too early
        if self.phase is _Phase.NOTHING:
            self._begin()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.phase is _Phase.HEADERS:  # those after a body are nobody's
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        lengths = [int(value) for name, value in self.headers if name == b"content-length"]
        if max(lengths, default=0) > self.settings.max_body_bytes:
            self.refused = self._body_too_large()
            raise self.refused
        super().on_headers_complete()
        self.phase, self.n_bytes = _Phase.BODY, 0
        self._await(self.settings.body_seconds)

    def on_body(self, body: bytes) -> None:
        self.n_body += len(body)
        if self.n_body > self.settings.max_body_bytes:
            self.refused = self._body_too_large()
            raise self.refused
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.phase = _Phase.NOTHING
        self._await(None)

    @property
    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _body_too_large(self) -> _Refused:
        return _Refused(413, f"The request's body has more than {self.settings.max_body_bytes:,} bytes.")

    # --- what ends it -----------------------------------------------------------------------------

    def _await(self, seconds: float | None) -> None:
        """Give the client so long; None: nothing is awaited. A timer that rings too early is left to ring."""
        self.deadline = inf if seconds is None else self.loop.time() + seconds
        if self.deadline < self.rings:
            self._ring_at(self.deadline)

    def _ring_at(self, when: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.rings = when
        self.timer = None if when == inf else self.loop.call_at(when, self._ring)

    def _ring(self) -> None:
        is_late = self.loop.time() >= self.deadline
        self._ring_at(inf if is_late else self.deadline)
        if is_late:
            self._too_late()

    def _too_late(self) -> None:
        self.deadline = inf
        if self.is_deaf:
            self.transport.abort()
        elif self.phase is _Phase.NOTHING:
            self.transport.close()  # silently: a browser's spare connection must not find an answer
        elif self.phase is _Phase.BODY and self.flow.read_paused:  # it is us who do not read
            self._await(self.settings.body_seconds)
        else:
            self._refuse(_SLOW)

    def _refuse(self, refused: _Refused) -> None:
        """End the connection, with a sentence unless the client waits for an answer of the application."""
        is_running = self._is_answering
        is_own = self.phase is _Phase.BODY  # the application has the request that is refused
        if is_running and (not is_own or self.cycle.response_started):
            self._end_with_this_answer()
            return
        self.is_deaf = True
        CUT.labels(refused.status).inc()
        if is_own and is_running:
            self.cycle.disconnected, self.cycle.waiting_for_100_continue = True, False
            self.cycle.message_event.set()
        if is_running or not is_own:  # else it has been answered already
            self.transport.write(self._answer(refused))
        # Closed at once, it would be reset by what still comes, and the client might never read the answer.
        self.transport.write_eof()
        self._await(LINGER)

    def _end_with_this_answer(self) -> None:
        self.is_deaf = True
        self._await(None)
        self.cycle.keep_alive = False

    def _answer(self, refused: _Refused) -> bytes:
        text = f"{refused.why}\n".encode()
        dated = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        return b"".join(
            (
                STATUS_LINE[refused.status],
                dated,
                _HEADERS,
                b"Cache-Control: no-store\r\nConnection: close\r\n",
                b"Content-Type: text/plain; charset=utf-8\r\n",
                b"Content-Length: %d\r\n\r\n" % len(text),
                text,
            )
        )


def _settings_of(app: Any) -> Settings:
    while not hasattr(app, "state"):  # uvicorn may have put something around it
        app = app.app
    settings: Settings = app.state.settings
    return settings


def _has_unread(transport: asyncio.Transport) -> bool:
    """Whether something has come that the loop has not handed over yet."""
    coming = select.poll()
    coming.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(coming.poll(0))


def _drop_who_does_not_read(transport: asyncio.Transport, seconds: float) -> None:
    """Let the kernel end a connection whose client takes nothing of what is sent for so long (Linux)."""
    found = transport.get_extra_info("socket")
    if hasattr(socket, "TCP_USER_TIMEOUT") and found.family in {socket.AF_INET, socket.AF_INET6}:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1000 * seconds))


@lru_cache(1024)
def _is_one_of(networks: tuple[str, ...], client: str) -> bool:
    try:
        address = ip_address(client)
    except ValueError:
        return False
    return any(address in ip_network(network) for network in networks)
