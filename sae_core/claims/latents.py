"""Claims 4 to 6: densities, encoder against decoder, and features that recur across SAEs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core import splitting
from sae_core.claims.model import (
    OURS,
    Check,
    Claim,
    Measure,
    correlation,
    make_claim,
    mean_of,
    measured,
    others,
)
from sae_core.dictionaries import KMEANS, NAMES, kmeans_dictionary
from sae_core.fit import SAE_FILE
from sae_core.intervals import mean_interval, wilson
from sae_core.metrics import MAX_TRAIN_ROWS, SAME_FEATURE, nearest_cosine
from sae_core.sae import SAE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sae_core.claims.study import Study
    from sae_core.explorer import FeatureSet
    from sae_core.grid import GridResult

FEW_DEAD = 1 / 8
UNRELATED = 0.2  # |r|: less than a twenty-fifth of the variance
FALLEN = 0.95  # of the cosine of encoder and decoder
SPREAD = 10.0  # between the 5th and the 95th percentile of the densities


def densities(study: Study) -> Claim:
    """4: few latents are dead, the others have very different densities."""
    space, n_documents = study.space, study.space.codes.n_documents
    counts = {name: study.codes_of(name).counts() for name in (OURS, *NAMES)}
    dead = {name: float((own == 0).mean()) for name, own in counts.items()}
    logs = {name: np.log10(own[own > 0] / n_documents) for name, own in counts.items()}
    spread = {
        name: float(10 ** np.ptp(np.quantile(own, (0.05, 0.95)))) if len(own) else None
        for name, own in logs.items()
    }
    own_dead = wilson(int((counts[OURS] == 0).sum()), space.sae.n_latents)
    related = _related_to_scores(space)
    measures = [
        Measure(
            "dead", own_dead.value, own_dead.low, own_dead.high, space.sae.n_latents, "share", others(dead)
        ),
        Measure(
            "rare (density below 1 in 10,000)", space.metrics["n_rare"] / space.sae.n_latents, kind="share"
        ),
        Measure(
            "mean log10 density of the living",
            mean_of(logs[OURS]),
            n=len(logs[OURS]),
            baselines=others({name: mean_of(own) for name, own in logs.items()}),
        ),
        Measure("95th over 5th percentile of density", spread[OURS], kind="ratio", baselines=others(spread)),
        related,
    ]
    checks = [
        Check(
            f"{own_dead.value:.1%} of the latents are dead, fewer than one in eight",
            own_dead.value < FEW_DEAD,
        ),
        Check(
            f"the densities of the living span a factor of {spread[OURS] or 0:.0f}",
            None if spread[OURS] is None else (spread[OURS] or 0) >= SPREAD,
            is_key=True,
        ),
        Check(
            "density does not go with the label's score"
            + ("" if related.value is None else f" (r = {related.value:.2f})"),
            None if related.value is None else abs(related.value) < UNRELATED,
        ),
    ]
    return make_claim(
        4,
        "Few latents are dead, and densities differ widely",
        "Hardly any latent is dead on the larger corpus, a tenth on the smaller; densities span orders of "
        "magnitude and have nothing to do with how well a feature can be labelled.",
        measures,
        checks,
        "How many are dead is decided by the training recipe, not by the corpus alone. Any dictionary whose"
        " k nearest directions are taken has few dead ones: see the baselines.",
    )


def _related_to_scores(space: FeatureSet) -> Measure:
    found = [
        (math.log10(n / space.codes.n_documents), label.score.auc.value)
        for n, label in zip(space.codes.counts().tolist(), space.labels, strict=True)
        if n > 0 and label.score is not None
    ]
    return correlation("correlation of log density with label AUC", np.array(found).reshape(-1, 2))


def encoder_and_decoder(study: Study) -> Claim:
    """5: encoder and decoder part, whatever the crowding."""
    sae, space = study.space.sae, study.space
    living = space.codes.counts() > 0
    lengths_N = np.linalg.norm(sae.W_enc_ND, axis=1) * np.linalg.norm(sae.W_dec_ND, axis=1)
    cosines_N = np.einsum("nd,nd->n", sae.W_enc_ND, sae.W_dec_ND) / np.maximum(lengths_N, 1e-12)
    crowding_N = np.asarray(space.features.similar_cosine_NS)[:, 0]
    n_living = int(living.sum())
    mean = mean_interval(cosines_N[living]) if n_living else None
    related = correlation(
        "correlation with the largest decoder cosine", np.stack((cosines_N, crowding_N), axis=1)[living]
    )
    measures = [
        measured("cosine of encoder and decoder", mean, n_living, dict.fromkeys(NAMES, 1.0)),
        Measure("largest decoder cosine, mean", mean_of(crowding_N[living]), n=n_living),
        related,
    ]
    checks = [
        Check(
            f"it has fallen from 1 (to {mean.value:.2f})" if mean else "no latent lives",
            mean.high < FALLEN if mean else None,
            is_key=True,
        ),
        Check(
            f"it has next to nothing to do with crowding (|r| below {UNRELATED}"
            + (")" if related.value is None else f"; r = {related.value:.2f})"),
            None if related.value is None else abs(related.value) < UNRELATED,
        ),
    ]
    return make_claim(
        5,
        "Encoder and decoder part, and crowding has nothing to do with it",
        "The cosine of a latent's encoder row with its direction falls from 1, and does not depend on how "
        "near the nearest other direction is.",
        measures,
        checks,
        "Noise on the input and decay of the encoder's weights, which our recipe has and the paper's has "
        "not, move this cosine too. The baselines' encoder is their decoder.",
    )


def recurrence(study: Study) -> Claim:
    """6: features of a larger SAE recur in a smaller one, or are new."""
    measures: list[Measure] = []
    checks: list[Check] = []
    pairs = _pairs(study)
    if not pairs:
        text = "there is no second SAE: build with several --latents or --k, or give --grid FOLDER"
        checks.append(Check(text, None, is_key=True))
    for name, found in pairs.items():
        null = found["null"]
        chance = max(null["random"]["recurrent"] or 0.0, null["shaped"]["recurrent"] or 0.0)
        n_asked = max(1, min(found["n"], splitting.MAX_NULL_ROWS))
        beside = {"random directions": null["random"]["recurrent"], "shaped": null["shaped"]["recurrent"]}
        measures += [
            Measure(
                f"recurrent, {name}",
                found["recurrent"],
                found["low"],
                found["high"],
                found["n"],
                "share",
                beside | _recurrence_of_kmeans(study, found),
            ),
            Measure(
                f"mean of the largest cosine, {name}",
                found["mean_cosine"],
                n=found["n"],
                baselines={
                    "random directions": null["random"]["mean_cosine"],
                    "shaped": null["shaped"]["mean_cosine"],
                },
            ),
            Measure(f"humps of its distribution, {name}", found["humps"], n=found["n"], kind="count"),
        ]
        if found["recurrent"] is None:
            checks.append(Check(f"no feature lives ({name})", None, is_key=True))
            continue
        checks += [
            Check(
                f"{found['recurrent']:.0%} recur, chance {chance:.0%} ({name})",
                found["low"] > wilson(round(chance * n_asked), n_asked).high,
                is_key=True,
            ),
            Check(f"{1 - found['recurrent']:.0%} are new ({name})", 1 - found["high"] > 1 / 20),
            Check(
                f"the largest cosines have two humps ({name})",
                None if found["humps"] is None else found["humps"] >= 2,  # noqa: PLR2004 (two)
            ),
        ]
    return make_claim(
        6,
        "Across SAEs features recur or are new",
        "Of the features of the larger SAE some are found again in the smaller, others are new: the largest "
        "decoder cosines have two humps.",
        measures,
        checks,
        f"A feature recurs where the largest cosine is above {SAME_FEATURE}. Chance is the larger "
        "share of two dictionaries that nobody trained: even directions, and directions with the mean and "
        "covariance of the other SAE's own. Humps are maxima of a smoothed distribution.",
    )


def _pairs(study: Study) -> dict[str, dict[str, Any]]:
    """What the larger SAE of each pair has of the smaller; a single SAE is paired with those of the grid."""
    space = study.space
    found = {}
    for name, other in study.explorer.saes.items():
        if name == space.name:
            continue
        larger, smaller = sorted((space, other), key=lambda each: -each.sae.n_latents)
        stored = larger.metrics.get("splitting", {}).get(smaller.name)
        if stored is None:
            matches = splitting.match(larger, smaller)
            stored = splitting.compare(larger, smaller, matches)
        found[f"{_size(larger.sae)} in {_size(smaller.sae)}"] = stored
    if found or study.grid is None:
        return found
    own_ND = space.sae.directions_ND[space.codes.counts() > 0]
    for member in study.grid.result.members:
        path = study.grid.folder / member.name / SAE_FILE
        is_other = member.n_latents != space.sae.n_latents
        if member.k == _nearest_k(study.grid.result, space.sae.k) and is_other and path.is_file():
            found |= _pair_with(own_ND, space.sae, SAE.load(path))
    return found


def _pair_with(own_ND: NDArray[np.float32], own: SAE, other: SAE) -> dict[str, dict[str, Any]]:
    """What the larger has of the smaller: living directions of one SAE, and an SAE of a grid."""
    larger_ND, smaller_ND = own_ND, other.directions_ND
    names = [_size(own), _size(other)]
    if own.n_latents < other.n_latents:
        larger_ND, smaller_ND, names = smaller_ND, larger_ND, names[::-1]
    cosines_N = nearest_cosine(larger_ND, smaller_ND)
    shares = splitting.shares(cosines_N) | {"n_others": len(smaller_ND)}
    return {" in ".join(names): shares | {"null": splitting.against_chance(larger_ND, smaller_ND)}}


def _recurrence_of_kmeans(study: Study, found: Mapping[str, Any]) -> dict[str, float | None]:
    """The same share between two k-means of these sizes: other clusterings of the same documents."""
    n_larger, n_smaller = int(found["n"]), int(found["n_others"])
    if min(n_larger, n_smaller) == 0:
        return {}
    rng = np.random.default_rng((study.seed, 37))
    rows = rng.permutation(np.flatnonzero(study.is_train_M))[:MAX_TRAIN_ROWS]
    # In another order: k-means begins from the first rows, and those would recur by construction.
    larger, smaller = (
        kmeans_dictionary(study.x_MD[rng.permutation(rows)], n, study.space.sae.k).sae
        for n in (n_larger, n_smaller)
    )
    cosines_N = nearest_cosine(larger.directions_ND, smaller.directions_ND)
    return {KMEANS: splitting.shares(cosines_N)["recurrent"]}


def _nearest_k(result: GridResult, k: int) -> int:
    return min({member.k for member in result.members}, key=lambda other: abs(math.log(other / k)))


def _size(sae: SAE) -> str:
    return f"k {sae.k} n {sae.n_latents}"
