"""The sparse activations of a whole collection, by document and by latent.

Only values > 0 are kept: a latent that was picked by top-k with a value of zero does not fire.
Both orders hold the same numbers; within a document and within a latent the strongest come first,
so that top documents, quantile bands and histograms are slices.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_info, threadpool_limits

from sae_core.topk import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from sae_core.sae import SAE

Number = TypeVar("Number", bound=np.generic)

# A block is encoded alone and its rounding may depend on its size, so whoever encodes a part of a collection
# begins and ends at a multiple of this. Smaller blocks are slower: weights are arranged anew for each.
ROWS_PER_BLOCK = 512
MOST_WORKERS = 64
SORTED_AT_ONCE = 2**20  # activations


class Rows(Protocol):
    """Rows of width D: an array, or something that reads them when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Codes:
    """Activations of M documents on N latents, twice: compressed by row and by column."""

    n_documents: int
    n_latents: int
    document_ptr: NDArray[np.int64]  # (M + 1,)
    latents: NDArray[np.uint32]  # by document
    values: NDArray[np.float32]
    latent_ptr: NDArray[np.int64]  # (N + 1,)
    documents: NDArray[np.uint32]  # by latent
    latent_values: NDArray[np.float32]

    def of_document(self, position: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Latents that fire on a document and their activations, strongest first."""
        span = slice(self.document_ptr[position], self.document_ptr[position + 1])
        return self.latents[span], self.values[span]

    def of_latent(self, latent: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
        """Documents on which a latent fires and the activations, strongest first."""
        span = slice(self.latent_ptr[latent], self.latent_ptr[latent + 1])
        return self.documents[span], self.latent_values[span]

    def counts(self) -> NDArray[np.int64]:
        """On how many documents each latent fires, (N,)."""
        return np.diff(self.latent_ptr)

    def by_document(self) -> DocumentCodes:
        """One of the two orders alone."""
        return DocumentCodes(self.document_ptr, self.latents, self.values)

    def matrix(self) -> sp.csr_matrix:
        """The same as a sparse matrix (M, N); column indices are not sorted within a row."""
        shape = (self.n_documents, self.n_latents)
        return sp.csr_matrix((self.values, self.latents.astype(np.int64), self.document_ptr), shape=shape)

    def fires(self) -> sp.csr_matrix:
        """Ones where `matrix` has activations: (M, N) int32, which documents have which features."""
        shape = (self.n_documents, self.n_latents)
        ones = np.ones(len(self.latents), dtype=np.int32)
        return sp.csr_matrix((ones, self.latents.astype(np.int32), self.document_ptr), shape=shape)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays by field name, as they are stored."""
        names = [field.name for field in fields(self) if not field.name.startswith("n_")]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class DocumentCodes:
    """Activations of M documents in the order of the documents alone: what a shard holds."""

    document_ptr: NDArray[np.int64]  # (M + 1,)
    latents: NDArray[np.uint32]  # of each document the strongest first, equal ones by number
    values: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64], n_latents: int) -> DocumentCodes:
        """The codes of some documents, in the order asked for."""
        taken = self._matrix(n_latents)[rows]
        return DocumentCodes(taken.indptr.astype(np.int64), taken.indices.astype(np.uint32), taken.data)

    def _matrix(self, n_latents: int) -> sp.csr_matrix:
        signed = self.latents.view(np.int32)  # the same bytes; SciPy would copy unsigned numbers
        shape = (len(self.document_ptr) - 1, n_latents)
        return sp.csr_matrix((self.values, signed, self.document_ptr), shape=shape)

    def in_both_orders(self, n_latents: int) -> Codes:
        """The same by latent too."""
        n_documents = len(self.document_ptr) - 1
        by_latent = self._matrix(n_latents).tocsc()  # a counting sort
        latent_ptr = by_latent.indptr.astype(np.int64)
        documents, values = by_latent.indices.astype(np.uint32), by_latent.data
        _sort_groups(latent_ptr, documents, values)
        return Codes(
            n_documents=n_documents,
            n_latents=n_latents,
            document_ptr=self.document_ptr,
            latents=self.latents,
            values=self.values,
            latent_ptr=latent_ptr,
            documents=documents,
            latent_values=values,
        )


