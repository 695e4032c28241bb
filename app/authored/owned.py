"""What notes, lists, lenses and links have in common: an owner, an address, who may see them, and revisions.

Public: shown in lists, to everybody. Unlisted: to whoever has its address. Private: to its owner and admins.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored.models import LensRow, LinkRow, ListRow, NoteRow
from app.authored.store import Actor, Conflict, Json, NotThere, Role, Writing
from app.authored.texts import BadText

VISIBILITIES = ("public", "unlisted", "private")
SLUG_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is taken for another
SLUG_LETTERS = 10  # 31^10 = 8e14: not found by guessing where guesses are limited
Owned = NoteRow | ListRow | LensRow | LinkRow
Row = TypeVar("Row", NoteRow, ListRow, LensRow, LinkRow)


@dataclass(frozen=True)
class Ownership:
    """Whose something is, and how far it is seen."""

    slug: str
    revision: int
    author: str
    visibility: str
    created: datetime
    changed: datetime


def new_slug() -> str:
    return "".join(secrets.choice(SLUG_ALPHABET) for _ in range(SLUG_LETTERS))


def is_slug(text: str) -> bool:
    """Whether this could be an address that we made."""
    return 0 < len(text) <= SLUG_LETTERS and set(text) <= set(SLUG_ALPHABET)


def checked_visibility(visibility: str) -> str:
    if visibility not in VISIBILITIES:
        raise BadText(f'"{visibility[:40]}" is no visibility.', remedy=f"Choose {', '.join(VISIBILITIES)}.")
    return visibility


def listed_to(model: type[Row], viewer: Actor | None) -> sa.ColumnElement[bool]:
    """What stands in lists that somebody sees: what is public, and what is their own."""
    is_public = model.visibility == "public"
    return is_public if viewer is None else is_public | (model.author == viewer.name)


def find(session: Session, model: type[Row], slug: str, viewer: Actor | None) -> Row:
    """What is at this address; `NotThere` also where that is hidden from who asks."""
    row = session.get(model, slug) if is_slug(slug) else None
    may_see_all = viewer is not None and viewer.role >= Role.ADMIN
    if row is None or (row.visibility == "private" and not may_see_all and row.author != _name(viewer)):
        raise NotThere("There is nothing at this address, or it is not for you.", remedy="Check the address.")
    return row


def born(writing: Writing, visibility: str, slug: str = "") -> dict[str, Any]:
    """The columns of something new; one that this person makes."""
    return {
        "slug": slug or new_slug(),
        "revision": 1,
        "author": writing.actor.name,
        "visibility": checked_visibility(visibility),
        "created": writing.now,
        "changed": writing.now,
    }


def hold(writing: Writing, model: type[Row], slug: str, expected: int | None, mine: Any) -> Row:
    """The row to change, held until the transaction ends; `expected` is the revision that the person saw.

    `NotAllowed` if it is somebody else's, `Conflict` if it has changed since. None: whatever it is now.
    """
    row = find(writing.session, model, slug, writing.actor)
    writing.session.refresh(row, with_for_update=True)
    writing.require(row.author, f"What is at {slug}")
    if expected is not None and row.revision != expected:
        when = f"{row.changed:%Y-%m-%d %H:%M} UTC"
        what = f"What is at {slug} was changed at {when}, after you opened it."
        raise Conflict(what, mine, row)
    return row


def changed(writing: Writing, row: Owned) -> None:
    """Count the change."""
    row.revision += 1
    row.changed = writing.now


def remove(writing: Writing, row: Owned, action: str, before: Json) -> None:
    """Take something away; what it was stays in the audit table."""
    writing.session.delete(row)
    writing.record(action, f"{action} {row.slug}", before, None)
    writing.flush()


def ownership(row: Owned) -> Ownership:
    return Ownership(row.slug, row.revision, row.author, row.visibility, row.created, row.changed)


def _name(viewer: Actor | None) -> str:
    return viewer.name if viewer is not None else ""
