"""A corpus whose features and families we planted, so that the tests know what must be found.

48 unit directions in 32 dimensions. Topic i has an invented word; a document holds the words of the topics
it is about, one to three times, and the embedder adds up their directions. Topics come in families: where a
child topic is, its parent mostly is too.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.catalog import write_catalogue
from sae_core.build import BuildConfig, build
from sae_core.corpus import Corpus, Document
from sae_core.explorer import Explorer
from sae_core.labels.predictors import embed_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

N_TOPICS, WIDTH = 48, 32
N_FAMILIES, N_CHILDREN = 4, 5  # family f: parent topic 6 f, children 6 f + 1 .. 6 f + 5
N_DOCUMENTS = 3000
PARENT_TOO = 0.7  # share of a child's documents that are about its parent as well
SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "le", "mi", "no", "ru", "sa", "ve")


def word(topic: int) -> str:
    """The invented word of a topic."""
    first, second = divmod(topic, len(SYLLABLES))
    return SYLLABLES[second] + SYLLABLES[(first * 5 + second + 1) % len(SYLLABLES)] + SYLLABLES[first] + "n"


WORDS = [word(topic) for topic in range(N_TOPICS)]


def directions() -> NDArray[np.float32]:
    """The planted unit directions, (48, 32), pushed apart so that none hides behind another."""
    rng = np.random.default_rng(7)
    d_ND = rng.standard_normal((N_TOPICS, WIDTH))
    for _ in range(300):
        d_ND /= np.linalg.norm(d_ND, axis=1, keepdims=True)
        gram = d_ND @ d_ND.T
        np.fill_diagonal(gram, 0)
        d_ND -= 0.1 * (gram**3) @ d_ND
    d_ND /= np.linalg.norm(d_ND, axis=1, keepdims=True)
    return d_ND.astype(np.float32)


def parent(topic: int) -> int | None:
    """The parent topic of a child topic."""
    family, place = divmod(topic, N_CHILDREN + 1)
    return family * (N_CHILDREN + 1) if family < N_FAMILIES and place > 0 else None


class PlantedEmbedder:
    """Adds up the directions of the planted words of a text, with noise that depends on the text alone."""

    name = "planted"
    fingerprint = "planted-1"
    width = WIDTH

    def __init__(self) -> None:
        self._directions_ND = directions()
        self.n_embedded = 0

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows (B, 32)."""
        self.n_embedded += len(texts)
        return np.stack([self._one(text) for text in texts])

    def _one(self, text: str) -> NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        x_D = 0.005 * np.random.default_rng(seed).standard_normal(WIDTH)
        for found in re.findall(r"[a-z]+", text.lower()):
            if found in WORDS:
                x_D += self._directions_ND[WORDS.index(found)]
        x_D /= np.linalg.norm(x_D)
        return x_D.astype(np.float32)


def documents(n: int = N_DOCUMENTS) -> list[Document]:
    """Documents about one to three topics; the first few hold what must never run or crash."""
    rng = np.random.default_rng(3)
    made = [_document(i, rng) for i in range(n)]
    odd = [
        "<script>alert('title')</script> bold & sharp",
        "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
        "$\\alpha < \\beta$ in a title",
    ]
    for i, title in enumerate(odd):
        whole = made[i]
        made[i] = Document(
            id=f"odd/{i}.v1",
            title=f"{title} {whole.title}",
            abstract=whole.abstract,
            venue="<script>venue</script>" if i == 0 else "",
            url="https://example.org/?a=1&b=2" if i == 0 else "",
            doi=f"10.5555/{'long' * 40}?&#" if i == 0 else "",
        )
    return made


def _document(i: int, rng: np.random.Generator) -> Document:
    topics: set[int] = set()
    for topic in rng.permutation(N_TOPICS)[: rng.integers(1, 4)]:
        topics.add(int(topic))
        above = parent(int(topic))
        if above is not None and rng.random() < PARENT_TOO:
            topics.add(above)
    words = [WORDS[topic] for topic in sorted(topics) for _ in range(rng.integers(1, 4))]
    return Document(
        id=f"doc-{i:04}",
        title=f"Study {i} of " + " and ".join(dict.fromkeys(words)),
        abstract="We look at " + ", ".join(words) + f" in sample {i}.",
        year=2001 + i % 20,
        venue=f"Journal {i % 5}",
        authors="Ada Field; Bo Lin" if i % 3 else "",
        citations=i % 17 if i % 4 else None,
        doi=f"10.5555/planted.{i}" if i % 2 else "",
        categories=" ".join(dict.fromkeys(f"group-{topic // (N_CHILDREN + 1)}" for topic in sorted(topics))),
    )


class SilentConsole:
    """A build that shows nothing."""

    def stage(self, _name: str) -> AbstractContextManager[Any]:
        """Begin a stage."""
        return nullcontext(lambda _done, _total, _detail="": None)


def planted_collection(
    home: Path,
    name: str = "planted",
    *,
    n: int = N_DOCUMENTS,
    spoil: Callable[[Document], Document] = lambda document: document,
    **options: Any,
) -> Path:
    """Build a real collection below `home`, of documents that `spoil` may change; its folder."""
    embedder = PlantedEmbedder()
    home.mkdir(parents=True, exist_ok=True)
    corpus = Corpus([spoil(document) for document in documents(n)], [])
    path = home / f"{name}.npy"
    np.save(path, embedder.embed([document.text for document in corpus.documents]))
    sizes: dict[str, Any] = {"latents": (64,), "ks": (3,), "steps": 2500, "stability": False, **options}
    config = BuildConfig(name=name, title="Planted topics", embedder=None, embeddings=path, **sizes)
    build(corpus, config, home, SilentConsole(), write_catalogue)
    return home / "collections" / name


def load_planted(home: Path, name: str = "planted") -> Explorer:
    """The Explorer of a planted collection, with its encoder."""
    explorer = Explorer.load(home / "collections" / name)
    explorer.manifest["embedder"] |= {"fingerprint": PlantedEmbedder.fingerprint}
    explorer.attach_encoder(embedder := PlantedEmbedder())
    explorer.saes = {
        name: replace(space, label_vectors_ND=embed_labels(space.labels, embedder))
        for name, space in explorer.saes.items()
    }
    return explorer
