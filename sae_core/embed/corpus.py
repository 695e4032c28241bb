"""The vectors of a corpus, kept by the hash of each text, so that nothing is embedded twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from sae_core.embed.model import Embedder, Progress, RowsError, Truncated, Vectors, unit_rows
from sae_core.embed.remote import RemoteEmbedder, is_near
from sae_core.errors import EmbeddingError, first_line
from sae_core.files import explain_write_errors, write_atomic

GROUP_TEXTS = 64  # texts handed to an embedder between two progress reports
SHARD_TEXTS = 256  # texts in one cache file: what kill -9 can lose
MODEL_FILE = (
    "model.json"  # in the cache of a model behind an endpoint: its width, and where it puts the probe
)
STALE_SECONDS = 3600.0  # an unfinished cache file older than this belongs to nobody

logger = logging.getLogger(__name__)


def embed_corpus(
    texts: Sequence[str], embedder: Embedder, cache_dir: Path, progress: Progress | None = None
) -> Vectors:
    """Unit rows (M, D) of a corpus, in its order; only texts that the cache lacks are embedded.

    The cache has whole vectors, also where `embedder` is `Truncated`. Texts go to the embedder in groups of
    like length, the groups in shuffled order so that the rate seen so far foretells the time left; one
    behind an endpoint makes its own, and each is kept as it comes. Raises RowsError naming the rows of the
    corpus that failed, EmbeddingError where nothing can be embedded; what was embedded before stays in the
    cache.
    """
    whole = embedder.whole if isinstance(embedder, Truncated) else embedder
    cache = _open_cache(whole, cache_dir)
    filling = _Filling(texts, embedder, progress or (lambda _done, _total: None))
    filling.place(cache.read())
    try:
        if isinstance(whole, RemoteEmbedder):
            _embed_remotely(filling, whole, cache)
        else:
            _embed_in_groups(filling, whole, cache)
    finally:  # an error or Ctrl-C keeps what was embedded
        cache.flush()
    return filling.out_MD


class KeptEmbedder:
    """An embedder that never embeds a text again that it had before, in this process or another.

    For short texts that are asked for again and again; all their vectors are in memory.
    """

    def __init__(self, embedder: Embedder, cache_dir: Path) -> None:
        self._whole = embedder.whole if isinstance(embedder, Truncated) else embedder
        self._shorten = embedder.shorten if isinstance(embedder, Truncated) else None
        self._cache = _open_cache(self._whole, cache_dir)
        self._known = dict(self._cache.read())
        self.name, self.fingerprint, self.width = embedder.name, embedder.fingerprint, embedder.width

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows (B, D) in the order of the texts."""
        keys = [_key(text) for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            for key, vector in zip(new, self._whole.embed(list(new.values())), strict=True):
                self._known[key] = vector
                self._cache.add(key, vector)
            self._cache.flush()
        if not keys:
            return np.empty((0, self.width), dtype=np.float32)
        whole_BD = np.stack([self._known[key] for key in keys])
        return whole_BD if self._shorten is None else self._shorten(whole_BD)


def missing_texts(texts: Sequence[str], fingerprint: str, cache_dir: Path) -> Sequence[str]:
    """Those that the cache of a model behind an endpoint lacks, each once; the endpoint is not asked."""
    wanted = {_key(text): row for row, text in enumerate(texts)}
    folder = cache_dir / fingerprint
    width, _ = _read_model(folder)
    if width:
        for key, _ in _Cache(folder, width).read():
            wanted.pop(key, None)
    return _Rows(texts, list(wanted.values()))


class _Rows(Sequence[str]):
    """Some rows of texts that may lie on disk: none of them is kept."""

    def __init__(self, texts: Sequence[str], rows: list[int]) -> None:
        self._texts, self._rows = texts, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> _Rows: ...
    def __getitem__(self, at: int | slice) -> str | _Rows:
        if isinstance(at, slice):
            return _Rows(self._texts, self._rows[at])
        return self._texts[self._rows[at]]


class _Filling:
    """The matrix that is being filled, and the texts that still lack a row."""

    def __init__(self, texts: Sequence[str], embedder: Embedder, progress: Progress) -> None:
        self.texts = texts
        self.out_MD = np.empty((len(texts), embedder.width), dtype=np.float32)
        self.wanted: dict[bytes, list[int]] = {}  # rows by text
        for row, text in enumerate(texts):
            self.wanted.setdefault(_key(text), []).append(row)
        self._shorten = embedder.shorten if isinstance(embedder, Truncated) else None
        self._progress, self._done = progress, 0

    def place(self, found: Iterable[tuple[bytes, Vectors]]) -> None:
        """Put vectors where their texts are; those of other texts are left out."""
        for key, vector in found:
            rows = self.wanted.pop(key, [])
            if rows:
                self.out_MD[rows] = vector if self._shorten is None else self._shorten(vector[None])[0]
                self._done += len(rows)
        self._progress(self._done, len(self.texts))


def _embed_in_groups(filling: _Filling, embedder: Embedder, cache: _Cache) -> None:
    texts, wanted = filling.texts, filling.wanted
    missing = sorted(wanted, key=lambda key: len(texts[wanted[key][0]]))
    groups = [missing[start : start + GROUP_TEXTS] for start in range(0, len(missing), GROUP_TEXTS)]
    for position in np.random.default_rng(0).permutation(len(groups)):
        group = groups[position]
        vectors = _embed_group(texts, [wanted[key][0] for key in group], embedder)
        for key, vector in zip(group, vectors, strict=True):
            cache.add(key, vector)
        filling.place(zip(group, vectors, strict=True))


def _embed_remotely(filling: _Filling, embedder: RemoteEmbedder, cache: _Cache) -> None:
    """Each answer is on the disk before the next is looked at: only what is under way can be lost."""
    keys = list(filling.wanted)
    rows = [filling.wanted[key][0] for key in keys]

    def take(places: list[int], vectors: Vectors) -> None:
        found = [keys[place] for place in places]
        for key, vector in zip(found, vectors, strict=True):
            cache.add(key, vector)
        cache.flush()
        filling.place(zip(found, vectors, strict=True))

    try:
        embedder.embed_each(_Rows(filling.texts, rows), take)
    except RowsError as error:
        raise _in_corpus([rows[place] for place in error.rows], filling.texts, error.why) from error
    except EmbeddingError as error:
        remedy = f"{error.remedy} What was embedded so far is kept.".strip()
        raise EmbeddingError(error.what, remedy=remedy) from error


def _embed_group(texts: Sequence[str], rows: list[int], embedder: Embedder) -> Vectors:
    """One group through the embedder, its result checked again: an embedder may come from anywhere."""
    try:
        return unit_rows(embedder.embed([texts[row] for row in rows]), range(len(rows)), embedder.width)
    except RowsError as error:
        raise _in_corpus([rows[row] for row in error.rows], texts, error.why) from error
    except Exception as error:
        raise _in_corpus(rows, texts, first_line(error)) from error


def _in_corpus(rows: list[int], texts: Sequence[str], why: str) -> RowsError:
    rows = sorted(rows)
    start = " ".join(texts[rows[0]][:200].split())[:60]
    return RowsError(
        rows,
        f"{why}; the first begins {start!r}",
        remedy="Mend or remove these documents, or try another embedder; what was embedded so far is kept.",
    )


def _read_model(folder: Path) -> tuple[int, list[float]]:
    """Width and probe of the model whose vectors a folder has; 0 where nothing is known of it."""
    try:
        said = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
        return int(said["width"]), [float(number) for number in said["probe"]]
    except (OSError, ValueError, TypeError, KeyError):
        return 0, []


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _open_cache(embedder: Embedder, cache_dir: Path) -> _Cache:
    cache = _Cache(cache_dir / embedder.fingerprint, embedder.width)
    if isinstance(embedder, RemoteEmbedder):
        cache.check_model(embedder)
    return cache


@dataclass
class _Cache:
    """Vectors by text hash: a folder of small files, each written whole and never changed.

    A file is sha256(payload), then the payload: n hashes of 32 bytes, then n vectors of D little-endian
    float32. Names are unique, so several processes may add files at once; a text that two of them
    embedded is stored twice, without harm.
    """

    folder: Path
    width: int

    def __post_init__(self) -> None:
        self._keys: list[bytes] = []
        self._vectors: list[Vectors] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def read(self) -> Iterator[tuple[bytes, Vectors]]:
        """Every hash with its vector; damaged files are reported, removed and otherwise ignored."""
        for leftover in self.folder.glob("*.tmp"):
            with contextlib.suppress(FileNotFoundError):  # another process has just given it its name
                if time.time() - leftover.stat().st_mtime > STALE_SECONDS:
                    leftover.unlink()
        for path in sorted(self.folder.glob("*.shard")):
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # another process found it damaged first
                continue
            count, rest = divmod(len(content) - 32, 32 + 4 * self.width)
            if count < 1 or rest or hashlib.sha256(content[32:]).digest() != content[:32]:
                logger.warning("Embedding cache file %s is damaged; its texts are embedded again.", path)
                path.unlink(missing_ok=True)
                continue
            vectors = np.frombuffer(content, dtype="<f4", offset=32 + 32 * count).reshape(count, self.width)
            for position in range(count):
                yield content[32 + 32 * position : 64 + 32 * position], vectors[position]

    def check_model(self, embedder: RemoteEmbedder) -> None:
        """EmbeddingError if the vectors kept here are of another model of the same name."""
        width, probe = _read_model(self.folder)
        if not width:
            with explain_write_errors(self.folder):
                said = json.dumps({"width": embedder.width, "probe": embedder.probe})
                write_atomic(self.folder / MODEL_FILE, said.encode())
        elif width != embedder.width or not is_near(probe, embedder.probe):
            what = f"{embedder.model} now gives other vectors than those in {self.folder}."
            remedy = "Ask the model that made them, or remove that folder to embed everything again."
            raise EmbeddingError(what, remedy=remedy)

    def add(self, key: bytes, vector: Vectors) -> None:
        """Keeps one vector; it reaches the disk with its shard."""
        self._keys.append(key)
        self._vectors.append(vector)
        if len(self._keys) >= SHARD_TEXTS:
            self.flush()

    def flush(self) -> None:
        """Writes what was added: under a temporary name, forced to the disk, then renamed."""
        if not self._keys:
            return
        payload = b"".join(self._keys) + np.stack(self._vectors).astype("<f4").tobytes()
        self._keys, self._vectors = [], []
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        temporary = self.folder / f"{name}.tmp"
        try:
            with temporary.open("wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.folder / f"{name}.shard")
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> EmbeddingError:
        why = error.strerror or str(error)
        return EmbeddingError(
            f"The embedding cache {self.folder} cannot be written: {why}.",
            remedy="Free some space or choose another folder, then run the same command again.",
        )
