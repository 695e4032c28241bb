"""The panel: features and families as sliders, features that can be added, lenses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from app import lenses, urls
from app.deps import ServedSAE
from app.lenses import AppliedLens
from app.query import MAX_FAMILIES, MAX_STRENGTH, MAX_STRENGTHS, SearchQuery, as_strength, print_lens
from app.search.asking import Search
from app.views.common import Histogram, Option
from app.views.search import FamilySlider, Follower, FoundFamily, FoundFeature, LensView, Slider
from sae_core.errors import EmbeddingError
from sae_core.families import Family
from sae_core.features import QUANTILES
from sae_core.steer import CancelledQuery, make_edit

N_SLIDERS = 10
N_FOUND = 6  # of each kind
N_FOLLOWERS = 24  # members of a family that its slider lists
HEADROOM = 1.25  # a slider reaches so far beyond the feature's maximum
NOTCHES = 10  # of a slider's whole range
STEP = 0.001  # the precision in which strengths are printed, so that no browser rounds one
SMALLEST_HIGH = 0.01  # the range of a feature that never fires
ROUNDING = 1e-6
LEAST_MEANING = 0.4  # cosine below which a label does not mean what is asked for
USUAL = QUANTILES.index(0.75)  # where an added feature begins: a strong but usual activation

# What a strength is called below 0, at 0, between 0, the quantiles and the maximum, and above it.
PHRASES = (
    "against it",
    "as if the query did not have it",
    "weaker than 95 % of the documents that have it",
    "weaker than 75 % of the documents that have it",
    "weaker than half of the documents that have it",
    "as strong as the top half of documents that have it",
    "as strong as the top 25 % of documents that have it",
    "as strong as the top 5 % of documents that have it",
    "as strong as the top 1 % of documents that have it",
    "stronger than in any document",
)
MODES = (("", "boost or dampen"), ("required", "require"), ("excluded", "exclude"), ("ignored", "ignore"))


def in_words(sae: ServedSAE, latent: int, strength: float) -> str:
    """How strong that is among the documents that have the feature."""
    if strength <= 0:
        return PHRASES[0 if strength < 0 else 1]
    bounds = bounds_of(sae, latent)
    return PHRASES[2 + sum(strength >= bound for bound in bounds[:-1]) + (strength > bounds[-1])]


def bounds_of(sae: ServedSAE, latent: int) -> list[float]:
    """The quantiles and the maximum of a feature, between which a phrase holds."""
    quantiles = np.asarray(sae.set.features.quantiles_NQ[latent], dtype=np.float64).tolist()
    return [*quantiles, sae.maxima[latent]]


# --- features -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """A slider's place, before it is printed."""

    latent: int
    is_shown: bool
    explains: float | None  # None: it was added


def _rows(asked: Search) -> list[_Row]:
    """Features that were added, then the query's own by how much they explain of just this query.

    That is the contribution z_i (d_i . x) times the specificity log(M / n_i): a feature that half of all
    documents have says little of any. What a person has added or moved is never folded away.
    """
    query, own = asked.query, asked.own
    by_hand = {latent for latent, _ in query.strengths}
    by_hand.update(query.ignored, query.required, query.excluded)
    added = [latent for latent in _in_order(query) if latent not in own]
    explains = _explains(asked)
    order = sorted(own, key=lambda latent: -explains[latent])
    rows = [_Row(latent, is_shown=True, explains=None) for latent in added]
    return rows + [
        _Row(latent, at < N_SLIDERS or latent in by_hand, explains[latent]) for at, latent in enumerate(order)
    ]


def _in_order(query: SearchQuery) -> list[int]:
    named = [latent for latent, _ in query.strengths]
    return list(dict.fromkeys([*named, *query.required, *query.excluded, *query.ignored]))


def _explains(asked: Search) -> dict[int, float]:
    if asked.code is None:
        return {}
    sae, latents = asked.sae, list(asked.own)
    products = (sae.directions_ND[latents] @ asked.code.x_D).tolist()
    return {
        latent: asked.own[latent] * product * math.log(max(sae.n_documents, 1) / max(sae.fires[latent], 1))
        for latent, product in zip(latents, products, strict=True)
    }


