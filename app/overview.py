"""Where a visit begins: the collections, the overview of one, and the scorecard of an SAE."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app import urls
from app.claims import claims_view, evaluation_views, splitting_views
from app.deps import (
    HIGH_DENSITY,
    N_VENUES,
    ServedCollection,
    ServedSAE,
    add_page,
    get_collection,
    get_library,
    get_sae,
)
from app.described import About
from app.formats import HTML, Files, Kind, Row, Table, kinds, page_format
from app.pages import page
from app.query import SearchQuery
from app.scorecard import scorecard_of
from app.views.common import FeatureRow, Histogram, Option
from app.views.library import HomeView, OverviewView
from app.views.scorecard import Scorecard, ScorecardView

router = APIRouter()

N_SURPRISING = 8
N_FAMILIES = 6
N_MAPPED = 40
N_DOCUMENTS = 5
RARE = 0.01  # a surprising feature fires on fewer documents than this share
SCORE_BINS = 20


def home(request: Request) -> Response:
    """The collections; where there is only one, and nothing to say about others, straight to it."""
    library = get_library(request)
    collections = list(library.collections.values())
    if len(collections) == 1 and not library.problems and page_format(request) == HTML:
        return RedirectResponse(collections[0].card.url, 303)
    view = HomeView(collections=[collection.card for collection in collections], problems=library.problems)
    return page(request, "home", view)


def home_file(request: Request, name: str) -> Table:
    del name
    cards = [collection.card for collection in get_library(request).collections.values()]
    rows = [kinds.collection_row(card) for card in cards]
    built = max((card.built for card in cards), default="")
    return Table(kinds.COLLECTIONS, "collections", urls.home(), iter([rows]), collection="", built=built)


def overview(request: Request) -> Response:
    return page(request, "overview", overview_view(get_collection(request)))


def overview_view(collection: ServedCollection) -> OverviewView:
    sae = collection.default
    n = collection.explorer.n_documents
    positions = np.linspace(0, n - 1, min(n, N_DOCUMENTS)).astype(int).tolist()
    largest = sorted(sae.set.families, key=lambda family: (-len(family.members), family.id)) if sae else []
    return OverviewView(
        collection=collection.card,
        examples=collection.examples[sae.name] if sae else [],
        text_problem=collection.explorer.text_problem,
        years=collection.years,
        venues=_venues(collection, sae) if sae else [],
        surprising=_surprising(sae) if sae else [],
        families=[sae.forest.card(family) for family in largest[:N_FAMILIES]] if sae else [],
        map=sae.forest.map(most=N_MAPPED) if sae and len(largest) > 2 else None,  # noqa: PLR2004 (fewer are no map)
        documents=collection.cards(positions, sae),
    )


def _venues(collection: ServedCollection, sae: ServedSAE) -> list[Option]:
    """The largest venues, each with a search filtered by it."""
    asking = SearchQuery(collection.name, sae.name)
    return [
        Option(name, name, asking.url(venues=(name,)), is_chosen=False, count=count)
        for name, count in collection.venue_sizes[:N_VENUES]
    ]


def _surprising(sae: ServedSAE) -> list[FeatureRow]:
    """Features with a trustworthy label that few documents have."""
    rows: list[FeatureRow] = []
    for bound in (RARE, HIGH_DENSITY, 1.0):  # a small collection has no rare ones
        for latent in np.argsort(-np.asarray(sae.set.quality_N), kind="stable").tolist():
            if 0 < sae.density(latent) <= bound and sae.labels[latent].source != "none":
                rows.append(sae.row(latent))
            if len(rows) == N_SURPRISING:
                return rows
        if rows:
            return rows
    return rows


# --- the scorecard --------------------------------------------------------------------------------


def scorecard(request: Request) -> Response:
    collection, sae = get_sae(request)
    return page(request, "scorecard", scorecard_view(collection, sae))


def scorecard_file(request: Request, name: str) -> Table:
    """The SAE in one row, its training curve, or its baselines."""
    collection, sae = get_sae(request)
    card = _scorecard(sae)
    made: dict[str, tuple[Kind, list[Row]]] = {
        "sae": (kinds.SAES, [kinds.sae_row(sae.summary, sae.mean_auc)]),
        "curve": (kinds.CURVE, [astuple(point) for point in card.curve]),
        "baselines": (kinds.BASELINES, [astuple(baseline) for baseline in card.baselines]),
    }
    kind, rows = made[name]
    return collection.table(kind, f"{sae.name} {name}", sae.summary.url, iter([rows]))


def _scorecard(sae: ServedSAE) -> Scorecard:
    return scorecard_of(
        sae.name,
        sae.set.metrics,
        sae.set.config,
        sae.set.history,
        counts_N=np.array(sae.fires),
        n_documents=sae.n_documents,
    )


def scorecard_view(collection: ServedCollection, sae: ServedSAE) -> ScorecardView:
    feature_set, summary = sae.set, sae.summary
    card = _scorecard(sae)
    claims, problem = claims_view(collection, sae)
    evaluations, unread = evaluation_views(collection, sae)
    return ScorecardView(
        collection=collection.name,
        summary=summary,
        is_resumed=bool(feature_set.metrics.get("is_resumed", False)),
        card=replace(
            card,
            n_dead=summary.n_dead,
            n_labelled=summary.n_labelled,
            n_families=summary.n_families,
            families_url=summary.families_url,
            label_scores=_label_scores(sae),
            provenance=_provenance(collection, sae),
        ),
        claims=claims,
        claims_problem=problem,
        evaluations=evaluations,
        evaluations_problem=unread,
        splitting=splitting_views(collection, sae),
        compare_url=urls.compare(collection.name) if len(collection.saes) > 1 else None,
        url=summary.url,
        json_url=urls.json(summary.url),
    )


def _label_scores(sae: ServedSAE) -> Histogram | None:
    scores = [label.trust.auc for label in sae.built.labels if label.trust.auc is not None]
    if not scores:
        return None
    counts, edges = np.histogram(scores, bins=SCORE_BINS, range=(0.0, 1.0))
    return Histogram(float(edges[0]), float(edges[-1]), counts.tolist())


def _provenance(collection: ServedCollection, sae: ServedSAE) -> list[tuple[str, str]]:
    manifest: dict[str, Any] = collection.explorer.manifest
    rows = [
        ("collection", f"{collection.explorer.title}, generation {collection.explorer.generation}"),
        ("built", str(manifest["built"])),
        ("embedder", collection.card.embedder),
        ("corpus", f"sha256 {manifest['corpus']['fingerprint']}"),
        *[("embeddings", f"sha256 {manifest[key]}") for key in ("embeddings",) if key in manifest],
        ("weights", f"sha256 {sae.set.sae.fingerprint()}"),
        ("seed", str(sae.set.config.get("seed", "unknown"))),
    ]
    return rows + [(name, str(version)) for name, version in manifest["versions"].items()]


ABOUT_SCORECARD = About(
    "scorecard", "Collections", "An SAE: how well it was trained, and what is known of it.", ScorecardView
)
SCORECARD_FILES = Files(
    {"sae": kinds.SAES, "curve": kinds.CURVE, "baselines": kinds.BASELINES}, scorecard_file
)

# The home page's twin has a name of its own, since a path cannot be empty.
add_page(
    router,
    "/",
    home,
    Files({"collections": kinds.COLLECTIONS}, home_file),
    About("home", "Collections", "The collections that are served, with their SAEs.", HomeView),
)
add_page(
    router,
    "/{collection}",
    overview,
    about=About(
        "overview",
        "Collections",
        "A collection: its largest families, surprising features, years.",
        OverviewView,
    ),
)
add_page(router, "/{collection}/{sae}", scorecard, SCORECARD_FILES, ABOUT_SCORECARD)
