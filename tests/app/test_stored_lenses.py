"""Stored lenses on the web: moves under a name, offered beside every search, changed by whose they are."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import NoReturn
from urllib.parse import parse_qsl, urlsplit

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.authored import lenses
from app.authored.engines import DatabaseError
from app.authored.store import Actor, Role
from sae_core.lenses import Lens, LensMove, parse
from tests.app.editors import HERE, Editing
from tests.app.served import Planted, serve

HOSTILE = "<script>alert(1)</script>'\"><img>"


def words(answer: Response) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))


def send(client: TestClient, planted: Planted, **fields: str) -> Response:
    search = f"{planted.search}?q=dust&f=3:+0.40&exclude=7"
    sent = {"collection": planted.explorer.name, "target": search, "name": "dusty", "visibility": "public"}
    return client.post("/edit/lens", data={**sent, **fields}, headers=HERE)


def stored(client: TestClient, planted: Planted, **fields: str) -> str:
    """The address of a new lens."""
    answer = send(client, planted, **fields)
    assert answer.status_code == 303, words(answer)
    return answer.headers["location"]


def test_moves_are_stored_and_put_on_another_search(editing: Editing, planted: Planted) -> None:
    ann, reader = editing.signed_in("ann"), editing.client()
    search = f"{planted.search}?q=dust&f=3:+0.40&exclude=7"
    assert 'action="/edit/lens"' in ann.get(search).text
    address = stored(ann, planted)
    shown = reader.get(address)
    assert all(each in words(shown) for each in ("dusty", "by ann , revision 1", planted.sae))
    assert f'href="{planted.base}/features/3"' in shown.text
    (choice,) = reader.get(f"{planted.search}.json?q=moon&f=5:+0.20").json()["stored"]["choices"]
    put_on = dict(parse_qsl(urlsplit(choice["put_on_url"]).query))
    assert put_on["lens"] == f"dusty;{planted.sae};3:+0.40,-7"
    assert put_on["q"] == "moon"
    assert unescape(choice["put_on_url"]) in unescape(reader.get(f"{planted.search}?q=moon&f=5:+0.20").text)
    steered = reader.get(f"{choice['put_on_url']}").text
    assert '<bdi class="lens-name">dusty</bdi>' in steered
    assert [
        each["name"] for each in reader.get(f"/{planted.explorer.name}/lenses.json").json()["lenses"]
    ] == ["dusty"]


def test_a_stored_lens_is_a_file_that_can_be_pasted(editing: Editing, planted: Planted) -> None:
    address = stored(editing.signed_in("ann"), planted)
    file = editing.client().get(f"{address}/lens.json")
    assert file.headers["content-disposition"] == 'attachment; filename="dusty.json"'
    moves = (LensMove("strength", 3, 0.4), LensMove("exclude", 7))
    assert parse(file.text) == Lens("dusty", planted.sae, moves)
    assert json.loads(file.text)["moves"][0]["label"]
    assert editing.client().get(f"{address}.json").json()["text"] == file.text
    pasted = editing.client().get(planted.search, params={"paste": file.text})
    assert (pasted.status_code, "dusty" in pasted.headers["location"]) == (303, True)


def test_a_revision_is_for_whose_it_is_and_who_is_slower_gets_both(
    editing: Editing, planted: Planted
) -> None:
    ann, ben = editing.signed_in("ann"), editing.signed_in("ben")
    address = stored(ann, planted)
    slug = address.rpartition("/")[2]
    assert f'<option value="{slug}:1">dusty</option>' in ann.get(planted.search).text
    assert f'value="{slug}:1"' not in ben.get(planted.search).text
    more = f"{planted.search}?f=3:+0.60"
    assert send(ben, planted, over=f"{slug}:1", target=more).status_code == 403
    assert send(ann, planted, over=f"{slug}:1", target=more, name="dustier").status_code == 303
    slower = send(ann, planted, over=f"{slug}:1", target=f"{planted.search}?f=3:-0.20")
    assert slower.status_code == 409
    assert all(
        each in unescape(slower.text) for each in ('"value": 0.6', '"value": -0.2', "dustier", "dusty")
    )
    fields = {
        name: unescape(value) for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', slower.text)
    }
    mine = re.search(r'name="moves"[^>]*>\n(.*?)</textarea>', slower.text, re.DOTALL)
    assert mine is not None
    assert fields["over"] == f"{slug}:2"
    assert send(ann, planted, **{**fields, "moves": unescape(mine[1])}).status_code == 303
    said = ann.get(f"{address}.json").json()
    assert (said["revision"], said["name"], parse(said["text"]).moves[0].value) == (3, "dusty", -0.2)


def test_a_lens_of_another_sae_says_what_was_lost(editing: Editing, planted: Planted) -> None:
    gone = Lens("old", "k9-n9-000000", (LensMove("strength", 3, 0.4),))
    with editing.store.write(Actor("ann", Role.EDITOR, "test")) as writing:
        slug = lenses.add_lens(writing, planted.explorer.name, gone, {}).at.slug
    shown = editing.client().get(f"/{planted.explorer.name}/lenses/{slug}")
    assert (shown.status_code, "is not here any more" in words(shown)) == (200, True)
    (choice,) = editing.client().get(f"{planted.search}.json").json()["stored"]["choices"]
    assert choice["is_foreign"]
    assert "nothing of it is applied" in words(editing.client().get(choice["put_on_url"]))


@pytest.mark.parametrize("kind", ["private", "unlisted"])
def test_what_is_not_public_stands_in_no_list(editing: Editing, planted: Planted, kind: str) -> None:
    ann, ben, name = editing.signed_in("ann"), editing.signed_in("ben"), planted.explorer.name
    address = stored(ann, planted, visibility=kind)
    for client, listed, opened in ((ann, 1, 200), (ben, 0, 200 if kind == "unlisted" else 404)):
        assert len(client.get(f"/{name}/lenses.json").json()["lenses"]) == listed
        assert len(client.get(f"{planted.search}.json").json()["stored"]["choices"]) == listed
        for each in (address, f"{address}.json", f"{address}/lens.json"):
            assert client.get(each).status_code == opened
    removal = {"collection": name, "slug": address.rpartition("/")[2]}
    assert ben.post("/edit/lens/remove", data=removal, headers=HERE).status_code in (403, 404)
    assert ann.post("/edit/lens/remove", data=removal, headers=HERE).status_code == 303
    assert ann.get(address).status_code == 404


def test_what_is_no_lens_comes_back(editing: Editing, planted: Planted) -> None:
    ann = editing.signed_in("ann")
    foreign = json.dumps({"saefari_lens": 1, "name": "x", "sae": planted.sae, "moves": [
        {"feature": 999_999, "mode": "require"}]})  # fmt: skip
    for fields, status, sentence in (
        ({"name": " "}, 400, "has no name"),
        ({"target": planted.search}, 400, "moves nothing"),
        ({"target": f"/{planted.explorer.name}"}, 400, "those of a search"),
        ({"target": "//evil.example/search"}, 400, "those of a search"),
        ({"target": f"{planted.search}?f=x"}, 400, "cannot be"),
        ({"collection": "none"}, 404, "no collection"),
        ({"visibility": "all"}, 400, "is no visibility"),
        ({"moves": "{"}, 400, "is no JSON"),
        ({"moves": foreign}, 400, "#999999"),
        ({"over": "abcdefghjk:1"}, 404, "nothing at this address"),
        ({"over": "abcdefghjk:x"}, 400, "no number"),
    ):
        answer = send(ann, planted, **fields)
        assert (answer.status_code, sentence in words(answer)) == (status, True), (fields, words(answer))
    assert send(editing.client(), planted).status_code == 403
    assert ann.get(f"/{planted.explorer.name}/lenses.json").json()["lenses"] == []


def test_names_never_run(editing: Editing, planted: Planted) -> None:
    address = stored(editing.signed_in("ann"), planted, name=HOSTILE)
    for each in (address, f"/{planted.explorer.name}/lenses", f"{planted.search}?q=dust"):
        shown = editing.client().get(each)
        assert "alert(1)" in words(shown)
        assert "<script>alert" not in shown.text
        assert "<img>" not in shown.text
    assert editing.client().get(f"{address}/lens.json").headers["content-disposition"].isascii()


def test_a_database_that_is_away_costs_a_sentence(
    editing: Editing, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> NoReturn:
        raise DatabaseError("It is away.", remedy="Wait.")

    monkeypatch.setattr(editing.app.state.store, "read", away)
    answer = editing.client().get(f"{planted.search}?q=dust")
    assert (answer.status_code, "Stored lenses cannot be shown" in words(answer)) == (200, True)
    assert 'class="result"' in answer.text
    assert "no-store" in answer.headers["cache-control"]


def test_without_editing_nothing_is_offered(planted: Planted) -> None:
    with TestClient(serve(planted)) as client:
        assert client.get(f"/{planted.explorer.name}/lenses").status_code == 404
        assert "Stored by people" not in client.get(planted.search).text
        assert client.get(f"{planted.search}.json").json()["stored"] is None
