"""Vectors from an endpoint that speaks OpenAI's embeddings: Ollama, vLLM, llama.cpp, TEI and OpenAI do.

A model behind an endpoint is known by its name and by where it puts a certain sentence: names are given
again to other models, places are not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import logging
import math
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from sae_core.embed.model import RowsError, Vectors, unit_rows
from sae_core.endpoint import EMBEDDINGS, MAX_BYTES, Client, Endpoint, run_apart
from sae_core.errors import EmbeddingError, QuestionRefused, SaefariError, tidy
from sae_core.rows import ZERO_NORM

PREFIX = "openai:"
PROBE = "Dust between the stars reddens their light, and this sentence asks which model reads it."
N_PROBE = 64  # numbers of its vector that are kept
SAME_MODEL = 0.95  # cosine; weights in fewer bits stay above it, another model far below
BATCH_TEXTS, BATCH_TOKENS = 128, 50_000  # of one call
BYTES_PER_TOKEN = 4  # of English; for estimates
MAX_HALVINGS = 6  # of a text that is refused as too long
MAX_WIDTH, BYTES_PER_NUMBER = 16_384, 32  # of an answer, before and after the width is known
# Four times shorter than numbers in decimal. Servers that do not know it refuse it, or ignore it.
OPTIONS = {"encoding_format": "base64"}

Take = Callable[[list[int], Vectors], None]

logger = logging.getLogger(__name__)


class RemoteEmbedder:
    """A model behind an endpoint. Making one asks it for one vector."""

    def __init__(self, endpoint: Endpoint) -> None:
        """EmbeddingError where the endpoint, or the model there, does not answer with a vector."""
        self._endpoint = replace(endpoint, service=EMBEDDINGS)
        try:
            _ = self._endpoint.url, self._endpoint.headers
        except SaefariError as error:
            raise EmbeddingError(error.what, remedy=error.remedy) from error
        self.model = tidy(endpoint.model)
        self.name = f"{self.model} (behind an endpoint)"
        self.fingerprint = fingerprint_of(endpoint.model)
        self.tokens = 0  # as the endpoint counts, since this object was made
        self.width = 0
        probe: list[Vectors] = []
        try:
            self.embed_each([PROBE], lambda _rows, vectors: probe.append(vectors))
        except RowsError as error:
            remedy = "Check --embedder: the model must be one that embeds."
            raise EmbeddingError(
                f"{self.model} embeds not even a short sentence: {error.why}.", remedy=remedy
            ) from error
        self.width = probe[0].shape[1]
        self.probe = [round(float(number), 5) for number in probe[0][0, :N_PROBE]]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows (B, D) in the order of the texts."""
        out_BD = np.empty((len(texts), self.width), dtype=np.float32)

        def take(rows: list[int], vectors: Vectors) -> None:
            out_BD[rows] = vectors

        self.embed_each(texts, take)
        return out_BD

    def embed_each(self, texts: Sequence[str], take: Take) -> None:
        """Hand over the unit rows of each call as soon as it is answered, with their positions in `texts`.

        Several calls are under way at once. Raises RowsError for texts that have no vector, EmbeddingError
        where the endpoint has none for any; calls under way are still taken.
        """
        if not texts:
            return
        run = _Run(self._endpoint, texts, self.width, take)
        run_apart(run.all)
        self.tokens += run.tokens
        if run.cut:
            what = "%s texts are too long for %s and were cut. The first begins: %s"
            logger.warning(what, f"{len(run.cut):,}", self.model, tidy(texts[run.cut[0]], 60))


def fingerprint_of(model: str) -> str:
    """What the cache of this model's vectors is called."""
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", model).strip("-.")[:60]
    return f"openai-{readable}-{hashlib.sha256(model.encode()).hexdigest()[:16]}"


def is_near(probe: Sequence[float], other: Sequence[float]) -> bool:
    """Whether these two are the beginnings of the same vector, as far as both go."""
    n = min(len(probe), len(other))
    a, b = np.asarray(probe[:n], dtype=np.float64), np.asarray(other[:n], dtype=np.float64)
    return float(a @ b) >= SAME_MODEL * float(np.linalg.norm(a) * np.linalg.norm(b))


class Estimate(NamedTuple):
    """What embedding would take."""

    n_texts: int
    n_calls: int
    n_tokens: int


def estimate(texts: Sequence[str]) -> Estimate:
    """Calls, and about how many tokens; each text counts."""
    return Estimate(len(texts), len(_batches(texts)), sum(map(_tokens, texts)))


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def _batches(texts: Sequence[str]) -> list[list[int]]:
    """Texts of like length together, in shuffled order, so that the rate seen so far foretells the rest."""
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(texts)), key=lambda row: len(texts[row])):
        size = _tokens(texts[row])
        if not batches or size > room or len(batches[-1]) == BATCH_TEXTS:
            batches.append([])
            room = BATCH_TOKENS
        batches[-1].append(row)
        room -= size
    return [batches[place] for place in np.random.default_rng(0).permutation(len(batches))]


