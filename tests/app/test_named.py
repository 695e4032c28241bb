"""Whom a proxy in front names: believed from our proxies alone, and as one name or none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.authored import access
from app.authored.audit import read_audit
from app.authored.store import Actor, Role
from tests.app.editors import HERE, Editing, editing_on, token
from tests.app.proxies import caddy, needs_caddy
from tests.app.served import Listening, Planted, Run

HEADER = "X-Forwarded-User"
NETWORKS = "10.0.0.0/8, 192.168.7.1, fd00::/8"
PROXY, STRANGER = "10.1.2.3", "192.0.2.9"
ROOT = Actor("root", Role.ADMIN, "test")
DEPLOY = Path(__file__).parents[2] / "docs/deploy.md"
PASSWORD = "a secret of ann"
DIGEST = "$2b$04$T5gtkQOVnPt5bZmYZVD0UufKbx2xplzCf9cbYTsScuDRT2tExMsVW"


@pytest.fixture
def fronted(planted: Planted, url: str) -> Iterator[Editing]:
    """A server that believes what proxies of these networks say."""
    with editing_on(planted, url, trusted_proxies=NETWORKS, user_header=HEADER) as editing:
        yield editing


def set_role(editing: Editing, name: str, role: Role) -> None:
    with editing.store.write(ROOT) as writing:
        access.set_role(writing, name, role)


def shown(client: TestClient, *names: bytes | str) -> str:
    """The name in the head of a page; "" where it offers to sign in."""
    page = client.get("/docs", headers=[(HEADER.encode(), _bytes(name)) for name in names])
    assert page.status_code == 200
    if "Sign in</a>" in page.text:
        return ""
    return page.text.split('<div class="visitor"')[1].split("</")[0].rpartition(">")[2]


def _bytes(name: bytes | str) -> bytes:
    return name if isinstance(name, bytes) else name.encode()


@pytest.mark.parametrize(
    ("peer", "is_believed"),
    [
        (PROXY, True),
        ("192.168.7.1", True),
        ("fd00::17", True),
        ("192.168.7.2", False),
        (STRANGER, False),
        ("2001:db8::1", False),
        ("::ffff:10.1.2.3", False),  # as SAEFARI_TRUSTED_PROXIES has it for addresses of visitors
        ("testclient", False),
    ],
)
def test_only_our_proxies_name_users(fronted: Editing, peer: str, is_believed: bool) -> None:
    client = fronted.client(client=(peer, 4711))
    assert shown(client, "ann") == ("ann" if is_believed else "")


def test_a_visitor_who_claims_to_be_a_proxy_is_none(fronted: Editing) -> None:
    claims = {"X-Forwarded-For": PROXY, "Forwarded": f"for={PROXY}", HEADER: "ann"}
    assert "Sign in</a>" in fronted.client(client=(STRANGER, 1)).get("/docs", headers=claims).text
    named = fronted.client(client=(PROXY, 1)).get(
        "/docs", headers={"X-Forwarded-For": STRANGER, HEADER: "ann"}
    )
    assert "Sign in</a>" not in named.text  # the proxy is judged by its own address, not by the visitor's


def test_who_is_named_has_the_role_that_was_given_at_once(fronted: Editing, planted: Planted) -> None:
    client = fronted.client(client=(PROXY, 1), headers={HEADER: "Ann"})
    note = {"collection": planted.explorer.name, "kind": "document", "key": "doc-0003"}
    note |= {"text": "Read it.", "visibility": "public"}
    assert client.post("/edit/note", data=note, headers=HERE).status_code == 403  # a reader
    set_role(fronted, "ann", Role.EDITOR)
    assert client.post("/edit/note", data=note, headers=HERE).status_code == 303
    assert client.post("/edit/note", data=note, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/edit/note", data=note).status_code == 403
    set_role(fronted, "ann", Role.READER)
    assert client.post("/edit/note", data=note, headers=HERE).status_code == 403
    with fronted.store.read() as session:
        written = [each for each in read_audit(session) if each.action == "note"]
    assert [(each.actor, each.via) for each in written] == [("ann", "proxy")]


def test_no_cache_keeps_what_somebody_named_sees(fronted: Editing, planted: Planted) -> None:
    proxy = fronted.client(client=(PROXY, 1))
    kept = proxy.get(f"{planted.base}/features", headers={HEADER: ""})
    assert kept.headers["cache-control"] == "no-cache"
    assert {"Cookie", HEADER} <= set(kept.headers["vary"].split(", "))
    known = {"If-None-Match": kept.headers["etag"], HEADER: "ann"}
    own = proxy.get(f"{planted.base}/features", headers=known)
    assert (own.status_code, own.headers["cache-control"], "etag" in own.headers) == (
        200,
        "private, no-store",
        False,
    )


def test_one_name_or_none(fronted: Editing) -> None:
    client = fronted.client(client=(PROXY, 1))
    assert shown(client, "  Ann@X.org\t") == "ann@x.org"
    odd = [
        (),
        ("",),
        (" \t",),
        ("ann", "ann"),
        ("", "ann"),  # a proxy that adds where it should replace
        ("ann, ben",),
        ("a  b",),
        ("a\x01nn",),
        ("a\0nn",),
        ("ann\r\nX-Forwarded-User: root",),
        ("\u0430nn",),
        (b"\xaann",),  # which compatibility forms would make an a
        ("x" * 81,),
        ("x" * 20_000,),
        ("<script>alert(1)</script>",),
    ]
    assert [shown(client, *names) for names in odd] == [""] * len(odd)
    for names in odd[3:]:
        sent = [(HEADER.encode(), _bytes(name)) for name in names]
        answer = client.post(
            "/edit/note", data={"text": "kept"}, headers=[*sent, (b"sec-fetch-site", b"same-origin")]
        )
        assert answer.status_code == 400
        assert "The proxy in front names" in answer.text
        assert "<script>alert" not in answer.text


def test_whom_a_proxy_names_needs_no_session_and_others_may_have_one(fronted: Editing) -> None:
    client = fronted.client(client=(PROXY, 1))
    given = token(fronted.url, "ben")
    refused = client.post("/sign-in", data={"token": given}, headers={**HERE, HEADER: "ann"})
    assert (refused.status_code, "set-cookie" in refused.headers) == (403, False)
    assert "You are ann already" in refused.text
    assert client.post("/sign-in", data={"token": given}, headers=HERE).status_code == 303
    assert (shown(client), shown(client, ""), shown(client, "ann")) == ("ben", "ben", "ann")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ((HEADER, ""), "SAEFARI_TRUSTED_PROXIES must say"),
        (("Cookie", "10.0.0.0/8"), "must be the name of a header"),
        (("X-Forwarded-For", "10.0.0.0/8"), "must be the name of a header"),
        (("X-User: ann", "10.0.0.0/8"), "must be the name of a header"),
        (("X_Forwarded_User", "10.0.0.0/8"), "must be the name of a header"),
    ],
)
def test_a_header_that_nobody_could_be_believed_in_is_refused_at_the_start(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: tuple[str, str], said: str
) -> None:
    for name, value in zip(("SAEFARI_USER_HEADER", "SAEFARI_TRUSTED_PROXIES"), environment, strict=True):
        monkeypatch.setenv(name, value)
    status, _, err = run("serve", "--home", tmp_path, "--port", "0")
    assert status == 1
    assert "SAEFARI_USER_HEADER" in err
    assert said in err


def front(directive: str) -> str:
    """The example of docs/deploy.md with this directive, as a Caddyfile."""
    blocks = re.findall(r"^```caddy\n(.*?)^```", DEPLOY.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    [found] = [block for block in blocks if f"\t{directive} " in block]
    return f"{{\n\tadmin off\n}}\n{found}"


@contextmanager
def caddy_in_front(
    planted: Planted, editing: Editing, folder: Path, directive: str, **environment: str
) -> Iterator[str]:
    """A server that believes Caddy, which asks for users: the address of a page."""
    chosen = {"trusted_proxies": "127.0.0.1", "user_header": HEADER, "database_url": editing.url}
    with (
        Listening(planted, editing=True, **chosen) as upstream,
        caddy(front(directive), upstream, folder, **environment) as port,
    ):
        yield f"http://127.0.0.1:{port}/docs"


@needs_caddy
def test_behind_caddy_a_user_is_who_gave_the_password(
    planted: Planted, editing: Editing, tmp_path: Path
) -> None:
    with caddy_in_front(planted, editing, tmp_path, "basicauth", PASSWORD_OF_ANN=DIGEST) as address:
        forged = {HEADER: "mallory"}
        assert httpx2.get(address, headers=forged).status_code == 401
        page = httpx2.get(address, headers=forged, auth=("ann", PASSWORD))
    assert (">ann<" in page.text, ">mallory<" in page.text) == (True, False)


class Authority(BaseHTTPRequestHandler):
    """Lets everybody in, and names those who have a ticket."""

    def do_GET(self) -> None:
        self.send_response(200)
        if self.headers.get("X-Ticket"):
            self.send_header(HEADER, "ann")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@needs_caddy
def test_behind_caddy_a_user_is_whom_another_service_names(
    planted: Planted, editing: Editing, tmp_path: Path
) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Authority)
    thread = Thread(target=server.serve_forever)
    thread.start()
    authority = f"127.0.0.1:{server.server_address[1]}"
    with caddy_in_front(planted, editing, tmp_path, "forward_auth", AUTHORITY=authority) as address:
        forged = {HEADER: "mallory"}
        nobody = httpx2.get(address, headers=forged)
        ann = httpx2.get(address, headers={**forged, "X-Ticket": "1"})
    server.shutdown()
    thread.join()
    server.server_close()
    assert (">mallory<" in nobody.text, "Sign in</a>" in nobody.text) == (False, True)
    assert (">mallory<" in ann.text, ">ann<" in ann.text) == (False, True)
