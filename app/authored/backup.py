"""A copy of the whole database, and back again; with SQLite's online backup, while others read and write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from app.authored.engines import SECONDS_ALONE, Database, DatabaseError
from app.authored.models import REVISION
from sae_core.errors import SaefariError
from sae_core.files import drafted, explain_write_errors

PAGES_PER_STEP = 512  # between two of which others may write


def back_up(url: str, to: Path) -> int:
    """Write a checked copy of the database to a file, which appears whole; its size in bytes.

    What is stored while it is made is in it or not, each transaction as a whole.
    """
    database = _sqlite(url, "pg_dump --format=custom --file=FILE")
    if database.path is None or not database.path.is_file():
        raise DatabaseError(f"There is no database {database.shown} to back up.", remedy="Check --home.")
    if to.is_dir() or to.absolute() == database.path.absolute():
        raise SaefariError(f"{to} cannot be the backup.", remedy="Name another file.")
    with explain_write_errors(to), database.explained(), drafted(to) as draft:
        draft.touch(mode=0o600)
        with _opened(database.path) as source, _opened(draft) as copy:
            source.backup(copy, pages=PAGES_PER_STEP)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without others beside it
            _check(copy, draft)
    return to.stat().st_size


def restore(url: str, source: Path, now: datetime) -> Path | None:
    """Put a backup in the place of the database; where the one that was there went, if there was one.

    A running server sees the other contents at its next question: the file itself stays.
    """
    database = _sqlite(url, "pg_restore --clean --if-exists --dbname=URL FILE")
    path = database.path
    if not source.is_file() or path is None:
        raise SaefariError(f"There is no file {source}.", remedy="Name a file that `saefari backup` wrote.")
    with database.explained(), _opened(source, "mode=ro") as backup:
        _check(backup, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = path.with_name(f"{path.name}.before-{now:%Y%m%d-%H%M%S}") if path.is_file() else None
        if kept is not None:
            back_up(url, kept)
        else:
            path.touch(mode=0o600)
        with database.turn(SECONDS_ALONE), _opened(path) as target:
            backup.backup(target)  # one transaction: after a crash all of it is there, or nothing
            target.execute("PRAGMA journal_mode = WAL")
    return kept


@contextmanager
def _opened(path: Path, mode: str = "mode=rw") -> Iterator[sqlite3.Connection]:
    with closing(
        sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=SECONDS_ALONE)
    ) as opened:
        opened.execute("PRAGMA trusted_schema = OFF")
        opened.execute("PRAGMA synchronous = FULL")
        yield opened


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """See that a file is a sound database of ours, of a revision that we know; else `DatabaseError`."""
    problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if problem != "ok":
        raise DatabaseError(f"{path} is damaged: {problem}.", remedy="Use another backup.")
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    found = (
        connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if "alembic_version" in tables
        else None
    )
    if found is None:
        raise DatabaseError(
            f"{path} is no database of Saefari.", remedy="Name a file that `saefari backup` wrote."
        )
    if found[0] > REVISION:
        raise DatabaseError(
            f"{path} is at revision {found[0]}, this version of Saefari knows {REVISION}.",
            remedy="Use the version that made it.",
        )


def _sqlite(url: str, command: str) -> Database:
    """The database, if it is SQLite's; PostgreSQL has tools of its own."""
    database = Database(url)
    if database.is_sqlite:
        return database
    raise SaefariError(
        f"The database {database.shown} is PostgreSQL's, which has tools of its own.",
        remedy=f"Run `{command}`.",
    )
