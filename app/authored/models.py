"""The tables of what people write. Changed here, and by a migration: a test compares the two.

People are named by their `name`, what they write about by a row of `subjects`. Nothing here knows the
artifact: a subject says which collection, SAE and feature it means, and keeps the feature's direction, so
that what was written can be carried to another SAE when this one is gone.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.authored.texts import MAX_KEY, MAX_NAME, MAX_USER

REVISION = "0003"  # the migration that makes these tables; a server refuses to write in any other
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A moment. SQLite has no time zones: there it is kept in UTC, and comes back as such."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up only an INTEGER PRIMARY KEY


class Base(DeclarativeBase):
    """Every table."""

    metadata = sa.MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: UtcTime, int: BIG, str: sa.Text()}  # noqa: RUF012 (as SQLAlchemy has it)


# --- who --------------------------------------------------------------------------------------------


class User(Base):
    """Somebody who may write, or has written. Never removed: what they wrote names them."""

    __tablename__ = "users"
    __table_args__ = (sa.CheckConstraint("role IN ('reader', 'editor', 'admin')", "role"),)

    name: Mapped[str] = mapped_column(sa.String(MAX_USER), primary_key=True)
    role: Mapped[str] = mapped_column(sa.String(8))
    created: Mapped[datetime]


class Token(Base):
    """A key that was handed out. Only its digest is here."""

    __tablename__ = "tokens"
    __table_args__ = (sa.CheckConstraint("scope IN ('reader', 'editor', 'admin')", "scope"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str] = mapped_column(sa.String(MAX_USER), sa.ForeignKey("users.name"), index=True)
    scope: Mapped[str] = mapped_column(sa.String(8))
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)  # sha256, hex
    hint: Mapped[str] = mapped_column(sa.String(16))  # its first letters, to tell tokens apart
    created: Mapped[datetime]
    expires: Mapped[datetime]
    revoked: Mapped[datetime | None]


class SignIn(Base):
    """A session: a token exchanged for a cookie. Only the cookie's digest is here."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(sa.ForeignKey("tokens.id"), index=True)
    digest: Mapped[str] = mapped_column(sa.String(64), unique=True)
    created: Mapped[datetime]
    expires: Mapped[datetime] = mapped_column(index=True)
    revoked: Mapped[datetime | None]


