"""Steering towards a facet, on judged data: a query, a facet, and graded documents that have both.

For every case the documents are ranked by the plain query, by the query with the facet's text added, by the
query moved along the embedding of that text, or along the mean of the facet's training documents where it has
any, and by the query steered along one feature at several strengths. The feature is the one that the case
names, or is looked for in two ways: by the meaning of labels (the label whose embedding is nearest to that of
the facet's text), and through the encoder (the feature that the facet's text activates most).
"""

from __future__ import annotations

from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_core.categories import find_best
from sae_core.evaluation.judged import FacetCase
from sae_core.evaluation.model import Row, Table, mean
from sae_core.files import kept
from sae_core.index import top
from sae_core.metrics import ndcg_of
from sae_core.steer import move

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.categories import Categories
    from sae_core.claims.study import Study
    from sae_core.fit import Console

STRENGTHS = (0.1, 0.2, 0.4, 0.7, 1.0)
SHOWN_AT = 0.4  # in the table of single facets
NDCG_AT = 10
PLAIN, ADDED = "plain query", "query and facet as one text"
BY_LABEL, BY_ENCODER, GIVEN, DIRECTION, MEAN = "label", "encoder", "given", "text", "mean"
WORDS = {
    BY_LABEL: "feature found by its label's meaning",
    BY_ENCODER: "feature found through the encoder",
    GIVEN: "feature as given",
    DIRECTION: "embedding of the facet's text (no SAE)",
    MEAN: "mean of the facet's training documents (no SAE)",
}
MIN_CASES, N_PER_CATEGORY = 2, 8
WORDS_POOL, WORDS_BEST = 100, 30  # by BM25 with the query: may answer it, and answers it well


class Facets(NamedTuple):
    """Judged cases, and what they are searched among."""

    study: Study
    cases: list[FacetCase]
    allowed_M: NDArray[np.bool_] | None  # documents that may be found; None: all
    how: list[str]  # sentences on where the cases come from
    means: Mapping[str, NDArray[np.float32]] = MappingProxyType({})  # unit directions of facets with examples


def evaluate_facets(facets: Facets, console: Console, parts: Path, key: str) -> list[Table]:
    """How each way of asking for a facet changes nDCG@10, over all cases and facet by facet."""

    def measured() -> dict[str, list[float]]:
        with console.stage("Facets") as report:
            return _measure(facets, lambda done, total: report(done, total, ""))

    found = {name: np.array(values) for name, values in kept(parts / "facets.json", key, measured).items()}
    return [_overall(found), *_by_facet(facets.cases, found)]


# --- measuring ------------------------------------------------------------------------------------


def _measure(facets: Facets, tell: Any) -> dict[str, list[float]]:
    """nDCG@10 of every case by every way."""
    study = facets.study
    vectors = _vectors(facets)
    found: dict[str, list[float]] = defaultdict(list)
    for at, case in enumerate(facets.cases):
        tell(at, len(facets.cases))
        x_D, facet_D = vectors[case.query], vectors[case.facet]
        ways = {PLAIN: x_D, ADDED: vectors[_both(case)], **_steered(facets, case, x_D, facet_D)}
        allowed_M = _allowed(facets, case)
        for name, moved_D in ways.items():
            best = top(study.explorer.index.products(moved_D), NDCG_AT, allowed_M).positions
            found[name].append(ndcg_of(best, case.relevant, NDCG_AT) or 0.0)
    return dict(found)


def _vectors(facets: Facets) -> Mapping[str, NDArray[np.float32]]:
    """Embeddings of all texts."""
    if facets.study.embedder is None:
        raise ValueError("facets are judged with texts, which need an encoder")
    texts = [text for case in facets.cases for text in (case.query, case.facet, _both(case))]
    return dict(zip(texts, facets.study.embedder.embed(texts), strict=True))


def _both(case: FacetCase) -> str:
    return f"{case.query} {case.facet}"


def _allowed(facets: Facets, case: FacetCase) -> NDArray[np.bool_]:
    n = facets.study.explorer.n_documents
    allowed_M = np.ones(n, dtype=np.bool_) if facets.allowed_M is None else facets.allowed_M.copy()
    allowed_M[list(case.excluded)] = False
    return allowed_M


