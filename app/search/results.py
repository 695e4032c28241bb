"""The results: documents in the order of the steered query, and what there is to say of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import urls
from app.catalog import CatalogTimeout
from app.deps import ServedSAE, shorten
from app.formats import DocumentRow, Row
from app.query import MAX_PAGE, SearchQuery
from app.search import reasons
from app.search.asking import Search
from app.search.facets import facets, filters_of
from app.views.common import DocumentLink, FeatureChip, Option
from app.views.search import (
    Chosen,
    Facets,
    Faithful,
    Mark,
    PlainRow,
    Preview,
    Proposals,
    ResultRow,
    SearchView,
    WhyDocument,
)
from sae_core.explorer import DEPTH, SearchAnswer
from sae_core.feedback import Marked
from sae_core.filters import Filters

PAGE_SIZE = 10
N_SHARED = 4
ROLES = ("like", "unlike", "up", "down", "a", "b")  # what a document can be chosen for, by any number
OPPOSITES = {"like": "unlike", "unlike": "like", "up": "down", "down": "up", "a": "b", "b": "a"}
LATE = "Looking up the words took too long, so the order is by meaning alone."
CHIPS = ("like", "unlike", "a", "b")  # those that are shown apart from the results too


@dataclass(frozen=True)
class Shown:
    """What the block `results` shows: the fields of `SearchView` that are filled here."""

    results: list[ResultRow] = field(default_factory=list)
    plain: list[PlainRow] = field(default_factory=list)
    ways: list[Option] = field(default_factory=list)
    why: WhyDocument | None = None
    above: WhyDocument | None = None
    previews: list[Preview] = field(default_factory=list)
    n_pool: int = 0
    n_unforetold: int = 0
    proposals: Proposals | None = None
    chosen: list[Chosen] = field(default_factory=list)
    separate_url: str | None = None
    faithful: Faithful | None = None
    facets: Facets | None = None
    n_keywords: int = 0
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Named:
    """The documents that the address names, by id; those that are not here are missing."""

    positions: dict[str, int]
    missing: list[str]

    @classmethod
    def of(cls, asked: Search) -> Named:
        query = asked.query
        wanted = [*query.up, *query.down, *query.a, *query.b, *query.like, *query.unlike]
        wanted += [name for name in (query.why, query.against) if name]
        if not wanted:
            return cls({}, [])
        positions = asked.collection.catalog.find_positions(wanted)
        return cls(positions, [name for name in dict.fromkeys(wanted) if name not in positions])

    def among(self, names: Iterable[str]) -> list[int]:
        return [self.positions[name] for name in names if name in self.positions]


@dataclass(frozen=True)
class Words:
    """The keyword leg: documents that have the words of the query, best match first."""

    positions: NDArray[np.int64] | None  # None: not asked for
    remark: str = ""

    def __len__(self) -> int:
        return 0 if self.positions is None else len(self.positions)


def words(asked: Search) -> Words:
    """What the catalogue finds for the words, if they count."""
    query = asked.query
    if asked.by_words is not None:
        return Words(asked.by_words.positions)
    if not query.keywords:
        return Words(None)
    if not query.q:
        return Words(None, "There are no words to count: the order is by meaning alone.")
    try:
        found = asked.collection.catalog.keyword_hits(query.q)
    except CatalogTimeout:
        return Words(None, LATE)
    remark = "" if len(found) else "No document has these words, so the order is by meaning alone."
    return Words(found, remark)


def is_hurried(view: SearchView) -> bool:
    """Whether the answer lacks something that there was no time for, and that the next one may have."""
    return LATE in view.remarks or (view.facets is not None and not view.facets.is_counted)


def nothing(asked: Search) -> Shown:
    """What is shown where nothing was ranked: the panel is to stay as it is."""
    if not (asked.wants("results") or asked.wants("panel")):
        return Shown()
    return Shown(chosen=_chosen(asked, Named.of(asked)), facets=facets(asked), remarks=list(asked.remarks))


def show(asked: Search, x_D: NDArray[np.float32], found: SearchAnswer, words: Words) -> Shown:
    """Everything about the ranking, with one question to the catalogue."""
    named = Named.of(asked)
    foresight = reasons.Foresight(asked, x_D, found)
    positions = found.hits.positions.tolist()
    baseline = [] if found.baseline is None else found.baseline.positions.tolist()
    asked.collection.catalog.documents(
        list(dict.fromkeys([*positions, *baseline, *named.positions.values(), *foresight.movers]))
    )
    movers = list(dict.fromkeys(foresight.movers))
    links = asked.collection.cite(movers)
    results = rows(asked, found, named)
    first = (asked.query.page - 1) * PAGE_SIZE
    shares = [row.explained for row in results if row.explained is not None]
    return Shown(
        results=results,
        plain=plain_rows(asked, found),
        ways=_ways(asked.query, found),
        **_whys(asked, found, named, results),
        previews=foresight.previews(first, len(results), dict(zip(movers, links, strict=True))),
        n_pool=foresight.n_pool,
        n_unforetold=foresight.n_left,
        proposals=_proposals(asked, x_D, named, positions),
        chosen=_chosen(asked, named),
        separate_url=_separate_url(asked.query),
        faithful=None if asked.by_words else reasons.faithful(asked, x_D, shares),
        facets=facets(asked),
        n_keywords=len(words),
        remarks=_remarks(asked, named, words),
    )


def link(asked: Search, position: int) -> DocumentLink:
    return asked.collection.cite([position])[0]


# --- rows ------------------------------------------------------------------------------------------


def rows(asked: Search, found: SearchAnswer, named: Named) -> list[ResultRow]:
    sae, first = asked.sae, (asked.query.page - 1) * PAGE_SIZE
    ranks = None if found.baseline_ranks is None else found.baseline_ranks.tolist()
    steered = {latent: value for latent, value in {**asked.own, **asked.moves.strengths}.items() if value > 0}
    marks = _marks(asked.query, named)
    cards = asked.collection.cards(found.hits.positions.tolist(), sae)
    scores = found.hits.scores.tolist()
    strengths = scores if found.fused is None else found.fused.tolist()
    vector = asked.collection.explorer.vector
    return [
        ResultRow(
            rank=first + at + 1,
            document=card,
            score=scores[at],
            bar=min(1.0, max(0.0, strengths[at] / found.best)) if found.best > 0 else 0.0,
            shared=_shared(sae, steered, card.position),
            moved=_moved(ranks, at, first),
            is_new=_is_new(ranks, at),
            marks=marks.get(card.position, ()),
            explained=sae.explained(card.position, vector(card.position)),
        )
        for at, card in enumerate(cards)
    ]


def listed(asked: Search, found: SearchAnswer) -> Iterator[list[DocumentRow]]:
    """The ranking for a file."""
    first = (asked.query.page - 1) * PAGE_SIZE
    ranks = None if found.baseline_ranks is None else found.baseline_ranks.tolist()
    scores = found.hits.scores.tolist()

    def own(at: int) -> Row:
        rank = first + at + 1
        return (rank, scores[at], _moved(ranks, at, first), _is_new(ranks, at))

    return asked.collection.listed(found.hits.positions.tolist(), asked.sae, own)


def _moved(ranks: list[int] | None, at: int, first: int) -> int | None:
    """Places gained or lost against the unsteered ranking, where it has the document."""
    return None if ranks is None or ranks[at] < 0 else ranks[at] - (first + at)


def _is_new(ranks: list[int] | None, at: int) -> bool:
    return ranks is not None and ranks[at] < 0


def _shared(sae: ServedSAE, steered: dict[int, float], position: int) -> tuple[FeatureChip, ...]:
    """The features that the steered query and a document both have, by the product of their activations."""
    latents, values = sae.set.codes.of_document(position)
    pairs = zip(latents.tolist(), values.tolist(), strict=True)
    both = [(steered[latent] * value, latent, value) for latent, value in pairs if latent in steered]
    both.sort(key=lambda found: -found[0])
    return tuple(sae.chip(latent, value) for _, latent, value in both[:N_SHARED])


def _marks(query: SearchQuery, named: Named) -> dict[int, tuple[Mark, ...]]:
    """What each document was chosen for."""
    found: dict[int, tuple[Mark, ...]] = {}
    chosen = [(role, name) for role in ROLES for name in getattr(query, role)]
    for role, name in [*chosen, ("why", query.why), ("against", query.against)]:
        if (position := named.positions.get(name)) is not None:
            found[position] = (*found.get(position, ()), *_mark(query, role, name))
    return found


def _mark(query: SearchQuery, role: str, name: str) -> list[Mark]:
    if role == "why":
        return [Mark(role, is_on=True, url=query.url(why="", against=""))]
    if role == "against":
        return [Mark(role, is_on=True, url=query.url(against=""))]
    changes: dict[str, Any] = {role: tuple(other for other in getattr(query, role) if other != name)}
    if role in {"like", "unlike"}:
        changes["page"] = 1
    marks = [Mark(role, is_on=True, url=query.url(**changes))]
    other = OPPOSITES[role]
    if name not in getattr(query, other):
        swapped = {**changes, other: (*getattr(query, other), name)}
        marks.append(Mark(other, is_on=False, url=query.url(**swapped)))
    return marks


def plain_rows(asked: Search, found: SearchAnswer) -> list[PlainRow]:
    """The first page of the unsteered ranking, and where each of its documents went."""
    if found.baseline is None or found.moved_ranks is None:
        return []
    links = asked.collection.cite(found.baseline.positions.tolist())
    return [
        PlainRow(
            rank=at + 1,
            document=document,
            now=rank + 1 if 0 <= rank < DEPTH else None,
            is_filtered=rank < 0,
            is_dropped=not 0 <= rank < PAGE_SIZE,
        )
        for at, (document, rank) in enumerate(zip(links, found.moved_ranks.tolist(), strict=True))
    ]


def _ways(query: SearchQuery, found: SearchAnswer) -> list[Option]:
    if found.baseline is None:
        return []
    texts = {"list": "List", "ab": "Before and after"}
    return [Option(way, text, query.url(view=way, page=1), query.view == way) for way, text in texts.items()]


# --- what is chosen --------------------------------------------------------------------------------


def _whys(
    asked: Search, found: SearchAnswer, named: Named, results: Sequence[ResultRow]
) -> dict[str, WhyDocument]:
    query = asked.query
    position, other = (named.positions.get(name) for name in (query.why, query.against))
    if position is None:
        return {}
    rank = next((row.rank for row in results if row.document.position == position), None)

    def name(at: int) -> DocumentLink:
        return link(asked, at)

    reason = {"why": reasons.why_document(asked, found, position, name, rank)}
    if other is not None and other != position:
        reason["above"] = reasons.why_higher(asked, found, position, other, name, rank)
    return reason


def _proposals(
    asked: Search, x_D: NDArray[np.float32], named: Named, shown: Sequence[int]
) -> Proposals | None:
    marked = [named.among(names) for names in (asked.query.up, asked.query.down)]
    if not any(marked):
        return None
    both = set(marked[0]) & set(marked[1])  # which says nothing
    up, down = ([position for position in side if position not in both] for side in marked)
    others = [position for position in shown if position not in {*marked[0], *marked[1]}]
    moves = reasons.proposed(asked, x_D, Marked(up, down, others)) if up or down else []
    return Proposals(moves, len(up), len(down), asked.query.url(up=(), down=()))


def _chosen(asked: Search, named: Named) -> list[Chosen]:
    query = asked.query
    found = []
    for role in CHIPS:
        names = getattr(query, role)
        page = query.page if role in {"a", "b"} else 1
        found += [
            Chosen(
                role,
                link(asked, named.positions[name]) if name in named.positions else DocumentLink(name, ""),
                query.url(**{role: tuple(other for other in names if other != name), "page": page}),
            )
            for name in names
        ]
    return found


def _separate_url(query: SearchQuery) -> str | None:
    """The page on what separates the documents that are ticked."""
    if not query.a:
        return None
    return urls.separate(query.collection, query.sae, query.a, query.b, query.q)


# --- messages --------------------------------------------------------------------------------------


def message(asked: Search, found: SearchAnswer) -> str | None:
    """Why there is nothing, and what to do; or what is to be known of what there is."""
    query = asked.query
    if found.total == 0:
        return _nothing(asked)
    if not len(found.hits.positions):
        last = min(MAX_PAGE, math.ceil(found.total / PAGE_SIZE))
        return f"There is no page {query.page:,}: the results end on page {last:,}."
    if not (query.q or query.like or query.unlike):
        return "There are no words in this search: documents are ranked by the features alone."
    return None


def _nothing(asked: Search) -> str:
    query, metadata = asked.query, asked.collection.explorer.metadata
    facets_asked = (
        ("venue", query.venues, metadata.venues),
        ("category", query.categories, metadata.categories),
    )
    for name, chosen, known in facets_asked:
        unknown = [value for value in chosen if value not in known]
        if len(unknown) == len(chosen) and unknown:
            return f'No document here has the {name} "{shorten(unknown[0])}". Clear it, or choose another.'
    demands, filters = bool(asked.required or asked.excluded), filters_of(query) != Filters()
    no_document = "No document" if asked.by_words is None else "No document with these words"
    if demands and filters:
        return f"{no_document} passes these filters and is as required. Widen the filters, or take one back."
    if demands:
        return f"{no_document} has all features that are required and none that is excluded. Take one back."
    return f"{no_document} passes these filters. Widen the years, or clear venues, categories and citations."


def _remarks(asked: Search, named: Named, words: Words) -> list[str]:
    found = list(asked.remarks)
    starts = {*asked.query.like, *asked.query.unlike}  # whose absence is said already
    found += [
        f'There is no document "{shorten(name)}" here: its mark counts for nothing.'
        for name in named.missing
        if name not in starts
    ]
    return [*found, words.remark] if words.remark else found
