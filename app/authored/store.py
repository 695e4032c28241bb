"""The one door to what people write: transactions to read and to write in, each as one of our people.

with store.write(actor) as writing:
    labels.set_label(writing, subject, LabelText("dust"), expected=3)

A write is recorded in the audit table in its own transaction, or it fails: the store sees to that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.authored.engines import SECONDS_ALONE, SECONDS_TO_WAIT, Database, DatabaseError
from app.authored.models import REVISION, Audit, User
from sae_core.errors import BusyError, SaefariError

Json = dict[str, Any]


class Role(IntEnum):
    """What somebody may do; each may do what those before it may."""

    READER = 1  # what is public, and what is their own
    EDITOR = 2  # write
    ADMIN = 3  # see and remove what others wrote; tokens

    @property
    def word(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """Inverse of `word`; `SaefariError` for another one."""
        try:
            return cls[word.upper()]
        except KeyError:
            raise SaefariError(f'"{word}" is no role.', remedy="Choose reader, editor or admin.") from None


@dataclass(frozen=True)
class Actor:
    """Somebody at work."""

    name: str
    role: Role
    via: str  # how we know: "token 12", "session 4", "command line"


class NotAllowed(SaefariError):
    """Somebody may not do this."""


class NotThere(SaefariError):
    """What is to be changed or shown is not there, or hidden from who asks."""


class Conflict(SaefariError):
    """Somebody else was quicker. Nothing was stored; `mine` and `theirs` are both here to be put together."""

    def __init__(self, what: str, mine: Any, theirs: Any) -> None:
        super().__init__(what, remedy="Compare the two, then store again what is to hold.")
        self.mine, self.theirs = mine, theirs


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Writing:
    """A transaction of one person. Everything done through it happens, and is recorded, or nothing is."""

    session: Session
    actor: Actor
    now: datetime

    def record(self, action: str, thing: str, before: Json | None, after: Json | None) -> None:
        """Say in the audit table what was done: `thing` as people name it, and what it was and is."""
        entry = Audit(
            at=self.now,
            actor=self.actor.name,
            via=self.actor.via,
            action=action,
            thing=thing,
            before=printed(before),
            after=printed(after),
        )
        self.session.add(entry)

    def flush(self) -> None:
        """Send what was done so far. What somebody else stored in between is a `BusyError`."""
        try:
            self.session.flush()
        except IntegrityError as error:
            raise BusyError(
                "Somebody else stored the same thing at this moment, so nothing was stored.",
                remedy="Try again.",
            ) from error

    def require(self, owner: str, what: str) -> None:
        """Only the owner and admins go on."""
        if self.actor.name != owner and self.actor.role < Role.ADMIN:
            raise NotAllowed(f"{what} belongs to {owner}.", remedy="Ask them, or an admin.")


def printed(value: Json | None) -> str | None:
    """JSON as the audit table has it: keys in order, moments in ISO 8601."""
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class Store:
    """An open database. Safe between threads; closing it ends what it holds."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self.database, self.now = database, now
        self._reader, self._patient = database.reader(), database.reader(SECONDS_ALONE)
        self._writer, self._alone = database.writer(), database.writer(alone=True)
        for engine in (self._writer, self._alone):
            event.listen(engine, "begin", self._check_revision)

    @classmethod
    def open(cls, url: str, now: Callable[[], datetime] = utc_now) -> Store:
        """Open a database of this revision; `DatabaseError` says what to do with any other."""
        store = cls(Database(url), now)
        try:
            check_revision(find_revision(store.database, store._reader), store.database.shown)
        except SaefariError:
            store.close()
            raise
        return store

    def close(self) -> None:
        for engine in (self._reader, self._patient, self._writer, self._alone):
            engine.dispose()

    @contextmanager
    def read(self, *, patient: bool = False) -> Iterator[Session]:
        """A transaction that sees one moment and cannot write; `patient` where nobody waits for a page."""
        engine = self._patient if patient else self._reader
        with self.database.explained(), Session(engine) as session, session.begin():
            yield session

    @contextmanager
    def write(
        self, actor: Actor, least: Role = Role.EDITOR, *, alone: bool = False, dry_run: bool = False
    ) -> Iterator[Writing]:
        """A transaction of this person, committed at the end; `NotAllowed` below the role `least`.

        Alone: nobody else writes meanwhile, which is for what changes very much at once. A dry run does all
        of it, and takes it back.
        """
        if actor.role < least:
            raise NotAllowed(
                f"{actor.name} is a {actor.role.word}, and this takes the role {least.word}.",
                remedy="Ask an admin for a token of that scope.",
            )
        engine = self._alone if alone else self._writer
        turn = self.database.turn(SECONDS_ALONE if alone else SECONDS_TO_WAIT)
        with self.database.explained(), turn, Session(engine) as session, session.begin() as all_of_it:
            _insist_on_record(session)
            add_user(session, actor.name, self.now())
            yield (writing := Writing(session, actor, self.now()))
            writing.flush()
            if dry_run:
                all_of_it.rollback()

    def _check_revision(self, connection: sa.Connection) -> None:
        found = connection.execute(_REVISION).scalar_one_or_none()
        check_revision(found, self.database.shown)


_REVISION = sa.text("SELECT version_num FROM alembic_version")


def find_revision(database: Database, engine: sa.Engine) -> str | None:
    """The revision that a database is at; None if it is not there, or has none of our tables."""
    if database.path is not None and not database.path.is_file():
        return None
    with database.explained(), engine.begin() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.execute(_REVISION).scalar_one_or_none()
        return found


def check_revision(found: str | None, shown: str) -> None:
    """Go on only at our revision; else `DatabaseError` with the command that helps."""
    if found == REVISION:
        return
    if found is not None and found > REVISION:
        what = f"The database {shown} is at revision {found}, this version of Saefari knows {REVISION}."
        raise DatabaseError(what, remedy="Use the version that made it, or restore an older backup.")
    state = f"is at revision {found}, and {REVISION} is needed" if found else "has no tables yet"
    raise DatabaseError(f"The database {shown} {state}.", remedy="Run `saefari db upgrade`.")


def add_user(session: Session, name: str, now: datetime) -> None:
    """Make sure that somebody is known, as a reader if they were not."""
    if session.get(User, name) is not None:
        return
    insert_new(session, User, {"name": name, "role": Role.READER.word, "created": now}, ("name",))


def insert_new(session: Session, model: type[Any], values: Mapping[str, Any], key: tuple[str, ...]) -> None:
    """Add a row unless one with the same key is there, even one that is being added at this moment."""
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.execute(insert(model).values(**values).on_conflict_do_nothing(index_elements=list(key)))


def _insist_on_record(session: Session) -> None:
    """Refuse to commit changes of which the audit table says nothing: a mistake of ours."""
    seen = {"changed": False, "recorded": False}

    def look(session: Session, _context: object) -> None:
        touched = [*session.new, *session.dirty, *session.deleted]
        seen["recorded"] |= any(isinstance(each, Audit) for each in touched)
        seen["changed"] |= any(not isinstance(each, Audit) for each in touched)

    def insist(_session: Session) -> None:
        if seen["changed"] and not seen["recorded"]:
            raise RuntimeError("a change was not recorded in the audit table")

    event.listen(session, "after_flush", look)
    event.listen(session, "before_commit", insist)
