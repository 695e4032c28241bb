"""Who changed what, and when: read here, written by `Writing.record`, changed by nobody."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored.models import Audit

MAX_READ = 1_000


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


def read_audit(
    session: Session, *, thing: str = "", actor: str = "", before: int | None = None, limit: int = 100
) -> list[Record]:
    """Changes, latest first: of one thing, by one person, older than the record `before`."""
    chosen = sa.select(Audit).order_by(Audit.id.desc()).limit(min(limit, MAX_READ))
    if thing:
        chosen = chosen.where(Audit.thing == thing.replace("\0", ""))
    if actor:
        chosen = chosen.where(Audit.actor == actor.replace("\0", ""))
    if before is not None:
        chosen = chosen.where(Audit.id < before)
    return [_record(row) for row in session.scalars(chosen)]


def _record(row: Audit) -> Record:
    before, after = (json.loads(text) if text is not None else None for text in (row.before, row.after))
    return Record(row.id, row.at, row.actor, row.via, row.action, row.thing, before, after)
