"""What a form, or a page, is about."""

from __future__ import annotations

from fastapi import Request

from app import urls
from app.authored import subjects
from app.authored.carrying import direction_of
from app.authored.subjects import Subject
from app.called import automatic_text
from app.deps import ServedCollection, ServedSAE, get_library
from app.editing.forms import Form
from app.query import integer
from app.views.editing import SubjectView
from sae_core.errors import NotFoundError


def feature(collection: ServedCollection, sae: ServedSAE, latent: int) -> Subject:
    direction = direction_of(collection.explorer, sae.name, latent)
    return subjects.feature(collection.name, sae.name, latent, direction)


def family(collection: ServedCollection, sae: ServedSAE, root: int) -> Subject:
    direction = direction_of(collection.explorer, sae.name, root)
    return subjects.family(collection.name, sae.name, root, direction)


def automatic_label(sae: ServedSAE, subject: Subject) -> str:
    """The label that a build gave to a feature or family, as a verdict keeps it; "" for none."""
    latent = subject.latent
    return automatic_text(sae.labels[latent] if subject.kind == "feature" else sae.forest.labels[latent])


def subject_of(request: Request, form: Form) -> Subject:
    """What a form is about; `NotFoundError` for what is not there, `BadParameter` for no number."""
    collection = get_library(request).collection(form["collection"])
    if form["kind"] == "document":
        if collection.catalog.find_position(form["key"].replace("\0", "")) is None:
            raise NotFoundError("There is no such document.", remedy="It may have gone with a new build.")
        return subjects.document(collection.name, form["key"])
    sae = collection.sae(form["sae"])
    latent = integer("feature", form["key"], 0, sae.n_latents - 1)
    if form["kind"] == "feature":
        return feature(collection, sae, latent)
    if form["kind"] != "family" or latent not in sae.forest.families:
        raise NotFoundError("There is no such family.", remedy="It may have gone with a new build.")
    return family(collection, sae, latent)


def page_of(form: Form) -> str:
    """Where a form was sent from, whether or not that is there still."""
    if not form["collection"]:
        return urls.home()
    if form["kind"] == "document":
        return urls.document(form["collection"], form["key"])
    if not form["key"].isdecimal() or not form["sae"]:
        return urls.collection(form["collection"])
    made = urls.family if form["kind"] == "family" else urls.feature
    return made(form["collection"], form["sae"], int(form["key"][:20]))


def subject_view(subject: Subject) -> SubjectView:
    return SubjectView(subject.collection, subject.kind, subject.sae, subject.key)
