"""Requests that were made to do harm: whatever is sent, an answer is one of ours.

Three makers: the application's own OpenAPI document, odd values in every part of every address, and odd
headers. `make attack` sends 10,000 requests; a plain run some hundreds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import anyio
import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from starlette.types import Message

from app.middleware import SECURITY_HEADERS
from tests.app.served import Planted
from tests.planted import WORDS

N_REQUESTS = int(os.environ.get("ATTACK_REQUESTS", "400"))
MARKER = "<script>alert(7)</script>"
PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}
METHODS = ["GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "BREW"]


def some(n: int) -> settings:
    """So many examples; the first that breaks a law says enough, none is made smaller."""
    phases = [Phase.reuse, Phase.generate]
    return settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)


# --- one request and what every answer must be -----------------------------------------------------


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]


def ask(
    client: TestClient, target: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> Answer:
    """Send these very bytes, as uvicorn would hand them on; the client itself would put them right."""
    path, _, query = target.partition("?")
    sent = {"host": "localhost", **{name.lower(): value for name, value in (headers or {}).items()}}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
    }
    messages: list[Message] = []
    has_asked = False

    async def receive() -> Message:
        nonlocal has_asked
        if has_asked:
            await anyio.sleep_forever()
        has_asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    assert client.portal is not None
    client.portal.call(client.app, scope, receive, send)
    start, *parts = messages
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], named, b"".join(part.get("body", b"") for part in parts))


class Inspector(HTMLParser):
    """What a browser would run, send or follow on a page that is not from our templates."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.is_in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "script" and not (values.get("src") or "").startswith("/static/"):
            self.found.append(f"a script of its own: {values}")
        if tag in {"iframe", "object", "embed", "foreignobject"} or (tag == "base" and "href" in values):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            if re.match(r"(data-)?(on|hx-on)", name) or name in {"srcdoc", "style"}:
                self.found.append(f"{name} of <{tag}>")
            if name in {"href", "src", "action", "formaction", "xlink:href"} and not is_plain(value or ""):
                self.found.append(f"{name}={value!r}")
        self.is_in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002 (html.parser calls it so)
        self.is_in_script = False

    def handle_data(self, data: str) -> None:
        if self.is_in_script and data.strip():
            self.found.append(f"a script: {data[:60]!r}")


def is_plain(address: str) -> bool:
    """Without a scheme, or with one that runs nothing."""
    scheme = re.match(r"\s*([a-zA-Z][a-zA-Z0-9+.-]*):", re.sub(r"[\x00-\x20]", "", address))
    if scheme is None:
        return not re.sub(r"[\x00-\x20]", "", address).startswith(("//", "\\", "/\\"))
    return scheme[1].lower() in {"http", "https", "mailto"} or address.startswith("data:image/")


def inspect(page: str) -> list[str]:
    inspector = Inspector()
    inspector.feed(page)
    inspector.close()
    return inspector.found


def check(answer: Answer, sent: str) -> None:
    """The laws. `sent` goes into what is said when one is broken."""
    assert answer.status < 500, f"{answer.status} {sent}: {answer.body[:300]!r}"
    assert b"Traceback (most recent" not in answer.body, sent
    for name, value in answer.headers.items():
        assert not re.search(r"[\r\n\0]", name + value), f"{name}: {value!r} {sent}"
    assert "x-injected" not in answer.headers, sent
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get(name.lower()) or name == "X-Frame-Options", f"no {name} {sent}"
        if name == "X-Content-Type-Options":
            assert answer.headers[name.lower()] == value, sent
    if answer.status in {301, 302, 303, 307, 308}:
        assert is_plain(answer.headers["location"]), f"{answer.headers['location']} {sent}"
        assert not urlsplit(answer.headers["location"]).netloc.startswith("evil"), sent
    if not answer.body:
        return
    if answer.type in {"text/html", "image/svg+xml"}:
        page = answer.body.decode()
        assert MARKER not in page, sent
        assert inspect(page) == [], sent
    if answer.status >= 400:
        check_error(answer, sent)


def check_error(answer: Answer, sent: str) -> None:
    """It says what is wrong, and what to do."""
    if answer.type == "application/json":
        said = json.loads(answer.body)
        assert said["status"] == answer.status, sent
        assert said["message"].rstrip()[-1] in ".?!\"'", f"{said} {sent}"
        assert said["remedy"] or said["suggestions"], f"{said} {sent}"
        return
    text = answer.body.decode()
    assert answer.type == "text/html", f"{answer.type} {sent}"
    assert "<h1" in text, sent
    rest = text.partition("<h1")[2].partition("</main>")[0]
    paragraphs = re.findall(r"<p[ >].+?</p>|<li>", rest, re.DOTALL)
    assert len(paragraphs) >= 3, f"no remedy: {rest[:400]} {sent}"


