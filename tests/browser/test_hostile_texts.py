"""Texts that would like to be scripts, in every field that holds one, on every kind of page; and other sites.

Chromium says when something ran, was asked of another site, or was stopped by the content security policy:
that last net must not even be touched.
"""

from __future__ import annotations

import http.cookiejar
import http.server
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit

import pytest
import sqlalchemy as sa
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page
from pydantic import SecretStr

from app import urls
from app.authored import schema
from app.authored.models import Base, EntryRow, LabelRow, LensRow, LinkRow, ListRow, NoteRow
from app.authored.store import Role, Store
from app.exporting.plan import Choice
from app.exporting.site import make_site
from app.main import create_app
from app.settings import Settings
from sae_core.corpus import Document
from sae_core.explorer import Explorer
from sae_core.labels import Candidate
from tests.app.editors import token
from tests.app.served import Planted
from tests.app.test_attacks_on_forms import Forms
from tests.browser.conftest import note_troubles
from tests.planted import WORDS, SilentConsole, load_planted, planted_collection

EVIL = "//evil.test/"
RUN = "document.title='it ran',alert(7)"
PAYLOADS = [
    f"<script>{RUN}</script>",
    f"\"'><img src=x onerror={RUN}>",
    f"</title></textarea></script><svg onload={RUN}>",
    f"<math><mtext><img src=x onerror={RUN}></mtext></math>",
    rf"$\href{{javascript:{RUN}}}{{x}}$ $\text{{<img src=x onerror={RUN}>}}$",
    rf"$\style{{background:url({EVIL})}}{{<script>{RUN}</script>}}$",
    "{{7*7}}${7*7}<%= 7*7 %>{% raw %}",
    f"<style>@import '{EVIL}';*{{background:url({EVIL})}}</style><link rel=stylesheet href={EVIL}>",
    f"<meta http-equiv=refresh content='0;url={EVIL}'><base href={EVIL}>",
    f"<iframe src={EVIL}></iframe><object data={EVIL}></object><iframe srcdoc='<script>{RUN}</script>'>",
    f"<p hx-get={EVIL} hx-trigger=load hx-on:load={RUN}>",
    f"\u202e<script>{RUN}</script>",
    f"]]><script>{RUN}</script><!--",
]
PEOPLES = [  # what people name, and say
    LabelRow.text,
    LabelRow.explanation,
    NoteRow.text,
    ListRow.name,
    ListRow.description,
    EntryRow.remark,
    LensRow.name,
    LinkRow.title,
]
# What a browser would send, load or run and that is not ours; a link to another site is only followed.
FOREIGN = r"""() => [...document.querySelectorAll('*')].flatMap(e => [...e.attributes].filter(a =>
    (/^(data-)?(on|hx-on)/.test(a.name) && a.name !== 'data-onto') || a.name === 'srcdoc'
    || (/^(href|src|action|formaction|data|hx-get|hx-post|xlink:href)$/.test(a.name)
        && (/^\s*(javascript|vbscript|data:text)/i.test(a.value)
            || (e.tagName !== 'A' && /^(https?:)?\/\/evil/.test(a.value))))
).map(a => `${e.tagName} ${a.name}=${a.value}`))"""


def payload(n: int) -> str:
    return PAYLOADS[n % len(PAYLOADS)]


def is_hostile(text: str) -> bool:
    return "it ran" in text or "evil.test" in text


