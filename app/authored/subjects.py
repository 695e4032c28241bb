"""What people write about: a feature, a family, a document; and what makes it known again in another SAE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from app.authored.models import SubjectRow
from app.authored.store import Writing, insert_new
from app.authored.texts import MAX_KEY, BadText, line, number

KINDS = ("feature", "family", "document")
MAX_WIDTH = 65_536


@dataclass(frozen=True)
class Direction:
    """A feature's unit row of the decoder, and the embedder whose space it is in."""

    space: str  # the embedder's fingerprint
    values: bytes  # float32, little-endian

    @classmethod
    def of(cls, space: str, row_D: NDArray[np.floating]) -> Direction:
        return cls(space, np.asarray(row_D, dtype="<f4").tobytes())

    @property
    def row_D(self) -> NDArray[np.float32]:
        return np.frombuffer(self.values, dtype="<f4")


@dataclass(frozen=True)
class Subject:
    """A feature or a family of an SAE (`key` is the latent, of a family its root), or a document (its id).

    Two with the same address are the same, whether or not the direction is there.
    """

    collection: str
    kind: str
    key: str
    sae: str = ""  # "" for documents
    direction: Direction | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadText(f'"{self.kind}" is nothing to write about.', remedy=f"Choose {', '.join(KINDS)}.")
        for what, text in (("collection", self.collection), ("SAE", self.sae), ("document", self.key)):
            if line(f"The name of the {what}", text, MAX_KEY) != text:
                raise BadText(f"The name of the {what} has characters that are none.", remedy="Mend it.")
        if not self.collection or not self.key or (self.kind == "document") != (not self.sae):
            raise BadText("This names no feature, family or document.", remedy="Give all of its address.")
        if self.kind != "document":
            number(f"The {self.kind}", self.latent)
        if self.direction is not None and not 0 < len(self.direction.values) <= 4 * MAX_WIDTH:
            raise BadText("This direction has no width that an embedding has.", remedy="Leave it out.")

    @property
    def latent(self) -> int:
        """The number of a feature, of a family that of its root."""
        if not self.key.isascii() or not self.key.isdecimal() or str(int(self.key[:20])) != self.key:
            raise BadText(f'"{self.key[:40]}" is no number of a {self.kind}.', remedy="Write it as 812.")
        return int(self.key)

    @property
    def name(self) -> str:
        """As people name it."""
        return " ".join(part for part in (self.kind, self.collection, self.sae, self.key) if part)


def feature(collection: str, sae: str, latent: int, direction: Direction | None = None) -> Subject:
    return Subject(collection, "feature", str(number("The feature", latent)), sae, direction)


def family(collection: str, sae: str, root: int, direction: Direction | None = None) -> Subject:
    return Subject(collection, "family", str(number("The family", root)), sae, direction)


def document(collection: str, key: str) -> Subject:
    return Subject(collection, "document", key)


def claim(writing: Writing, subject: Subject) -> int:
    """The id of a subject's row, made if need be, and held until the transaction ends."""
    address = {name: getattr(subject, name) for name in _ADDRESS}
    there = sa.select(SubjectRow).filter_by(**address).with_for_update()
    row = writing.session.scalars(there).one_or_none()
    if row is None:
        direction = subject.direction
        values = {"space": direction.space if direction else "", "direction": direction and direction.values}
        insert_new(writing.session, SubjectRow, {**address, **values}, _ADDRESS)
        row = writing.session.scalars(there).one()
    elif row.direction is None and subject.direction is not None:
        values = {"space": subject.direction.space, "direction": subject.direction.values}
        writing.session.execute(sa.update(SubjectRow).where(SubjectRow.id == row.id).values(**values))
    return row.id


_ADDRESS = ("collection", "kind", "sae", "key")


def find_ids(session: Session, subjects: Iterable[Subject]) -> dict[Subject, int]:
    """Where those are that somebody wrote about, all of one kind, collection and SAE. One statement."""
    wanted = {subject.key: subject for subject in subjects}
    if not wanted:
        return {}
    one = next(iter(wanted.values()))
    found = session.execute(
        sa.select(SubjectRow.key, SubjectRow.id)
        .filter_by(collection=one.collection, kind=one.kind, sae=one.sae)
        .where(SubjectRow.key.in_(list(wanted)))
    )
    return {wanted[key]: at for key, at in found}


def with_directions(session: Session, subjects: Sequence[Subject]) -> list[Subject]:
    """The same, all of one collection and SAE, with the directions that are known. One statement."""
    if not subjects:
        return []
    home = {"collection": subjects[0].collection, "sae": subjects[0].sae}
    chosen = (
        sa.select(SubjectRow).filter_by(**home).where(SubjectRow.key.in_([each.key for each in subjects]))
    )
    known = {(found := as_subject(row)): found for row in session.scalars(chosen)}
    return [known.get(each, each) for each in subjects]


def load_subjects(session: Session, ids: Sequence[int]) -> dict[int, Subject]:
    """Subjects by the ids of their rows, with their directions."""
    rows = session.scalars(sa.select(SubjectRow).where(SubjectRow.id.in_(ids)))
    return {row.id: as_subject(row) for row in rows}


def as_subject(row: SubjectRow) -> Subject:
    direction = Direction(row.space, row.direction) if row.direction is not None else None
    return Subject(row.collection, row.kind, row.key, row.sae, direction)
