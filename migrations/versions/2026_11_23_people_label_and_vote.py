"""People label features and families, and vote on labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.authored.models import BIG, UtcTime

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.create_table(
        "subjects",
        sa.Column("id", BIG, nullable=False),
        sa.Column("collection", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("sae", sa.String(200), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("space", sa.String(200), nullable=False),
        sa.Column("direction", sa.LargeBinary()),
        sa.CheckConstraint("kind IN ('feature', 'family', 'document')", name=op.f("ck_subjects_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subjects")),
        sa.UniqueConstraint(
            "collection", "kind", "sae", "key", name=op.f("uq_subjects_collection_kind_sae_key")
        ),
    )
    op.create_table(
        "labels",
        sa.Column("subject", BIG, nullable=False),
        sa.Column("revision", BIG, nullable=False),
        sa.Column("text", sa.String(120), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("automatic", sa.String(120), nullable=False),
        sa.Column("author", sa.String(80), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.CheckConstraint("verdict IN ('', 'accepted', 'rejected')", name=op.f("ck_labels_verdict")),
        sa.ForeignKeyConstraint(["author"], ["users.name"], name=op.f("fk_labels_author")),
        sa.ForeignKeyConstraint(["subject"], ["subjects.id"], name=op.f("fk_labels_subject")),
        sa.PrimaryKeyConstraint("subject", "revision", name=op.f("pk_labels")),
    )
    op.create_table(
        "votes",
        sa.Column("subject", BIG, nullable=False),
        sa.Column("author", sa.String(80), nullable=False),
        sa.Column("text", sa.String(120), nullable=False),
        sa.Column("value", BIG, nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.CheckConstraint("value IN (-1, 1)", name=op.f("ck_votes_value")),
        sa.ForeignKeyConstraint(["author"], ["users.name"], name=op.f("fk_votes_author")),
        sa.ForeignKeyConstraint(["subject"], ["subjects.id"], name=op.f("fk_votes_subject")),
        sa.PrimaryKeyConstraint("subject", "author", name=op.f("pk_votes")),
    )


def downgrade() -> None:
    for table in ("votes", "labels", "subjects"):
        op.drop_table(table)
