"""The numbers by which an SAE is judged: one definition each, denominator included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from sae_core.intervals import wilson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from sae_core.sae import SAE

ROWS_PER_BLOCK = 2048
ROWS_OF_COSINES = 512  # a block of cosines with 10,000 others is 20 MB
MAX_TRAIN_ROWS, MAX_HELDOUT_ROWS = 20_000, 2_000  # of the baselines
RARE_DENSITY = 1e-4  # a living latent that fires on a smaller share of the documents is rare
BINS_PER_DECADE = 5  # of the density
COSINE_BIN = 0.05
SAME_FEATURE = 0.7  # cosine above which directions of two SAEs count as one feature
MAX_BASELINE_ROWS = 2_048  # directions for which the nearest random one is looked up


def fvu(x_BD: NDArray[np.float32], reconstruction_BD: NDArray[np.float32]) -> float:
    """Fraction of variance unexplained: sum (x - x^)^2 / sum (x - mean)^2, mean over the rows of x.

    0 is perfect, 1 is what the mean row achieves. Constant rows have no variance: the result is nan.
    """
    error = np.square(x_BD - reconstruction_BD, dtype=np.float64).sum()
    variance = np.square(x_BD - x_BD.mean(axis=0), dtype=np.float64).sum()
    return float(error / variance) if variance > 0 else float("nan")


def evaluate(sae: SAE, x_MD: NDArray[np.float32]) -> dict[str, float]:
    """FVU and L0 (mean number of activations > 0) of an SAE on the rows of `x_MD`."""
    error = variance = fires = 0.0
    mean_D = x_MD.mean(axis=0)
    for block in blocks(len(x_MD)):
        x_BD = np.asarray(x_MD[block], dtype=np.float32)
        latents = sae.encode(x_BD)
        error += float(np.square(x_BD - sae.decode(latents), dtype=np.float64).sum())
        variance += float(np.square(x_BD - mean_D, dtype=np.float64).sum())
        fires += float((latents.values_BK > 0).sum())
    return {"fvu": error / variance if variance > 0 else float("nan"), "l0": fires / len(x_MD)}


def pca_fvu(x_train_MD: NDArray[np.float32], x_MD: NDArray[np.float32], n_components: int) -> float:
    """FVU on `x_MD` of the best linear code of `n_components` numbers per row, fitted on `x_train_MD`.

    The baseline of a k-sparse code at equal numbers stored per document.
    """
    mean_D = x_train_MD.mean(axis=0)
    centred = x_train_MD - mean_D
    _, vectors = np.linalg.eigh(centred.T @ centred)
    basis = vectors[:, ::-1][:, :n_components].astype(np.float32)
    return fvu(x_MD, (x_MD - mean_D) @ basis @ basis.T + mean_D)


def blocks(n: int, size: int = ROWS_PER_BLOCK) -> Iterable[slice]:
    """Slices that cover 0..n in order."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def scorecard(
    sae: SAE,
    x_train_MD: NDArray[np.float32],
    x_heldout_MD: NDArray[np.float32],
    counts_N: NDArray[np.int64],
    n_documents: int,
) -> dict[str, Any]:
    """The numbers of an SAE's scorecard; `counts_N` says on how many of all documents each latent fires.

    Stability and retrieval need more than one SAE on one corpus: see `matched_share` and `ndcg_kept`.
    """
    return {
        "n_latents": sae.n_latents,
        "k": sae.k,
        "most": sae.n_picks,  # active on one document; more than k where a threshold decides
        **errors(sae, x_train_MD, x_heldout_MD),
        **firing(sae, counts_N, n_documents),
        "baselines": baselines(sae, x_train_MD, x_heldout_MD),
    }


def errors(sae: SAE, x_train_MD: NDArray[np.float32], x_heldout_MD: NDArray[np.float32]) -> dict[str, Any]:
    """The part of a scorecard that rests on the documents an SAE was trained on, and those held out."""
    train, heldout = evaluate(sae, x_train_MD), evaluate(sae, x_heldout_MD)
    return {
        "n_train": len(x_train_MD),
        "n_heldout": len(x_heldout_MD),
        "fvu_train": train["fvu"],
        "fvu_heldout": heldout["fvu"],
        "l0": heldout["l0"],
    }


