"""Short links: an address of ours under a few letters, with the generation that it was made on.

A link never comes to mean something else: its address cannot be changed. It can be taken away.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored import owned
from app.authored.models import LinkRow
from app.authored.owned import Ownership
from app.authored.store import Actor, Json, Writing
from app.authored.texts import MAX_KEY, MAX_NAME, MAX_TARGET, BadText, line

MAX_LISTED = 500


@dataclass(frozen=True)
class ShortLink:
    """What `/s/{slug}` leads to."""

    at: Ownership
    target: str  # path and query of this server
    title: str
    collection: str
    sae: str
    generation: str  # that was served when it was made


def add_link(  # noqa: PLR0917 (all that a link keeps)
    writing: Writing,
    target: str,
    collection: str,
    sae: str,
    generation: str,
    title: str = "",
    visibility: str = "unlisted",
) -> ShortLink:
    """A link for this address, which begins with one slash; the person's own one if they made it before."""
    target = checked_target(target)
    keys = [line(what, text, MAX_KEY) for what, text in (
        ("The collection", collection), ("The SAE", sae), ("The generation", generation))]  # fmt: skip
    title = line("The title", title, MAX_NAME)
    same = {"target": target, "generation": keys[2], "visibility": owned.checked_visibility(visibility)}
    mine = sa.select(LinkRow).filter_by(author=writing.actor.name, **same).limit(1)
    if (row := writing.session.scalars(mine).one_or_none()) is not None:
        return stored(row)
    row = LinkRow(
        **owned.born(writing, visibility), target=target, title=title, collection=keys[0], sae=keys[1],
        generation=keys[2],
    )  # fmt: skip
    writing.session.add(row)
    made = stored(row)
    writing.record("link", f"link {row.slug}", None, as_json(made))
    writing.flush()
    return made


def remove_link(writing: Writing, slug: str) -> None:
    row = owned.hold(writing, LinkRow, slug, None, None)
    owned.remove(writing, row, "link", as_json(stored(row)))


def find_link(session: Session, slug: str, viewer: Actor | None) -> ShortLink:
    return stored(owned.find(session, LinkRow, slug, viewer))


def find_links(session: Session, collection: str, viewer: Actor | None) -> list[ShortLink]:
    """The latest links into a collection that this person sees in lists."""
    chosen = sa.select(LinkRow).where(LinkRow.collection == collection, owned.listed_to(LinkRow, viewer))
    rows = session.scalars(chosen.order_by(LinkRow.changed.desc(), LinkRow.slug).limit(MAX_LISTED))
    return [stored(row) for row in rows]


def as_json(link: ShortLink) -> Json:
    """As the audit table has it."""
    return {
        "target": link.target, "title": link.title, "collection": link.collection, "sae": link.sae,
        "generation": link.generation, "visibility": link.at.visibility, "author": link.at.author,
    }  # fmt: skip


def checked_target(target: str) -> str:
    """An address on this server, as it is; `BadText` for one that leads elsewhere, or is none."""
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\"))
    if not is_ours or not target.isascii() or any(c <= " " or c == "\x7f" for c in target):
        raise BadText("A short link leads to a page of this server.", remedy="Give its address from / on.")
    if len(target) > MAX_TARGET:
        raise BadText(f"This address has {len(target):,} characters.", remedy=f"At most {MAX_TARGET:,}.")
    return target


def stored(row: LinkRow) -> ShortLink:
    """The link of a row."""
    return ShortLink(owned.ownership(row), row.target, row.title, row.collection, row.sae, row.generation)
