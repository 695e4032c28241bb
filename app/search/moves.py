"""What is done to a search, in words: a chip for each, with the address that takes it back."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from app import urls
from app.lenses import without_moves
from app.query import SearchQuery, as_strength
from app.search.asking import Search
from app.views.search import MoveChip
from sae_core.steer import Edit

LEAST_LENGTH = 1e-6


def chips(asked: Search, edit: Edit | None) -> list[MoveChip]:
    """Lenses, families, features, what is kept and refined, then what documents must be like."""
    return [
        *_of_lenses(asked),
        *_of_families(asked),
        *_of_features(asked),
        *_of_edit(asked, edit),
        *_demands(asked),
    ]


def reset_url(query: SearchQuery) -> str:
    """The same search with nothing moved."""
    return without_moves(query).url(lenses=(), keep=None, refine=False)


def _of_lenses(asked: Search) -> Iterator[MoveChip]:
    query = asked.query
    for place, applied in enumerate(asked.lenses):
        n = len(applied.carried.lens.moves)
        change = f"{n} move{'' if n == 1 else 's'}"
        rest = (*query.lenses[:place], *query.lenses[place + 1 :])
        yield MoveChip("lens", f"lens {applied.lens.name}", change, None, query.url(lenses=rest, page=1))


def _of_families(asked: Search) -> Iterator[MoveChip]:
    query, sae = asked.query, asked.sae
    for root, amount in query.families:
        if root not in asked.families:
            continue
        words = f"{'less' if amount < 0 else 'more'} of the family {sae.forest.name(root)}"
        left = _alone(asked, sae.shares(root), amount)
        yield MoveChip("family", words, _signed(amount), left, query.url_family(root, None))


def _of_features(asked: Search) -> Iterator[MoveChip]:
    query, texts = asked.query, asked.sae.texts
    undo, products = query.urls_without(), _products(asked)
    for latent, value in query.strengths:
        own = as_strength(asked.own.get(latent, 0.0))
        if value == asked.base(latent) or latent in asked.moves.ignored:
            continue
        change = f"{_printed(own)} → {_printed(value)}"
        left = _closed(products.get(latent), value - asked.own.get(latent, 0.0))
        yield MoveChip("strength", _told(texts[latent], value, own), change, left, undo[latent])
    for words, latents in (
        ("only with {}", query.required),
        ("nothing with {}", query.excluded),
        ("ignoring {}", query.ignored),
    ):
        for latent in latents:
            left = _alone(asked, {latent: 1.0}) if latents is query.ignored else None
            url = query.in_mode(latent, "").url()
            yield MoveChip("mode", words.format(texts[latent]), "", left, url)


def _told(label: str, value: float, own: float) -> str:
    if value < 0:
        return f"against {label}"
    if value == 0:
        return f"without {label}"
    return f"{'more' if value > own else 'less'} {label}"


def _of_edit(asked: Search, edit: Edit | None) -> Iterator[MoveChip]:
    query = asked.query
    if query.keep is not None:
        shortened = edit is not None and edit.scale < 1
        change = f"moves scaled to {edit.scale:.0%}" if edit is not None and shortened else "not needed"
        yield MoveChip(
            "keep", f"close to my query: {query.keep:.2f}", change, None, query.url(keep=None, page=1)
        )
    if query.refine:
        yield MoveChip("refine", "refined", _refined(edit), None, query.url(refine=False, page=1))


def _refined(edit: Edit | None) -> str:
    if edit is None or edit.refined is None:
        return "nothing is moved"
    return f"missed what was asked for by {edit.refined.before:.0%}, now by {edit.refined.after:.0%}"


def _demands(asked: Search) -> Iterator[MoveChip]:
    query = asked.query
    found: list[tuple[str, str]] = []
    if query.year_min is not None:
        found.append((f"from {query.year_min}", query.url(year_min=None, page=1)))
    if query.year_max is not None:
        found.append((f"to {query.year_max}", query.url(year_max=None, page=1)))
    for name in ("venues", "categories"):
        values = getattr(query, name)
        for value in values:
            rest = tuple(other for other in values if other != value)
            found.append((f"in {value}", query.url(**{name: rest}, page=1)))
    if query.cited_min is not None:
        found.append((f"cited at least {query.cited_min:,} times", query.url(cited_min=None, page=1)))
    if query.keywords and asked.by_words is None:
        found.append((f"words count {query.keywords:.0%}", query.url(keywords=0.0, page=1)))
    if query.diverse:
        found.append(("one result per family", query.url(diverse=False, page=1)))
    for words, url in found:
        yield MoveChip("demand", words, "", None, url)


def _products(asked: Search) -> dict[int, float]:
    """The product of the query with the direction of each feature that has a strength."""
    latents = [latent for latent, _ in asked.query.strengths]
    if asked.code is None or not latents:
        return {}
    found = asked.sae.directions_ND[latents] @ asked.code.x_D
    return dict(zip(latents, found.tolist(), strict=True))


def _closed(product: float | None, change: float) -> float | None:
    """`_alone` for one feature, whose direction is a unit vector with this product with x."""
    if product is None:
        return None
    length = math.sqrt(max(1 + 2 * change * product + change * change, LEAST_LENGTH))
    return (1 + change * product) / length


def _alone(asked: Search, weights: dict[int, float], change: float | None = None) -> float | None:
    """The cosine with x that one move alone leaves: of x + change d; None: of x without its part along d."""
    if asked.code is None or not weights:
        return None
    x_D = asked.code.x_D.astype(np.float64)
    d_D = np.fromiter(weights.values(), dtype=np.float64) @ asked.sae.directions_ND[list(weights)]
    moved_D = x_D + (-(x_D @ d_D) / (d_D @ d_D) if change is None else change) * d_D
    length = float(np.linalg.norm(moved_D) * np.linalg.norm(x_D))
    return float(x_D @ moved_D) / length if length > LEAST_LENGTH else 0.0


def _signed(amount: float) -> str:
    return urls.decimals(amount).replace("-", "\N{MINUS SIGN}")


def _printed(strength: float) -> str:
    return _signed(strength).removeprefix("+")
