"""Who changed what, and when: read here, written by `Writing.record`, changed by nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored.models import Audit
from app.authored.store import Store

MAX_READ = 1_000
MAX_AT_ONCE = 256  # changes that are committed while one is not yet


@dataclass(frozen=True)
class Record:
    """One change."""

    id: int
    at: datetime
    actor: str
    via: str
    action: str
    thing: str
    before: Any  # None: it was not there
    after: Any  # None: it is gone

    def printed(self) -> str:
        """As a line of JSON."""
        return json.dumps({**asdict(self), "at": self.at.isoformat()}, ensure_ascii=False, sort_keys=True)


def read_audit(
    session: Session,
    *,
    thing: str = "",
    actor: str = "",
    action: str = "",
    since: datetime | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Record]:
    """Changes, latest first: of one thing, by one person, of one kind, since a moment.

    `thing` is as the records have it ("feature NAME SAE 812", "token 3"); `before` is the id of a record.
    """
    chosen = sa.select(Audit).order_by(Audit.id.desc()).limit(min(limit, MAX_READ))
    for column, text in ((Audit.thing, thing), (Audit.actor, actor), (Audit.action, action)):
        if text:
            chosen = chosen.where(column == text.replace("\0", ""))
    if since is not None:
        chosen = chosen.where(Audit.at >= since)
    if before is not None:
        chosen = chosen.where(Audit.id < before)
    return [_record(row) for row in session.scalars(chosen)]


def walk_audit(
    store: Store, *, thing: str = "", actor: str = "", action: str = "", since: datetime | None = None
) -> Iterator[Record]:
    """The same to the end, in bounded memory: a small question for each thousand."""
    before = None
    while True:
        with store.read(patient=True) as session:
            records = read_audit(
                session, thing=thing, actor=actor, action=action, since=since, before=before, limit=MAX_READ
            )
        yield from records
        if len(records) < MAX_READ:
            return
        before = records[-1].id


def find_mark(session: Session) -> str:
    """Another text after every change; one small question.

    A change gets its id before it is committed, so one with a smaller id may come later: the last ones are
    counted, too.
    """
    last = sa.select(sa.func.max(Audit.id)).scalar_subquery()
    recent = sa.select(sa.func.max(Audit.id), sa.func.count()).where(Audit.id > last - MAX_AT_ONCE)
    newest, n = session.execute(recent).one()
    return f"{newest or 0}.{n}"


def _record(row: Audit) -> Record:
    before, after = (json.loads(text) if text is not None else None for text in (row.before, row.after))
    return Record(row.id, row.at, row.actor, row.via, row.action, row.thing, before, after)
