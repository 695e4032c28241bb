"""What the contestants are trained on: abstracts where they are at hand, else planted rows."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray


def planted_rows(n: int, width: int) -> NDArray[np.float32]:
    """Unit rows (n, width), each a sum of 24 of 4 x width planted directions and a little noise."""
    rng = torch.Generator().manual_seed(0)
    directions_ND = torch.nn.functional.normalize(torch.randn(4 * width, width, generator=rng))
    picks_BK = torch.randint(len(directions_ND), (n, 24), generator=rng)
    strengths_BK = torch.rand(n, 24, generator=rng)
    x_MD = torch.nn.functional.embedding_bag(
        picks_BK, directions_ND, per_sample_weights=strengths_BK, mode="sum"
    )
    x_MD += torch.randn(x_MD.shape, generator=rng) / width**0.5
    return torch.nn.functional.normalize(x_MD).numpy()


def abstracts(n: int) -> tuple[NDArray[np.float32], str]:
    """Unit embeddings (n, 384) of abstracts of all fields, in random order, and where they are from.

    From arxiv-*.embeddings.npy in the folder that SAEFARI_CORPORA names; planted rows where there are none.
    """
    folder = Path(os.environ.get("SAEFARI_CORPORA", "../shared/corpora"))
    paths = sorted(folder.glob("arxiv-*.embeddings.npy"))
    if not paths:
        return planted_rows(n, 384), "planted rows (SAEFARI_CORPORA has no arxiv-*.embeddings.npy)"
    all_MD = np.concatenate([np.load(path) for path in paths])
    picked = np.random.default_rng(0).permutation(len(all_MD))[:n]
    x_MD = all_MD[picked].astype(np.float32)
    names = ", ".join(path.name.removesuffix(".embeddings.npy") for path in paths)
    return x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True), names
