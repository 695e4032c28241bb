"""Steered search: the query's features as sliders, the documents as a ranking."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from numpy.typing import NDArray

from app import urls
from app.deps import N_VENUES, ServedCollection, ServedSAE, add_page, get_sae, paging, wanted_block
from app.pages import page
from app.query import MAX_PAGE, SearchQuery, as_strength
from app.views import FeatureChip, FeatureRow, Option, ResultRow, SearchView, Slider
from sae_core.errors import EmbedderNotReady
from sae_core.explorer import Code, SearchAnswer
from sae_core.features import QUANTILES

router = APIRouter()

PAGE_SIZE = 10
N_SLIDERS = 10
N_SHARED = 4
N_FOUND = 12
BLOCKS = ("results", "panel", "found")  # of the page, each of which htmx may ask for alone
HEADROOM = 1.25  # a slider reaches so far beyond the feature's maximum
NOTCHES = 10  # of a slider's whole range
STEP = 0.001  # the precision in which strengths are printed, so that no browser rounds one
SMALLEST_HIGH = 0.01  # the range of a feature that never fires
ADDED_QUANTILE = QUANTILES.index(0.75)  # an added feature begins at a strong but usual activation
NO_LENGTH = 1e-6  # strengths that cancel each other leave no direction to search in


@dataclass(frozen=True)
class Search:
    """What is asked, and what follows from it before any document is looked at."""

    collection: ServedCollection
    sae: ServedSAE
    query: SearchQuery  # without strengths that equal the query's own
    code: Code | None  # of the words; None if there are none
    moves: dict[int, float]  # the strengths that differ from the query's own
    block: str | None

    @property
    def own(self) -> dict[int, float]:
        return {} if self.code is None else self.code.own

    def wants(self, block: str) -> bool:
        return self.block is None or self.block == block


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


def plan(
    collection: ServedCollection,
    sae: ServedSAE,
    query: SearchQuery,
    code: Code | None,
    block: str | None = None,
) -> Search:
    """Tell moves from strengths that only repeat, as printed, what the query has anyway."""
    own = {latent: as_strength(value) for latent, value in code.own.items()} if code else {}
    kept = tuple((latent, value) for latent, value in query.strengths if own.get(latent) != value)
    moves = {latent: value for latent, value in kept if own.get(latent, 0.0) != value}
    return Search(collection, sae, replace(query, strengths=kept), code, moves, block)


def answer(asked: Search, began: float) -> SearchView:
    """Everything that the wanted block shows; the parts of other blocks stay empty."""
    query = asked.query
    if not asked.wants("results"):
        return _view(asked, None, began)
    # Without words, the features that are set are the query.
    x_D = asked.code.x_D if asked.code else _direction(asked.sae, asked.moves)
    if x_D is None:
        message = "These strengths leave nothing to search for: raise one of them."
        return _view(asked, None, began, message=message if query.strengths else None)
    explorer = asked.collection.explorer
    moves = asked.moves if asked.code else {}
    allowed = asked.collection.allowed(query.year_min, query.year_max, query.venues)
    offset = (query.page - 1) * PAGE_SIZE
    found = explorer.search(asked.sae.name, x_D, moves, allowed=allowed, offset=offset, limit=PAGE_SIZE)
    best = found
    if offset and len(found.hits.scores):
        best = explorer.search(asked.sae.name, x_D, moves, allowed=allowed, offset=0, limit=1)
    top_score = float(best.hits.scores[0]) if len(best.hits.scores) else 1.0
    results = _results(asked, found, top_score)
    return _view(asked, found, began, message=_message(asked, found), results=results)


def _direction(sae: ServedSAE, strengths: dict[int, float]) -> NDArray[np.float32] | None:
    """The unit sum of s_i d_i, (D,); None if there is none."""
    if not strengths:
        return None
    weights = np.fromiter(strengths.values(), dtype=np.float32)
    summed_D = weights @ sae.directions_ND[list(strengths)]
    length = float(np.linalg.norm(summed_D))
    return (summed_D / length).astype(np.float32) if length > NO_LENGTH else None


def _message(asked: Search, found: SearchAnswer) -> str | None:
    query = asked.query
    if found.total == 0:
        known = set(asked.collection.explorer.venues)
        unknown = [venue for venue in query.venues if venue not in known]
        if unknown:
            return f'No document here has the venue "{unknown[0]}". Clear it, or choose another.'
        return "No document passes these filters. Widen the years or clear the venues."
    if not len(found.hits.positions):
        last = min(MAX_PAGE, math.ceil(found.total / PAGE_SIZE))
        return f"There is no page {query.page:,}: the results end on page {last:,}."
    if not query.q:
        return "There are no words in this search: documents are ranked by the features alone."
    return None


def _results(asked: Search, found: SearchAnswer, top_score: float) -> list[ResultRow]:
    sae, first = asked.sae, (asked.query.page - 1) * PAGE_SIZE
    positions = found.hits.positions.tolist()
    scores = found.hits.scores.tolist()
    ranks = None if found.baseline_ranks is None else found.baseline_ranks.tolist()
    steered = {latent: value for latent, value in {**asked.own, **asked.moves}.items() if value > 0}
    return [
        ResultRow(
            rank=first + at + 1,
            document=card,
            score=scores[at],
            bar=min(1.0, max(0.0, scores[at] / top_score)) if top_score > 0 else 0.0,
            shared=_shared(sae, steered, card.position),
            moved=None if ranks is None else ranks[at] - (first + at),
        )
        for at, card in enumerate(asked.collection.cards(positions, sae))
    ]


def _shared(sae: ServedSAE, steered: dict[int, float], position: int) -> tuple[FeatureChip, ...]:
    """The features that the steered query and a document both have, by the product of their activations."""
    latents, values = sae.set.codes.of_document(position)
    pairs = zip(latents.tolist(), values.tolist(), strict=True)
    both = [(steered[latent] * value, latent, value) for latent, value in pairs if latent in steered]
    both.sort(key=lambda found: -found[0])
    return tuple(sae.chip(latent, value) for _, latent, value in both[:N_SHARED])


def _view(
    asked: Search,
    found: SearchAnswer | None,
    began: float,
    *,
    message: str | None = None,
    results: list[ResultRow] | None = None,
) -> SearchView:
    query, collection, sae = asked.query, asked.collection, asked.sae
    sliders = _sliders(asked) if asked.wants("panel") else []
    url = query.url()
    total = 0 if found is None else found.total
    return SearchView(
        collection=collection.name,
        sae=sae.name,
        q=query.q,
        is_steered=bool(asked.moves),
        sliders=[slider for slider, is_shown in sliders if is_shown],
        more_sliders=[slider for slider, is_shown in sliders if not is_shown],
        moves=[_move(asked, latent, value) for latent, value in asked.moves.items()],
        found=_found(asked) if asked.wants("found") or asked.wants("panel") else [],
        find=query.find,
        cosine=1.0 if found is None else found.cosine,
        explained=None if found is None or asked.code is None else found.explained,
        results=results or [],
        page=None if found is None else paging(query.page, PAGE_SIZE, total, lambda n: query.url(page=n)),
        years=(query.year_min, query.year_max),
        year_bounds=collection.year_bounds,
        venues=_venues(asked) if asked.wants("panel") else [],
        examples=collection.examples[sae.name],
        reset_url=query.url(strengths=(), page=1),
        url=url,
        json_url=urls.json(url),
        message=message,
        seconds=time.perf_counter() - began,
    )


# --- the panel ------------------------------------------------------------------------------------


def _sliders(asked: Search) -> list[tuple[Slider, bool]]:
    """The added features, then the query's by what they explain of it; and whether each is unfolded.

    What a person has added or moved is never folded away.
    """
    strengths, own = dict(asked.query.strengths), asked.own
    added = [
        (_slider(asked, latent, value), True) for latent, value in strengths.items() if latent not in own
    ]
    return added + [
        (_slider(asked, latent, strengths.get(latent)), at < N_SLIDERS or latent in strengths)
        for at, latent in enumerate(own)
    ]


def _slider(asked: Search, latent: int, strength: float | None) -> Slider:
    sae, query = asked.sae, asked.query
    is_added = latent not in asked.own
    own = as_strength(asked.own.get(latent, 0.0))
    value = own if strength is None else strength
    reach = max(sae.maxima[latent] * HEADROOM, abs(value), own, SMALLEST_HIGH)
    high = math.ceil(reach / STEP - NO_LENGTH) * STEP
    high = as_strength(high)
    notch = 2 * high / NOTCHES
    own_url = query.url_with(latent, own) if is_added else query.url_without(latent)

    def url_at(wanted: float) -> str:
        is_own = as_strength(wanted) == own and not is_added
        return own_url if is_own else query.url_with(latent, wanted)

    return Slider(
        latent=latent,
        label=sae.texts[latent],
        trust=sae.labels[latent].trust,
        url=sae.urls[latent],
        own=own,
        strength=value,
        is_moved=value != own,
        is_added=is_added,
        low=-high,
        high=high,
        step=STEP,
        n_documents=sae.fires[latent],
        histogram=sae.histogram(latent, marker=own),
        reset_url=own_url,
        remove_url=query.url_without(latent) if is_added else None,
        zero_url=url_at(0.0) if value else None,
        weaker_url=url_at(max(-high, value - notch)),
        stronger_url=url_at(min(high, value + notch)),
    )


def _move(asked: Search, latent: int, value: float) -> tuple[str, str, str]:
    own, label = as_strength(asked.own.get(latent, 0.0)), asked.sae.texts[latent]
    if value < 0:
        words = f"against {label}"
    elif value == 0:
        words = f"without {label}"
    else:
        words = f"{'more' if value > own else 'less'} {label}"
    return words, f"{_printed(own)} → {_printed(value)}", asked.query.url_without(latent)


def _printed(strength: float) -> str:
    return urls.decimals(strength).removeprefix("+").replace("-", "\N{MINUS SIGN}")


def _found(asked: Search) -> list[tuple[FeatureRow, str]]:
    """Features with the words of `find`, and the address that adds each at a strength typical of it."""
    query, sae = asked.query, asked.sae
    if not query.find:
        return []
    latents = asked.collection.catalog.find_features(sae.name, query.find, N_FOUND)
    quantiles_NQ = sae.set.features.quantiles_NQ
    asking = replace(query, find="")
    return [
        (sae.row(latent), asking.url_with(latent, max(STEP, float(quantiles_NQ[latent, ADDED_QUANTILE]))))
        for latent in latents
    ]


def _venues(asked: Search) -> list[Option]:
    """The largest venues, and those that are chosen."""
    query, sizes = asked.query, asked.collection.venue_sizes
    shown = sizes[:N_VENUES]
    names = {name for name, _ in shown}
    shown = shown + [(name, dict(sizes).get(name, 0)) for name in query.venues if name not in names]
    return [_venue(query, name, count) for name, count in shown]


def _venue(query: SearchQuery, name: str, count: int) -> Option:
    is_chosen = name in query.venues
    venues = tuple(v for v in query.venues if v != name) if is_chosen else (*query.venues, name)
    return Option(name, name, query.url(venues=venues, page=1), is_chosen, count)


add_page(router, "/{collection}/{sae}/search", search)
