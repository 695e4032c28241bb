"""The sparse autoencoder that is served: encode, decode, save, load.

    a = W_enc (x - b_dec) + b_enc        pre-activations
    z = ReLU(TopK_k(a))                  latents: at most k are active
    x^ = W_dec z + b_dec                 reconstruction

Rows of `W_dec_ND` are the unit decoder directions. Source: arXiv 2408.00657, section 3.1.
Trained as BatchTopK (arXiv 2412.06410) an SAE has a threshold: z = a where a > threshold, for at most
`MOST_PICKS` k latents of a row. One that was trained elsewhere may have a threshold for each latent
(JumpReLU, arXiv 2407.14435): at most as many, those that exceed theirs by most. Trained as Matryoshka
(arXiv 2503.17547) its first latents are an SAE by themselves: see `SAE.prefix`.
Shapes: B batch, D embedding width, N latents, K active per row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from sae_core.errors import ArtifactError
from sae_core.topk import top_k_of_product

FORMAT = "saefari-sae-1"
Array = NDArray[np.float32]

MOST_PICKS = 4  # times k: what a row may have where a threshold decides
TENSORS = ("W_enc_ND", "W_dec_ND", "b_enc_N", "b_dec_D")
THRESHOLDS = "thresholds_N"  # one more tensor, where each latent has a threshold of its own


@dataclass(frozen=True)
class Latents:
    """The sparse code of B rows: which latents were picked, and how active they are."""

    indices_BK: NDArray[np.int64]
    values_BK: NDArray[np.float32]  # 0 where the pick is not positive: such a latent does not fire

    def row(self, b: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The active latents of one row and their activations, strongest first; ties by index."""
        fires = self.values_BK[b] > 0
        indices, values = self.indices_BK[b][fires], self.values_BK[b][fires]
        order = np.lexsort((indices, -values))
        return indices[order], values[order]