@dataclass
class _Run:
    """All calls for some texts."""

    endpoint: Endpoint
    texts: Sequence[str]
    width: int  # 0: not known yet
    take: Take
    problem: SaefariError | None = None  # why no more is asked
    tokens: int = 0

    def __post_init__(self) -> None:
        self.cut: list[int] = []
        self._pending = deque(_batches(self.texts))
        self._most = BATCH_TEXTS  # texts of a call; fewer where the endpoint wants fewer
        self._accepted = 0  # most texts of a call that was answered

    async def all(self) -> None:
        """Every text, in several calls at a time; raises the first problem once none is under way."""
        n_workers = min(self.endpoint.concurrency, len(self._pending))
        async with Client(self.endpoint, OPTIONS) as client, asyncio.TaskGroup() as tasks:
            for _ in range(n_workers):
                tasks.create_task(self._work(client))
        if self.problem is not None:
            raise self.problem

    async def _work(self, client: Client) -> None:
        while self._pending and self.problem is None:
            rows = self._pending.popleft()
            if len(rows) > self._most:
                self._pending.appendleft(rows[self._most :])
                rows = rows[: self._most]
            try:
                await self._embed(client, rows)
            except RowsError as error:
                self._stop(error)
            except SaefariError as error:
                self._stop(EmbeddingError(error.what, remedy=error.remedy))

    def _stop(self, problem: SaefariError) -> None:
        self.problem = self.problem or problem

    async def _embed(self, client: Client, rows: list[int]) -> None:
        try:
            vectors = await self._ask(client, rows, [self.texts[row] for row in rows])
        except QuestionRefused as error:
            if len(rows) == 1:
                vectors = await self._embed_shorter(client, rows[0], error)
            else:
                self._divide(rows)
                return
        self._accepted = max(self._accepted, len(rows))
        self._most = max(self._most, len(rows))
        self.take(rows, vectors)

    def _divide(self, rows: list[int]) -> None:
        """A call was refused: it has too many texts, or one that is too long."""
        half = len(rows) // 2
        if len(rows) > self._accepted:
            self._most = max(1, half, self._accepted)
        self._pending.extendleft((rows[half:], rows[:half]))

    async def _embed_shorter(self, client: Client, row: int, error: QuestionRefused) -> Vectors:
        text = self.texts[row]
        for _ in range(MAX_HALVINGS):
            text = text[: len(text) // 2]
            if not text.strip():
                break
            try:
                vectors = await self._ask(client, [row], [text])
            except QuestionRefused as again:
                error = again
            else:
                self.cut.append(row)
                return vectors
        raise RowsError([row], error.what.rstrip(".")) from error

    async def _ask(self, client: Client, rows: list[int], texts: list[str]) -> Vectors:
        # Empty texts are refused by some, and lone surrogates by JSON.
        sent = [text.encode("utf-8", "replace").decode() or " " for text in texts]
        bad: list[int] = []  # places of vectors that are none

        def read(body: str) -> tuple[Vectors, int]:
            vectors, tokens = _read_answer(body, len(texts), self.width)
            bad[:] = _find_bad(vectors)
            if bad:
                raise ValueError("a vector that is zero, or has something in it that is no finite number")
            return unit_rows(vectors, range(len(vectors)), vectors.shape[1]), tokens

        max_bytes = MAX_BYTES + len(texts) * (self.width or MAX_WIDTH) * BYTES_PER_NUMBER
        payload = {"model": self.endpoint.model, "input": sent}
        try:
            vectors, tokens = await client.ask(payload, read, max_bytes)
        except QuestionRefused:
            raise
        except SaefariError as error:
            if bad:
                raise RowsError(sorted(rows[place] for place in bad), error.what.rstrip(".")) from error
            raise
        self.tokens += tokens
        return vectors


# --- what an answer says ---------------------------------------------------------------------------------


def _read_answer(body: str, n: int, width: int) -> tuple[Vectors, int]:
    """The vectors (n, D) in the order of the texts, and the tokens counted; ValueError in words otherwise."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("something that is not JSON, or not all of it") from error
    items = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise ValueError("JSON without a list of vectors")  # noqa: TRY004 (of the text, not of the code)
    if len(items) != n:
        raise ValueError(f"{len(items)} vectors for {n} texts")
    vectors = [_read_vector(item) for item in _in_order(items)]
    widths = {len(vector) for vector in vectors}
    if len(widths) > 1:
        raise ValueError(f"vectors of different lengths ({', '.join(map(str, sorted(widths)[:4]))} numbers)")
    found = widths.pop()
    if found == 0:
        raise ValueError("vectors without numbers")
    if width and found != width:
        raise ValueError(f"vectors of {found} numbers; they had {width} before")
    usage = answer.get("usage")
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return np.stack(vectors), counted if isinstance(counted, int) and counted > 0 else 0


def _in_order(items: list[Any]) -> list[Any]:
    """By their "index", where they have one."""
    places = [item.get("index") if isinstance(item, dict) else None for item in items]
    if all(place is None for place in places):
        return items
    by_place = {place: item for place, item in zip(places, items, strict=True) if isinstance(place, int)}
    if sorted(by_place) != list(range(len(items))):
        raise ValueError('vectors whose "index" does not say of which text they are')
    return [by_place[place] for place in range(len(items))]


def _read_vector(item: Any) -> Vectors:
    """(D,), of numbers or of base64 of little-endian float32."""
    said = item.get("embedding") if isinstance(item, dict) else None
    if isinstance(said, str):
        try:
            return np.frombuffer(base64.b64decode(said, validate=True), dtype="<f4")
        except (binascii.Error, ValueError) as error:
            raise ValueError("a vector in base64 that cannot be read") from error
    if not isinstance(said, list):
        raise ValueError("JSON in which a text has no vector")  # noqa: TRY004 (as above)
    if not all(type(number) in {int, float} or number is None for number in said):
        raise ValueError("a vector of something else than numbers")
    with np.errstate(over="ignore"):
        try:
            return np.array(said, dtype=np.float64).astype(np.float32)  # null becomes NaN
        except OverflowError:
            return np.full(len(said), np.nan, dtype=np.float32)


def _find_bad(vectors: Vectors) -> list[int]:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return np.flatnonzero(~np.isfinite(lengths) | (lengths < ZERO_NORM)).tolist()
