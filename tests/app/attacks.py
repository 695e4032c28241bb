"""What the tests that attack share: bytes sent as they are, odd values, and the laws of every answer."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import anyio
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from app.middleware import SECURITY_HEADERS

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from starlette.types import Message

N_REQUESTS = int(os.environ.get("ATTACK_REQUESTS", "400"))
MARKER = "<script>alert(7)</script>"
PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial", "HX-Target": "section#results"}

ANSWERS: defaultdict[str, Counter[int]] = defaultdict(Counter)  # by who made the request, and status


def account() -> list[str]:
    """How many requests were sent, by whom, and what they were answered with."""
    lines = [
        f"{by}: {counts.total():,} requests ("
        + ", ".join(f"{n:,} x {status}" for status, n in sorted(counts.items()))
        + ")"
        for by, counts in sorted(ANSWERS.items())
    ]
    total = sum(counts.total() for counts in ANSWERS.values())
    return [*lines, f"in all: {total:,} requests"] if lines else []


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
    client: TestClient,
    target: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    body: bytes = b"",
    *,
    by: str,
) -> Answer:
    """Send these very bytes, as uvicorn would hand them on; the client itself would put them right.

    `by` is who made them, for the account at the end.
    """
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
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    assert client.portal is not None
    client.portal.call(client.app, scope, receive, send)
    start, *parts = messages
    named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
    ANSWERS[by][start["status"]] += 1
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
            runs = re.match(r"(data-)?(on|hx-on)", name) and name != "data-onto"  # a mark of our own
            if runs or name in {"srcdoc", "style"}:
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


# --- odd values ----------------------------------------------------------------------------------------

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
