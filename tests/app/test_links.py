"""Short links on the web: they lead where they were made, or say what has changed."""

from __future__ import annotations

import re
from html import unescape
from typing import Any, NoReturn

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.authored import links
from app.authored.engines import DatabaseError
from app.authored.store import Actor, Role
from tests.app.editors import HERE, Editing
from tests.app.served import Planted, serve

HOSTILE = "<script>alert('link')</script>\"'><img src=x onerror=alert(1)>"


def words(answer: Response) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))


def make(client: TestClient, target: str, **fields: str) -> Response:
    sent = {"target": target, "visibility": "unlisted", **fields}
    return client.post("/edit/link", data=sent, headers=HERE)


def made(client: TestClient, target: str, **fields: str) -> str:
    """The slug of a new link."""
    answer = make(client, target, **fields)
    assert answer.status_code == 303, words(answer)
    return answer.headers["location"].rpartition("/")[2]


def away() -> NoReturn:
    raise DatabaseError("It is away.", remedy="Wait.")


def made_before(editing: Editing, planted: Planted, **changes: Any) -> str:
    """The slug of a link into another generation."""
    facts = {
        "target": f"{planted.search}?q=dust&f=3:+0.40",
        "collection": planted.explorer.name,
        "sae": planted.sae,
        "generation": "20200101T000000-abcdef",
        **changes,
    }
    with editing.store.write(Actor("ann", Role.EDITOR, "test")) as writing:
        return links.add_link(writing, **facts).at.slug


def test_a_link_is_made_on_any_page_and_leads_back_to_it(editing: Editing, planted: Planted) -> None:
    ann, target = editing.signed_in("ann"), f"{planted.search}?q=dust&f=3:+0.40&page=2"
    form = re.search(r'<form[^>]+action="/edit/link">.*?</form>', ann.get(target).text, re.DOTALL)
    assert form is not None
    assert f'name="target" value="{target}"' in unescape(form[0])
    answer = make(ann, target, title="Grains")
    slug = answer.headers["location"].rpartition("/")[2]
    page = ann.get(answer.headers["location"])
    assert f'value="http://testserver/s/{slug}"' in page.text
    assert "Grains" in words(page)
    for client in (ann, editing.client()):
        followed = client.get(f"/s/{slug}")
        assert (followed.status_code, followed.headers["location"]) == (302, target)
        assert client.head(f"/s/{slug}").status_code == 302
        assert "no-store" in followed.headers["cache-control"]
        assert "Cookie" in followed.headers["vary"]
    assert made(ann, target, title="Grains") == slug  # the same view has one link of a person
    said = editing.client().get(f"/s/{slug}.json").json()
    assert (said["target"], said["generation"]) == (target, planted.explorer.generation)
    assert (said["author"], said["state"], said["sae"]) == ("ann", "same", planted.sae)


def test_a_long_address_survives(editing: Editing, planted: Planted) -> None:
    target = f"{planted.search}?q={'%F0%9F%A7%AA' * 2000}&f=3:-0.25"
    ann = editing.signed_in("ann")
    assert f'value="{target}" data-here' in unescape(ann.get(target).text)
    followed = editing.client().get(f"/s/{made(ann, target)}")
    assert followed.headers["location"] == target
    assert editing.client().get(followed.headers["location"]).status_code == 200


def test_a_link_into_another_generation_says_so_first(editing: Editing, planted: Planted) -> None:
    slug = made_before(editing, planted)
    answer = editing.client().get(f"/s/{slug}")
    assert answer.status_code == 200
    told = words(answer)
    assert all(
        each in told
        for each in ("has changed since", "made by ann", "20200101T000000-abcdef", "still there", planted.sae)
    )
    assert planted.explorer.generation in told
    assert f'href="{planted.search}?q=dust&amp;f=3:+0.40"' in answer.text
    assert editing.client().get(f"/s/{slug}.json").json()["state"] == "changed"


def test_a_link_to_what_is_gone_says_what_is_there(editing: Editing, planted: Planted) -> None:
    name, client = planted.explorer.name, editing.client()
    target = f"/{name}/k9-n9-000000/search?q=dust"
    slug = made_before(editing, planted, target=target, sae="k9-n9-000000")
    answer = client.get(f"/s/{slug}")
    assert (answer.status_code, "k9-n9-000000 is not served any more" in words(answer)) == (410, True)
    assert f'href="{planted.search}?q=dust"' in answer.text
    assert f'href="{target}"' not in answer.text
    slug = made_before(editing, planted, target="/gone", sae="", collection="gone")
    answer = client.get(f"/s/{slug}")
    assert (answer.status_code, "no collection gone here" in words(answer)) == (410, True)
    said = client.get(f"/s/{slug}.json")
    assert (said.status_code, said.json()["state"]) == (200, "no collection")


