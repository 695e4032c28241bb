"""Forms that were made to do harm, sent by everybody, from everywhere, where editing is switched on.

Forms are read from the pages themselves, so that a new one is attacked without being named here, and spoilt:
fields missing, repeated, odd, huge; other encodings, types of content and methods. Whatever is refused
changes no row of the database; whatever is stored was sent from our pages by somebody who may, is plain text
within bounds, and stands in the audit table under their name.
"""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from app import urls
from app.authored import access, schema
from app.authored.models import Audit, Base
from app.authored.store import Role, Store
from app.authored.texts import MAX_TARGET
from app.editing import routers
from tests.app.attacks import MARKER, N_REQUESTS, ODD, Answer, ask, check, some
from tests.app.editors import HERE, token
from tests.app.served import Planted, serve
from tests.app.test_bad_requests import fingerprint
from tests.planted import WORDS

FORM = "application/x-www-form-urlencoded"
Rows = dict[str, list[tuple[Any, ...]]]
Pairs = list[tuple[str, str]]


# --- forms of pages ------------------------------------------------------------------------------------


@dataclass
class Written:
    """A form of a page as a browser would send it, and what a person is to write into it."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)

    def filled(self, text: str) -> dict[str, str]:
        return {**self.fields, **dict.fromkeys(self.empty, text)}

    def as_it_is(self, text: str) -> dict[str, str]:
        """With what the page has filled in left alone."""
        return {**self.filled(text), **{name: value for name, value in self.fields.items() if value.strip()}}


class Forms(HTMLParser):
    """The forms of a page that change something: one for each of their buttons."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[Written] = []
        self.open: Written | None = None
        self.writing = ""  # the name of the textarea or select that is open
        self.is_text = False  # what comes is its value

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form" and said.get("method", "").lower() == "post":
            self.open = Written(said["action"])
        if self.open is None:
            return
        name, kind = said.get("name", ""), said.get("type", "")
        if tag in {"textarea", "select"}:
            self.writing = name
            self.open.fields[name] = ""
            if tag == "textarea":
                self.open.empty.append(name)
                self.is_text = True
        elif tag == "option" and ("selected" in said or not self.open.fields[self.writing]):
            self.open.fields[self.writing] = said.get("value", "")
            self.is_text = "value" not in said
        elif tag == "input" and (kind not in {"checkbox", "radio"} or "checked" in said):
            self.open.fields[name] = said.get("value", "on")
            if kind not in {"hidden", "checkbox", "radio", "number"}:
                self.open.empty.append(name)
        elif tag == "button" and kind != "button":
            pressed = {name: said.get("value", "")} if name else {}
            action = said.get("formaction", self.open.action)
            self.found.append(Written(action, {**self.open.fields, **pressed}, list(self.open.empty)))

    def handle_data(self, data: str) -> None:
        if self.open is not None and self.is_text:
            self.open.fields[self.writing] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.open = None
        if tag in {"textarea", "option"}:
            self.is_text = False

    @classmethod
    def of(cls, page: str) -> list[Written]:
        reader = cls()
        reader.feed(page)
        return reader.found


# --- the place and its people ----------------------------------------------------------------------------


@dataclass
class Place:
    """A server where people may write, its people, and pages with forms."""

    client: TestClient
    store: Store
    tokens: dict[str, str]  # by role
    pages: list[str]
    cookies: dict[str, str] = field(default_factory=dict)

    def cookie(self, who: str) -> dict[str, str]:
        """The session of somebody, begun anew where it has ended; nobody has none."""
        if who not in self.tokens:
            return {}
        with self.store.read() as session:
            known = self.cookies.get(who, "")
            if known and access.find_by_session(session, known, self.store.now()):
                return {"Cookie": f"saefari={known}"}
        _, self.cookies[who] = access.sign_in(self.store, self.tokens[who])
        return {"Cookie": f"saefari={self.cookies[who]}"}

    def forms(self, page: str, who: str = "admin") -> list[Written]:
        """As somebody sees them; an admin may change what others wrote."""
        answer = ask(self.client, page, self.cookie(who), by="pages with forms")
        check(answer, page)
        return Forms.of(answer.body.decode()) if answer.status == 200 else []

    def rows(self) -> Rows:
        """All that is in the database."""
        with self.store.read() as session:
            return {
                table.name: sorted((tuple(row) for row in session.execute(sa.select(table))), key=repr)
                for table in Base.metadata.sorted_tables
            }

    def send(
        self, path: str, who: str, headers: Mapping[str, str], body: bytes, method: str = "POST", *, by: str
    ) -> Answer:
        sent = {"Content-Type": FORM, "Content-Length": str(len(body)), **self.cookie(who), **headers}
        return ask(self.client, path, sent, method, body, by=by)