def spoilt(document: Document) -> Document:
    """Payloads in every field, and the planted words in the abstract still."""
    n = int("".join(c for c in document.id if c.isdigit()) or 0)
    links = ("javascript:alert(7)", "data:text/html,<script>alert(7)</script>", f"https:{EVIL}?\"'><script>")
    return replace(
        document,
        id=f"{document.id}{payload(n)}",
        title=f"{payload(n)} {document.title}",
        abstract=f"{document.abstract} {payload(n + 1)}",
        authors=f"{payload(n + 2)}; {payload(n + 3)}",
        venue=payload(n % 3 + 4),
        categories=f"{payload(n % 4)} group-{n % 5}",
        url=links[n % 3],
        doi=f"10.5555/{payload(n)}",
    )


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A collection of such documents, with labels as a language model that reads them might write."""
    home = tmp_path_factory.mktemp("poisoned")
    planted_collection(home, n=300, steps=150, ks=(4,), spoil=spoilt)
    explorer: Explorer = load_planted(home)
    explorer.title = payload(0)
    shown = Planted(home, explorer)
    labels = [
        replace(label, text=payload(n), source="llm", candidates=[Candidate(payload(n), "llm")])
        for n, label in enumerate(shown.set.labels)
    ]
    explorer.saes = {shown.sae: replace(shown.set, labels=labels)}
    return shown


@dataclass(frozen=True)
class Place:
    """Where it is served, and people write."""

    url: str
    database: str
    cookie: str
    pages: list[str]

    def rows(self) -> list[str]:
        with closing(Store.open(self.database)) as store, store.read() as session:
            return [
                repr(row)
                for table in Base.metadata.sorted_tables
                for row in session.execute(sa.select(table))
            ]

    def harmless(self) -> list[str]:
        """Which of the texts that people write is never one of ours."""
        with closing(Store.open(self.database)) as store, store.read() as session:
            return [
                str(column)
                for column in PEOPLES
                if not any(is_hostile(text) for text in session.scalars(sa.select(column)))
            ]


def pages_of(shown: Planted) -> list[str]:
    """One page of each kind."""
    name, sae = shown.explorer.name, shown.sae
    root = next(iter(shown.set.forest.families)).id
    query = f"q={WORDS[0]}+{quote(payload(1))}&f={root}:%2B0.40&venue={quote(payload(4))}"
    own, ids = urls.collection(name), [f"doc-{n:04}{payload(n)}" for n in (100, 102, 105)]
    return [
        urls.home(),
        own,
        urls.sae(name, sae),
        f"{shown.base}/features",
        f"{shown.base}/features?words={quote(payload(0))}",
        urls.feature(name, sae, root),
        f"{urls.feature(name, sae, root)}?tab=all",
        f"{urls.feature(name, sae, root)}/embed",
        f"{shown.base}/families",
        urls.family(name, sae, root),
        f"{shown.search}?{query}",
        f"{shown.search}?q={WORDS[0]}&view=ab&f={root}:%2B0.40",
        urls.separate(name, sae, ids[:2], ids[2:]),
        f"{own}/compare",
        f"{own}/lists",
        f"{own}/lenses",
        f"{own}/links",
        f"{own}/{quote(payload(2), safe='')}",
        *(urls.document(name, each) for each in ids),
        urls.document(name, payload(1)),
    ]


class Browserless:
    """Somebody who signs in and sends forms, without a browser: there are many, and a browser is slow."""

    def __init__(self, url: str, secret: str) -> None:
        self.url, self.jar = url, http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))
        self.ask("/sign-in", {"token": secret})

    def ask(self, path: str, fields: dict[str, str] | None = None) -> str:
        body = None if fields is None else urlencode(fields).encode()
        try:
            with self.opener.open(
                urllib.request.Request(self.url + path, body, {"Origin": self.url})
            ) as answer:
                said: str = answer.read().decode()
                return said
        except HTTPError as error:
            return error.read().decode()

    @property
    def cookie(self) -> str:
        return next(str(each.value) for each in self.jar)

    def write_everywhere(self, pages: list[str]) -> None:
        """Fill every form of these pages, but those that take something away, with payloads."""
        n = 0
        for page in pages:
            for form in Forms.of(self.ask(page)):
                if form.empty and "token" not in form.fields and not form.action.endswith("remove"):
                    valid = {"name": f"{payload(0)} {n}", "features": "0\n1"}  # short, and of this SAE
                    known = {name: text for name, text in valid.items() if name in form.empty}
                    self.ask(form.action, {**form.filled(f"{payload(n)} {n}"), **known})
                    n += 1

    def find_written(self, collection: str) -> list[str]:
        """The pages of lists, lenses and links that people made: the first two of each."""
        found = []
        for kind, of in (
            ("lists", f"{collection}/lists"),
            ("lenses", f"{collection}/lenses"),
            ("links", "/s"),
        ):
            shown = self.ask(f"{collection}/{kind}")
            made = re.findall(rf'href="({re.escape(of)}/[\w-]+)"', shown)
            assert made, f"there are no {kind}"
            found += sorted(set(made))[:2]
        return found


@pytest.fixture(scope="module")
def place(poisoned: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    database = f"sqlite:///{tmp_path_factory.mktemp('written')}/authored.sqlite"
    schema.upgrade(database)
    settings = Settings(home=poisoned.home, editing=True, database_url=SecretStr(database))
    app = create_app(settings, {poisoned.explorer.name: poisoned.explorer})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listening],), name="poisoned")
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        editor = Browserless(url, token(database, "ann", Role.ADMIN))
        pages, own = pages_of(poisoned), urls.collection(poisoned.explorer.name)
        editor.write_everywhere(pages)
        pages += editor.find_written(own)
        yield Place(url, database, editor.cookie, pages)
        server.should_exit = True
        thread.join()


@pytest.fixture
def inside(browser: Browser, place: Place, troubles: list[str]) -> Iterator[BrowserContext]:
    """A profile that has signed in, and notes what is asked of other sites."""
    context = browser.new_context(base_url=place.url)
    site = {"name": "saefari", "value": place.cookie, "url": place.url, "sameSite": "Lax", "httpOnly": True}
    context.add_cookies([site])  # type: ignore[list-item]
    note_troubles(context, troubles)

    def note_foreign(url: str) -> None:
        if urlsplit(url).scheme not in {"data", "file", "blob"} and not url.startswith(place.url):
            troubles.append(f"asked elsewhere: {url}")

    context.on("request", lambda request: note_foreign(request.url))
    yield context
    context.close()


def look(page: Page, troubles: list[str], where: str) -> None:
    """Nothing ran, nothing is about to: handlers, links, frames; pointing at things sets nothing off."""
    page.wait_for_load_state("load")
    assert page.title() != "it ran", where
    assert page.evaluate(FOREIGN) == [], where
    assert [each for each in troubles if "answer:" not in each and "status of 4" not in each] == [], where
    troubles.clear()


def test_no_text_runs_on_any_page(inside: BrowserContext, place: Place, troubles: list[str]) -> None:
    assert place.harmless() == [], "nothing that could run was written there"
    page = inside.new_page()
    for path in place.pages:
        page.goto(path)
        look(page, troubles, path)
        shown = page.content()
        assert is_hostile(shown), f"there was nothing to run on {path}"


@pytest.mark.parametrize("suffix", ["json", "atom"])
def test_no_text_runs_in_a_twin(
    inside: BrowserContext, place: Place, troubles: list[str], suffix: str
) -> None:
    """What a browser shows of formats for programs, and what it takes them for."""
    page = inside.new_page()
    for path in place.pages[4:12]:
        head, mark, query = path.partition("?")
        answer = page.request.get(f"{head}.{suffix}{mark}{query}")
        assert answer.headers["x-content-type-options"] == "nosniff"
        kind = answer.headers["content-type"]
        assert "html" not in kind or answer.status >= 400
        if suffix == "json" and answer.ok:
            page.goto(f"{head}.{suffix}{mark}{query}")
            look(page, troubles, path)
    troubles.clear()


def test_no_text_runs_in_a_copy_on_disk(
    poisoned: Planted, inside: BrowserContext, troubles: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "site"
    searches = (f"{poisoned.search}?q={WORDS[0]}",)
    choice = Choice(n_documents=3, searches=searches, examples=False)
    with ThreadPoolExecutor(1) as threads:  # of its own, as Playwright's loop runs in this one
        settings = Settings(home=poisoned.home)
        threads.submit(
            make_site, poisoned.explorer, settings, out, choice, SilentConsole(), lambda _: None
        ).result()
    page = inside.new_page()
    files = sorted(out.rglob("*.html"))
    for file in files[:: max(1, len(files) // 8)]:
        page.goto(file.as_uri())
        look(page, troubles, str(file.relative_to(out)))


# --- another site ------------------------------------------------------------------------------------


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A site that would like to write through the browsers of its visitors: `/{kind}?{what it attacks}`."""

    def do_GET(self) -> None:
        path, _, target = self.path.partition("?")
        form = (
            f"<form id=f method=post action='{target}' target='{'in' if path == '/frame' else '_self'}'>"
            "<input name=text value=taken><input name=next value=/></form><iframe name=in></iframe>"
        )
        pages = {
            "/form": f"{form}<script>f.submit()</script>",
            "/frame": f"{form}<script>f.submit()</script>",
            "/fetch": f"<script>fetch('{target}',{{method:'POST',mode:'no-cors',credentials:'include',"
            "body:new URLSearchParams({text:'taken'})}).finally(()=>document.title='sent')</script>",
            "/framed": f"<iframe src='{target}'></iframe>",
        }
        body = f"<!doctype html><title>x</title>{pages.get(path, '')}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module", params=["localhost", "127.0.0.1"])
