"""Steered search: the query's features as sliders, the documents as a ranking."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response
from numpy.typing import NDArray

from app import lenses, urls
from app.caching import NOT_KEPT
from app.deps import ServedCollection, ServedSAE, add_page, get_library, get_sae, paging, wanted_block
from app.described import About
from app.editing.lenses import offered
from app.formats import JSON, Documents, Files, NothingToList, in_format, kinds, next_page, page_format
from app.observing import KNOWN, stage
from app.pages import page
from app.query import MAX_PAGE, BadParameter, Parameters, SearchQuery, readable
from app.search import facets, moves, panel, results
from app.search.asking import Search, plan
from app.views.search import SearchView
from sae_core.errors import EmbedderNotReady, SaefariError
from sae_core.explorer import SearchAnswer
from sae_core.lenses import BadLens
from sae_core.steer import CancelledQuery

__all__ = ["Search", "answer", "is_search", "plan", "router", "search"]

router = APIRouter()

NOTHING = "There is nothing to search for: say what documents should be about, or raise a strength."
N_RANKED = MAX_PAGE * results.PAGE_SIZE  # as far as pages reach
WITHOUT_MISTAKE = "The panel shows what can be read of this address. Press Search to go on with that."
T = TypeVar("T")
BLOCKS = ("results", "panel", "found")  # of the page, each of which htmx may ask for alone


def is_search(path: str) -> bool:
    """Whether a path is this page, one of its twins or its picture: the requests that cost most."""
    ending = urls.suffix(path)
    return (path.removesuffix(f".{ending}") if ending else path).endswith(("/search", "/search.png"))


async def search(request: Request) -> Response:
    """In a thread, unless only results are wanted and are a sum away, which is quicker than waking one."""
    began = time.perf_counter()
    collection, sae = get_sae(request)
    try:
        parameters = Parameters(request.scope["query_string"])
        query = SearchQuery.read(collection.name, sae.name, parameters, sae.n_latents)
        changed = lenses.asked_for(query, parameters)
    except (BadParameter, BadLens) as error:
        if _wants_part(request):
            raise
        return await run_in_threadpool(_say, request, collection, sae, error, began)
    if changed is not None:
        return RedirectResponse(in_format(request, changed.url()), 303)
    is_embedded = collection.explorer.has_embedded(query.q)
    KNOWN.labels("text", is_embedded).inc()
    if wanted_block(request) != "results" or query.lenses or not is_embedded:
        return await _in_thread(request, _search, request, collection, sae, query, began)
    asked = _plan(request, collection, sae, query, "results")
    is_quick = _is_quick(asked)
    KNOWN.labels("sum", is_quick).inc()
    if is_quick:
        return _answer(request, asked, began)
    return await _in_thread(request, _answer, request, asked, began)


async def _in_thread(request: Request, work: Callable[..., T], *parts: Any) -> T | Response:
    """The work's answer; without beginning it if the browser leaves before a thread is free."""
    answers: list[T | Response] = [Response(status_code=204)]  # to nobody
    failures: list[Exception] = []  # raised outside the group, which would wrap them
    async with anyio.create_task_group() as group:

        async def leave() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(leave)
        try:
            answers.append(await run_in_threadpool(work, *parts))
        except Exception as error:  # noqa: BLE001 (raised again)
            failures.append(error)
        group.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return answers[-1]


async def search_file(request: Request, name: str) -> Documents | Response:
    """As many results as a file may have, from those of the page on: ranks are exact for so many."""
    return await _in_thread(request, _search_file, request, name)


def _search_file(request: Request, name: str) -> Documents | Response:
    del name
    collection, sae = get_sae(request)
    parameters = Parameters(request.scope["query_string"])
    query = SearchQuery.read(collection.name, sae.name, parameters, sae.n_latents)
    changed = lenses.asked_for(query, parameters)
    if changed is not None:
        return RedirectResponse(in_format(request, changed.url()), 303)
    asked = _plan(request, collection, sae, query, "results")
    if isinstance(asked.problem, EmbedderNotReady):
        raise asked.problem
    if asked.problem is not None or asked.x_D is None:
        raise NothingToList(str(asked.problem or NOTHING))
    try:
        found = _rank(asked, asked.x_D, results.words(asked), kinds.RESULTS.cap)
    except CancelledQuery as error:
        raise NothingToList(str(error)) from None
    following = next_page(query.url, query.page, results.PAGE_SIZE, kinds.RESULTS, min(found.total, N_RANKED))
    title = f"{sae.name} {query.q or 'search'}"
    return collection.documents(kinds.RESULTS, title, query.url(), results.listed(asked, found), following)


def _wants_part(request: Request) -> bool:
    return wanted_block(request) is not None or page_format(request) == JSON


def _is_quick(asked: Search) -> bool:
    """Whether only products that are known have to be added up."""
    query = asked.query
    if asked.x_D is None or query.keywords or query.diverse or query.up or query.down:
        return asked.x_D is None
    return asked.collection.explorer.knows(
        asked.sae.name,
        asked.x_D,
        asked.applied,
        filters=facets.filters_of(query),
        required=asked.required,
        excluded=asked.excluded,
    )


def _say(
    request: Request, collection: ServedCollection, sae: ServedSAE, error: SaefariError, began: float
) -> Response:
    """The whole page for an address with a mistake: what can be read of it in the panel, and a sentence."""
    query = readable(collection.name, sae.name, request.scope["query_string"], sae.n_latents)
    asked = _plan(request, collection, sae, query)
    problem = SaefariError(error.what, remedy=f"{error.remedy} {WITHOUT_MISTAKE}")
    asked = replace(asked, problem=problem)
    return page(request, "search", _with_stored(request, asked, answer(asked, began)), status=400)


