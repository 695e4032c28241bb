"""Whether what visitors were told is stored is there: in the tables, their history, and the audit table."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from app.authored import labels, lenses, links, lists, notes
from app.authored.audit import MAX_READ, Record, read_audit
from app.authored.models import LabelRow, LensRow, LinkRow, ListRow, NoteRow, VoteRow
from app.authored.store import Store, printed
from app.authored.subjects import load_subjects

WRITTEN = {"label", "vote", "note", "list", "lens", "link"}  # actions of the audit table that visitors take


@dataclass
class Edit:
    """Something that a visitor sent, and what became of it."""

    action: str
    thing: str  # "": not known before it was stored
    after: dict[str, Any] | None  # of what is stored, what was sent; None: taken away
    actor: str
    states: list[str] = field(default_factory=list)  # stored, conflict, answered 503; none without an answer

    @property
    def state(self) -> str:
        return self.states[0] if self.states else ""

    def is_in(self, record: Record) -> bool:
        """Whether this is what the audit table says there."""
        if self.thing not in {"", record.thing} or (self.after is None) != (record.after is None):
            return False
        return all(record.after[name] == value for name, value in (self.after or {}).items())


def read_journal(path: Path) -> list[Edit]:
    """What visitors sent, in that order."""
    edits: dict[int, Edit] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        number, state = said.pop("id"), said.pop("state")
        if state == "sent":
            edits[number] = Edit(**said)
        else:
            edits[number].states.append(state)
    return list(edits.values())


def problems(url: str, edits: Iterable[Edit]) -> list[str]:
    """A sentence for each edit that was acknowledged and is not there, and for what does not agree."""
    store = Store.open(url)
    try:
        records = _records(store)
        now = _now(store)
        history = _history(store)
    finally:
        store.close()
    return [*_lost(list(edits), records), *_disagreeing(records, now), *_without_history(records, history)]


def _lost(edits: list[Edit], records: list[Record]) -> list[str]:
    by_actor: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        by_actor[record.actor, record.action].append(record)
    found = []
    for edit in sorted(
        edits, key=lambda each: each.state != "stored"
    ):  # who was told first, then who was not
        left = by_actor[edit.actor, edit.action]
        at = next((at for at, record in enumerate(left) if edit.is_in(record)), None)
        if edit.state == "stored" and at is None:
            found.append(f"lost: {edit.action} of {edit.actor}: {edit.after} {edit.thing}")
        elif edit.state not in {"stored", ""} and at is not None:
            found.append(f"stored although {edit.state}: {edit.action} of {edit.actor}: {edit.after}")
        if at is not None:
            left.pop(at)
        if "unseen" in edit.states:
            found.append(
                f"not on the page just after it was stored: {edit.action} of {edit.actor}: {edit.after}"
            )
    return found + [
        f"nobody sent this: {record}"
        for (actor, action), left in by_actor.items()
        for record in left
        if action in WRITTEN
    ]


def _records(store: Store) -> list[Record]:
    """The whole audit table, first record first."""
    records: list[Record] = []
    with store.read(patient=True) as session:
        while page := read_audit(session, before=records[-1].id if records else None, limit=MAX_READ):
            records += page
    return records[::-1]


def _now(store: Store) -> dict[tuple[str, str, str], Any]:
    """What holds, by action, thing, and who where each person has one of their own."""
    with store.read(patient=True) as session:
        written = sa.select(LabelRow.subject).union(sa.select(VoteRow.subject))
        subjects = load_subjects(session, list(session.scalars(written)))
        found: dict[tuple[str, str, str], Any] = {}
        for row in session.scalars(sa.select(LabelRow).order_by(LabelRow.revision)):
            found["label", subjects[row.subject].name, ""] = labels.as_json(labels.as_label(row))
        for vote in session.scalars(sa.select(VoteRow)):
            after = {"text": vote.text, "value": vote.value}
            found["vote", subjects[vote.subject].name, vote.author] = after
        for note in session.scalars(sa.select(NoteRow)):
            found["note", f"note {note.slug}", ""] = notes.as_json(notes._load(session, note))
        for link in session.scalars(sa.select(LinkRow)):
            found["link", f"link {link.slug}", ""] = links.as_json(links.stored(link))
        for made in session.scalars(sa.select(ListRow)):
            found["list", f"list {made.slug}", ""] = lists.as_json(lists.load(session, made))
        for lens in session.scalars(sa.select(LensRow)):
            found["lens", f"lens {lens.slug}", ""] = lenses.as_json(lenses.stored(lens))
    return found


def _disagreeing(records: list[Record], now: dict[tuple[str, str, str], Any]) -> list[str]:
    """What holds must be what the last record of it says."""
    last: dict[tuple[str, str, str], Any] = {}
    for record in records:
        if record.action in WRITTEN:
            last[record.action, record.thing, record.actor if record.action == "vote" else ""] = record.after
    said = {key: after for key, after in last.items() if after is not None}
    return [
        f"tables and audit disagree on {key}: {said.get(key)} was recorded, {now.get(key)} is there"
        for key in {**said, **now}
        if printed(said.get(key)) != printed(now.get(key))
    ]


def _history(store: Store) -> Counter[str]:
    with store.read(patient=True) as session:
        rows = list(session.scalars(sa.select(LabelRow)))
        subjects = load_subjects(session, [row.subject for row in rows])
        return Counter(
            f"{subjects[row.subject].name} {printed(labels.as_json(labels.as_label(row)))}" for row in rows
        )


def _without_history(records: list[Record], history: Counter[str]) -> list[str]:
    """Every revision of a label that was recorded is there still, once."""
    recorded = Counter(f"{each.thing} {printed(each.after)}" for each in records if each.action == "label")
    return [f"history and audit disagree: {each}" for each in (recorded - history) + (history - recorded)]