def sliders(asked: Search) -> list[tuple[Slider, bool]]:
    """The sliders of features in their order, and whether each is unfolded."""
    rows = _rows(asked)
    left = _left(asked, rows)
    return [(_slider(asked, row, left.get(row.latent)), row.is_shown) for row in rows]


def notched(asked: Search) -> list[int]:
    """The features of the unfolded sliders that have a strength, in the order of the panel."""
    return [row.latent for row in _rows(asked) if row.is_shown and mode_of(asked, row.latent) != "ignored"]


def notches(asked: Search, latents: Iterable[int]) -> list[tuple[int, float, float]]:
    """Of these features: the steps of one notch down (<= 0) and up (>= 0)."""
    found = []
    for latent in latents:
        value, high = strength_of(asked, latent), _high(asked, latent)
        notch = 2 * high / NOTCHES
        found.append((latent, max(-high, value - notch) - value, min(high, value + notch) - value))
    return found


def strength_of(asked: Search, latent: int) -> float:
    """Where the slider of a feature stands: by hand, else by a lens, else at the query's own."""
    return asked.by_hand.get(latent, asked.base(latent))


def mode_of(asked: Search, latent: int) -> str:
    """One of the first of `MODES`. What is ignored has no strength, so that goes first."""
    if latent in asked.moves.ignored:
        return "ignored"
    if latent in asked.required:
        return "required"
    return "excluded" if latent in asked.excluded else ""


def _high(asked: Search, latent: int) -> float:
    own, value = asked.own.get(latent, 0.0), strength_of(asked, latent)
    reach = max(asked.sae.maxima[latent] * HEADROOM, abs(value), own, SMALLEST_HIGH)
    return as_strength(math.ceil(reach / STEP - ROUNDING) * STEP)


def _slider(asked: Search, row: _Row, left: tuple[float, float] | None) -> Slider:
    sae, query, latent = asked.sae, asked.query, row.latent
    is_added = row.explains is None
    own, base = as_strength(asked.own.get(latent, 0.0)), asked.base(latent)
    value, high = strength_of(asked, latent), _high(asked, latent)
    notch = 2 * high / NOTCHES

    def url_at(wanted: float) -> str:
        is_base = as_strength(wanted) == base and not is_added
        return query.url_without(latent) if is_base else query.url_with(latent, wanted)

    return Slider(
        latent=latent,
        label=sae.texts[latent],
        trust=sae.labels[latent].trust,
        url=sae.urls[latent],
        own=own,
        base=base,
        strength=value,
        is_moved=value != own,
        is_added=is_added,
        is_kept=is_added or latent in dict(query.strengths),
        low=-high,
        high=high,
        step=STEP,
        n_documents=sae.fires[latent],
        histogram=sae.histogram(latent, marker=own),
        bounds=[round(bound, 4) for bound in bounds_of(sae, latent)],
        words=in_words(sae, latent, value),
        explains=row.explains,
        mode=mode_of(asked, latent),
        modes=_modes(asked, latent),
        left_weaker=None if left is None else left[0],
        left_stronger=None if left is None else left[1],
        reset_url=url_at(own),
        remove_url=query.url_free(latent) if is_added else None,
        zero_url=url_at(0.0) if value else None,
        weaker_url=url_at(max(-high, value - notch)),
        stronger_url=url_at(min(high, value + notch)),
    )


def _modes(asked: Search, latent: int) -> list[Option]:
    chosen, query = mode_of(asked, latent), asked.query
    options = []
    for value, text in MODES:
        url = query.in_mode(latent, value).url()
        if not value:
            is_by_hand = not chosen or latent in getattr(query, chosen)
            if not is_by_hand and chosen != "ignored":
                continue  # a lens demands it, and no address says that nothing is demanded
            stays = is_by_hand and (latent in asked.own or latent in dict(query.strengths))
            url = url if stays else query.in_mode(latent, "").url_with(latent, asked.base(latent))
        options.append(Option(value, text, url, value == chosen))
    return options


