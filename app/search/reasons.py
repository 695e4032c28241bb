"""Why a result stands where it stands, what a notch would change, what marks suggest: for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from app.deps import ServedSAE
from app.query import as_strength
from app.search import panel
from app.search.asking import Search
from app.views.common import DocumentLink
from app.views.search import Contribution, Faithful, Notch, Preview, ProposedMove, WhyDocument
from sae_core.explain import Part, Why, why_above
from sae_core.explorer import SearchAnswer
from sae_core.feedback import Marked

HALF = 0.5  # of a query's squared norm: below, most of its meaning is out of the sliders' reach
MOST_FORETOLD = 16  # sliders: of more, nobody reads what each would do, and it would cost most of a move

Named = Callable[[int], DocumentLink]


# --- why -------------------------------------------------------------------------------------------


def why_document(
    asked: Search, found: SearchAnswer, position: int, named: Named, rank: int | None
) -> WhyDocument:
    """Why this document has its score."""
    close_url = asked.query.url(why="", against="")
    explained = asked.sae.explained(position, asked.collection.explorer.vector(position))
    reason = asked.collection.explorer.why(asked.sae.name, position, found.edit)
    return _why_view(asked.sae, reason, named(position), None, rank, explained, close_url)


def why_higher(  # noqa: PLR0917
    asked: Search, found: SearchAnswer, a: int, b: int, named: Named, rank: int | None
) -> WhyDocument:
    """What document `a` has more than `b`."""
    explorer, sae = asked.collection.explorer, asked.sae.name
    reason = why_above(explorer.why(sae, a, found.edit), explorer.why(sae, b, found.edit))
    return _why_view(asked.sae, reason, named(a), named(b), rank, None, asked.query.url(against=""))


def _why_view(  # noqa: PLR0917
    sae: ServedSAE,
    reason: Why,
    document: DocumentLink,
    below: DocumentLink | None,
    rank: int | None,
    explained: float | None,
    close_url: str,
) -> WhyDocument:
    return WhyDocument(
        document=document,
        below=below,
        rank=rank,
        score=reason.score,
        parts=_contributions(sae, reason.parts),
        bias=reason.bias,
        missed=reason.missed,
        query=reason.query,
        moves=_contributions(sae, reason.moves),
        explained=explained,
        close_url=close_url,
    )


def _contributions(sae: ServedSAE, parts: Sequence[Part]) -> list[Contribution]:
    return [Contribution(sae.chip(part.latent, part.activation), part.value) for part in parts]


# --- before a slider is moved ------------------------------------------------------------------------


class Foresight:
    """What every notch of the panel's sliders would do to the first results: one small product."""

    def __init__(self, asked: Search, x_D: NDArray[np.float32], found: SearchAnswer) -> None:
        self._texts = asked.sae.texts
        latents = panel.notched(asked)
        shown = _nearest_at_hand(latents, asked)
        self.n_left = len(latents) - len(shown)
        self._notches = panel.notches(asked, shown)
        self._steps = [(latent, step) for latent, *both in self._notches for step in both if step]
        self._ranked = found.pool.positions
        self._places_SP = np.empty((0, 0), dtype=np.int64)
        if self._steps and len(self._ranked):
            length = _length(asked, x_D)
            steps = [(latent, step / length) for latent, step in self._steps]
            explorer = asked.collection.explorer
            self._places_SP = explorer.preview(asked.sae.name, x_D, asked.applied, found, steps)

    @property
    def n_pool(self) -> int:
        """First results whose movement is foretold."""
        return int(self._places_SP.shape[1])

    @property
    def movers(self) -> list[int]:
        """The positions of the documents that would rise most, one for each step."""
        if not len(self._places_SP):
            return []
        found: list[int] = self._ranked[self._places_SP.argmax(axis=1)].tolist()
        return found

    def previews(self, first: int, n_shown: int, links: Mapping[int, DocumentLink]) -> list[Preview]:
        """For the results at ranks `first` (from 0) and after; `links` are those of the movers."""
        if not len(self._places_SP):
            return []
        places_SP, movers = self._places_SP, self.movers
        columns = zip(
            self._steps,
            movers,
            (places_SP > 0).sum(axis=1).tolist(),
            (places_SP < 0).sum(axis=1).tolist(),
            places_SP.max(axis=1).tolist(),
            places_SP[:, first : first + n_shown].tolist(),
            strict=True,
        )
        notches = {
            step: Notch(
                step=as_strength(step[1]),
                n_rise=n_rise,
                n_fall=n_fall,
                most=links[mover] if highest > 0 else None,
                places=highest,
                shown=tuple(shown),
            )
            for step, mover, n_rise, n_fall, highest, shown in columns
        }
        return [
            Preview(latent, self._texts[latent], notches.get((latent, down)), notches.get((latent, up)))
            for latent, down, up in self._notches
        ]


def _nearest_at_hand(latents: list[int], asked: Search) -> list[int]:
    """Those not moved yet, then those moved last, in the order of the panel."""
    moved = {latent: at for at, latent in enumerate(asked.by_hand)}
    nearest = set(sorted(latents, key=lambda latent: -moved.get(latent, len(moved)))[:MOST_FORETOLD])
    return [latent for latent in latents if latent in nearest]


# --- from marks to moves -------------------------------------------------------------------------


def proposed(asked: Search, x_D: NDArray[np.float32], marked: Marked) -> list[ProposedMove]:
    """The moves that marks on results suggest, in words."""
    sae, length = asked.sae, _length(asked, x_D)
    found = []
    for move in asked.collection.explorer.propose(sae.name, x_D, asked.applied, marked):
        own = panel.strength_of(asked, move.latent) if asked.code is None else move.own
        goes = own + length * (move.strength - move.own)
        found.append(
            ProposedMove(
                feature=sae.chip(move.latent),
                words=f"{direction(own, goes)} {sae.texts[move.latent]}",
                own=as_strength(own),
                strength=as_strength(goes),
                gain=move.gain,
                url=asked.query.url_with(move.latent, goes),
            )
        )
    return found


def _length(asked: Search, x_D: NDArray[np.float32]) -> float:
    """Of the query before it was made a unit one: by its inverse a strength counts.

    Other than 1 only where the moves themselves are the query.
    """
    if asked.code is not None:
        return 1.0
    weights = dict(asked.moves.strengths)
    for family in asked.moves.families:
        for latent, share in family.shares.items():
            weights[latent] = weights.get(latent, 0.0) + share * family.amount
    return sum(weight * float(asked.sae.directions_ND[latent] @ x_D) for latent, weight in weights.items())


def direction(own: float, strength: float) -> str:
    """What a move from one strength to another is called."""
    if strength < 0:
        return "against"
    if as_strength(strength) == 0:
        return "without"
    return "more" if strength > own else "less"


# --- how far features speak for it -----------------------------------------------------------------


def faithful(asked: Search, x_D: NDArray[np.float32], shares: Sequence[float]) -> Faithful | None:
    """Of the query, and, by the shares of the documents that are shown, of the page.

    A query that is made of features is nothing but features: there is nothing to say of it.
    """
    if asked.code is None:
        return None
    known = asked.collection.explorer.faithfulness(asked.sae.name, x_D)
    page = sum(shares) / len(shares) if shares else None
    return Faithful(known.explained, known.overlap, known.n, page, is_low=known.explained < HALF)
