"""The results: documents in the order of the steered query, and what there is to say of them."""

from __future__ import annotations

import math

from app.deps import N_VENUES, ServedSAE
from app.query import MAX_PAGE, SearchQuery
from app.search.asking import Search
from app.views import FeatureChip, Option, ResultRow
from sae_core.explorer import SearchAnswer

PAGE_SIZE = 10
N_SHARED = 4


def message(asked: Search, found: SearchAnswer) -> str | None:
    query = asked.query
    if found.total == 0:
        known = set(asked.collection.explorer.metadata.venues)
        unknown = [venue for venue in query.venues if venue not in known]
        if unknown:
            return f'No document here has the venue "{unknown[0]}". Clear it, or choose another.'
        return "No document passes these filters. Widen the years or clear the venues."
    if not len(found.hits.positions):
        last = min(MAX_PAGE, math.ceil(found.total / PAGE_SIZE))
        return f"There is no page {query.page:,}: the results end on page {last:,}."
    if not query.q:
        return "There are no words in this search: documents are ranked by the features alone."
    return None


def rows(asked: Search, found: SearchAnswer) -> list[ResultRow]:
    sae, first = asked.sae, (asked.query.page - 1) * PAGE_SIZE
    positions = found.hits.positions.tolist()
    scores = found.hits.scores.tolist()
    ranks = None if found.baseline_ranks is None else found.baseline_ranks.tolist()
    deltas = found.edit.deltas if asked.code else asked.moves.strengths
    activations = {
        latent: asked.own.get(latent, 0.0) + deltas.get(latent, 0.0) for latent in {**asked.own, **deltas}
    }
    steered = {latent: value for latent, value in activations.items() if value > 0}
    return [
        ResultRow(
            rank=first + at + 1,
            document=card,
            score=scores[at],
            bar=min(1.0, max(0.0, scores[at] / found.best)) if found.best > 0 else 0.0,
            shared=_shared(sae, steered, card.position),
            moved=None if ranks is None or ranks[at] < 0 else ranks[at] - (first + at),
        )
        for at, card in enumerate(asked.collection.cards(positions, sae))
    ]


def _shared(sae: ServedSAE, steered: dict[int, float], position: int) -> tuple[FeatureChip, ...]:
    """The features that the steered query and a document both have, by the product of their activations."""
    latents, values = sae.set.codes.of_document(position)
    pairs = zip(latents.tolist(), values.tolist(), strict=True)
    both = [(steered[latent] * value, latent, value) for latent, value in pairs if latent in steered]
    both.sort(key=lambda found: -found[0])
    return tuple(sae.chip(latent, value) for _, latent, value in both[:N_SHARED])


# --- filters --------------------------------------------------------------------------------------


def venues(asked: Search) -> list[Option]:
    """The largest venues, and those that are chosen."""
    query, sizes = asked.query, asked.collection.venue_sizes
    shown = sizes[:N_VENUES]
    names = {name for name, _ in shown}
    shown = shown + [(name, dict(sizes).get(name, 0)) for name in query.venues if name not in names]
    return [_venue(query, name, count) for name, count in shown]


def _venue(query: SearchQuery, name: str, count: int) -> Option:
    is_chosen = name in query.venues
    venues = tuple(v for v in query.venues if v != name) if is_chosen else (*query.venues, name)
    return Option(name, name, query.url(venues=venues, page=1), is_chosen, count)
