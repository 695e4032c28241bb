"""The two databases: how each is reached, locked and kept from waiting. Nobody else tells them apart.

SQLite: writers begin at once (BEGIN IMMEDIATE), after they have a lock beside the file. The lock gives turns
to threads and processes alike, and keeps versions before 3.51.3 from checkpointing while another one writes,
which can damage the file. What is acknowledged is on the disk (synchronous = FULL). PostgreSQL: writers share
an advisory lock, which whoever changes everything (a migration, an import) has for itself.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sae_core.errors import BusyError, SaefariError, first_line

SECONDS_TO_WAIT = 5.0  # for a turn to write
SECONDS_ALONE = 60.0  # for everybody else to end, where everything is changed
SECONDS_TO_READ = 1.0  # that a question may take
SECONDS_TO_WRITE = 10.0
ADVISORY_LOCK = 7_233_401  # of PostgreSQL; any number that is always the same
_PRAGMAS = ("foreign_keys = ON", "trusted_schema = OFF", "synchronous = FULL", "busy_timeout = 5000")
_STEPS_BETWEEN_LOOKS = 10_000  # of SQLite's machine
_BUSY_STATES = {"40001", "40P01", "55P03", "57014"}  # serialisation, deadlock, lock and statement timeouts
_GONE_STATES = {"57P01", "57P02", "57P03"}  # the server is stopping, crashed, or starting


class DatabaseError(SaefariError):
    """The database of what people write is missing, of another revision, unreachable or damaged."""


def parse_url(text: str) -> sa.URL:
    """The address of a database; `DatabaseError` for one that we do not speak to."""
    try:
        url = sa.make_url(text)
    except ArgumentError as error:
        raise DatabaseError("SAEFARI_DATABASE_URL is no address of a database.", remedy=_FORMS) from error
    if url.get_backend_name() == "postgres":
        url = url.set(drivername="postgresql")
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        if importlib.util.find_spec("psycopg") is None:
            raise DatabaseError(
                "The package that speaks to PostgreSQL, psycopg, is not installed.",
                remedy="Run `pip install -c constraints.txt '.[postgres]'`.",
            )
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database and url.database != ":memory:" and not url.query:
        return url
    raise DatabaseError(f"SAEFARI_DATABASE_URL names {url.drivername}.", remedy=_FORMS)


_FORMS = "Use postgresql://USER:PASSWORD@HOST/NAME, or sqlite:////the/whole/path."


class Database:
    """Where what people write is kept. Makes engines, and sentences of what goes wrong with them."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url)
        self.path = Path(self.url.database or "") if self.is_sqlite else None
        self.shown = str(self.path or self.url.render_as_string(hide_password=True))

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    # --- engines ------------------------------------------------------------------------------------

    def reader(self, seconds: float = SECONDS_TO_READ) -> sa.Engine:
        """An engine that cannot write; each transaction sees one moment, and may ask for so many seconds."""
        if self.path is None:
            engine = self._postgresql()
            begin = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; " + _timeouts(
                SECONDS_TO_WAIT, seconds
            )
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
            return engine
        engine = self._sqlite("query_only = ON", pool_size=16, max_overflow=48)
        event.listen(engine, "begin", lambda connection: _begin_reading(connection, seconds))
        return engine

    def writer(self, *, alone: bool = False, migrates: bool = False) -> sa.Engine:
        """An engine that writes in `turn`. Alone: no other writer at the same time, and no time limits."""
        if self.path is None:
            engine = self._postgresql()
            wait, work = (SECONDS_ALONE, 0.0) if alone else (SECONDS_TO_WAIT, SECONDS_TO_WRITE)
            lock = f"SELECT pg_advisory_xact_lock{'' if alone else '_shared'}({ADVISORY_LOCK})"
            begin = f"{_timeouts(wait, work)}; {lock}"
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
            return engine
        # Tables are rebuilt by migrations; then foreign keys are checked at the end, not on the way.
        pragmas = ("journal_mode = WAL", *(["foreign_keys = OFF"] if migrates else []))
        engine = self._sqlite(*pragmas, pool_size=1, max_overflow=0)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine

    def _postgresql(self) -> sa.Engine:
        options = {"connect_timeout": 5, "application_name": "saefari"}
        return sa.create_engine(
            self.url, pool_pre_ping=True, pool_size=4, max_overflow=28, connect_args=options
        )

    def _sqlite(self, *pragmas: str, pool_size: int, max_overflow: int) -> sa.Engine:
        """Transactions begin where we say so, not where Python's sqlite3 believes that one is needed."""
        options: dict[str, Any] = {"isolation_level": None, "check_same_thread": False}
        url = self.url
        if not self._is_writable():  # the files beside it cannot be made, so there can be no changes either
            url = url.set(
                database=f"file:{url.database}", query={"mode": "ro", "immutable": "1", "uri": "true"}
            )
            pragmas = tuple(pragma for pragma in pragmas if not pragma.startswith("journal_mode"))
        engine = sa.create_engine(
            url, poolclass=sa.QueuePool, pool_size=pool_size, max_overflow=max_overflow, connect_args=options
        )

        def prepare(connection: sqlite3.Connection, _record: object) -> None:
            for pragma in (*_PRAGMAS, *pragmas):
                connection.execute(f"PRAGMA {pragma}")

        event.listen(engine, "connect", prepare)
        return engine

    def _is_writable(self) -> bool:
        return self.path is None or os.access(self.path.parent, os.W_OK)

    # --- turns --------------------------------------------------------------------------------------

    @contextmanager
    def turn(self, seconds: float = SECONDS_TO_WAIT) -> Iterator[None]:
        """Hold the lock of writers; `BusyError` if it is not free within so many seconds.

        Who waits stands at the head of a queue, which is a lock too: else a writer that comes again at once
        would mostly be before those that wait.
        """
        if self.path is None:  # PostgreSQL has its own
            yield
            return
        ends = time.monotonic() + seconds
        with ExitStack() as held:
            with self._locked("queue", ends, pause=0.005):
                held.enter_context(self._locked("lock", ends, pause=0.0005))
            yield

    @contextmanager
    def _locked(self, name: str, ends: float, pause: float) -> Iterator[None]:
        """Hold a file beside the database, asking for it every so often: nobody waits for ever."""
        path = self.path.with_name(f".{self.path.name}.{name}") if self.path else Path()
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)  # or anybody could hold it
        try:
            while not _lock(descriptor):
                if time.monotonic() > ends:
                    raise _busy(self.shown)
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (turns, no secrets)
            yield
        finally:
            os.close(descriptor)

    # --- what went wrong ----------------------------------------------------------------------------

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what a driver raises into sentences, where it is nothing that we did wrong."""
        try:
            yield
        except PoolTimeout as error:
            raise _busy(self.shown) from error
        except DBAPIError as error:
            raise self._explanation(error) or error from error
        except sqlite3.Error as error:
            raise self._of_sqlite(error) or error from error
        except PermissionError as error:
            raise self._unwritable(error.strerror) from error
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            raise self._unwritable(error.strerror) from error

    def _explanation(self, error: DBAPIError) -> SaefariError | None:
        if isinstance(error.orig, sqlite3.Error):
            return self._of_sqlite(error.orig)
        state = getattr(error.orig, "sqlstate", None)
        if state in _BUSY_STATES:
            return _busy(self.shown)
        if (
            error.connection_invalidated
            or state in _GONE_STATES
            or (state is None and "connection" in str(error))
        ):
            return DatabaseError(
                f"The database {self.shown} cannot be reached: {first_line(error.orig or error)}.",
                remedy="Start it, or correct SAEFARI_DATABASE_URL. Before making a change again that was not "
                "acknowledged, look whether it is there.",
            )
        return None

    def _of_sqlite(self, error: sqlite3.Error) -> SaefariError | None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT):
            return _busy(self.shown)
        if code == sqlite3.SQLITE_FULL:
            return DatabaseError(
                f"The disk of {self.shown} is full, so nothing was stored.", remedy="Free some space."
            )
        if code == sqlite3.SQLITE_IOERR:
            return DatabaseError(
                f"{self.shown} cannot be read or written: {error}.",
                remedy="Its disk is full, or fails: free some space, or look at the system's log.",
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            return self._unwritable(str(error))
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return DatabaseError(
                f"{self.shown} is damaged, or no database of Saefari: {error}.",
                remedy="Restore a backup with `saefari restore`.",
            )
        return None

    def _unwritable(self, reason: str | None) -> DatabaseError:
        return DatabaseError(
            f"{self.shown} cannot be written: {reason}.", remedy="Change its rights, or those of its folder."
        )


def _timeouts(lock: float, statement: float) -> str:
    return f"SET LOCAL lock_timeout = {lock * 1000:.0f}; SET LOCAL statement_timeout = {statement * 1000:.0f}"


def _begin_reading(connection: sa.Connection, seconds: float) -> None:
    raw: Any = connection.connection.dbapi_connection
    ends = time.monotonic() + seconds
    raw.set_progress_handler(lambda: time.monotonic() > ends, _STEPS_BETWEEN_LOOKS)
    connection.exec_driver_sql("BEGIN")


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _busy(shown: str) -> BusyError:
    return BusyError(
        f"The database {shown} is busy: somebody else is writing, so nothing was stored.", remedy="Try again."
    )