def firing(sae: SAE, counts_N: NDArray[np.int64], n_documents: int) -> dict[str, Any]:
    """The part of a scorecard that rests on which latents fire on how many of all documents."""
    rare_N = (counts_N > 0) & (counts_N < RARE_DENSITY * n_documents)
    return {
        "n_dead": int((counts_N == 0).sum()),
        "n_rare": int(rare_N.sum()),
        "density": density_histogram(counts_N, n_documents),
        "encoder_decoder": encoder_decoder(sae, counts_N),
    }


def density_histogram(counts_N: NDArray[np.int64], n_documents: int) -> dict[str, Any]:
    """How many living latents have which log10 density: counts over equal bins from `low` to `high`.

    The dead have no logarithm: `n_dead` says how many they are. `mean` is that of the living.
    """
    fires_N = counts_N[counts_N > 0]
    logs_N = np.log10(fires_N / max(n_documents, 1))
    low = min(-1, int(np.floor(np.log10(1 / max(n_documents, 1)))))
    counts, _ = np.histogram(logs_N, bins=-low * BINS_PER_DECADE, range=(low, 0))
    return {
        "low": float(low),
        "high": 0.0,
        "counts": counts.tolist(),
        "mean": _mean(logs_N),
        "n_dead": int(len(counts_N) - len(fires_N)),
    }


