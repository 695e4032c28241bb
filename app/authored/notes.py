"""Notes: what people remark on a feature, a family or a document."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored import owned
from app.authored.models import NoteRow
from app.authored.owned import Ownership
from app.authored.store import Actor, Conflict, Json, Writing
from app.authored.subjects import Subject, claim, find_ids, load_subjects
from app.authored.texts import MAX_NOTE, paragraphs

MAX_LISTED = 200


@dataclass(frozen=True)
class Note:
    """A note as people see it."""

    at: Ownership
    subject: Subject
    text: str
    origin: str = ""  # JSON of where it was carried from; "" where it was written


def add_note(
    writing: Writing, subject: Subject, text: str, visibility: str = "public", origin: str = ""
) -> Note:
    """A new note of this person."""
    row = NoteRow(
        **owned.born(writing, visibility),
        subject=claim(writing, subject),
        text=paragraphs("The note", text, MAX_NOTE, least=1),
        origin=origin,
    )
    writing.session.add(row)
    note = _note(row, subject)
    writing.record("note", f"note {row.slug}", None, as_json(note))
    writing.flush()
    return note


def change_note(writing: Writing, slug: str, text: str, visibility: str, expected: int) -> Note:
    """Store another text; `Conflict` with both if there is a later revision than the person saw."""
    text = paragraphs("The note", text, MAX_NOTE, least=1)
    try:
        row = owned.hold(writing, NoteRow, slug, expected, text)
    except Conflict as error:
        raise Conflict(error.what, text, _load(writing.session, error.theirs)) from None
    before = _load(writing.session, row)
    if (row.text, row.visibility) == (text, owned.checked_visibility(visibility)):
        return before
    row.text, row.visibility = text, visibility
    owned.changed(writing, row)
    after = replace(before, at=owned.ownership(row), text=text)
    writing.record("note", f"note {slug}", as_json(before), as_json(after))
    writing.flush()
    return after


def remove_note(writing: Writing, slug: str) -> None:
    row = owned.hold(writing, NoteRow, slug, None, None)
    owned.remove(writing, row, "note", as_json(_load(writing.session, row)))


def find_note(session: Session, slug: str, viewer: Actor | None) -> Note:
    return _load(session, owned.find(session, NoteRow, slug, viewer))


def find_notes(session: Session, subject: Subject, viewer: Actor | None) -> list[Note]:
    """The latest notes on something that this person sees in lists."""
    ids = find_ids(session, [subject])
    chosen = sa.select(NoteRow).where(NoteRow.subject.in_(ids.values()), owned.listed_to(NoteRow, viewer))
    rows = session.scalars(chosen.order_by(NoteRow.changed.desc(), NoteRow.slug).limit(MAX_LISTED))
    return [_note(row, subject) for row in rows]


def as_json(note: Note) -> Json:
    """As the audit table has it."""
    return {
        "subject": note.subject.name, "text": note.text, "visibility": note.at.visibility,
        "author": note.at.author, "revision": note.at.revision,
    }  # fmt: skip


def _load(session: Session, row: NoteRow) -> Note:
    return _note(row, load_subjects(session, [row.subject])[row.subject])


def _note(row: NoteRow, subject: Subject) -> Note:
    return Note(owned.ownership(row), subject, row.text, row.origin)
