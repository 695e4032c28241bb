"""Out and in again as JSON lines: the same, once, whole or not at all."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.authored import labels, notes, schema, transfer
from app.authored.labels import LabelText
from app.authored.store import NotAllowed, Store
from app.authored.subjects import document, feature
from app.authored.transfer import BadTransfer
from tests.authored.people import ANN, BEN, ROOT, fill, known

N_ODD = 12
EVERYTHING = {"label": 2, "vote": 1, "note": 2, "list": 1, "lens": 1, "link": 1}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Store]:
    """Another database, SQLite's: what one writes the other reads."""
    url = f"sqlite:///{tmp_path}/elsewhere/authored.sqlite"
    schema.upgrade(url)
    store = Store.open(url)
    yield store
    store.close()


def test_what_went_out_comes_in_and_goes_out_the_same(store: Store, elsewhere: Store, tmp_path: Path) -> None:
    fill(store)
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    assert transfer.export(store, first) == EVERYTHING
    taken = transfer.import_file(elsewhere, first, ROOT)
    assert (taken.added, taken.same, taken.differing) == (EVERYTHING, {}, [])
    transfer.export(elsewhere, second)
    assert second.read_text() == first.read_text()
    with elsewhere.read() as session:
        history = labels.find_history(session, feature("demo", "k16", 3))
    assert [(each.said.text, each.author) for each in history] == [("cosmic dust", "ben"), ("dust", "ann")]


def test_importing_twice_adds_nothing(store: Store, tmp_path: Path) -> None:
    fill(store)
    transfer.export(store, tmp_path / "all.jsonl")
    taken = transfer.import_file(store, tmp_path / "all.jsonl", ROOT)
    assert (taken.added, taken.same, taken.differing) == ({}, EVERYTHING, [])


def test_what_is_other_here_stays_and_is_named(store: Store, elsewhere: Store, tmp_path: Path) -> None:
    fill(store)
    transfer.export(store, tmp_path / "all.jsonl")
    with elsewhere.write(BEN) as writing:
        labels.set_label(writing, known(3), LabelText("grains"), 0)
        labels.vote(writing, known(3), "grains", -1)
    taken = transfer.import_file(elsewhere, tmp_path / "all.jsonl", ROOT)
    assert len(taken.differing) == 2
    assert all("feature demo k16 3" in line for line in taken.differing)
    with elsewhere.read() as session:
        assert labels.find_labels(session, [known(3)])[known(3)].said.text == "grains"


def test_a_longer_history_of_the_same_label_is_continued(
    store: Store, elsewhere: Store, tmp_path: Path
) -> None:
    fill(store)
    transfer.export(store, tmp_path / "early.jsonl")
    transfer.import_file(elsewhere, tmp_path / "early.jsonl", ROOT)
    with store.write(ANN) as writing:
        labels.set_label(writing, known(3), LabelText("dust again"), 2)
    transfer.export(store, tmp_path / "late.jsonl")
    assert transfer.import_file(elsewhere, tmp_path / "late.jsonl", ROOT).added == {"label": 1}
    assert transfer.import_file(elsewhere, tmp_path / "early.jsonl", ROOT).added == {}
    with elsewhere.read() as session:
        assert labels.find_history(session, known(3))[0].said.text == "dust again"


def test_what_is_only_for_some_stays_out_of_a_public_file(store: Store, tmp_path: Path) -> None:
    fill(store)
    path = tmp_path / "public.jsonl"
    assert transfer.export(store, path, is_public=True) == {"label": 2, "note": 1, "lens": 1}
    assert "Only for me" not in path.read_text()
    assert transfer.export(store, path, "another") == {}


def test_secrets_and_the_audit_table_stay(store: Store, tmp_path: Path) -> None:
    fill(store)
    transfer.export(store, tmp_path / "all.jsonl")
    text = (tmp_path / "all.jsonl").read_text()
    assert not any(word in text for word in ("digest", "saefari_e", "expires", "command line", "admin"))
    assert (tmp_path / "all.jsonl").stat().st_mode & 0o077 == 0


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[list[str]], list[str]]:
    """A change to the first line that has a label."""

    def edit(lines: list[str]) -> list[str]:
        at = next(at for at, line in enumerate(lines) if line.startswith('{"label"'))
        whole = json.loads(lines[at])
        change(whole["label"])
        return [*lines[:at], json.dumps(whole), *lines[at + 1 :]]

    return edit


