"""What is said of a latent, against a slow and obvious count over dense arrays."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from sae_core import features
from sae_core.codes import encode_codes
from sae_core.features import (
    MIN_TOGETHER,
    N_BINS,
    N_NEAR,
    N_NEIGHBOURS,
    QUANTILES,
    FeatureTable,
    describe,
)
from sae_core.sae import SAE

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_DOCUMENTS, N_LATENTS, WIDTH, K = 400, 40, 12, 4
DEAD = 17


def make_sae(n_latents: int = N_LATENTS, *, k: int = K, dead: int | None = DEAD) -> SAE:
    """Random directions; the dead latent's bias keeps it out of every top k."""
    generator = torch.Generator().manual_seed(3)
    directions = torch.nn.functional.normalize(torch.randn(n_latents, WIDTH, generator=generator), dim=1)
    bias = 0.05 * torch.randn(n_latents, generator=generator)
    if dead is not None:
        bias[dead] = -9
    centre = 0.1 * torch.randn(WIDTH, generator=generator)
    unit = directions.numpy()
    return SAE(W_enc_ND=unit, W_dec_ND=unit, b_enc_N=bias.numpy(), b_dec_D=centre.numpy(), k=k)


def make_embeddings(n: int = N_DOCUMENTS) -> NDArray[np.float32]:
    x = np.random.default_rng(4).normal(size=(n, WIDTH)).astype(np.float32)
    unit: NDArray[np.float32] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit


SAE_ = make_sae()
X = make_embeddings()
CODES = encode_codes(SAE_, X)
DENSE = CODES.matrix().toarray()  # small enough here
TABLE = describe(SAE_, CODES, X)


def test_counts_maxima_and_means_are_those_of_the_active_documents() -> None:
    for latent in range(N_LATENTS):
        active = DENSE[:, latent][DENSE[:, latent] > 0]
        assert TABLE.n_documents_N[latent] == len(active)
        if len(active):
            assert TABLE.max_N[latent] == active.max()
            assert TABLE.mean_N[latent] == pytest.approx(active.mean(), rel=1e-5)


def test_quantiles_are_those_of_the_active_documents() -> None:
    for latent in np.flatnonzero(TABLE.n_documents_N):
        active = DENSE[:, latent][DENSE[:, latent] > 0]
        assert TABLE.quantiles_NQ[latent] == pytest.approx(np.quantile(active, QUANTILES), rel=1e-5)


def test_the_histogram_has_equal_bins_up_to_the_maximum_and_holds_every_active_document() -> None:
    for latent in np.flatnonzero(TABLE.n_documents_N):
        active = DENSE[:, latent][DENSE[:, latent] > 0]
        expected, _ = np.histogram(active, bins=N_BINS, range=(0, active.max()))
        assert TABLE.histogram_NH[latent].sum() == len(active)
        assert np.abs(TABLE.histogram_NH[latent].astype(int) - expected).sum() <= 2  # rounding at an edge
        assert TABLE.histogram_NH[latent, -1] > 0  # the strongest document


def test_similar_latents_are_the_nearest_directions_under_their_own_numbers() -> None:
    """Ids read from an array without the latent's own column are off by one above it."""
    cosines = SAE_.directions_ND @ SAE_.directions_ND.T
    for latent in range(N_LATENTS):
        order = [int(other) for other in np.argsort(-cosines[latent]) if other != latent]
        near = [other for other in order if cosines[latent, other] > 0][:N_NEIGHBOURS]
        far = [other for other in order[::-1] if cosines[latent, other] < 0][:N_NEIGHBOURS]
        for name, expected in (("similar", near), ("opposite", far)):
            n = len(expected)
            assert getattr(TABLE, f"{name}_NS")[latent].tolist() == expected + [-1] * (N_NEIGHBOURS - n)
            listed = getattr(TABLE, f"{name}_cosine_NS")[latent, :n]
            assert listed == pytest.approx(cosines[latent, expected], abs=1e-6)


def test_no_latent_is_its_own_neighbour() -> None:
    own = np.arange(N_LATENTS)[:, None]
    assert not np.any(TABLE.similar_NS == own)
    assert not np.any(TABLE.opposite_NS == own)
    assert not np.any(TABLE.together_NS == own)


def test_a_twin_is_the_most_similar_on_both_sides_of_it() -> None:
    """Latent 5 and latent 30 have the same direction: each must name the other, not a neighbour of it."""
    directions = SAE_.W_dec_ND.copy()
    directions[30] = directions[5]
    twins = SAE(W_enc_ND=directions, W_dec_ND=directions, b_enc_N=SAE_.b_enc_N, b_dec_D=SAE_.b_dec_D, k=K)
    table = describe(twins, encode_codes(twins, X), X)
    assert table.similar_NS[5, 0] == 30
    assert table.similar_NS[30, 0] == 5