class SAE:
    """A trained sparse autoencoder, in float32; serving it needs no torch."""

    def __init__(
        self,
        *,
        W_enc_ND: Array,
        W_dec_ND: Array,
        b_enc_N: Array,
        b_dec_D: Array,
        k: int,
        threshold: float | None = None,
        thresholds_N: Array | None = None,
        prefixes: tuple[int, ...] = (),
    ) -> None:
        self.W_enc_ND = np.ascontiguousarray(W_enc_ND, dtype=np.float32)
        self.W_dec_ND = np.ascontiguousarray(W_dec_ND, dtype=np.float32)
        self.b_enc_N = np.ascontiguousarray(b_enc_N, dtype=np.float32)
        self.b_dec_D = np.ascontiguousarray(b_dec_D, dtype=np.float32)
        self.k, self.threshold, self.prefixes = k, threshold, prefixes
        self.n_latents, self.width = map(int, self.W_dec_ND.shape)
        self._bias_N = self.b_enc_N - self.W_enc_ND @ self.b_dec_D
        self.thresholds_N = None if thresholds_N is None else np.asarray(thresholds_N, dtype=np.float32)
        self._picked_by_N = self._bias_N if self.thresholds_N is None else self._bias_N - self.thresholds_N

    @property
    def directions_ND(self) -> Array:
        """Unit decoder rows, (N, D)."""
        return self.W_dec_ND

    def preactivations(self, x_BD: Array) -> Array:
        """a = W_enc (x - b_dec) + b_enc, (B, N)."""
        a_BN: Array = np.asarray(x_BD, dtype=np.float32) @ self.W_enc_ND.T
        a_BN += self._bias_N
        return a_BN

    @property
    def variant(self) -> str:
        """How it was trained: topk, batchtopk, jumprelu or matryoshka."""
        if self.thresholds_N is not None:
            return "jumprelu"
        return "batchtopk" if self.threshold is not None else "matryoshka" if self.prefixes else "topk"

    @property
    def n_picks(self) -> int:
        """Columns of an encoded row: the largest number of latents that can be active."""
        has_threshold = self.threshold is not None or self.thresholds_N is not None
        return min(self.n_latents, MOST_PICKS * self.k if has_threshold else self.k)

    def prefix(self, n_latents: int, k: int | None = None) -> SAE:
        """The SAE of the first `n_latents` latents, or the same at another k; meant for a Matryoshka."""
        k = self.k if k is None else k
        if not 0 < k <= n_latents <= self.n_latents:
            what = f"k={k} of the first {n_latents} latents, but there are {self.n_latents}."
            raise ArtifactError(what, remedy="Choose k <= prefix <= latents.")
        return SAE(
            W_enc_ND=self.W_enc_ND[:n_latents],
            W_dec_ND=self.W_dec_ND[:n_latents],
            b_enc_N=self.b_enc_N[:n_latents],
            b_dec_D=self.b_dec_D,
            k=k,
            threshold=self.threshold,
            thresholds_N=None if self.thresholds_N is None else self.thresholds_N[:n_latents],
            prefixes=tuple(prefix for prefix in self.prefixes if prefix <= n_latents),
        )

    def levels_N(self) -> NDArray[np.int64] | None:
        """Of a Matryoshka, the group of each latent, (N,): 0 in the first prefix, 1 in the next."""
        if not self.prefixes:
            return None
        return np.searchsorted(self.prefixes, np.arange(self.n_latents), side="right")

    def encode(self, x_BD: Array) -> Latents:
        """z of each row, sparse: (B, n_picks) indices and values, strongest first, ties by index."""
        x_BD = np.asarray(x_BD, dtype=np.float32)
        indices_BK, values_BK = top_k_of_product(x_BD, self.W_enc_ND, self._picked_by_N, self.n_picks)
        if self.thresholds_N is not None:  # the values are how far the thresholds are exceeded
            values_BK += np.where(values_BK > 0, self.thresholds_N[indices_BK], 0)
            order_BK = np.lexsort((indices_BK, -values_BK), axis=1)
            indices_BK = np.take_along_axis(indices_BK, order_BK, axis=1)
            values_BK = np.take_along_axis(values_BK, order_BK, axis=1)
        if self.threshold is not None:
            values_BK[values_BK <= self.threshold] = 0
        return Latents(indices_BK, np.maximum(values_BK, 0))

    def decode(self, latents: Latents) -> Array:
        """x^ = W_dec z + b_dec, (B, D)."""
        rows, width = latents.indices_BK.shape
        starts = np.arange(0, rows * width + 1, width)
        entries = (latents.values_BK.ravel(), latents.indices_BK.ravel(), starts)
        z_BN = sp.csr_matrix(entries, shape=(rows, self.n_latents))
        return np.asarray(z_BN @ self.W_dec_ND + self.b_dec_D, dtype=np.float32)

    def tensors(self) -> dict[str, Array]:
        """The weights by their names in the file."""
        weights = {name: getattr(self, name) for name in TENSORS}
        return weights if self.thresholds_N is None else {**weights, THRESHOLDS: self.thresholds_N}

    def fingerprint(self) -> str:
        """Sha256 of all that decides the features: two SAEs with the same fingerprint have the same."""
        digest = hashlib.sha256(str(self.k).encode())
        if self.variant != "topk":
            digest.update(repr((self.threshold, self.prefixes)).encode())
        for values in self.tensors().values():
            digest.update(values.tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write a safetensors file. Inverse of `load`."""
        path.write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file that `save` writes: the same for the same SAE."""
        metadata = {"format": FORMAT, "k": str(self.k)}
        if self.threshold is not None:
            metadata["threshold"] = repr(self.threshold)
        if self.prefixes:
            metadata["prefixes"] = ",".join(map(str, self.prefixes))
        return _in_one_order(to_bytes(self.tensors(), metadata=metadata))

    @classmethod
    def load(cls, path: Path, *, is_mapped: bool = False) -> SAE:
        """Read what `save` wrote; `ArtifactError` if the file is damaged or of another format.

        `is_mapped` leaves the weights in the file, which must never change, so that processes share them.
        """
        remedy = "Rebuild it with `saefari build`, or restore the file from a backup."
        try:
            with safe_open(path, framework="np") as file:
                metadata: dict[str, Any] = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    found = metadata.get("format", "none")
                    what = f"{path} has the format '{found}', this version reads '{FORMAT}'."
                    raise ArtifactError(what, remedy=remedy)
                names = (*TENSORS, THRESHOLDS) if THRESHOLDS in file.keys() else TENSORS  # noqa: SIM118
                weights = _mapped(path, names) if is_mapped else {n: file.get_tensor(n) for n in names}
            _check_shapes(weights)
            return cls(
                **weights,
                k=int(metadata["k"]),
                threshold=float(metadata["threshold"]) if "threshold" in metadata else None,
                prefixes=tuple(map(int, metadata["prefixes"].split(","))) if "prefixes" in metadata else (),
            )
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            what = f"{path} cannot be read as an SAE: {error}."
            raise ArtifactError(what, remedy=remedy) from error


def _in_one_order(content: bytes) -> bytes:
    """A safetensors file whose header has its metadata by name: the package writes them in any order."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + text.ljust(end - 8) + content[end:]


def _mapped(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Tensors of a safetensors file that was opened before; its header has their places."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    if any(header[name]["dtype"] != "F32" for name in names):
        raise ValueError("its weights are not float32")
    return {
        name: np.asarray(
            np.memmap(
                path,
                dtype=np.dtype(np.float32).newbyteorder("<"),
                mode="c",  # as writable as what is read, and as private; torch asks for that
                offset=8 + size + header[name]["data_offsets"][0],
                shape=tuple(header[name]["shape"]),
            )
        )
        for name in names
    }


def _check_shapes(weights: dict[str, Array]) -> None:
    """Raise `ValueError` unless all are as the names of the tensors say."""
    sizes = dict(zip("ND", weights["W_dec_ND"].shape, strict=True))
    for name, values in weights.items():
        expected = tuple(sizes[letter] for letter in name.rpartition("_")[2])
        if values.shape != expected:
            raise ValueError(f"{name} has the shape {values.shape} instead of {expected}")
