"""Run by the interpreter of a peer's environment: the package itself writes checkpoints, and reads ours.

`checkpoints.py PACKAGE FOLDER`: `FOLDER/x.npy` are rows, `FOLDER/exported-*` SAEs of ours in the package's
layout. For each case there is afterwards a checkpoint, and an `.npz` beside it with what the package makes of
the rows: activations, times the length of what each adds to a reconstruction, and reconstructions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

D, N, K = 24, 96, 6

Functions = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]  # encode, decode
Made = tuple[str, *Functions]


def saved(folder: Path, x_BD: Tensor, made: Made) -> None:
    """Write what the package makes of the rows."""
    name, encode, decode = made
    with torch.no_grad():
        z_BN = encode(x_BD)
        n = z_BN.shape[1]
        lengths_N = (decode(torch.eye(n)) - decode(torch.zeros(n, n))).norm(dim=1)
        lengths_N[(lengths_N - 1).abs() < 2**-8] = 1  # rounded to 16 bits
        np.savez(folder / f"{name}.npz", z_BN=z_BN * lengths_N, x_hat_BD=decode(z_BN))


def perturbed(module: torch.nn.Module) -> None:
    """Biases that are not zero, as after training."""
    with torch.no_grad():
        for name, values in module.named_parameters():
            if values.ndim == 1 and name != "threshold":
                values.copy_(0.1 * torch.randn(values.shape))


def sparsify(folder: Path, _: Tensor) -> Iterator[Made]:
    from sparsify import SparseCoder, SparseCoderConfig

    def functions(coder: SparseCoder) -> Functions:
        def encode(x_BD: Tensor) -> Tensor:
            out = coder(x_BD)
            z_BN = torch.zeros(len(x_BD), coder.num_latents)
            return z_BN.scatter_(1, out.latent_indices, out.latent_acts)

        def decode(z_BN: Tensor) -> Tensor:
            indices = torch.arange(z_BN.shape[1]).expand(len(z_BN), -1)
            rebuilt: Tensor = coder.decode(z_BN, indices)
            return rebuilt

        return encode, decode

    configs = {
        "plain": SparseCoderConfig(num_latents=N, k=K),
        "expansion": SparseCoderConfig(expansion_factor=3, k=K),
        "bfloat16": SparseCoderConfig(num_latents=N, k=K),
    }
    for name, config in configs.items():
        coder = SparseCoder(D, config)
        perturbed(coder)
        if name == "bfloat16":
            coder.to(torch.bfloat16)
        coder.save_to_disk(folder / name)
        yield name, *functions(coder.float())
    for exported in sorted(folder.glob("exported-*/")):
        yield exported.name, *functions(SparseCoder.load_from_disk(exported))


def hypothesaes(folder: Path, x_BD: Tensor) -> Iterator[Made]:
    from hypothesaes.sae import SparseAutoencoder, load_model

    cases: dict[str, dict[str, Any]] = {
        "plain": {},
        "matryoshka": {"prefix_lengths": [24, N]},
        "batch": {"use_batch_topk": True},
        "both": {"use_batch_topk": True, "prefix_lengths": [24, N]},
    }
    for name, options in cases.items():
        sae = SparseAutoencoder(D, N, K, device="cpu", **options)
        sae.fit(x_BD, batch_size=32, n_epochs=3, show_progress=False)
        sae.save(str(folder / f"{name}.pt"))
        loaded = load_model(str(folder / f"{name}.pt"), device="cpu").eval()
        yield name, *_halves(loaded)


def _halves(sae: Any) -> Functions:
    def encode(x_BD: Tensor) -> Tensor:
        z_BN: Tensor = sae(x_BD)[1]["activations"]
        return z_BN

    def decode(z_BN: Tensor) -> Tensor:
        rebuilt_BD: Tensor = sae.decoder(z_BN) + sae.input_bias
        return rebuilt_BD

    return encode, decode


def sae_lens(folder: Path, x_BD: Tensor) -> Iterator[Made]:
    from sae_lens import SAE

    yield from _of_inference(folder)
    yield from _of_training(folder, x_BD)
    for exported in sorted(folder.glob("exported-*/")):
        sae = SAE.load_from_disk(exported)
        yield exported.name, sae.encode, sae.decode


def _of_inference(folder: Path) -> Iterator[Made]:
    from sae_lens import (
        JumpReLUSAE,
        JumpReLUSAEConfig,
        StandardSAE,
        StandardSAEConfig,
        TopKSAE,
        TopKSAEConfig,
    )

    cases = {
        "topk-rescaled": TopKSAE(TopKSAEConfig(D, N, k=K, rescale_acts_by_decoder_norm=True)),
        "topk-uneven": TopKSAE(TopKSAEConfig(D, N, k=K)),
        "standard": StandardSAE(StandardSAEConfig(D, N)),
        "standard-outside": StandardSAE(StandardSAEConfig(D, N, apply_b_dec_to_input=False)),
        "standard-length": StandardSAE(
            StandardSAEConfig(D, N, normalize_activations="constant_norm_rescale")
        ),
        "jumprelu": JumpReLUSAE(JumpReLUSAEConfig(D, N)),
        "jumprelu-scaled": JumpReLUSAE(
            JumpReLUSAEConfig(D, N, normalize_activations="expected_average_only_in")
        ),
        "jumprelu-whitened": JumpReLUSAE(
            JumpReLUSAEConfig(D, N, normalize_activations="covariance_whitening", apply_b_dec_to_input=False)
        ),
    }
    for name, sae in cases.items():
        perturbed(sae)
        if name.startswith("jumprelu"):
            sae.threshold.data = 0.5 * torch.rand(N)
        sae.save_model(folder / name)
        yield name, *_scaled(sae, folder / name)


def _scaled(sae: Any, folder: Path) -> Functions:
    before, after = _scaler(folder)

    def encode(x_BD: Tensor) -> Tensor:
        z_BN: Tensor = sae.encode(before(x_BD))
        return z_BN

    def decode(z_BN: Tensor) -> Tensor:
        if folder.name.endswith("-length"):  # its own decoder divides by lengths that its encoder saw last
            rebuilt_BD: Tensor = (z_BN @ sae.W_dec + sae.b_dec) / D**0.5
            return rebuilt_BD
        return after(sae.decode(z_BN))

    return encode, decode


def _scaler(folder: Path) -> Functions:
    """What is done to rows before and after such an SAE; left beside it, as training leaves it."""
    from sae_lens.training.activation_scaler import ActivationScaler, ActivationWhitening

    scaler, name = ActivationScaler(), folder.name
    if name.endswith("-scaled"):
        scaler = ActivationScaler(scaling_factor=2.5)
    if name.endswith("-whitened"):
        matrix = torch.eye(D) + 0.1 * torch.randn(D, D)
        scaler = ActivationScaler(
            whitening=ActivationWhitening(0.1 * torch.randn(D), matrix, matrix.inverse())
        )
    if name.endswith(("-scaled", "-whitened")):
        scaler.save(str(folder / "activation_scaler.json"))
    return scaler.scale, scaler.unscale


def _of_training(folder: Path, x_BD: Tensor) -> Iterator[Made]:
    from sae_lens import (
        SAE,
        BatchTopKTrainingSAE,
        BatchTopKTrainingSAEConfig,
        MatryoshkaBatchTopKTrainingSAE,
        MatryoshkaBatchTopKTrainingSAEConfig,
        TopKTrainingSAE,
        TopKTrainingSAEConfig,
    )
    from sae_lens.saes.sae import TrainStepInput

    cases = {
        "topk": TopKTrainingSAE(TopKTrainingSAEConfig(D, N, k=K)),
        "batch": BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(D, N, k=K)),
        "batch-apart": BatchTopKTrainingSAE(
            BatchTopKTrainingSAEConfig(D, N, k=K, rescale_acts_by_decoder_norm=False)
        ),
        "matryoshka": MatryoshkaBatchTopKTrainingSAE(
            MatryoshkaBatchTopKTrainingSAEConfig(D, N, k=K, matryoshka_widths=[24, N])
        ),
    }
    for name, sae in cases.items():
        perturbed(sae)
        optimizer = torch.optim.Adam(sae.parameters(), 1e-3)
        for step in range(200):
            inputs = TrainStepInput(x_BD, {}, None, step, is_logging_step=False)
            sae.training_forward_pass(inputs).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        sae.save_inference_model(folder / f"{name}-inference")
        sae.save_model(folder / f"{name}-checkpoint")
        served = SAE.load_from_disk(folder / f"{name}-inference")
        for kind in ("inference", "checkpoint"):
            yield f"{name}-{kind}", served.encode, served.decode


def main() -> None:
    package, folder = sys.argv[1], Path(sys.argv[2])
    torch.manual_seed(0)
    x_BD = torch.from_numpy(np.load(folder / "x.npy"))
    for made in {"sparsify": sparsify, "hypothesaes": hypothesaes, "sae_lens": sae_lens}[package](
        folder, x_BD
    ):
        saved(folder, x_BD, made)


if __name__ == "__main__":
    main()