@pytest.mark.parametrize(
    "page",
    [
        MARKER,
        "<p title='x' onmouseover=alert(7)>",
        "<a href='java&#10;script:alert(7)'>",
        "<a href='//evil.example'>",
        "<script src='https://evil.example/x.js'></script>",
        "<script src='/static/app.js'>alert(7)</script>",
        "<p hx-on:click='alert(7)'>",
    ],
)
def test_the_inspector_finds_what_runs(page: str) -> None:
    assert inspect(page) != []


# --- requests from the document of the interface ----------------------------------------------------


@pytest.fixture(scope="module")
def names(planted: Planted, client: TestClient) -> dict[str, str]:
    """What stands for the names in a path."""
    family = str(next(iter(planted.set.forest.families)).id)
    return {
        "collection": planted.explorer.name,
        "sae": planted.sae,
        "latent": "3",
        "family": family,
        "document": "doc-0100",
    }


def targets_of(operation: Any, mode: GenerationMode, names: dict[str, str]) -> st.SearchStrategy[str]:
    """Addresses that the document allows, or does not; half of them of things that are there."""

    def target(drawn: tuple[Any, bool]) -> str:
        case, is_known = drawn
        filled = {name: names.get(name, "x") for name in case.path_parameters or {}}
        path = operation.path.format(**filled) if is_known else case.formatted_path
        pairs = urlencode(case.query or {}, doseq=True, errors="replace")
        return f"{path}?{pairs}" if pairs else str(path)

    return st.tuples(operation.as_strategy(generation_mode=mode), st.booleans()).map(target)


