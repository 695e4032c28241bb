"""The families of an SAE: the map of the forest, what it is worth, and the form that grows another."""

from __future__ import annotations

import math
from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from app import urls
from app.deps import ServedCollection, ServedSAE, add_page, get_sae, paging, wanted_block
from app.described import About, read_families
from app.forest import ServedForest, definition, finite, measures
from app.formats import Files, Table, batched, kinds, next_page
from app.growing import Growing, get_grower, growing_page
from app.pages import page
from app.query import (
    AREAS,
    COLOURS,
    FAMILY_NUMBERS,
    FAMILY_SORTS,
    MANY,
    FamilyQuery,
    base_config,
    used_by,
)
from app.views.common import Option
from app.views.families import FamilyCard, FamilyListView, Parameter, SizeBand
from sae_core.families import Family, FamilyConfig
from sae_core.families.model import EDGES

router = APIRouter()

LIST_SIZE = kinds.FAMILIES_A_PAGE
N_RANKED = 5  # best and worst
N_MAIN = 4  # parameters that are not folded

_SORT_TEXTS = {
    "size": "Features",
    "score": "Label score",
    "hub": "R",
    "block": "Inside / outside",
    "documents": "Documents",
}
_AREA_TEXTS = {"features": "features", "documents": "documents"}
_COLOUR_TEXTS = {"score": "label score", "hub": "R"}
_ALGORITHM_TEXTS = {"paper": "The paper's", "lift": "By lift", "nesting": "From the nesting"}
_EDGE_TEXTS = {
    "parent": "P(denser fires | sparser fires)",
    "child": "P(sparser fires | denser fires)",
}
# Name, what it does, and the step of its field.
_PARAMETERS: dict[str, tuple[str, str, float]] = {
    "threshold": (
        "Threshold",
        "Least share of documents that two features have in common.",
        0.01,
    ),
    "min_size": ("Smallest family", "Features, the root included.", 1),
    "max_size": ("Largest family", "Features; larger ones are cut.", 1),
    "max_density": ("Densest feature", "Share of documents; denser features join nothing.", 0.01),
    "min_together": ("Together on", "Documents on which both ends of an edge fire.", 1),
    "min_lift": ("Least lift", "Times as often as independent features would.", 0.1),
    "min_z": ("Least surprise", "Standard deviations above independence.", 0.5),
    "edge": ("Weight of an edge", "Which of the two conditionals.", 0),
    "min_children": ("Children of a root", "At least so many.", 1),
    "n_iterations": ("Rounds", "How often roots are removed and the forest grown again.", 1),
    "max_jaccard": ("Overlap", "Of two families that share more, the smaller is left out.", 0.05),
}


async def families(request: Request) -> Response:
    """In a thread: a map of a large forest takes tens of milliseconds."""
    collection, sae = get_sae(request)
    query = FamilyQuery.parse(
        collection.name, sae.name, request.scope["query_string"], sae.forest.config, sae.algorithms
    )
    forest = await get_grower(request).forest(sae, query.config)
    if isinstance(forest, Growing):
        return growing_page(request, query, forest, wanted_block(request) or "main")
    return await run_in_threadpool(_families, request, collection, sae, forest, query)


async def family_file(request: Request, name: str) -> Table | Response:
    """As many families as a file may have, from those of the page on."""
    del name
    collection, sae = get_sae(request)
    query = FamilyQuery.parse(
        collection.name, sae.name, request.scope["query_string"], sae.forest.config, sae.algorithms
    )
    forest = await get_grower(request).forest(sae, query.config)
    if isinstance(forest, Growing):
        return growing_page(request, query, forest, "main")
    ordered = sorted(forest.families.values(), key=_order(forest, query.sort))
    first = (query.page - 1) * LIST_SIZE
    batches = (
        [kinds.family_row(forest.card(family)) for family in some]
        for some in batched(ordered[first : first + kinds.FAMILIES.cap])
    )
    following = next_page(query.url, query.page, LIST_SIZE, kinds.FAMILIES, len(ordered))
    return collection.table(kinds.FAMILIES, f"{sae.name} families", query.url(), batches, following)


