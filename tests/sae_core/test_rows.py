"""Files of embeddings in three formats: read where they are, checked row by row."""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from sae_core.errors import EmbeddingError
from sae_core.rows import Reading, load_embeddings, map_embeddings, open_embeddings


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
def test_rows_of_another_length_are_counted_and_refused_unless_they_shall_be_scaled(
    tmp_path: Path, factor: float
) -> None:
    x_MD = unit(20)
    path = saved(tmp_path, x_MD * np.float32(factor))
    with pytest.raises(EmbeddingError, match=r"20 of 20 rows .* not of unit length.*--normalise"):
        load_embeddings(path, 20)
    np.testing.assert_allclose(load_embeddings(path, 20, Reading(normalise=True)), x_MD, atol=1e-6)
    one = x_MD.copy()
    one[7] *= np.float32(factor)
    with pytest.raises(EmbeddingError, match=r"1 of 20 rows .* row 7 "):
        load_embeddings(saved(tmp_path, one), 20)
    load_embeddings(saved(tmp_path, x_MD.astype(np.float16)), 20)  # off by rounding alone


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
        (np.zeros((5, 8)), r"Rows 0, 1, 2, 3, 4 .*have only zeros"),
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


# --- other formats


def as_safetensors(path: Path, x_MD: NDArray[Any], **others: NDArray[Any]) -> Path:
    save_file({"vectors": np.ascontiguousarray(x_MD), **others}, path / "x.safetensors", {"model": "some"})
    return path / "x.safetensors"


def as_bfloat16(path: Path, x_MD: NDArray[Any]) -> Path:
    save_torch_file({"vectors": torch.from_numpy(x_MD).bfloat16()}, path / "x.safetensors")
    return path / "x.safetensors"


def as_lists(path: Path, x_MD: NDArray[Any], **others: Any) -> Path:
    columns = {"vectors": list(x_MD), **others}
    pq.write_table(pa.table(columns), path / "x.parquet", row_group_size=7)
    return path / "x.parquet"


def as_fixed_lists(path: Path, x_MD: NDArray[Any]) -> Path:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x_MD.ravel()), x_MD.shape[1])
    pq.write_table(pa.table({"id": range(len(x_MD)), "vectors": vectors}), path / "x.parquet")
    return path / "x.parquet"


FORMATS: list[Callable[[Path, NDArray[Any]], Path]] = [as_safetensors, as_lists, as_fixed_lists]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("write", FORMATS)
def test_every_format_holds_the_same_rows(
    tmp_path: Path, write: Callable[[Path, NDArray[Any]], Path], dtype: type
) -> None:
    x_MD: NDArray[Any] = unit(20).astype(dtype)
    path = write(tmp_path, x_MD)
    found, expected = open_embeddings(path, 20), open_embeddings(saved(tmp_path, x_MD), 20)
    assert found.fingerprint() == expected.fingerprint()
    np.testing.assert_array_equal(found[:], expected[:])
    with pytest.raises(EmbeddingError, match="20 rows for 21 documents"):
        load_embeddings(path, 21)


def test_bfloat16_is_read_though_numpy_does_not_know_it(tmp_path: Path) -> None:
    x_MD = unit(20_000, 16)
    found = load_embeddings(as_bfloat16(tmp_path, x_MD), 20_000)
    np.testing.assert_allclose(found, x_MD, atol=4e-3)
    assert not np.array_equal(found, x_MD)


