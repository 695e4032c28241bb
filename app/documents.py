"""The page of one document: what it says, which features it has, what is near it."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import urls
from app.deps import (
    PageNotFound,
    ServedCollection,
    ServedSAE,
    add_page,
    document_card,
    get_collection,
    link,
    shorten,
)
from app.described import About
from app.editing.panel import about_document, not_kept
from app.formats import Documents, Files, Table, kinds
from app.pages import page
from app.query import Parameters, SearchQuery, clean
from app.views.common import DocumentCard, FeatureChip, Option
from app.views.library import DocumentView

router = APIRouter()

N_NEIGHBOURS = 10
MAX_NEIGHBOURS = 1_000  # of a file
N_SUGGESTIONS = 8
MAX_ID = 1_000
MAX_NAME = 200


def document(request: Request) -> Response:
    view = document_view(*_asked_for(request))
    authored = about_document(request, view.collection, view.document.id)
    headers = not_kept(authored)
    return page(request, "document", replace(view, authored=authored), headers=headers)


def _asked_for(request: Request) -> tuple[ServedCollection, ServedSAE | None, int]:
    """The collection, the SAE of the fingerprint, and the document's position."""
    collection = get_collection(request)
    parameters = Parameters(request.scope["query_string"])
    chosen = _sae_of(parameters)
    sae = collection.sae(chosen) if chosen else collection.default
    wanted = request.path_params.get("document") or _id_of(parameters)
    position = collection.catalog.find_position(wanted.replace("\0", ""))
    if position is None:
        raise _not_found(collection, clean(wanted), request.path_params.get("format", ""))
    return collection, sae, position


def _sae_of(parameters: Parameters) -> str:
    return parameters.text("sae", MAX_NAME)


def _id_of(parameters: Parameters) -> str:
    return parameters.text("id", MAX_ID)


def document_view(collection: ServedCollection, sae: ServedSAE | None, position: int) -> DocumentView:
    explorer = collection.explorer
    found = collection.catalog.documents([position])[0]
    url = collection.document_url(found.id, sae)
    return DocumentView(
        collection=collection.name,
        sae=sae.name if sae else None,
        document=document_card(position, found, url),
        categories=found.categories.split(),
        fingerprint=_fingerprint(sae, position),
        explained=explorer.code(sae.name, explorer.vector(position)).explained if sae else None,
        neighbours=_neighbours(collection, sae, position),
        steer_url=SearchQuery(collection.name, sae.name, like=(found.id,)).url() if sae else None,
        saes=[
            Option(other.name, other.name, collection.document_url(found.id, other), other is sae)
            for other in collection.saes.values()
        ],
        url=url,
        json_url=urls.json(url),
    )


def _neighbours(
    collection: ServedCollection, sae: ServedSAE | None, position: int
) -> list[tuple[DocumentCard, float]]:
    hits = collection.explorer.neighbours(position, N_NEIGHBOURS)
    cards = collection.cards(hits.positions.tolist(), sae, with_chips=True)
    return list(zip(cards, hits.scores.tolist(), strict=True))


def document_file(request: Request, name: str) -> Table | Documents:
    """The document itself, its nearest, or its features."""
    collection, sae, position = _asked_for(request)
    found = collection.catalog.documents([position])[0]
    url = collection.document_url(found.id, sae)
    if name == "features":
        rows = [kinds.fingerprint_row(chip) for chip in _fingerprint(sae, position)]
        return collection.table(kinds.FINGERPRINT, f"{found.id} features", url, iter([rows]))
    if name == "document":
        itself = collection.listed([position], sae, lambda _: ())
        return collection.documents(kinds.DOCUMENT, found.id, url, itself)
    hits = collection.explorer.neighbours(position, MAX_NEIGHBOURS)
    scores = hits.scores.tolist()
    batches = collection.listed(hits.positions.tolist(), sae, lambda at: (at + 1, scores[at]))
    return collection.documents(kinds.NEAREST, f"{found.id} neighbours", url, batches)


def _fingerprint(sae: ServedSAE | None, position: int) -> list[FeatureChip]:
    return sae.chips_of(position, most=sae.n_latents) if sae else []


def _not_found(collection: ServedCollection, wanted: str, suffix: str) -> PageNotFound:
    similar = collection.catalog.find_documents(wanted, N_SUGGESTIONS)
    suggestions = [link(title, urls.document(collection.name, found)) for found, title in similar]
    meant = f"{wanted}.{suffix}"  # an id that ends like a format, written into the path
    if suffix and collection.catalog.find_position(meant) is not None:
        suggestions.insert(0, link(meant, urls.document(collection.name, meant)))
    what = f'There is no document "{shorten(wanted)}" in {collection.name}.'
    return PageNotFound(
        what if wanted else "This address names no document.",
        remedy="It may have another id, or not be part of this collection.",
        suggestions=[*suggestions, link(collection.card.title, collection.card.url)],
    )


FILES = Files(
    {"document": kinds.DOCUMENT, "neighbours": kinds.NEAREST, "features": kinds.FINGERPRINT}, document_file
)

# The bare path takes the id as a parameter: for ids that a path cannot carry, see `urls.document`.
add_page(
    router,
    "/{collection}/documents",
    document,
    FILES,
    About(
        "document_by_id",
        "Documents",
        "The same for any id, also one with characters that a path cannot carry.",
        DocumentView,
        lambda parameters: (_id_of(parameters), _sae_of(parameters)),
        {"id": "{document}"},
    ),
)
add_page(
    router,
    "/{collection}/documents/{document:path}",
    document,
    FILES,
    About(
        "document",
        "Documents",
        "A document, its features, and the documents nearest to it.",
        DocumentView,
        _sae_of,
    ),
)