def _families(
    request: Request, collection: ServedCollection, sae: ServedSAE, forest: ServedForest, query: FamilyQuery
) -> Response:
    ordered = sorted(forest.families.values(), key=_order(forest, query.sort))
    first = (query.page - 1) * LIST_SIZE
    main, more = _parameters(query)
    grown, url = forest.forest, query.url()
    best, worst = _ranked(forest)
    view = FamilyListView(
        collection=collection.name,
        sae=sae.name,
        families=[forest.card(family) for family in ordered[first : first + LIST_SIZE]],
        page=paging(query.page, LIST_SIZE, len(ordered), lambda n: query.url(page=n)),
        sorts=[_option(s, _SORT_TEXTS[s], query.url(sort=s, page=1), query.sort) for s in FAMILY_SORTS],
        map=forest.map(query.area, query.colour),
        areas=[_option(a, _AREA_TEXTS[a], query.url(area=a), query.area) for a in AREAS],
        colours=[_option(c, _COLOUR_TEXTS[c], query.url(colour=c), query.colour) for c in COLOURS],
        sizes=_sizes(grown.sizes),
        measures=measures(grown.hub_ratio, grown.hub_null, grown.block_ratio, grown.block_null),
        best=best,
        worst=worst,
        n_in_families=grown.n_covered,
        n_shared=grown.n_shared,
        n_features=grown.n_alive,
        chance=grown.chance,
        algorithms=[_algorithm(query, name) for name in sae.algorithms],
        parameters=main,
        more_parameters=more,
        definition=definition(query.config),
        is_stored=query.config == query.stored,
        stored_url=query.url(config=query.stored, page=1),
        seconds=grown.seconds,
        url=url,
        json_url=urls.json(url),
    )
    return page(request, "families", view)


def _option(value: str, text: str, url: str, chosen: str) -> Option:
    return Option(value, text, url, value == chosen)


def _algorithm(query: FamilyQuery, name: str) -> Option:
    config = base_config(query.stored, name)
    return _option(name, _ALGORITHM_TEXTS[name], query.url(config=config, page=1), query.config.algorithm)


def _order(forest: ServedForest, sort: str) -> Callable[[Family], tuple[float, int]]:
    def measure(family: Family) -> float | None:
        return {
            "size": float(len(family.members)),
            "score": forest.score(family.id),
            "hub": finite(family.hub_ratio),
            "block": finite(family.block_ratio),
            "documents": float(family.n_documents),
        }[sort]

    def key(family: Family) -> tuple[float, int]:
        value = measure(family)
        return (math.inf if value is None else -value), family.id

    return key


def _ranked(forest: ServedForest) -> tuple[list[FamilyCard], list[FamilyCard]]:
    """The families whose labels predict best and worst, where there are enough to tell them apart."""
    scored = [family for family in forest.families.values() if forest.score(family.id) is not None]
    scored.sort(key=_order(forest, "score"))
    if len(scored) < 2 * N_RANKED:
        return [], []
    worst = scored[: -N_RANKED - 1 : -1]
    return [forest.card(family) for family in scored[:N_RANKED]], [forest.card(family) for family in worst]


def _sizes(sizes: list[int]) -> list[SizeBand]:
    """Families by size, in bands that double: 2 to 3, 4 to 7, 8 to 15, ..."""
    bands: dict[int, int] = {}
    for size in sizes:
        power = size.bit_length() - 1
        bands[power] = bands.get(power, 0) + 1
    if not bands:
        return []
    return [
        SizeBand(2**power, 2 ** (power + 1) - 1, bands.get(power, 0))
        for power in range(min(bands), max(bands) + 1)
    ]


def _parameters(query: FamilyQuery) -> tuple[list[Parameter], list[Parameter]]:
    base = base_config(query.stored, query.config.algorithm)
    fields = [_parameter(name, query.config, base) for name in used_by(query.config.algorithm)]
    return fields[:N_MAIN], fields[N_MAIN:]


def _parameter(name: str, config: FamilyConfig, base: FamilyConfig) -> Parameter:
    text, note, step = _PARAMETERS[name]
    value = getattr(config, name)
    low, high = FAMILY_NUMBERS.get(name, (None, None))
    is_unlimited = name == "max_size" and value >= MANY
    return Parameter(
        name=name,
        text=text,
        note=note,
        value="" if is_unlimited else value if isinstance(value, str) else f"{value:g}",
        low=low,
        high=high,
        step=step or None,
        choices=[(edge, _EDGE_TEXTS[edge]) for edge in EDGES] if name == "edge" else [],
        is_changed=value != getattr(base, name),
    )


ABOUT = About(
    "families",
    "Families",
    "Families of features under any parameters; 202 while they are being found.",
    FamilyListView,
    read_families,
)
FILES = Files({"families": kinds.FAMILIES}, family_file)

add_page(router, "/{collection}/{sae}/families", families, FILES, ABOUT)
