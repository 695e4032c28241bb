"""The families of an SAE and the page of one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from fastapi import APIRouter, Request
from fastapi.responses import Response

from app import urls
from app.deps import (
    PageNotFound,
    ServedCollection,
    ServedSAE,
    add_page,
    finite,
    get_sae,
    link,
    paging,
    shorten,
)
from app.pages import page
from app.query import FAMILY_SORTS, BadParameter, FamilyQuery, integer
from app.views import DocumentCard, FamilyCard, FamilyListView, FamilyView, Option
from sae_core.families import Family, FamilyConfig

router = APIRouter()

LIST_SIZE = 24
MAX_HEAT = 40
N_DOCUMENTS = 20
N_RELATED = 8

_SORT_TEXTS = {"size": "Size", "density": "Density", "hub": "Hub ratio"}


def families(request: Request) -> Response:
    collection, sae = get_sae(request)
    query = FamilyQuery.parse(collection.name, sae.name, request.scope["query_string"])
    ordered = sorted(sae.set.families, key=_order(query.sort))
    first = (query.page - 1) * LIST_SIZE
    url = query.url()
    view = FamilyListView(
        collection=collection.name,
        sae=sae.name,
        families=[sae.family_card(family) for family in ordered[first : first + LIST_SIZE]],
        page=paging(query.page, LIST_SIZE, len(ordered), lambda n: query.url(page=n)),
        sorts=[Option(s, _SORT_TEXTS[s], query.url(sort=s, page=1), s == query.sort) for s in FAMILY_SORTS],
        n_in_families=len({member for family in ordered for member in family.members}),
        n_features=sae.n_latents - sae.n_dead,
        definition=definition(sae.family_config),
        url=url,
        json_url=urls.json(url),
    )
    return page(request, "families", view)


def _order(sort: str) -> Callable[[Family], tuple[float, int]]:
    def key(family: Family) -> tuple[float, int]:
        hub = finite(family.hub_ratio)
        measure = {
            "size": len(family.members),
            "density": family.n_documents,
            "hub": -math.inf if hub is None else hub,
        }[sort]
        return -measure, family.id

    return key


def family(request: Request) -> Response:
    collection, sae = get_sae(request)
    found = _get_family(request, sae)
    config = sae.family_config
    heat_members = found.members[:MAX_HEAT]
    url = sae.family_url(found.id)
    view = FamilyView(
        collection=collection.name,
        sae=sae.name,
        id=found.id,
        label=sae.labels[found.id],
        size=len(found.members),
        density=found.n_documents / max(sae.n_documents, 1),
        n_documents=int(found.n_documents),
        hub_ratio=finite(found.hub_ratio),
        block_ratio=finite(found.block_ratio),
        threshold=config.threshold,
        definition=definition(config),
        tree=sae.tree(found),
        heat_labels=[sae.chip(member) for member in heat_members],
        heat=_heat(sae, heat_members),
        documents=_documents(collection, sae, found),
        related=_related(sae, found),
        url=url,
        json_url=urls.json(url),
    )
    return page(request, "family", view)


def _get_family(request: Request, sae: ServedSAE) -> Family:
    text = request.path_params["family"]
    try:
        return sae.families[integer("family", text, 0, sae.n_latents - 1)]
    except (BadParameter, KeyError):
        raise PageNotFound(
            f'{sae.name} has no family "{shorten(text)}".',
            remedy="A family is named by the number of its root feature. Choose one from the list.",
            suggestions=[link("All families", sae.summary.families_url)],
        ) from None


def definition(config: FamilyConfig) -> str:
    """How families were found, in words."""
    return (
        "Two features are joined when M = P(denser fires | sparser fires) is at least "
        f"{config.threshold:g}, they fire together on at least {config.min_together} documents, at least "
        f"{config.min_lift:g} times as often as independent features would, and {config.min_z:g} standard "
        "deviations more often. The maximum spanning forest of these edges, each directed from the "
        f"denser to the sparser feature, gives families: a root with at least {config.min_children} "
        "children and all its descendants. Roots are removed and the forest is grown again, "
        f"{config.n_iterations} times in all. Families of fewer than {config.min_size} features are left "
        f"out, and of two with Jaccard above {config.max_jaccard:g} the smaller."
    )


def _membership(sae: ServedSAE, members: list[int]) -> sp.csr_matrix:
    """Which member (row) fires on which document (column), 0 or 1."""
    lists = [sae.set.codes.of_latent(member)[0] for member in members]
    columns = np.concatenate(lists).astype(np.int64)
    rows = np.repeat(np.arange(len(members)), [len(documents) for documents in lists])
    ones = np.ones(len(columns), dtype=np.int32)
    return sp.csr_matrix((ones, (rows, columns)), shape=(len(members), sae.n_documents))


def _heat(sae: ServedSAE, members: list[int]) -> list[list[float]]:
    """C~_ij = C_ij / min(f_i, f_j)."""
    fires = _membership(sae, members)
    together = (fires @ fires.T).toarray().astype(np.float64)
    counts = np.maximum(together.diagonal(), 1.0)
    heat: list[list[float]] = (together / np.minimum.outer(counts, counts)).round(4).tolist()
    return heat


def _documents(collection: ServedCollection, sae: ServedSAE, found: Family) -> list[DocumentCard]:
    """The documents on which most members fire; of equals those with the larger sum of activations."""
    n_active = np.zeros(sae.n_documents, dtype=np.int32)
    sums = np.zeros(sae.n_documents, dtype=np.float32)
    for member in found.members:
        documents, activations = sae.set.codes.of_latent(member)
        n_active[documents] += 1
        sums[documents] += activations
    touched = np.flatnonzero(n_active)
    best = touched[np.lexsort((touched, -sums[touched], -n_active[touched]))[:N_DOCUMENTS]]
    return collection.cards(best.tolist(), sae, with_chips=True)


def _related(sae: ServedSAE, found: Family) -> list[FamilyCard]:
    """Families that share members, those that share most first."""
    members = set(found.members)
    others = [other for other in sae.set.families if other.id != found.id]
    shared = [(len(members.intersection(other.members)), other) for other in others]
    ordered = sorted((pair for pair in shared if pair[0]), key=lambda pair: (-pair[0], pair[1].id))
    return [sae.family_card(other) for _, other in ordered[:N_RELATED]]


add_page(router, "/{collection}/{sae}/families", families)
add_page(router, "/{collection}/{sae}/families/{family}", family)
