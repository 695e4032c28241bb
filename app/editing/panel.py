"""What people wrote about what a page shows, for the page."""

from __future__ import annotations

import logging

from fastapi import Request

from app.authored import labels
from app.authored.engines import DatabaseError
from app.authored.subjects import Subject
from app.deps import ServedCollection, ServedSAE
from app.editing import subjects
from app.editing.labels import spoken
from app.editing.visitors import get_store
from app.views.editing import Authored
from sae_core.errors import BusyError

log = logging.getLogger("saefari")


def about_feature(
    request: Request, collection: ServedCollection, sae: ServedSAE, latent: int
) -> Authored | None:
    """What people say of a feature; None where nobody may write."""
    if not request.app.state.settings.editing:
        return None
    subject = subjects.feature(collection, sae, latent)
    return _about(request, subject, subjects.automatic_label(sae, subject))


def _about(request: Request, subject: Subject, automatic: str) -> Authored:
    """A database that cannot be asked costs these words, not the page."""
    shown = subjects.subject_view(subject)
    try:
        with get_store(request).read() as session:
            return Authored(shown, spoken(labels.find_history(session, subject), automatic))
    except (DatabaseError, BusyError) as error:
        log.error("What people wrote of %s could not be read: %s", subject.name, error)  # noqa: TRY400
        return Authored(shown, None, problem="What people wrote here cannot be shown at the moment.")
