"""Predictors that need no language model: which documents have the feature, by the label alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from sae_core.errors import EmbeddingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from sae_core.embed import Embedder
    from sae_core.labels import Label
    from sae_core.labels.words import Tokens

TEXTS_PER_BLOCK = 512
BM25_K, BM25_B = 1.2, 0.75  # saturation of a word's count, and how far a document's length matters


class MeaningPredictor:
    """Cosine of a label's embedding with a document's. Each text is embedded once."""

    def __init__(self, embedder: Embedder, x_MD: NDArray[np.float32]) -> None:
        """`x_MD`: unit embeddings of the documents by this embedder; EmbeddingError for another width."""
        if embedder.width != x_MD.shape[1]:
            raise EmbeddingError(
                f"Labels: {embedder.name} gives {embedder.width} numbers per text, but the documents have "
                f"{x_MD.shape[1]}.",
                remedy="Use the embedder that made the embeddings, or none.",
            )
        self._embedder, self._x_MD = embedder, x_MD
        self._vectors: dict[str, NDArray[np.float32]] = {}
        self.name = (
            f"cosine of the label's embedding with the document's ({embedder.name}); partly circular: "
            "the feature is read from the same embeddings"
        )

    def embed(
        self, texts: Iterable[str], progress: Callable[[int, int], None] | None = None
    ) -> list[NDArray[np.float32]]:
        """The unit embedding of each text, (D,)."""
        texts = list(texts)
        self._vectors |= _embed_each(set(texts) - self._vectors.keys(), self._embedder, progress)
        return [self._vectors[text] for text in texts]

    def rows(self, documents: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings of some documents."""
        return np.asarray(self._x_MD[documents], dtype=np.float32)

    def predict(
        self, texts: Sequence[str], documents: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        """Cosines of text i with documents i."""
        vectors = self.embed(texts)
        return [self.rows(some) @ vector for some, vector in zip(documents, vectors, strict=True)]


def embed_labels(labels: Sequence[Label], embedder: Embedder) -> NDArray[np.float16]:
    """The unit embedding of each label's text, (N, D); zeros where there is none."""
    vectors_ND = np.zeros((len(labels), embedder.width), dtype=np.float16)
    vectors = _embed_each({label.text for label in labels if label.text}, embedder)
    for latent, label in enumerate(labels):
        if label.text:
            vectors_ND[latent] = vectors[label.text]
    return vectors_ND


def _embed_each(
    texts: AbstractSet[str], embedder: Embedder, progress: Callable[[int, int], None] | None = None
) -> dict[str, NDArray[np.float32]]:
    """The embedding of each text; those of like length together, which is quicker."""
    ordered = sorted(texts, key=lambda text: (len(text), text))
    vectors: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(ordered), TEXTS_PER_BLOCK):
        block = ordered[start : start + TEXTS_PER_BLOCK]
        vectors.update(zip(block, embedder.embed(block), strict=True))
        if progress is not None:
            progress(min(start + TEXTS_PER_BLOCK, len(ordered)), len(ordered))
    return vectors


class WordPredictor:
    """BM25 of a label's words in a document: needs no embeddings."""

    name = "BM25 of the label's words in the document"

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        n_documents = len(tokens.document_ptr) - 1
        n_words = int(tokens.normal_W.max(initial=-1)) + 1
        normal_T = tokens.normal_W[tokens.word_T]
        counts = sp.csr_matrix(
            (np.ones(len(normal_T), dtype=np.float32), normal_T, tokens.document_ptr),
            shape=(n_documents, n_words),
        )
        counts.sum_duplicates()
        n_with = np.bincount(counts.indices, minlength=n_words)
        self._rarity = np.log(1 + (n_documents - n_with + 0.5) / (n_with + 0.5)).astype(np.float32)
        lengths = np.diff(tokens.document_ptr)
        penalty = BM25_K * (1 - BM25_B + BM25_B * lengths / max(float(lengths.mean()), 1))
        counts.data *= (BM25_K + 1) / (counts.data + np.repeat(penalty, np.diff(counts.indptr)))
        self._saturated = counts

    def predict(
        self, texts: Sequence[str], documents: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        """BM25 of text i in documents i."""
        return [self.compare([text], some)[0] for text, some in zip(texts, documents, strict=True)]

    def compare(self, texts: Sequence[str], documents: NDArray[np.int64]) -> NDArray[np.float32]:
        """BM25 of each of some texts in each of some documents, (texts, documents)."""
        spelled = [self._tokens.normals(text) for text in texts]
        columns = sorted({word for words in spelled for word in words})
        place = {word: at for at, word in enumerate(columns)}
        has_TW = np.zeros((len(texts), len(columns)), dtype=np.float32)
        for at, words in enumerate(spelled):
            has_TW[at, [place[word] for word in words]] = 1
        saturated_MW = self._saturated[documents][:, columns].toarray() * self._rarity[columns]
        return np.asarray(has_TW @ saturated_MW.T, dtype=np.float32)
