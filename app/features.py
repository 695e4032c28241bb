"""The feature browser and the page of one feature."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from app import urls
from app.deps import PageNotFound, ServedCollection, ServedSAE, add_page, get_latent, get_sae, link, paging
from app.described import About
from app.editing.panel import about_feature, not_kept
from app.formats import (
    Documents,
    Files,
    Row,
    Table,
    batched,
    in_format,
    kinds,
    next_page,
)
from app.labels import shortened, why
from app.pages import page
from app.query import SORTS, TABS, EvidenceQuery, FeatureQuery
from app.settings import Settings
from app.views.common import DocumentCard, FeatureRow, NeighbourRow, Option, Page, TreeRow
from app.views.features import Elsewhere, EvidenceTab, FeatureListView, FeatureView
from sae_core.families import Family
from sae_core.features import QUANTILES
from sae_core.metrics import SAME_FEATURE

router = APIRouter()

LIST_SIZE = 50
EVIDENCE_SIZE = 20
BAND_SIZE = 3
ALL_SIZE = 25
TREE_SIZE = 15  # a larger family is cut down to ancestors, siblings and children
STEERED = QUANTILES.index(0.95)  # how strongly "more like this" steers
MEDIAN = QUANTILES.index(0.5)
N_PARTS = 4  # features of another SAE that share one nearest

_SORT_TEXTS = {
    "quality": "Quality",
    "density": "Density",
    "score": "Label score",
    "max": "Maximum",
    "label": "Label A–Z",
}
_BANDS: tuple[tuple[str, str, float | None, float | None], ...] = (
    ("", "Any density", None, None),
    ("rare", "Below 0.1 %", None, 0.001),
    ("uncommon", "0.1 to 1 %", 0.001, 0.01),
    ("common", "1 to 5 %", 0.01, 0.05),
    ("frequent", "Above 5 %", 0.05, None),
)
_TAB_TEXTS = {
    "top": "Top",
    "bands": "Quantile bands",
    "borderline": "Borderline",
    "near": "Near misses",
    "all": "All",
}

Group = tuple[str, list[DocumentCard]]


# --- the browser ----------------------------------------------------------------------------------


def features(request: Request) -> Response:
    collection, sae = get_sae(request)
    query = FeatureQuery.parse(collection.name, sae.name, request.scope["query_string"])
    listing = collection.catalog.features(query, LIST_SIZE, said=sae.said)
    url = query.url()
    view = FeatureListView(
        collection=collection.name,
        sae=sae.name,
        rows=[_found(sae, sae.row(latent), query.words) for latent in listing.latents],
        page=paging(query.page, LIST_SIZE, listing.total, lambda n: query.url(page=n)),
        words=query.words,
        sorts=[Option(s, _SORT_TEXTS[s], query.url(sort=s, page=1), s == query.sort) for s in SORTS],
        densities=[_band(query, *band) for band in _BANDS],
        labelled_url=Option(
            "labelled", "Has a label", query.url(labelled=not query.labelled, page=1), query.labelled, None
        ),
        dead=Option("dead", "Show dead", query.url(dead=not query.dead, page=1), query.dead, sae.n_dead),
        n_dead=sae.n_dead,
        random_url=urls.random_feature(collection.name, sae.name),
        url=url,
        json_url=urls.json(url),
    )
    return page(request, "features", view)


def feature_file(request: Request, name: str) -> Table:
    """As many features as a file may have, from those of the page on."""
    del name
    collection, sae = get_sae(request)
    query = FeatureQuery.parse(collection.name, sae.name, request.scope["query_string"])
    listing = collection.catalog.features(query, LIST_SIZE, kinds.FEATURES.cap, said=sae.said)
    batches = ([kinds.feature_row(sae.row(latent)) for latent in some] for some in batched(listing.latents))
    following = next_page(query.url, query.page, LIST_SIZE, kinds.FEATURES, listing.total)
    return collection.table(kinds.FEATURES, f"{sae.name} features", query.url(), batches, following)


def _found(sae: ServedSAE, row: FeatureRow, words: str) -> FeatureRow:
    """The row, with the candidate by which it was found where its label does not have the words."""
    wanted = words.casefold().split()

    def n_in(text: str) -> int:
        return sum(word in text.casefold() for word in wanted)

    shown = " ".join([row.label.text, *row.label.phrases])
    if n_in(shown) == len(wanted):  # as a rule, and what a label rests on is read from its file
        return row
    candidates = [candidate.text for candidate in sae.set.labels[row.latent].candidates]
    best = max(candidates, key=n_in, default="")
    return replace(row, found_by=shortened(best)) if n_in(best) > n_in(shown) else row


def _band(query: FeatureQuery, value: str, text: str, low: float | None, high: float | None) -> Option:
    is_chosen = (query.min_density, query.max_density) == (low, high)
    return Option(value, text, query.url(min_density=low, max_density=high, page=1), is_chosen)


def random_feature(request: Request) -> Response:
    """Somewhere else each time: a redirect that no cache keeps."""
    collection, sae = get_sae(request)
    latent = collection.catalog.random_feature(sae.name)
    if latent is None:
        raise PageNotFound(
            f"Every feature of {sae.name} is dead.",
            remedy="Look at its scorecard.",
            suggestions=[link("Scorecard", sae.summary.url)],
        )
    url = sae.urls[latent]
    return RedirectResponse(in_format(request, url), 303, {"Cache-Control": "no-store"})


# --- one feature ----------------------------------------------------------------------------------


def feature(request: Request) -> Response:
    collection, sae = get_sae(request)
    latent = get_latent(request, sae)
    query = EvidenceQuery.parse(collection.name, sae.name, latent, request.scope["query_string"])
    view = feature_view(collection, sae, query)
    settings: Settings = request.app.state.settings
    if settings.embed_on:
        view = replace(view, embed_url=urls.embed(collection.name, sae.name, latent))
    authored = about_feature(request, collection, sae, latent)
    return page(request, "feature", replace(view, authored=authored), headers=not_kept(authored))


def feature_view(collection: ServedCollection, sae: ServedSAE, query: EvidenceQuery) -> FeatureView:
    latent, table = query.latent, sae.set.features
    family = sae.set.family_of(latent)
    groups, evidence_page = _evidence(collection, sae, query)
    before, after = (latent - 1) % sae.n_latents, (latent + 1) % sae.n_latents
    strength = max(0.001, float(table.quantiles_NQ[latent, STEERED]))
    url = query.url()
    return FeatureView(
        collection=collection.name,
        sae=sae.name,
        latent=latent,
        label=sae.labels[latent],
        is_dead=sae.fires[latent] == 0,
        density=sae.density(latent),
        n_documents=sae.fires[latent],
        n_collection=sae.n_documents,
        max=sae.maxima[latent],
        mean=float(table.mean_N[latent]),
        median=float(table.quantiles_NQ[latent, MEDIAN]),
        quality=float(sae.set.quality_N[latent]),
        quantiles=list(zip(QUANTILES, np.asarray(table.quantiles_NQ[latent]).tolist(), strict=True)),
        histogram=sae.histogram(latent),
        is_log=query.log,
        log_url=query.url(log=not query.log),
        tabs=[EvidenceTab(t, _TAB_TEXTS[t], query.url(tab=t, page=1), t == query.tab) for t in TABS],
        groups=groups,
        page=evidence_page,
        tree=[] if family is None else _excerpt(sae, family, latent),
        family_url=None if family is None else sae.forest.urls[family.id],
        family_label=None if family is None else sae.forest.name(family.id),
        similar=_by_cosine(sae, table.similar_NS[latent], table.similar_cosine_NS[latent]),
        opposite=_by_cosine(sae, table.opposite_NS[latent], table.opposite_cosine_NS[latent]),
        together=_together(sae, latent),
        years=_years(collection, sae, latent),
        why=why(sae.set.labels[latent], collection.cite),
        elsewhere=_elsewhere(collection, sae, latent),
        previous_url=sae.urls[before],
        next_url=sae.urls[after],
        random_url=urls.random_feature(collection.name, sae.name),
        more_url=urls.search(collection.name, sae.name, strengths=[(latent, strength)]),
        less_url=urls.search(collection.name, sae.name, strengths=[(latent, -strength)]),
        url=url,
        json_url=urls.json(url),
        previous_label=sae.texts[before],
        next_label=sae.texts[after],
    )


def _by_cosine(sae: ServedSAE, latents: np.ndarray, cosines: np.ndarray) -> list[NeighbourRow]:
    pairs = zip(latents.tolist(), cosines.tolist(), strict=True)
    return [sae.neighbour(latent, cosine=cosine) for latent, cosine in pairs if latent >= 0]


def _together(sae: ServedSAE, latent: int) -> list[NeighbourRow]:
    table = sae.set.features
    columns = zip(
        table.together_NS[latent].tolist(),
        table.together_lift_NS[latent].tolist(),
        table.together_observed_NS[latent].tolist(),
        table.together_expected_NS[latent].tolist(),
        strict=True,
    )
    return [
        sae.neighbour(other, lift=lift, observed=observed, expected=expected)
        for other, lift, observed, expected in columns
        if other >= 0
    ]


def _years(collection: ServedCollection, sae: ServedSAE, latent: int) -> list[tuple[int, int, int]]:
    """Year, documents with the feature, documents in all: every year that the collection has."""
    documents, _ = sae.set.codes.of_latent(latent)
    years, counts = np.unique(np.asarray(collection.explorer.metadata.years_M)[documents], return_counts=True)
    having = dict(zip(years.tolist(), counts.tolist(), strict=True))
    return [(year, having.get(year, 0), total) for year, total in collection.years]


def _elsewhere(collection: ServedCollection, sae: ServedSAE, latent: int) -> list[Elsewhere]:
    """The feature's nearest in every other SAE of the collection, from the coarsest SAE to the finest."""
    others = sorted(collection.saes.values(), key=lambda other: (other.n_latents, other.name))
    return [
        _elsewhere_in(sae, other, latent)
        for other in others
        if other.name in sae.set.matches and sae.fires[latent] > 0
    ]


