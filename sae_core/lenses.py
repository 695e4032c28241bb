"""Lenses: moves as a named thing that can be stacked, passed on, and used on another SAE.

A lens says what it does in features of the SAE it was made on. Features of another SAE have other numbers, so
there each is replaced by the one whose direction is nearest, if it is near enough; what has no such
counterpart is named and left out. A strength keeps its value: directions have unit length in every SAE, so an
activation is a length along them in the same space.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.errors import SaefariError
from sae_core.metrics import SAME_FEATURE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

VERSION = 1
MODES = ("strength", "require", "exclude", "ignore", "family")
VALUED = ("strength", "family")  # the modes that have a number beside the feature
MAX_NAME = 60  # characters
MAX_SAE = 100
MAX_MOVES = 128
MAX_VALUE = 10.0
MAX_LATENT = 10_000_000  # more than any SAE has
MAX_TEXT = 16_000  # characters of a pasted lens


@dataclass(frozen=True)
class LensMove:
    """One move. `target` is a latent, of a family its root; `value` is 0 unless the mode is in `VALUED`."""

    mode: str
    target: int
    value: float = 0.0


@dataclass(frozen=True)
class Lens:
    """Moves under a name, in features of the SAE `sae`; each pair of mode and target once."""

    name: str
    sae: str
    moves: tuple[LensMove, ...]


class BadLens(SaefariError):
    """A text that is no lens; says what is wrong with it."""


def dump(lens: Lens, collection: str, labels: Mapping[int, str], families: Mapping[int, str]) -> str:
    """The lens as JSON, for people and programs; labels are there to be read, and ignored by `parse`."""
    moves = []
    for move in lens.moves:
        named = families if move.mode == "family" else labels
        entry: dict[str, Any] = {
            "feature": move.target,
            "label": named.get(move.target, ""),
            "mode": move.mode,
        }
        moves.append(entry | ({"value": move.value} if move.mode in VALUED else {}))
    whole = {"saefari_lens": VERSION, "name": lens.name, "collection": collection, "sae": lens.sae}
    return json.dumps(whole | {"moves": moves}, ensure_ascii=False, indent=2)


def parse(text: str) -> Lens:
    """Read what `dump` wrote. `BadLens` says in a sentence what a text lacks."""
    if len(text) > MAX_TEXT:
        raise BadLens(
            f"This text has {len(text):,} characters, a lens at most {MAX_TEXT:,}.",
            remedy="Paste one lens, without the labels if it is long.",
        )
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        raise BadLens("This text is no JSON.", remedy="Copy the whole lens, from { to }.") from None
    if not isinstance(whole, dict) or "saefari_lens" not in whole:
        raise BadLens("This JSON is no lens.", remedy='A lens begins with {"saefari_lens": 1.')
    if whole["saefari_lens"] != VERSION:
        raise BadLens(
            f"This lens is of version {_shown(whole['saefari_lens'])}; here version {VERSION} is read.",
            remedy="Make it again with this version.",
        )
    name, sae, moves = (whole.get(key) for key in ("name", "sae", "moves"))
    if not isinstance(name, str) or not isinstance(sae, str) or not isinstance(moves, list):
        raise BadLens(
            "This lens lacks its name, its SAE or its moves.", remedy="Copy the whole lens, from { to }."
        )
    return Lens(name, sae, unique([_move(entry) for entry in moves]))


def _move(entry: Any) -> LensMove:
    mode = entry.get("mode") if isinstance(entry, dict) else None
    if mode not in MODES:
        raise BadLens(
            f"The lens has a move {_shown(entry)}.", remedy=f"Its mode is one of {', '.join(MODES)}."
        )
    target, value = entry.get("feature"), entry.get("value", 0.0) if mode in VALUED else 0.0
    if not isinstance(target, int) or isinstance(target, bool) or not 0 <= target < MAX_LATENT:
        raise BadLens(f"The lens moves a feature {_shown(target)}.", remedy="Features have whole numbers.")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or abs(value) > MAX_VALUE or not math.isfinite(value):
        raise BadLens(
            f"The lens sets feature {target} to {_shown(value)}.",
            remedy=f"Strengths are numbers from -{MAX_VALUE:g} to {MAX_VALUE:g}.",
        )
    return LensMove(mode, target, float(value))


def _shown(value: object) -> str:
    printed = json.dumps(value, ensure_ascii=False)
    return printed if len(printed) <= MAX_NAME else f"{printed[: MAX_NAME - 1]}…"


def unique(moves: Sequence[LensMove]) -> tuple[LensMove, ...]:
    """The last word on each pair of mode and target, in the order in which they were first named."""
    found = {(move.mode, move.target): move for move in moves}
    if not found:
        raise BadLens("This lens moves nothing.", remedy="Move something, then name it.")
    if len(found) > MAX_MOVES:
        raise BadLens(f"This lens has {len(found):,} moves.", remedy=f"At most {MAX_MOVES} are allowed.")
    return tuple(found.values())


# --- on another SAE -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Match:
    """A feature of the lens and its nearest here."""

    latent: int  # in the lens
    here: int
    cosine: float


@dataclass(frozen=True)
class Carried:
    """A lens in features of another SAE: what stands for what, and the moves that nothing stands for."""

    lens: Lens
    matches: tuple[Match, ...]
    lost: tuple[LensMove, ...]


def nearest(
    latents: Sequence[int],
    from_ND: NDArray[np.float32],
    to_ND: NDArray[np.float32],
    living_N: NDArray[np.bool_],
) -> dict[int, Match]:
    """For each of `latents`, rows of `from_ND`, the living row of `to_ND` with the largest cosine.

    Rows are unit vectors of the same space. Latents that `from_ND` does not have are left out.
    """
    known = [latent for latent in latents if latent < len(from_ND)]
    if not known or not living_N.any():
        return {}
    cosines = from_ND[known] @ to_ND.T
    cosines[:, ~living_N] = -np.inf
    best = cosines.argmax(axis=1)
    return {
        latent: Match(latent, int(best[row]), float(cosines[row, best[row]]))
        for row, latent in enumerate(known)
    }


def carry(lens: Lens, sae: str, matches: Mapping[int, Match], least: float = SAME_FEATURE) -> Carried:
    """The lens on the SAE `sae`, whose features `matches` names; those below cosine `least` do not count.

    Where two features of the lens have the same nearest one, the nearer of the two keeps it. Families are
    sets of features of one SAE and are lost on another.
    """
    near = {latent: match for latent, match in matches.items() if match.cosine >= least}
    holders: dict[int, Match] = {}
    for match in sorted(near.values(), key=lambda match: (-match.cosine, match.latent)):
        holders.setdefault(match.here, match)
    kept, lost, used = [], [], []
    for move in lens.moves:
        found = near.get(move.target) if move.mode != "family" else None
        if found is None or holders[found.here].latent != move.target:
            lost.append(move)
        else:
            kept.append(replace(move, target=found.here))
            used.append(found)
    return Carried(Lens(lens.name, sae, tuple(kept)), tuple(dict.fromkeys(used)), tuple(lost))