class Audit(Base):
    """Who changed what, and when. Rows are added; triggers refuse everything else."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(sa.String(MAX_USER), index=True)
    via: Mapped[str] = mapped_column(sa.String(40))  # token 12, session 4, command line
    action: Mapped[str] = mapped_column(sa.String(40))
    thing: Mapped[str] = mapped_column(index=True)  # what was changed, as people name it
    before: Mapped[str | None]  # JSON; None: it was not there
    after: Mapped[str | None]  # JSON; None: it is gone


# --- about what -------------------------------------------------------------------------------------


class SubjectRow(Base):
    """A feature, a family or a document that somebody wrote about."""

    __tablename__ = "subjects"
    __table_args__ = (
        sa.CheckConstraint("kind IN ('feature', 'family', 'document')", "kind"),
        sa.UniqueConstraint("collection", "kind", "sae", "key"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    collection: Mapped[str] = mapped_column(sa.String(MAX_KEY))
    kind: Mapped[str] = mapped_column(sa.String(8))
    sae: Mapped[str] = mapped_column(sa.String(MAX_KEY))  # "" for documents
    key: Mapped[str] = mapped_column(sa.String(MAX_KEY))  # the latent, of a family its root; or the id
    space: Mapped[str] = mapped_column(sa.String(MAX_KEY))  # fingerprint of the embedder; "" unknown
    direction: Mapped[bytes | None] = mapped_column(sa.LargeBinary)  # unit row, float32, little-endian


class LabelRow(Base):
    """What people call a feature or a family, and what they think of its automatic label."""

    __tablename__ = "labels"
    __table_args__ = (sa.CheckConstraint("verdict IN ('', 'accepted', 'rejected')", "verdict"),)

    subject: Mapped[int] = mapped_column(sa.ForeignKey("subjects.id"), primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # from 1; the largest holds
    text: Mapped[str] = mapped_column(sa.String(MAX_NAME))  # "": the automatic one stands
    explanation: Mapped[str]
    verdict: Mapped[str] = mapped_column(sa.String(8))  # on the automatic label ...
    automatic: Mapped[str] = mapped_column(sa.String(MAX_NAME))  # ... which was this one
    author: Mapped[str] = mapped_column(sa.String(MAX_USER), sa.ForeignKey("users.name"))
    at: Mapped[datetime]
    origin: Mapped[str]  # JSON of where it was carried from; "" where it was written


class VoteRow(Base):
    """Whether one person finds a label right. It is about a text: another text has to be voted on anew."""

    __tablename__ = "votes"
    __table_args__ = (sa.CheckConstraint("value IN (-1, 1)", "value"),)

    subject: Mapped[int] = mapped_column(sa.ForeignKey("subjects.id"), primary_key=True, autoincrement=False)
    author: Mapped[str] = mapped_column(sa.String(MAX_USER), sa.ForeignKey("users.name"), primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(MAX_NAME))
    value: Mapped[int]
    at: Mapped[datetime]


class _Owned:
    """What belongs to a person, has an address of its own, and may be hidden."""

    slug: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    revision: Mapped[int]
    author: Mapped[str] = mapped_column(sa.String(MAX_USER), sa.ForeignKey("users.name"), index=True)
    visibility: Mapped[str] = mapped_column(sa.String(8))
    created: Mapped[datetime]
    changed: Mapped[datetime]


_VISIBLE = "visibility IN ('public', 'unlisted', 'private')"


class NoteRow(_Owned, Base):
    """A remark on a feature, a family or a document."""

    __tablename__ = "notes"
    __table_args__ = (sa.CheckConstraint(_VISIBLE, "visibility"),)

    subject: Mapped[int] = mapped_column(sa.ForeignKey("subjects.id"), index=True)
    text: Mapped[str]
    origin: Mapped[str]


class ListRow(_Owned, Base):
    """A named list of features of one SAE."""

    __tablename__ = "lists"
    __table_args__ = (sa.CheckConstraint(_VISIBLE, "visibility"),)

    collection: Mapped[str] = mapped_column(sa.String(MAX_KEY), index=True)
    sae: Mapped[str] = mapped_column(sa.String(MAX_KEY))
    name: Mapped[str] = mapped_column(sa.String(MAX_NAME))
    description: Mapped[str]
    origin: Mapped[str]


class EntryRow(Base):
    """A feature in a list."""

    __tablename__ = "list_entries"

    list: Mapped[str] = mapped_column(sa.ForeignKey("lists.slug", ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    subject: Mapped[int] = mapped_column(sa.ForeignKey("subjects.id"), index=True)
    remark: Mapped[str]


class LensRow(_Owned, Base):
    """Moves under a name."""

    __tablename__ = "lenses"
    __table_args__ = (sa.CheckConstraint(_VISIBLE, "visibility"),)

    collection: Mapped[str] = mapped_column(sa.String(MAX_KEY), index=True)
    sae: Mapped[str] = mapped_column(sa.String(MAX_KEY))
    name: Mapped[str] = mapped_column(sa.String(MAX_NAME))
    moves: Mapped[str]  # JSON, as `sae_core.lenses.dump` writes it
    origin: Mapped[str]


class LinkRow(_Owned, Base):
    """A short address for a long one."""

    __tablename__ = "links"
    __table_args__ = (sa.CheckConstraint(_VISIBLE, "visibility"),)

    collection: Mapped[str] = mapped_column(sa.String(MAX_KEY), index=True)
    sae: Mapped[str] = mapped_column(sa.String(MAX_KEY))
    generation: Mapped[str] = mapped_column(sa.String(MAX_KEY))  # that was served when it was made
    target: Mapped[str]  # path and query
    title: Mapped[str]


def columns_of(row: Base) -> dict[str, Any]:
    """The columns of a row by name."""
    return {column.key: getattr(row, column.key) for column in sa.inspect(type(row)).columns}
