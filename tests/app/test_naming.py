"""What people call things holds wherever they are named, and no answer that is kept says otherwise."""

from __future__ import annotations

import csv
import itertools
from typing import Any

import pytest

from app.authored import audit, labels
from app.authored.labels import LabelText
from app.authored.store import Actor, Role
from app.authored.subjects import Subject, family, feature
from app.called import Over
from app.editing.naming import Naming
from tests.app.editors import HERE, Editing
from tests.app.served import Planted
from tests.planted import WORDS

ANN = Actor("ann", Role.EDITOR, "test")
NAME = "zebra crossing"


@pytest.fixture
def member(planted: Planted) -> int:
    """A labelled feature that is in a family, but not at its root."""
    built = planted.set.families[0]
    return next(each for each in built.members[1:] if planted.set.labels[each].source != "none")


def say(editing: Editing, subject: Subject, **said: str) -> None:
    with editing.store.write(ANN) as writing:
        found = labels.find_label(writing.session, subject)
        labels.set_label(writing, subject, LabelText(**said), found.revision if found else 0)
    editing.app.state.naming.renew()


def ask(editing: Editing, url: str, **parameters: str) -> Any:
    answer = editing.client().get(url, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_people_call_a_feature_holds_wherever_it_is_named(
    editing: Editing, planted: Planted, member: int
) -> None:
    subject, base = feature(planted.explorer.name, planted.sae, member), planted.base
    automatic = planted.set.labels[member].text
    at = f"{base}/features/{member}"
    scored = ask(editing, f"{at}.json")["label"]["trust"]
    say(editing, subject, text=NAME)
    label = ask(editing, f"{at}.json")["label"]
    assert (label["text"], label["source"], label["trust"]["auc"]) == (NAME, "people", None)
    assert (label["automatic"]["text"], label["automatic"]["trust"]) == (automatic, scored)
    position = int(planted.set.codes.of_latent(member)[0][0])
    document = f"/{planted.explorer.name}/documents/doc-{position:04}"
    root = planted.set.families[0].id
    slider = f"{planted.search}?q={WORDS[0]}&f={member}:%2B0.40"
    near = next(i for i in range(64) if member in planted.set.features.similar_NS[i])
    for page in (
        document, f"{base}/families/{root}", f"{base}/families", slider, f"{planted.search}?find=zebra",
        f"{base}/features?words=zebra", f"{base}/features/{near}", f"{base}/features/{member}/embed",
    ):  # fmt: skip
        shown = editing.client().get(page)
        assert NAME in shown.text, page
        assert "trust-people" in shown.text, page
        path, _, query = page.partition("?")
        if not path.endswith("embed"):
            assert NAME in editing.client().get(f"{path}.json?{query}").text, page
    rows = list(
        csv.DictReader(editing.client().get(f"{base}/features.csv?words=zebra cross").text.splitlines())
    )
    assert [(row["label"], row["label_trust"], row["label_automatic"]) for row in rows] == [
        (NAME, "people", automatic)
    ]
    found = ask(editing, f"{planted.search}.json", find="cross zeb")["found"]
    assert found[0]["row"]["latent"] == member


def test_a_rejected_label_is_not_shown_as_if_it_held(editing: Editing, planted: Planted, member: int) -> None:
    subject = feature(planted.explorer.name, planted.sae, member)
    automatic = planted.set.labels[member].text
    before = ask(editing, f"{planted.base}/features.json", labelled="1")["page"]["total"]
    say(editing, subject, verdict="rejected", automatic=automatic)
    label = ask(editing, f"{planted.base}/features/{member}.json")["label"]
    assert (label["text"], label["source"], label["trust"]["level"]) == ("unlabelled", "none", "rejected")
    assert automatic not in label["phrases"]
    assert label["trust"]["automatic"] == automatic
    assert ask(editing, f"{planted.base}/features.json", labelled="1")["page"]["total"] == before - 1
    say(editing, subject, verdict="rejected", automatic="what it was before")
    assert ask(editing, f"{planted.base}/features/{member}.json")["label"]["text"] == automatic


def test_what_people_call_a_family_holds_in_lists_and_searches(editing: Editing, planted: Planted) -> None:
    root = planted.set.families[0].id
    say(editing, family(planted.explorer.name, planted.sae, root), text=NAME)
    card = next(
        each for each in ask(editing, f"{planted.base}/families.json")["families"] if each["id"] == root
    )
    assert (card["label"], card["trust"]["level"], card["is_own"]) == (NAME, "people", True)
    found = ask(editing, f"{planted.search}.json", q=WORDS[0], find="zebra")["found_families"]
    assert [each["id"] for each in found] == [root]
    say(editing, feature(planted.explorer.name, planted.sae, root), text="the root alone")
    shown = ask(editing, f"{planted.base}/families/{root}.json")
    assert (shown["label"]["text"], shown["root"]["label"]) == (NAME, "the root alone")


def test_names_are_sorted_and_families_under_other_parameters_have_them(
    editing: Editing, planted: Planted, member: int
) -> None:
    say(editing, feature(planted.explorer.name, planted.sae, member), text="aaa first")
    rows = ask(editing, f"{planted.base}/features.json", sort="label")["rows"]
    assert rows[0]["latent"] == member
    other = f"{planted.base}/families.json?threshold=0.2&min_size=2"
    assert "aaa first" in editing.client().get(other).text
    say(editing, feature(planted.explorer.name, planted.sae, member), text="bbb second")
    again = editing.client().get(other).text
    assert ("aaa first" in again, "bbb second" in again) == (False, True)


def test_no_answer_that_is_kept_outlives_an_edit(editing: Editing, planted: Planted, member: int) -> None:
    ann, reader = editing.signed_in("ann"), editing.client()
    about = {"collection": planted.explorer.name, "kind": "feature", "sae": planted.sae, "key": str(member)}
    pages = [f"{planted.base}/features", f"{planted.base}/features/{member}", f"{planted.base}/features.csv"]
    for what, sent in (
        ("label", {"text": NAME, "expected": "0"}),
        ("note", {"text": "Look here.", "visibility": "public"}),
        ("vote", {"text": NAME, "value": "right"}),
    ):
        tags = {page: reader.get(page).headers["etag"] for page in pages}
        for page, tag in tags.items():
            assert reader.get(page, headers={"If-None-Match": tag}).status_code == 304, page
        assert ann.post(f"/edit/{what}", data={**about, **sent}, headers=HERE).status_code == 303
        for page, tag in tags.items():
            assert reader.get(page, headers={"If-None-Match": tag}).status_code == 200, (what, page)


def test_another_process_shows_an_edit_to_its_author_at_once(
    editing: Editing, planted: Planted, member: int
) -> None:
    ann, address = editing.signed_in("ann"), f"{planted.base}/features.json?words=zebra"
    with editing.store.write(ANN) as writing:  # as another process would
        subject = feature(planted.explorer.name, planted.sae, member)
        labels.set_label(writing, subject, LabelText(NAME), 0)
    assert [row["latent"] for row in ann.get(address).json()["rows"]] == [member]


def test_a_look_begun_earlier_does_not_undo_a_later_one(editing: Editing, planted: Planted) -> None:
    naming = Naming(editing.store)
    library = editing.app.state.shelf.library
    before = naming.over(library)
    assert naming.over(library) is before
    say(editing, feature(planted.explorer.name, planted.sae, 0), text=NAME)
    naming.renew()
    assert naming.over(library).written != before.written
    shown, naming._looks = naming.over(library), itertools.count(-1)
    say(editing, feature(planted.explorer.name, planted.sae, 0), text="later")
    naming.renew()
    assert naming.over(library) is shown


def test_the_mark_of_what_was_written_tells_a_change_committed_late(editing: Editing) -> None:
    with editing.store.write(ANN) as writing:
        writing.record("note", "note a", None, {})
    with editing.store.read() as session:
        marks = [audit.find_mark(session)]
    with editing.store.write(ANN) as writing:
        writing.record("note", "note b", None, {})
    with editing.store.read() as session:
        marks += [audit.find_mark(session)]
        marks += [audit.find_mark(session)]
    assert marks[0] != marks[1] == marks[2]


def test_a_layer_over_a_sequence_is_one() -> None:
    layered = Over(["a", "b", "c"], {1: "B"})
    assert (list(layered), layered[1], layered[-1], layered[:2], len(layered)) == (
        ["a", "B", "c"], "B", "c", ["a", "B"], 3,
    )  # fmt: skip
