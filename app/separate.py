"""The page "what separates these sets": two sets of documents, and the features that tell them apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response
from numpy.typing import NDArray

from app import urls
from app.deps import PageNotFound, ServedCollection, ServedSAE, add_page, get_sae, link, paging, shorten
from app.described import About
from app.formats import Files, NothingToList, Table, batched, kinds
from app.pages import page
from app.query import CONTRAST_SORTS, MAX_STRENGTH, SeparateQuery, Side, as_strength
from app.views.common import DocumentLink, Option
from app.views.search import SeparateView, SeparationRow, SideView
from sae_core.contrast import LEVEL, Separation, separate, smallest_p
from sae_core.errors import EmbedderNotReady
from sae_core.features import QUANTILES

router = APIRouter()

N_BEST = 50  # documents that a text stands for
N_NAMED = 50  # documents of a set that are shown by name: all that can be ticked
N_SAMPLED = 8  # of a set of years
PAGE_SIZE = 20  # features a column
N_CLOSEST = 5  # shown in a column where none passes
STRONG = QUANTILES.index(0.75)  # the strength of a slider, among documents that have the feature
SORT_WORDS = {
    "evidence": "evidence",
    "odds": "odds at least",
    "share": "difference of shares",
    "label": "label",
}
SORT_KEYS: dict[str, Callable[[Separation], float]] = {
    "evidence": lambda each: each.q,
    "odds": lambda each: -max(each.log_odds.low, -each.log_odds.high),
    "share": lambda each: -abs(each.share_a - each.share_b),
}


@dataclass(frozen=True)
class _Sets:
    """The documents that are compared, and what is to be said about them."""

    a: NDArray[np.int64]
    b: NDArray[np.int64] | None  # None: all others
    remarks: list[str]
    problem: str | None  # why they cannot be compared


def separate_page(request: Request) -> Response:
    began = time.perf_counter()
    collection, sae = get_sae(request)
    query = SeparateQuery.parse(collection.name, sae.name, request.scope["query_string"])
    return page(request, "separate", separate_view(collection, sae, query, began))


def separate_file(request: Request, name: str) -> Table:
    """Every feature of both columns, whether or not it passes."""
    del name
    collection, sae = get_sae(request)
    query = SeparateQuery.parse(collection.name, sae.name, request.scope["query_string"])
    sets = _sets(collection, query)
    if sets.problem is not None:
        raise NothingToList(sets.problem)
    ordered = [
        (side, each)
        for side, column in zip("ab", _columns(separate(sae.set.codes, sets.a, sets.b)), strict=True)
        for each in _in_order(sae, query, column)
    ]
    batches = (
        [kinds.separating_row(side, _row(sae, query, each)) for side, each in some]
        for some in batched(ordered)
    )
    return collection.table(kinds.SEPARATING, f"{sae.name} separate", query.url(), batches)


def _columns(found: list[Separation]) -> list[list[Separation]]:
    """Features that A has more, and those that B has more."""
    return [[each for each in found if (each.log_odds.value > 0) is is_a] for is_a in (True, False)]


def separate_view(
    collection: ServedCollection, sae: ServedSAE, query: SeparateQuery, began: float
) -> SeparateView:
    sets = _sets(collection, query)
    found = separate(sae.set.codes, sets.a, sets.b) if sets.problem is None else []
    rest = sae.n_documents - len(sets.a)
    sizes = (len(sets.a), rest if sets.b is None else len(sets.b))
    columns = _columns(found)
    passed = [[each for each in column if each.q <= LEVEL] for column in columns]
    n_passed = max(map(len, passed))
    shown = [_on_page(sae, query, column) for column in passed]
    if not n_passed:
        shown = [column[:N_CLOSEST] for column in columns]
    rows = [[_row(sae, query, each) for each in column] for column in shown]
    return SeparateView(
        collection=collection.name,
        sae=sae.name,
        a=_side_view(collection, query, "A", sets.a),
        b=_side_view(collection, query, "B", sets.b, rest),
        is_rest=sets.b is None,
        remarks=sets.remarks,
        message=sets.problem or (None if n_passed else _nothing_passes(found, *sizes)),
        n_features=len(found),
        n_tested=sum(each.is_tested for each in found),
        level=LEVEL,
        more_in_a=rows[0],
        more_in_b=rows[1],
        n_more_in_a=len(passed[0]),
        n_more_in_b=len(passed[1]),
        reach=max((max(abs(row.low), abs(row.high)) for row in rows[0] + rows[1]), default=1.0),
        sorts=_sorts(query),
        page=paging(query.page, PAGE_SIZE, n_passed, lambda number: query.url(page=number))
        if n_passed
        else None,
        year_bounds=collection.year_bounds,
        q=query.q,
        swap_url=None if query.b.is_empty else query.url(a=query.b, b=query.a, page=1),
        url=query.url(),
        json_url=urls.json(query.url()),
        seconds=time.perf_counter() - began,
    )


# --- the sets -------------------------------------------------------------------------------------


def _sets(collection: ServedCollection, query: SeparateQuery) -> _Sets:
    """The documents of both sides. What is in both counts in neither."""
    remarks: list[str] = []
    a, b = (_positions(collection, query, side, name, remarks) for side, name in _sides(query))
    if query.a.is_empty:
        return _Sets(
            a, b, [], "Set A has no documents yet: tick results of a search, or name years or a text."
        )
    if query.b.is_empty:
        problem = _empty("A", query.a, collection) if not len(a) else None
        if len(a) == collection.explorer.n_documents:
            problem = "Set A is the whole collection: there is nothing to compare it with."
        return _Sets(a, None, remarks, problem)
    both = np.intersect1d(a, b)
    if len(both):
        remarks.append(_in_both(len(both)))
    only_a, only_b = np.setdiff1d(a, both), np.setdiff1d(b, both)
    return _Sets(only_a, only_b, remarks, _problem(collection, query, (a, b), (only_a, only_b)))


_NO_DOCUMENTS = np.empty(0, dtype=np.int64)


def _sides(query: SeparateQuery) -> tuple[tuple[Side, str], tuple[Side, str]]:
    return (query.a, "A"), (query.b, "B")


def _positions(
    collection: ServedCollection, query: SeparateQuery, side: Side, name: str, remarks: list[str]
) -> NDArray[np.int64]:
    """Rising positions; `PageNotFound` for a document that is not here."""
    explorer = collection.explorer
    if side.years is not None:
        years_M = np.asarray(explorer.metadata.years_M)
        return np.flatnonzero((years_M >= max(side.years[0], 1)) & (years_M <= side.years[1]))
    if side.text:
        try:
            found = explorer.search(query.sae, explorer.start(side.text), limit=N_BEST).hits.positions
            chosen = "likeness to a text"
        except EmbedderNotReady as error:
            found = collection.catalog.keyword_hits(side.text)[:N_BEST]
            chosen = f"the words of a text ({error.what.rstrip('.')})"
        remarks.append(
            f"Set {name} is chosen by {chosen}, so features of that text stand out in it by design."
        )
        return np.sort(found)
    known = collection.catalog.find_positions(side.documents)
    for document in side.documents:
        if document not in known:
            raise _unknown(collection, query, document)
    return np.array(sorted(known.values()), dtype=np.int64)


def _unknown(collection: ServedCollection, query: SeparateQuery, document: str) -> PageNotFound:
    without = query.url(a=query.a.without(document), b=query.b.without(document), page=1)
    return PageNotFound(
        f'There is no document "{shorten(document)}" in {collection.name}, so it cannot be in a set.',
        remedy="Compare the sets without it.",
        suggestions=[link("The same sets without this document", without)],
    )


def _problem(
    collection: ServedCollection,
    query: SeparateQuery,
    wanted: Sequence[NDArray[np.int64]],
    left: Sequence[NDArray[np.int64]],
) -> str | None:
    """Why two sets that were chosen cannot be compared."""
    for (side, name), positions in zip(_sides(query), wanted, strict=True):
        if not len(positions):
            return _empty(name, side, collection)
    if not len(left[0]) and not len(left[1]):
        return "Both sets are the same documents: nothing can separate them."
    for name, other, positions in (("A", "B", left[0]), ("B", "A", left[1])):
        if not len(positions):
            return f"Every document of set {name} is in set {other} too, so nothing is left of it to compare."
    return None


def _empty(name: str, side: Side, collection: ServedCollection) -> str:
    if side.text:
        return f"No document has the words of “{shorten(side.text)}”."
    if side.years is None:
        return f"Set {name} has no documents."
    bounds = collection.year_bounds
    known = f"the known years are {bounds[0]} to {bounds[1]}" if bounds else "no document has a year"
    return f"No document is of {_range(side.years)}: {known}."


def _in_both(n: int) -> str:
    if n == 1:
        return "One document is in both sets and counts in neither."
    return f"{n:,} documents are in both sets and count in neither."


def _range(years: tuple[int, int]) -> str:
    return str(years[0]) if years[0] == years[1] else f"{years[0]}–{years[1]}"


# --- what is shown --------------------------------------------------------------------------------


def _side_view(
    collection: ServedCollection,
    query: SeparateQuery,
    name: str,
    positions: NDArray[np.int64] | None,
    n_rest: int = 0,
) -> SideView:
    side = query.a if name == "A" else query.b
    positions = _NO_DOCUMENTS if positions is None else positions
    some = positions[: N_SAMPLED if side.years else N_NAMED].tolist()
    found = collection.catalog.documents(some)
    documents: list[tuple[DocumentLink, str | None]] = []
    for document in found:
        shown = DocumentLink(document.title or document.id, urls.document(collection.name, document.id))
        without = side.without(document.id)
        address = query.url(**{name.lower(): without}, page=1) if side.documents else None
        documents.append((shown, address))
    return SideView(
        name=name,
        text=_words(side, name),
        n=n_rest if name == "B" and side.is_empty else len(positions),
        documents=documents,
        years=_range(side.years) if side.years else "",
        q=side.text,
    )


def _words(side: Side, name: str) -> str:
    if side.years is not None:
        return f"documents of {_range(side.years)}"
    if side.text:
        return f"the best documents for “{shorten(side.text)}”, at most {N_BEST}"
    if side.documents:
        return "documents you chose"
    return "all other documents of the collection" if name == "B" else "nothing yet"


def _in_order(sae: ServedSAE, query: SeparateQuery, found: list[Separation]) -> list[Separation]:
    if query.sort == "label":
        return sorted(found, key=lambda each: (sae.texts[each.latent].casefold(), each.latent))
    return sorted(found, key=SORT_KEYS[query.sort])  # stable: then as they were found, by evidence


def _on_page(sae: ServedSAE, query: SeparateQuery, found: list[Separation]) -> list[Separation]:
    ordered = _in_order(sae, query, found)
    return ordered[(query.page - 1) * PAGE_SIZE : query.page * PAGE_SIZE]


def _row(sae: ServedSAE, query: SeparateQuery, found: Separation) -> SeparationRow:
    strength = min(float(sae.set.features.quantiles_NQ[found.latent, STRONG]), MAX_STRENGTH)
    moved = [(found.latent, as_strength(strength))]
    return SeparationRow(
        feature=sae.chip(found.latent),
        n_a=found.n_a,
        share_a=found.share_a,
        n_b=found.n_b,
        share_b=found.share_b,
        log_odds=found.log_odds.value,
        low=found.log_odds.low,
        high=found.log_odds.high,
        p=found.p,
        q=found.q,
        passes=found.q <= LEVEL,
        steer_url=urls.search(query.collection, query.sae, query.q, moved),
    )


def _nothing_passes(found: list[Separation], size_a: int, size_b: int) -> str:
    """Why no feature passes, and what would help."""
    least = float(smallest_p(np.array([min(size_a, size_b)]), size_a, size_b)[0])
    if least > LEVEL:
        return (
            f"Sets of {size_a:,} and {size_b:,} documents are too small for any feature to pass: even one "
            f"that all documents of the smaller set have and none of the other would have p = {least:.2g}. "
            f"Add documents, or compare with the whole collection."
        )
    n_tested = sum(each.is_tested for each in found)
    best = min((each.q for each in found), default=1.0)
    return (
        f"No feature is told apart from chance. Corrected for the {n_tested:,} features that could have "
        f"passed, the smallest q is {best:.2g}; {LEVEL} is asked for. Larger sets show smaller differences."
    )


def _sorts(query: SeparateQuery) -> list[Option]:
    return [
        Option(name, SORT_WORDS[name], query.url(sort=name, page=1), is_chosen=name == query.sort)
        for name in CONTRAST_SORTS
    ]


add_page(
    router,
    "/{collection}/{sae}/separate",
    separate_page,
    Files({"features": kinds.SEPARATING}, separate_file),
    About(
        "separate",
        "Search",
        "Which features tell two sets of documents apart, or one set from all others.",
        SeparateView,
        partial(SeparateQuery.parse, "", ""),
        {"a": "{document}"},
    ),
)
