"""What pictures of pages say: of a feature, a family and a search."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from app.deps import ServedCollection, ServedSAE
from app.family import documents_of
from app.mathematics import plain
from app.pages import activation, count, percent, signed
from app.search import Search, answer
from app.views.common import DocumentCard, Trust
from app.views.sharing import Digest, DigestBar
from sae_core.families import Family

N_DOCUMENTS = 5
N_BARS = 4


def of_feature(collection: ServedCollection, sae: ServedSAE, latent: int) -> Digest:
    documents, activations = sae.set.codes.of_latent(latent)
    cards = collection.cards(documents[:N_DOCUMENTS].tolist(), sae)
    notes = [activation(value) for value in activations[:N_DOCUMENTS].tolist()]
    return Digest(
        eyebrow=f"Feature {latent}",
        title=plain(sae.texts[latent]),
        facts=[_fires(sae, sae.fires[latent]), *_scored(sae.labels[latent].trust)],
        heading="Strongest in" if cards else "",
        documents=_titles(cards, notes),
        figure="How strongly it is active" if cards else "",
        counts=sae.histogram(latent).counts if cards else [],
        maximum=activation(sae.maxima[latent]),
        bars=[],
        place=_place(sae),
    )


def of_family(collection: ServedCollection, sae: ServedSAE, found: Family) -> Digest:
    """A family as built: its documents, and the features right below its root."""
    cards = collection.cards(documents_of(sae, found)[0][:N_DOCUMENTS], sae)
    pairs = zip(found.members, found.parents, strict=True)
    children = [member for member, parent in pairs if parent == found.id][:N_BARS]
    most = max((sae.fires[child] for child in children), default=1) or 1
    return Digest(
        eyebrow=f"Family of {count(len(found.members))} features",
        title=plain(sae.forest.name(found.id)),
        facts=[_fires(sae, found.n_documents), *_scored(sae.forest.trust(found.id))],
        heading="Documents with most of them" if cards else "",
        documents=_titles(cards, _years(cards)),
        figure="Below its root" if children else "",
        counts=[],
        maximum="",
        bars=[
            DigestBar(plain(sae.texts[child]), sae.fires[child] / most, percent(sae.density(child)))
            for child in children
        ],
        place=_place(sae),
    )


def of_search(asked: Search) -> Digest:
    """A search: what is asked for, what is moved, and what comes first."""
    view = answer(asked, time.perf_counter())
    cards = [result.document for result in view.results[:N_DOCUMENTS]]
    sae, query = asked.sae, asked.query
    moved = [(sae.texts[latent], value) for latent, value in query.strengths]
    moved += [(sae.forest.name(root), value) for root, value in query.families if root in sae.forest.families]
    own = [(sae.texts[latent], value) for latent, value in sorted(asked.own.items(), key=_downwards)]
    return Digest(
        eyebrow="Steered search" if asked.is_steered else "Search",
        title=plain(query.q) or _begun(asked) or "A search by features",
        facts=[plain(move.words) for move in view.moves] or [f"{count(sae.n_documents)} documents"],
        heading="First results" if cards else "",
        documents=_titles(cards, _years(cards)),
        figure="Moved" if moved else "What the query is about" if own else "",
        counts=[],
        maximum="",
        bars=_scaled(moved[:N_BARS], signed) if moved else _scaled(own[:N_BARS], activation),
        place=_place(sae),
    )


def _begun(asked: Search) -> str:
    """The documents that a search begins from, in words."""
    catalog = asked.collection.catalog
    positions = catalog.find_positions(list(asked.query.like)).values()
    titles = [document.title or document.id for document in catalog.documents(list(positions))]
    return f"Like {plain(' and '.join(titles))}" if titles else ""


def _downwards(pair: tuple[int, float]) -> float:
    return -pair[1]


def _scaled(named: Sequence[tuple[str, float]], printed: Callable[[float], str]) -> list[DigestBar]:
    longest = max((abs(value) for _, value in named), default=0.0) or 1.0
    return [DigestBar(plain(text), value / longest, printed(value)) for text, value in named]


def _titles(cards: Sequence[DocumentCard], notes: Iterable[str]) -> list[DigestBar]:
    return [DigestBar(plain(card.title), 0.0, note) for card, note in zip(cards, notes, strict=True)]


def _years(cards: Sequence[DocumentCard]) -> list[str]:
    """A year for each, or nothing for all where none is known."""
    has_years = any(card.year for card in cards)
    return [str(card.year or "—") if has_years else "" for card in cards]


def _fires(sae: ServedSAE, n_documents: int) -> str:
    if n_documents == 0:
        return "dead: it fires on no document"
    return f"fires on {percent(n_documents / max(sae.n_documents, 1))} of documents ({count(n_documents)})"


def _scored(trust: Trust) -> list[str]:
    return [] if trust.auc is None else [f"label score {trust.auc:.2f}, {trust.word}"]


def _place(sae: ServedSAE) -> str:
    return f"{sae.collection} · {sae.name}"
