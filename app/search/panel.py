"""The panel: the query's features as sliders, and what else can be moved."""

from __future__ import annotations

import math
from dataclasses import replace

from app import urls
from app.query import as_strength
from app.search.asking import Search
from app.views import FeatureRow, Slider
from sae_core.features import QUANTILES

N_SLIDERS = 10
N_FOUND = 12
HEADROOM = 1.25  # a slider reaches so far beyond the feature's maximum
NOTCHES = 10  # of a slider's whole range
STEP = 0.001  # the precision in which strengths are printed, so that no browser rounds one
SMALLEST_HIGH = 0.01  # the range of a feature that never fires
ROUNDING = 1e-6
ADDED_QUANTILE = QUANTILES.index(0.75)  # an added feature begins at a strong but usual activation


def sliders(asked: Search) -> list[tuple[Slider, bool]]:
    """The added features, then the query's by what they explain of it; and whether each is unfolded.

    What a person has added or moved is never folded away.
    """
    strengths, own = dict(asked.query.strengths), asked.own
    added = [
        (_slider(asked, latent, value), True) for latent, value in strengths.items() if latent not in own
    ]
    return added + [
        (_slider(asked, latent, strengths.get(latent)), at < N_SLIDERS or latent in strengths)
        for at, latent in enumerate(own)
    ]


def _slider(asked: Search, latent: int, strength: float | None) -> Slider:
    sae, query = asked.sae, asked.query
    is_added = latent not in asked.own
    own = as_strength(asked.own.get(latent, 0.0))
    value = own if strength is None else strength
    reach = max(sae.maxima[latent] * HEADROOM, abs(value), own, SMALLEST_HIGH)
    high = math.ceil(reach / STEP - ROUNDING) * STEP
    high = as_strength(high)
    notch = 2 * high / NOTCHES
    own_url = query.url_with(latent, own) if is_added else query.url_without(latent)

    def url_at(wanted: float) -> str:
        is_own = as_strength(wanted) == own and not is_added
        return own_url if is_own else query.url_with(latent, wanted)

    return Slider(
        latent=latent,
        label=sae.texts[latent],
        trust=sae.labels[latent].trust,
        url=sae.urls[latent],
        own=own,
        strength=value,
        is_moved=value != own,
        is_added=is_added,
        low=-high,
        high=high,
        step=STEP,
        n_documents=sae.fires[latent],
        histogram=sae.histogram(latent, marker=own),
        reset_url=own_url,
        remove_url=query.url_without(latent) if is_added else None,
        zero_url=url_at(0.0) if value else None,
        weaker_url=url_at(max(-high, value - notch)),
        stronger_url=url_at(min(high, value + notch)),
    )


def move(asked: Search, latent: int, value: float) -> tuple[str, str, str]:
    own, label = as_strength(asked.own.get(latent, 0.0)), asked.sae.texts[latent]
    if value < 0:
        words = f"against {label}"
    elif value == 0:
        words = f"without {label}"
    else:
        words = f"{'more' if value > own else 'less'} {label}"
    return words, f"{_printed(own)} → {_printed(value)}", asked.query.url_without(latent)


def _printed(strength: float) -> str:
    return urls.decimals(strength).removeprefix("+").replace("-", "\N{MINUS SIGN}")


def found(asked: Search) -> list[tuple[FeatureRow, str]]:
    """Features with the words of `find`, and the address that adds each at a strength typical of it."""
    query, sae = asked.query, asked.sae
    if not query.find:
        return []
    latents = asked.collection.catalog.find_features(sae.name, query.find, N_FOUND)
    quantiles_NQ = sae.set.features.quantiles_NQ
    asking = replace(query, find="")
    return [
        (sae.row(latent), asking.url_with(latent, max(STEP, float(quantiles_NQ[latent, ADDED_QUANTILE]))))
        for latent in latents
    ]