def _left(asked: Search, rows: Sequence[_Row]) -> dict[int, tuple[float, float]]:
    """The cosine with the own query that a notch down, and a notch up, of each slider would leave.

    Of the edit as it is, so without what refining or keeping a cosine would do to it.
    """
    code = asked.code
    latents = [row.latent for row in rows if mode_of(asked, row.latent) != "ignored"]
    if code is None or not latents:
        return {}
    moves = replace(asked.moves, keep=None, refine=False)
    try:
        edit = make_edit(code.x_D, moves, code.own, asked.sae.directions_ND)
    except CancelledQuery:
        return {}
    moved_D = edit.steered_D * edit.length
    rows_KD = asked.sae.directions_ND[latents]
    with_x, with_moved = rows_KD @ code.x_D, rows_KD @ moved_D
    inner, square = float(code.x_D @ moved_D), float(moved_D @ moved_D)
    notch_K = np.array([2 * _high(asked, latent) / NOTCHES for latent in latents])
    left = []
    for step_K in (-notch_K, notch_K):
        length_K = np.sqrt(np.maximum(square + 2 * step_K * with_moved + step_K**2, ROUNDING))
        left.append(((inner + step_K * with_x) / length_K).tolist())
    return dict(zip(latents, zip(*left, strict=True), strict=True))


# --- families -------------------------------------------------------------------------------------


def families(asked: Search) -> list[FamilySlider]:
    """A slider for each family of the address or of a lens."""
    return [_family(asked, root, amount) for root, amount in asked.families.items()]


def _family(asked: Search, root: int, amount: float) -> FamilySlider:
    sae, query = asked.sae, asked.query
    shares = sae.shares(root)
    widest = max((sae.maxima[member] for member in shares), default=0.0)
    high = as_strength(min(MAX_STRENGTH, max(widest * HEADROOM, abs(amount), SMALLEST_HIGH)))
    notch = 2 * high / NOTCHES
    followers = sorted(shares, key=lambda member: -shares[member])
    is_by_hand, base = root in dict(query.families), asked.below.families.get(root, 0.0)
    return FamilySlider(
        root=root,
        label=sae.forest.name(root),
        trust=sae.forest.trust(root),
        url=sae.forest.urls[root],
        strength=amount,
        base=base,
        low=-high,
        high=high,
        step=STEP,
        size=len(shares),
        n_locked=len(set(query.locked) & set(shares)),
        followers=[_follower(asked, amount, member, shares[member]) for member in followers[:N_FOLLOWERS]],
        n_more=max(0, len(followers) - N_FOLLOWERS),
        is_kept=is_by_hand,
        histogram=Histogram(0.0, high, []),
        weaker_url=query.url_family(root, max(-high, amount - notch)),
        stronger_url=query.url_family(root, min(high, amount + notch)),
        reset_url=query.url_family(root, 0.0),
        remove_url=query.url_family(root, None) if is_by_hand else None,
    )


def _follower(asked: Search, amount: float, member: int, share: float) -> Follower:
    query, own = asked.query, asked.own.get(member, 0.0)
    is_locked = member in query.locked
    is_set = (
        member in dict(query.strengths) or member in asked.moves.ignored or member in asked.below.strengths
    )
    resulting = strength_of(asked, member) if is_set else own + (0.0 if is_locked else amount * share)
    locked = tuple(other for other in query.locked if other != member)
    return Follower(
        feature=asked.sae.chip(member),
        own=own,
        share=share,
        strength=0.0 if member in asked.moves.ignored else resulting,
        is_locked=is_locked,
        is_set=is_set,
        lock_url=query.url(locked=locked if is_locked else (*locked, member), page=1),
        set_url=query.url_with(member, resulting),
    )


# --- adding ---------------------------------------------------------------------------------------


