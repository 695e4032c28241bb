"""How many documents a second are encoded, next to the matrix product that no encoding can do without.

    python benchmarks/encode_speed.py --widths 384 --latents 6144 65536 --threads 1 --rounds 9

Random unit rows and random weights of the size in question, float32. The floor is one sgemm of all rows by
all weights and nothing else: no bias, no selection, no codes. Interleaved with it run `encode_documents`; two
other ways to choose the strongest of the same pre-activations, block by block, by numpy's argpartition and
by torch.topk; and the product in bfloat16, for information. Figures are medians of rounds, ratios those of
medians. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sae_core.codes import ROWS_PER_BLOCK, encode_documents
from sae_core.sae import SAE

OURS, FLOOR, BF16 = "ours", "product", "bf16 product"
PARTITION, TOPK = "argpartition", "torch.topk"
PRODUCTS_PER_PASS = 2e10  # multiplications in a pass, half a second or so, from which follow its rows


@dataclass(frozen=True)
class Size:
    """What is encoded: rows of this width, by an SAE of so many latents, k of them active."""

    width: int
    n_latents: int
    k: int

    def n_rows(self) -> int:
        """Rows in one pass: whole blocks, two at least."""
        per_block = self.width * self.n_latents * ROWS_PER_BLOCK
        return ROWS_PER_BLOCK * max(2, round(PRODUCTS_PER_PASS / per_block))


class Contest:
    """The data of a size, and everything that is timed on it."""

    def __init__(self, size: Size, n_rows: int) -> None:
        rng = np.random.default_rng(0)
        self.size, self.x_MD, weights_ND = (
            size,
            unit_rows(rng, n_rows, size.width),
            unit_rows(rng, size.n_latents, size.width),
        )
        bias_N = rng.normal(scale=0.01, size=size.n_latents).astype(np.float32)
        bias_D = self.x_MD.mean(axis=0)
        self.sae = SAE(W_enc_ND=weights_ND, W_dec_ND=weights_ND, b_enc_N=bias_N, b_dec_D=bias_D, k=size.k)
        self.ways: dict[str, Callable[[], object]] = {
            FLOOR: self.product,
            OURS: lambda: encode_documents(self.sae, self.x_MD),
            PARTITION: lambda: self.by_blocks(partition),
            TOPK: lambda: self.by_blocks(topk),
            BF16: self.bf16_product,
        }
        self._out_MN = np.empty((n_rows, size.n_latents), dtype=np.float32)
        self._bf16 = [torch.from_numpy(array).bfloat16() for array in (self.x_MD, weights_ND)]

    def product(self) -> None:
        np.matmul(self.x_MD, self.sae.W_enc_ND.T, out=self._out_MN)

    def bf16_product(self) -> torch.Tensor:
        rows, weights = self._bf16
        return rows @ weights.T

    def by_blocks(self, choose: Callable[[NDArray[np.float32], int], object]) -> None:
        """Pre-activations of a block, then a choice among them; the codes are not put together."""
        for start in range(0, len(self.x_MD), ROWS_PER_BLOCK):
            choose(self.sae.preactivations(self.x_MD[start : start + ROWS_PER_BLOCK]), self.size.k)

    def race(self, threads: int, rounds: int) -> dict[str, float]:
        """Median seconds of a pass, by name."""
        seconds: dict[str, list[float]] = {name: [] for name in self.ways}
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            for round_ in range(1 + rounds):
                for name, way in self.ways.items():
                    began = time.perf_counter()
                    way()
                    if round_ > 0:  # the first one warms up
                        seconds[name].append(time.perf_counter() - began)
        return {name: statistics.median(values) for name, values in seconds.items()}


def partition(a_BN: NDArray[np.float32], k: int) -> object:
    first = a_BN.shape[1] - k
    indices_BK = np.argpartition(a_BN, first, axis=1)[:, first:]
    return indices_BK, np.take_along_axis(a_BN, indices_BK, axis=1)


def topk(a_BN: NDArray[np.float32], k: int) -> object:
    return torch.from_numpy(a_BN).topk(k, dim=1, sorted=False)


def unit_rows(rng: np.random.Generator, n_rows: int, width: int) -> NDArray[np.float32]:
    x_MD = rng.standard_normal((n_rows, width), dtype=np.float32)
    return np.asarray(x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True), dtype=np.float32)


def row_of(size: Size, n_rows: int, threads: int, seconds: dict[str, float]) -> dict[str, Any]:
    """Documents per second of each way, and ours in ratios."""
    rates = {name: n_rows / value for name, value in seconds.items()}
    ratios = {f"ours / {name}": rates[OURS] / rate for name, rate in rates.items() if name != OURS}
    return {**asdict(size), "rows": n_rows, "threads": threads, "per_second": rates, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[384, 1536], help="D (384 1536)")
    parser.add_argument(
        "--latents",
        type=int,
        nargs="+",
        default=[6144, 16384, 32768, 65536],
        help="n (6144 16384 32768 65536)",
    )
    parser.add_argument("--k", type=int, default=64, help="active latents per document (64)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads to try (1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved passes of each (5)")
    parser.add_argument("--rows", type=int, help="documents in a pass (half a second's worth)")
    arguments = parser.parse_args()
    print("documents/s, medians; in brackets the share of the product's speed")
    print(f"    D       n threads {FLOOR:>10} {OURS:>17} {PARTITION:>17} {TOPK:>17} {BF16:>17}")
    rows = []
    for width in arguments.widths:
        for n_latents in arguments.latents:
            size = Size(width, n_latents, arguments.k)
            contest = Contest(size, arguments.rows or size.n_rows())
            for threads in arguments.threads:
                row = row_of(size, len(contest.x_MD), threads, contest.race(threads, arguments.rounds))
                rows.append(row)
                rates = row["per_second"]
                cells = [
                    f"{rates[name]:10,.0f} ({rates[name] / rates[FLOOR]:4.2f})"
                    for name in (OURS, PARTITION, TOPK, BF16)
                ]
                print(
                    f"{width:5} {n_latents:7} {threads:7} {rates[FLOOR]:10,.0f} {' '.join(cells)}", flush=True
                )
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    print(json.dumps({"benchmark": "encode_speed", **machine, "rounds": arguments.rounds, "rows": rows}))


if __name__ == "__main__":
    main()
