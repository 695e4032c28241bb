"""What a search asks, worked out before any document is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from app import lenses
from app.deps import Library, ServedCollection, ServedSAE
from app.lenses import AppliedLens
from app.query import MAX_STRENGTHS, SearchQuery, as_strength
from sae_core.errors import EmbedderNotReady, SaefariError
from sae_core.explorer import Code
from sae_core.lenses import LensMove
from sae_core.steer import CancelledQuery, FamilyMove, Moves, start_from


@dataclass(frozen=True)
class ByWords:
    """What stands for a text that cannot be embedded: the documents with its words, best match first."""

    positions: NDArray[np.int64]
    why: str  # it cannot be embedded


@dataclass(frozen=True)
class Search:
    """What is asked, and what follows from it. `problem` says why nothing can be searched."""

    collection: ServedCollection
    sae: ServedSAE
    query: SearchQuery  # without strengths that say what is so anyway
    code: Code | None = None  # of the text and documents it begins from; None if there are none
    by_words: ByWords | None = None  # in the place of the text's own vector; then only these are found
    x_D: NDArray[np.float32] | None = None  # what is searched for, before `applied`; None: nothing yet
    moves: Moves = field(default_factory=Moves)  # of lenses and of the address, in features of this SAE
    families: dict[int, float] = field(default_factory=dict)  # how far along each, also where that is nothing
    required: frozenset[int] = frozenset()
    excluded: frozenset[int] = frozenset()
    lenses: tuple[AppliedLens, ...] = ()
    starts: dict[str, int] = field(default_factory=dict)  # positions of `like` and `unlike` that are here
    remarks: tuple[str, ...] = ()
    problem: SaefariError | None = None
    block: str | None = None

    @property
    def own(self) -> dict[int, float]:
        return {} if self.code is None else self.code.own

    @property
    def applied(self) -> Moves:
        """What is done to the query `x_D`: nothing where the moves themselves are the query."""
        return Moves() if self.code is None else self.moves

    @property
    def is_steered(self) -> bool:
        moves = self.moves
        return bool(moves.strengths or moves.ignored or moves.families or self.required or self.excluded)

    def wants(self, block: str) -> bool:
        return self.block is None or self.block == block

    @cached_property
    def by_hand(self) -> dict[int, float]:
        """The strengths of the address, by latent."""
        return dict(self.query.strengths)

    def base(self, latent: int) -> float:
        """The strength of a feature that is not moved by hand: a lens's, else the query's own."""
        return self.below.strengths.get(latent, as_strength(self.own.get(latent, 0.0)))

    @cached_property
    def below(self) -> _Asked:
        """What the lenses alone ask for."""
        return _stacked(applied.carried.lens.moves for applied in self.lenses)


@dataclass
class _Asked:
    """Moves by what they concern; what is said later replaces what was said before."""

    strengths: dict[int, float] = field(default_factory=dict)
    ignored: dict[int, None] = field(default_factory=dict)
    demands: dict[int, set[str]] = field(default_factory=dict)  # "require", "exclude" or, by mistake, both
    families: dict[int, float] = field(default_factory=dict)

    def add(self, moves: Iterable[LensMove]) -> None:
        """Put one layer on top. In one layer to ignore a feature goes before its strength."""
        moves = list(moves)
        for latent in {move.target for move in moves if move.mode in ("require", "exclude")}:
            self.demands.pop(latent, None)
        for move in moves:
            if move.mode == "strength":
                self.strengths[move.target] = move.value
                self.ignored.pop(move.target, None)
            elif move.mode == "family":
                self.families[move.target] = move.value
            elif move.mode != "ignore":
                self.demands.setdefault(move.target, set()).add(move.mode)
        for move in moves:
            if move.mode == "ignore":
                self.ignored[move.target] = None
                self.strengths.pop(move.target, None)

    def demanded(self, mode: str) -> frozenset[int]:
        return frozenset(latent for latent, modes in self.demands.items() if mode in modes)


def _stacked(layers: Iterable[Iterable[LensMove]]) -> _Asked:
    asked = _Asked()
    for layer in layers:
        asked.add(layer)
    return asked


def _by_hand(query: SearchQuery) -> list[LensMove]:
    moves = [LensMove("strength", latent, value) for latent, value in query.strengths]
    moves += [LensMove("family", root, amount) for root, amount in query.families]
    fields = {"ignored": "ignore", "required": "require", "excluded": "exclude"}
    return moves + [
        LensMove(mode, latent) for name, mode in fields.items() for latent in getattr(query, name)
    ]


def plan(
    library: Library,
    collection: ServedCollection,
    sae: ServedSAE,
    query: SearchQuery,
    block: str | None = None,
) -> Search:
    """Find the documents and lenses that the address names, and tell moves from what is so anyway."""
    applied = tuple(lenses.apply(library, collection, sae, lens) for lens in query.lenses)
    starts, remarks = _starts(collection, query)
    remarks += [each.remark for each in applied if each.remark]
    asked = _stacked(each.carried.lens.moves for each in applied)
    code, by_words, problem = _begin(collection, sae, query, starts)
    own = {} if code is None else {latent: as_strength(value) for latent, value in code.own.items()}
    query = _sayings(sae, query, asked, own)
    asked.add(_by_hand(query))
    unknown = [root for root in asked.families if root not in sae.forest.families]
    remarks += [f"There is no family {root} here: its slider is left out." for root in unknown]
    families = {root: amount for root, amount in asked.families.items() if root not in unknown}
    moves = _moves(sae, query, asked, families, own, {} if code is None else code.own)
    x_D = None if code is None else code.x_D
    if x_D is None and problem is None:
        x_D, problem = _of_moves(sae, moves)
    return Search(
        collection=collection,
        sae=sae,
        query=query,
        code=code,
        by_words=by_words,
        x_D=x_D,
        moves=moves,
        families=families,
        required=asked.demanded("require"),
        excluded=asked.demanded("exclude"),
        lenses=applied,
        starts=starts,
        remarks=tuple(remarks),
        problem=problem or _contradiction(sae, asked),
        block=block,
    )


def _begin(
    collection: ServedCollection, sae: ServedSAE, query: SearchQuery, starts: dict[str, int]
) -> tuple[Code | None, ByWords | None, SaefariError | None]:
    """What the search begins from, the words that stand for its text, or why it can begin from nothing."""
    try:
        return _code(collection, sae, query, starts), None, None
    except EmbedderNotReady as error:
        without = error
    except SaefariError as error:
        return None, None, error
    try:
        found = collection.catalog.keyword_hits(query.q)
        if not len(found):
            return None, None, _unfound(collection, without)
        return _code(collection, sae, query, starts, found), ByWords(found, without.what), None
    except SaefariError as error:
        return None, None, error


def _unfound(collection: ServedCollection, without: EmbedderNotReady) -> SaefariError:
    """Nothing has the words of a text that cannot be embedded: for now, or ever."""
    what = f"No document has these words, and more than words cannot be looked for. {without.what}"
    if collection.explorer.embedder_state == "absent":
        return SaefariError(what, remedy="Try other words, or start from a document or a feature.")
    return EmbedderNotReady(what, remedy=without.remedy)


def _of_moves(sae: ServedSAE, moves: Moves) -> tuple[NDArray[np.float32] | None, SaefariError | None]:
    """The query that moves are by themselves, or why they are none."""
    if not (moves.strengths or moves.families):
        return None, None
    try:
        return start_from(moves, sae.directions_ND), None
    except CancelledQuery as error:
        return None, error


def _sayings(sae: ServedSAE, query: SearchQuery, lensed: _Asked, own: dict[int, float]) -> SearchQuery:
    """The query without strengths and locks that say what is so anyway, given the lenses and its own."""
    members = {member for root in _roots(sae, lensed, query) for member in sae.shares(root)}
    base = own | lensed.strengths
    says = members | lensed.ignored.keys()  # of these a strength says something in any case
    kept = tuple(pair for pair in query.strengths if base.get(pair[0]) != pair[1] or pair[0] in says)
    return replace(query, strengths=kept, locked=tuple(m for m in query.locked if m in members))


def _roots(sae: ServedSAE, asked: _Asked, query: SearchQuery) -> list[int]:
    roots = {**asked.families, **dict(query.families)}
    return [root for root in roots if root in sae.forest.families]


def _starts(collection: ServedCollection, query: SearchQuery) -> tuple[dict[str, int], list[str]]:
    named = [*query.like, *query.unlike]
    found = collection.catalog.find_positions(named) if named else {}
    missing = [document for document in named if document not in found]
    return dict(found), [
        f'There is no document "{document}" here: the search does not begin from it.' for document in missing
    ]


def _code(
    collection: ServedCollection,
    sae: ServedSAE,
    query: SearchQuery,
    starts: dict[str, int],
    words: NDArray[np.int64] | None = None,
) -> Code | None:
    """The query's own code; documents with the `words` of the text, if given, stand for it."""
    like, unlike = (
        [starts[document] for document in documents if document in starts]
        for documents in (query.like, query.unlike)
    )
    if not (query.q or like or unlike):
        return None
    explorer = collection.explorer
    if words is None:
        return explorer.code(sae.name, explorer.start(query.q, like, unlike))
    return explorer.code(sae.name, explorer.start("", like, unlike, words=words.tolist()))


