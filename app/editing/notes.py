"""Notes on features and documents: on their pages, and stored from there."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request

from app import urls
from app.authored import notes
from app.authored.notes import Note
from app.authored.store import Actor, Role, Writing
from app.editing.acts import CHOICE, TEXT, Act, Field, add_act
from app.editing.forms import Form
from app.editing.subjects import page_of, subject_of
from app.views.editing import NoteView

router = APIRouter()

VISIBILITIES = (("public", "for everybody"), ("private", "only for me and admins"))


def note_view(note: Note, viewer: Actor | None) -> NoteView:
    at = note.at
    may_change = viewer is not None and (viewer.name == at.author or viewer.role >= Role.ADMIN)
    changed = at.changed.isoformat(timespec="minutes")
    return NoteView(at.slug, note.text, at.author, at.visibility, at.revision, changed, may_change)


def _store(request: Request, writing: Writing, form: Form) -> str:
    text, visibility = form["text"], form["visibility"]
    if form["slug"]:
        notes.change_note(writing, form["slug"], text, visibility, form.number("expected"))
    else:
        notes.add_note(writing, subject_of(request, form), text, visibility)
    return f"{page_of(form)}#people"


def _remove(_request: Request, writing: Writing, form: Form) -> str:
    notes.remove_note(writing, form["slug"])
    return f"{page_of(form)}#people"


def _theirs(found: Note) -> Mapping[str, str]:
    return {"text": found.text, "visibility": found.at.visibility, "expected": str(found.at.revision)}


NOTE = Act(
    path=urls.edit("note"),
    button="Store",
    fields=(Field("text", "Note", TEXT), Field("visibility", "It is", CHOICE, VISIBILITIES)),
    do=_store,
    theirs=_theirs,
)
REMOVAL = Act(path=urls.edit("note/remove"), button="Remove", fields=(), do=_remove)
add_act(router, NOTE)
add_act(router, REMOVAL)
