"""A browser as the server sees it: what it keeps, asks again, sends at once, and abandons.

Runs in the process of locust, where gevent has replaced sockets and threads: nothing else imports it.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import urlencode, urlsplit

import gevent
from gevent.pool import Pool
from locust import FastHttpUser
from locust.contrib.fasthttp import FastHttpSession

CONNECTIONS = 6  # that browsers open to one server
KEPT = 60  # pages
HTML = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
BUSY = (429, 503)  # right answers where they say when to try again
RIGHT = (200, 202, 302, 303, 304, 307, 409)
LONGEST = 30.0  # seconds that anybody waits because a server asked for it

# What was answered, by route and status; "left" where the browser did not wait for it.
ANSWERS: dict[str, Counter[str]] = defaultdict(Counter)

_OWN = {"static": "/static/{file}", "s": "/s/{slug}"}
_SHARED = {"documents", "compare", "lists", "lenses", "links"}  # of a collection, not of an SAE


def route(url: str) -> str:
    """The name of an address, as `/{collection}/{sae}/features/{n}`."""
    path = urlsplit(url).path
    stem, dot, suffix = path.rpartition(".")
    if not (dot and re.fullmatch(r"json|csv|parquet|bib|ris|atom|png|svg", suffix)):
        stem, dot, suffix = path, "", ""
    first, *rest = stem.strip("/").split("/")
    if first in _OWN:
        return _OWN[first]
    if first in {"", "index", "docs", "openapi", "sign-in", "sign-out", "edit"}:
        return path
    names = ["{collection}"]
    if rest:
        names += [rest[0]] if rest[0] in _SHARED else ["{sae}", *rest[1:2]]
        below = rest[len(names) - 1 :]
        names += below if below == ["random"] else ["{n}"] * bool(below) + below[1:] * ("embed" in below)
    return f"/{'/'.join(names)}{dot}{suffix}"


@dataclass(frozen=True)
class Answer:
    """What came back; the status 0 where nothing did."""

    status: int
    headers: dict[str, str]
    text: str

    @classmethod
    def of(cls, response: Any) -> Answer:
        headers = {name.lower(): value for name, value in (response.headers or {}).items()}
        return cls(response.status_code, headers, response.text or "")


@dataclass
class Slider:
    latent: str
    low: float
    high: float
    strength: float


@dataclass
class Page:
    """What a page offers, and its text where somebody reads it at once."""

    url: str
    links: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sliders: list[Slider] = field(default_factory=list)
    text: str = ""

    @classmethod
    def read(cls, url: str, text: str) -> Page:
        links = [unescape(each) for each in re.findall(r'<a [^>]*?href="(/[^"#]*)', text)]
        files = [unescape(each) for each in re.findall(r'(?:src|href)="(/static/[^"]+)"', text)]
        rows = re.findall(
            r'data-latent="(\d+)".*? data-low="([^"]+)" data-high="([^"]+)".*? data-strength="([^"]+)"', text
        )
        sliders = [Slider(latent, float(low), float(high), float(own)) for latent, low, high, own in rows]
        return cls(url, links, files, sliders, text)

    def form(self, action: str, having: str = "") -> dict[str, str] | None:
        """The hidden fields of the form that is sent there; of several, one that has this word."""
        blocks: list[str] = re.findall(rf'<form [^>]*action="{action}".*?</form>', self.text, re.DOTALL)
        chosen = next((block for block in blocks if having in block), None)
        if chosen is None:
            return None
        fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', chosen)
        return {name: unescape(value) for name, value in fields}


class Browser:
    """One visitor at an address of their own, which a proxy in front would tell the server."""

    def __init__(self, user: FastHttpUser, address: str) -> None:
        self.user, self.address = user, address
        self._session, self._steering = self._connect(CONNECTIONS), self._connect(1)
        self._kept: OrderedDict[str, tuple[str, Page]] = OrderedDict()
        self._for_ever: set[str] = set()
        self._asking: gevent.Greenlet[[], Page | None] | None = None

    def _connect(self, n: int) -> FastHttpSession:
        return FastHttpSession(
            self.user.host, self.user.environment.events.request, self.user, concurrency=n,
            network_timeout=60.0, connection_timeout=60.0,
        )  # fmt: skip

    # --- pages -------------------------------------------------------------------------------------

    def open(self, url: str, *, again: bool = False) -> Page:
        """Follow a link: the page, and what of its files is not here yet; `again`: all, as by F5."""
        for _ in range(4):
            answer, page = self._page(url)
            if answer.status not in {302, 303, 307}:
                break
            url = answer.headers["location"]
        files = [each for each in dict.fromkeys(page.files) if again or each not in self._for_ever]
        Pool(CONNECTIONS - 1).map(self._file, files)
        return page

    def _page(self, url: str) -> tuple[Answer, Page]:
        tag, kept = self._kept.get(url, ("", Page(url)))
        answer = self._ask(
            self._session, "GET", url, headers={**HTML, **({"If-None-Match": tag} if tag else {})}
        )
        if answer.status == 304:
            self._kept.move_to_end(url)
            return answer, kept
        page = Page.read(url, answer.text)
        self._keep(url, answer, page)
        return answer, page

    def _keep(self, url: str, answer: Answer, page: Page) -> None:
        if answer.status == 200 and "etag" in answer.headers:
            kept = Page(page.url, page.links, page.files, page.sliders)
            self._kept[url] = (answer.headers["etag"], kept)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)

    def _file(self, url: str) -> None:
        tag, _ = self._kept.get(url, ("", None))
        answer = self._ask(self._session, "GET", url, headers={"If-None-Match": tag} if tag else {})
        self._keep(url, answer, Page(url))
        if "immutable" in answer.headers.get("cache-control", ""):
            self._for_ever.add(url)

    def fetch(self, url: str) -> None:
        """As a program does: no files, nothing kept."""
        self._ask(self._session, "GET", url)

    # --- fragments ---------------------------------------------------------------------------------

    def replace(self, url: str, target: str) -> None:
        """Ask for a fragment; what was asked before and is not here yet is given up (hx-sync: replace)."""
        if self._asking is not None and not self._asking.ready():
            self._asking.kill()
            ANSWERS[f"{route(url)} #{target}"]["left"] += 1
            self._steering = self._connect(1)  # the connection is closed with what was asked on it
        self._asking = gevent.spawn(self._fragment, url, target)

    def settle(self) -> Page | None:
        """The answer to what was asked last."""
        page = self._asking.get() if self._asking is not None else None
        self._asking = None
        return page

    def _fragment(self, url: str, target: str) -> Page | None:
        headers = {
            "HX-Request": "true",
            "HX-Request-Type": "partial",
            "HX-Target": target,
            "Accept": "text/html",
        }
        answer = self._ask(self._steering, "GET", url, f"{route(url)} #{target}", headers=headers)
        return Page.read(url, answer.text) if answer.status == 200 else None

    # --- forms -------------------------------------------------------------------------------------

    def send(self, action: str, fields: dict[str, str]) -> Answer:
        """Send a form, once. No answer at all has the status 0."""
        headers = {
            **HTML, "Sec-Fetch-Site": "same-origin", "Origin": str(self.user.host),
            "Content-Type": "application/x-www-form-urlencoded",
        }  # fmt: skip
        return self._ask(self._session, "POST", action, data=urlencode(fields), headers=headers)

    # --- all of them -------------------------------------------------------------------------------

    def _ask(
        self, session: FastHttpSession, method: str, url: str, name: str = "", *,
        headers: dict[str, str] | None = None, data: str | None = None,
    ) -> Answer:  # fmt: skip
        """One request. A server that is busy and says until when is asked again, unless it was a form."""
        name = name or route(url)
        sent = {"X-Forwarded-For": self.address, **(headers or {})}
        shown = name if method == "GET" else f"{method} {name}"
        while True:
            response: Any = session.request(
                method, url, shown, data, catch_response=True, headers=sent, allow_redirects=False
            )
            with response:
                answer = Answer.of(response)
                retry = answer.headers.get("retry-after")
                is_busy = answer.status in BUSY and retry is not None
                if answer.status in RIGHT or is_busy:
                    response.success()
                else:
                    response.failure(f"{answer.status} {url}: {response.error or answer.text[-400:]}")
            ANSWERS[shown][str(answer.status)] += 1
            if not is_busy or method != "GET":
                return answer
            gevent.sleep(min(LONGEST, float(retry or 1)))
