"""A repository for tests: a real server on 127.0.0.1 that speaks OAI-PMH 2.0, well or badly.

It holds made-up records and lists them in pages. A test may answer any request itself (`fault`): with an
error, other bytes, or nothing at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from xml.sax.saxutils import escape

from tests.language_model import Raw, send

XML = {"Content-Type": "text/xml; charset=utf-8"}
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/">'
HEAD += "<responseDate>2026-11-23T12:00:00Z</responseDate>"
TAIL = "</OAI-PMH>"


@dataclass(frozen=True)
class Ask:
    """One request as it came."""

    number: int  # from 0
    path: str
    headers: dict[str, str]
    arguments: dict[str, str]

    @property
    def token(self) -> str:
        return self.arguments.get("resumptionToken", "")


Fault = Callable[[Ask], Raw | None]


def arxiv_record(number: int, *, abstract: str = "", title: str = "", status: str = "", **more: str) -> str:
    """A record in the format arXiv; `more` are further elements or other values of its own."""
    fields = {
        "id": f"24{1 + number // 20_000:02}.{number % 20_000:05}",
        "created": "2025-02-03",
        "authors": f"<author><keyname>Doe</keyname><forenames>Jane {number}</forenames></author>",
        "title": escape(title or f"On the matter of {number}"),
        "categories": "astro-ph.CO cs.LG",
        "abstract": escape(abstract or f"  We look at case {number}\n  and find nothing."),
        **more,
    }
    content = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    metadata = f'<metadata><arXiv xmlns="http://arxiv.org/OAI/arXiv/">{content}</arXiv></metadata>'
    return record(f"oai:arXiv.org:{fields['id']}", metadata, status=status)


def dublin_core_record(identifier: str, *elements: tuple[str, str] | tuple[str, str, str]) -> str:
    """A record in the format oai_dc: elements as (name, text) or (name, text, language)."""
    parts = []
    for name, text, *language in elements:
        marked = f' xml:lang="{language[0]}"' if language else ""
        parts.append(f"<dc:{name}{marked}>{escape(text)}</dc:{name}>")
    spaces = 'xmlns:oai_dc="http://www.openarchives.org/OAI/2.0/oai_dc/"'
    spaces += ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
    return record(identifier, f"<metadata><oai_dc:dc {spaces}>{''.join(parts)}</oai_dc:dc></metadata>")


def record(identifier: str, metadata: str, *, status: str = "", datestamp: str = "2024-05-06") -> str:
    mark = f' status="{status}"' if status else ""
    header = f"<identifier>{escape(identifier)}</identifier><datestamp>{datestamp}</datestamp>"
    return f"<record><header{mark}>{header}</header>{'' if status == 'deleted' else metadata}</record>"


def listing(records: Sequence[str], token: str = "", size: int | None = None, head: str = HEAD) -> str:
    """A page."""
    given = "" if size is None else f' completeListSize="{size}"'
    end = f"<resumptionToken{given}>{escape(token)}</resumptionToken>"
    return f"{head}<ListRecords>{''.join(records)}{end}</ListRecords>{TAIL}"


def error(code: str, message: str = "said the repository") -> Raw:
    return page(f'{HEAD}<error code="{code}">{message}</error>{TAIL}')


def page(text: str | bytes, **headers: str) -> Raw:
    body = text if isinstance(text, bytes) else text.encode()
    return Raw(body=body, headers={**XML, **headers})


@dataclass
class Repository:
    """The server while it runs: what it holds, and what it was asked."""

    records: Sequence[str]
    page_size: int = 10
    says_size: bool = True
    fault: Fault = lambda _: None
    date: str = ""  # what its clock shows, if it is wrong
    asks: list[Ask] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up
        self.url = f"http://127.0.0.1:{self._server.server_port}/oai"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def tokens(self) -> list[str]:
        """The pages that were asked for, "" being the first."""
        return [ask.token for ask in self.asks]

    def take(self, path: str, headers: dict[str, str]) -> Raw:
        parts = urlsplit(path)
        with self._lock:
            ask = Ask(len(self.asks), parts.path, headers, dict(parse_qsl(parts.query)))
            self.asks.append(ask)
        raw = self.fault(ask)
        return self.answer(ask) if raw is None else raw

    def answer(self, ask: Ask) -> Raw:
        """As the protocol wants it. A token says where its page begins."""
        start = int(ask.token.removeprefix("at ") or 0)
        end = start + self.page_size
        token = f"at {end}" if end < len(self.records) else ""
        size = len(self.records) if self.says_size else None
        return page(listing(self.records[start:end], token, size))

    def wait(self, seconds: float) -> None:
        self._closed.wait(seconds)


@contextmanager
def repository(records: Sequence[str], **options: Any) -> Iterator[Repository]:
    """A repository of these records, for the length of the context."""
    server = Repository(records, **options)
    try:
        yield server
    finally:
        server.close()


def _handler(server: Repository) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            raw = server.take(self.path, {name.lower(): value for name, value in self.headers.items()})
            send(self, raw, server.wait)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return server.date or super().date_time_string(timestamp)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
            pass

    return Handler
