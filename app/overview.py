"""Where a visit begins: the collections, the overview of one, and the scorecard of an SAE."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app import urls
from app.deps import (
    HIGH_DENSITY,
    N_VENUES,
    ServedCollection,
    ServedSAE,
    add_page,
    finite,
    get_collection,
    get_library,
    get_sae,
)
from app.pages import page
from app.query import SearchQuery
from app.views import (
    Baseline,
    FeatureRow,
    Histogram,
    HomeView,
    Option,
    OverviewView,
    ScorecardView,
)

router = APIRouter()

N_SURPRISING = 8
N_FAMILIES = 6
N_DOCUMENTS = 5
RARE = 0.01  # a surprising feature fires on fewer documents than this share
DENSITY_BINS = 24
SCORE_BINS = 20
MAX_CURVE = 400  # points


def home(request: Request) -> Response:
    """The collections; where there is only one, and nothing to say about others, straight to it."""
    library = get_library(request)
    collections = list(library.collections.values())
    if len(collections) == 1 and not library.problems and request.scope["path"] == urls.home():
        return RedirectResponse(collections[0].card.url, 303)
    view = HomeView(collections=[collection.card for collection in collections], problems=library.problems)
    return page(request, "home", view)


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
        years=collection.years,
        venues=_venues(collection, sae) if sae else [],
        surprising=_surprising(sae) if sae else [],
        families=[sae.family_card(family) for family in largest[:N_FAMILIES]] if sae else [],
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


def scorecard_view(collection: ServedCollection, sae: ServedSAE) -> ScorecardView:
    metrics = sae.set.metrics
    return ScorecardView(
        collection=collection.name,
        summary=sae.summary,
        is_resumed=bool(metrics.get("is_resumed", False)),
        n_train=int(metrics["n_train"]),
        n_rare=int(metrics["n_rare"]),
        density_histogram=_densities(sae),
        curve=_curve(sae.set.history),
        baselines=[Baseline(b["name"], float(b["fvu_heldout"]), b["remark"]) for b in metrics["baselines"]],
        label_scores=_label_scores(sae),
        config=[(name.replace("_", " "), str(value)) for name, value in sae.set.config.items()],
        provenance=_provenance(collection, sae),
        url=sae.summary.url,
        json_url=urls.json(sae.summary.url),
    )


def _densities(sae: ServedSAE) -> Histogram:
    """log10 density of the living features."""
    fires = np.array(sae.fires, dtype=np.float64)
    logs = np.log10(fires[fires > 0] / max(sae.n_documents, 1))
    if not len(logs):
        return Histogram(-1.0, 0.0, [0])
    counts, edges = np.histogram(logs, bins=DENSITY_BINS, range=(np.floor(logs.min()), 0.0))
    return Histogram(float(edges[0]), float(edges[-1]), counts.tolist())


def _label_scores(sae: ServedSAE) -> Histogram | None:
    scores = [label.score for label in sae.labels if label.score is not None]
    if not scores:
        return None
    counts, edges = np.histogram(scores, bins=SCORE_BINS, range=(0.0, 1.0))
    return Histogram(float(edges[0]), float(edges[-1]), counts.tolist())


def _curve(history: list[dict[str, float]]) -> list[tuple[int, float | None, float | None, float]]:
    """Step, FVU train, FVU held-out, dead share; thinned out evenly, with the last step."""
    stride = max(1, len(history) // MAX_CURVE)
    lines = history[::-1][::stride][::-1]
    return [
        (int(line["step"]), finite(line["fvu_train"]), finite(line["fvu_heldout"]), line["dead"])
        for line in lines
    ]


def _provenance(collection: ServedCollection, sae: ServedSAE) -> list[tuple[str, str]]:
    manifest: dict[str, Any] = collection.explorer.manifest
    rows = [
        ("collection", f"{collection.explorer.title}, generation {collection.explorer.generation}"),
        ("built", str(manifest["built"])),
        ("embedder", collection.card.embedder),
        ("corpus", f"sha256 {manifest['corpus']['fingerprint']}"),
        ("weights", f"sha256 {sae.set.sae.fingerprint()}"),
        ("seed", str(sae.set.config.get("seed", "unknown"))),
    ]
    return rows + [(name, str(version)) for name, version in manifest["versions"].items()]


# The home page's twin has a name of its own, since a path cannot be empty.
add_page(router, "/", home)
add_page(router, "/{collection}", overview)
add_page(router, "/{collection}/{sae}", scorecard)