def _steered(
    facets: Facets, case: FacetCase, x_D: NDArray[np.float32], facet_D: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """The query at each strength of each direction: at least so active, never less than it was."""
    study = facets.study
    own = study.explorer.code(study.space.name, x_D).own
    found = {}
    for way, latent in _features(study, case, facet_D).items():
        for strength in STRENGTHS:
            change = max(strength - own.get(latent, 0.0), 0.0)
            found[f"{WORDS[way]}: {strength:g}"] = move(x_D, {latent: change}, study.space.sae.directions_ND)[
                0
            ]
    plain = {DIRECTION: facet_D, MEAN: facets.means.get(case.facet)}
    for way, direction_D in plain.items():
        if direction_D is not None:
            for strength in STRENGTHS:
                found[f"{WORDS[way]}: {strength:g}"] = move(x_D, {0: strength}, direction_D[None])[0]
    return found


def _features(study: Study, case: FacetCase, facet_D: NDArray[np.float32]) -> dict[str, int]:
    """The feature of a facet, by way of finding it; a way that finds none takes the other's."""
    by_encoder = study.explorer.code(study.space.name, facet_D).own
    strongest = max(by_encoder, key=lambda latent: by_encoder[latent]) if by_encoder else 0
    by_label = strongest
    if study.space.label_vectors_ND is not None:
        by_label = int(np.argmax(study.space.label_vectors_ND.astype(np.float32) @ facet_D))
    found = {BY_LABEL: by_label, BY_ENCODER: strongest}
    return found if case.latent is None else {GIVEN: case.latent, **found}


# --- categories as facets -------------------------------------------------------------------------


def category_facets(study: Study, names: Mapping[str, str], seed: int = 0) -> Facets | None:
    """Cases made of the documents' categories; None where there are none.

    The query is the title of a held-out document that has not the category; the answers are held-out
    documents that have it and are among the 100 best for the title by BM25 (grade 2 among the first 30,
    else 1), so that neither embeddings nor the SAE had a say. The feature is the one that finds the category
    best on training documents. `names` are words for categories that are codes.
    """
    categories = study.categories
    if categories is None:
        return None
    rng = np.random.default_rng((seed, 71))
    latents = find_best(study.space.codes, categories, study.is_train_M)[0]
    cases: list[FacetCase] = []
    for column, name in enumerate(categories.names):
        free = study.heldout[~categories.belongs_MC[study.heldout, column]]
        made = 0
        for own in rng.permutation(free)[: 10 * N_PER_CATEGORY].tolist():
            relevant = _answers(study, own, categories.belongs_MC[:, column])
            if len(relevant) >= MIN_CASES and made < N_PER_CATEGORY:
                title, words = study.documents[own].title, names.get(name, name)
                cases.append(FacetCase(title, words, relevant, int(latents[column]), (own,)))
                made += 1
    how = (
        f"Facets are {len(categories.names)} categories ({categories.source}), at most {N_PER_CATEGORY} "
        "queries each: titles of held-out documents without the category. Answers: held-out ones with it "
        f"among the {WORDS_POOL} best for the title by BM25. Searched: held-out documents only."
    )
    means_CD = category_means(study, categories)
    means = {names.get(name, name): means_CD[column] for column, name in enumerate(categories.names)}
    return Facets(study, cases, ~study.is_train_M, [how], means) if cases else None


def category_means(study: Study, categories: Categories) -> NDArray[np.float32]:
    """Unit directions from the mean of all training documents to that of each category's, (C, D)."""
    train_MC = categories.belongs_MC[study.is_train_M].astype(np.float32)
    x_MD = study.x_MD[study.is_train_M]
    offsets_CD = train_MC.T @ x_MD / train_MC.sum(axis=0)[:, None] - x_MD.mean(axis=0)
    unit_CD: NDArray[np.float32] = offsets_CD / np.linalg.norm(offsets_CD, axis=1, keepdims=True)
    return unit_CD


def _answers(study: Study, own: int, has_M: NDArray[np.bool_]) -> dict[int, float]:
    others = study.heldout[study.heldout != own]
    scores = study.words.compare([study.documents[own].title], others)[0]
    best = top(scores, WORDS_POOL).positions
    return {
        int(others[row]): 2.0 if rank < WORDS_BEST else 1.0
        for rank, row in enumerate(best.tolist())
        if has_M[others[row]] and scores[row] > 0
    }


# --- tables ---------------------------------------------------------------------------------------


def _overall(found: Mapping[str, NDArray[np.float64]]) -> Table:
    plain, added = found[PLAIN], found[ADDED]
    rows = [
        Row(
            name,
            [
                mean(values),
                None if name == PLAIN else mean(values - plain),
                None if name == ADDED else mean(values - added),
            ],
            len(values),
        )
        for name, values in found.items()
    ]
    columns = [f"nDCG@{NDCG_AT}", "less plain", "less query and facet as one text"]
    remark = (
        "Each strength is an activation that the query is given at least; of a text, what is added of it."
    )
    return Table("All cases", columns, rows, remark)


def _by_facet(cases: Sequence[FacetCase], found: Mapping[str, NDArray[np.float64]]) -> list[Table]:
    """A line for each facet that has several queries."""
    places = defaultdict(list)
    for at, case in enumerate(cases):
        places[case.facet].append(at)
    way = next(way for way in (GIVEN, BY_LABEL) if f"{WORDS[way]}: {SHOWN_AT:g}" in found)
    steered = found[f"{WORDS[way]}: {SHOWN_AT:g}"]
    rows = []
    for facet, some in sorted(places.items()):
        if len(some) >= MIN_CASES:
            plain, ours, added = (values[some] for values in (found[PLAIN], steered, found[ADDED]))
            figures = [mean(plain), mean(ours), mean(ours - plain), mean(added - plain)]
            rows.append(Row(facet, figures, len(some)))
    if not rows:
        return []
    columns = [
        "plain",
        f"{WORDS[way]}, {SHOWN_AT:g}",
        "less plain",
        "query and facet as one text, less plain",
    ]
    return [Table(f"Facet by facet, nDCG@{NDCG_AT}", columns, rows)]
