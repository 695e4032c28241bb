"""What people wrote about what a page shows, for the page."""

from __future__ import annotations

import logging

from fastapi import Request

from app import formats
from app.authored import labels, lists, notes
from app.authored import subjects as authored_subjects
from app.authored.engines import DatabaseError
from app.authored.lists import FeatureList
from app.authored.store import Actor
from app.authored.subjects import Subject
from app.authored.texts import BadText
from app.caching import NOT_KEPT
from app.deps import ServedCollection, ServedSAE
from app.editing import subjects
from app.editing.labels import shown_label, spoken
from app.editing.notes import note_view
from app.editing.visitors import find_actor, get_store
from app.views.editing import Authored
from sae_core.errors import BusyError

log = logging.getLogger("saefari")

MAX_SHOWN = 20  # revisions of a label on a page
MAX_IN_JSON = 1_000


def about_feature(
    request: Request, collection: ServedCollection, sae: ServedSAE, latent: int
) -> Authored | None:
    """What people say of a feature; None where nobody may write."""
    if not request.app.state.settings.editing:
        return None
    subject = subjects.feature(collection, sae, latent)
    return _about(request, subject, subjects.automatic_label(sae, subject))


def about_family(
    request: Request, collection: ServedCollection, sae: ServedSAE, root: int
) -> Authored | None:
    """What people say of a family as it was built; None where nobody may write."""
    if not request.app.state.settings.editing:
        return None
    subject = subjects.family(collection, sae, root)
    return _about(request, subject, subjects.automatic_label(sae, subject))


def about_document(request: Request, collection: str, document: str) -> Authored | None:
    """The notes on a document; None where nobody may write, or its id is too odd to be written about."""
    if not request.app.state.settings.editing:
        return None
    try:
        return _about(request, authored_subjects.document(collection, document))
    except BadText:
        return None


def _own_lists(found: list[FeatureList], subject: Subject, viewer: Actor) -> list[tuple[str, str]]:
    """Slugs and names of the lists to which somebody may add a feature."""
    return [
        (each.at.slug, each.said.name)
        for each in found
        if (each.at.author, each.said.sae) == (viewer.name, subject.sae)
    ]


def not_kept(authored: Authored | None) -> dict[str, str] | None:
    """The headers of a page that says nothing now of what was written, and may in a moment."""
    return NOT_KEPT if authored is not None and authored.problem else None


def _about(request: Request, subject: Subject, automatic: str = "") -> Authored:
    """A database that cannot be asked costs these words, not the page."""
    shown, viewer = subjects.subject_view(subject), find_actor(request)
    try:
        with get_store(request).read() as session:
            found = [note_view(note, viewer) for note in notes.find_notes(session, subject, viewer)]
            if subject.kind == "document":
                return Authored(shown, None, found)
            is_json = formats.page_format(request) == formats.JSON
            history = labels.find_history(session, subject, MAX_IN_JSON if is_json else MAX_SHOWN)
            holds = {subject: shown_label(history, automatic)}
            votes = labels.count_votes(session, holds, viewer.name if viewer else "")[subject]
            own = []
            if viewer is not None and subject.kind == "feature":
                own = _own_lists(lists.find_lists(session, subject.collection, viewer), subject, viewer)
            return Authored(shown, spoken(history, automatic, votes), found, lists=own)
    except (DatabaseError, BusyError) as error:
        log.error("What people wrote of %s could not be read: %s", subject.name, error)  # noqa: TRY400
        return Authored(shown, None, [], problem="What people wrote here cannot be shown at the moment.")
