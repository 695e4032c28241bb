"""The trainer of arXiv 2408.00657, section 3.1, as the authors' code has it: dense from end to end.

    a = W_enc (x - b_dec) + b_enc    z = ReLU(TopK_k(a))    x^ = W_dec z + b_dec    e = x - x^
    L = NMSE(x^, x) + 0 NMSE(x^_4k, x) + 1/32 NMSE(e^, e)

The k values are scattered into rows of zeros, and the decoder multiplies all n columns. AuxK runs in every
step, whether or not a latent is dead, and the reconstruction from 4k latents is made and differentiated with
coefficient 0. That is one encoder and three decoders forward, and eight products backward: twelve products
of batch x n x d. Written for the comparison; as a script it trains on abstracts and prints its error. Last
line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from benchmarks.peers.contestant import batches
from benchmarks.peers.rows import abstracts

AUX_WEIGHT = 1 / 32
MULTI_WEIGHT = 0.0  # the authors' setting: the branch is computed all the same
CLIP = 1.0
DEAD_AFTER = 266  # steps; one epoch of their larger corpus
MEDIAN_ROWS = 10_000


class Textbook:
    """Weights, Adam and dead-latent counts of a run; `step` is one update on a batch of rows.

    `weights` are `W_enc_ND`, `W_dec_ND`, `b_enc_N`, `b_dec_D`, float32; they are copied. A latent is dead
    when it was in nobody's top k for more than `dead_after` steps. `multi_k=False` leaves out the branch that
    adds nothing to the gradient.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor | NDArray[np.float32]],
        k: int,
        dead_after: int = DEAD_AFTER,
        learning_rate: float = 1e-4,
        *,
        multi_k: bool = True,
    ) -> None:
        given = {name: torch.as_tensor(value).detach().clone() for name, value in weights.items()}
        n, d = given["W_enc_ND"].shape
        self.k, self.k_aux, self.dead_after = k, min(2 * k, n), dead_after
        self.k_multi = min(4 * k, n) if multi_k else None
        self.encoder = nn.Linear(d, n, bias=False)
        self.decoder = nn.Linear(n, d, bias=False)
        self.encoder.weight = nn.Parameter(given["W_enc_ND"])
        self.decoder.weight = nn.Parameter(given["W_dec_ND"].T.contiguous())
        self.b_enc_N, self.b_dec_D = nn.Parameter(given["b_enc_N"]), nn.Parameter(given["b_dec_D"])
        self.parameters = [self.encoder.weight, self.decoder.weight, self.b_enc_N, self.b_dec_D]
        self.optimiser = torch.optim.Adam(self.parameters, lr=learning_rate)
        self.silent_N = torch.zeros(n, dtype=torch.long)

    @classmethod
    def fresh(cls, x_MD: Tensor, n_latents: int, k: int, *, seed: int = 0, **options: Any) -> Textbook:
        """The paper's start: b_dec the median of up to 10,000 rows, unit Xavier directions, W_enc = W_dec."""
        directions_DN = torch.empty(x_MD.shape[1], n_latents)
        nn.init.xavier_uniform_(directions_DN, generator=torch.Generator().manual_seed(seed))
        directions_ND = (directions_DN / directions_DN.norm(dim=0, keepdim=True)).T
        weights = {
            "W_enc_ND": directions_ND,
            "W_dec_ND": directions_ND,
            "b_enc_N": torch.zeros(n_latents),
            "b_dec_D": x_MD[:MEDIAN_ROWS].median(dim=0).values,
        }
        return cls(weights, k, **options)

    def step(self, x_BD: Tensor) -> float:
        """One update; the FVU of the batch before it, which is the loss without its auxiliary term."""
        self.optimiser.zero_grad()
        loss, batch_fvu = self._loss(x_BD)
        loss.backward()  # type: ignore[no-untyped-call]
        self._remove_gradient_along_directions()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimiser.step()
        with torch.no_grad():
            self.decoder.weight.div_(self.decoder.weight.norm(dim=0, keepdim=True))
        return batch_fvu.item()

    @torch.no_grad()
    def reconstruct(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions (B, D), and activations (B, N) with zeros where a latent does not fire."""
        z_BN = self._keep(self._preactivations(x_BD), self.k)[0]
        return self.decoder(z_BN) + self.b_dec_D, z_BN

    def _preactivations(self, x_BD: Tensor) -> Tensor:
        pre_BN: Tensor = self.encoder(x_BD - self.b_dec_D) + self.b_enc_N
        return pre_BN

    @staticmethod
    def _keep(pre_BN: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k largest of each row in a row of zeros, and their indices."""
        values_BK, indices_BK = pre_BN.topk(k, dim=-1)
        return torch.zeros_like(pre_BN).scatter_(-1, indices_BK, torch.relu(values_BK)), indices_BK

    def _loss(self, x_BD: Tensor) -> tuple[Tensor, Tensor]:
        pre_BN = self._preactivations(x_BD)
        z_BN, indices_BK = self._keep(pre_BN, self.k)
        reconstruction_BD = self.decoder(z_BN) + self.b_dec_D
        batch_fvu = normalised_error(reconstruction_BD, x_BD)
        loss = batch_fvu
        if self.k_multi is not None:
            multi_BD = self.decoder(self._keep(pre_BN, self.k_multi)[0]) + self.b_dec_D
            loss = loss + MULTI_WEIGHT * normalised_error(multi_BD, x_BD)
        guess_BD = self.decoder(self._keep(pre_BN * self._count_dead(indices_BK), self.k_aux)[0])
        error_BD = x_BD - reconstruction_BD.detach()
        return loss + AUX_WEIGHT * normalised_error(guess_BD, error_BD), batch_fvu.detach()

    def _count_dead(self, indices_BK: Tensor) -> Tensor:
        """1 for each dead latent, else 0, (N,); one that is picked in this batch is alive again."""
        self.silent_N += 1
        self.silent_N[indices_BK.unique()] = 0  # type: ignore[no-untyped-call]
        return (self.silent_N > self.dead_after).float()

    def _remove_gradient_along_directions(self) -> None:
        weight_DN, grad_DN = self.decoder.weight.detach(), self.decoder.weight.grad
        if grad_DN is not None:
            grad_DN.sub_((weight_DN * grad_DN).sum(dim=0, keepdim=True) * weight_DN)


def normalised_error(guess_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Squared error over that of the mean row of the batch."""
    mean_BD = target_BD.mean(dim=0, keepdim=True).expand_as(target_BD)
    return mse_loss(guess_BD, target_BD) / mse_loss(mean_BD, target_BD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--latents", type=int, default=1024, help="(1024)")
    parser.add_argument("--k", type=int, default=16, help="(16)")
    parser.add_argument("--steps", type=int, default=60, help="of 1024 rows each (60)")
    parser.add_argument("--rows", type=int, default=20_000, help="(20,000)")
    arguments = parser.parse_args()
    rows_MD, source = abstracts(arguments.rows)
    x_MD = torch.from_numpy(rows_MD)
    print(f"{len(x_MD):,} rows of {source}, n {arguments.latents}, k {arguments.k}")
    textbook = Textbook.fresh(x_MD, arguments.latents, arguments.k)
    began, fvu = time.perf_counter(), float("nan")
    for step, x_BD in zip(range(1, arguments.steps + 1), batches(x_MD, 1024, seed=0), strict=False):
        fvu = textbook.step(x_BD)
        if step % 20 == 0 or step == arguments.steps:
            print(f"step {step}: FVU of the batch {fvu:.4f}")
    seconds = (time.perf_counter() - began) / arguments.steps
    print(json.dumps({"benchmark": "textbook", **vars(arguments), "fvu": fvu, "seconds_per_step": seconds}))


if __name__ == "__main__":
    main()