def _elsewhere_in(sae: ServedSAE, other: ServedSAE, latent: int) -> Elsewhere:
    found = sae.set.matches[other.name]
    nearest, fellow = int(found.latent_N[latent]), int(found.overlap_latent_N[latent])
    cosine = float(found.cosine_N[latent])
    parts = _parts(other, sae.name, latent)
    return Elsewhere(
        sae=other.name,
        url=other.summary.features_url,
        n_latents=other.n_latents,
        relation=_relation(sae.n_latents, other.n_latents),
        nearest=None if nearest < 0 else other.neighbour(nearest, cosine=cosine),
        jaccard=float(found.jaccard_N[latent]),
        recurs=nearest >= 0 and cosine > SAME_FEATURE,
        threshold=SAME_FEATURE,
        by_documents=None if fellow in (-1, nearest) else other.neighbour(fellow),
        overlap=float(found.overlap_N[latent]),
        parts=[other.neighbour(part, cosine=near) for part, near in parts[:N_PARTS] if part != nearest],
        n_parts=len(parts),
    )


def _relation(n_here: int, n_there: int) -> str:
    return "as fine" if n_there == n_here else "finer" if n_there > n_here else "coarser"


def _parts(other: ServedSAE, sae: str, latent: int) -> list[tuple[int, float]]:
    """Features of the other SAE whose own nearest in this one is the feature, nearest first."""
    back = other.set.matches.get(sae)
    if back is None:
        return []
    latents = np.flatnonzero(np.asarray(back.latent_N) == latent)
    cosines = np.asarray(back.cosine_N)[latents]
    order = np.lexsort((latents, -cosines))
    return list(zip(latents[order].tolist(), cosines[order].tolist(), strict=True))


