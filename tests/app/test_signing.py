"""Signing in and out, what other sites may not send, and what caches may not keep."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.authored import access, schema
from app.authored.audit import read_audit
from app.authored.models import Token
from app.authored.store import Actor, Role
from tests.app.editors import HERE, Editing, editing_on, token
from tests.app.served import Planted, Run, serve

FORM = "application/x-www-form-urlencoded"


def test_a_token_becomes_a_session_that_scripts_and_other_sites_cannot_use(editing: Editing) -> None:
    client = editing.client()
    assert "Your token" in client.get("/sign-in?next=/planted").text
    answer = client.post("/sign-in", data={"token": token(editing.url), "next": "/planted?x=1"}, headers=HERE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/planted?x=1")
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("saefari=", "HttpOnly", "SameSite=lax", "Path=/"))
    assert "Domain" not in cookie
    assert "ann" in client.get("/docs").text
    secret = client.cookies["saefari"]
    client.post("/sign-out", data={"next": "/docs"}, headers=HERE)
    assert "saefari" not in client.cookies
    client.cookies["saefari"] = secret  # ended on the server too
    assert "Sign in</a>" in client.get("/docs").text


def test_a_cookie_of_an_encrypted_connection_is_of_this_host_alone(
    planted: Planted, editing: Editing
) -> None:
    client = editing.client(base_url="https://testserver")
    answer = client.post("/sign-in", data={"token": token(editing.url)}, headers=HERE)
    assert answer.headers["set-cookie"].startswith("__Host-saefari=")
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("given", ["", "saefari_wrong", "x" * 5_000, "\0", "é"])
def test_no_other_token_is_taken(editing: Editing, given: str) -> None:
    answer = editing.client().post("/sign-in", data={"token": given}, headers=HERE)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert "unknown, expired or revoked" in answer.text
    assert given == "" or given not in answer.text


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "/\\evil.example", "", "/a b"])
def test_nobody_is_sent_elsewhere(editing: Editing, back: str) -> None:
    sent = {"token": token(editing.url), "next": back}
    assert editing.client().post("/sign-in", data=sent, headers=HERE).headers["location"] == "/"


def test_a_revoked_token_ends_its_sessions(editing: Editing) -> None:
    client = editing.signed_in("ann")
    with editing.store.read() as session:
        number = access.list_tokens(session)[0].id
    with editing.store.write(Actor("root", Role.ADMIN, "test")) as writing:
        access.revoke_token(writing, number)
    assert "Sign in</a>" in client.get("/docs").text


@pytest.mark.parametrize(
    ("headers", "is_taken"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://testserver"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://testserver"}, True),
        ({"Origin": "http://testserver.evil.example"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Referer": "http://testserver/docs"}, False),
        ({}, False),
    ],
)
def test_only_our_own_pages_may_send(editing: Editing, headers: dict[str, str], is_taken: bool) -> None:
    client = editing.signed_in("ann")
    answer = client.post("/sign-out", data={"next": "/"}, headers=headers)
    assert answer.status_code == (303 if is_taken else 403)
    assert ("Sign out" in client.get("/docs").text) != is_taken


def test_no_cache_keeps_what_somebody_signed_in_sees(planted: Planted, editing: Editing) -> None:
    page = f"{planted.base}/features"
    kept = editing.client().get(page)
    assert (kept.headers["cache-control"], "Cookie" in kept.headers["vary"]) == ("no-cache", True)
    known = {"If-None-Match": kept.headers["etag"]}
    assert editing.client().get(page, headers=known).status_code == 304
    own = editing.signed_in("ann").get(page, headers=known)
    assert (own.status_code, own.headers["cache-control"]) == (200, "private, no-store")
    assert "etag" not in own.headers


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"token=x", "text/plain", 415),
        (b"token=x", "multipart/form-data; boundary=x", 415),
        (b"token=" + b"x" * 600_000, FORM, 413),
        ("token=é".encode(), FORM, 400),
        (b"a=1&" * 200, FORM, 400),
        (b"", FORM, 403),
        (b"%zz=%ff&=&&", FORM, 403),
    ],
)
def test_an_odd_form_is_refused_in_a_sentence(editing: Editing, body: bytes, media: str, status: int) -> None:
    sent = editing.client().post("/sign-in", content=body, headers={**HERE, "Content-Type": media})
    assert sent.status_code == status
    assert "<h1>" in sent.text


def test_what_is_done_is_on_record_without_secrets(editing: Editing) -> None:
    client = editing.signed_in("ann")
    secret = client.cookies["saefari"]
    client.post("/sign-out", data={"next": "/"}, headers=HERE)
    with editing.store.read() as session:
        records = read_audit(session)
    assert [record.action for record in records[:2]] == ["sign out", "sign in"]
    assert secret not in repr(records)


def test_where_nobody_may_write_there_is_nothing_to_write_to(client: TestClient) -> None:
    assert [client.get(path).status_code for path in ("/sign-in", "/sign-out")] == [404, 404]
    assert [client.post(path, headers=HERE).status_code for path in ("/sign-in", "/sign-out")] == [405, 405]
    assert "Sign in" not in client.get("/docs").text


def test_a_server_without_its_tables_does_not_start_and_names_the_command(run: Run, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAEFARI_EDITING", "1")
        status, out, err = run("serve", "--home", tmp_path, "--port", "0")
    assert (status, out) == (1, "")
    assert "Run `saefari db upgrade`." in err


def test_where_the_database_is_gone_reading_goes_on(planted: Planted, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/authored.sqlite"
    schema.upgrade(url)
    with TestClient(serve(planted, editing=True, database_url=url), follow_redirects=False) as client:
        client.cookies["saefari"] = "x"
        (tmp_path / "authored.sqlite").write_bytes(b"no database at all, and longer than a page" * 1_000)
        assert client.get(f"{planted.base}/features").status_code == 200
        answer = client.post("/sign-in", data={"token": "x"}, headers=HERE)
    assert answer.status_code == 503
    assert str(tmp_path) not in answer.text


def test_guesses_are_limited_and_right_ones_with_them_but_nobody_elsewhere(
    planted: Planted, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/authored.sqlite"  # one database: most guesses reach none
    schema.upgrade(url)
    with editing_on(planted, url, sign_in_rate=20, trusted_proxies="192.0.2.1") as on:
        proxy = on.client(client=("192.0.2.1", 1), headers=HERE)
        right = {"token": token(url)}

        def answer(sent: dict[str, str], asked_by: str) -> Response:
            return proxy.post("/sign-in", data=sent, headers={"X-Forwarded-For": asked_by})

        # One visitor with many addresses: all of an IPv6 /64.
        statuses = [answer({"token": f"saefari_{n}"}, f"2001:db8::{n:x}").status_code for n in range(1_000)]
        assert (statuses[:20], set(statuses[20:])) == ([403] * 20, {429})
        refused = answer(right, "2001:db8::1")
        assert (refused.status_code, "set-cookie" in refused.headers) == (429, False)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert proxy.get("/sign-in", headers={"X-Forwarded-For": "2001:db8::1"}).status_code == 200
        assert answer(right, "2001:db8:0:1::1").status_code == 303
        with on.store.read() as session:
            assert len(read_audit(session, action="sign in")) == 1


def test_all_together_are_limited_too_and_workers_share_what_is_allowed(planted: Planted, url: str) -> None:
    with editing_on(planted, url, sign_in_rate=2, workers=2, trusted_proxies="192.0.2.1") as on:
        proxy = on.client(client=("192.0.2.1", 1), headers=HERE)
        statuses = [
            proxy.post("/sign-in", data={"token": "x"}, headers={"X-Forwarded-For": f"198.51.100.{n}"})
            for n in (1, 1, *range(2, 40))
        ]
    assert [each.status_code for each in statuses] == [403, 429] + [403] * 29 + [429] * 9
    assert "From your address" in statuses[1].text
    assert "From all addresses" in statuses[-1].text


def test_no_token_is_told_from_another_that_is_none(editing: Editing) -> None:
    """Unknown, expired, revoked: the same answer, letter by letter."""
    with editing.store.write(Actor("root", Role.ADMIN, "test")) as writing:
        made, revoked = access.create_token(writing, "ann", Role.EDITOR, timedelta(days=1))
        access.revoke_token(writing, made.id)
        made, expired = access.create_token(writing, "ann", Role.EDITOR, timedelta(days=1))
        writing.session.get_one(Token, made.id).expires = writing.now
    given = ("saefari_unknown", revoked, expired)
    answers = [editing.client().post("/sign-in", data={"token": each}, headers=HERE) for each in given]
    assert {(each.status_code, each.text) for each in answers} == {(403, answers[0].text)}


def test_somebody_sees_their_sessions_and_ends_them_all(editing: Editing) -> None:
    here, there = editing.signed_in("ann"), editing.signed_in("ann")
    other = editing.signed_in("ben")
    page = here.get("/sign-in")
    assert page.text.count("by token") == 2
    assert here.post("/sign-out", data={"everywhere": "1"}, headers=HERE).status_code == 303
    assert ["Sign out" in each.get("/docs").text for each in (here, there, other)] == [False, False, True]


def test_admins_alone_read_who_changed_what(editing: Editing) -> None:
    root, ann = editing.signed_in("root", Role.ADMIN), editing.signed_in("ann")
    for client in (editing.client(), ann):
        refused = client.get("/audit")
        assert (refused.status_code, "token 1" in refused.text) == (403, False)
        assert client.get("/audit.json").status_code == 403
    shown = root.get("/audit")
    assert (shown.status_code, shown.headers["cache-control"]) == (200, "private, no-store")
    assert "before and after" in shown.text
    some = root.get("/audit.json?user=Ann&action=sign+in").json()
    assert [each["actor"] for each in some["records"]] == ["ann"]
    assert some["older_url"] is None
    with editing.store.write(Actor("<script>alert(1)</script>", Role.ADMIN, "test")) as writing:
        for n in range(60):
            access.set_role(writing, f"person {n}", Role.EDITOR)
    first = root.get("/audit?action=role")
    assert "<script>alert" not in first.text
    older = root.get(root.get("/audit.json?action=role").json()["older_url"].replace("/audit", "/audit.json"))
    assert older.json()["older_url"] is None
    assert "person 0" in older.text
    assert root.get("/audit?before=x").status_code == 400