def elsewhere(request: pytest.FixtureRequest) -> Iterator[str]:
    """Another site; and another origin of the same one, to which SameSite cookies are sent."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{request.param}:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_site_writes_nothing_through_a_visitors_browser(
    inside: BrowserContext, place: Place, elsewhere: str, troubles: list[str]
) -> None:
    before = place.rows()
    for way, action in product(("form", "frame", "fetch"), ("/edit/note", "/sign-out")):
        page, target = inside.new_page(), place.url + action
        if way == "fetch":  # nobody is told of its answer
            page.goto(f"{elsewhere}/{way}?{target}")
            page.wait_for_function("document.title === 'sent'")
        else:
            with page.expect_response(target) as sent:
                page.goto(f"{elsewhere}/{way}?{target}", wait_until="commit")
            assert sent.value.status == 403, f"{way} {action}"
        page.close()
    assert place.rows() == before
    assert "Sign out" in inside.request.get("/docs").text()  # the session has not ended
    troubles.clear()


def test_no_page_is_shown_in_a_frame_of_another_site(
    inside: BrowserContext, place: Place, elsewhere: str, troubles: list[str]
) -> None:
    page = inside.new_page()
    for path in (place.pages[5], place.pages[7], "/sign-in"):
        with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
            page.goto(f"{elsewhere}/framed?{place.url}{quote(path, safe='/')}")
        assert "Saefari" not in page.frames[1].content(), path
    troubles.clear()