def _excerpt(sae: ServedSAE, family: Family, latent: int) -> list[TreeRow]:
    """The family's tree; of a large family ancestors, some siblings, and children."""
    if len(family.members) <= TREE_SIZE:
        return sae.tree(family, current=latent)
    parent_of = dict(zip(family.members, family.parents, strict=True))
    shown = {latent}
    above = parent_of[latent]
    while above >= 0:
        shown.add(above)
        above = parent_of[above]
    for parent in (latent, parent_of[latent]):
        if parent >= 0:
            shown.update([child for child in family.members if parent_of[child] == parent][: TREE_SIZE // 2])
    return sae.tree(family, shown, latent)


# --- its evidence ---------------------------------------------------------------------------------


def _evidence(
    collection: ServedCollection, sae: ServedSAE, query: EvidenceQuery
) -> tuple[list[Group], Page | None]:
    """The chosen tab: groups of documents under headings, and paging if it has pages."""
    is_all = query.tab == "all"
    groups = [
        (
            heading,
            collection.cards(positions, sae, latent=query.latent, activations=values, with_chips=True),
        )
        for heading, positions, values in _chosen(sae, query, ALL_SIZE if is_all else EVIDENCE_SIZE)
    ]
    n = sae.fires[query.latent]
    if not is_all or n == 0:
        return groups, None
    return groups, paging(query.page, ALL_SIZE, n, lambda number: query.url(page=number))


def _chosen(sae: ServedSAE, query: EvidenceQuery, most: int) -> list[tuple[str, list[int], list[float]]]:
    """Heading, documents and activations of a tab; those that have the feature `most`, from the page on."""
    if query.tab == "near":
        return [("Silent here, but nearly active", *_near_misses(sae, query.latent))]
    documents, activations = sae.set.codes.of_latent(query.latent)
    n = len(documents)

    def some(rows: slice) -> tuple[list[int], list[float]]:
        return documents[rows].tolist(), activations[rows].tolist()

    if n == 0:
        return []
    if query.tab == "bands":
        return [(f"Around the {q:.0%} quantile", *some(_band_rows(q, n))) for q in reversed(QUANTILES)]
    if query.tab == "borderline":
        weakest, values = some(slice(max(0, n - EVIDENCE_SIZE), n))
        return [("Weakest activations", weakest[::-1], values[::-1])]
    first = _first(query)
    heading = "All documents, strongest first" if query.tab == "all" else "Strongest activations"
    return [(heading, *some(slice(first, first + most)))]


def _first(query: EvidenceQuery) -> int:
    """The place of the page's first document among all that have the feature."""
    return (query.page - 1) * ALL_SIZE if query.tab == "all" else 0


def _band_rows(quantile: float, n: int) -> slice:
    """Rows of a list that falls in activation, around a quantile."""
    middle = round((1 - quantile) * (n - 1))
    first = max(0, min(middle - BAND_SIZE // 2, n - BAND_SIZE))
    return slice(first, min(n, first + BAND_SIZE))


def _near_misses(sae: ServedSAE, latent: int) -> tuple[list[int], list[float]]:
    """Documents without the feature by falling pre-activation, shown in the place of an activation."""
    table = sae.set.features
    documents = table.near_NM[latent]
    there = documents >= 0
    return documents[there].tolist(), table.near_preactivation_NM[latent][there].tolist()


# --- files ----------------------------------------------------------------------------------------


def evidence_file(request: Request, name: str) -> Table | Documents:
    """The documents of the chosen tab, of "top" and "all" as many as a file may have; or near features."""
    collection, sae = get_sae(request)
    latent = get_latent(request, sae)
    query = EvidenceQuery.parse(collection.name, sae.name, latent, request.scope["query_string"])
    if name == "neighbours":
        rows = [kinds.neighbour_row(relation, row) for relation, row in _near_features(sae, latent)]
        title = f"{sae.name} features near {latent}"
        return collection.table(kinds.NEIGHBOURS, title, query.url(), iter([rows]))
    evidence = [
        (heading, position, activation)
        for heading, positions, activations in _chosen(sae, query, kinds.EVIDENCE.cap)
        for position, activation in zip(positions, activations, strict=True)
    ]
    first = _first(query)

    def own(at: int) -> Row:
        heading, position, activation = evidence[at]
        others = [f"{chip.latent} {chip.label}" for chip in sae.chips_of(position, without=latent)]
        share = None if query.tab == "near" else sae.share(latent, activation)
        return (first + at + 1, heading, activation, share, others)

    following = None
    if query.tab in {"top", "all"}:
        page_url = partial(query.url, tab="all")
        following = next_page(page_url, first // ALL_SIZE + 1, ALL_SIZE, kinds.EVIDENCE, sae.fires[latent])
    batches = collection.listed([position for _, position, _ in evidence], sae, own)
    title = f"{sae.name} feature {latent}: {sae.texts[latent]}"
    return collection.documents(kinds.EVIDENCE, title, query.url(), batches, following)


def _near_features(sae: ServedSAE, latent: int) -> list[tuple[str, NeighbourRow]]:
    table = sae.set.features
    lists = {
        "similar": _by_cosine(sae, table.similar_NS[latent], table.similar_cosine_NS[latent]),
        "opposite": _by_cosine(sae, table.opposite_NS[latent], table.opposite_cosine_NS[latent]),
        "together": _together(sae, latent),
    }
    return [(relation, row) for relation, rows in lists.items() for row in rows]


ABOUT_FEATURES = About(
    "features",
    "Features",
    "The features of an SAE, filtered, by words and sorted.",
    FeatureListView,
    partial(FeatureQuery.parse, "", ""),
    {"sort": "density"},
)
ABOUT_FEATURE = About(
    "feature",
    "Features",
    "A feature: its label and what that rests on, its numbers, its documents, features near it.",
    FeatureView,
    lambda parameters: EvidenceQuery.parse("", "", 0, parameters),
    {"tab": "all"},
)
FEATURE_FILES = Files({"features": kinds.FEATURES}, feature_file)
EVIDENCE_FILES = Files({"documents": kinds.EVIDENCE, "neighbours": kinds.NEIGHBOURS}, evidence_file)

# `random` before `{latent}`, which would match it.
add_page(router, "/{collection}/{sae}/features", features, FEATURE_FILES, ABOUT_FEATURES)
add_page(router, "/{collection}/{sae}/features/random", random_feature)
add_page(router, "/{collection}/{sae}/features/{latent}", feature, EVIDENCE_FILES, ABOUT_FEATURE)
