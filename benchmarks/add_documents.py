"""How long adding documents to a collection takes, beside building all of it again.

    python benchmarks/add_documents.py --corpus arxiv-astro-hep --documents 10000 --added 1000

The first abstracts of a file of SAEFARI_CORPORA with their MiniLM embeddings; without such a file docstrings
of the packages installed here, embedded first. A collection is built of them, which is not timed. Then others
are added, embedded here by MiniLM, as `saefari add` does it; and all are built from nothing by the default
recipe, as `saefari build` does it, but with vectors from the file. What embedding takes besides is reckoned
at the rate of those that were added: of these alone, since a build keeps vectors by text and embeds nothing
twice, and of all, where nothing was kept. Drift is that of the addition. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.catalog import write_catalogue
from benchmarks.labels import material
from sae_core.build import BuildConfig, build
from sae_core.corpus import Corpus
from sae_core.embed import load_embedder
from sae_core.explorer import Explorer
from sae_core.update import Update

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from sae_core.corpus import Document
    from sae_core.update import Change

NAME = "collection"


class Silence:
    """A console that shows nothing."""

    def stage(self, _name: str) -> AbstractContextManager[Any]:
        """Begin a stage."""
        return nullcontext(lambda _done, _total, _detail="": None)


def build_all(
    home: Path, documents: Sequence[Document], x_MD: NDArray[np.float32], sizes: dict[str, Any]
) -> tuple[float, dict[str, float]]:
    """Build a collection with these vectors; seconds, in all and of each stage."""
    path = home / "vectors.npy"
    np.save(path, x_MD)
    config = BuildConfig(name=NAME, title=NAME, embedder="minilm", embeddings=path, **sizes)
    began = time.perf_counter()
    summary = build(Corpus(documents, []), config, home, Silence(), write_catalogue)
    return time.perf_counter() - began, summary.seconds


def add_some(home: Path, documents: Sequence[Document]) -> tuple[float, Change]:
    """Add documents to what was built; seconds from opening the collection to the new generation."""
    began = time.perf_counter()
    explorer = Explorer.load(home / "collections" / NAME)
    with closing(Update(explorer, home, Silence())) as update:
        change = update.add(update.compare(Corpus(documents, [])), write_catalogue)
    return time.perf_counter() - began, change


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus", default="arxiv-astro-hep", help="a file of SAEFARI_CORPORA, without .parquet"
    )
    parser.add_argument("--documents", type=int, default=10_000, help="that are there")
    parser.add_argument("--added", type=int, default=1_000, help="that come")
    parser.add_argument("--latents", type=int, default=None, help="default: the rule's")
    parser.add_argument("--k", type=int, default=None)
    parser.add_argument("--steps", type=int, default=None)
    return parser.parse_args()


def main() -> None:
    """Build, add, build again, print a table."""
    arguments = parse_arguments()
    n, n_added = arguments.documents, arguments.added
    source, documents, x_MD = material(arguments.corpus, n + n_added, load_embedder("minilm"))
    sizes: dict[str, Any] = {
        "latents": (arguments.latents,), "ks": (arguments.k,), "steps": arguments.steps
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder, "first"), Path(folder, "second")
        for home in (first, second):
            home.mkdir()
        build_all(first, documents[:n], x_MD[:n], {**sizes, "stability": False})
        seconds, change = add_some(first, documents[n:])
        again, stages = build_all(second, documents, x_MD, sizes)
    embedding = change.seconds["Embedding"]
    totals = {  # seconds of adding, and of building all again
        "beside embedding": (seconds - embedding, again),
        "where vectors were kept": (seconds, again + embedding),
        "where all have to be embedded": (seconds, again + embedding / n_added * len(documents)),
    }
    print(f"{source}: {n_added:,} documents added to {n:,}, beside a build of all")
    print("| stage, seconds | add | build |\n|---|---|---|")
    for stage in dict.fromkeys([*change.seconds, *stages]):
        print(f"| {stage} | {change.seconds.get(stage, 0):.1f} | {stages.get(stage, 0):.1f} |")
    for what, (added, built) in totals.items():
        print(f"| in all, {what} | {added:.1f} | {built:.1f} ({built / added:.1f} times) |")
    result = {
        "source": source, "documents": n, "added": n_added, "seconds": seconds, "build_seconds": again,
        "ratios": {what: built / added for what, (added, built) in totals.items()},
        "stages": change.seconds, "build_stages": stages,
        "drift": {sae: {which: found.times.value for which, found in change.drifts(sae).items()}
                  for sae in change.drift},
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
