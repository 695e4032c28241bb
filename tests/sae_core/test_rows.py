"""Files of embeddings: read where they are, checked row by row."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sae_core.errors import EmbeddingError
from sae_core.rows import load_embeddings, open_embeddings


def unit(n: int, width: int = 8) -> NDArray[np.float32]:
    x_MD = np.random.default_rng(n).standard_normal((n, width))
    unit_MD: NDArray[np.float32] = (x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True)).astype(np.float32)
    return unit_MD


def saved(tmp_path: Path, array: NDArray[np.generic]) -> Path:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    return tmp_path / "x.npy"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_embeddings_come_back_as_unit_float32_rows(tmp_path: Path, dtype: str) -> None:
    x_MD = unit(20)
    loaded = load_embeddings(saved(tmp_path, x_MD.astype(dtype)), 20)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, x_MD, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(loaded, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-9, 3.0, 1e30])
def test_rows_of_another_length_are_scaled_and_this_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, factor: float
) -> None:
    x_MD = unit(20)
    path = saved(tmp_path, x_MD * np.float32(factor))
    np.testing.assert_allclose(load_embeddings(path, 20), x_MD, atol=1e-6)
    assert "not of unit length" in caplog.text
    caplog.clear()
    load_embeddings(saved(tmp_path, x_MD.astype(np.float16)), 20)
    assert caplog.text == ""


def spoilt(value: float, row: int = 3) -> NDArray[np.float32]:
    x_MD = unit(5)
    x_MD[row] = value
    return x_MD


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (unit(4), "4 rows for 5 documents"),
        (unit(5)[:, :0], r"shape \(5, 0\)"),
        (unit(5)[0], r"shape \(8,\)"),
        (unit(5)[None], r"shape \(1, 5, 8\)"),
        (np.float32(1.0), r"shape \(\)"),
        (spoilt(np.nan), r"Row 3 .*NaN or infinity"),
        (spoilt(np.inf, row=4), r"Row 4 .*NaN or infinity"),
        (spoilt(0.0, row=0), r"Row 0 .*only zeros"),
        (np.ones((5, 8), dtype=np.int64), "int64, not floating"),
        (np.ones((5, 8), dtype=np.complex64), "complex64, not floating"),
        (np.array([["a"] * 8] * 5, dtype=object), "cannot be read as a .npy file"),
        (np.array([["a"] * 8] * 5), "not floating"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused_with_a_remedy(
    tmp_path: Path, array: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(EmbeddingError, match=message) as caught:
        load_embeddings(saved(tmp_path, array), 5)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"id,title\n1,dust\n",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9007199254740992,)}\n",
        b"\x93NUMPY\x01\x00\x08\x00{'descr'",
        b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.",
    ],
    ids=["empty", "csv", "magic only", "absurd shape", "torn header", "pickle"],
)
def test_a_file_that_is_no_npy_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    with pytest.raises(EmbeddingError, match="cannot be read") as caught:
        load_embeddings(path, 5)
    assert caught.value.remedy


def test_a_truncated_npy_a_missing_one_a_folder_and_an_archive_are_sentences(tmp_path: Path) -> None:
    path = saved(tmp_path, unit(5))
    path.write_bytes(path.read_bytes()[:-3])
    np.savez(tmp_path / "x.npz", x=unit(5))
    for other in (path, tmp_path / "missing.npy", tmp_path, tmp_path / "x.npz"):
        with pytest.raises(EmbeddingError, match=r"cannot be read|archive"):
            load_embeddings(other, 5)


def test_rows_are_read_by_slice_by_number_and_through_subsets(tmp_path: Path) -> None:
    x_MD = unit(50)
    rows = open_embeddings(saved(tmp_path, x_MD))
    assert (len(rows), rows.shape) == (50, (50, 8))
    np.testing.assert_allclose(rows[3:9], x_MD[3:9], atol=1e-6)
    np.testing.assert_allclose(rows[np.array([7, 2])], x_MD[[7, 2]], atol=1e-6)
    odd = rows.subset(np.arange(1, 50, 2))
    assert odd.shape == (25, 8)
    np.testing.assert_allclose(odd[np.array([24, 0])], x_MD[[49, 1]], atol=1e-6)
    np.testing.assert_allclose(odd.subset(np.array([5]))[:], x_MD[[11]], atol=1e-6)


def test_the_fingerprint_is_of_the_numbers_and_their_type(tmp_path: Path) -> None:
    x_MD = unit(50)
    prints = [
        open_embeddings(saved(tmp_path, a)).fingerprint() for a in (x_MD, x_MD, x_MD.astype("f2"), -x_MD)
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_batch_costs_the_memory_of_a_batch(tmp_path: Path) -> None:
    rows = open_embeddings(saved(tmp_path, unit(20_000, 64).astype(np.float16)))
    tracemalloc.start()
    rows[np.arange(0, 20_000, 200)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000 * 64
