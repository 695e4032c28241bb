"""Notes, lists, lenses and links: who sees them, who changes them, and what two changes at once come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from app.authored import lenses, links, lists, notes
from app.authored.lists import Entry, ListText
from app.authored.models import Base
from app.authored.store import Conflict, NotAllowed, NotThere, Store, Writing
from app.authored.subjects import document, feature
from app.authored.texts import MAX_TARGET, BadText
from sae_core.lenses import BadLens, Lens, LensMove
from tests.authored.people import ANN, BEN, EVE, LENS, ROOT, known

PAPER = document("demo", "astro-ph/9501001")
LIST = ListText("demo", "k16", "To look at", entries=(Entry(known(5)), Entry(known(3), "also")))


@dataclass(frozen=True)
class Kind:
    """How one kind of thing is made, changed, taken away, found and listed."""

    add: Callable[[Writing, str], Any]
    change: Callable[[Writing, str, str, int], Any] | None
    remove: Callable[[Writing, str], None]
    find: Callable[..., Any]
    listed: Callable[..., Any]


def _changed_list(writing: Writing, slug: str, visibility: str, expected: int) -> Any:
    return lists.change_list(writing, slug, replace(LIST, name="Other", visibility=visibility), expected)


def _changed_lens(writing: Writing, slug: str, visibility: str, expected: int) -> Any:
    return lenses.change_lens(writing, slug, replace(LENS, name="other"), {}, visibility, expected)


KINDS = {
    "note": Kind(
        lambda writing, seen: notes.add_note(writing, PAPER, "A classic.", seen),
        lambda writing, slug, seen, expected: notes.change_note(writing, slug, "Other.", seen, expected),
        notes.remove_note,
        notes.find_note,
        lambda session, viewer: notes.find_notes(session, PAPER, viewer),
    ),
    "list": Kind(
        lambda writing, seen: lists.add_list(writing, replace(LIST, visibility=seen)),
        _changed_list,
        lists.remove_list,
        lists.find_list,
        lambda session, viewer: lists.find_lists(session, "demo", viewer),
    ),
    "lens": Kind(
        lambda writing, seen: lenses.add_lens(writing, "demo", LENS, {}, seen),
        _changed_lens,
        lenses.remove_lens,
        lenses.find_lens,
        lambda session, viewer: lenses.find_lenses(session, "demo", viewer),
    ),
    "link": Kind(
        lambda writing, seen: links.add_link(writing, "/demo", "demo", "", "g1", visibility=seen),
        None,
        links.remove_link,
        links.find_link,
        lambda session, viewer: links.find_links(session, "demo", viewer),
    ),
}
every_kind = pytest.mark.parametrize("thing", KINDS.values(), ids=KINDS)
every_changing_kind = pytest.mark.parametrize(
    "thing", [each for each in KINDS.values() if each.change], ids=[name for name in KINDS if name != "link"]
)


@every_kind
def test_who_sees_it(store: Store, thing: Kind) -> None:
    with store.write(ANN) as writing:
        made = {seen: thing.add(writing, seen) for seen in ("public", "unlisted", "private")}
    with store.read() as session:
        for viewer in (ANN, ROOT, BEN, EVE, None):
            for visibility, one in made.items():
                if visibility != "private" or viewer in (ANN, ROOT):
                    assert thing.find(session, one.at.slug, viewer) == one
                else:
                    with pytest.raises(NotThere):
                        thing.find(session, one.at.slug, viewer)
            listed = {one.at.visibility for one in thing.listed(session, viewer)}
            assert listed == (set(made) if viewer is ANN else {"public"})


@every_kind
def test_nothing_is_at_other_addresses(store: Store, thing: Kind) -> None:
    for slug in ("", "nothing", "x" * 10_000, "\u05e9", "../../etc", "a'--", "\0"):
        with pytest.raises(NotThere), store.read() as session:
            thing.find(session, slug, ROOT)


@every_kind
def test_only_its_owner_and_admins_take_it_away(store: Store, thing: Kind) -> None:
    with store.write(ANN) as writing:
        first, second = thing.add(writing, "public"), thing.add(writing, "unlisted")
    with pytest.raises(NotAllowed, match="belongs to ann"), store.write(BEN) as writing:
        thing.remove(writing, first.at.slug)
    for who, made in ((ANN, first), (ROOT, second)):
        with store.write(who) as writing:
            thing.remove(writing, made.at.slug)
        with pytest.raises(NotThere), store.read() as session:
            thing.find(session, made.at.slug, ROOT)


@every_changing_kind
def test_a_change_after_anothers_is_a_conflict_with_both(store: Store, thing: Kind) -> None:
    change = thing.change
    assert change is not None
    with store.write(ANN) as writing:
        slug = thing.add(writing, "public").at.slug
    with store.write(ANN) as writing:
        after = change(writing, slug, "unlisted", 1)
    assert (after.at.revision, after.at.visibility) == (2, "unlisted")
    with pytest.raises(Conflict, match="was changed at") as caught, store.write(ANN) as writing:
        change(writing, slug, "private", 1)
    assert caught.value.theirs == after
    assert caught.value.mine
    assert not isinstance(caught.value.theirs, Base)  # nothing that needs its transaction
    with pytest.raises(NotAllowed), store.write(BEN) as writing:
        change(writing, slug, "public", 2)
    with store.read() as session:
        assert thing.find(session, slug, None) == after
    with store.write(ANN) as writing:
        assert change(writing, slug, "unlisted", 2) == after  # the same again


@every_kind
def test_what_is_no_visibility(store: Store, thing: Kind) -> None:
    with pytest.raises(BadText, match="is no visibility"), store.write(ANN) as writing:
        thing.add(writing, "secret")


# --- each by itself -------------------------------------------------------------------------------------


def test_a_list_keeps_its_order_and_remarks(store: Store) -> None:
    with store.write(ANN) as writing:
        made = lists.add_list(writing, LIST)
        turned = replace(LIST, entries=LIST.entries[::-1])
        lists.change_list(writing, made.at.slug, turned, 1)
    with store.read() as session:
        entries = lists.find_list(session, made.at.slug, None).said.entries
    assert [(entry.subject.latent, entry.remark) for entry in entries] == [(3, "also"), (5, "")]
    assert entries[0].subject.direction == known(3).direction  # to be carried


def test_what_no_list_can_be(store: Store) -> None:
    refused = [
        replace(LIST, name=" "),
        replace(LIST, name="x" * 121),
        replace(LIST, entries=(Entry(known(3)), Entry(feature("demo", "k16", 3), "again"))),
        replace(LIST, entries=(Entry(feature("demo", "other", 3)),)),
        replace(LIST, entries=(Entry(PAPER),)),
        replace(LIST, entries=tuple(Entry(feature("demo", "k16", latent)) for latent in range(1_001))),
        replace(LIST, entries=(Entry(known(3), "x" * 501),)),
    ]
    for said in refused:
        with pytest.raises(BadText), store.write(ANN) as writing:
            lists.add_list(writing, said)


def test_a_lens_is_what_the_library_reads(store: Store) -> None:
    with store.write(ANN) as writing:
        made = lenses.add_lens(writing, "demo", LENS, {})
    assert made.lens == LENS
    with pytest.raises(BadLens), store.write(ANN) as writing:
        lenses.add_lens(writing, "demo", Lens("nothing", "k16", ()), {})
    with pytest.raises(BadLens), store.write(ANN) as writing:
        lenses.add_lens(writing, "demo", Lens("far", "k16", (LensMove("strength", 3, 1e9),)), {})


def test_a_link_is_made_once_by_one_person(store: Store) -> None:
    def add(who: Any, generation: str) -> str:
        with store.write(who) as writing:
            slug: str = links.add_link(writing, "/demo/k16/search?q=dust", "demo", "k16", generation).at.slug
        return slug

    assert add(ANN, "g1") == add(ANN, "g1")
    assert len({add(ANN, "g1"), add(ANN, "g2"), add(BEN, "g1")}) == 3  # a later generation is another state


def test_a_link_leads_nowhere_else(store: Store) -> None:
    elsewhere = [
        "",
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "demo",
    ]
    unsendable = ["/a b", "/a\nSet-Cookie: x", "/\u05e9", "/\0", "/" + "x" * MAX_TARGET]
    for target in elsewhere + unsendable:
        with pytest.raises(BadText), store.write(ANN) as writing:
            links.add_link(writing, target, "demo", "", "g1")
