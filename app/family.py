"""The page of one family: its tree, its measures, what its members do together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from app import urls
from app.deps import PageNotFound, ServedCollection, ServedSAE, add_page, get_sae, link, shorten, wanted_block
from app.described import About, read_families
from app.editing.panel import about_family, not_kept
from app.forest import ServedForest, definition, measures
from app.formats import Documents, Files, Row, Table, batched, kinds, next_page
from app.growing import Growing, get_grower, growing_page
from app.labels import why
from app.pages import page
from app.query import (
    MAX_OPEN,
    MAX_STRENGTHS,
    BadParameter,
    FamilyQuery,
    SearchQuery,
    as_strength,
    integer,
)
from app.views.common import Breadcrumb, DocumentCard, TreeRow
from app.views.families import CrossLink, FamilyCard, FamilyView
from sae_core.families import Family

router = APIRouter()

MAX_HEAT = 40
N_DOCUMENTS = 12
N_RELATED = 6
N_LINKS = 24
TREE_ROWS = 60  # that are unfolded at first, level by level
TREE_CHILDREN = 40  # of one feature, before the rest is folded
MAX_TREE_ROWS = 1_000  # whatever is unfolded


async def family(request: Request) -> Response:
    asked = await _asked_for(request)
    return asked if isinstance(asked, Response) else await run_in_threadpool(_family, request, *asked)


Asked = tuple[ServedCollection, ServedSAE, ServedForest, Family, FamilyQuery]


async def _asked_for(request: Request) -> Asked | Response:
    """The family of the address under its parameters, or the answer that it is still being found."""
    collection, sae = get_sae(request)
    number = _number(request, sae)
    query = FamilyQuery.parse(
        collection.name, sae.name, request.scope["query_string"], sae.forest.config, sae.algorithms, number
    )
    forest = await get_grower(request).forest(sae, query.config)
    if isinstance(forest, Growing):
        return growing_page(request, query, forest, wanted_block(request) or "main")
    found = forest.families.get(number)
    if found is None:
        raise _no_such_family(sae, query)
    return collection, sae, forest, found, query


async def family_file(request: Request, name: str) -> Table | Documents | Response:
    """All features of the family, or the documents that have most of them."""
    asked = await _asked_for(request)
    return asked if isinstance(asked, Response) else await run_in_threadpool(_file, name, *asked)


def _file(  # noqa: PLR0917 (what a request is about)
    name: str,
    collection: ServedCollection,
    sae: ServedSAE,
    forest: ServedForest,
    found: Family,
    query: FamilyQuery,
) -> Table | Documents:
    title, url = f"{sae.name} family {found.id}: {forest.name(found.id)}", query.url()
    if name == "members":
        rows = kinds.member_rows(sae.tree(found))
        return collection.table(kinds.MEMBERS, title, url, batched(rows))
    positions, n_active, sums = documents_of(sae, found)
    kind = kinds.FAMILY_DOCUMENTS
    first = (query.page - 1) * kind.cap

    def own(at: int) -> Row:
        return (first + at + 1, n_active[first + at], sums[first + at])

    batches = collection.listed(positions[first : first + kind.cap], sae, own)
    following = next_page(query.url, query.page, kind.cap, kind, len(positions))
    return collection.documents(kind, title, url, batches, following)


def _number(request: Request, sae: ServedSAE) -> int:
    text = request.path_params["family"]
    try:
        return integer("family", text, 0, sae.n_latents - 1)
    except BadParameter:
        raise PageNotFound(
            f'{sae.name} has no family "{shorten(text)}".',
            remedy="A family is named by the number of its root feature. Choose one from the list.",
            suggestions=[link("All families", sae.summary.families_url)],
        ) from None


def _no_such_family(sae: ServedSAE, query: FamilyQuery) -> PageNotFound:
    """The feature is there, but under these parameters it is the root of nothing."""
    number = query.family if query.family is not None else 0
    suggestions = [link(f"The feature #{number} {shorten(sae.texts[number])}", sae.urls[number])]
    if query.config == query.stored:
        what = f"The feature #{number} of {sae.name} is not the root of a family."
    else:
        what = f"With these parameters the feature #{number} of {sae.name} is not the root of a family."
        suggestions.append(link("All families with these parameters", query.url_of(None)))
        if number in sae.forest.families:
            suggestions.append(link("The family as the collection was built", sae.forest.urls[number]))
    home = sae.set.family_of(number)
    if home is not None and home.id != number:
        name = sae.forest.name(home.id)
        suggestions.append(
            link(f"The family that has it as built: {shorten(name)}", sae.forest.urls[home.id])
        )
    return PageNotFound(
        what,
        remedy="A family is named by its root feature, and other parameters give other families.",
        suggestions=[*suggestions, link("All families as built", sae.summary.families_url)],
    )


def _family(  # noqa: PLR0917 (what a request is about)
    request: Request,
    collection: ServedCollection,
    sae: ServedSAE,
    forest: ServedForest,
    found: Family,
    query: FamilyQuery,
) -> Response:
    heat_members = found.members[:MAX_HEAT]
    tree = _tree(sae, found, query)
    own = forest.own_label(found.id)
    url = query.url()
    view = FamilyView(
        collection=collection.name,
        sae=sae.name,
        id=found.id,
        label=forest.labels[found.id],
        is_own=forest.is_own(found),
        root=sae.chip(found.id),
        why=None if own is None else why(own, collection.cite),
        above=[Breadcrumb(forest.name(each), forest.urls[each]) for each in forest.holders(found.id)],
        size=len(found.members),
        density=found.n_documents / max(sae.n_documents, 1),
        n_documents=int(found.n_documents),
        n_collection=sae.n_documents,
        measures=measures(found.hub_ratio, found.hub_null, found.block_ratio, found.block_null),
        definition=definition(query.config),
        is_stored=query.config == query.stored,
        tree=tree,
        n_hidden=len(found.members) - len(tree),
        steer_url=_steer(sae, found),
        heat_labels=[sae.chip(member) for member in heat_members],
        heat=_heat(sae, heat_members),
        documents=_documents(collection, sae, found),
        links=_links(sae, forest, found),
        related=_related(forest, found),
        families_url=query.url_of(None),
        url=url,
        json_url=urls.json(url),
        authored=about_family(request, collection, sae, found.id) if forest.is_built(found) else None,
    )
    return page(request, "family", view, headers=not_kept(view.authored))


# --- its tree -------------------------------------------------------------------------------------


def _tree(sae: ServedSAE, found: Family, query: FamilyQuery) -> list[TreeRow]:
    """The tree as far as it is unfolded: level by level while there is room, and whatever was asked for."""
    places = {member: place for place, member in enumerate(found.members)}
    below: dict[int, list[int]] = {}
    for member, parent in zip(found.members, found.parents, strict=True):
        below.setdefault(parent, []).append(member)
    shown = _unfolded(found.id, below, set(query.open))
    n_below = _count_below(found, places)
    rows = []
    for row in sae.tree(found, shown):
        latent = row.feature.latent
        hidden = [child for child in below.get(latent, []) if child not in shown]
        n_hidden = sum(1 + n_below[child] for child in hidden)
        can_open = n_hidden and latent not in query.open and len(query.open) < MAX_OPEN
        open_url = query.url(open=(*query.open, latent)) if can_open else None
        rows.append(replace(row, n_hidden=n_hidden, open_url=open_url))
    return rows


def _unfolded(root: int, below: dict[int, list[int]], opened: set[int]) -> set[int]:
    shown, level = {root}, [root]
    while level:
        following = []
        for latent in level:
            children = below.get(latent, [])
            if latent not in opened:
                has_room = len(shown) + min(len(children), TREE_CHILDREN) <= TREE_ROWS
                children = children[:TREE_CHILDREN] if has_room else []
            children = children[: max(0, MAX_TREE_ROWS - len(shown))]
            shown.update(children)
            following += children
        level = following
    return shown


def _count_below(found: Family, places: dict[int, int]) -> dict[int, int]:
    """Descendants by member."""
    counts = [0] * len(found.members)
    for place in range(len(found.members) - 1, 0, -1):  # depth first: children come after their parent
        counts[places[found.parents[place]]] += 1 + counts[place]
    return dict(zip(found.members, counts, strict=True))


def _steer(sae: ServedSAE, found: Family) -> str:
    """A search moved along the family: by its slider, where it is one of those that were built.

    Addresses know no others, so the members of any other are moved one by one, in the same proportion.
    """
    query, amount = SearchQuery(sae.collection, sae.name), sae.usual_move(found.id)
    if sae.forest.is_built(found):
        return query.url_family(found.id, amount)
    members = found.members[:MAX_STRENGTHS]
    strengths = [(member, as_strength(amount * share)) for member, share in sae.shares_of(members).items()]
    return query.url(strengths=tuple(pair for pair in strengths if pair[1] > 0))


# --- what its members do together -----------------------------------------------------------------


def _membership(sae: ServedSAE, members: Sequence[int]) -> sp.csr_matrix:
    """Which member (row) fires on which document (column), 0 or 1."""
    lists = [sae.set.codes.of_latent(member)[0] for member in members]
    columns = np.concatenate(lists).astype(np.int64)
    rows = np.repeat(np.arange(len(members)), [len(documents) for documents in lists])
    ones = np.ones(len(columns), dtype=np.int32)
    return sp.csr_matrix((ones, (rows, columns)), shape=(len(members), sae.n_documents))


def _heat(sae: ServedSAE, members: Sequence[int]) -> list[list[float]]:
    """C~_ij = C_ij / min(f_i, f_j)."""
    fires = _membership(sae, members)
    together = (fires @ fires.T).toarray().astype(np.float64)
    counts = np.maximum(together.diagonal(), 1.0)
    heat: list[list[float]] = (together / np.minimum.outer(counts, counts)).round(4).tolist()
    return heat


def _documents(collection: ServedCollection, sae: ServedSAE, found: Family) -> list[DocumentCard]:
    positions, _, _ = documents_of(sae, found)
    return collection.cards(positions[:N_DOCUMENTS], sae, with_chips=True)


def documents_of(sae: ServedSAE, found: Family) -> tuple[list[int], list[int], list[float]]:
    """The documents on which most members fire, how many, and the sums of activations, which settle ties."""
    n_active = np.zeros(sae.n_documents, dtype=np.int32)
    sums = np.zeros(sae.n_documents, dtype=np.float32)
    for member in found.members:
        documents, activations = sae.set.codes.of_latent(member)
        n_active[documents] += 1
        sums[documents] += activations
    touched = np.flatnonzero(n_active)
    best = touched[np.lexsort((touched, -sums[touched], -n_active[touched]))]
    return best.tolist(), n_active[best].tolist(), sums[best].tolist()


# --- its neighbours -------------------------------------------------------------------------------


def _links(sae: ServedSAE, forest: ServedForest, found: Family) -> list[CrossLink]:
    """The strongest of the good parents that members have in other families."""
    strongest = sorted(found.links, key=lambda each: (-each.conditional, each.member, each.parent))[:N_LINKS]
    made = []
    for each in strongest:
        home = forest.home(each.parent)
        made.append(
            CrossLink(
                member=sae.chip(each.member),
                parent=sae.chip(each.parent),
                conditional=each.conditional,
                family="" if home is None else forest.name(home),
                family_url=None if home is None else forest.urls[home],
            )
        )
    return made


def _related(forest: ServedForest, found: Family) -> list[FamilyCard]:
    """Families that share members without one lying in the other, those that share most first."""
    members, nested = set(found.members), set(forest.holders(found.id))
    others = [
        (len(members.intersection(other.members)), other)
        for other in forest.families.values()
        if other.id != found.id and other.id not in nested
    ]
    shared = [pair for pair in others if pair[0]]
    ordered = sorted(shared, key=lambda pair: (-pair[0], pair[1].id))
    return [forest.card(other) for _, other in ordered[:N_RELATED]]


ABOUT = About(
    "family",
    "Families",
    "A family of features: its tree, its measures, the documents it is about.",
    FamilyView,
    read_families,
)
FILES = Files({"members": kinds.MEMBERS, "documents": kinds.FAMILY_DOCUMENTS}, family_file)

add_page(router, "/{collection}/{sae}/families/{family}", family, FILES, ABOUT)
