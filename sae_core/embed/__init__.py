"""Texts to unit vectors: the bundled MiniLM, any sentence-transformers model, or one behind an endpoint.

Embedding is most of a build, so `embed_corpus` keeps every vector in a cache keyed by the sha256 of its
text: a run that was interrupted, or a corpus that has grown, embeds nothing twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sae_core.embed.corpus import KeptEmbedder, embed_corpus, missing_texts
from sae_core.embed.local import BUNDLED, MAX_PIECES, TorchEmbedder, bundled_model, load_local, load_openvino
from sae_core.embed.model import Embedder, RowsError, Truncated
from sae_core.embed.remote import PREFIX, Estimate, RemoteEmbedder, estimate, fingerprint_of, is_near
from sae_core.endpoint import Endpoint
from sae_core.errors import EmbeddingError

__all__ = [
    "BUNDLED", "MAX_PIECES", "Embedder", "Estimate", "KeptEmbedder", "RowsError", "TorchEmbedder",
    "bundled_model", "embed_corpus", "foresee", "identity", "is_remote", "is_same", "load_again",
    "load_embedder", "load_openvino",
]  # fmt: skip


def load_embedder(
    spec: str = BUNDLED,
    *,
    backend: str = "auto",
    device: str = "auto",
    endpoint: Endpoint | None = None,
    truncate: int | None = None,
) -> Embedder:
    """The encoder named by `spec`.

    "minilm" (bundled, offline), a sentence-transformers path or name, or "openai:MODEL", a model behind
    `endpoint` (whose own `model` does not matter). `backend` and `device` are for those that run here, see
    `load_local`. With `truncate` only the first numbers of a vector are kept, as unit vectors.

    Raises EmbeddingError where a model, a package or a device is missing, an endpoint does not answer or is
    not known, or vectors have fewer numbers than shall be kept.
    """
    if is_remote(spec):
        embedder: Embedder = RemoteEmbedder(replace(_known(endpoint, spec), model=spec.removeprefix(PREFIX)))
    else:
        embedder = load_local(spec, backend=backend, device=device)
    return embedder if truncate in {None, embedder.width} else Truncated(embedder, truncate or 0)


def is_remote(spec: str | None) -> bool:
    """Whether an encoder is behind an endpoint."""
    return spec is not None and spec.startswith(PREFIX)


def _known(endpoint: Endpoint | None, spec: str) -> Endpoint:
    if endpoint is None or not endpoint.base_url:
        what = f"The encoder {spec} is behind an endpoint whose address is not known here."
        remedy = "Set SAEFARI_EMBED_BASE_URL or --embed-base-url, as http://localhost:11434/v1."
        raise EmbeddingError(what, remedy=remedy)
    return endpoint


def foresee(texts: Sequence[str], spec: str, cache_dir: Path) -> Estimate:
    """What an encoder openai:MODEL would be asked, beyond what the cache has; it is not asked now."""
    return estimate(missing_texts(texts, fingerprint_of(spec.removeprefix(PREFIX)), cache_dir))


def load_again(
    said: Mapping[str, Any],
    remedy: str,
    *,
    backend: str = "auto",
    device: str = "auto",
    endpoint: Endpoint | None = None,
) -> Embedder:
    """The encoder of which a manifest says this, which also has its `spec`.

    EmbeddingError as of `load_embedder`, and with `remedy` if what is here by that name is another one.
    """
    embedder = load_embedder(
        said["spec"], backend=backend, device=device, endpoint=endpoint, truncate=said.get("truncate")
    )
    if not is_same(said, embedder):
        raise EmbeddingError("The encoder here is not the one that embedded these documents.", remedy=remedy)
    return embedder


def identity(embedder: Embedder) -> dict[str, Any]:
    """What a manifest says of an encoder, by which `is_same` knows it again."""
    said: dict[str, Any] = {"name": embedder.name, "fingerprint": embedder.fingerprint}
    whole = embedder
    if isinstance(embedder, Truncated):
        whole = embedder.whole
        said["truncate"] = embedder.width
    if isinstance(whole, RemoteEmbedder):
        said["probe"] = whole.probe
    return said


def is_same(said: Mapping[str, Any], embedder: Embedder) -> bool:
    """Whether this is the encoder of which `identity` said this."""
    here = identity(embedder)
    if said.get("fingerprint") != here["fingerprint"]:
        return False
    return "probe" not in said or ("probe" in here and is_near(said["probe"], here["probe"]))
