"""Bringing a database to a revision: Alembic's migrations, under a lock, all or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.authored.engines import SECONDS_ALONE, Database, DatabaseError
from app.authored.models import REVISION
from app.authored.store import find_revision
from app.settings import asset_folder

BASE = "base"


def current(url: str) -> str | None:
    """The revision that a database is at; None if it has no tables of ours, or is not there."""
    database = Database(url)
    engine = database.reader()
    try:
        return find_revision(database, engine)
    finally:
        engine.dispose()


def upgrade(url: str, target: str = REVISION) -> tuple[str | None, str | None]:
    """Make a database if it is not there, and bring it to a revision; what it was at, and is at now.

    Whoever comes second waits, and then finds nothing to do. A step that fails leaves what was there before.
    """
    return _move(url, target)


def downgrade(url: str, target: str) -> tuple[str | None, str | None]:
    """Back to an earlier revision, or to `BASE`. What the later tables held is lost."""
    return _move(url, target)


def steps() -> list[str]:
    """Every revision, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


@contextmanager
def moving(url: str) -> Iterator[sa.Connection]:
    """A transaction that nobody else writes beside, in which tables may change."""
    database = Database(url)
    _make(database)
    engine = database.writer(alone=True, migrates=True)
    try:
        with database.explained(), database.turn(SECONDS_ALONE), engine.begin() as connection:
            yield connection
            _check_references(connection)
    finally:
        engine.dispose()


def _move(url: str, target: str) -> tuple[str | None, str | None]:
    with moving(url) as connection:
        before = _revision(connection)
        known = steps()
        if before is not None and before not in known:
            raise DatabaseError(
                f"The database is at revision {before}, which this version of Saefari does not know.",
                remedy="Use the version that made it.",
            )
        order = [BASE, *known]
        if order.index(target) >= order.index(before or BASE):
            command.upgrade(_config(connection), target)
        else:
            command.downgrade(_config(connection), target)
        return before, _revision(connection)


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(asset_folder("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _make(database: Database) -> None:
    """An empty file that only its owner may read: it will hold private notes."""
    if database.path is None:
        return
    with database.explained():
        database.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(database.path, os.O_CREAT | os.O_RDWR, 0o600))


def _check_references(connection: sa.Connection) -> None:
    """SQLite rebuilds tables with its foreign keys off: look that all of them hold."""
    if connection.dialect.name == "sqlite":
        broken: list[Any] = list(connection.exec_driver_sql("PRAGMA foreign_key_check"))
        if broken:
            raise DatabaseError(
                f"{len(broken)} rows would name what is not there, so nothing was changed.",
                remedy="Restore a backup with `saefari restore`, or report it.",
            )