def _search(
    request: Request, collection: ServedCollection, sae: ServedSAE, query: SearchQuery, began: float
) -> Response:
    block = wanted_block(request)
    block = block if block in BLOCKS else None
    return _answer(request, _plan(request, collection, sae, query, block), began)


def _plan(
    request: Request,
    collection: ServedCollection,
    sae: ServedSAE,
    query: SearchQuery,
    block: str | None = None,
) -> Search:
    with stage("plan"):
        return plan(get_library(request), collection, sae, query, block)


def _answer(request: Request, asked: Search, began: float) -> Response:
    is_waiting = isinstance(asked.problem, EmbedderNotReady) and page_format(request) == JSON
    view = _with_stored(request, asked, answer(asked, began))
    headers = {"Server-Timing": f"rank;dur={1e3 * view.ranking_seconds:.2f}"}
    is_part_away = view.stored is not None and view.stored.problem
    if isinstance(asked.problem, EmbedderNotReady) or results.is_hurried(view) or is_part_away:
        headers |= NOT_KEPT
    with stage("write"):
        return page(request, "search", view, status=503 if is_waiting else 200, headers=headers)


def _with_stored(request: Request, asked: Search, view: SearchView) -> SearchView:
    """With the lenses that people stored, where the panel is shown."""
    if not asked.wants("panel"):
        return view
    return replace(view, stored=offered(request, asked.collection, asked.query))


def answer(asked: Search, began: float) -> SearchView:
    """Everything that the wanted block shows; the parts of other blocks stay empty."""
    if asked.problem is not None:
        return _view(asked, None, began, message=str(asked.problem))
    if not asked.wants("results"):
        return _view(asked, None, began)
    if asked.x_D is None:
        return _view(asked, None, began, message=NOTHING if asked.query.steering() else None)
    words = results.words(asked)
    try:
        ranking_began = time.perf_counter()
        with stage("rank"):
            found = _rank(asked, asked.x_D, words)
        ranking_seconds = time.perf_counter() - ranking_began
    except CancelledQuery as error:
        return _view(asked, None, began, message=str(error))
    with stage("say"):
        shown = results.show(asked, asked.x_D, found, words)
        view = _view(asked, found, began, message=results.message(asked, found), shown=shown)
    return replace(view, ranking_seconds=ranking_seconds)


def _rank(
    asked: Search, x_D: NDArray[np.float32], words: results.Words, limit: int = results.PAGE_SIZE
) -> SearchAnswer:
    query, explorer = asked.query, asked.collection.explorer
    demands: dict[str, Any] = {
        "filters": facets.filters_of(query),
        "required": asked.required,
        "excluded": asked.excluded,
        "diverse": query.diverse,
        "offset": (query.page - 1) * results.PAGE_SIZE,
        "limit": limit,
    }
    name, moves = asked.sae.name, asked.applied
    if asked.by_words is not None:
        return explorer.search_words(name, x_D, moves, words=asked.by_words.positions, **demands)
    return explorer.search(name, x_D, moves, keywords=words.positions, weight=query.keywords, **demands)


def _view(
    asked: Search,
    found: SearchAnswer | None,
    began: float,
    *,
    message: str | None = None,
    shown: results.Shown | None = None,
) -> SearchView:
    query, collection, sae = asked.query, asked.collection, asked.sae
    is_panel, is_found = asked.wants("panel"), asked.wants("found") or asked.wants("panel")
    sliders = panel.sliders(asked) if is_panel else []
    url = query.url()
    total = 0 if found is None else found.total
    edit = None if found is None else found.edit
    refined = None if edit is None else edit.refined
    return SearchView(
        collection=collection.name,
        sae=sae.name,
        q=query.q,
        is_steered=asked.is_steered,
        has_query=asked.code is not None,
        phrases=list(panel.PHRASES),
        sliders=[slider for slider, is_shown in sliders if is_shown],
        more_sliders=[slider for slider, is_shown in sliders if not is_shown],
        families=panel.families(asked) if is_panel else [],
        moves=moves.chips(asked, edit),
        lenses=panel.lens_views(asked) if is_panel else [],
        keep=query.keep,
        refine=query.refine,
        refined=None if refined is None else (refined.before, refined.after),
        found=panel.found(asked) if is_found else [],
        found_families=panel.found_families(asked) if is_found else [],
        found_note=panel.found_note(asked) if is_found else None,
        find=query.find,
        cosine=1.0 if edit is None else edit.cosine,
        page=None
        if found is None
        else paging(query.page, results.PAGE_SIZE, total, lambda n: query.url(page=n)),
        years=(query.year_min, query.year_max),
        year_bounds=collection.year_bounds,
        examples=collection.examples[sae.name],
        reset_url=moves.reset_url(query),
        url=url,
        json_url=urls.json(url),
        message=message,
        keywords=query.keywords,
        diverse=query.diverse,
        is_by_words=asked.by_words is not None,
        text_problem=_text_problem(asked),
        **vars(shown or results.nothing(asked)),
        ranking_seconds=0.0,
        seconds=time.perf_counter() - began,
    )


def _text_problem(asked: Search) -> str | None:
    """Why texts are not searched by meaning: this one, or any."""
    if asked.by_words is not None:
        return asked.by_words.why
    is_known = asked.query.q and asked.code is not None
    return None if is_known else asked.collection.explorer.text_problem


add_page(
    router,
    "/{collection}/{sae}/search",
    search,
    Files({"results": kinds.RESULTS}, search_file),
    About(
        "search",
        "Search",
        "Documents by meaning, steered by features; everything that the page of a search shows.",
        SearchView,
        lambda parameters: SearchQuery.read("", "", parameters, 1),
        {"q": "{words}", "f": "{latent}:+0.40"},
    ),
)
