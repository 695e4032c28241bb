"""What people write on pages: stored, shown to everybody, kept apart from what a build says."""

from __future__ import annotations

import re
from html import unescape

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.authored import labels
from app.authored.audit import read_audit
from app.authored.store import Actor, Role
from app.authored.subjects import feature
from tests.app.editors import HERE, Editing
from tests.app.served import Planted

HOSTILE = "<script>alert('label')</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def latent(planted: Planted) -> int:
    """A feature with a label."""
    return next(latent for latent, label in enumerate(planted.set.labels) if label.source != "none")


@pytest.fixture
def about(planted: Planted, latent: int) -> dict[str, str]:
    """What a form says it is about."""
    return {"collection": planted.explorer.name, "kind": "feature", "sae": planted.sae, "key": str(latent)}


@pytest.fixture
def address(planted: Planted, latent: int) -> str:
    return f"{planted.base}/features/{latent}"


def send(client: TestClient, what: str, *fields: dict[str, str]) -> Response:
    return client.post(f"/edit/{what}", data={k: v for each in fields for k, v in each.items()}, headers=HERE)


def label(text: str, expected: int = 0, **more: str) -> dict[str, str]:
    return {"text": text, "expected": str(expected), **more}


def words(answer: Response) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))


def test_a_page_shows_the_last_revisions_and_says_how_many_there_are(
    editing: Editing, about: dict[str, str], address: str, planted: Planted, latent: int
) -> None:
    subject = feature(planted.explorer.name, planted.sae, latent)
    with editing.store.write(Actor("ann", Role.EDITOR, "test")) as writing:
        for at in range(25):
            labels.set_label(writing, subject, labels.LabelText(f"the label {at}."), expected=at)
    page, said = editing.client().get(address), editing.client().get(f"{address}.json").json()
    assert "25 revisions These are the last 20; up to 1,000 are in JSON " in words(page)
    shown = re.findall(r"<li><p>.*<bdi>the label (\d+).</bdi>", page.text)
    assert [int(each) for each in shown] == [*range(24, 4, -1)]
    assert len(said["authored"]["label"]["history"]) == 25


def test_a_label_is_stored_and_heads_the_page_for_everybody(
    editing: Editing, about: dict[str, str], address: str, planted: Planted, latent: int
) -> None:
    ann = editing.signed_in("ann")
    automatic = planted.set.labels[latent].text
    answer = send(ann, "label", about, label("dust", explanation="Grains.\r\n\r\nAnd discs."))
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}#people")
    for client in (ann, editing.client()):
        shown = client.get(address)
        assert re.search(r"<h1>.*<bdi>dust</bdi></h1>", shown.text)
        assert f"by people automatic: {automatic}" in words(shown)
        assert "Grains.\n\nAnd discs." in shown.text
    said = editing.client().get(f"{address}.json").json()["authored"]["label"]
    assert (said["shown"], said["automatic"], said["latest"]["author"]) == ("dust", automatic, "ann")
    with editing.store.read() as session:
        subject = feature(about["collection"], about["sae"], latent)
        (kept,) = labels.find_history(session, subject)
        assert read_audit(session)[0].thing == subject.name
    assert kept.said.explanation == "Grains.\n\nAnd discs."


def test_what_is_said_of_a_family_stands_on_its_page(editing: Editing, planted: Planted) -> None:
    ann, root = editing.signed_in("ann"), planted.set.families[0].id
    about = {"collection": planted.explorer.name, "kind": "family", "sae": planted.sae, "key": str(root)}
    address = f"{planted.base}/families/{root}"
    assert send(ann, "label", about, label("star formation")).headers["location"] == f"{address}#people"
    assert send(ann, "note", about, {"text": "A broad one.", "visibility": "public"}).status_code == 303
    shown = editing.client().get(address)
    assert re.search(r"<h1>.*star formation.*</h1>", shown.text)
    assert "A broad one." in shown.text
    assert "by people" in words(shown)


def test_who_was_slower_is_shown_both_texts_and_can_store_theirs(
    editing: Editing, about: dict[str, str], address: str
) -> None:
    ann, ben = editing.signed_in("ann"), editing.signed_in("ben")
    send(ann, "label", about, label("dust"))
    answer = send(ben, "label", about, label("cosmic dust", explanation="Between stars."))
    assert answer.status_code == 409
    assert all(text in words(answer) for text in ("Label: stored now dust", "ann changed it", "Nothing was"))
    assert 'value="cosmic dust"' in answer.text
    assert "Between stars." in answer.text
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', answer.text))
    assert fields["expected"] == "1"
    assert send(ben, "label", fields).status_code == 303
    said = editing.client().get(f"{address}.json").json()["authored"]["label"]
    assert [each["text"] for each in said["history"]] == ["cosmic dust", "dust"]


