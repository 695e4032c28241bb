"""What pages show of people: who asks, and forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.authored.access import OpenSession
from app.authored.audit import Record
from app.views.common import Option

VISITOR = "saefari.visitor"  # in the scope of a request, where people may write: the `Visitor`


@dataclass(frozen=True)
class Visitor:
    """Who asks, as every page shows it."""

    name: str  # "" for somebody who has not signed in
    role: str
    may_write: bool
    has_session: bool  # that can be ended here; somebody whom a proxy names has none
    here: str  # the address, to come back to
    linkable: str = ""  # the whole address, for those who may make a short link to it; "": it is none


@dataclass(frozen=True)
class SignInView:
    back: str  # where to go then
    problem: str = ""
    remedy: str = ""
    name: str = ""  # of somebody who is known already
    role: str = ""
    sessions: Sequence[OpenSession] = ()  # theirs


@dataclass(frozen=True)
class AuditView:
    url: str
    user: str
    action: str
    about: str
    records: list[Record]  # latest first
    older_url: str | None


@dataclass(frozen=True)
class SubjectView:
    """What something is written about."""

    collection: str
    kind: str  # "feature", "family", "document"
    sae: str  # "" for documents
    key: str


@dataclass(frozen=True)
class RevisionView:
    """What somebody said of a feature or a family."""

    revision: int  # from 1; 0: nobody said anything yet
    text: str  # "": the automatic label stands, unless it is rejected
    explanation: str
    verdict: str  # on the automatic label: "", "accepted", "rejected"
    automatic: str  # the label that the verdict is on
    author: str
    at: str  # ISO 8601


@dataclass(frozen=True)
class Spoken:
    """What people call a feature or a family, and think of its label."""

    shown: str  # the label that holds: theirs, or the automatic one; "" where that is rejected
    automatic: str  # "" where there is none
    latest: RevisionView
    history: list[RevisionView]  # latest first: the last 1,000, and 20 on a page
    up: int  # how many find the label that holds right
    down: int  # and wrong
    own: int  # what somebody who has signed in said of it: 1, -1, or 0 for nothing


@dataclass(frozen=True)
class NoteView:
    slug: str
    text: str
    author: str
    visibility: str  # "public", "private"
    revision: int
    at: str  # ISO 8601
    may_change: bool


@dataclass(frozen=True)
class Authored:
    """What people wrote about something."""

    subject: SubjectView
    label: Spoken | None  # None for documents
    notes: list[NoteView]  # latest first; private ones only for those who may see them
    problem: str = ""  # why nothing can be said of it
    lists: list[tuple[str, str]] = field(default_factory=list)  # slug and name: one's own, of its SAE


@dataclass(frozen=True)
class FieldView:
    """A field of a form."""

    name: str
    label: str
    kind: str  # "line", "text", "choice"
    value: str
    choices: list[tuple[str, str]]  # value and words
    theirs: str | None = None  # what somebody else has stored there since


@dataclass(frozen=True)
class UnstoredView:
    """A form that could not be stored, with all that was written in it."""

    status: int
    title: str
    message: str
    remedy: str
    action: str
    hidden: list[tuple[str, str]]
    fields: list[FieldView]
    button: str
    back_url: str
    needs_sign_in: bool


@dataclass(frozen=True)
class LinkView:
    """A short link, and what has become of what it leads to."""

    slug: str
    title: str
    address: str  # the short one, with the name of the server
    target: str  # path and query of this server
    collection: str
    sae: str  # whose page it leads to; "": of no SAE
    generation: str  # that was served when it was made
    served: str | None  # the generation that is served now; None: the collection is not there
    state: str  # "same", "changed" (another generation), "no SAE", "no collection"
    instead: list[Option]  # where to go if what it leads to is gone
    author: str
    visibility: str  # "public", "unlisted", "private"
    made: str  # ISO 8601
    may_remove: bool
    url: str
    json_url: str
    about_url: str
    list_url: str | None  # all links into the collection


@dataclass(frozen=True)
class LinksView:
    """The links into a collection that somebody sees in lists."""

    collection: str
    links: list[LinkView]  # the latest first
    has_more: bool
    url: str
    json_url: str


@dataclass(frozen=True)
class LensMoveView:
    words: str
    url: str | None  # of the feature or family; None where it is not here


@dataclass(frozen=True)
class StoredLensView:
    """A stored lens."""

    slug: str
    name: str
    collection: str
    sae: str  # that it was made on
    sae_url: str | None  # None: it is not here any more
    moves: list[LensMoveView]
    searches: list[Option]  # a search with it, on each SAE of the collection
    author: str
    visibility: str  # "public", "unlisted", "private"
    revision: int
    changed: str  # ISO 8601
    origin: str  # where it was carried from, and how near; "": it was made here
    may_change: bool
    text: str  # the lens itself, as JSON to be pasted
    url: str
    json_url: str
    file_url: str  # the text as a file
    list_url: str


@dataclass(frozen=True)
class LensesView:
    """The lenses of a collection that somebody sees in lists."""

    collection: str
    lenses: list[StoredLensView]  # the latest first
    has_more: bool
    url: str
    json_url: str


@dataclass(frozen=True)
class LensChoice:
    """A stored lens beside a search."""

    name: str
    author: str
    n_moves: int
    sae: str
    is_foreign: bool  # another SAE than that of the search
    url: str
    put_on_url: str | None  # the search with it; None where there is no room


@dataclass(frozen=True)
class StoredLenses:
    """What people stored, in the panel of a search."""

    choices: list[LensChoice]
    own: list[tuple[str, str]]  # slug and revision, and name, of those that who asks may store over
    n: int  # how many there are in all
    url: str
    problem: str = ""
