"""Steering judged by the documents' own categories, which know nothing of labels, words or activations.

A query is moved towards a category that it has not; the judge names, of five such categories, the one that
gained most of the ten best documents. The direction is that of the feature that finds the category best on
training documents, of the SAE and of simpler dictionaries, or the mean of the category's training documents,
which needs no dictionary but the answer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_core.categories import find_best
from sae_core.claims import trials
from sae_core.dictionaries import NAMES
from sae_core.evaluation.curves import Bench, Curve
from sae_core.evaluation.facets import category_means
from sae_core.evaluation.methods import METHODS
from sae_core.evaluation.steering import (
    COSINES,
    STRENGTHS,
    UP,
    Steering,
    activations,
    cosine_table,
    effect_table,
    wish_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sae_core.categories import Categories
    from sae_core.claims.study import Study
    from sae_core.evaluation.model import Table
    from sae_core.evaluation.steering import Tell

FEATURE, CENTROID = "SAE feature", "mean of the category (supervised)"
DIRECTIONS = (FEATURE, *NAMES, CENTROID)
OTHERS = ("clamp and decode", "refined")  # the methods that do not move along the feature's line
AT_SUCCESS = (0.4, 0.5, 0.6)


class _Chosen(NamedTuple):
    """The best latent of each category, by dictionary."""

    latents: dict[str, list[int]]
    categories: Categories


def by_categories(steering: Steering) -> list[Table]:
    """Tables of all directions and methods; none where there are no five categories."""
    study, categories = steering.study, steering.study.categories
    if categories is None or len(categories.names) < trials.N_FEATURES:
        return []
    chosen: dict[str, list[int]] = steering.kept(
        "best features of categories", partial(_best, study, categories)
    )
    latents = chosen[FEATURE]
    directions_CD = steering.sae.directions_ND[latents]
    asked = trials.draw_category_trials(
        steering.x_QD,
        study.queries.tolist(),
        categories.belongs_MC,
        latents,
        directions_CD,
        seed=study.seed,
    )
    if not asked:
        return []
    bench = _bench(study, categories, asked)
    curves = {}
    for name in (*DIRECTIONS, *OTHERS):
        columns = partial(_columns, steering, asked, name, _Chosen(chosen, categories))
        stored = steering.kept(f"categories, {name}", partial(_curve, bench, columns))
        curves[name if name in DIRECTIONS else f"{FEATURE}, {name}"] = Curve.parse(stored)
    remark = (
        f"Of {len(categories.names)} categories ({categories.source}); chance is 20 %. The best "
        "feature of a category was chosen by F1 on training documents; found are held-out ones."
    )
    return [
        cosine_table("Moved towards a category: named by categories", curves, study.seed, remark),
        effect_table("The same: what else changed at equal success", curves, AT_SUCCESS, study.seed),
    ]


def _curve(bench: Bench, columns: Any, tell: Tell) -> dict[str, Any]:
    return bench.curve(columns(), tell).stored()


def _bench(study: Study, categories: Categories, asked: Sequence[trials.CategoryTrial]) -> Bench:
    def find(at: int, x_D: NDArray[np.float32]) -> NDArray[np.int64]:
        return trials.find_near(asked[at].trial, study.library, x_D)

    def judge(before: list[NDArray[np.int64]], after: list[NDArray[np.int64]]) -> list[float]:
        return [
            trials.category_credit(each, study.library, categories.belongs_MC, was, now)
            for each, was, now in zip(asked, before, after, strict=True)
        ]

    return Bench(study, [each.trial for each in asked], find, judge)


def _columns(
    steering: Steering, asked: Sequence[trials.CategoryTrial], name: str, chosen: _Chosen
) -> list[list[NDArray[np.float32]]]:
    """The queries where nothing is moved, and at each cosine, or strength of a method."""
    if name in OTHERS:
        own = [activations(steering.sae, each.trial.x_D) for each in asked]
        method = METHODS[name]
        moved = [
            [method(steering.sae, wish_of(each.trial, z, s, UP)) for each, z in zip(asked, own, strict=True)]
            for s in STRENGTHS
        ]
        return [[each.trial.x_D for each in asked], *moved]
    directions_CD = np.asarray(_directions(steering, name, chosen), dtype=np.float32)
    turned = [each.trial._replace(direction_D=directions_CD[each.five[0]]) for each in asked]
    moved = [[_turned(trial, cosine) for trial in turned] for cosine in COSINES]
    return [[each.trial.x_D for each in asked], *moved]


def _turned(trial: trials.Trial, cosine: float) -> NDArray[np.float32]:
    """Along the direction to this cosine, or all the way where it is nearer than that."""
    if trials.can_turn(trial, trial.direction_D, cosine):
        return trials.turned(trial, cosine)
    return trial.direction_D


def _best(study: Study, categories: Categories, tell: Tell) -> dict[str, list[int]]:
    """The best latent of each category, of the SAE and of simpler dictionaries."""
    found = {FEATURE: find_best(study.space.codes, categories, study.is_train_M)[0].tolist()}
    for done, name in enumerate(NAMES, start=1):
        tell(done, len(NAMES) + 1)
        found[name] = find_best(study.codes_of(name), categories, study.is_train_M)[0].tolist()
    return found


def _directions(steering: Steering, name: str, chosen: _Chosen) -> NDArray[np.float32]:
    """One for each category, (C, D)."""
    study = steering.study
    if name != CENTROID:
        sae = steering.sae if name == FEATURE else study.sae_of(name)
        return sae.directions_ND[chosen.latents[name]]
    return category_means(study, chosen.categories)