@pytest.fixture(scope="module")
def place(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    url = f"sqlite:///{tmp_path_factory.mktemp('attacked')}/authored.sqlite"
    schema.upgrade(url)
    tokens = {role: token(url, f"the {role}", Role.of(role)) for role in ("reader", "editor", "admin")}
    collection, sae = planted.explorer.name, planted.sae
    own, root = urls.collection(collection), next(iter(planted.set.forest.families)).id
    pages = [
        urls.feature(collection, sae, root),
        urls.family(collection, sae, root),
        urls.document(collection, "doc-0100"),
        urls.document(collection, "odd/0.v1"),
        f"{planted.search}?q={WORDS[0]}&f=3:%2B0.40",
        f"{own}/lists",
        f"{own}/lenses",
        f"{own}/links",
        urls.sign_in(),
    ]
    before = fingerprint(planted.home)
    app = serve(planted, editing=True, database_url=url)
    with TestClient(app, follow_redirects=False) as client, closing(Store.open(url)) as store:
        yield Place(client, store, tokens, pages)
    assert fingerprint(planted.home) == before


def post_paths() -> set[str]:
    """Where something can be sent to."""
    routes = [route for router in routers.ROUTERS for route in router.routes]
    return {str(getattr(each, "path", "")) for each in routes if "POST" in getattr(each, "methods", ())}


def check_stored(before: Rows, after: Rows, author: str) -> None:
    """What was added or changed is plain text, and on record; the record itself only grew."""
    old, new = {row[0]: row for row in before["audit"]}, {row[0]: row for row in after["audit"]}
    assert all(new[number] == row for number, row in old.items())
    fresh = [row for number, row in new.items() if number not in old]
    column = list(Audit.__table__.columns.keys()).index("actor")
    assert {row[column] for row in fresh} <= {author}
    changed = {name: set(map(repr, rows)) - set(map(repr, before[name])) for name, rows in after.items()}
    if any(changed.values()):
        assert fresh, f"a change that is not on record: {changed}"
    known = {repr(row) for rows in before.values() for row in rows}
    for name, rows in after.items():
        for value in (value for row in rows if repr(row) not in known for value in row):
            if isinstance(value, str):
                assert len(value) <= MAX_TARGET, name
                odd = [c for c in value if unicodedata.category(c)[0] == "C" and c not in "\n\t\u200c\u200d"]
                assert not odd, f"{name}: {odd!r} in {value!r}"
                assert unicodedata.is_normalized("NFC", value), name


# --- the forms as they are: attacks that no form withstands would show nothing ---------------------------


MAX_FOLLOWED = 2  # pages that a form leads to: the one for links is on every page, and makes one each time


def test_every_form_of_every_page_is_taken_from_our_own_pages(place: Place) -> None:
    taken: Counter[str] = Counter()
    waiting = [*place.pages]
    for page in waiting:
        who, at = "nobody" if page == urls.sign_in() else "admin", 0
        while forms := place.forms(page, who)[at:]:  # as they are after what was sent before
            form, at = forms[0], at + 1
            if taken[form.action] >= 2 * MAX_FOLLOWED:
                continue
            fields = form.as_it_is("a plain text")
            fields |= {"token": place.tokens["admin"]} if "token" in fields else {}
            answer = place.send(form.action, who, HERE, urlencode(fields).encode(), by="forms as they are")
            check(answer, f"{form.action} {fields}")
            if answer.status == 303:
                taken[form.action] += 1
                shown = answer.headers["location"].partition("#")[0]
                if taken[form.action] <= MAX_FOLLOWED and shown not in {*waiting, "/"}:
                    waiting.append(shown)
    place.pages = waiting
    assert post_paths() - taken.keys() == set(), "a form that no page has, or that is not taken as it is"


# --- the same, spoilt ----------------------------------------------------------------------------------


SITES: list[dict[str, str]] = [
    HERE,
    HERE,
    HERE,
    {"Origin": "http://localhost"},
    {},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "SAME-ORIGIN, cross-site"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://evil.example", "Referer": "http://localhost/"},
    {"Origin": "http://localhost:80@evil.example"},
    {"Referer": "http://localhost/docs"},
]
FROM_HERE: list[dict[str, str]] = [HERE, {"Origin": "http://localhost"}]
MORE_HEADERS = st.sampled_from(
    [
        *[{}] * 8,
        {"X-HTTP-Method-Override": "GET"},
        {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-User": "the admin", "Remote-User": "the admin"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {"X-Original-URL": "/edit/note/remove", "X-Rewrite-URL": "/sign-out"},
        {"Host": "evil.example"},
        {"Content-Encoding": "gzip"},
        {"Transfer-Encoding": "chunked"},
        {"HX-Request": "true", "HX-Request-Type": "partial"},
        {"Cookie": "saefari=x; saefari=\xe9; __Host-saefari=y"},
    ]
)
MEDIA = st.sampled_from(
    [
        *[FORM] * 14,
        f"{FORM}; charset=utf-16",
        FORM.upper(),
        "multipart/form-data; boundary=x",
        "application/json",
        "text/plain",
        "text/xml",
        "",
        f"{FORM}, application/json",
        "\xff\xfe",
    ]
)
VALUES = st.one_of(
    ODD,
    st.sampled_from(
        [
            str(10**20),
            "-1",
            "1.0",
            "١",
            "[" * 2_000,
            "a[b][c]",
            json.dumps({"text": [MARKER]}),
            "x" * 30_000,
            "e\u0301" * 60,
            "\u202eright\u2066to\u200fleft\ufeff",
            "the\u0000end\u0007\u001b[2J",
            "public",
            "private",
            "right",
            "accepted",
            "family",
            "3",
            "0",
        ]
    ),
)
RAW = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b"&&&===%%%;;;",
            b"text=%ED%A0%80&text=%C0%AF%FF%FE",
            b"text=\xff\xfe\x00",
            b"--x\r\nContent-Disposition: form-data; name=text\r\n\r\nx\r\n--x--\r\n",
            b"\x1f\x8b\x08\x00" + b"\0" * 50,
            b'{"text":' + b"[" * 5_000,
            b"a=" + b"x" * 600_000,
            b"&".join(b"f%d=1" % i for i in range(500)),
            b"[]" * 2_000 + b"=1",
        ]
    ),
)


