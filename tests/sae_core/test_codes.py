"""Codes hold the same activations twice, and only those above zero."""

from __future__ import annotations

import json
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from benchmarks import encode_speed
from sae_core.codes import ROWS_PER_BLOCK, Codes, DocumentCodes, encode_codes, make_codes
from sae_core.errors import EmbeddingError
from sae_core.sae import SAE

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


def by_full_sorts(rows: np.ndarray, latents: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    """What `make_codes` promises, said with two sorts of everything."""
    rows, latents, values = rows[values > 0], latents[values > 0], values[values > 0]
    by_document = np.lexsort((latents, -values, rows))
    by_latent = np.lexsort((rows, -values, latents))
    return {
        "latents": latents[by_document],
        "values": values[by_document],
        "documents": rows[by_latent],
        "latent_values": values[by_latent],
    }


@pytest.mark.parametrize("levels", [3, 10**6], ids=["ties", "few ties"])
@pytest.mark.parametrize("sorted_at_once", [1, 50, 2**20])
def test_the_orders_are_those_of_full_sorts(
    levels: int, sorted_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sae_core.codes.SORTED_AT_ONCE", sorted_at_once)
    rng = np.random.default_rng(levels)
    cells = rng.choice(90 * 40, size=700, replace=False)
    rows, latents = np.divmod(cells, 40)
    rows[rows % 7 == 3] = 8  # documents without any, and one with many
    values = (rng.integers(-levels // 4, levels, len(cells)) / levels).astype(np.float32)
    codes = make_codes(rows, latents, values, n_documents=90, n_latents=40)
    for name, expected in by_full_sorts(rows, latents, values).items():
        np.testing.assert_array_equal(getattr(codes, name), expected)
    types = {name: array.dtype for name, array in codes.arrays().items()}
    assert [str(types[name]) for name in ("document_ptr", "latents", "values")] == [
        "int64",
        "uint32",
        "float32",
    ]
    assert [str(types[name]) for name in ("latent_ptr", "documents", "latent_values")] == [
        "int64",
        "uint32",
        "float32",
    ]


def some_sae(threshold: float | None = None) -> SAE:
    rng = np.random.default_rng(1)
    weights_ND = rng.standard_normal((96, 12), dtype=np.float32)
    bias_N, bias_D = (rng.standard_normal(n, dtype=np.float32) / np.float32(10) for n in (96, 12))
    return SAE(
        W_enc_ND=weights_ND, W_dec_ND=weights_ND, b_enc_N=bias_N, b_dec_D=bias_D, k=5, threshold=threshold
    )


@pytest.mark.parametrize("threshold", [None, 2.0])
@pytest.mark.parametrize("n_rows", [0, 1, ROWS_PER_BLOCK, 3 * ROWS_PER_BLOCK + 17])
def test_encoding_in_blocks_is_encoding_each_document(threshold: float | None, n_rows: int) -> None:
    sae = some_sae(threshold)
    x_MD = np.random.default_rng(2).standard_normal((n_rows, 12), dtype=np.float32)
    told: list[tuple[int, int]] = []
    codes = encode_codes(sae, x_MD, lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [*range(ROWS_PER_BLOCK, n_rows, ROWS_PER_BLOCK), n_rows][: len(told)]
    assert told[-1:] == ([(n_rows, n_rows)] if n_rows else [])
    for document in range(0, n_rows, 37):
        latents, values = sae.encode(x_MD[document : document + 1]).row()
        found_latents, found_values = codes.of_document(document)
        np.testing.assert_array_equal(found_latents, latents)
        np.testing.assert_allclose(found_values, values, rtol=1e-5)
    assert codes.n_documents == n_rows
    assert threshold is None or (codes.values > threshold).all()


def test_activations_do_not_depend_on_the_number_of_threads() -> None:
    x_MD = np.random.default_rng(3).standard_normal((900, 12), dtype=np.float32)
    found = []
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            found.append(encode_codes(some_sae(), x_MD).arrays())
    for name, expected in found[0].items():
        for other in found[1:]:
            assert other[name].tobytes() == expected.tobytes()


def test_an_error_of_a_block_is_raised_and_the_blocks_after_it_are_left() -> None:
    x_MD = np.zeros((40 * ROWS_PER_BLOCK, 12), dtype=np.float32)
    asked: list[int] = []

    class Torn:
        def __len__(self) -> int:
            return len(x_MD)

        def __getitem__(self, rows: slice, /) -> np.ndarray:
            asked.append(rows.start)
            if rows.start == 2 * ROWS_PER_BLOCK:
                raise EmbeddingError("Row 512 has NaN.")
            time.sleep(0.01)
            return x_MD[rows]

    with pytest.raises(EmbeddingError, match="Row 512"):
        encode_codes(some_sae(), Torn())
    assert len(asked) < 20


def test_the_codes_are_made_in_a_small_multiple_of_their_own_memory() -> None:
    rng = np.random.default_rng(4)
    latents_MK = np.argsort(rng.random((20_000, 64)), axis=1).astype(np.uint32)[:, :32]
    values_MK = -np.sort(-rng.random((20_000, 32), dtype=np.float32), axis=1)
    by_document = DocumentCodes(np.arange(20_001) * 32, latents_MK.ravel(), values_MK.ravel())
    tracemalloc.start()
    try:
        codes = by_document.in_both_orders(64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result = sum(array.nbytes for array in codes.arrays().values())
    assert peak < 2.5 * result


def test_the_benchmark_ends_with_one_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--widths", "8", "--latents", "64", "--k", "4", "--rows", "600"]
    monkeypatch.setattr("sys.argv", ["encode_speed", *size, "--threads", "1", "--rounds", "1"])
    encode_speed.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    (row,) = result["rows"]
    assert (row["n_latents"], row["rows"], row["threads"]) == (64, 600, 1)
    assert set(row["per_second"]) == {"product", "ours", "argpartition", "torch.topk", "bf16 product"}
    assert row["ratios"]["ours / product"] == row["per_second"]["ours"] / row["per_second"]["product"]
