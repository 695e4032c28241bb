"""Steered search: the query's features as sliders, the documents as a ranking."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from app import urls
from app.deps import ServedCollection, ServedSAE, add_page, get_sae, paging, wanted_block
from app.pages import page
from app.query import SearchQuery
from app.search import panel, results
from app.search.asking import Search, direction, plan
from app.views import ResultRow, SearchView
from sae_core.errors import EmbedderNotReady
from sae_core.explorer import SearchAnswer
from sae_core.filters import Filters
from sae_core.steer import CancelledQuery, Moves

__all__ = ["Search", "is_search", "plan", "router", "search"]

router = APIRouter()

BLOCKS = ("results", "panel", "found")  # of the page, each of which htmx may ask for alone


def is_search(path: str) -> bool:
    """Whether a path is this page or its twin: the requests that cost most."""
    return path.endswith(("/search", "/search.json"))


async def search(request: Request) -> Response:
    """In a thread, unless only results are wanted and are a sum away, which is quicker than waking one."""
    began = time.perf_counter()
    collection, sae = get_sae(request)
    query = SearchQuery.parse(collection.name, sae.name, request.scope["query_string"], sae.n_latents)
    latents = [latent for latent, _ in query.strengths]
    if wanted_block(request) == "results" and collection.explorer.knows(sae.name, query.q, latents):
        return _search(request, collection, sae, query, began)
    return await run_in_threadpool(_search, request, collection, sae, query, began)


def _search(
    request: Request, collection: ServedCollection, sae: ServedSAE, query: SearchQuery, began: float
) -> Response:
    block = wanted_block(request)
    block = block if block in BLOCKS else None
    try:
        explorer = collection.explorer
        code = explorer.code(sae.name, explorer.embed(query.q)) if query.q else None
    except EmbedderNotReady as error:
        asked = Search(collection, sae, query, None, dict(query.strengths), block)
        is_json = request.scope["path"].endswith(".json")
        view = _view(asked, None, began, message=str(error))
        return page(request, "search", view, status=503 if is_json else 200)
    return page(request, "search", answer(plan(collection, sae, query, code, block), began))


def answer(asked: Search, began: float) -> SearchView:
    """Everything that the wanted block shows; the parts of other blocks stay empty."""
    query = asked.query
    if not asked.wants("results"):
        return _view(asked, None, began)
    # Without words, the features that are set are the query.
    x_D = asked.code.x_D if asked.code else direction(asked.sae, asked.moves)
    if x_D is None:
        message = "These strengths leave nothing to search for: raise one of them."
        return _view(asked, None, began, message=message if query.strengths else None)
    explorer = asked.collection.explorer
    moves = asked.moves if asked.code else {}
    filters = Filters(query.year_min, query.year_max, query.venues)
    offset = (query.page - 1) * results.PAGE_SIZE
    try:
        found = explorer.search(
            asked.sae.name, x_D, Moves(moves), filters=filters, offset=offset, limit=results.PAGE_SIZE
        )
    except CancelledQuery as error:
        return _view(asked, None, began, message=str(error))
    rows = results.rows(asked, found)
    return _view(asked, found, began, message=results.message(asked, found), rows=rows)


def _view(
    asked: Search,
    found: SearchAnswer | None,
    began: float,
    *,
    message: str | None = None,
    rows: list[ResultRow] | None = None,
) -> SearchView:
    query, collection, sae = asked.query, asked.collection, asked.sae
    sliders = panel.sliders(asked) if asked.wants("panel") else []
    url = query.url()
    total = 0 if found is None else found.total
    return SearchView(
        collection=collection.name,
        sae=sae.name,
        q=query.q,
        is_steered=bool(asked.moves),
        sliders=[slider for slider, is_shown in sliders if is_shown],
        more_sliders=[slider for slider, is_shown in sliders if not is_shown],
        moves=[panel.move(asked, latent, value) for latent, value in asked.moves.items()],
        found=panel.found(asked) if asked.wants("found") or asked.wants("panel") else [],
        find=query.find,
        cosine=1.0 if found is None else found.edit.cosine,
        explained=None if found is None or asked.code is None else found.explained,
        results=rows or [],
        page=None
        if found is None
        else paging(query.page, results.PAGE_SIZE, total, lambda n: query.url(page=n)),
        years=(query.year_min, query.year_max),
        year_bounds=collection.year_bounds,
        venues=results.venues(asked) if asked.wants("panel") else [],
        examples=collection.examples[sae.name],
        reset_url=query.url(strengths=(), page=1),
        url=url,
        json_url=urls.json(url),
        message=message,
        seconds=time.perf_counter() - began,
    )


add_page(router, "/{collection}/{sae}/search", search)