def encoder_decoder(sae: SAE, counts_N: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """Cosine of each latent's encoder row with its direction: mean, and counts over equal bins.

    It is 1 before training. With `counts_N` only of the latents that fire: a dead one has not moved.
    """
    lengths_N = np.linalg.norm(sae.W_enc_ND, axis=1) * np.linalg.norm(sae.W_dec_ND, axis=1)
    products_N = np.einsum("nd,nd->n", sae.W_enc_ND, sae.W_dec_ND)
    cosines_N = np.clip(products_N / np.maximum(lengths_N, 1e-12), -1, 1)
    if counts_N is not None:
        cosines_N = cosines_N[counts_N > 0]
    low = -1.0 if (cosines_N < 0).any() else 0.0
    counts, _ = np.histogram(cosines_N, bins=round((1 - low) / COSINE_BIN), range=(low, 1))
    return {"low": low, "high": 1.0, "counts": counts.tolist(), "mean": _mean(cosines_N)}


def matched_share(
    a: SAE, b: SAE, counts_N: NDArray[np.int64] | None = None, *, threshold: float = SAME_FEATURE
) -> dict[str, Any]:
    """Stability: the share of a's features that `b`, of the same data and another seed, has too.

    A feature is matched if its nearest direction of `b` has a cosine above `threshold`. With `counts_N` (on
    how many documents each latent of `a` fires) only the living are asked. `low` and `high` are a 95 % Wilson
    interval, `mean_cosine` is the mean over features of the nearest's cosine. The same against as many random
    unit directions as `b` has (for at most 2,048 of the features) is the baseline.
    """
    asked_ND = a.directions_ND if counts_N is None else a.directions_ND[counts_N > 0]
    nearest_N = nearest_cosine(asked_ND, b.directions_ND)
    # A seed of its own: an untrained SAE must not happen to be its own baseline.
    random_ND = np.random.default_rng((2408, 657)).standard_normal(b.directions_ND.shape, dtype=np.float32)
    random_ND /= np.linalg.norm(random_ND, axis=1, keepdims=True)
    by_chance_N = nearest_cosine(asked_ND[:MAX_BASELINE_ROWS], random_ND)
    n_matched = int((nearest_N > threshold).sum())
    share = wilson(n_matched, len(nearest_N))
    return {
        "threshold": threshold,
        "n": len(nearest_N),
        "n_matched": n_matched,
        "share": _mean(nearest_N > threshold),
        "low": share.low,
        "high": share.high,
        "mean_cosine": _mean(nearest_N),
        "random_share": _mean(by_chance_N > threshold),
        "random_mean_cosine": _mean(by_chance_N),
        "random_n": len(by_chance_N),
    }


def nearest_cosine(rows_ND: NDArray[np.float32], others_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest cosine of each unit row with any of the other unit rows, (N,), block by block."""
    parts = [(rows_ND[block] @ others_ND.T).max(axis=1) for block in blocks(len(rows_ND), ROWS_OF_COSINES)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def ndcg(
    queries_QD: NDArray[np.float32],
    documents_MD: NDArray[np.float32],
    relevant: Sequence[Mapping[int, float]],
    k: int = 10,
) -> float:
    """Mean nDCG@k of a ranking by cosine, over the queries that have a relevant document (nan without any).

        DCG = sum over ranks r = 1..k of gain(document at r) / log2(r + 1),    nDCG = DCG / ideal DCG

    `relevant[q]` maps rows of `documents_MD` to gains > 0; a row that is not named has gain 0. Gains are
    linear, as in trec_eval. The ideal ranks all relevant documents by gain. Of equal cosines the lower row
    comes first.
    """
    documents_MD = _unit(documents_MD)
    values = []
    for x_D, gains in zip(_unit(queries_QD), relevant, strict=True):
        first_K = np.argsort(-(documents_MD @ x_D), kind="stable")[:k]
        value = ndcg_of(first_K, gains, k)
        if value is not None:
            values.append(value)
    return float(np.mean(values)) if values else float("nan")


def ndcg_of(first_K: NDArray[np.int64], gains: Mapping[int, float], k: int = 10) -> float | None:
    """nDCG@k of one ranking, best document first; None where no document is relevant."""
    discounts_K = 1 / np.log2(np.arange(2, k + 2))
    best_K = np.array(sorted((g for g in gains.values() if g > 0), reverse=True)[:k])
    if not len(best_K):
        return None
    gains_K = np.array([max(gains.get(row, 0.0), 0.0) for row in first_K[:k].tolist()])
    return float((gains_K @ discounts_K[: len(gains_K)]) / (best_K @ discounts_K[: len(best_K)]))


def ndcg_kept(
    sae: SAE,
    queries_QD: NDArray[np.float32],
    documents_MD: NDArray[np.float32],
    relevant: Sequence[Mapping[int, float]],
    k: int = 10,
) -> dict[str, float | None]:
    """How much of retrieval survives: nDCG@k with queries and documents both reconstructed, over nDCG@k.

    `kept` is the quotient (above 1 where the reconstruction retrieves better), None where nothing was found.
    """
    n_queries = sum(any(gain > 0 for gain in gains.values()) for gains in relevant)
    if n_queries == 0:
        return {"k": k, "n_queries": 0, "ndcg": None, "ndcg_reconstructed": None, "kept": None}
    before = ndcg(queries_QD, documents_MD, relevant, k)
    after = ndcg(reconstruct(sae, queries_QD), reconstruct(sae, documents_MD), relevant, k)
    kept = after / before if before > 0 else None
    return {"k": k, "n_queries": n_queries, "ndcg": before, "ndcg_reconstructed": after, "kept": kept}


def reconstruct(sae: SAE, x_MD: NDArray[np.float32]) -> NDArray[np.float32]:
    """x^ of every row, (M, D), block by block."""
    out_MD = np.empty(x_MD.shape, dtype=np.float32)
    for block in blocks(len(x_MD)):
        out_MD[block] = sae.decode(sae.encode(np.asarray(x_MD[block], dtype=np.float32)))
    return out_MD


def baselines(
    sae: SAE, x_train_MD: NDArray[np.float32], x_heldout_MD: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """Held-out FVU of what an SAE must beat, on at most 2,000 held-out and 20,000 training rows."""
    x_train_MD, x_heldout_MD = x_train_MD[:MAX_TRAIN_ROWS], x_heldout_MD[:MAX_HELDOUT_ROWS]
    rng = np.random.default_rng(0)
    random_ND = rng.standard_normal((sae.n_latents, x_train_MD.shape[1])).astype(np.float32)
    random_ND /= np.linalg.norm(random_ND, axis=1, keepdims=True)
    mean_D = x_train_MD.mean(axis=0)
    found = {
        f"PCA, {sae.k} components": (
            pca_fvu(x_train_MD, x_heldout_MD, sae.k),
            "the best linear code of as many numbers per document; dense, so it has no features to read",
        ),
        f"k-means, {sae.n_latents} centroids": (
            fvu(x_heldout_MD, kmeans_reconstruction(x_train_MD, x_heldout_MD, sae.n_latents)),
            "every document is its nearest centroid: one feature per document",
        ),
        f"random directions, {sae.n_latents}": (
            fvu(x_heldout_MD, pursue(x_heldout_MD - mean_D, random_ND, sae.k) + mean_D),
            f"the {sae.k} nearest of as many untrained directions, with least-squares weights",
        ),
    }
    return [{"name": name, "fvu_heldout": value, "remark": remark} for name, (value, remark) in found.items()]


def kmeans_reconstruction(
    x_train_MD: NDArray[np.float32], x_MD: NDArray[np.float32], n_centroids: int, iterations: int = 8
) -> NDArray[np.float32]:
    """The nearest centroid of each row of `x_MD`, after Lloyd's algorithm on the training rows."""
    centroids_ND = kmeans(x_train_MD, n_centroids, iterations)
    return centroids_ND[_nearest(x_MD, centroids_ND)]


def kmeans(x_train_MD: NDArray[np.float32], n_centroids: int, iterations: int = 8) -> NDArray[np.float32]:
    """Centroids after Lloyd's algorithm from rows drawn at random; no more of them than there are rows."""
    start = np.random.default_rng(0).permutation(len(x_train_MD))[:n_centroids]
    centroids_ND = x_train_MD[np.sort(start)].copy()
    for _ in range(iterations):
        nearest_M = _nearest(x_train_MD, centroids_ND)
        shape = (len(centroids_ND), len(x_train_MD))
        ones = np.ones(len(x_train_MD), dtype=np.float32)
        members = sp.csr_matrix((ones, (nearest_M, np.arange(len(x_train_MD)))), shape=shape)
        sizes_N = np.asarray(members.sum(axis=1)).ravel()
        filled_N = sizes_N > 0
        centroids_ND[filled_N] = (members @ x_train_MD)[filled_N] / sizes_N[filled_N, None]
    return centroids_ND


def pursue(x_MD: NDArray[np.float32], directions_ND: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """Each row as the least-squares combination of its k directions with the largest product."""
    out = np.empty_like(x_MD)
    for row, x_D in enumerate(x_MD):
        picked = np.argpartition(-(directions_ND @ x_D), k - 1)[:k]
        weights, *_ = np.linalg.lstsq(directions_ND[picked].T, x_D, rcond=None)
        out[row] = weights @ directions_ND[picked]
    return out


def _nearest(x_MD: NDArray[np.float32], centroids_ND: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the centroid at the smallest distance, (M,)."""
    half_N = np.square(centroids_ND).sum(axis=1) / 2
    parts = [np.argmax(x_MD[block] @ centroids_ND.T - half_N, axis=1) for block in blocks(len(x_MD))]
    return np.concatenate(parts)


def _unit(x_MD: NDArray[np.float32]) -> NDArray[np.float32]:
    x_MD = np.asarray(x_MD, dtype=np.float32)
    unit_MD: NDArray[np.float32] = x_MD / np.maximum(np.linalg.norm(x_MD, axis=1, keepdims=True), 1e-12)
    return unit_MD


def _mean(values_N: NDArray[Any]) -> float | None:
    """The mean of what is stored as JSON: None where there is nothing, as JSON has no nan."""
    return float(values_N.mean()) if len(values_N) else None