def found(asked: Search) -> list[FoundFeature]:
    """Features with the words of `find`, then those whose labels mean the same; each once."""
    query, sae = asked.query, asked.sae
    if not query.find:
        return []
    by_words = asked.collection.catalog.find_features(sae.name, query.find, N_FOUND, sae.said)
    meant, _ = _meant(asked)
    near = dict(meant)
    rest = [latent for latent, _ in meant if latent not in by_words]
    quantiles_NQ, asking = sae.set.features.quantiles_NQ, replace(query, find="")
    return [
        FoundFeature(
            row=sae.row(latent),
            by="meaning" if latent in rest else "both" if latent in near else "words",
            cosine=near.get(latent),
            url=asking.url_with(latent, max(STEP, float(quantiles_NQ[latent, USUAL]))),
        )
        for latent in [*by_words, *rest]
    ]


def found_note(asked: Search) -> str | None:
    """Why features were looked for by words only."""
    return _meant(asked)[1] if asked.query.find else None


def _meant(asked: Search) -> tuple[list[tuple[int, float]], str | None]:
    """Features by the cosine of their label with the words that are looked for; or why there are none."""
    vectors_ND = asked.sae.set.label_vectors_ND
    if vectors_ND is None:
        return [], "Found by words only: the labels of this collection have no embeddings."
    try:
        words_D = asked.collection.explorer.embed(asked.query.find)
    except EmbeddingError as error:
        return [], f"Found by words only. {error}"
    cosines_N = vectors_ND @ words_D.astype(vectors_ND.dtype)
    cosines_N = np.where(asked.sae.set.features.n_documents_N > 0, cosines_N, -1).astype(np.float32)
    best = np.argsort(-cosines_N, kind="stable")[:N_FOUND]
    return [(int(i), float(cosines_N[i])) for i in best if cosines_N[i] >= LEAST_MEANING], None


def found_families(asked: Search) -> list[FoundFamily]:
    """Families whose name, or that of their root, has all the words of `find`."""
    query, forest = asked.query, asked.sae.forest
    words = query.find.casefold().split()
    if not words or len(query.families) >= MAX_FAMILIES:
        return []

    def fits(family: Family) -> bool:
        name = f"{forest.name(family.id)} {asked.sae.texts[family.id]}".casefold()
        return all(word in name for word in words)

    fitting = sorted(filter(fits, forest.families.values()), key=lambda family: -family.n_documents)
    asking = replace(query, find="")
    return [
        FoundFamily(
            id=family.id,
            label=forest.name(family.id),
            trust=forest.trust(family.id),
            size=len(family.members),
            url=asking.url_family(family.id, asked.sae.usual_move(family.id)),
        )
        for family in fitting[:N_FOUND]
    ]


# --- lenses ---------------------------------------------------------------------------------------


def lens_views(asked: Search) -> list[LensView]:
    return [_lens(asked, place, applied) for place, applied in enumerate(asked.lenses)]


def _lens(asked: Search, place: int, applied: AppliedLens) -> LensView:
    query, lens, sae = asked.query, applied.lens, asked.sae
    unfolded = lenses.unfolded(query, place, applied.carried.lens)
    can_unfold = len(unfolded.strengths) <= MAX_STRENGTHS and len(unfolded.families) <= MAX_FAMILIES
    return LensView(
        name=lens.name,
        sae=lens.sae,
        is_foreign=applied.is_foreign,
        moves=[lenses.said(move, sae) for move in applied.carried.lens.moves],
        matches=[
            f"#{match.latent} is #{match.here} {sae.texts[match.here]} here, cosine {match.cosine:.2f}"
            for match in applied.carried.matches
        ],
        n_lost=len(applied.carried.lost),
        remark=applied.remark,
        up_url=_swapped(query, place - 1, place) if place > 0 else None,
        down_url=_swapped(query, place, place + 1) if place + 1 < len(query.lenses) else None,
        remove_url=query.url(lenses=(*query.lenses[:place], *query.lenses[place + 1 :]), page=1),
        unfold_url=unfolded.url() if can_unfold else None,
        share_url=urls.with_parameters(query.path(), [("lens", print_lens(lens))]),
        text=lenses.printed(lens, asked.collection.name, applied.source),
    )


def _swapped(query: SearchQuery, first: int, second: int) -> str:
    order = list(query.lenses)
    order[first], order[second] = order[second], order[first]
    return query.url(lenses=tuple(order), page=1)
