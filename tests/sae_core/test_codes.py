"""Codes hold the same activations twice, and only those above zero."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sae_core.codes import Codes, make_codes

triplets = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 11), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0])),
    unique_by=lambda triplet: triplet[:2],
)


def codes_of(rows: list[tuple[int, int, float]]) -> tuple[Codes, np.ndarray]:
    dense = np.zeros((9, 12), dtype=np.float32)
    for document, latent, value in rows:
        dense[document, latent] = max(value, 0)
    columns = np.array(rows, dtype=float).reshape(-1, 3)
    codes = make_codes(
        columns[:, 0].astype(np.int64),
        columns[:, 1].astype(np.int64),
        columns[:, 2].astype(np.float32),
        n_documents=9,
        n_latents=12,
    )
    return codes, dense


@given(triplets)
def test_both_orders_and_the_matrix_hold_what_was_put_in(rows: list[tuple[int, int, float]]) -> None:
    codes, dense = codes_of(rows)
    np.testing.assert_array_equal(codes.matrix().toarray(), dense)
    np.testing.assert_array_equal(codes.fires().toarray(), dense > 0)
    for document in range(9):
        latents, values = codes.of_document(document)
        assert set(latents.tolist()) == set(np.flatnonzero(dense[document]))
        np.testing.assert_array_equal(values, dense[document, latents])
        assert (np.diff(values) <= 0).all()
    for latent in range(12):
        documents, values = codes.of_latent(latent)
        assert set(documents.tolist()) == set(np.flatnonzero(dense[:, latent]))
        assert (np.diff(values) <= 0).all()
        assert (values > 0).all()
    np.testing.assert_array_equal(codes.counts(), (dense > 0).sum(axis=0))