@dataclass(frozen=True)
class Spoilt:
    """What is done to a form before it is sent."""

    page: int
    form: int
    who: str
    site: dict[str, str]
    headers: dict[str, str]
    media: str
    text: str
    changes: list[tuple[str, int, str]]  # what, at which field, with which value
    raw: bytes | None

    def body(self, fields: dict[str, str]) -> bytes:
        pairs: Pairs = list(fields.items())
        for how, number, value in self.changes:
            at = number % (len(pairs) + 1)
            odd = [(name, value) for name, _ in pairs[at : at + 1]]
            made = {"drop": [], "repeat": [*pairs[at : at + 1], *odd], "replace": odd}
            pairs[at : at + 1] = made.get(how, [(value, value)])
        return urlencode(pairs, errors="replace").encode()


CHANGES = st.tuples(
    st.sampled_from(["drop", "repeat", "replace", "replace", "add"]), st.integers(0, 9), VALUES
)
NUMBER = st.integers(0, 10**6)
SPOILT = st.builds(
    Spoilt,
    page=NUMBER,
    form=NUMBER,
    who=st.sampled_from(["nobody", "reader", "editor", "editor", "admin", "admin"]),
    site=st.sampled_from(SITES),
    headers=MORE_HEADERS,
    media=MEDIA,
    text=VALUES,
    changes=st.lists(CHANGES, max_size=3),
    raw=st.one_of(st.none(), st.none(), st.none(), RAW),
)