def test_a_parquet_of_many_blocks_is_streamed_in_order(tmp_path: Path) -> None:
    x_MD = unit(20_000, 16)
    path = as_lists(tmp_path, x_MD)
    tracemalloc.start()
    array = map_embeddings(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(array, x_MD)
    assert peak < x_MD.nbytes


def test_one_of_several_matrices_is_named(tmp_path: Path) -> None:
    x_MD = unit(20)
    title, other = list(range(20)), list(unit(20, 3))
    for path in (
        as_safetensors(tmp_path, x_MD, other=unit(20, 3)),
        as_lists(tmp_path, x_MD, title=title, other=other),
    ):
        with pytest.raises(EmbeddingError, match=r"has 2 .*--embeddings-column: .*other"):
            load_embeddings(path)
        np.testing.assert_allclose(load_embeddings(path, 20, Reading("vectors")), x_MD, atol=1e-6)
        with pytest.raises(EmbeddingError, match=r"no .*'nothing'.*vectors"):
            load_embeddings(path, 20, Reading("nothing"))
    with pytest.raises(EmbeddingError, match="'title'"):
        load_embeddings(path, 20, Reading("title"))
    with pytest.raises(EmbeddingError, match="without names"):
        load_embeddings(saved(tmp_path, x_MD), 20, Reading("vectors"))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ([[1.0, 0.0], [0.6]], "Row 1 .* 1 numbers, others have 2"),
        ([[1.0, 0.0], None], "Row 1 .* no embedding"),
        (pa.array([[], []], pa.list_(pa.float32())), "Row 0 .* no embedding"),
        ([[1.0, 0.0], [0.0, None]], "Row 1 .* lacks a number"),
        ([[1.0, 0.0], [0.0, float("nan")]], "Row 1 .*NaN"),
        ([[1, 0], [0, 1]], "no column that is a matrix"),
        (["1 0", "0 1"], "no column that is a matrix"),
        ([], "no column that is a matrix"),
    ],
)
def test_a_column_that_is_no_matrix_is_refused(tmp_path: Path, column: list[Any], said: str) -> None:
    pq.write_table(pa.table({"vectors": column}), tmp_path / "x.parquet")
    with pytest.raises(EmbeddingError, match=said) as caught:
        load_embeddings(tmp_path / "x.parquet", 2)
    assert caught.value.remedy


def header(said: object, data: bytes = bytes(64)) -> bytes:
    text = json.dumps(said).encode()
    return len(text).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 100,
        header({"x": ENTRY})[:20],
        header({"x": ENTRY}, bytes(63)),
        header({"x": {**ENTRY, "shape": [2, 9]}}),
        header({"x": {**ENTRY, "shape": [2**40, 2**40]}}),
        header({"x": {**ENTRY, "data_offsets": [-64, 0]}}),
        header({"x": {**ENTRY, "data_offsets": "ab"}}),
        header({"x": {"dtype": "F32"}}),
        header([1, 2]),
        header({"x": {**ENTRY, "dtype": "I64", "shape": [1, 8]}}),
        header({"x": {**ENTRY, "shape": [16]}}),
        header({}),
    ],
    ids=str,
)
def test_a_safetensors_file_that_lies_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(EmbeddingError, match=r"cannot be read|no tensor") as caught:
        load_embeddings(path)
    assert caught.value.remedy


def test_files_that_are_missing_or_something_else_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("id,title")
    for name in ("text.parquet", "missing.parquet", "missing.safetensors"):
        with pytest.raises(EmbeddingError, match="cannot be read"):
            load_embeddings(tmp_path / name)


def test_no_room_for_what_must_be_unpacked_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def write(self, _: object) -> None:
            raise OSError(28, "No space left on device")

    path = as_lists(tmp_path, unit(20))
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(EmbeddingError, match=r"unpacked into .*No space left.*TMPDIR"):
        load_embeddings(path)


# --- truncation


def test_the_first_numbers_of_a_row_are_an_embedding_too(tmp_path: Path) -> None:
    x_MD = unit(20)
    path = saved(tmp_path, x_MD)
    found = load_embeddings(path, 20, Reading(truncate=3))
    np.testing.assert_allclose(found, x_MD[:, :3] / np.linalg.norm(x_MD[:, :3], axis=1)[:, None], atol=1e-6)
    np.testing.assert_array_equal(load_embeddings(path, 20, Reading(truncate=8)), load_embeddings(path, 20))
    with pytest.raises(EmbeddingError, match=r"first 9 numbers .* has 8"):
        load_embeddings(path, 20, Reading(truncate=9))
    x_MD[4] = np.eye(8)[7]
    with pytest.raises(EmbeddingError, match=r"Row 4 .* only zeros in the first 3 numbers"):
        load_embeddings(saved(tmp_path, x_MD), 20, Reading(truncate=3))
