"""Lenses as a search uses them: found on this SAE or carried over from another, named, pasted, reordered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app import urls
from app.deps import Library, ServedCollection, ServedSAE
from app.query import (
    MAX_LENSES,
    BadParameter,
    Parameters,
    SearchQuery,
    as_strength,
    clean,
    print_lens,
    read_lens,
)
from sae_core.lenses import (
    MAX_NAME,
    BadLens,
    Carried,
    Lens,
    LensMove,
    Match,
    carry,
    dump,
    nearest,
    parse,
    unique,
)

N_NAMED = 4  # features that a sentence names
UNNAMED = "pasted"


@dataclass(frozen=True)
class AppliedLens:
    """A lens of the address and what it comes to here."""

    lens: Lens  # as the address has it
    carried: Carried  # in features of this SAE
    source: ServedSAE | None  # the SAE it was made on; None if that is not served here

    @property
    def is_foreign(self) -> bool:
        return self.lens.sae != self.carried.lens.sae

    @property
    def remark(self) -> str:
        """What was carried over, and what could not be; nothing if all is as it was made."""
        name, n = self.lens.name, len(self.lens.moves)
        if self.source is None:
            return (
                f'The lens "{name}" was made on the SAE {self.lens.sae}, which is not here: nothing of it is '
                f"applied. Open it where it was made, or make it again with features of this SAE."
            )
        lost = _sentence_of_lost(self.carried.lost, self.source)
        if not self.is_foreign:
            return f'The lens "{name}" names what this SAE does not have: {lost}.' if lost else ""
        kept = len(self.carried.lens.moves)
        least = min((match.cosine for match in self.carried.matches), default=0.0)
        said = f'The lens "{name}" was made on {self.lens.sae}. '
        said += f"{kept} of its {n} moves found a feature of the same direction here"
        said += f" (cosine {least:.2f} or more)" if kept else ""
        return f"{said}; not applied: {lost}." if lost else f"{said}."


def _sentence_of_lost(lost: Sequence[LensMove], source: ServedSAE) -> str:
    names = [_name(move, source) for move in lost[:N_NAMED]]
    rest = len(lost) - len(names)
    return ", ".join([*names, f"and {rest} more"] if rest else names)


def _name(move: LensMove, source: ServedSAE) -> str:
    if move.target >= source.n_latents:
        return f"#{move.target}"
    if move.mode == "family" and move.target in source.forest.families:
        return f'the family "{source.forest.name(move.target)}"'
    return f'#{move.target} "{source.texts[move.target]}"'


def apply(library: Library, collection: ServedCollection, sae: ServedSAE, lens: Lens) -> AppliedLens:
    """The lens in features of `sae`."""
    if lens.sae == sae.name:
        return AppliedLens(lens, _at_home(lens, sae), sae)
    source = _find(library, collection, sae, lens.sae)
    if source is None:
        return AppliedLens(lens, Carried(Lens(lens.name, sae.name, ()), (), lens.moves), None)
    return AppliedLens(lens, carry(lens, sae.name, _matches(source, sae, lens)), source)


def _at_home(lens: Lens, sae: ServedSAE) -> Carried:
    def is_here(move: LensMove) -> bool:
        return move.target in sae.forest.families if move.mode == "family" else move.target < sae.n_latents

    kept = tuple(move for move in lens.moves if is_here(move))
    lost = tuple(move for move in lens.moves if not is_here(move))
    return Carried(replace(lens, moves=kept), (), lost)


def _find(library: Library, collection: ServedCollection, sae: ServedSAE, name: str) -> ServedSAE | None:
    """An SAE of that name over the same embedding space, of this collection or of another."""
    space = collection.explorer.manifest["embedder"].get("fingerprint")
    for other in (collection, *library.collections.values()):
        found = other.saes.get(name)
        is_same = space and other.explorer.manifest["embedder"].get("fingerprint") == space
        if found is not None and (other is collection or is_same):
            return found if found.directions_ND.shape[1] == sae.directions_ND.shape[1] else None
    return None


def _matches(source: ServedSAE, sae: ServedSAE, lens: Lens) -> dict[int, Match]:
    """For features of the lens the nearest here: as the build stored it, else by direction."""
    latents = sorted({move.target for move in lens.moves if move.mode != "family"})
    stored = source.set.matches.get(sae.name) if source.collection == sae.collection else None
    if stored is not None:
        return {
            latent: Match(latent, int(stored.latent_N[latent]), float(stored.cosine_N[latent]))
            for latent in latents
            if latent < source.n_latents and stored.latent_N[latent] >= 0
        }
    key = (source.collection, source.name, tuple(latents))
    if (known := sae.lens_matches.get(key)) is None:
        living_N = sae.set.features.n_documents_N > 0
        known = nearest(latents, source.directions_ND, sae.directions_ND, living_N)
        sae.lens_matches.put(key, known)
    return known


def said(move: LensMove, sae: ServedSAE) -> str:
    """A move in words; the SAE has what it moves."""
    if move.mode == "family":
        return f"family {sae.forest.name(move.target)} {urls.decimals(move.value)}"
    label = sae.texts[move.target]
    return f"{label} {urls.decimals(move.value)}" if move.mode == "strength" else f"{move.mode} {label}"


def printed(lens: Lens, collection: str, source: ServedSAE | None) -> str:
    """The lens as JSON, with the labels of the SAE that it was made on, if that is here."""
    labels = dict(enumerate(source.texts)) if source else {}
    names = {root: source.forest.name(root) for root in source.forest.families} if source else {}
    return dump(lens, collection, labels, names)


# --- made and changed -----------------------------------------------------------------------------


def made(query: SearchQuery, name: str) -> SearchQuery:
    """The search whose moves have become its last lens."""
    moves = [LensMove("strength", latent, value) for latent, value in query.strengths]
    moves += [LensMove("require", latent) for latent in query.required]
    moves += [LensMove("exclude", latent) for latent in query.excluded]
    moves += [LensMove("ignore", latent) for latent in query.ignored]
    moves += [LensMove("family", root, amount) for root, amount in query.families if amount]
    name = clean(name)[:MAX_NAME].strip()
    if not name:
        raise BadLens("This lens has no name.", remedy="Give it one.")
    return added(without_moves(query), Lens(name, query.sae, unique(moves)))


def added(query: SearchQuery, lens: Lens) -> SearchQuery:
    if len(query.lenses) >= MAX_LENSES:
        raise BadLens(f"There are {MAX_LENSES} lenses already.", remedy="Remove one of them first.")
    return replace(query, lenses=(*query.lenses, lens), page=1)


def without_moves(query: SearchQuery) -> SearchQuery:
    """The same search with nothing moved by hand; lenses and what is kept stay."""
    return replace(query, strengths=(), families=(), ignored=(), required=(), excluded=(), locked=(), page=1)


def pasted(query: SearchQuery, text: str) -> SearchQuery:
    """The search with the lens that `text` is, in JSON."""
    lens = parse(text)
    return added(query, sayable(replace(lens, name=lens.name if clean(lens.name) else UNNAMED)))


def sayable(lens: Lens) -> Lens:
    """The lens as an address says it; `BadLens` where none can."""
    moves = tuple(replace(move, value=as_strength(move.value)) for move in lens.moves)
    lens = Lens(clean(lens.name)[:MAX_NAME].strip(), clean(lens.sae), moves)
    if not lens.name:
        raise BadLens("This lens has no name.", remedy="Give it one.")
    try:
        is_sayable = read_lens(print_lens(lens)) == lens
    except BadParameter:
        is_sayable = False
    if not is_sayable:
        raise BadLens("No SAE has the name that this lens gives.", remedy="Copy the lens again.")
    return lens


def unfolded(query: SearchQuery, place: int, lens: Lens) -> SearchQuery:
    """The search with a lens taken apart: its moves become moves by hand, where these say nothing else."""
    values: dict[str, dict[int, float]] = {
        "strength": dict(query.strengths),
        "family": dict(query.families),
        "ignore": dict.fromkeys(query.ignored, 0.0),
        "require": dict.fromkeys(query.required, 0.0),
        "exclude": dict.fromkeys(query.excluded, 0.0),
    }
    by_hand = {mode: set(found) for mode, found in values.items()}
    for pair in (("strength", "ignore"), ("require", "exclude")):
        by_hand |= dict.fromkeys(pair, by_hand[pair[0]] | by_hand[pair[1]])
    for move in lens.moves:
        if move.target not in by_hand[move.mode]:
            values[move.mode][move.target] = move.value
    return replace(
        query,
        lenses=(*query.lenses[:place], *query.lenses[place + 1 :]),
        strengths=tuple(values["strength"].items()),
        families=tuple(values["family"].items()),
        ignored=tuple(values["ignore"]),
        required=tuple(values["require"]),
        excluded=tuple(values["exclude"]),
        page=1,
    )


def asked_for(query: SearchQuery, parameters: Parameters) -> SearchQuery | None:
    """The search that a form for lenses leads to; None if none was sent. `BadLens` says what is wrong."""
    for text in parameters.all("paste")[-1:]:
        return pasted(query, text)
    for name in parameters.all("lens_name")[-1:]:
        return made(query, name)
    return None