def test_private_links_are_there_for_their_owner_and_admins(editing: Editing, planted: Planted) -> None:
    ann, ben, root = (
        editing.signed_in("ann"), editing.signed_in("ben"), editing.signed_in("root", Role.ADMIN)
    )  # fmt: skip
    name = planted.explorer.name
    slugs = {kind: made(ann, f"/{name}", visibility=kind) for kind in ("public", "unlisted", "private")}
    for client, sees in ((ann, True), (root, True), (ben, False), (editing.client(), False)):
        for address in (
            f"/s/{slugs['private']}",
            f"/s/{slugs['private']}.json",
            f"/{name}/links/{slugs['private']}",
        ):
            assert (client.get(address).status_code == 404) is not sees
        assert client.get(f"/s/{slugs['unlisted']}").status_code == 302

    def listed(client: TestClient) -> set[str]:
        return {each["slug"] for each in client.get(f"/{name}/links.json").json()["links"]}

    assert listed(ann) == {*slugs.values()}
    assert listed(ben) == listed(editing.client()) == {slugs["public"]}
    assert ann.get(f"/{name}/links").headers["cache-control"] == "private, no-store"

    def remove(client: TestClient, kind: str) -> int:
        sent = {"slug": slugs[kind], "collection": name}
        return client.post("/edit/link/remove", data=sent, headers=HERE).status_code

    assert [remove(ben, "public"), remove(ben, "private")] == [403, 404]
    assert [remove(ann, "public"), remove(root, "private")] == [303, 303]
    assert listed(ann) == {slugs["unlisted"]}


ELSEWHERE = (
    "", "https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "evil",
    "/\t/evil.example", "/%2Fevil.example/", "/\r\nLocation: https://evil.example", "/none/features",
    "/sign-in?next=/", "/edit/label", "/{name}/../sign-out", "/{name}/%2e%2e/x", "/{name}?q=é",
    "/{name}?q=" + "x" * 70_000,
)  # fmt: skip


def test_nothing_leads_elsewhere(editing: Editing, planted: Planted) -> None:
    ann = editing.signed_in("ann")
    for target in ELSEWHERE:
        answer = make(ann, target.format(name=planted.explorer.name), title="mine")
        assert answer.status_code in (400, 404), target
        assert 'value="mine"' in answer.text
        assert not any(
            f'href="{scheme}' in answer.text for scheme in ("javascript", "//", "/\\", "https://evil")
        )
    assert ann.get(f"/{planted.explorer.name}/links.json").json()["links"] == []


def test_an_address_that_is_none(editing: Editing) -> None:
    for slug in ("nothing", "%00", "x" * 400, "ABC", "a%2Fb", "9" * 30, HOSTILE):
        answer = editing.client().get(f"/s/{slug}")
        assert answer.status_code == 404, slug
        assert "<script>alert" not in answer.text


def test_titles_never_run(editing: Editing, planted: Planted) -> None:
    ann = editing.signed_in("ann")
    slug = made(ann, f"{planted.search}?q={'%3Cscript%3Ealert(1)'}", title=HOSTILE, visibility="public")
    name = planted.explorer.name
    for address in (f"/{name}/links", f"/{name}/links/{slug}"):
        shown = editing.client().get(address)
        assert "<script>alert" not in shown.text
        assert "<img" not in shown.text
        assert "alert('link')" in words(shown)


def test_a_reader_makes_none(editing: Editing, planted: Planted) -> None:
    eve, home = editing.signed_in("eve", Role.READER), f"/{planted.explorer.name}"
    assert "Short link</summary>" not in eve.get(home).text
    assert make(eve, home).status_code == 403
    assert make(editing.client(), home).status_code == 403


def test_a_database_that_is_away_costs_only_these_pages(
    editing: Editing, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editing.app.state.store, "read", away)
    client, home = editing.client(), f"/{planted.explorer.name}"
    for address in ("/s/abcdefghjk", f"{home}/links"):
        answer = client.get(address)
        assert (answer.status_code, "does not answer" in words(answer)) == (503, True)
    assert client.get(home).status_code == 200


def test_without_editing_there_are_none(planted: Planted) -> None:
    with TestClient(serve(planted)) as client:
        assert client.get("/s/abcdefghjk").status_code == 404
        assert client.get(f"/{planted.explorer.name}/links").status_code == 404
        assert not any(
            "links" in path or "/s/" in path for path in client.get("/openapi.json").json()["paths"]
        )


def test_the_interface_for_programs_has_them_where_people_write(editing: Editing) -> None:
    said = editing.client().get("/openapi.json").json()
    assert {"/s/{slug}.json", "/{collection}/links.json"} <= said["paths"].keys()
    assert "LinkView" in said["components"]["schemas"]
    assert "short_link" in editing.client().get("/docs.json").text
