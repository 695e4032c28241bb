"""Stages that building a collection and changing its documents have in common."""

from __future__ import annotations

import hashlib
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sae_core import artifact, splitting
from sae_core.codes import pointers
from sae_core.errors import EmbeddingError
from sae_core.families import by_chance, coactivate, default_config, grow
from sae_core.features import describe
from sae_core.index import VectorIndex
from sae_core.rows import load_embeddings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sae_core.codes import Codes
    from sae_core.corpus import Corpus, Document
    from sae_core.embed import Embedder
    from sae_core.explorer import FeatureSet
    from sae_core.families import Coactivation, Forest
    from sae_core.features import FeatureTable
    from sae_core.fit import Console, Report
    from sae_core.rows import Reading
    from sae_core.sae import SAE

MIN_DOCUMENTS = 40  # of a collection
N_COMPARED = 7  # texts embedded again to see whether a file of embeddings is the encoder's
SAME_SPACE = 0.9  # cosine; other preparation of the same text stays above it, another model far below


class TimedConsole:
    """A console that adds to `seconds` how long each stage took."""

    def __init__(self, console: Console, seconds: dict[str, float]) -> None:
        self._console, self._seconds = console, seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[Report]:
        """Begin a stage; it ends with the context."""
        began = time.monotonic()
        with self._console.stage(name) as report:
            yield report
        self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began


# --- vectors --------------------------------------------------------------------------------------


def read_vectors(
    path: Path, corpus: Corpus, reading: Reading, *, is_limited: bool = False
) -> NDArray[np.float32]:
    """The rows of a file of embeddings that became documents, (M, D).

    With `is_limited`, said of a corpus that is only the beginning of its file, the embeddings may go on
    behind it. Raises `EmbeddingError` for a file that does not fit.
    """
    x_RD = load_embeddings(path, None if is_limited else corpus.n_rows, reading)
    if len(x_RD) < corpus.n_rows:
        what = f"{path} has {len(x_RD)} rows, but {corpus.n_rows} rows of the corpus were read."
        raise EmbeddingError(what, remedy="Give one row for each row of the corpus, in its order.")
    return x_RD[corpus.rows]


def check_encoder(embedder: Embedder, documents: Sequence[Document], x_MD: NDArray[np.float32]) -> None:
    """Queries must lie in the space of the documents: embed a few again and compare.

    Raises `EmbeddingError` if `x_MD`, a row for each document, is not what this embedder makes.
    """
    remedy = "Name the encoder that made them with --embedder, or none, and keep the order of the rows."
    if embedder.width != x_MD.shape[1]:
        what = f"The embeddings are {x_MD.shape[1]} wide, {embedder.name} makes {embedder.width}."
        raise EmbeddingError(what, remedy=remedy)
    rows = np.linspace(0, len(x_MD) - 1, min(N_COMPARED, len(x_MD))).astype(int)
    again_BD = embedder.embed([documents[row].text for row in rows])
    cosine = float(np.median((again_BD * x_MD[rows]).sum(axis=1)))
    if cosine < SAME_SPACE:
        what = f"The embeddings are not those of {embedder.name}: cosine {cosine:.2f} on a few texts."
        raise EmbeddingError(what, remedy=remedy)


def hash_of(x_MD: NDArray[np.float32]) -> str:
    """What a checkpoint was trained on: the numbers themselves, as the same texts may be embedded anew."""
    return hashlib.sha256(np.ascontiguousarray(x_MD).data).hexdigest()


# --- features -------------------------------------------------------------------------------------


class Described(NamedTuple):
    """What the codes of an SAE say of its features."""

    table: FeatureTable
    coactivation: Coactivation
    forest: Forest  # without labels


def describe_codes(
    sae: SAE, codes: Codes, x_MD: NDArray[np.float32], seed: int, console: Console
) -> Described:
    """Features and families; `x_MD` are the embeddings that `codes` was made from."""
    with console.stage("Features") as report:
        table = describe(sae, codes, x_MD, report)
    with console.stage("Families") as report:
        coactivation = coactivate(codes, report)
        levels_N = sae.levels_N()
        config = default_config(levels_N)
        chance = by_chance(codes, config, levels_N, seed)
        forest = replace(grow(coactivation, config, levels_N), chance=chance)
    return Described(table, coactivation, forest)


def match_saes(spaces: list[FeatureSet], console: Console) -> list[FeatureSet]:
    """Each SAE with its matches in each other one, where there are several."""
    if len(spaces) == 1:
        return spaces
    found: list[FeatureSet] = []
    with console.stage("Matching SAEs") as report:
        for space in spaces:
            others = {other.name: other for other in spaces if other is not space}
            matches = {name: splitting.match(space, other) for name, other in others.items()}
            shares = {name: splitting.compare(space, others[name], match) for name, match in matches.items()}
            found.append(replace(space, matches=matches, metrics={**space.metrics, "splitting": shares}))
            report(len(found), len(spaces))
    return found


# --- files ----------------------------------------------------------------------------------------


def write_documents(folder: Path, x_MD: NDArray[np.float32], documents: Sequence[Document]) -> None:
    """Write the vectors of documents, and by what they are filtered."""
    VectorIndex.build(x_MD).save(folder / "index.faiss")
    save_metadata(folder / "metadata", documents)


def save_metadata(folder: Path, documents: Sequence[Document]) -> None:
    """Years (0 unknown), venues (-1 none), citations (-1 unknown), and the categories of each document.

    These stand one after the other, `category_ptr` saying where they begin. Documents are read once.
    """
    n = len(documents)
    years, citations = np.zeros(n, dtype=np.int16), np.full(n, -1, dtype=np.int64)
    of_venue, n_categories = np.full(n, -1, dtype=np.int32), np.zeros(n, dtype=np.int64)
    venue_codes: dict[str, int] = {}
    category_codes: dict[str, int] = {}
    of_category: list[int] = []
    for position, document in enumerate(documents):
        years[position] = document.year or 0
        if document.citations is not None:
            citations[position] = document.citations
        if document.venue:
            of_venue[position] = venue_codes.setdefault(document.venue, len(venue_codes))
        names = dict.fromkeys(document.categories.split())
        n_categories[position] = len(names)
        of_category += [category_codes.setdefault(name, len(category_codes)) for name in names]
    venues, of_venue = _in_order(venue_codes, of_venue)
    categories, sorted_categories = _in_order(category_codes, np.array(of_category, dtype=np.int32))
    arrays: dict[str, NDArray[Any]] = {
        "years": years,
        "venue_codes": of_venue,
        "citations": citations,
        "category_ptr": pointers(n_categories),
        "category_codes": sorted_categories,
    }
    artifact.save_arrays(folder, arrays)
    artifact.save_json(folder / "venues.json", venues)
    artifact.save_json(folder / "categories.json", categories)


def _in_order(codes: dict[str, int], numbers: NDArray[np.int32]) -> tuple[list[str], NDArray[np.int32]]:
    """Names by alphabet instead of by first appearance, and the numbers that stand for them; -1 stays."""
    names = sorted(codes)
    new = np.full(len(names) + 1, -1, dtype=np.int32)  # the last one is that of -1
    new[[codes[name] for name in names]] = np.arange(len(names))
    return names, new[numbers]
