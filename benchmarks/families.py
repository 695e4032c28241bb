"""How long the families of a large collection take, and whether planted ones are found again.

    python benchmarks/families.py --size 420000x9216x64 --rounds 3
    python benchmarks/families.py --size 20000x1024x16 --dense 5000x512x16 --recompute 20000x1000x16
    python benchmarks/families.py --split EMBEDDINGS.npy SAE.safetensors

Codes are drawn with planted families: a document is about k / 6 families; the root of each fires in 85 of
100 cases, with up to four children of which the first are more frequent, and latents of no family fill
the row up to k. Popularity of families and of the other latents is uneven, so that densities span
four orders of magnitude. The stage is everything that a build does with these codes: co-activation, edges,
forest, links, measures, their null of 99 draws, and what chance would find. Each run is a process of its
own that reads codes from disk, so its peak of resident memory is that of the stage and the codes. The dense
route keeps the textbook's documents x latents and latents x latents in memory, and is run at a size at
which these fit, beside ours on the same codes. Recomputing is what a page does when a parameter is changed:
the forest again from the stored co-activation. Medians of rounds. `--split` compares the algorithms on a
trained SAE instead: how far the families of one random half of the documents are those of the other half,
and what the measures of the first half's families are on the second. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import minimum_spanning_tree

from sae_core.codes import Codes, DocumentCodes, encode_codes, make_codes, pointers
from sae_core.explorer import MAX_LOOKUPS
from sae_core.families import FamilyConfig, Forest, by_chance, coactivate, grow
from sae_core.families.measures import measure
from sae_core.families.model import ALGORITHMS
from sae_core.families.trees import Tree
from sae_core.sae import SAE

ROWS_AT_ONCE = 20_000
FAMILY_SHARE = 0.7  # of the latents
ROOT_FIRES, MOST_CHILDREN = 0.85, 4  # in a document that is about the family
PER_FAMILY = 6  # of k activations
CHANGES: tuple[dict[str, Any], ...] = (
    {"threshold": 0.1},
    {"threshold": 0.3},
    {"max_size": 20},
    {"min_lift": 3.0},
    {"algorithm": "paper"},
    {"algorithm": "paper", "threshold": 0.2, "edge": "child"},
)


class Size(NamedTuple):
    """Documents x latents x k."""

    n_documents: int
    n_latents: int
    k: int

    @classmethod
    def parse(cls, text: str) -> Size:
        return cls(*map(int, text.split("x")))

    def __str__(self) -> str:
        return "x".join(map(str, self))


class Planted:
    """Families of latents, shuffled, and codes in which they fire together."""

    def __init__(self, size: Size, seed: int = 0) -> None:
        self.size, self._rng = size, np.random.default_rng(seed)
        self._names = self._rng.permutation(size.n_latents)
        sizes: list[int] = []
        while sum(sizes) < FAMILY_SHARE * size.n_latents - 50:
            sizes.append(5 + min(int(self._rng.geometric(0.12)), 40))
        self._sizes = np.array(sizes or [size.n_latents // 2])
        self._first = pointers(self._sizes)
        self.family_N = np.full(size.n_latents, -1)
        self.family_N[self._names[: self._first[-1]]] = np.repeat(np.arange(len(self._sizes)), self._sizes)
        popularity = self._rng.permutation(1 / np.arange(1, len(self._sizes) + 1) ** 0.7)
        self._families = np.cumsum(popularity / popularity.sum())
        others = self._rng.lognormal(0, 1.2, size.n_latents - self._first[-1])
        self._others = np.cumsum(others / others.sum())

    def codes(self) -> Codes:
        n, done = self.size.n_documents, range(0, self.size.n_documents, ROWS_AT_ONCE)
        blocks = [self._rows(min(ROWS_AT_ONCE, n - start)) for start in done]
        counts = np.concatenate([keep.sum(axis=1) for _, keep in blocks])
        latents = np.concatenate([rows[keep].astype(np.uint32) for rows, keep in blocks])
        ones = np.ones(len(latents), dtype=np.float32)
        return DocumentCodes(pointers(counts), latents, ones).in_both_orders(self.size.n_latents)

    def _rows(self, n_rows: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Latents of documents, and which of these count: the first k of a row that are no repetition."""
        rng, k = self._rng, self.size.k
        about = np.searchsorted(self._families, rng.random((n_rows, max(1, k // PER_FAMILY))))
        roots = np.where(rng.random(about.shape) < ROOT_FIRES, self._names[self._first[about]], -1)
        drawn = rng.random((*about.shape, MOST_CHILDREN)) ** 1.5 * (self._sizes[about] - 1)[..., None]
        children = self._names[self._first[about][..., None] + 1 + drawn.astype(np.int64)]
        places = np.minimum(np.searchsorted(self._others, rng.random((n_rows, k))), len(self._others) - 1)
        others = self._names[self._first[-1] + places]
        rows = np.concatenate([roots, children.reshape(n_rows, -1), others], axis=1)
        order = np.argsort(rows, axis=1, kind="stable")
        ordered = np.take_along_axis(rows, order, axis=1)
        is_new = np.ones(rows.shape, dtype=np.bool_)
        is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        keep = np.empty_like(is_new)
        np.put_along_axis(keep, order, is_new & (ordered >= 0), axis=1)
        return rows, keep & (np.cumsum(keep, axis=1) <= k)


def rand_index(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Adjusted Rand index of two partitions of the same things: 1 if they are one, 0 by chance."""
    table = sp.csr_matrix((np.ones(len(a)), (_renumbered(a), _renumbered(b)))).tocsr()
    table.sum_duplicates()
    cells, rows, columns = (
        float((counts * (counts - 1) / 2).sum())
        for counts in (table.data, np.asarray(table.sum(axis=1)), np.asarray(table.sum(axis=0)))
    )
    expected = rows * columns / (len(a) * (len(a) - 1) / 2)
    return (cells - expected) / ((rows + columns) / 2 - expected)


def _renumbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def recovered(forest: Forest, family_N: NDArray[np.int64]) -> float:
    """Adjusted Rand index over the planted latents; those that were not found count as one family more."""
    home_N, _ = homes_and_parents(forest, len(family_N))
    planted = family_N >= 0
    return rand_index(home_N[planted], family_N[planted])


def homes_and_parents(forest: Forest, n_latents: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The smallest family of each latent, and its parent there, (N,); -1 for none."""
    home_N, parent_N = np.full((2, n_latents), -1)
    for family in forest.families:  # largest first
        home_N[family.members], parent_N[family.members] = family.id, family.parents
    return home_N, parent_N


def our_stage(codes: Codes, family_N: NDArray[np.int64]) -> dict[str, Any]:
    began = time.perf_counter()
    coactivation = coactivate(codes)
    counted = time.perf_counter() - began
    forest = replace(grow(coactivation), chance=by_chance(codes))
    seconds = time.perf_counter() - began
    paper = grow(coactivation, FamilyConfig(algorithm="paper"), most_lookups=0)
    return {
        "seconds": seconds,
        "coactivation_seconds": counted,
        "pairs": coactivation.n_pairs,
        "edges": len(coactivation.edge_parents),
        "stored_mb": sum(array.nbytes for array in coactivation.arrays().values()) / 1e6,
        "families": len(forest.families),
        "largest": forest.sizes[0] if forest.sizes else 0,
        "coverage": forest.coverage,
        "families_by_chance": forest.chance.n_families if forest.chance else None,
        "rand_index": recovered(forest, family_N),
        "rand_index_paper": recovered(paper, family_N),
        "block_ratio": forest.block_ratio,
        "block_p": forest.block_null.p if forest.block_null else None,
    }


def dense_stage(codes: Codes, _family_N: NDArray[np.int64]) -> dict[str, Any]:
    """The textbook's steps 1 to 3: dense codes, both dense products, a forest, three times over."""
    began = time.perf_counter()
    A_MN = codes.matrix().toarray()
    fires_MN = (A_MN > 0).astype(np.float32)
    C_NN = fires_MN.T @ fires_MN
    A_MN /= np.linalg.norm(A_MN, axis=0) + 1e-9
    _D_NN = A_MN.T @ A_MN
    f_N = C_NN.diagonal().copy()
    M_NN = C_NN / (f_N[:, None] + 1e-9)
    M_NN[M_NN < 0.1] = 0  # noqa: PLR2004 (the paper's threshold)
    np.fill_diagonal(M_NN, 0)
    n_roots = 0
    for _ in range(3):
        forest = minimum_spanning_tree(sp.csr_matrix(-np.maximum(M_NN, M_NN.T))).tocoo()
        denser = np.where(f_N[forest.row] >= f_N[forest.col], forest.row, forest.col)
        sparser = np.where(f_N[forest.row] >= f_N[forest.col], forest.col, forest.row)
        n_children = np.bincount(denser, minlength=len(f_N))
        roots = (n_children > 2) & (np.bincount(sparser, minlength=len(f_N)) == 0)  # noqa: PLR2004
        M_NN[roots], M_NN[:, roots] = 0, 0
        n_roots += int(roots.sum())
    return {"seconds": time.perf_counter() - began, "families": n_roots}


def recompute_stage(codes: Codes, _family_N: NDArray[np.int64]) -> dict[str, Any]:
    coactivation = coactivate(codes)
    grow(coactivation, most_lookups=MAX_LOOKUPS)  # warms up
    seconds, cpu_seconds = {}, {}
    for change in CHANGES:
        name = " ".join(f"{parameter}={value}" for parameter, value in change.items())
        began, began_cpu = time.perf_counter(), time.process_time()
        grow(coactivation, FamilyConfig(**change), most_lookups=MAX_LOOKUPS)
        seconds[name] = time.perf_counter() - began
        cpu_seconds[name] = time.process_time() - began_cpu
    return {
        "seconds": max(seconds.values()),
        "slowest_cpu_seconds": max(cpu_seconds.values()),
        "changes": seconds,
        "pairs": coactivation.n_pairs,
    }


STAGES = {"ours": our_stage, "dense": dense_stage, "recompute": recompute_stage}


def run_stage(name: str, folder: Path) -> None:
    """In a process of its own: read the codes, run the stage, print what it gave and the peak of memory."""
    size = Size.parse(folder.name)
    arrays = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    family_N = arrays.pop("family_N")
    codes = Codes(n_documents=size.n_documents, n_latents=size.n_latents, **arrays)
    began = time.process_time()
    found = STAGES[name](codes, family_N)
    found["cpu_seconds"] = time.process_time() - began
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(json.dumps({**found, "peak_gib": peak / 2**20}))


def split(embeddings: Path, sae_path: Path) -> list[dict[str, Any]]:
    """Each algorithm on all documents, and on two halves of them."""
    sae = SAE.load(sae_path)
    codes = encode_codes(sae, np.load(embeddings).astype(np.float32))
    is_first = np.random.default_rng(0).random(codes.n_documents) < 0.5  # noqa: PLR2004 (a half)
    whole, first, second = (
        coactivate(part) for part in (codes, half(codes, is_first), half(codes, ~is_first))
    )
    levels_N = sae.levels_N()
    rows = []
    for algorithm in ALGORITHMS if levels_N is not None else ALGORITHMS[:2]:
        config = FamilyConfig(algorithm=algorithm)
        forest, one, other = (grow(part, config, levels_N, most_lookups=0) for part in (whole, first, second))
        if not (one.families and other.families):
            rows.append({"algorithm": algorithm, "families": 0})
            continue
        trees = [Tree(family.members, family.parents, family.conditionals) for family in one.families]
        homes, parents = zip(*(homes_and_parents(half, sae.n_latents) for half in (one, other)), strict=True)
        in_both = (homes[0] >= 0) & (homes[1] >= 0)
        have_parents = (parents[0] >= 0) & (parents[1] >= 0)
        row = {
            "algorithm": algorithm,
            "families": len(forest.families),
            "median": statistics.median(forest.sizes),
            "largest": forest.sizes[0],
            "coverage": forest.coverage,
            "in_several": forest.n_shared / forest.n_covered,
            "rand_index": rand_index(homes[0][in_both], homes[1][in_both]),
            "same_parent": float((parents[0] == parents[1])[have_parents].mean()),
            "heldout_hub": measure(second, trees, most_lookups=0).hub.value,
            "heldout_block": measure(second, trees, most_lookups=0).block.value,
        }
        rows.append(row)
    return rows


def half(codes: Codes, keep_M: NDArray[np.bool_]) -> Codes:
    """The codes of some of the documents."""
    part = codes.matrix()[keep_M].tocoo()
    rows, latents = part.row.astype(np.int64), part.col.astype(np.int64)
    n_documents = int(keep_M.sum())
    return make_codes(rows, latents, part.data, n_documents=n_documents, n_latents=codes.n_latents)


def write_codes(size: Size, home: Path) -> Path:
    folder = home / str(size)
    if not folder.exists():
        folder.mkdir()
        planted = Planted(size)
        for name, values in {**planted.codes().arrays(), "family_N": planted.family_N}.items():
            np.save(folder / f"{name}.npy", values)
    return folder


def race(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """The stage `rounds` times; seconds are medians, the peak is the highest, all else is of the last."""
    called = [sys.executable, "-m", "benchmarks.families", "--stage", name, str(folder)]
    found: list[dict[str, Any]] = []
    for _ in range(rounds):
        done = subprocess.run(
            called, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    last = found[-1]
    for key in ("seconds", "cpu_seconds"):
        last[key] = statistics.median(entry[key] for entry in found)
    last["peak_gib"] = max(entry["peak_gib"] for entry in found)
    if "changes" in last:
        medians = {name: statistics.median(e["changes"][name] for e in found) for name in last["changes"]}
        last |= {"changes": medians, "seconds": max(medians.values())}
    return last


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, what in (
        ("--size", "420000x9216x64", "documents x latents x k of the stage"),
        ("--dense", "20000x4608x64", "of the dense route"),
        ("--recompute", "100000x10000x64", "of recomputing"),
    ):
        parser.add_argument(
            name, type=Size.parse, default=default, metavar="MxNxK", help=f"{what} ({default})"
        )
    parser.add_argument("--rounds", type=int, default=3, help="processes of each (3)")
    parser.add_argument(
        "--split", nargs=2, type=Path, metavar=("NPY", "SAE"), help="compare the algorithms on a trained SAE"
    )
    parser.add_argument("--stage", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.stage:
        run_stage(arguments.stage[0], Path(arguments.stage[1]))
        return
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    if arguments.split:
        rows = split(*arguments.split)
        for row in rows:
            print(
                "  ".join(
                    f"{name} {value}" if isinstance(value, str | int) else f"{name} {value:.2f}"
                    for name, value in row.items()
                )
            )
        print(json.dumps({"benchmark": "families", **machine, "rows": rows}))
        return
    jobs = [
        ("stage", "ours", arguments.size),
        ("dense route", "dense", arguments.dense),
        ("ours, same codes", "ours", arguments.dense),
        ("recompute", "recompute", arguments.recompute),
    ]
    results = {}
    with tempfile.TemporaryDirectory() as home:
        for title, name, size in jobs:
            row = race(name, write_codes(size, Path(home)), arguments.rounds)
            results[title] = {"size": str(size), **row}
            cpu = row.get("slowest_cpu_seconds", row["cpu_seconds"])
            figures = f"{row['seconds']:8.2f} s ({cpu:.2f} s of CPU) {row['peak_gib']:6.2f} GiB"
            print(f"{title:18} {size!s:>18} {figures}", flush=True)
            if name == "ours":
                print(
                    f"{'':18} {row['pairs']:,} pairs, {row['families']:,} families up to {row['largest']}, "
                    f"coverage {row['coverage']:.2f} ({row['families_by_chance']} families by chance), "
                    f"adjusted Rand index {row['rand_index']:.3f} "
                    f"(the paper's algorithm {row['rand_index_paper']:.3f})"
                )
            for change, seconds in row.get("changes", {}).items():
                print(f"{'':18} {seconds:6.2f} s  {change}")
    print(json.dumps({"benchmark": "families", **machine, "rounds": arguments.rounds, **results}))


if __name__ == "__main__":
    main()