FAULTS: dict[str, Callable[[list[str]], list[str]]] = {
    "cut off": lambda lines: lines[:-1],
    "cut inside": lambda lines: [*lines[:-2], lines[-2][:40]],
    "a line is missing": lambda lines: [*lines[:2], *lines[3:]],
    "empty": lambda _: [],
    "another version": lambda lines: ['{"saefari_authored": 2}', *lines[1:]],
    "no JSON": lambda lines: [lines[0], "nonsense", *lines[1:]],
    "deep JSON": lambda lines: [lines[0], "[" * 100_000, *lines[1:]],
    "another kind": lambda lines: [lines[0], '{"token": {}}', *lines[1:]],
    "a bare number": lambda lines: [lines[0], '{"label": 7}', *lines[1:]],
    "a long label": _edit(lambda entry: entry["revisions"][0].update(text="x" * 121)),
    "a revision is missing": _edit(lambda entry: entry["revisions"][0].update(revision=2)),
    "a time without a zone": _edit(lambda entry: entry["revisions"][0].update(at="2026-11-23T10:00:00")),
    "an author that nobody is": _edit(lambda entry: entry["revisions"][0].update(author="<script>")),
    "a feature beyond numbers": _edit(lambda entry: entry["subject"].update(key="9" * 30)),
    "a direction that is none": _edit(
        lambda entry: entry["subject"].update(direction={"space": "x", "float32": "!"})
    ),
}


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_a_file_with_a_fault_is_not_imported_at_all(store: Store, elsewhere: Store, tmp_path: Path) -> None:
    fill(store)
    transfer.export(store, tmp_path / "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    for name, fault in FAULTS.items():
        (tmp_path / "bad.jsonl").write_text("\n".join(fault(lines)) + "\n")
        with pytest.raises(BadTransfer) as caught:
            transfer.import_file(elsewhere, tmp_path / "bad.jsonl", ROOT)
        assert caught.value.remedy, name
        assert transfer.export(elsewhere, tmp_path / "check.jsonl") == {}, name


def test_only_admins_import(store: Store, tmp_path: Path) -> None:
    transfer.export(store, tmp_path / "all.jsonl")
    with pytest.raises(NotAllowed):
        transfer.import_file(store, tmp_path / "all.jsonl", ANN)


def test_what_is_imported_is_cleaned_as_if_it_were_written(store: Store, tmp_path: Path) -> None:
    with store.write(ANN) as writing:
        notes.add_note(writing, document("demo", "1"), "plain")
    path = tmp_path / "all.jsonl"
    transfer.export(store, path)
    slug = "abcdefghjk"
    lines = path.read_text().splitlines()
    note = json.loads(lines[1])
    note["note"] |= {"slug": slug, "text": "a\0b\u202e c \ud800"}
    path.write_text("\n".join([lines[0], json.dumps(note), lines[2]]) + "\n")
    assert transfer.import_file(store, path, ROOT).added == {"note": 1}
    with store.read() as session:
        assert notes.find_note(session, slug, None).text == "ab c"


ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    10**30,
    2**63,
    "",
    "\0",
    "\ud800",
    "x" * 100_000,
    "9999-12-31T23:59:59-12:00",
    [],
    {},
    [[]],
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from leaves(each, (*path, key))


def with_odd(lines: list[str], at: int, path: tuple[Any, ...], odd: Any) -> str:
    """The lines with one place taken by something else."""
    whole = json.loads(lines[at])
    place = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = odd
    return "\n".join([*lines[:at], json.dumps(whole), *lines[at + 1 :]]) + "\n"


def test_whatever_a_line_says_it_is_taken_or_refused_in_a_sentence(store: Store, tmp_path: Path) -> None:
    """Any place of any line, with anything in it; a sample of some thousands."""
    fill(store)
    path = tmp_path / "all.jsonl"
    transfer.export(store, path)
    lines = path.read_text().splitlines()
    places = [
        (at, place, odd)
        for at in range(1, len(lines) - 1)
        for place in leaves(json.loads(lines[at]))
        if len(place) > 1
        for odd in ODD
    ]
    outcomes = []
    for at, place, odd in random.Random(0).sample(places, N_ODD):
        path.write_text(with_odd(lines, at, place, odd))
        try:
            taken = transfer.import_file(store, path, ROOT)
            outcomes.append("differs" if taken.differing else "taken" if taken.added else "same")
        except BadTransfer:
            outcomes.append("refused")
    assert {"refused"} < set(outcomes)  # some of it is harmless
