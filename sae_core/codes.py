"""The sparse activations of a whole collection, by document and by latent.

Only values > 0 are kept: a latent that was picked by top-k with a value of zero does not fire.
Both orders hold the same numbers; within a document and within a latent the strongest come first,
so that top documents, quantile bands and histograms are slices.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sae_core.sae import SAE

ROWS_PER_BLOCK = 2048


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


def make_codes(
    rows: NDArray[np.int64],
    latents: NDArray[np.int64],
    values: NDArray[np.float32],
    *,
    n_documents: int,
    n_latents: int,
) -> Codes:
    """Codes from triplets (document, latent, value); values that are not > 0 are dropped."""
    fires = values > 0
    rows, latents, values = rows[fires], latents[fires], values[fires].astype(np.float32)
    by_document = np.lexsort((latents, -values, rows))
    by_latent = np.lexsort((rows, -values, latents))
    return Codes(
        n_documents=n_documents,
        n_latents=n_latents,
        document_ptr=_pointers(rows, n_documents),
        latents=latents[by_document].astype(np.uint32),
        values=values[by_document],
        latent_ptr=_pointers(latents, n_latents),
        documents=rows[by_latent].astype(np.uint32),
        latent_values=values[by_latent],
    )


def encode_codes(
    sae: SAE,
    x_MD: NDArray[np.float32],
    progress: Callable[[int, int], None] | None = None,
) -> Codes:
    """Encode every document, a block of rows at a time."""
    n_documents = len(x_MD)
    indices_MK = np.empty((n_documents, sae.k), dtype=np.int64)
    values_MK = np.empty((n_documents, sae.k), dtype=np.float32)
    for start in range(0, n_documents, ROWS_PER_BLOCK):
        block = slice(start, min(start + ROWS_PER_BLOCK, n_documents))
        latents = sae.encode(x_MD[block])
        indices_MK[block], values_MK[block] = latents.indices_BK, latents.values_BK
        if progress is not None:
            progress(block.stop, n_documents)
    rows = np.repeat(np.arange(n_documents), sae.k)
    return make_codes(
        rows, indices_MK.ravel(), values_MK.ravel(), n_documents=n_documents, n_latents=sae.n_latents
    )


def _pointers(sorted_or_not: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    counts = np.bincount(sorted_or_not, minlength=n)
    return np.concatenate(([0], np.cumsum(counts)))
