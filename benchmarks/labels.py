"""How long naming all features and families of a collection takes, and how well the names predict.

    python benchmarks/labels.py --corpus arxiv-cs-lg --documents 10000 --latents 1500

The first abstracts of a file of SAEFARI_CORPORA with their MiniLM embeddings; without such a file docstrings
of the packages installed here, embedded first. An SAE is trained by the default recipe, which is not timed.
Then the stage "Labels" of a build is: vocabulary, embedding it, ranking, tournament, scores, families. The
floor is embedding the same phrases and nothing else, at the rate at which the encoder embeds a sample of them
right after. Scores are means over features, on documents that neither made nor chose a label; beside them
stand those of another feature's label, drawn at random, which is what the two predictors make of a label that
says nothing. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_core.codes import encode_codes
from sae_core.corpus import Document, load_corpus
from sae_core.embed import Embedder, load_embedder
from sae_core.families import coactivate, grow
from sae_core.features import describe
from sae_core.fit import split
from sae_core.labels import Candidate, Label, Score, left_out
from sae_core.labels.families import label_families
from sae_core.labels.phrases import Labeller
from sae_core.labels.predictors import MeaningPredictor, WordPredictor
from sae_core.labels.scores import hold_tournament, split_documents
from sae_core.labels.words import tokenise
from sae_core.recipe import TrainConfig
from sae_core.sources.docstrings import harvest
from sae_core.train import Trainer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

CORPORA = Path(__file__).parents[2] / "shared" / "corpora"
N_TIMED = 4096  # phrases, by which the encoder's rate is measured
MEASURES = ("auc", "f1", "pearson")


class Counting:
    """An embedder that counts texts and seconds."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.name, self.width, self.fingerprint = embedder.name, embedder.width, embedder.fingerprint
        self.texts: list[str] = []
        self.seconds = 0.0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows (B, D)."""
        began = time.perf_counter()
        rows_BD = self._embedder.embed(texts)
        self.seconds += time.perf_counter() - began
        self.texts += texts
        return rows_BD


def material(
    corpus: str, limit: int, embedder: Embedder
) -> tuple[str, Sequence[Document], NDArray[np.float32]]:
    """Where the documents are from, the documents, and their embeddings."""
    folder = Path(os.environ.get("SAEFARI_CORPORA") or CORPORA)
    file = folder / f"{corpus}.parquet"
    if not file.exists():
        documents = harvest(limit)
        return "docstrings", documents, embedder.embed([document.text for document in documents])
    found = load_corpus(file, limit=limit)
    x_MD = np.load(folder / f"{corpus}.embeddings.npy", mmap_mode="r")[found.rows].astype(np.float32)
    return corpus, found.documents, x_MD / np.linalg.norm(x_MD, axis=1, keepdims=True)


def means(scores: Iterable[Score]) -> dict[str, float]:
    """Mean of each measure."""
    kept = list(scores)
    return {
        name: round(float(np.mean([getattr(score, name).value for score in kept])), 4) if kept else 0.0
        for name in MEASURES
    }


def table_row(what: str, predictor: str, n: int, found: dict[str, float]) -> str:
    numbers = " | ".join(f"{found[name]:.3f}" for name in MEASURES)
    return f"| {what} | {predictor} | {n:,} | {numbers} |"


def both(labels: Sequence[Label]) -> dict[str, dict[str, float]]:
    """Mean scores by the label's embedding and by its words."""
    scored = [label for label in labels if label.score]
    return {
        "embedding": means(label.score for label in scored if label.score),
        "BM25": means(score for label in scored for score in label.other_scores),
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", default="arxiv-cs-lg", help="a file of SAEFARI_CORPORA, without .parquet")
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--latents", type=int, default=1_500)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--steps", type=int, default=None, help="of training; default: the rule's")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Train, name, measure, print a table."""
    arguments = parse_arguments()
    embedder = load_embedder("minilm")
    source, documents, x_MD = material(arguments.corpus, arguments.documents, embedder)
    rows, _ = split(len(documents), arguments.seed)
    sizes: dict[str, Any] = {"n_latents": arguments.latents, "k": arguments.k, "steps": arguments.steps}
    trainer = Trainer(x_MD[rows], TrainConfig.for_corpus(len(rows), x_MD.shape[1], **sizes))
    for _ in range(trainer.config.steps):
        trainer.step()
    sae = trainer.sae()
    codes = encode_codes(sae, x_MD)
    table = describe(sae, codes, x_MD)
    families = [family.members for family in grow(coactivate(codes)).families]

    counting = Counting(embedder)
    began, cpu_began = time.perf_counter(), time.process_time()
    labeller = Labeller(documents, codes, table, sae, x_MD, counting, arguments.seed)
    labels = labeller.features()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    family_labels = label_families(labeller, families, labels)
    family_seconds = time.perf_counter() - began - seconds

    rng = np.random.default_rng(arguments.seed)
    sample = sorted(rng.choice(counting.texts, min(N_TIMED, len(counting.texts)), replace=False), key=len)
    began = time.perf_counter()
    embedder.embed(sample)
    rate = len(sample) / (time.perf_counter() - began)
    floor = len(counting.texts) / rate

    named = [latent for latent, label in enumerate(labels) if label.text]
    others = [[Candidate(labels[latent].text, "-")] for latent in rng.permutation(named)]
    splits = [split_documents(codes, table, latent, arguments.seed) for latent in named]
    predictors = MeaningPredictor(embedder, x_MD), WordPredictor(tokenise(documents))
    wrong = hold_tournament(others, splits, predictors[0], predictors[1:])

    print(f"{source}: {len(documents):,} documents, {arguments.latents:,} latents, k = {arguments.k}")
    print("| labels of | predictor | n | AUC | F1 | Pearson |\n|---|---|---|---|---|---|")
    found = {}
    for what, some in (("features", labels), ("families", family_labels), ("another feature", wrong)):
        found[what] = both(some)
        n = sum(label.score is not None for label in some)
        for predictor, measured in found[what].items():
            print(table_row(what, predictor, n, measured))
    print(f"left out: {left_out(labels)}")
    print(
        f"features {seconds:.1f} s ({cpu_seconds:.1f} s of CPU), of which {counting.seconds:.1f} s embedding "
        f"{len(counting.texts):,} phrases; families {family_seconds:.1f} s"
    )
    print(f"{seconds / floor:.2f} times the floor of {floor:.1f} s ({rate:.0f} phrases a second)")
    result = {
        "source": source, "documents": len(documents), "latents": arguments.latents, "k": arguments.k,
        "seconds": seconds, "cpu_seconds": cpu_seconds, "family_seconds": family_seconds,
        "embedding_seconds": counting.seconds,
        "phrases": len(counting.texts), "rate": rate, "floor": floor, "ratio": seconds / floor,
        "labelled": len(named), "families": len(families), "scores": found, "machine": platform.processor(),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