def test_a_verdict_is_on_the_text_that_was_seen(
    editing: Editing, about: dict[str, str], address: str, planted: Planted, latent: int
) -> None:
    ann, automatic = editing.signed_in("ann"), planted.set.labels[latent].text
    send(ann, "label", about, label("", verdict="rejected", automatic=automatic))
    shown = editing.client().get(address)
    assert "unlabelled" in re.search(r"<h1>.*</h1>", shown.text)[0]  # type: ignore[index]
    assert "rejected by people" in words(shown)
    send(ann, "label", about, label("", 1, verdict="rejected", automatic="what it was before"))
    assert automatic in re.search(r"<h1>.*</h1>", editing.client().get(address).text)[0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"text": "x" * 121}, 400, "121 characters"),
        ({"verdict": "perhaps"}, 400, "is no verdict"),
        ({"verdict": "accepted", "automatic": ""}, 400, "automatic label is empty"),
        ({"expected": "nan"}, 400, "no number"),
        ({"expected": "9" * 30}, 400, "no number"),
        ({"expected": "7"}, 409, "it has no label yet"),
        ({"key": "999999"}, 400, "cannot be"),
        ({"key": "99999999999999999999"}, 400, "cannot be"),
        ({"key": "-1"}, 400, "cannot be"),
        ({"kind": "family", "key": "1"}, 404, "no such family"),
        ({"kind": "thing"}, 404, "no such family"),
        ({"kind": "document", "key": "nothing"}, 404, "no such document"),
        ({"kind": "document", "key": "doc-0100", "sae": ""}, 400, "Documents have titles"),
        ({"collection": "none"}, 404, "no collection"),
        ({"sae": "none"}, 404, "no SAE"),
    ],
)
def test_what_cannot_be_stored_comes_back_as_it_was_written(
    editing: Editing, about: dict[str, str], changes: dict[str, str], status: int, sentence: str
) -> None:
    sent = {**about, **label("dust", explanation="A long thought."), **changes}
    answer = send(editing.signed_in("ann"), "label", sent)
    assert (answer.status_code, sentence in words(answer)) == (status, True), words(answer)
    assert "A long thought." in answer.text
    with editing.store.read() as session:
        assert {record.action for record in read_audit(session)} == {"token", "role", "sign in"}


def test_without_a_session_or_a_role_nothing_is_stored_and_nothing_is_lost(
    editing: Editing, about: dict[str, str]
) -> None:
    written = label("dust", explanation="A long thought.")
    for client, sentence in (
        (editing.client(), "your session has ended"),
        (editing.signed_in("eve", Role.READER), "takes the role editor"),
    ):
        answer = send(client, "label", about, written)
        assert (answer.status_code, sentence in words(answer)) == (403, True)
        assert "A long thought." in answer.text
    assert "Say what it is" not in editing.signed_in("eve", Role.READER).get("/").text
    assert editing.client().get("/edit/label").status_code in (404, 405)


def test_what_people_write_never_runs(editing: Editing, about: dict[str, str], address: str) -> None:
    ann = editing.signed_in("ann")
    send(ann, "label", about, label(HOSTILE, explanation=HOSTILE))
    slower = send(ann, "label", about, label(HOSTILE + "2"))
    answers = [ann.get(address), editing.client().get(address), slower]
    assert all("<script>alert" not in answer.text and "<img" not in answer.text for answer in answers)
    assert slower.status_code == 409


def test_a_vote_counts_once_for_each_person_and_is_taken_back(
    editing: Editing, about: dict[str, str], address: str, planted: Planted, latent: int
) -> None:
    text = planted.set.labels[latent].text
    ann, ben = editing.signed_in("ann"), editing.signed_in("ben")

    def votes(client: TestClient) -> tuple[int, int, int]:
        said = client.get(f"{address}.json").json()["authored"]["label"]
        return said["up"], said["down"], said["own"]

    for client, value in ((ann, "right"), (ann, "right"), (ben, "wrong")):
        assert send(client, "vote", about, {"text": text, "value": value}).status_code == 303
    assert (votes(ann), votes(ben), votes(editing.client())) == ((1, 1, 1), (1, 1, -1), (1, 1, 0))
    send(ben, "vote", about, {"text": text, "value": "neither"})
    assert votes(ben) == (1, 0, 0)
    assert send(ben, "vote", about, {"text": text, "value": "2"}).status_code == 400


@pytest.mark.parametrize("kind", ["feature", "document"])
def test_a_note_is_seen_by_those_it_is_for_and_changed_by_its_author(
    editing: Editing, about: dict[str, str], address: str, planted: Planted, kind: str
) -> None:
    ann, ben = editing.signed_in("ann"), editing.signed_in("ben")
    if kind == "document":
        about = {"collection": about["collection"], "kind": kind, "key": "doc-0100", "sae": ""}
        address = f"/{planted.explorer.name}/documents/doc-0100"
    sent = send(ann, "note", about, {"text": f"Look: {HOSTILE}", "visibility": "private"})
    assert (sent.status_code, sent.headers["location"]) == (303, f"{address}#people")
    (note,) = ann.get(f"{address}.json").json()["authored"]["notes"]
    assert (note["text"], note["may_change"]) == (f"Look: {HOSTILE}", True)
    assert "Look:" in words(ann.get(address))
    assert "<script>alert" not in ann.get(address).text
    assert all("Look:" not in client.get(address).text for client in (ben, editing.client()))

    change = {"slug": note["slug"], "expected": "1", "text": "For all.", "visibility": "public"}
    assert send(ben, "note", about, change).status_code == 404
    assert send(ann, "note", about, change).status_code == 303
    assert "For all." in editing.client().get(address).text
    assert send(ben, "note", about, {**change, "expected": "2"}).status_code == 403
    slower = send(ann, "note", about, {**change, "text": "Mine."})
    assert (slower.status_code, "For all." in slower.text, "Mine." in slower.text) == (409, True, True)
    assert send(ben, "note/remove", about, {"slug": note["slug"]}).status_code == 403
    assert send(ann, "note/remove", about, {"slug": note["slug"]}).status_code == 303
    assert "For all." not in editing.client().get(address).text
