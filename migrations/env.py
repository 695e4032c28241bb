"""What Alembic runs. The connection, its transaction and its lock are those of `app/authored/schema.py`."""

from __future__ import annotations

from alembic import context

from app.authored.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite can change few things of a table: it is made anew
)
with context.begin_transaction():
    context.run_migrations()