def make_codes(
    rows: NDArray[np.int64],
    latents: NDArray[np.int64],
    values: NDArray[np.float32],
    *,
    n_documents: int,
    n_latents: int,
) -> Codes:
    """Codes from triplets (document, latent, value); values that are not > 0 are dropped."""
    fires = np.flatnonzero(values > 0)
    order = fires[np.argsort(rows[fires], kind="stable")]
    sorted_latents, sorted_values = latents[order].astype(np.uint32), values[order].astype(np.float32)
    document_ptr = pointers(np.bincount(rows[fires], minlength=n_documents))
    _sort_groups(document_ptr, sorted_latents, sorted_values)
    return DocumentCodes(document_ptr, sorted_latents, sorted_values).in_both_orders(n_latents)


def encode_codes(sae: SAE, x_MD: Rows, progress: Callable[[int, int], None] | None = None) -> Codes:
    """Encode every document, in both orders."""
    return encode_documents(sae, x_MD, progress).in_both_orders(sae.n_latents)


def encode_documents(
    sae: SAE, x_MD: Rows, progress: Callable[[int, int], None] | None = None
) -> DocumentCodes:
    """Encode every document, a block of rows at a time, as many blocks at once as BLAS has threads.

    Every block is multiplied by one thread. So the activations do not depend on the number of threads, no
    thread waits for another within a product, and choosing the strongest runs in parallel too.
    """
    n_documents = len(x_MD)
    counts_M = np.zeros(n_documents, dtype=np.int64)
    latents, values, done = [], [], 0
    with closing(_encoded_blocks(sae, x_MD)) as blocks:
        for counts_B, block_latents, block_values in blocks:
            counts_M[done : done + len(counts_B)] = counts_B
            latents.append(block_latents)
            values.append(block_values)
            done += len(counts_B)
            if progress is not None:
                progress(done, n_documents)
    return DocumentCodes(pointers(counts_M), _joined(latents, np.uint32), _joined(values, np.float32))


def encode_rows(
    sae: SAE,
    x_MD: NDArray[np.float32],
    rows: NDArray[np.int64],
    progress: Callable[[int, int], None] | None = None,
) -> DocumentCodes:
    """Encode some documents (numbers rising) just as `encode_documents` does among all: in whole blocks."""
    starts = np.unique(rows // ROWS_PER_BLOCK) * ROWS_PER_BLOCK
    whole = (starts[:, None] + np.arange(ROWS_PER_BLOCK)).ravel()
    whole = whole[whole < len(x_MD)]
    codes = encode_documents(sae, x_MD[whole], progress)
    return codes.take(np.searchsorted(whole, rows), sae.n_latents)


def join_documents(parts: Sequence[DocumentCodes]) -> DocumentCodes:
    """The codes of several parts of a collection, one after the other."""
    counts = np.concatenate([np.diff(part.document_ptr) for part in parts])
    latents, values = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("latents", "values")
    )
    return DocumentCodes(pointers(counts), latents, values)


def pointers(counts: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where each group begins, and where the last one ends: one more than there are counts."""
    return np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))


class _Block(NamedTuple):
    counts_B: NDArray[np.int64]
    latents: NDArray[np.uint32]
    values: NDArray[np.float32]


def _encoded_blocks(sae: SAE, x_MD: Rows) -> Generator[_Block]:
    def encode(start: int) -> _Block:
        picks = sae.encode(x_MD[start : start + ROWS_PER_BLOCK])
        fires_BK = picks.values_BK > 0
        latents = picks.indices_BK[fires_BK].astype(np.uint32)
        return _Block(fires_BK.sum(axis=1), latents, picks.values_BK[fires_BK])

    blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    n_workers = min(MOST_WORKERS, max(blas, default=1))
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(n_workers) as pool:
        yield from pool.map(encode, range(0, len(x_MD), ROWS_PER_BLOCK))


def _joined(parts: list[NDArray[Number]], dtype: type[Number]) -> NDArray[Number]:
    """One array of the parts; empties the list, so that there are not two copies for longer than needed."""
    whole = np.concatenate(parts) if parts else np.empty(0, dtype=dtype)
    parts.clear()
    return whole


def _sort_groups(ptr: NDArray[np.int64], numbers: NDArray[np.uint32], values: NDArray[np.float32]) -> None:
    """Sort each group in place: values falling, equal ones by number. A part of the groups at a time."""
    first = 0
    while first < len(ptr) - 1:
        fitting = int(np.searchsorted(ptr, ptr[first] + SORTED_AT_ONCE, side="right")) - 1
        last = max(first + 1, fitting)
        start, stop = int(ptr[first]), int(ptr[last])
        keys = pack(values[start:stop], numbers[start:stop])
        for begin, end in pairwise((ptr[first : last + 1] - start).tolist()):
            keys[begin:end].sort()
        values[start:stop], numbers[start:stop] = unpack(keys)
        first = last
