"""What a harvest has so far, on disk: records, the place in the list, and the tokens it has seen.

One SQLite file, one process at a time. A page and the token of the next page enter in one transaction, so
that a harvest that is killed at any moment goes on with the page that is not there.
"""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from sae_core.corpus import Document, read_document
from sae_core.errors import ArtifactError, BusyError, SaefariError, SourceError
from sae_core.files import explain_write_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sae_core.sources.oai import Page, Record

FORMAT = "1"  # of what is written here
KEPT, DELETED, WITHOUT_TEXT = "kept", "deleted", "without a text"
STATES = (KEPT, DELETED, WITHOUT_TEXT)
_FIELDS = tuple(part.name for part in fields(Document))
_TABLES = (
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS tokens (token TEXT PRIMARY KEY)",
    """CREATE TABLE IF NOT EXISTS records (
        position INTEGER PRIMARY KEY, identifier TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
        document TEXT NOT NULL
    )""",
)


@dataclass(frozen=True)
class Place:
    """How far a list has been read."""

    token: str = ""  # of the next page; "" at the beginning and at the end
    is_whole: bool = False  # the end has come
    size: int | None = None  # records of the whole list, if the repository says it
    n_pages: int = 0
    n_read: int = 0  # records, those that came twice included
    n_idle: int = 0  # pages in a row that brought nothing new
    counts: Counter[str] = field(default_factory=Counter)  # records by state, and what was wrong with some

    @property
    def n_documents(self) -> int:
        """Records that are documents."""
        return self.counts[KEPT]


class Spool:
    """The folder of a harvest. A record that comes again replaces what it was: it was read later.

    Raises BusyError if another process has it, SourceError if it is of another query (`query` in words and
    `key` for comparison), ArtifactError if it is damaged or cannot be written; `again` drops what is there.
    """

    def __init__(self, folder: Path, key: str, query: str, *, again: bool = False) -> None:
        self.folder = folder
        self._path = folder / "records.sqlite"
        with explain_write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Seconds since the last page of an earlier process; 0 where the clock was set back since.
            written = self._path.stat().st_mtime if self._path.exists() else -math.inf
            self.age = max(0.0, time.time() - written)
        try:
            self._open()
        except ArtifactError:
            if not again:
                raise
            for path in folder.glob("records.sqlite*"):  # damaged; a journal would outlive it
                path.unlink()
            self._open()
        self.place = Place()
        self._owner = {"format": FORMAT, "key": key, "query": query}
        try:
            if again:
                self.clear()
            self._claim()
        except SaefariError:
            self.close()
            raise

    def _open(self) -> None:
        with _explained(self._path):
            self._database = sqlite3.connect(self._path, timeout=0.2, isolation_level=None)
            try:
                # The lock stays until the file is closed or the process is gone.
                self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
                self._database.execute("BEGIN EXCLUSIVE")
                with self._database:
                    for table in _TABLES:
                        self._database.execute(table)
            except BaseException:
                self._database.close()
                raise

    def _claim(self) -> None:
        """Read the place of this query; a new spool becomes its own."""
        with _explained(self._path):
            found = dict(self._database.execute("SELECT name, value FROM state").fetchall())
            if found.get("format", FORMAT) != FORMAT:
                what = f"{self.folder} is of another version of Saefari."
                raise ArtifactError(what, remedy="Drop it with --again, and everything is asked anew.")
            if found.get("key", self._owner["key"]) != self._owner["key"]:
                what = f"{self.folder} holds an unfinished harvest of {found.get('query')}."
                remedy = "Finish it with its own command, choose another --out, or drop it with --again."
                raise SourceError(what, remedy=remedy)
            if "place" in found:
                stored = json.loads(found["place"])
                self.place = Place(**{**stored, "counts": Counter(stored["counts"])})
            with self._changing():
                self._store(**self._owner)

    def add(self, page: Page) -> None:
        """Keep a page, and the place after it."""
        old = self.place
        counts = Counter(old.counts)
        with _explained(self._path), self._changing():
            n_new = sum([self._put(record, counts) for record in page.records])
            counts["pages with faulty XML, repaired"] += page.is_repaired
            place = replace(
                old,
                token=page.token,
                is_whole=not page.token,
                size=old.size if page.size is None else page.size,
                n_pages=old.n_pages + 1,
                n_read=old.n_read + len(page.records),
                n_idle=0 if n_new else old.n_idle + 1,
                counts=+counts,
            )
            self._database.execute("INSERT OR IGNORE INTO tokens VALUES (?)", (page.token,))
            self._store(place=json.dumps(vars(place)))
        self.place = place

    def _put(self, record: Record, counts: Counter[str]) -> bool:
        """Whether the record is new, or other than it was."""
        if not record.identifier:
            counts["without an identifier"] += 1
            return False
        read = None if record.is_deleted else read_document(record.row)
        state = DELETED if record.is_deleted else KEPT if read else WITHOUT_TEXT
        document = json.dumps([getattr(read[0], name) for name in _FIELDS]) if read else ""
        known = self._database.execute(
            "SELECT state, document FROM records WHERE identifier = ?", (record.identifier,)
        ).fetchone()
        if known:
            counts[known[0]] -= 1
            counts["listed more than once"] += 1
        counts[state] += 1
        counts.update(read[1] if read and not known else ())
        self._database.execute(
            "INSERT INTO records (identifier, state, document) VALUES (?, ?, ?) ON CONFLICT (identifier)"
            " DO UPDATE SET state = excluded.state, document = excluded.document",
            (record.identifier, state, document),
        )
        return bool(known != (state, document))

    def has_seen(self, token: str) -> bool:
        """Whether a page has already given this token."""
        with _explained(self._path):
            found = self._database.execute("SELECT 1 FROM tokens WHERE token = ?", (token,))
            return found.fetchone() is not None

    def documents(self, limit: int | None) -> Iterator[Document]:
        """In the order in which they came first, read from disk as they are asked for."""
        query = "SELECT document FROM records WHERE state = ? ORDER BY position LIMIT ?"
        with _explained(self._path):
            for (document,) in self._database.execute(query, (KEPT, -1 if limit is None else limit)):
                yield Document(*json.loads(document))

    def clear(self) -> None:
        """Forget everything but the query."""
        with _explained(self._path), self._changing():
            for table in ("records", "tokens", "state"):
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608 (names of ours)
            self._store(**self._owner)
        self.place = Place()

    def close(self, *, drop: bool = False) -> None:
        """Give it free; with `drop` nothing is left of it."""
        if drop:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._database.close()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._database.execute("BEGIN")
        with self._database:  # commits, or rolls back
            yield

    def _store(self, **values: str) -> None:
        self._database.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", list(values.items()))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What SQLite says, as errors of ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its details
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            what = f"Another process harvests into {path.parent}."
            raise BusyError(what, remedy="Wait for it to end, or stop it, then try again.") from error
        if code == sqlite3.SQLITE_FULL:
            what = f"The disk is full: {path} could not be written."
            raise ArtifactError(what, remedy="Free some space, then give the same command again.") from error
        what = f"{path} cannot be used: {error}."
        remedy = "Check its rights; if it is damaged, --again drops it and begins anew."
        raise ArtifactError(what, remedy=remedy) from error