def test_fire_together_lists_every_latent_that_does_so_more_than_chance_by_lift() -> None:
    fires = DENSE > 0
    for latent in range(N_LATENTS):
        expected = []
        for other in range(N_LATENTS):
            observed = int((fires[:, latent] & fires[:, other]).sum())
            chance = fires[:, latent].sum() * fires[:, other].sum() / N_DOCUMENTS
            if other != latent and observed >= MIN_TOGETHER and observed > chance:
                expected.append((-observed / chance, -observed, other, chance))
        expected = sorted(expected)[:N_NEIGHBOURS]
        n = len(expected)
        assert TABLE.together_NS[latent].tolist() == [row[2] for row in expected] + [-1] * (N_NEIGHBOURS - n)
        assert TABLE.together_observed_NS[latent, :n].tolist() == [-row[1] for row in expected]
        assert TABLE.together_expected_NS[latent, :n] == pytest.approx([row[3] for row in expected])
        assert TABLE.together_lift_NS[latent, :n] == pytest.approx([-row[0] for row in expected])
        assert not TABLE.together_lift_NS[latent, n:].any()
    assert (TABLE.together_NS >= 0).any()


def test_near_misses_are_the_silent_documents_with_the_largest_preactivation() -> None:
    preactivations = SAE_.preactivations(X)
    for latent in range(N_LATENTS):
        silent = np.flatnonzero(DENSE[:, latent] == 0)
        order = silent[np.argsort(-preactivations[silent, latent], kind="stable")][:N_NEAR]
        assert TABLE.near_NM[latent].tolist() == order.tolist()
        assert TABLE.near_preactivation_NM[latent] == pytest.approx(preactivations[order, latent], abs=1e-5)


def test_a_dead_latent_has_zeros_and_no_company() -> None:
    assert TABLE.n_documents_N[DEAD] == 0
    for name in ("max_N", "mean_N", "quantiles_NQ", "histogram_NH", "together_observed_NS"):
        assert not np.any(getattr(TABLE, name)[DEAD])
    assert set(TABLE.together_NS[DEAD].tolist()) == {-1}
    assert np.isfinite(TABLE.near_preactivation_NM[DEAD]).all()


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "LATENTS_PER_BLOCK", 7)
    monkeypatch.setattr(features, "CELLS_PER_BLOCK", 23 * N_LATENTS)  # 23 rows: fewer than near misses
    blocked = describe(SAE_, CODES, X)
    for field in fields(FeatureTable):
        whole, parts = getattr(TABLE, field.name), getattr(blocked, field.name)
        assert parts.dtype == whole.dtype
        assert np.allclose(parts, whole, atol=1e-6), field.name


def test_shapes_and_types_are_those_of_the_contract() -> None:
    widths = {"N": (), "NQ": (len(QUANTILES),), "NH": (N_BINS,), "NS": (N_NEIGHBOURS,), "NM": (N_NEAR,)}
    for field in fields(FeatureTable):
        array = getattr(TABLE, field.name)
        assert array.shape == (N_LATENTS, *widths[field.name.rsplit("_", 1)[1]])
        assert array.dtype in (np.int32, np.float32, np.uint32)


@pytest.mark.parametrize("n_latents", [1, 3])
def test_lists_that_cannot_be_filled_end_in_minus_one(n_latents: int) -> None:
    sae = make_sae(n_latents, k=1, dead=None)
    x = make_embeddings(10)
    codes = encode_codes(sae, x)
    table = describe(sae, codes, x)
    n_silent = 10 - table.n_documents_N
    assert ((table.near_NM >= 0).sum(axis=1) == n_silent).all()
    n_named = (table.similar_NS >= 0).sum(axis=1) + (table.opposite_NS >= 0).sum(axis=1)
    assert (n_named == n_latents - 1).all()


def test_a_collection_on_which_nothing_fires_is_described_all_the_same() -> None:
    empty = encode_codes(SAE_, X[:0])
    table = describe(SAE_, empty, X[:0])
    assert not table.n_documents_N.any()
    assert (table.near_NM == -1).all()
    assert (table.similar_NS == TABLE.similar_NS).all()


def test_progress_counts_up_to_its_total() -> None:
    seen: list[tuple[int, int]] = []
    describe(SAE_, CODES, X, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))
