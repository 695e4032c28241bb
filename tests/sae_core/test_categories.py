"""The best feature for each category: against brute force, and what must not be possible."""

from __future__ import annotations

import numpy as np
import pytest

from sae_core.categories import Categories, find_best, read_categories, score_categories
from sae_core.codes import Codes, make_codes
from sae_core.corpus import Document

N_DOCUMENTS, N_LATENTS = 240, 17


def random_codes(seed: int = 0) -> Codes:
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.arange(N_DOCUMENTS), 4)
    latents = np.concatenate([rng.choice(N_LATENTS, 4, replace=False) for _ in range(N_DOCUMENTS)])
    values = rng.integers(1, 6, len(rows)).astype(np.float32)  # many ties
    return make_codes(rows, latents, values, n_documents=N_DOCUMENTS, n_latents=N_LATENTS)


@pytest.fixture
def is_train_M() -> np.ndarray:
    return np.random.default_rng(1).random(N_DOCUMENTS) < 0.7


@pytest.fixture
def categories() -> Categories:
    belongs_MC = np.random.default_rng(2).random((N_DOCUMENTS, 3)) < (0.1, 0.3, 0.6)
    return Categories(["a", "b", "c"], belongs_MC, "categories")


def f1(said: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (said & truth).sum() / max(said.sum() + truth.sum(), 1))


def test_the_best_feature_and_threshold_are_those_of_brute_force(
    is_train_M: np.ndarray, categories: Categories
) -> None:
    codes = random_codes()
    dense_MN = codes.matrix().toarray()
    latent_C, threshold_C, train_C = find_best(codes, categories, is_train_M)
    for at in range(3):
        truth = categories.belongs_MC[is_train_M, at]
        tried = {
            (latent, threshold): f1(dense_MN[is_train_M, latent] >= threshold, truth)
            for latent in range(N_LATENTS)
            for threshold in range(1, 6)
        }
        assert train_C[at] == pytest.approx(max(tried.values()))
        assert tried[int(latent_C[at]), int(threshold_C[at])] == pytest.approx(train_C[at])


def test_the_score_is_f1_on_held_out_documents_only(is_train_M: np.ndarray, categories: Categories) -> None:
    codes = random_codes()
    dense_MN = codes.matrix().toarray()
    (scores,) = score_categories({"SAE": codes}, categories, is_train_M)
    for at, best in enumerate(scores.best):
        said = dense_MN[~is_train_M, best.latent] >= best.threshold
        truth = categories.belongs_MC[~is_train_M, at]
        assert best.f1.value == pytest.approx(f1(said, truth))
        assert best.f1.low <= best.f1.value <= best.f1.high
        assert best.n_heldout == truth.sum()
    assert scores.mean_f1.value == pytest.approx(np.mean([best.f1.value for best in scores.best]))
    assert scores.lead is None


def test_features_that_are_the_categories_lead_by_what_is_paired(
    is_train_M: np.ndarray, categories: Categories
) -> None:
    rows, latents = np.nonzero(categories.belongs_MC)
    perfect = make_codes(
        rows, latents, np.ones(len(rows), dtype=np.float32), n_documents=N_DOCUMENTS, n_latents=3
    )
    ours, other = score_categories({"SAE": perfect, "chance": random_codes()}, categories, is_train_M)
    assert ours.mean_f1.value == ours.mean_f1.low == 1
    assert other.lead is not None
    assert other.lead.low > 0.1
    assert other.lead.value == pytest.approx(1 - other.mean_f1.value)
    backwards = score_categories({"chance": random_codes(), "SAE": perfect}, categories, is_train_M)[1]
    assert backwards.lead is not None
    assert backwards.lead.high < 0


def test_a_category_that_no_feature_has_scores_nothing(is_train_M: np.ndarray) -> None:
    silent = make_codes(
        np.zeros(0, dtype=np.int64),
        np.zeros(0, dtype=np.int64),
        np.zeros(0, dtype=np.float32),
        n_documents=N_DOCUMENTS,
        n_latents=4,
    )
    belongs_MC = np.arange(N_DOCUMENTS)[:, None] % 2 == 0
    (scores,) = score_categories({"SAE": silent}, Categories(["even"], belongs_MC, "venue"), is_train_M)
    assert scores.best[0].f1.value == 0


def documents(categories: list[str], venue: str = "") -> list[Document]:
    return [
        Document(id=str(i), title="t", abstract="a", categories=c, venue=venue)
        for i, c in enumerate(categories)
    ]


def test_categories_are_words_of_their_column_and_the_venue_stands_in() -> None:
    is_train_M = np.arange(200) % 4 != 0
    found = read_categories(documents([["x y", "x", "z", "y z"][i // 2 % 4] for i in range(200)]), is_train_M)
    assert found is not None
    assert (found.source, sorted(found.names)) == ("categories", ["x", "y", "z"])
    assert found.belongs_MC[0].sum() == 2
    packages = [Document(id=str(i), title="t", abstract="a", venue=f"p{i % 3}") for i in range(200)]
    found = read_categories(packages, is_train_M)
    assert found is not None
    assert (found.source, found.names) == ("venue", ["p0", "p1", "p2"])


def test_no_categories_or_useless_ones_are_none() -> None:
    is_train_M = np.arange(200) % 4 != 0
    assert read_categories(documents([""] * 200), is_train_M) is None
    assert read_categories(documents(["all"] * 200), is_train_M) is None
    assert read_categories(documents([f"own{i}" for i in range(200)]), is_train_M) is None