def _moves(  # noqa: PLR0917
    sae: ServedSAE,
    query: SearchQuery,
    asked: _Asked,
    families: dict[int, float],
    printed: dict[int, float],
    own: dict[int, float],
) -> Moves:
    """As the engine takes them. A strength that repeats, as printed, the query's own is that one exactly."""
    moving = {root: amount for root, amount in families.items() if amount}
    followers = {member for root in moving for member in sae.shares(root)}
    strengths = {
        latent: own.get(latent, 0.0) if printed.get(latent, 0.0) == value else value
        for latent, value in asked.strengths.items()
        if printed.get(latent, 0.0) != value or latent in followers
    }
    locked = set(query.locked)
    return Moves(
        strengths=strengths,
        ignored=frozenset(asked.ignored),
        families=tuple(
            FamilyMove({m: share for m, share in sae.shares(root).items() if m not in locked}, amount)
            for root, amount in moving.items()
        ),
        keep=query.keep,
        refine=query.refine,
    )


def _contradiction(sae: ServedSAE, asked: _Asked) -> SaefariError | None:
    for latent, modes in asked.demands.items():
        if len(modes) > 1:
            return SaefariError(
                f'No document both has and lacks "{sae.texts[latent]}".',
                remedy="Take back that it is required, or that it is excluded.",
            )
    n = len(asked.strengths)
    if n > MAX_STRENGTHS:
        return SaefariError(
            f"The lenses and moves together set {n} features; at most {MAX_STRENGTHS} can be set at once.",
            remedy="Remove a lens.",
        )
    return None
