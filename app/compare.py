"""The SAEs of a collection side by side: their numbers, and which features each has of each other one."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import urls
from app.claims import splitting_view
from app.deps import ServedCollection, ServedSAE, add_page, get_collection
from app.described import About
from app.formats import Files, Row, Table, batched, kinds
from app.pages import page
from app.views.common import FeatureChip
from app.views.scorecard import ComparedPair, CompareView, SplitFeature
from sae_core.metrics import SAME_FEATURE

router = APIRouter()

N_SPLITS, N_FINE, N_SHOWN = 8, 5, 12
NEAR = 0.5  # cosine from which a finer feature counts as a part of a coarser one
FAR = 0.35  # below which the coarser SAE has nothing like it


def compare(request: Request) -> Response:
    return page(request, "compare", compare_view(get_collection(request)))


def compare_view(collection: ServedCollection) -> CompareView:
    saes = list(collection.saes.values())
    url = urls.compare(collection.name)
    return CompareView(
        collection=collection.card,
        saes=[sae.summary for sae in saes],
        label_auc=[sae.mean_auc for sae in saes],
        pairs=[found for a, b in combinations(saes, 2) if (found := _pair(a, b)) is not None],
        url=url,
        json_url=urls.json(url),
    )


def compare_file(request: Request, name: str) -> Table:
    """The SAEs, or which feature of one is nearest to each feature of another."""
    collection = get_collection(request)
    saes, url = list(collection.saes.values()), urls.compare(collection.name)
    if name == "saes":
        rows = [kinds.sae_row(sae.summary, sae.mean_auc) for sae in saes]
        return collection.table(kinds.SAES, "SAEs", url, iter([rows]))
    batches = (
        [_match(one, other, latent) for latent in some]
        for one, other in permutations(saes, 2)
        if other.name in one.set.matches
        for some in batched(range(one.n_latents))
    )
    return collection.table(kinds.MATCHES, "features across SAEs", url, batches)


def _match(one: ServedSAE, other: ServedSAE, latent: int) -> Row:
    found = one.set.matches[other.name]
    nearest = int(found.latent_N[latent])
    if nearest < 0:
        return (one.name, latent, one.texts[latent], other.name, None, "", None, None)
    numbers = (float(found.cosine_N[latent]), float(found.jaccard_N[latent]))
    return (one.name, latent, one.texts[latent], other.name, nearest, other.texts[nearest], *numbers)


def _pair(a: ServedSAE, b: ServedSAE) -> ComparedPair | None:
    """Two SAEs; None where the build did not match them."""
    coarse, fine = sorted((a, b), key=lambda sae: (sae.n_latents, sae.name))
    if coarse.name not in fine.set.matches or fine.name not in coarse.set.matches:
        return None
    return ComparedPair(
        coarse=coarse.name,
        fine=fine.name,
        ways=[
            splitting_view(one, other, one.set.metrics["splitting"][other.name])
            for one, other in ((fine, coarse), (coarse, fine))
            if other.name in one.set.metrics.get("splitting", {})
        ],
        splits=_splits(coarse, fine),
        new=_new(coarse, fine),
        same=_same(coarse, fine),
    )


def _splits(coarse: ServedSAE, fine: ServedSAE) -> list[SplitFeature]:
    """Features of the coarser SAE that most features of the finer are nearest to."""
    found = fine.set.matches[coarse.name]
    nearest_N, cosine_N = np.asarray(found.latent_N), np.asarray(found.cosine_N)
    parts = np.flatnonzero((nearest_N >= 0) & (cosine_N >= NEAR))
    counts = np.bincount(nearest_N[parts], minlength=coarse.n_latents)
    best = np.argsort(-counts, kind="stable")[:N_SPLITS].tolist()
    splits = []
    for latent in [latent for latent in best if counts[latent] > 1]:
        own = parts[nearest_N[parts] == latent]
        own = own[np.argsort(-cosine_N[own], kind="stable")].tolist()
        splits.append(SplitFeature(coarse.chip(latent), [fine.chip(one) for one in own[:N_FINE]], len(own)))
    return splits


def _new(coarse: ServedSAE, fine: ServedSAE) -> list[FeatureChip]:
    """Features with trustworthy labels that have no counterpart."""
    cosine_N = np.asarray(fine.set.matches[coarse.name].cosine_N)
    order = np.argsort(-np.asarray(fine.set.quality_N), kind="stable").tolist()
    chosen = [latent for latent in order if cosine_N[latent] < FAR and _is_shown(fine, latent)]
    return [fine.chip(latent) for latent in chosen[:N_SHOWN]]


def _same(coarse: ServedSAE, fine: ServedSAE) -> list[tuple[FeatureChip, FeatureChip, float]]:
    """Features with trustworthy labels that come again, the nearest pairs first."""
    found = fine.set.matches[coarse.name]
    cosine_N = np.asarray(found.cosine_N)
    order = np.argsort(-cosine_N, kind="stable").tolist()
    chosen = [latent for latent in order if cosine_N[latent] > SAME_FEATURE and _is_shown(fine, latent)]
    return [
        (coarse.chip(int(found.latent_N[latent])), fine.chip(latent), float(cosine_N[latent]))
        for latent in chosen[:N_SHOWN]
    ]


def _is_shown(sae: ServedSAE, latent: int) -> bool:
    return sae.fires[latent] > 0 and sae.labels[latent].source != "none"


ABOUT = About(
    "compare",
    "Collections",
    "The SAEs of a collection side by side, and which features they share.",
    CompareView,
)
FILES = Files({"saes": kinds.SAES, "matches": kinds.MATCHES}, compare_file)

add_page(router, "/{collection}/compare", compare, FILES, ABOUT)
