"""How much of retrieval a reconstruction keeps, with and without the loss that preserves similarities.

    python benchmarks/retrieval_kept.py

SciFact (SAEFARI_CORPORA): 5,183 abstracts, the 300 claims of the test split, nDCG@10 by cosine. SAEs of the
default recipe are trained on the abstracts alone, nine tenths of them, with several weights of the loss and
several seeds; then queries and documents are both replaced by their reconstructions. "Kept" is the quotient
to nDCG with the embeddings themselves. The interval is over seeds. PCA of as many numbers per document is
the baseline. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import torch

from sae_core.embed import load_embedder
from sae_core.evaluation.judged import load_judged
from sae_core.fit import split
from sae_core.metrics import evaluate, ndcg, ndcg_kept
from sae_core.recipe import TrainConfig
from sae_core.train import Trainer

if TYPE_CHECKING:
    from numpy.typing import NDArray

CORPORA = Path(os.environ.get("SAEFARI_CORPORA") or Path(__file__).parents[2] / "shared" / "corpora")
WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0)


def scifact() -> tuple[NDArray[np.float32], NDArray[np.float32], list[dict[int, float]]]:
    """Embeddings of the documents and of the test claims, and which documents answer each claim."""
    ids = pq.read_table(CORPORA / "scifact-docs.parquet", columns=["id"]).to_pydict()["id"]
    files = CORPORA / "scifact-queries.parquet", CORPORA / "scifact-qrels.parquet"
    judged = load_judged(*files, [str(name) for name in ids], "test")
    documents_MD = np.load(CORPORA / "scifact-docs.embeddings.npy").astype(np.float32)
    documents_MD /= np.linalg.norm(documents_MD, axis=1, keepdims=True)
    return load_embedder("minilm").embed(judged.queries), documents_MD, judged.relevant


def measure(
    material: tuple[NDArray[np.float32], NDArray[np.float32], list[dict[int, float]]],
    weight: float,
    seed: int,
    **chosen: Any,
) -> dict[str, float]:
    """Train one SAE; its held-out error and the share of nDCG@10 that its reconstructions keep."""
    queries_QD, documents_MD, relevant = material
    rows, heldout = split(len(documents_MD), seed)
    config = TrainConfig.for_corpus(len(rows), documents_MD.shape[1], seed=seed, retrieval=weight, **chosen)
    trainer = Trainer(documents_MD[rows], config)
    for _ in range(config.steps):
        trainer.step()
    sae = trainer.sae()
    found = ndcg_kept(sae, queries_QD, documents_MD, relevant)
    fvu = evaluate(sae, documents_MD[heldout])["fvu"]
    return {"fvu_heldout": fvu, "dead": trainer.dead_share(), "kept": float(found["kept"] or 0.0)}


def pca_kept(
    queries_QD: NDArray[np.float32],
    documents_MD: NDArray[np.float32],
    relevant: list[dict[int, float]],
    n_components: int,
) -> float:
    """The same share for the best linear code of as many numbers per document."""
    mean_D = documents_MD.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((documents_MD - mean_D).T))
    basis = vectors[:, ::-1][:, :n_components].astype(np.float32)
    queries, documents = ((x - mean_D) @ basis @ basis.T + mean_D for x in (queries_QD, documents_MD))
    return ndcg(queries, documents, relevant) / ndcg(queries_QD, documents_MD, relevant)


def main() -> int:
    """Train, measure, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", nargs="+", type=float, default=list(WEIGHTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--k", type=int, default=None, help="active latents; default: the rule's")
    arguments = parser.parse_args()
    if not CORPORA.is_dir():
        print(f"{CORPORA} is not there: set SAEFARI_CORPORA to a folder with the SciFact files.")
        return 1
    torch.set_num_threads(1)
    material = scifact()
    k = TrainConfig.for_corpus(*material[1].shape, k=arguments.k).k
    pca = pca_kept(*material, k)
    print(f"nDCG@10 {ndcg(*material):.3f}, 300 claims; PCA-{k} keeps {pca:.1%}")
    print("| weight | nDCG@10 kept, mean (lowest to highest seed) | FVU held-out | dead |\n|---|---|---|---|")
    rows = []
    for weight in arguments.weights:
        runs = [measure(material, weight, seed, k=k) for seed in range(arguments.seeds)]
        mean = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        kept = [run["kept"] for run in runs]
        spread = f"{mean['kept']:.1%} ({min(kept):.1%} to {max(kept):.1%})"
        print(f"| {weight:g} | {spread} | {mean['fvu_heldout']:.3f} | {mean['dead']:.1%} |", flush=True)
        rows.append({"weight": weight, **mean})
    print(json.dumps({"k": k, "pca_kept": pca, "weights": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
