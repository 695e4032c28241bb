"""Exact inner products with every document of a collection: the only file that imports faiss.

Vectors lie in a flat float32 FAISS index, memory-mapped so that worker processes share them. A ranking is
made from the products of a query with all documents, because a steered query's products are a sum of
products already known (see `sae_core.steer`); the top of them is found in one more pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_core.errors import ArtifactError, SaefariError

try:
    import faiss
except ModuleNotFoundError as error:
    raise SaefariError(
        "FAISS is not installed.", remedy="Install saefari[cpu] or saefari[gpu]; they exclude each other."
    ) from error

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SAMPLE_STRIDE = 97  # a prime, so that the sample of scores follows no period of the corpus


@dataclass(frozen=True)
class Hits:
    """The best documents of a search, best first; ties by position."""

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]


class _Held:
    """The numbers of an index as an array's base: what is in its memory holds it."""

    def __init__(self, index: faiss.IndexFlatIP, numbers: NDArray[np.float32]) -> None:
        self.index, self.__array_interface__ = index, numbers.__array_interface__


class VectorIndex:
    """A flat inner-product index over unit vectors."""

    def __init__(self, index: faiss.IndexFlatIP) -> None:
        self._index = index
        self.n, self.width = int(index.ntotal), int(index.d)
        numbers = faiss.rev_swig_ptr(index.get_xb(), self.n * self.width)
        self._vectors_MD: NDArray[np.float32] = np.asarray(_Held(index, numbers)).reshape(self.n, self.width)

    @classmethod
    def build(cls, x_MD: NDArray[np.float32]) -> VectorIndex:
        """An index over the rows of `x_MD`, in their order."""
        index = faiss.IndexFlatIP(x_MD.shape[1])
        index.add(np.ascontiguousarray(x_MD, dtype=np.float32))
        return cls(index)

    def save(self, path: Path) -> None:
        """Write the index. Inverse of `load`."""
        with path.open("wb") as file:  # written through Python, which says why a write failed
            writer = faiss.PyCallbackIOWriter(file.write)  # type: ignore[attr-defined]
            faiss.write_index(self._index, writer)

    @classmethod
    def load(cls, path: Path) -> VectorIndex:
        """Map an index file into memory. Verify its checksum first: faiss believes what a file says."""
        remedy = "Rebuild it with `saefari build`, or restore the file from a backup."
        try:
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise ArtifactError(f"{path} cannot be read as an index.", remedy=remedy) from error
        if not isinstance(index, faiss.IndexFlatIP):
            raise ArtifactError(f"{path} is not a flat inner-product index.", remedy=remedy)
        return cls(index)

    def vector(self, position: int) -> NDArray[np.float32]:
        """The unit vector of one document, (D,)."""
        vector: NDArray[np.float32] = self._vectors_MD[position].copy()
        return vector

    def vectors(self) -> NDArray[np.float32]:
        """All vectors, (M, D): a view of the index's own memory."""
        return self._vectors_MD

    def products(self, x_D: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inner product of one vector with every document, (M,)."""
        x_D = np.ascontiguousarray(x_D, dtype=np.float32)
        out = np.empty(self.n, dtype=np.float32)
        pointers = (faiss.swig_ptr(out), faiss.swig_ptr(x_D), self._index.get_xb())
        faiss.fvec_inner_products_ny(  # type: ignore[attr-defined]
            *pointers, self.width, self.n
        )
        return out

    def products_at(self, x_D: NDArray[np.float32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """The inner product of one vector with some documents, (P,): the same numbers as in `products`."""
        x_D = np.ascontiguousarray(x_D, dtype=np.float32)
        positions = np.ascontiguousarray(positions, dtype=np.int64)
        out = np.empty(len(positions), dtype=np.float32)
        pointers = [faiss.swig_ptr(out), faiss.swig_ptr(x_D), self._index.get_xb(), faiss.swig_ptr(positions)]
        faiss.fvec_inner_products_by_idx(  # type: ignore[attr-defined]
            *pointers, self.width, 1, len(positions)
        )
        return out

    def search(
        self,
        x_D: NDArray[np.float32],
        n: int,
        allowed: NDArray[np.bool_] | None = None,
    ) -> Hits:
        """The `n` documents with the largest inner product, among those allowed."""
        return top(self.products(x_D), n, allowed)


def add_scaled(
    sums_M: NDArray[np.float32], factor: float, column_M: NDArray[np.float32]
) -> NDArray[np.float32]:
    """sums + factor x column, as a new array, in one pass."""
    out = np.empty_like(sums_M)
    a, b, c = (faiss.swig_ptr(array) for array in (sums_M, column_M, out))
    faiss.fvec_madd(len(out), a, factor, b, c)  # type: ignore[attr-defined]
    return out


def top(scores: NDArray[np.float32], n: int, allowed: NDArray[np.bool_] | None = None) -> Hits:
    """The `n` best of `scores`, exactly; ties by position."""
    places = None if allowed is None else np.flatnonzero(allowed)
    scores = scores if places is None else scores[places]
    candidates = highest(scores, min(n, len(scores)))
    best = candidates[np.lexsort((candidates, -scores[candidates]))[:n]]
    positions = best if places is None else places[best]
    return Hits(positions.astype(np.int64), scores[best])


def highest(scores: NDArray[np.float32], n: int, slack: float = 0.0) -> NDArray[np.int64]:
    """Where scores are at most `slack` below the n-th highest; rising. At least `n` places, n <= len(scores).

    A threshold taken from a sample leaves few to choose from; if it leaves too few, all are looked at.
    """
    if n <= 0:
        return np.empty(0, dtype=np.int64)
    sample = scores[::SAMPLE_STRIDE]
    rank = 2 * n // SAMPLE_STRIDE + 4
    if rank < len(sample):
        threshold = _nth(sample, rank)
        found = np.flatnonzero(scores >= threshold)
        if len(found) >= n:
            lowest = _nth(scores[found], n) - np.float32(slack)
            return found[scores[found] >= lowest] if lowest >= threshold else np.flatnonzero(scores >= lowest)
    return np.flatnonzero(scores >= _nth(scores, n) - np.float32(slack))


def _nth(scores: NDArray[np.float32], n: int) -> np.float32:
    nth: np.float32 = np.partition(scores, len(scores) - n)[len(scores) - n]
    return nth
