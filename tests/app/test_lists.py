"""Lists of features: made, found, changed by their owner alone, and searched with."""

from __future__ import annotations

import csv
import re
from html import unescape

import numpy as np
from httpx2 import Response
from starlette.testclient import TestClient

from tests.app.editors import HERE, Editing
from tests.app.served import Planted

HOSTILE = "<script>alert('list')</script>"


def send(client: TestClient, what: str, **fields: str) -> Response:
    return client.post(f"/edit/{what}", data=fields, headers=HERE)


def alive(planted: Planted) -> tuple[int, int]:
    """Two features that fire, the smaller number first."""
    one, other = np.flatnonzero(planted.set.features.n_documents_N)[:2].tolist()
    return one, other


def made(client: TestClient, planted: Planted, **more: str) -> str:
    """The address of a new list."""
    second, first = alive(planted)
    features = f"{first} the first\n#{second}: and this\n"
    fields = {"name": "Dust", "features": features, "visibility": "public", **more}
    answer = send(client, "list", collection=planted.explorer.name, sae=planted.sae, **fields)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def test_a_list_is_made_and_others_see_it_in_its_order(editing: Editing, planted: Planted) -> None:
    ann, reader = editing.signed_in("ann"), editing.client()
    address = made(ann, planted, description=HOSTILE)
    view = reader.get(f"{address}.json").json()
    second, first = alive(planted)
    wanted = [(first, "the first"), (second, "and this")]
    assert [(each["latent"], each["remark"]) for each in view["entries"]] == wanted
    shown = reader.get(address)
    assert ("<script>alert" not in shown.text, "Change or remove" not in shown.text) == (True, True)
    rows = list(csv.DictReader(reader.get(f"{address}.csv").text.splitlines()))
    assert [(int(row["latent"]), row["remark"]) for row in rows] == wanted
    listed = f"/{planted.explorer.name}/lists"
    assert address in reader.get(listed).text
    assert reader.get(f"{listed}.json").json()["lists"][0]["name"] == "Dust"
    moved = reader.get(view["search_url"].replace("/search?", "/search.json?")).json()
    sliders = [*moved["sliders"], *moved.get("added", [])]
    assert {each["latent"] for each in sliders} >= {first, second}


def test_a_feature_is_added_on_its_page_to_a_new_list_and_to_an_own_one(
    editing: Editing, planted: Planted
) -> None:
    ann, ben = editing.signed_in("ann"), editing.signed_in("ben")
    about = {"collection": planted.explorer.name, "kind": "feature", "sae": planted.sae}
    first = send(ann, "list/add", **about, key="5", name="Mine", remark="why", visibility="private")
    address = first.headers["location"]
    slug = address.rsplit("/", 1)[1]
    assert f'<option value="{slug}">Mine</option>' in ann.get(f"{planted.base}/features/6").text
    assert slug not in ben.get(f"{planted.base}/features/6").text
    assert send(ann, "list/add", **about, key="6", slug=slug).headers["location"] == address
    assert [each["latent"] for each in ann.get(f"{address}.json").json()["entries"]] == [5, 6]
    twice = send(ann, "list/add", **about, key="6", slug=slug, remark="A thought.")
    assert (twice.status_code, "A thought." in twice.text) == (400, True)
    assert send(ben, "list/add", **about, key="7", slug=slug).status_code == 404
    for client in (ben, editing.client()):  # it is private
        assert client.get(address).status_code == 404
        assert address not in client.get(f"/{planted.explorer.name}/lists").text


def test_who_is_slower_in_another_window_gets_both_texts(editing: Editing, planted: Planted) -> None:
    ann, ben = editing.signed_in("ann"), editing.signed_in("ben")
    address = made(ann, planted, visibility="unlisted")
    slug = address.rsplit("/", 1)[1]
    form = {
        "collection": planted.explorer.name, "sae": planted.sae, "slug": slug, "expected": "1",
        "name": "Gas", "description": "", "features": "1\n3 last", "visibility": "unlisted",
    }  # fmt: skip
    assert send(ben, "list", **form).status_code == 403
    assert send(ann, "list", **form).headers["location"] == address
    slower = send(ann, "list", **{**form, "name": "Stars", "features": "2 alone"})
    words = unescape(slower.text)
    assert slower.status_code == 409
    assert all(text in words for text in ("Gas", "Stars", "1\n3 last", "2 alone"))
    sent = dict(re.findall(r'name="(\w+)" value="([^"]*)"', slower.text))
    assert send(ann, "list", **{**form, **sent, "features": "2 alone"}).status_code == 303
    view = editing.client().get(f"{address}.json").json()  # whoever has the address
    assert (view["name"], view["revision"], [each["latent"] for each in view["entries"]]) == ("Stars", 3, [2])
    assert address not in editing.client().get(f"/{planted.explorer.name}/lists").text
    assert send(ben, "list/remove", **form).status_code == 403
    assert send(ann, "list/remove", **form).status_code == 303
    assert editing.client().get(address).status_code == 404


def test_what_is_no_list_comes_back_as_it_was_written(editing: Editing, planted: Planted) -> None:
    ann = editing.signed_in("ann")
    form = {"collection": planted.explorer.name, "sae": planted.sae, "name": "Dust", "visibility": "public"}
    for features, sentence in (
        ("3\nx", "Line 2 of the features"),
        ("3\n64", "Line 2 of the features"),
        ("3\n3", "twice"),
        ("3 " + "x" * 2_000, "The remark has"),
        ("9" * 30, "Line 1 of the features"),
    ):
        answer = send(ann, "list", **form, features=features)
        assert (answer.status_code, sentence in unescape(answer.text)) == (400, True), features
        assert features in unescape(answer.text)
    assert send(ann, "list", **{**form, "sae": "none"}, features="1").status_code == 404
    assert send(editing.client(), "list", **form, features="1").status_code == 403
    assert ann.get(f"/{planted.explorer.name}/lists/aaaaaaaaaa").status_code == 404
    assert ann.get(f"/{planted.explorer.name}/lists/%00").status_code == 404
