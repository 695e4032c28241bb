"""Rankings are exact, whatever the shortcut."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_core.errors import ArtifactError
from sae_core.index import VectorIndex, top


def unit_rows(n: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def test_vectors_outlive_the_index_that_they_came_from() -> None:
    """In another process: where they do not, the memory is gone and reading it ends that process."""
    script = "import numpy as np; from sae_core.index import VectorIndex\n"
    script += "x_MD = np.ones((200_000, 64), np.float32)\n"
    script += "print(VectorIndex.build(x_MD).vectors()[::1000].sum())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "12800.0\n")


@given(
    st.integers(1, 3000),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
    st.sampled_from([3, 50, 10**9]),
    st.booleans(),
)
def test_top_is_the_beginning_of_a_full_sort(n: int, k: int, seed: int, levels: int, some: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, n) / levels).astype(np.float32)  # few levels: many ties
    allowed = rng.random(n) < 0.3 if some else None
    places = np.arange(n) if allowed is None else np.flatnonzero(allowed)
    expected = places[np.lexsort((places, -scores[places]))][:k]
    hits = top(scores, k, allowed)
    np.testing.assert_array_equal(hits.positions, expected)
    np.testing.assert_array_equal(hits.scores, scores[expected])


def test_search_agrees_with_faiss_itself() -> None:
    x_MD = unit_rows(4000, 24)
    ours, theirs = VectorIndex.build(x_MD), faiss.IndexFlatIP(24)
    theirs.add(x_MD)
    for query in unit_rows(50, 24, seed=1):
        scores, positions = theirs.search(query[None], 10)
        hits = ours.search(query, 10)
        np.testing.assert_allclose(hits.scores, scores[0], atol=1e-6)
        np.testing.assert_array_equal(hits.positions, positions[0])


def test_load_is_the_inverse_of_save(tmp_path: Path) -> None:
    x_MD = unit_rows(100, 8)
    VectorIndex.build(x_MD).save(tmp_path / "index.faiss")
    loaded = VectorIndex.load(tmp_path / "index.faiss")
    np.testing.assert_array_equal(loaded.vectors(), x_MD)
    np.testing.assert_array_equal(loaded.vector(7), x_MD[7])
    np.testing.assert_allclose(loaded.products(x_MD[3]), x_MD @ x_MD[3], atol=1e-6)


def test_what_is_not_a_flat_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "torn.faiss").write_bytes(b"IxFI")
    with pytest.raises(ArtifactError, match=r"torn\.faiss"):
        VectorIndex.load(tmp_path / "torn.faiss")
    faiss.write_index(faiss.IndexHNSWFlat(8, 4), str(tmp_path / "other.faiss"))
    with pytest.raises(ArtifactError, match="flat"):
        VectorIndex.load(tmp_path / "other.faiss")


def test_a_full_disk_is_an_error_of_the_system() -> None:
    index = VectorIndex.build(unit_rows(20_000, 8))
    with pytest.raises(OSError, match="No space") as raised:
        index.save(Path("/dev/full"))
    assert raised.value.errno == errno.ENOSPC