def test_a_spoilt_form_is_refused_or_stored_as_plain_text(place: Place) -> None:
    stored = 0

    @some(N_REQUESTS // 4)
    @given(SPOILT)
    def law(spoilt: Spoilt) -> None:
        nonlocal stored
        page = place.pages[spoilt.page % len(place.pages)]
        forms = place.forms(page) or [Written(path) for path in sorted(post_paths())]
        form = forms[spoilt.form % len(forms)]
        body = spoilt.body(form.filled(spoilt.text)) if spoilt.raw is None else spoilt.raw
        headers = {**place.cookie(spoilt.who), "Content-Type": spoilt.media, **spoilt.site, **spoilt.headers}
        before = place.rows()
        answer = place.send(form.action, spoilt.who, headers, body, by="spoilt forms")
        after, said = place.rows(), f"{form.action} {headers} {body[:2_000]!r} -> {answer.status}"
        check(answer, said)
        if answer.status != 303:
            assert after == before, said
            return
        stored += 1
        assert spoilt.site in FROM_HERE, said
        assert "evil" not in spoilt.headers.get("Host", ""), said
        if form.action not in {urls.sign_in(), urls.sign_out()}:
            assert spoilt.who in {"editor", "admin"}, said
            assert "Cookie" not in spoilt.headers, said
            check_stored(before, after, f"the {spoilt.who}")
        shown = urljoin("http://localhost/", answer.headers["location"])
        assert urlsplit(shown).netloc == "localhost", said

    law()
    assert stored >= N_REQUESTS // 200, "hardly anything was taken, so that little was tried"


@pytest.mark.parametrize("who", ["nobody", "admin"])
def test_what_spoilt_forms_left_is_text_on_every_page(place: Place, who: str) -> None:
    """Whatever order the tests are in: what is there by now, and a script in each text."""
    for page in list(place.pages):
        for form in place.forms(page):
            body = urlencode(form.filled(f"\"'>{MARKER}</title></script>")).encode()
            check(place.send(form.action, "editor", HERE, body, by="scripts in forms"), form.action)
    for page in place.pages:
        for suffix in ("", ".json", ".atom"):
            path, mark, query = page.partition("?")
            target = f"{path}{suffix}{mark}{query}"
            check(ask(place.client, target, place.cookie(who), by="scripts in forms"), target)


METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "BREW", "post", "PROPFIND"]


@st.composite
def overridden(draw: Callable[[Any], Any]) -> tuple[str, dict[str, str], str]:
    """A method that is not POST, with every trick that has made some server take it for one."""
    named = st.sampled_from(["POST", "PUT", "DELETE"])
    names = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL"]
    headers = draw(st.dictionaries(st.sampled_from(names), named, max_size=2))
    return draw(st.sampled_from(METHODS)), headers, draw(st.sampled_from(["", "_method=POST", "method=post"]))


def test_nothing_but_a_post_writes(place: Place) -> None:
    forms = [form for page in place.pages for form in place.forms(page)]
    before = place.rows()

    @some(N_REQUESTS // 8)
    @given(overridden(), NUMBER, VALUES)
    def law(request: tuple[str, dict[str, str], str], at: int, text: str) -> None:
        method, headers, query = request
        form = forms[at % len(forms)]
        fields = urlencode(form.filled(text), errors="replace")
        target = f"{form.action}?{query}&{fields}"
        answer = place.send(target, "admin", {**HERE, **headers}, fields.encode(), method, by="other methods")
        check(answer, f"{method} {target} {headers}")
        assert "set-cookie" not in answer.headers, f"{method} {target}"
        assert answer.status != 303, f"{method} {target}"

    law()
    assert place.rows() == before


@pytest.mark.parametrize("nth", [3, 0])
def test_a_session_that_nobody_has_is_nobodys(place: Place, nth: int) -> None:
    """Made up cookies: guesses, other people's digests, what a parser may stumble over."""
    before = place.rows()
    for cookie in ("", "x", "\0", "é", "x" * 4_000, "' OR 1=1 --", quote(MARKER), "null", "0", "saefari"):
        sent = {"Cookie": f"saefari={cookie}".encode("latin-1", "replace").decode("latin-1")}
        answer = ask(place.client, place.pages[nth], sent, by="made up sessions")
        check(answer, cookie)
        assert "Sign out" not in answer.body.decode()
        assert not cookie or answer.headers["cache-control"] == "private, no-store"
    assert place.rows() == before
