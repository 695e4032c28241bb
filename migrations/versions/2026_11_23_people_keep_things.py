"""People keep notes, lists of features, lenses and short links."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from app.authored.models import BIG, UtcTime

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    _create_owned(
        "notes",
        sa.Column("subject", BIG, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["subject"], ["subjects.id"], name=op.f("fk_notes_subject")),
    )
    op.create_index(op.f("ix_notes_subject"), "notes", ["subject"])
    _create_owned(
        "lists",
        sa.Column("collection", sa.String(200), nullable=False),
        sa.Column("sae", sa.String(200), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
    )
    op.create_table(
        "list_entries",
        sa.Column("list", sa.String(16), nullable=False),
        sa.Column("place", BIG, nullable=False),
        sa.Column("subject", BIG, nullable=False),
        sa.Column("remark", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["list"], ["lists.slug"], name=op.f("fk_list_entries_list"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["subject"], ["subjects.id"], name=op.f("fk_list_entries_subject")),
        sa.PrimaryKeyConstraint("list", "place", name=op.f("pk_list_entries")),
    )
    op.create_index(op.f("ix_list_entries_subject"), "list_entries", ["subject"])
    _create_owned(
        "lenses",
        sa.Column("collection", sa.String(200), nullable=False),
        sa.Column("sae", sa.String(200), nullable=False),
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("moves", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
    )
    _create_owned(
        "links",
        sa.Column("collection", sa.String(200), nullable=False),
        sa.Column("sae", sa.String(200), nullable=False),
        sa.Column("generation", sa.String(200), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
    )
    for table in ("lists", "lenses", "links"):
        op.create_index(op.f(f"ix_{table}_collection"), table, ["collection"])


def downgrade() -> None:
    for table in ("links", "lenses", "list_entries", "lists", "notes"):
        op.drop_table(table)


def _create_owned(table: str, *columns: Any) -> None:
    """A table of things that have an owner, an address and revisions."""
    op.create_table(
        table,
        sa.Column("slug", sa.String(16), nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("author", sa.String(80), nullable=False),
        sa.Column("visibility", sa.String(8), nullable=False),
        sa.Column("created", UtcTime(), nullable=False),
        sa.Column("changed", UtcTime(), nullable=False),
        *columns,
        sa.CheckConstraint(
            "visibility IN ('public', 'unlisted', 'private')", name=op.f(f"ck_{table}_visibility")
        ),
        sa.ForeignKeyConstraint(["author"], ["users.name"], name=op.f(f"fk_{table}_author")),
        sa.PrimaryKeyConstraint("slug", name=op.f(f"pk_{table}")),
    )
    op.create_index(op.f(f"ix_{table}_author"), table, ["author"])
