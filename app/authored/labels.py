"""What people call features and families, and what they think of the automatic labels.

A label is never changed: each edit is a new revision, and the latest one holds. Whoever edits says which one
they saw. Where another came in between, nothing is stored, and both texts are in the `Conflict`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored.models import LabelRow, SubjectRow, VoteRow
from app.authored.store import Conflict, Json, Writing
from app.authored.subjects import Subject, claim, find_ids
from app.authored.texts import MAX_EXPLANATION, MAX_NAME, BadText, line, paragraphs

VERDICTS = ("", "accepted", "rejected")


@dataclass(frozen=True)
class LabelText:
    """What an editor says. A verdict is on the automatic label, of which the text is kept with it."""

    text: str = ""  # "": the automatic label stands, unless it is rejected
    explanation: str = ""
    verdict: str = ""
    automatic: str = ""  # the label that the verdict is on

    def cleaned(self) -> LabelText:
        """As it is stored; `BadText` for what cannot be."""
        if self.verdict not in VERDICTS:
            raise BadText(f'"{self.verdict[:40]}" is no verdict.', remedy="Choose accepted or rejected.")
        return LabelText(
            line("The label", self.text, MAX_NAME),
            paragraphs("The explanation", self.explanation, MAX_EXPLANATION),
            self.verdict,
            line("The automatic label", self.automatic, MAX_NAME, least=1) if self.verdict else "",
        )

    def shown(self, automatic: str) -> str:
        """The label to show where the automatic one is `automatic`: a verdict on another one says nothing."""
        if self.text:
            return self.text
        return "" if self.verdict == "rejected" and self.automatic == automatic else automatic


@dataclass(frozen=True)
class HumanLabel:
    """A revision of what people say of a feature or a family."""

    revision: int  # from 1
    said: LabelText
    author: str
    at: datetime
    origin: str = ""  # JSON of where it was carried from; "" where it was written


@dataclass(frozen=True)
class Tally:
    """How many find a label right, and wrong; and what one of them said of it (0: nothing)."""

    up: int
    down: int
    own: int = 0


NO_VOTES = Tally(0, 0)


def set_label(
    writing: Writing, subject: Subject, said: LabelText, expected: int, origin: str = ""
) -> HumanLabel:
    """Store what somebody says of a feature or family; `expected` is the revision that they saw, 0 for none.

    `Conflict` if there is a later one. What is there already is not stored again.
    """
    said = said.cleaned()
    _named(subject)
    at = claim(writing, subject)
    before = _latest(writing.session, [at]).get(at)
    mine = HumanLabel(expected + 1, said, writing.actor.name, writing.now, origin)
    if (before.revision if before else 0) != expected:
        raise Conflict(_sentence(subject, before), mine, before)
    if (before.said if before else LabelText()) == said:
        return before or replace(mine, revision=0)
    writing.session.add(as_row(at, mine))
    writing.record("label", subject.name, as_json(before), as_json(mine))
    writing.flush()
    return mine


def find_label(session: Session, subject: Subject) -> HumanLabel | None:
    """What holds of one feature or family."""
    return find_labels(session, [subject]).get(subject)


def find_labels(session: Session, subjects: Iterable[Subject]) -> dict[Subject, HumanLabel]:
    """What holds of those that people labelled, all of one kind and SAE. Two statements."""
    ids = find_ids(session, subjects)
    found = _latest(session, list(ids.values()))
    return {subject: found[at] for subject, at in ids.items() if at in found}


def find_said(session: Session) -> dict[tuple[str, str, str], dict[int, LabelText]]:
    """What holds by collection, SAE and kind, wherever it may differ from the automatic label.

    Explanations are left out: this is held in memory.
    """
    last = _last_revisions()
    same = (LabelRow.subject == last.c.subject) & (LabelRow.revision == last.c.revision)
    chosen = (
        sa.select(SubjectRow.collection, SubjectRow.sae, SubjectRow.kind, SubjectRow.key)
        .add_columns(LabelRow.text, LabelRow.verdict, LabelRow.automatic)
        .join(LabelRow, LabelRow.subject == SubjectRow.id)
        .join(last, same)
        .where((LabelRow.text != "") | (LabelRow.verdict == "rejected"))
    )
    found: dict[tuple[str, str, str], dict[int, LabelText]] = {}
    for collection, sae, kind, key, text, verdict, automatic in session.execute(chosen):
        said = LabelText(text, verdict=verdict, automatic=automatic)
        found.setdefault((collection, sae, kind), {})[int(key)] = said
    return found


def find_history(session: Session, subject: Subject, most: int | None = None) -> list[HumanLabel]:
    """The revisions of a label, latest first: all, or so many."""
    ids = find_ids(session, [subject])
    chosen = sa.select(LabelRow).where(LabelRow.subject.in_(ids.values()))
    rows = session.scalars(chosen.order_by(LabelRow.revision.desc()).limit(most))
    return [as_label(row) for row in rows]


# --- votes ------------------------------------------------------------------------------------------


def vote(writing: Writing, subject: Subject, text: str, value: int) -> None:
    """Say that `text`, which is shown as the label, is right (1) or wrong (-1), or take that back (0)."""
    if value not in (-1, 0, 1):
        raise BadText(f"A vote of {value} is none.", remedy="Vote 1, -1, or 0 to take it back.")
    _named(subject)
    text = line("The label", text, MAX_NAME, least=1)
    at = claim(writing, subject)
    row = writing.session.get(VoteRow, (at, writing.actor.name))
    before: Json | None = {"text": row.text, "value": row.value} if row else None
    after: Json | None = {"text": text, "value": value} if value else None
    if before == after:
        return
    if row is not None and after is None:
        writing.session.delete(row)
    elif row is not None:
        row.text, row.value, row.at = text, value, writing.now
    else:
        author = writing.actor.name
        writing.session.add(VoteRow(subject=at, author=author, text=text, value=value, at=writing.now))
    writing.record("vote", subject.name, before, after)
    writing.flush()


def count_votes(session: Session, shown: dict[Subject, str], author: str = "") -> dict[Subject, Tally]:
    """Votes on the labels that are shown, all of one kind and SAE; votes on former texts do not count."""
    ids = find_ids(session, shown)
    subjects = {at: subject for subject, at in ids.items()}
    found = dict.fromkeys(shown, NO_VOTES)
    for row in session.scalars(sa.select(VoteRow).where(VoteRow.subject.in_(subjects))):
        subject = subjects[row.subject]
        if row.text == shown[subject]:
            tally = found[subject]
            own = row.value if row.author == author else tally.own
            found[subject] = Tally(tally.up + (row.value > 0), tally.down + (row.value < 0), own)
    return found


# --- rows -------------------------------------------------------------------------------------------


def as_row(subject: int, label: HumanLabel) -> LabelRow:
    return LabelRow(
        subject=subject, revision=label.revision, author=label.author, at=label.at, origin=label.origin,
        **asdict(label.said),
    )  # fmt: skip


def as_label(row: LabelRow) -> HumanLabel:
    said = LabelText(row.text, row.explanation, row.verdict, row.automatic)
    return HumanLabel(row.revision, said, row.author, row.at, row.origin)


def as_json(label: HumanLabel | None) -> Json | None:
    """As the audit table and exports have it."""
    if label is None:
        return None
    return {
        "revision": label.revision, **asdict(label.said), "author": label.author, "at": label.at.isoformat(),
        "origin": label.origin,
    }  # fmt: skip


def _latest(session: Session, ids: Sequence[int]) -> dict[int, HumanLabel]:
    last = _last_revisions(LabelRow.subject.in_(ids))
    same = (LabelRow.subject == last.c.subject) & (LabelRow.revision == last.c.revision)
    return {row.subject: as_label(row) for row in session.scalars(sa.select(LabelRow).join(last, same))}


def _last_revisions(*conditions: sa.ColumnElement[bool]) -> sa.Subquery:
    latest = sa.select(LabelRow.subject, sa.func.max(LabelRow.revision).label("revision"))
    return latest.where(*conditions).group_by(LabelRow.subject).subquery()


def _named(subject: Subject) -> None:
    if subject.kind == "document":
        raise BadText("Documents have titles, not labels.", remedy="Write a note.")


def _sentence(subject: Subject, theirs: HumanLabel | None) -> str:
    who = f"{theirs.author} changed it at {theirs.at:%Y-%m-%d %H:%M} UTC" if theirs else "it has no label yet"
    return f"The label of {subject.name} is not the one that you saw: {who}."
