"""Stored lenses: moves under a name, with what makes their features known again in another SAE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored import owned
from app.authored.models import LensRow
from app.authored.owned import Ownership
from app.authored.store import Actor, Conflict, Json, Writing
from app.authored.subjects import Direction, Subject, claim, family, feature
from app.authored.texts import MAX_KEY, line
from sae_core.lenses import MAX_NAME, Lens, dump, parse

MAX_LISTED = 500


@dataclass(frozen=True)
class StoredLens:
    """A lens as people see it."""

    at: Ownership
    collection: str
    lens: Lens
    origin: str = ""


def moved(collection: str, lens: Lens, directions: dict[int, Direction] | None = None) -> list[Subject]:
    """The features and families that a lens moves, in order of their numbers."""
    known = directions or {}
    targets = sorted({(move.mode == "family", move.target) for move in lens.moves})
    return [
        (family if is_family else feature)(collection, lens.sae, target, known.get(target))
        for is_family, target in targets
    ]


def add_lens(  # noqa: PLR0917 (all that a lens keeps)
    writing: Writing,
    collection: str,
    lens: Lens,
    directions: dict[int, Direction],
    visibility: str = "public",
    origin: str = "",
) -> StoredLens:
    """A new lens of this person; `directions` of the features that it moves, so that it can be carried."""
    collection = line("The collection", collection, MAX_KEY, least=1)
    lens = parse(text := printed(collection, lens))
    for subject in moved(collection, lens, directions):
        claim(writing, subject)
    row = LensRow(
        **owned.born(writing, visibility), collection=collection, sae=lens.sae, name=lens.name, moves=text,
        origin=origin,
    )  # fmt: skip
    writing.session.add(row)
    made = stored(row)
    writing.record("lens", f"lens {row.slug}", None, as_json(made))
    writing.flush()
    return made


def change_lens(  # noqa: PLR0917 (the whole of a lens)
    writing: Writing, slug: str, lens: Lens, directions: dict[int, Direction], visibility: str, expected: int
) -> StoredLens:
    """Store other moves; `Conflict` with both if there is a later revision than the person saw."""
    try:
        row = owned.hold(writing, LensRow, slug, expected, lens)
    except Conflict as error:
        raise Conflict(error.what, lens, stored(error.theirs)) from None
    before, text = stored(row), printed(row.collection, lens)
    if (row.moves, row.visibility) == (text, owned.checked_visibility(visibility)):
        return before
    lens = parse(text)
    for subject in moved(row.collection, lens, directions):
        claim(writing, subject)
    row.name, row.sae, row.moves, row.visibility = lens.name, lens.sae, text, visibility
    owned.changed(writing, row)
    after = stored(row)
    writing.record("lens", f"lens {slug}", as_json(before), as_json(after))
    writing.flush()
    return after


def remove_lens(writing: Writing, slug: str) -> None:
    row = owned.hold(writing, LensRow, slug, None, None)
    owned.remove(writing, row, "lens", as_json(stored(row)))


def find_lens(session: Session, slug: str, viewer: Actor | None) -> StoredLens:
    return stored(owned.find(session, LensRow, slug, viewer))


def find_lenses(session: Session, collection: str, viewer: Actor | None) -> list[StoredLens]:
    """The latest lenses of a collection that this person sees in lists."""
    chosen = sa.select(LensRow).where(LensRow.collection == collection, owned.listed_to(LensRow, viewer))
    return [stored(row) for row in _latest(session, chosen)]


def as_json(made: StoredLens) -> Json:
    """As the audit table has it."""
    return {
        "collection": made.collection, "lens": printed(made.collection, made.lens),
        "visibility": made.at.visibility, "author": made.at.author, "revision": made.at.revision,
    }  # fmt: skip


def _latest(session: Session, chosen: sa.Select[LensRow]) -> Iterable[LensRow]:
    return session.scalars(chosen.order_by(LensRow.changed.desc(), LensRow.slug).limit(MAX_LISTED))


def printed(collection: str, lens: Lens) -> str:
    """As the library prints it. Labels are not kept: they are those of the time when it is shown."""
    name = line("The name of the lens", lens.name, MAX_NAME, least=1)
    sae = line("The SAE", lens.sae, MAX_KEY, least=1)
    return dump(Lens(name, sae, lens.moves), collection, {}, {})


def stored(row: LensRow) -> StoredLens:
    """The lens of a row."""
    return StoredLens(owned.ownership(row), row.collection, parse(row.moves), row.origin)
