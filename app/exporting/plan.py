"""Which pages a copy has, and under which file each of them lies.

Files are named by numbers, never by what people wrote: any id of a document is good enough for an address,
but not for a file system.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from app import urls
from app.families import LIST_SIZE as FAMILIES_ON_A_PAGE
from app.features import EVIDENCE_SIZE
from app.features import LIST_SIZE as FEATURES_ON_A_PAGE
from app.query import (
    AREAS,
    COLOURS,
    FAMILY_SORTS,
    MAX_PAGE,
    SORTS,
    TABS,
    EvidenceQuery,
    FamilyQuery,
    FeatureQuery,
    SearchQuery,
)
from sae_core.errors import NotFoundError, SaefariError

if TYPE_CHECKING:
    from app.deps import ServedCollection, ServedSAE

ABOUT = "about.html"  # says what the copy has, and what only a server can do
UNPAGED_TABS = tuple(tab for tab in TABS if tab != "all")  # which has a page for every 25 documents


@dataclass(frozen=True)
class Choice:
    """What a copy is to have."""

    saes: tuple[str, ...] = ()  # names; () stands for the first
    n_documents: int | None = 1_000  # pages of documents; None: of all
    evidence: bool = False  # all kinds of evidence of a feature, not only the strongest activations
    searches: tuple[str, ...] = ()  # addresses, or words to search for
    examples: bool = True  # the overview's example queries as well


@dataclass
class Plan:
    """The file of each page that is copied, by its canonical address, kind after kind."""

    files: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, list[str]] = field(default_factory=dict)  # addresses
    aliases: dict[str, str] = field(default_factory=dict)  # further addresses, and the file that answers them

    def add(self, kind: str, address: str, file: str) -> None:
        if address not in self.files:
            self.files[address] = file
            self.kinds.setdefault(kind, []).append(address)

    def file_of(self, address: str) -> str | None:
        """Where a link leads; None: to a page that is not copied."""
        return self.files.get(address) or self.aliases.get(address)

    @property
    def n_pages(self) -> int:
        """With the page about the copy."""
        return len(self.files) + 1


def chosen_saes(collection: ServedCollection, choice: Choice) -> list[ServedSAE]:
    """The SAEs to be copied; SaefariError for a name that is not there."""
    if not collection.saes:
        what = f"The collection {collection.name} has no SAE, so there are no features to copy."
        raise SaefariError(what, remedy="Build it again with `saefari build`.")
    for name in choice.saes:
        if name not in collection.saes:
            what = f"The collection {collection.name} has no SAE {name}."
            raise NotFoundError(what, remedy=f"Here are: {', '.join(collection.saes)}.")
    return [collection.saes[name] for name in choice.saes or list(collection.saes)[:1]]


def chosen_searches(collection: ServedCollection, saes: Sequence[ServedSAE], choice: Choice) -> list[str]:
    """Canonical addresses of the searches to be copied, each once."""
    wanted = [_search(collection, saes, text) for text in choice.searches]
    if choice.examples:
        wanted += [example.url for sae in saes for example in collection.examples[sae.name]]
    return list(dict.fromkeys(wanted))


def _search(collection: ServedCollection, saes: Sequence[ServedSAE], text: str) -> str:
    """The canonical address of a search that is given as an address, of any host, or as words."""
    parts = urlsplit(text)
    if not (parts.netloc or text.startswith("/")):
        return urls.search(collection.name, saes[0].name, text)
    for sae in saes:
        if parts.path == urls.search(collection.name, sae.name):
            return SearchQuery.parse(collection.name, sae.name, parts.query, sae.n_latents).url()
    names = " or ".join(sae.name for sae in saes)
    what = f"{text} is no address of a search in {collection.name} with {names}."
    raise SaefariError(
        what, remedy="Copy it from the address bar, name its SAE with --sae, or give words only."
    )


def make_plan(
    collection: ServedCollection,
    saes: Sequence[ServedSAE],
    choice: Choice,
    searches: Sequence[str],
    found: Sequence[int],
) -> Plan:
    """Everything that is copied. `found` are positions of documents that come first: searches show them."""
    plan = Plan()
    plan.add("lists", urls.collection(collection.name), "index.html")
    for number, address in enumerate(searches, 1):
        plan.add("searches", address, f"searches/{number}.html")
    if len(collection.saes) > 1:
        plan.add("lists", urls.compare(collection.name), "compare.html")
    for sae in saes:
        _add_sae(plan, collection, sae, choice)
    positions = _documents(collection, saes, choice, found)
    for document, position in zip(collection.catalog.documents(positions), positions, strict=True):
        for sae in saes:
            suffix = "" if sae is saes[0] else f"-{sae.name}"
            file = f"documents/{position}{suffix}.html"
            plan.add("documents", collection.document_url(document.id, sae), file)
        # What mentions a document without an SAE means its page with the first one.
        plan.aliases[collection.document_url(document.id, None)] = f"documents/{position}.html"
    plan.aliases[urls.home()] = "index.html"
    for name in collection.saes:
        for address in (urls.search(collection.name, name), urls.separate(collection.name, name)):
            plan.aliases[address] = ABOUT
    return plan


def _add_sae(plan: Plan, collection: ServedCollection, sae: ServedSAE, choice: Choice) -> None:
    plan.add("lists", sae.summary.url, f"{sae.name}/index.html")
    for address, name in _feature_lists(collection, sae):
        plan.add("lists", address, f"{sae.name}/features/{name}.html")
    for address, name in _family_lists(sae):
        plan.add("lists", address, f"{sae.name}/families/{name}.html")
    for latent in range(sae.n_latents):
        evidence = EvidenceQuery(collection.name, sae.name, latent=latent)
        tabs = UNPAGED_TABS if choice.evidence and sae.fires[latent] else TABS[:1]
        for tab in tabs:
            name = f"{latent}-{tab}" if tab != TABS[0] else str(latent)
            plan.add("features", evidence.url(tab=tab), f"{sae.name}/features/{name}.html")
    for number, url in sae.forest.urls.items():
        plan.add("families", url, f"{sae.name}/families/{number}.html")


def _feature_lists(collection: ServedCollection, sae: ServedSAE) -> Iterator[tuple[str, str]]:
    """Every page of the list of features, in every order."""
    query = FeatureQuery(collection.name, sae.name)
    n_pages = _n_pages(collection.catalog.features(query, 1).total, FEATURES_ON_A_PAGE)
    for sort in SORTS:
        for page in range(1, n_pages + 1):
            is_first = sort == SORTS[0] and page == 1
            yield query.url(sort=sort, page=page), "index" if is_first else f"by-{sort}-{page}"


def _family_lists(sae: ServedSAE) -> Iterator[tuple[str, str]]:
    """Every page of the list of families, in every order, and the other ways to draw the map."""
    config = sae.forest.config
    query = FamilyQuery(sae.collection, sae.name, stored=config, config=config)
    for sort in FAMILY_SORTS:
        for page in range(1, _n_pages(len(sae.forest.families), FAMILIES_ON_A_PAGE) + 1):
            is_first = sort == FAMILY_SORTS[0] and page == 1
            yield query.url(sort=sort, page=page), "index" if is_first else f"by-{sort}-{page}"
    for area in AREAS:
        for colour in COLOURS:
            yield query.url(area=area, colour=colour), f"map-{area}-{colour}"


def _n_pages(n_rows: int, size: int) -> int:
    return min(MAX_PAGE, max(1, math.ceil(n_rows / size)))


def _documents(
    collection: ServedCollection, saes: Sequence[ServedSAE], choice: Choice, found: Sequence[int]
) -> list[int]:
    """Positions: those found by searches, then those that the pages of most features show."""
    n = collection.explorer.n_documents
    if choice.n_documents is None or choice.n_documents >= n:
        return list(range(n))
    shown = np.zeros(n, dtype=np.int64)
    for sae in saes:
        for latent in range(sae.n_latents):
            np.add.at(shown, sae.set.codes.of_latent(latent)[0][:EVIDENCE_SIZE], 1)
    order = np.argsort(-shown, kind="stable").tolist()
    return list(dict.fromkeys([*found, *order]))[: choice.n_documents]
