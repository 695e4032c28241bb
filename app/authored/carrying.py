"""Carrying what people wrote about one SAE to another, where the features have the same direction.

A feature is the same where the cosine of the two directions is at least `SAME_FEATURE`, and no other feature
that was written about is nearer to the same one. Directions are kept with what was written, so that the old
SAE need not be there any more. What is carried is a copy that says where it is from; what was written stays
where it is, and what has no match is listed. Votes and verdicts stay behind: they are about a label that only
that SAE has. Links do too: they say on which SAE they were made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from app.authored import labels, lenses, lists, notes, owned
from app.authored.labels import HumanLabel, LabelText
from app.authored.models import LensRow, ListRow, NoteRow, SubjectRow
from app.authored.store import Actor, Json, Role, Store, Writing
from app.authored.subjects import Direction, Subject, as_subject, claim, document, family, feature
from sae_core.errors import NotFoundError
from sae_core.lenses import Match, nearest
from sae_core.lenses import carry as carry_lens
from sae_core.metrics import SAME_FEATURE

if TYPE_CHECKING:
    from sae_core.explorer import Explorer, FeatureSet

HasDocuments = Callable[[Sequence[str]], set[str]]
MAX_ASKED = 1_000  # documents at a time


def direction_of(explorer: Explorer, sae: str, latent: int) -> Direction:
    """What makes a feature known again, and a family by its root; kept with what is written about it."""
    return Direction.of(_space(explorer), explorer.saes[sae].sae.directions_ND[latent])


@dataclass(frozen=True)
class Goal:
    """Where to carry to, and from which collection."""

    collection: str
    space: str
    to: FeatureSet
    was: str  # the name of the collection that was written about
    sources: tuple[str, ...]  # its SAEs
    has_documents: HasDocuments  # which of these ids the collection has

    @classmethod
    def of(  # noqa: PLR0917 (as the command has them)
        cls, explorer: Explorer, store: Store, has_documents: HasDocuments, to: str = "", source: str = "",
        was: str = "",
    ) -> Goal:  # fmt: skip
        """To the SAE `to`, by default the first; from `source`, by default all that are gone."""
        chosen = explorer.saes.get(to or next(iter(explorer.saes)))
        if chosen is None:
            raise NotFoundError(
                f'{explorer.name} has no SAE "{to}".', remedy=f"It has {', '.join(explorer.saes)}."
            )
        was = was or explorer.name
        with store.read() as session:
            named = sa.select(SubjectRow.sae).filter_by(collection=was).where(SubjectRow.sae != "").distinct()
            known = sorted(session.scalars(named))
        here = set(explorer.saes) if was == explorer.name else {chosen.name}
        sources = tuple(name for name in known if name not in here)
        if source and source not in known:
            raise NotFoundError(
                f'Nobody wrote anything about an SAE "{source}" of {was}.',
                remedy=f"Something was written about {', '.join(known) or 'none'}.",
            )
        sources = (source,) if source else sources
        return cls(explorer.name, _space(explorer), chosen, was, sources, has_documents)


@dataclass
class Carried:
    """What came of it: copies made by kind, and sentences on what stays where it is."""

    lines: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def made(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        self.lines.append(what)

    def leave(self, what: str, reason: str) -> None:
        self.left.append(f"{what} stays: {reason}.")


def carry(store: Store, goal: Goal, actor: Actor, *, dry_run: bool = False) -> Carried:
    """Carry all of it in one transaction. Again, it finds what was carried, and makes no second copy."""
    done = Carried()
    with store.write(actor, Role.ADMIN, alone=True, dry_run=dry_run) as writing:
        for source in goal.sources:
            _Carrying(writing, goal, source, done).carry()
        _carry_documents(writing, goal, done)
    return done


class _Matching:
    """Which feature here is which of those that were written about."""

    def __init__(self, goal: Goal, subjects: Iterable[Subject]) -> None:
        self._goal = goal
        self._nearest = self._find(list(subjects))

    def _find(self, subjects: Sequence[Subject]) -> dict[Subject, Match]:
        """The nearest living feature here of everything that has a direction of this space."""
        width = self._goal.to.sae.directions_ND.shape[1]
        known = [
            (subject, subject.direction.row_D)
            for subject in subjects
            if subject.direction is not None
            and subject.direction.space == self._goal.space
            and len(subject.direction.row_D) == width
        ]
        if not known:
            return {}
        living_N = np.asarray(self._goal.to.features.n_documents_N) > 0
        rows_ND = np.stack([row_D for _, row_D in known])
        found = nearest(range(len(known)), rows_ND, self._goal.to.sae.directions_ND, living_N)
        return {known[at][0]: replace(match, latent=known[at][0].latent) for at, match in found.items()}

    def target(self, subject: Subject) -> Subject | None:
        """What stands for a feature or a family here; None where nothing does, see `reason`."""
        if self.reason(subject):
            return None
        here = self._nearest[subject].here
        make = family if subject.kind == "family" else feature
        return make(self._goal.collection, self._goal.to.name, here, self.direction(here))

    def reason(self, subject: Subject) -> str:
        """Why nothing here stands for a subject; "" where something does."""
        if subject.direction is None:
            return "its direction was not kept"
        match = self._nearest.get(subject)
        if match is None:
            return "its direction is of another embedding space"
        if match.cosine < SAME_FEATURE:
            return (
                f"no feature here has its direction (the nearest: #{match.here}, cosine {match.cosine:.2f})"
            )
        rivals = [
            (other.cosine, -one.latent, one)
            for one, other in self._nearest.items()
            if one.kind == subject.kind and other.here == match.here
        ]
        nearer = max(rivals, key=lambda rival: rival[:2])[2]
        if nearer != subject:
            return f"#{match.here} is nearer to #{nearer.latent}"
        if subject.kind == "family" and all(each.id != match.here for each in self._goal.to.families):
            return f"#{match.here} is no root of a family here"
        return ""

    def direction(self, latent: int) -> Direction:
        return Direction.of(self._goal.space, self._goal.to.sae.directions_ND[latent])

    def origin(self, subject: Subject, origin: Json) -> str:
        """What a copy says of where it is from."""
        return _printed({"from": subject.name, "cosine": round(self._nearest[subject].cosine, 3), **origin})

    def features(self) -> dict[int, Match]:
        """By number, every feature that something stands for."""
        return {
            subject.latent: match
            for subject, match in self._nearest.items()
            if subject.kind == "feature" and not self.reason(subject)
        }


class _Carrying:
    """From one SAE."""

    def __init__(self, writing: Writing, goal: Goal, source: str, done: Carried) -> None:
        self._writing, self._goal, self._source, self._done = writing, goal, source, done
        rows = writing.session.scalars(sa.select(SubjectRow).filter_by(collection=goal.was, sae=source))
        self._subjects = {row.id: as_subject(row) for row in rows}
        self._matching = _Matching(goal, self._subjects.values())

    def carry(self) -> None:
        for at in sorted(self._subjects, key=lambda at: (self._subjects[at].kind, self._subjects[at].latent)):
            self._carry_label(self._subjects[at])
            self._carry_notes(at)
        home = {"collection": self._goal.was, "sae": self._source}
        for listed in self._writing.session.scalars(
            sa.select(ListRow).filter_by(**home).order_by(ListRow.slug)
        ):
            self._carry_list(listed)
        for lens in self._writing.session.scalars(
            sa.select(LensRow).filter_by(**home).order_by(LensRow.slug)
        ):
            self._carry_lens(lens)

    def _carry_label(self, subject: Subject) -> None:
        label = labels.find_label(self._writing.session, subject)
        if label is None or label.said == LabelText():
            return
        said = f'{subject.name} "{label.said.text}"'
        if not label.said.text and not label.said.explanation:
            self._done.leave(subject.name, "a verdict is about the automatic label of that SAE")
            return
        if (target := self._matching.target(subject)) is None:
            self._done.leave(said, self._matching.reason(subject))
            return
        history = labels.find_history(self._writing.session, target)
        origin = {"from": subject.name, "revision": label.revision}
        if any(_is_from(each.origin, origin) for each in history):
            return
        if history and history[0].said.text:
            self._done.leave(said, f'#{target.key} has a label already, "{history[0].said.text}"')
            return
        text = LabelText(label.said.text, label.said.explanation)
        revision = history[0].revision + 1 if history else 1
        printed = self._matching.origin(subject, origin)
        made = HumanLabel(revision, text, label.author, self._writing.now, printed)
        self._writing.session.add(labels.as_row(claim(self._writing, target), made))
        self._made("label", f"{said} to #{target.key}", target.name, labels.as_json(made))

    def _carry_notes(self, at: int) -> None:
        subject = self._subjects[at]
        chosen = sa.select(NoteRow).filter_by(subject=at).order_by(NoteRow.slug)
        for row in self._writing.session.scalars(chosen).all():
            if (target := self._matching.target(subject)) is None:
                self._done.leave(f"Note {row.slug} on {subject.name}", self._matching.reason(subject))
            else:
                origin = self._matching.origin(subject, {"note": row.slug})
                _copy_note(self._writing, self._done, row, target, origin)

    def _carry_list(self, row: ListRow) -> None:
        origin = {"list": row.slug}
        if self._has_copy(ListRow, origin):
            return
        found, entries = lists.load(self._writing.session, row), []
        for entry in found.said.entries:
            if (target := self._matching.target(entry.subject)) is not None:
                entries.append(replace(entry, subject=target))
            else:
                what = f'In the list "{row.name}": {entry.subject.name}'
                self._done.leave(what, self._matching.reason(entry.subject))
        if not entries:
            self._done.leave(f'The list "{row.name}"', "none of its features is here")
            return
        texts = {"name": row.name, "description": row.description, "origin": _printed(origin)}
        copy = ListRow(**_born(self._writing, row), **self._home, **texts)
        self._writing.session.add(copy)
        self._writing.flush()
        lists.add_entries(self._writing, copy.slug, entries)
        what = f'The list "{row.name}": {len(entries)} of {len(found.said.entries)} features'
        self._made("list", what, f"list {copy.slug}", lists.as_json(lists.load(self._writing.session, copy)))

    def _carry_lens(self, row: LensRow) -> None:
        origin = {"lens": row.slug}
        if self._has_copy(LensRow, origin):
            return
        old = lenses.stored(row).lens
        found = carry_lens(old, self._goal.to.name, self._matching.features())
        for move in found.lost:
            what = f'In the lens "{row.name}": {move.mode} #{move.target}'
            self._done.leave(what, "nothing here stands for it")
        if not found.lens.moves:
            self._done.leave(f'The lens "{row.name}"', "none of its moves is here")
            return
        for match in found.matches:
            direction = self._matching.direction(match.here)
            claim(self._writing, feature(self._goal.collection, self._goal.to.name, match.here, direction))
        printed = lenses.printed(self._goal.collection, found.lens)
        texts = {"name": row.name, "moves": printed, "origin": _printed(origin)}
        copy = LensRow(**_born(self._writing, row), **self._home, **texts)
        self._writing.session.add(copy)
        what = f'The lens "{row.name}": {len(found.lens.moves)} of {len(old.moves)} moves'
        self._made("lens", what, f"lens {copy.slug}", lenses.as_json(lenses.stored(copy)))

    @property
    def _home(self) -> dict[str, str]:
        return {"collection": self._goal.collection, "sae": self._goal.to.name}

    def _has_copy(self, model: type[ListRow | LensRow], origin: Json) -> bool:
        there = self._writing.session.scalars(sa.select(model.origin).filter_by(**self._home))
        return any(_is_from(text, origin) for text in there)

    def _made(self, kind: str, what: str, thing: str, after: Json | None) -> None:
        self._done.made(kind, what)
        self._writing.record("carry", thing, None, after)


def _carry_documents(writing: Writing, goal: Goal, done: Carried) -> None:
    """Notes on documents need the document; where the collection kept its name they are there already."""
    chosen = sa.select(NoteRow, SubjectRow).join(SubjectRow, SubjectRow.id == NoteRow.subject)
    chosen = chosen.where(SubjectRow.collection == goal.was, SubjectRow.kind == "document")
    found = writing.session.execute(chosen.order_by(NoteRow.slug)).all()
    keys = sorted({subject.key for _, subject in found})
    blocks = [keys[at : at + MAX_ASKED] for at in range(0, len(keys), MAX_ASKED)]
    here = set().union(*map(goal.has_documents, blocks))
    for row, subject in found:
        if subject.key not in here:
            done.leave(f"Note {row.slug} on the document {subject.key}", "that document is not here")
        elif goal.was != goal.collection:
            target = document(goal.collection, subject.key)
            _copy_note(writing, done, row, target, _printed({"from": goal.was, "note": row.slug}))


def _copy_note(writing: Writing, done: Carried, row: NoteRow, target: Subject, origin: str) -> None:
    at = claim(writing, target)
    there = writing.session.scalars(sa.select(NoteRow.origin).filter_by(subject=at))
    if any(_is_from(text, {"note": row.slug}) for text in there):
        return
    copy = NoteRow(**_born(writing, row), subject=at, text=row.text, origin=origin)
    writing.session.add(copy)
    done.made("note", f"Note {row.slug} to {target.name}")
    note = notes.Note(owned.ownership(copy), target, copy.text, copy.origin)
    writing.record("carry", f"note {copy.slug}", None, notes.as_json(note))


def _born(writing: Writing, row: owned.Owned) -> dict[str, Any]:
    """A copy belongs to who made the original, and is seen as far."""
    return {**owned.born(writing, row.visibility), "author": row.author}


def _is_from(origin: str, wanted: Json) -> bool:
    """Whether something was carried from there."""
    found = json.loads(origin) if origin else {}
    return all(found.get(name) == value for name, value in wanted.items())


def _printed(origin: Json) -> str:
    return json.dumps(origin, ensure_ascii=False, sort_keys=True)


def _space(explorer: Explorer) -> str:
    """The embedder's fingerprint; "" for embeddings from a file, which nobody knows again."""
    return str(explorer.manifest["embedder"].get("fingerprint") or "")
