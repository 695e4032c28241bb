"""Asks an OAI-PMH repository for pages: one at a time, at a polite rate, and believing nothing it sends.

How long an answer takes, how much it is, where it sends us and what is in it are bounded and checked. What a
pause may mend is asked again; the rest ends in a SourceError.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx2

from sae_core.corpus import clean_line
from sae_core.errors import SourceError
from sae_core.patience import BUSY, retry_after
from sae_core.sources.oai import MAX_SAID, Page, UnreadablePage, read_page

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 64 * 2**20  # of a page, unpacked; 1,500 records of arXiv are 5 MB
MAX_TOKEN = 6_000  # characters; more fits no address
MAX_REDIRECTS = 5
CONNECT_SECONDS = 20.0
PAUSE = 3.0  # seconds from one request to the next: what arXiv asks for
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 120.0  # seconds before a failed request is made again; doubled each time
PATIENCE = 900.0  # seconds; a repository that wants a longer pause is left in peace
# How often a page is asked for when it fails in this way.
TRIES_BUSY, TRIES_BROKEN, TRIES_LATE, TRIES_UNUSABLE = 8, 6, 4, 3
TRIES_UNREACHED = 2  # nobody has answered yet: the address may be wrong
AGENT = "Saefari (OAI-PMH harvester of a person's own collection)"

OK = 200
MOVED = frozenset((301, 302, 303, 307, 308))
LATER = "The same command goes on from what is there."


@dataclass(frozen=True)
class Query:
    """A list of records: of which repository, in which format, which part."""

    url: str
    prefix: str
    set: str = ""
    since: str = ""  # YYYY-MM-DD: changed on or after; "" is the beginning
    until: str = ""  # YYYY-MM-DD: changed on or before

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or parts.username or parts.password:
            what = f"{clean_line(self.url)!r} is not the address of a repository."
            raise SourceError(what, remedy="Give one like https://oaipmh.arxiv.org/oai.")

    def arguments(self, token: str = "") -> dict[str, str]:
        """What is asked: the list from its beginning, or the page that a token stands for."""
        if token:
            return {"verb": "ListRecords", "resumptionToken": token}
        given = {"set": self.set, "from": self.since, "until": self.until}
        chosen = {name: value for name, value in given.items() if value}
        return {"verb": "ListRecords", "metadataPrefix": self.prefix, **chosen}

    def __str__(self) -> str:
        """In words: the repository, the set, the days."""
        part = f", set {self.set}" if self.set else ""
        since = f", changed since {self.since}" if self.since else ""
        until = f"{'' if since else ', changed'} until {self.until}" if self.until else ""
        return f"{self.url} ({self.prefix}{part}{since}{until})"


class _Again(Exception):
    """One try did not work; the same request may, after a pause of at least `pause` seconds."""

    def __init__(self, what: str, remedy: str, tries: int, pause: float = 0.0) -> None:
        super().__init__(what)
        self.error, self.tries, self.pause = SourceError(what, remedy=remedy), tries, pause


class Repository:
    """Where a query is asked. `notice` is told why a request is made again, and when.

    Requests are `pause` seconds apart, the first of them `asked` seconds after the last of another process.
    """

    def __init__(
        self, query: Query, pause: float, timeout: float, notice: Callable[[str], None], *, asked: float
    ) -> None:
        self.query, self._notice = query, notice
        self._is_reached = False
        self._pause, self._timeout = pause, timeout
        self._url = query.url
        self._next = time.monotonic() + max(0.0, pause - asked)  # nothing may be asked before
        self._runner = asyncio.Runner()
        self._http = httpx2.AsyncClient(
            headers={"User-Agent": AGENT, "Accept": "text/xml, application/xml", "Accept-Encoding": "gzip"},
            # The total is watched in `_get`; this ends a connection that nothing comes from.
            timeout=httpx2.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout)),
            limits=httpx2.Limits(max_connections=1),
            trust_env=not _is_local(query.url),  # no proxy leads to this machine
        )

    def close(self) -> None:
        """End the connection."""
        self._runner.run(self._http.aclose())
        self._runner.close()

    def page(self, token: str = "") -> Page:
        """The first page of the query, or the one that a token stands for; waits until it may be asked.

        Asks again, after pauses, where that may help. Raises SourceError when there is no page to be had.
        """
        if len(token) > MAX_TOKEN:
            what = f"{self._where} gives a resumption token of {len(token):,} characters."
            raise SourceError(what, remedy="Ask for a smaller part, with --set, --from and --until.")
        return self._runner.run(self._ask(self.query.arguments(token)))

    async def _ask(self, arguments: dict[str, str]) -> Page:
        tries = 0
        while True:
            try:
                return await self._ask_once(arguments)
            except _Again as again:
                tries += 1
                if tries >= again.tries:
                    raise again.error from again
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))
                # Jitter: harvesters that failed together do not come back together.
                pause = max(again.pause, pause * random.uniform(0.75, 1.25))  # noqa: S311
                self._next = max(self._next, time.monotonic() + pause)
                self._notice(f"{again.error.what} Asking again in {pause:.0f} s")

    async def _ask_once(self, arguments: dict[str, str]) -> Page:
        for _ in range(MAX_REDIRECTS + 1):
            response, body = await self._get(arguments)
            if response.status_code not in MOVED:
                break
            self._url = self._moved(response.headers.get("location", ""))
        else:
            what = f"{self.query.url} leads from one address to the next, the last one is {self._where}."
            raise SourceError(what, remedy="Check the address of the repository.")
        is_ok = response.status_code == OK
        if response.status_code in BUSY:
            raise self._refusal(response, body)
        try:
            page = read_page(body, response.charset_encoding or "")
        except UnreadablePage as problem:
            raise (self._unusable(str(problem)) if is_ok else self._refusal(response, body)) from problem
        if not (is_ok or page.errors):
            raise self._refusal(response, body)
        return page  # some send the errors of the protocol with a status of their own

    async def _get(self, arguments: dict[str, str]) -> tuple[httpx2.Response, bytes]:
        """One request, not before its time, and its whole answer."""
        await asyncio.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._pause
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream("GET", _address(self._url, arguments)) as response,
            ):
                self._is_reached = True
                return response, await self._body(response)
        except (TimeoutError, httpx2.TimeoutException) as error:
            what = f"No answer from {self._where} within {self._timeout:g} s."
            raise _Again(what, f"Give it longer with --timeout. {LATER}", TRIES_LATE) from error
        except (httpx2.ConnectError, httpx2.ProxyError) as error:
            what = f"{self._where} cannot be reached: {_plain(str(error)) or type(error).__name__}."
            tries = TRIES_BROKEN if self._is_reached else TRIES_UNREACHED
            raise _Again(what, f"Check the address and the network. {LATER}", tries) from error
        except httpx2.RequestError as error:  # reset, cut off, not HTTP
            what = f"{self._where} broke the connection: {_plain(str(error)) or type(error).__name__}."
            raise _Again(what, LATER, TRIES_BROKEN) from error
        except httpx2.InvalidURL as error:
            what = f"{_plain(self._url)!r} is not the address of a repository."
            raise SourceError(what, remedy="Check it.") from error

    async def _body(self, response: httpx2.Response) -> bytes:
        """The answer, unpacked by ourselves so that not even a step of it can be larger than the bound."""
        packing = response.headers.get("content-encoding", "").strip().lower()
        if packing not in ("", "identity", "gzip", "x-gzip"):
            raise self._unusable(f"an answer packed as {_plain(packing)!r}, which was not asked for")
        unpack = _Unpacker() if packing.endswith("gzip") else None
        body = bytearray()
        try:
            async for part in response.aiter_raw():
                body += unpack(part, MAX_BYTES + 1 - len(body)) if unpack else part
                if len(body) > MAX_BYTES:
                    raise self._unusable(f"a page of more than {MAX_BYTES / 2**20:.0f} MiB")
        except zlib.error as error:
            raise self._unusable("an answer that is no gzip though it says so") from error
        if unpack and not unpack.is_whole:
            raise self._unusable("an answer that ends too early")
        return bytes(body)

    def _moved(self, location: str) -> str:
        """Where a redirect leads. Only to the same host, and never from https to http."""
        old = urlsplit(self._url)
        try:
            new = urlsplit(urljoin(self._url, location))
            same_port = new.port == old.port or (old.scheme, new.scheme) == ("http", "https")
        except ValueError:
            new, same_port = old, False
        is_upright = new.scheme == "https" or (new.scheme == "http" and old.scheme == "http")
        if not (location and is_upright and same_port and new.hostname == old.hostname):
            what = f"{self._where} sends us to {_plain(location) or 'nowhere'}, which is not followed."
            remedy = "If that is where the repository is now, give its address yourself."
            raise SourceError(what, remedy=remedy)
        return new._replace(query=old.query, fragment="").geturl()

    def _refusal(self, response: httpx2.Response, body: bytes) -> Exception:
        """What to raise for a status that is not 200."""
        status = response.status_code
        said = "" if body.lstrip()[:1] == b"<" else _plain(body[:1000].decode("utf-8", "replace"))
        what = f"{self._where} answers {status}{f' ({said})' if said else ''}"
        if status not in BUSY:
            return SourceError(f"{what}.", remedy="Check the address, or ask those who run it.")
        pause = retry_after(response.headers.get("retry-after", ""), response.headers.get("date", ""))
        if pause > PATIENCE:
            return SourceError(f"{what} and asks to wait {pause:,.0f} s.", remedy=f"{LATER} Give it then.")
        return _Again(f"{what}.", f"Try again later. {LATER}", TRIES_BUSY, pause)

    @property
    def _where(self) -> str:
        return _plain(self._url)

    def _unusable(self, problem: str) -> _Again:
        remedy = f"Check that it is the address of OAI-PMH; if it is, try again later. {LATER}"
        return _Again(f"{self._where} sent {problem}.", remedy, TRIES_UNUSABLE)


class _Unpacker:
    """gzip in parts, of one member or several, and never more than is asked for."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def is_whole(self) -> bool:
        return self._member.eof

    def __call__(self, part: bytes, room: int) -> bytes:
        unpacked = bytearray()
        while part and len(unpacked) < room:
            if self._member.eof:
                self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            unpacked += self._member.decompress(part, room - len(unpacked))
            part = self._member.unused_data
        return bytes(unpacked)


def _address(url: str, arguments: dict[str, str]) -> str:
    """With the arguments in the place of a verb that was pasted along; other parameters stay."""
    parts = urlsplit(url)
    own = [(name, value) for name, value in parse_qsl(parts.query) if name not in {"verb", *arguments}]
    return parts._replace(query=urlencode(own + list(arguments.items())), fragment="").geturl()


def is_arxiv(url: str) -> bool:
    """Whether it is a machine of arXiv's."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    return host == "arxiv.org" or host.endswith(".arxiv.org")


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _plain(text: str) -> str:
    return clean_line(text[: 4 * MAX_SAID])[:MAX_SAID].rstrip(".")
