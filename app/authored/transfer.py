"""All that people wrote as JSON lines, and back: {"label": {...}}, {"note": {...}}, and so on.

The first line has the version, the last the counts, so that a file that was cut off is known as such. Tokens,
sessions, roles and the audit table stay: what a file says of them could not be trusted. Importing adds what
is not there, and changes nothing that is.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from app.authored import labels, lenses, links, lists, notes, owned
from app.authored.labels import HumanLabel, LabelText
from app.authored.lenses import StoredLens
from app.authored.links import ShortLink, checked_target
from app.authored.lists import Entry, FeatureList, ListText
from app.authored.models import (
    LabelRow,
    LensRow,
    LinkRow,
    ListRow,
    NoteRow,
    SubjectRow,
    VoteRow,
)
from app.authored.notes import Note
from app.authored.owned import Ownership
from app.authored.store import Actor, Json, Role, Store, Writing, add_user
from app.authored.subjects import Direction, Subject, as_subject, claim, load_subjects, with_directions
from app.authored.texts import MAX_KEY, MAX_NAME, MAX_NOTE, BadText, line, number, paragraphs, user_name
from sae_core import lenses as moves
from sae_core.errors import SaefariError
from sae_core.files import drafted, explain_write_errors

VERSION = 1
MAX_LINE = 64 * 2**20  # characters: a list of a thousand features, with directions, is some 6 million
ADDED, SAME, DIFFERING = "added", "same", "differing"


class BadTransfer(SaefariError):
    """A file that is no export, or not a whole one."""


@dataclass
class Taken:
    """What came of an import: things by kind, and a sentence for each that is other here than in the file."""

    added: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    differing: list[str] = field(default_factory=list)


def export(store: Store, path: Path, collection: str = "", *, is_public: bool = False) -> Counter[str]:
    """Write all of it, or what is about one collection; how many things of each kind. The file appears whole.

    Public: only what everybody may see, and no votes, which name people.
    """
    counts: Counter[str] = Counter()
    with explain_write_errors(path), drafted(path) as draft, store.read(patient=True) as session:
        draft.touch(mode=0o600)
        with draft.open("w", encoding="utf-8") as file:
            _print(file.write, {"saefari_authored": VERSION})
            for kind, room in _ROOMS.items():
                if is_public and kind == "vote":
                    continue
                for entry in room.read(session, collection):
                    if not is_public or entry.get("visibility", "public") == "public":
                        _print(file.write, {kind: entry})
                        counts[kind] += 1
            _print(file.write, {"end": counts})
    return counts


def import_file(store: Store, path: Path, actor: Actor) -> Taken:
    """Add what the file has and the database has not, in one transaction; `BadTransfer` names the line."""
    taken, counts = Taken(), Counter[str]()
    with (
        path.open(encoding="utf-8", errors="replace") as file,
        store.write(actor, Role.ADMIN, alone=True) as writing,
    ):
        lines = _parsed(file)
        number_, first = next(lines, (1, {}))
        if first.get("saefari_authored") != VERSION:
            raise BadTransfer(
                f"{path} does not begin as an export of version {VERSION} does.",
                remedy="Name a file that `saefari authored export` wrote.",
            )
        end: Any = None
        for number_, whole in lines:
            (kind, entry), *rest = whole.items() or [("", None)]
            if kind == "end":
                end = entry
                break
            if kind not in _ROOMS or rest:
                raise BadTransfer(f"Line {number_} is nothing that people write.", remedy=_REMEDY)
            counts[kind] += 1
            _take(writing, kind, entry, number_, taken)
        if end != counts:
            raise BadTransfer(f"{path} is not whole: it ends before its last line.", remedy="Copy it again.")
    return taken


_REMEDY = "Nothing was imported. Export it again, or mend the line."


def _take(writing: Writing, kind: str, entry: Any, at: int, taken: Taken) -> None:
    try:
        name, outcome = _ROOMS[kind].take(writing, entry)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadTransfer(f"Line {at} is no {kind}: {error!r:.200}.", remedy=_REMEDY) from error
    except SaefariError as error:
        raise BadTransfer(f"Line {at}: {error.what}", remedy=_REMEDY) from error
    if outcome == DIFFERING:
        taken.differing.append(f"The {kind} of line {at} ({name}) is another here.")
    else:
        (taken.added if outcome == ADDED else taken.same)[kind] += 1


def _parsed(file: Iterable[str]) -> Iterator[tuple[int, Json]]:
    readline: Callable[[int], str] = file.readline  # type: ignore[attr-defined]
    at = 0
    while text := readline(MAX_LINE + 1):
        at += 1
        try:
            whole = json.loads(text) if len(text) <= MAX_LINE else None
        except (ValueError, RecursionError):
            whole = None
        if not isinstance(whole, dict):
            raise BadTransfer(f"Line {at} is no JSON object, or too long.", remedy=_REMEDY)
        yield at, whole


def _print(write: Callable[[str], object], value: Json) -> None:
    write(json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n")


# --- what they share --------------------------------------------------------------------------------


def subject_json(subject: Subject) -> Json:
    entry: Json = {"collection": subject.collection, "kind": subject.kind, "key": subject.key}
    if subject.sae:
        entry["sae"] = subject.sae
    if subject.direction is not None:
        values = base64.b64encode(subject.direction.values).decode()
        entry["direction"] = {"space": subject.direction.space, "float32": values}
    return entry


def parse_subject(entry: Json) -> Subject:
    direction = None
    if (given := entry.get("direction")) is not None:
        try:
            values = base64.b64decode(given["float32"], validate=True)
        except binascii.Error as error:
            raise BadText("A direction is no base64.", remedy="Leave it out.") from error
        if len(values) % 4:
            raise BadText("A direction is cut off.", remedy="Leave it out.")
        direction = Direction(line("The space", given["space"], MAX_KEY), values)
    return Subject(entry["collection"], entry["kind"], entry["key"], entry.get("sae", ""), direction)


def _ownership_json(at: Ownership) -> Json:
    return {**asdict(at), "created": at.created.isoformat(), "changed": at.changed.isoformat()}


def _parse_ownership(entry: Json) -> Ownership:
    slug = entry["slug"]
    if not owned.is_slug(slug):
        raise BadText(f'"{slug:.40}" is no address that we make.', remedy="Leave it as it was exported.")
    return Ownership(
        slug,
        number("The revision", entry["revision"]),
        user_name(entry["author"]),
        owned.checked_visibility(entry["visibility"]),
        _moment(entry["created"]),
        _moment(entry["changed"]),
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment.astimezone(UTC)


def _mine(writing: Writing, author: str) -> None:
    add_user(writing.session, author, writing.now)


def _in_order(model: Any, collection: str) -> sa.Select[Any, SubjectRow]:
    """Rows about subjects, with these, in an order that does not depend on the database."""
    chosen = sa.select(model, SubjectRow).join(SubjectRow, SubjectRow.id == model.subject)
    if collection:
        chosen = chosen.where(SubjectRow.collection == collection)
    return chosen.order_by(SubjectRow.collection, SubjectRow.kind, SubjectRow.sae, SubjectRow.key)


def _by_slug(session: Session, model: Any, collection: str) -> Iterable[Any]:
    chosen = sa.select(model).order_by(model.slug)
    return session.scalars(chosen.where(model.collection == collection) if collection else chosen)


# --- kinds ------------------------------------------------------------------------------------------


def _read_labels(session: Session, collection: str) -> Iterator[Json]:
    found: dict[Subject, list[Json]] = {}
    for row, about in session.execute(_in_order(LabelRow, collection).order_by(LabelRow.revision)):
        found.setdefault(as_subject(about), []).append(labels.as_json(labels.as_label(row)) or {})
    for subject, revisions in found.items():
        yield {"subject": subject_json(subject), "revisions": revisions}


def _take_label(writing: Writing, entry: Json) -> tuple[str, str]:
    subject = parse_subject(entry["subject"])
    given = [_parse_label(each) for each in entry["revisions"]]
    if [each.revision for each in given] != list(range(1, len(given) + 1)) or not given:
        raise BadText("The revisions of a label are not 1, 2, 3 and so on.", remedy="Export it again.")
    here = labels.find_history(writing.session, subject)[::-1]
    n_both = min(len(given), len(here))
    if given[:n_both] != here[:n_both]:
        return subject.name, DIFFERING
    if len(given) <= len(here):
        return subject.name, SAME
    at = claim(writing, subject)
    for label in given[n_both:]:
        _mine(writing, label.author)
        writing.session.add(labels.as_row(at, label))
    before = labels.as_json(here[-1]) if here else None
    writing.record("import", subject.name, before, labels.as_json(given[-1]))
    return subject.name, ADDED


def _parse_label(entry: Json) -> HumanLabel:
    said = LabelText(entry["text"], entry["explanation"], entry["verdict"], entry["automatic"]).cleaned()
    at, origin = _moment(entry["at"]), _origin(entry)
    return HumanLabel(number("The revision", entry["revision"]), said, user_name(entry["author"]), at, origin)


def _read_votes(session: Session, collection: str) -> Iterator[Json]:
    for row, about in session.execute(_in_order(VoteRow, collection).order_by(VoteRow.author)):
        yield {
            "subject": subject_json(as_subject(about)), "author": row.author, "text": row.text,
            "value": row.value, "at": row.at.isoformat(),
        }  # fmt: skip


def _take_vote(writing: Writing, entry: Json) -> tuple[str, str]:
    subject, author = parse_subject(entry["subject"]), user_name(entry["author"])
    text, value = line("The label", entry["text"], MAX_NAME, least=1), entry["value"]
    if type(value) is not int or value not in (-1, 1):
        raise BadText("A vote is 1 or -1.", remedy="Leave it out.")
    at = claim(writing, subject)
    row = writing.session.get(VoteRow, (at, author))
    if row is not None:
        return subject.name, SAME if (row.text, row.value) == (text, value) else DIFFERING
    _mine(writing, author)
    moment = _moment(entry["at"])
    writing.session.add(VoteRow(subject=at, author=author, text=text, value=value, at=moment))
    writing.record("import", subject.name, None, {"author": author, "text": text, "value": value})
    return subject.name, ADDED


def _read_notes(session: Session, collection: str) -> Iterator[Json]:
    for row, about in session.execute(_in_order(NoteRow, collection).order_by(NoteRow.slug)):
        at = _ownership_json(owned.ownership(row))
        yield {**at, "subject": subject_json(as_subject(about)), "text": row.text, "origin": row.origin}


def _take_note(writing: Writing, entry: Json) -> tuple[str, str]:
    at, subject = _parse_ownership(entry), parse_subject(entry["subject"])
    note = Note(at, subject, paragraphs("The note", entry["text"], MAX_NOTE, least=1), _origin(entry))
    if (row := writing.session.get(NoteRow, at.slug)) is not None:
        about = load_subjects(writing.session, [row.subject])[row.subject]
        return at.slug, _compared(note, Note(owned.ownership(row), about, row.text, row.origin))
    _mine(writing, at.author)
    about_id = claim(writing, subject)
    writing.session.add(NoteRow(**vars(at), subject=about_id, text=note.text, origin=note.origin))
    writing.record("import", f"note {at.slug}", None, notes.as_json(note))
    return at.slug, ADDED


def _read_lists(session: Session, collection: str) -> Iterator[Json]:
    for row in _by_slug(session, ListRow, collection):
        made = lists.load(session, row)
        yield {
            **_ownership_json(made.at), "collection": row.collection, "sae": row.sae, "name": row.name,
            "description": row.description, "origin": row.origin,
            "entries": [{"subject": subject_json(e.subject), "remark": e.remark} for e in made.said.entries],
        }  # fmt: skip


def _take_list(writing: Writing, entry: Json) -> tuple[str, str]:
    at = _parse_ownership(entry)
    entries = tuple(Entry(parse_subject(each["subject"]), each["remark"]) for each in entry["entries"])
    said = ListText(
        entry["collection"], entry["sae"], entry["name"], entry["description"], entries, at.visibility
    ).cleaned()
    made = FeatureList(at, said, _origin(entry))
    if (row := writing.session.get(ListRow, at.slug)) is not None:
        return at.slug, _compared(made, lists.load(writing.session, row))
    _mine(writing, at.author)
    row = ListRow(
        **vars(at), collection=said.collection, sae=said.sae, name=said.name, description=said.description,
        origin=made.origin,
    )  # fmt: skip
    writing.session.add(row)
    writing.flush()
    lists.add_entries(writing, at.slug, said.entries)
    writing.record("import", f"list {at.slug}", None, lists.as_json(made))
    return at.slug, ADDED


def _read_lenses(session: Session, collection: str) -> Iterator[Json]:
    for row in _by_slug(session, LensRow, collection):
        made = lenses.stored(row)
        moved = with_directions(session, lenses.moved(row.collection, made.lens))
        yield {
            **_ownership_json(made.at), "collection": row.collection, "lens": json.loads(row.moves),
            "origin": row.origin, "moved": [subject_json(each) for each in moved],
        }  # fmt: skip


def _take_lens(writing: Writing, entry: Json) -> tuple[str, str]:
    at, collection = _parse_ownership(entry), line("The collection", entry["collection"], MAX_KEY, least=1)
    lens = moves.parse(json.dumps(entry["lens"]))
    made = StoredLens(at, collection, lens, _origin(entry))
    if (row := writing.session.get(LensRow, at.slug)) is not None:
        return at.slug, _compared(made, lenses.stored(row))
    _mine(writing, at.author)
    for subject in map(parse_subject, entry["moved"]):
        claim(writing, subject)
    printed = lenses.printed(collection, lens)
    writing.session.add(
        LensRow(
            **vars(at), collection=collection, sae=lens.sae, name=lens.name, moves=printed, origin=made.origin
        )
    )
    writing.record("import", f"lens {at.slug}", None, lenses.as_json(made))
    return at.slug, ADDED


def _read_links(session: Session, collection: str) -> Iterator[Json]:
    for row in _by_slug(session, LinkRow, collection):
        made = links.stored(row)
        yield {**_ownership_json(made.at), **{name: getattr(made, name) for name in _OF_A_LINK}}


_OF_A_LINK = ("target", "title", "collection", "sae", "generation")


def _take_link(writing: Writing, entry: Json) -> tuple[str, str]:
    at = _parse_ownership(entry)
    keys = {name: line(f"The {name}", entry[name], MAX_KEY) for name in ("collection", "sae", "generation")}
    made = ShortLink(at, checked_target(entry["target"]), line("The title", entry["title"], MAX_NAME), **keys)
    if (row := writing.session.get(LinkRow, at.slug)) is not None:
        return at.slug, _compared(made, links.stored(row))
    _mine(writing, at.author)
    writing.session.add(LinkRow(**vars(at), **{name: getattr(made, name) for name in _OF_A_LINK}))
    writing.record("import", f"link {at.slug}", None, links.as_json(made))
    return at.slug, ADDED


def _origin(entry: Json) -> str:
    return line("The origin", entry["origin"], 2_000)


def _compared(given: object, here: object) -> str:
    return SAME if given == here else DIFFERING


@dataclass(frozen=True)
class _Room:
    read: Callable[[Session, str], Iterator[Json]]
    take: Callable[[Writing, Json], tuple[str, str]]


_ROOMS = {
    "label": _Room(_read_labels, _take_label),
    "vote": _Room(_read_votes, _take_vote),
    "note": _Room(_read_notes, _take_note),
    "list": _Room(_read_lists, _take_list),
    "lens": _Room(_read_lenses, _take_lens),
    "link": _Room(_read_links, _take_link),
}
