"""Lists: features of one SAE under a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored import owned
from app.authored.models import EntryRow, ListRow
from app.authored.owned import Ownership
from app.authored.store import Actor, Conflict, Json, Writing
from app.authored.subjects import Subject, claim, load_subjects
from app.authored.texts import MAX_EXPLANATION, MAX_KEY, MAX_NAME, MAX_REMARK, BadText, line, paragraphs

MAX_ENTRIES = 1_000
MAX_LISTED = 500


@dataclass(frozen=True)
class Entry:
    """A feature in a list, and why."""

    subject: Subject
    remark: str = ""


@dataclass(frozen=True)
class ListText:
    """What its owner says of a list, entries in order."""

    collection: str
    sae: str
    name: str
    description: str = ""
    entries: tuple[Entry, ...] = ()
    visibility: str = "public"

    def cleaned(self) -> ListText:
        """As it is stored; `BadText` for what cannot be."""
        entries = tuple(
            replace(each, remark=line("The remark", each.remark, MAX_REMARK)) for each in self.entries
        )
        if len(entries) > MAX_ENTRIES:
            raise BadText(f"This list has {len(entries):,} features.", remedy=f"At most {MAX_ENTRIES:,}.")
        if len({each.subject for each in entries}) < len(entries):
            raise BadText("A feature is in this list twice.", remedy="Leave one of them out.")
        subjects = [entry.subject for entry in entries]
        home = ("feature", self.collection, self.sae)
        if any((of.kind, of.collection, of.sae) != home for of in subjects):
            raise BadText("A list has features of one SAE.", remedy="Make another list for the others.")
        return replace(
            self,
            collection=line("The collection", self.collection, MAX_KEY, least=1),
            sae=line("The SAE", self.sae, MAX_KEY, least=1),
            name=line("The name of the list", self.name, MAX_NAME, least=1),
            description=paragraphs("The description", self.description, MAX_EXPLANATION),
            entries=entries,
            visibility=owned.checked_visibility(self.visibility),
        )


@dataclass(frozen=True)
class FeatureList:
    """A list as people see it."""

    at: Ownership
    said: ListText
    origin: str = ""


def add_list(writing: Writing, said: ListText, origin: str = "", slug: str = "") -> FeatureList:
    """A new list of this person."""
    said = said.cleaned()
    row = ListRow(
        **owned.born(writing, said.visibility, slug), collection=said.collection, sae=said.sae,
        name=said.name, description=said.description, origin=origin,
    )  # fmt: skip
    writing.session.add(row)
    writing.flush()
    add_entries(writing, row.slug, said.entries)
    made = FeatureList(owned.ownership(row), said, origin)
    writing.record("list", f"list {row.slug}", None, as_json(made))
    writing.flush()
    return made


def change_list(writing: Writing, slug: str, said: ListText, expected: int) -> FeatureList:
    """Store the list anew; `Conflict` with both if there is a later revision than the person saw."""
    said = said.cleaned()
    try:
        row = owned.hold(writing, ListRow, slug, expected, said)
    except Conflict as error:
        raise Conflict(error.what, said, load(writing.session, error.theirs)) from None
    before = load(writing.session, row)
    if (said.collection, said.sae) != (row.collection, row.sae):
        raise BadText("A list stays with its SAE.", remedy="Make another list.")
    if before.said == said:
        return before
    row.name, row.description, row.visibility = said.name, said.description, said.visibility
    writing.session.execute(sa.delete(EntryRow).where(EntryRow.list == slug))
    add_entries(writing, slug, said.entries)
    owned.changed(writing, row)
    after = FeatureList(owned.ownership(row), said, row.origin)
    writing.record("list", f"list {slug}", as_json(before), as_json(after))
    writing.flush()
    return after


def remove_list(writing: Writing, slug: str) -> None:
    row = owned.hold(writing, ListRow, slug, None, None)
    owned.remove(writing, row, "list", as_json(load(writing.session, row)))


def find_list(session: Session, slug: str, viewer: Actor | None) -> FeatureList:
    return load(session, owned.find(session, ListRow, slug, viewer))


def find_lists(session: Session, collection: str, viewer: Actor | None) -> list[FeatureList]:
    """The latest lists of a collection that this person sees, without their entries."""
    chosen = sa.select(ListRow).where(ListRow.collection == collection, owned.listed_to(ListRow, viewer))
    rows = session.scalars(chosen.order_by(ListRow.changed.desc(), ListRow.slug).limit(MAX_LISTED))
    return [_list(row, ()) for row in rows]


def as_json(made: FeatureList) -> Json:
    """As the audit table has it."""
    said = made.said
    return {
        "collection": said.collection, "sae": said.sae, "name": said.name, "description": said.description,
        "entries": [[entry.subject.latent, entry.remark] for entry in said.entries],
        "visibility": said.visibility, "author": made.at.author, "revision": made.at.revision,
    }  # fmt: skip


def add_entries(writing: Writing, slug: str, entries: Sequence[Entry]) -> None:
    """Fill a list that has none."""
    # In one order for everybody, so that no two wait for each other.
    ids = {
        entry.subject: claim(writing, entry.subject)
        for entry in sorted(entries, key=lambda e: e.subject.latent)
    }
    rows = [
        {"list": slug, "place": place, "subject": ids[entry.subject], "remark": entry.remark}
        for place, entry in enumerate(entries)
    ]
    if rows:
        writing.session.execute(sa.insert(EntryRow), rows)


def load(session: Session, row: ListRow) -> FeatureList:
    """The list of a row, with its entries."""
    chosen = sa.select(EntryRow).where(EntryRow.list == row.slug).order_by(EntryRow.place)
    rows = session.scalars(chosen.execution_options(populate_existing=True)).all()
    subjects = load_subjects(session, [entry.subject for entry in rows])
    return _list(row, tuple(Entry(subjects[entry.subject], entry.remark) for entry in rows))


def _list(row: ListRow, entries: tuple[Entry, ...]) -> FeatureList:
    said = ListText(row.collection, row.sae, row.name, row.description, entries, row.visibility)
    return FeatureList(owned.ownership(row), said, row.origin)