def test_what_the_interface_describes_is_answered(client: TestClient, names: dict[str, str]) -> None:
    document = client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
    assert len(operations) > 40
    if N_REQUESTS < 1000:  # the formats of a list read the same parameters
        operations = [each for each in operations if each.path.endswith((".json", ".atom"))]
    n = 0
    for operation in operations:
        described = {int(status) for status in document["paths"][operation.path]["get"]["responses"]}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            if mode is GenerationMode.NEGATIVE and not list(operation.query):
                continue  # any text is a name: nothing here can be wrong

            @some(max(1, N_REQUESTS // (4 * len(operations))))
            @given(targets_of(operation, mode, names))
            def law(target: str) -> None:
                nonlocal n
                n += 1
                answer = ask(client, target)
                check(answer, target)
                assert answer.status in described | {301, 307, 308, 414}, f"{answer.status} {target}"  # noqa: B023 (called at once)

            law()
    assert n >= N_REQUESTS // 8


# --- requests with odd values everywhere -----------------------------------------------------------

ODD = st.one_of(
    st.sampled_from(
        [
            MARKER,
            f'"{MARKER}',
            f"'>{MARKER}",
            "</title>" + MARKER,
            "--></textarea></script>" + MARKER,
            '" onmouseover="alert(7)',
            "' autofocus onfocus=alert(7) '",
            "javascript:alert(7)",
            "//evil.example/",
            "\\\\evil.example",
            "data:text/html," + MARKER,
            "x\r\nX-Injected: 7\r\n\r\n" + MARKER,
            "{{7*7}}${7*7}",
            "%s%n%(x)s{0}{self}",
            "../../../../etc/passwd",
            "..\\..\\windows",
            "\0",
            "\ud7ff\ufffe\U0010ffff",
            "\u202e\u2066",
            "ا" * 300,
            "9" * 20,
            "-1",
            "nan",
            "1e999",
            "0x10",
            "1_0",
            "٣",
            "²",
            "true",
            "[]",
            "",
            " ",
            "+",
            "%",
            "%zz",
            "%c0%ae%c0%ae/",
            ".json",
            "a" * 3000,
        ]
    ),
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
)
REAL = [
    "3",
    "3:+0.40",
    "0",
    "1",
    "2",
    "0.5",
    "doc-0100",
    "odd/0.v1",
    "Journal 1",
    "group-1",
    "dust",
    *WORDS[:3],
]
SUFFIXES = [
    "",
    "",
    "",
    ".json",
    ".csv",
    ".parquet",
    ".bib",
    ".ris",
    ".atom",
    ".png",
    ".html",
    ".JSON",
    ".json.csv",
]
PATHS = [
    "/",
    "/index",
    "/docs",
    "/openapi",
    "/live",
    "/ready",
    "/static/{odd}",
    "/static/app.css",
    "/{odd}",
    "/{odd}/{odd}",
    "/{collection}",
    "/{collection}/{odd}",
    "/{collection}/compare",
    "/{collection}/documents",
    "/{collection}/documents/{document}",
    "/{collection}/documents/{odd}",
    "/{collection}/{sae}",
    "/{collection}/{sae}/{odd}",
    "/{collection}/{sae}/search",
    "/{collection}/{sae}/separate",
    "/{collection}/{sae}/features",
    "/{collection}/{sae}/features/random",
    "/{collection}/{sae}/features/{latent}",
    "/{collection}/{sae}/features/{odd}",
    "/{collection}/{sae}/features/{latent}/embed",
    "/{collection}/{sae}/features/{latent}/{odd}",
    "/{collection}/{sae}/families",
    "/{collection}/{sae}/families/{family}",
    "/{collection}/{sae}/families/{odd}",
]
HEADERS = [
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Cookie",
    "Forwarded",
    "Host",
    "HX-Current-URL",
    "HX-Request",
    "HX-Request-Type",
    "HX-Target",
    "If-Modified-Since",
    "If-None-Match",
    "Origin",
    "Range",
    "Referer",
    "Sec-Fetch-Site",
    "Traceparent",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Prefix",
    "X-HTTP-Method-Override",
    "X-Original-URL",
    "X-Request-ID",
]
ACCEPTED = [
    "text/html",
    "application/json",
    "text/csv",
    "*/*;q=0",
    "application/x-bibtex",
    "image/png",
    "x/y;q=nan",
]
HEADER_VALUES = st.one_of(
    st.sampled_from([*ACCEPTED, *PARTIAL.values(), "evil.example", 'W/"x"', "gzip;q=x", "br", "bytes=0-,0-"]),
    ODD.map(lambda text: re.sub(r"[\r\n\0]", "", text.encode("latin-1", "replace").decode("latin-1"))),
)


def parameters_of(client: TestClient) -> list[str]:
    """Names that any address knows."""
    paths = client.get("/openapi.json").json()["paths"].values()
    found = {each["name"] for path in paths for each in path["get"].get("parameters", [])}
    return [*sorted(found), "next", "odd"]


@st.composite
def requests(
    draw: Callable[[Any], Any], names: dict[str, str], known: list[str]
) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers."""

    def part(name: str) -> str:
        return quote(names[name] if name in names else draw(ODD), safe=draw(st.sampled_from(["", "/"])))

    pattern = draw(st.sampled_from(PATHS))
    path = re.sub(r"{(\w+)}", lambda found: part(found[1]), pattern) + draw(st.sampled_from(SUFFIXES))
    value = st.one_of(ODD, st.sampled_from(REAL))
    pairs = draw(st.lists(st.tuples(st.one_of(st.sampled_from(known), ODD), value), max_size=5))
    query = urlencode(pairs, errors="replace")
    headers = draw(st.dictionaries(st.sampled_from(HEADERS), HEADER_VALUES, max_size=3))
    return draw(st.sampled_from(METHODS)), f"{path}?{query}" if query else path, headers


def test_odd_values_in_every_place_are_answered(client: TestClient, names: dict[str, str]) -> None:
    @some(N_REQUESTS // 2)
    @given(requests(names, parameters_of(client)))
    def law(request: tuple[str, str, dict[str, str]]) -> None:
        method, target, headers = request
        answer = ask(client, target, headers, method)
        check(answer, f"{method} {target} {headers}")
        assert answer.status >= 400 or method in {"GET", "HEAD"}, target

    law()


def test_a_script_in_any_parameter_of_any_page_is_text(client: TestClient, names: dict[str, str]) -> None:
    """Each name alone, too: chance would hardly try them all."""
    known = parameters_of(client)
    pages = [path for path in PATHS if "{odd}" not in path and "{collection}" in path]
    chosen = {"q": WORDS[0], "f": "3:+0.40"}
    for path in pages:
        filled = path.format(**names)
        everything = {**dict.fromkeys(known, f"\"'>{MARKER}"), **({} if "search" not in path else chosen)}
        for query in [{name: f"\"'>{MARKER}"} for name in known] if path.endswith("search") else [everything]:
            target = f"{filled}?{urlencode(query)}"
            for headers in ({}, PARTIAL):
                check(ask(client, target, headers), target)
