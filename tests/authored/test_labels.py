"""Labels: history, verdicts, votes, and two people who edit at the same time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.authored import labels
from app.authored.labels import HumanLabel, LabelText, Tally
from app.authored.store import Actor, Conflict, NotAllowed, Role, Store
from app.authored.subjects import Subject, document, family, feature
from app.authored.texts import BadText
from tests.authored.people import ANN, BEN, EVE

DUST = feature("demo", "k16", 812)


def edit(store: Store, text: str, expected: int, who: Actor = ANN, subject: Subject = DUST) -> HumanLabel:
    with store.write(who) as writing:
        return labels.set_label(writing, subject, LabelText(text), expected)


def find(store: Store, subject: Subject = DUST) -> HumanLabel | None:
    with store.read() as session:
        return labels.find_label(session, subject)


def found(store: Store, subject: Subject = DUST) -> HumanLabel:
    label = find(store, subject)
    assert label is not None
    return label


def test_nobody_has_written_anything_at_first(store: Store) -> None:
    assert find(store) is None
    with store.read() as session:
        assert labels.find_history(session, DUST) == []
        assert labels.count_votes(session, {DUST: "dust"}) == {DUST: Tally(0, 0)}


def test_a_label_has_its_history_and_authors(store: Store) -> None:
    edit(store, "dust", 0)
    edit(store, "cosmic dust", 1, BEN)
    last = found(store)
    assert (last.said.text, last.author, last.revision) == ("cosmic dust", "ben", 2)
    with store.read() as session:
        assert [each.said.text for each in labels.find_history(session, DUST)] == ["cosmic dust", "dust"]


def test_a_family_is_not_the_feature_of_its_root(store: Store) -> None:
    edit(store, "dust", 0)
    edit(store, "dust and gas", 0, subject=family("demo", "k16", 812))
    assert found(store).said.text == "dust"
    assert found(store, family("demo", "k16", 812)).said.text == "dust and gas"
    assert find(store, feature("demo", "other", 812)) is None


def test_who_comes_second_is_told_both_texts(store: Store) -> None:
    edit(store, "dust", 0)
    edit(store, "cosmic dust", 1, BEN)
    with pytest.raises(Conflict, match="ben changed it") as caught:
        edit(store, "stellar dust", 1)
    assert (caught.value.mine.said.text, caught.value.theirs.said.text) == ("stellar dust", "cosmic dust")
    assert caught.value.theirs.revision == 2
    assert found(store).said.text == "cosmic dust"


def test_an_edit_of_a_label_that_never_was_is_a_conflict(store: Store) -> None:
    with pytest.raises(Conflict, match="has no label yet") as caught:
        edit(store, "dust", 3)
    assert caught.value.theirs is None


def test_what_is_there_already_is_not_stored_again(store: Store) -> None:
    edit(store, "dust", 0)
    assert edit(store, " dust\n", 1, BEN).author == "ann"
    assert found(store).revision == 1
    assert edit(store, "", 0, subject=feature("demo", "k16", 1)).revision == 0  # nothing, of nothing


def test_many_labels_are_read_at_once(store: Store) -> None:
    for latent in (3, 5, 9):
        edit(store, f"label {latent}", 0, subject=feature("demo", "k16", latent))
        edit(store, f"label {latent}!", 1, subject=feature("demo", "k16", latent))
    wanted = [feature("demo", "k16", latent) for latent in (2, 3, 9)]
    with store.read() as session:
        read = labels.find_labels(session, wanted)
    assert {subject.latent: label.said.text for subject, label in read.items()} == {
        3: "label 3!",
        9: "label 9!",
    }


@pytest.mark.parametrize(
    ("said", "automatic", "shown"),
    [
        (LabelText(), "dust", "dust"),
        (LabelText("mine"), "dust", "mine"),
        (LabelText("", "", "accepted", "dust"), "dust", "dust"),
        (LabelText("", "", "rejected", "dust"), "dust", ""),
        (LabelText("", "", "rejected", "dust"), "gas", "gas"),  # labelled again since
        (LabelText("mine", "", "rejected", "dust"), "dust", "mine"),
    ],
)
def test_what_is_shown(said: LabelText, automatic: str, shown: str, store: Store) -> None:
    with store.write(ANN) as writing:
        stored = labels.set_label(writing, DUST, said, 0)
    assert stored.said.shown(automatic) == shown


def test_what_no_label_can_be_is_refused(store: Store) -> None:
    def refused(said: LabelText, subject: Subject = DUST) -> None:
        with pytest.raises(BadText), store.write(ANN) as writing:
            labels.set_label(writing, subject, said, 0)

    refused(LabelText("x" * 121))
    refused(LabelText("dust", "x" * 4_001))
    refused(LabelText("dust", verdict="perhaps", automatic="dust"))
    refused(LabelText("dust", verdict="accepted"))  # of what?
    refused(LabelText("a title"), document("demo", "astro-ph/1"))
    assert find(store) is None


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(NotAllowed, match="takes the role editor"):
        edit(store, "mine", 0, EVE)


# --- votes ------------------------------------------------------------------------------------------


def test_votes_are_about_the_text_that_is_shown(store: Store) -> None:
    def vote(who: Actor, text: str, value: int) -> None:
        with store.write(who) as writing:
            labels.vote(writing, DUST, text, value)

    def tally(text: str) -> Tally:
        with store.read() as session:
            return labels.count_votes(session, {DUST: text}, "ann")[DUST]

    vote(ANN, "dust", 1)
    vote(BEN, "dust", -1)
    assert tally("dust") == Tally(1, 1, 1)
    vote(ANN, "dust", 1)  # twice is once
    vote(BEN, "dust", 1)  # changed their mind
    assert tally("dust") == Tally(2, 0, 1)
    assert tally("gas") == Tally(0, 0)  # another label
    vote(ANN, "gas", -1)
    assert (tally("dust"), tally("gas")) == (Tally(1, 0), Tally(0, 1, -1))
    vote(ANN, "gas", 0)
    assert tally("gas") == Tally(0, 0)
    with pytest.raises(BadText):
        vote(ANN, "gas", 2)


# --- at the same time -----------------------------------------------------------------------------------


def test_of_many_edits_at_once_none_is_lost_and_none_silent(
    store: Store, open_store: Callable[..., Store]
) -> None:
    """Eight people edit one label. Each edit either stands in the history, or came back as a conflict."""
    doors = [store, open_store()]
    stored, refused = [], []
    gate = threading.Barrier(8)

    def work(person: int) -> None:
        who, door, rng = (
            Actor(f"person {person}", Role.EDITOR, "token"),
            doors[person % 2],
            random.Random(person),
        )
        gate.wait()
        seen = 0
        for turn in range(6):
            text = f"{person}.{turn}"
            try:
                seen = edit(door, text, seen, who).revision
                stored.append(text)
            except Conflict as error:
                refused.append((text, error.mine.said.text, error.theirs.said.text))
                seen = error.theirs.revision
            if rng.random() < 0.5:
                seen = found(door).revision

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, person) for person in range(8)]:
            done.result()
    with store.read() as session:
        history = labels.find_history(session, DUST)
    assert sorted(each.said.text for each in history) == sorted(stored)
    assert [each.revision for each in history] == list(range(len(stored), 0, -1))
    assert len(stored) + len(refused) == 48
    assert all(text == mine and theirs in stored for text, mine, theirs in refused)
    assert refused  # or they did not meet, and the test shows nothing
