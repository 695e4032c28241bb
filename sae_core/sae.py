"""The sparse autoencoder that is served: encode, decode, save, load.

    a = W_enc (x - b_dec) + b_enc        pre-activations
    z = ReLU(TopK_k(a))                  latents: at most k are active
    x^ = W_dec z + b_dec                 reconstruction

Rows of `W_dec_ND` are the unit decoder directions. Source: arXiv 2408.00657, section 3.1.
Shapes: B batch, D embedding width, N latents, K active per row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from sae_core.errors import ArtifactError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = "saefari-sae-1"
TENSORS = ("W_enc_ND", "W_dec_ND", "b_enc_N", "b_dec_D")


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
    """A trained sparse autoencoder with TopK activation, in float32 on the CPU."""

    def __init__(
        self,
        *,
        W_enc_ND: torch.Tensor,
        W_dec_ND: torch.Tensor,
        b_enc_N: torch.Tensor,
        b_dec_D: torch.Tensor,
        k: int,
    ) -> None:
        self.W_enc_ND = W_enc_ND.detach().float().cpu().contiguous()
        self.W_dec_ND = W_dec_ND.detach().float().cpu().contiguous()
        self.b_enc_N = b_enc_N.detach().float().cpu().contiguous()
        self.b_dec_D = b_dec_D.detach().float().cpu().contiguous()
        self.k = k
        self.n_latents, self.width = self.W_dec_ND.shape
        self._bias_N = self.b_enc_N - self.W_enc_ND @ self.b_dec_D

    @property
    def directions_ND(self) -> NDArray[np.float32]:
        """Unit decoder rows, (N, D)."""
        return self.W_dec_ND.numpy()

    def preactivations(self, x_BD: NDArray[np.float32]) -> NDArray[np.float32]:
        """a = W_enc (x - b_dec) + b_enc, (B, N)."""
        x = torch.from_numpy(np.ascontiguousarray(x_BD, dtype=np.float32))
        return torch.addmm(self._bias_N, x, self.W_enc_ND.T).numpy()

    def encode(self, x_BD: NDArray[np.float32]) -> Latents:
        """z = ReLU(TopK_k(a)), sparse: (B, K) indices and values."""
        top = torch.from_numpy(self.preactivations(x_BD)).topk(self.k, dim=1)
        return Latents(top.indices.numpy(), top.values.clamp_min(0).numpy())

    def decode(self, latents: Latents) -> NDArray[np.float32]:
        """x^ = W_dec z + b_dec, (B, D)."""
        bags = torch.nn.functional.embedding_bag(
            torch.from_numpy(latents.indices_BK),
            self.W_dec_ND,
            per_sample_weights=torch.from_numpy(latents.values_BK),
            mode="sum",
        )
        return (bags + self.b_dec_D).numpy()

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights by their names in the file."""
        return {name: getattr(self, name) for name in TENSORS}

    def fingerprint(self) -> str:
        """Sha256 of weights and k: two SAEs with the same fingerprint have the same features."""
        digest = hashlib.sha256(str(self.k).encode())
        for name in TENSORS:
            digest.update(getattr(self, name).numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write a safetensors file. Inverse of `load`."""
        path.write_bytes(to_bytes(self.tensors(), metadata={"format": FORMAT, "k": str(self.k)}))

    @classmethod
    def load(cls, path: Path) -> SAE:
        """Read what `save` wrote; `ArtifactError` if the file is damaged or of another format."""
        remedy = "Rebuild it with `saefari build`, or restore the file from a backup."
        try:
            with safe_open(path, framework="pt") as file:
                metadata: dict[str, Any] = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    found = metadata.get("format", "none")
                    what = f"{path} has the format '{found}', this version reads '{FORMAT}'."
                    raise ArtifactError(what, remedy=remedy)
                weights = {name: file.get_tensor(name) for name in TENSORS}
        except (OSError, SafetensorError) as error:
            what = f"{path} cannot be read as an SAE: {error}."
            raise ArtifactError(what, remedy=remedy) from error
        return cls(**weights, k=int(metadata["k"]))
