"""Labels by a language model: one prompt names a feature, one predicts from the name, one names families.

The interpreter and the predictor are those of arXiv 2408.00657 in outline, with harder tests. Every answer
is kept on disk as soon as it is there, so that a run that was stopped asks nothing twice. What stands in
documents is quoted, never obeyed, as far as a prompt can see to that; the tournament (`scores`) sees to the
rest: a name that a document dictated predicts nothing.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.resources
import json
import logging
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from sae_core.corpus import Document
from sae_core.endpoint import Client, Endpoint, run_apart
from sae_core.errors import AnswerError, EndpointError, SaefariError, tidy
from sae_core.files import explain_write_errors
from sae_core.labels import MAX_LETTERS
from sae_core.labels.endpoint import OPTIONS, ask, find_json
from sae_core.labels.scores import Sample

VERSION = 1  # of the lines in the cache
MARK = "~~~~"  # begins the lines around what a document says
# Documents in the interpreter's prompt. With MAX_TEXT they leave room for an answer in a context of 4,096
# tokens, which is what Ollama gives unless it is told otherwise, cutting longer prompts without a word.
N_STRONGEST, N_TYPICAL, N_NEAR, N_RANDOM = 6, 3, 4, 3
N_TOGETHER = 10  # documents in one question to the predictor
N_CHILDREN = 30  # names in the family's prompt
MAX_LABELS = 3
MAX_WORDS = 12  # asked for are 8; a longer answer is a sentence and no name
MAX_TEXT, MAX_REASONING = 700, 1500  # letters
MAX_IN_A_ROW = 10  # questions without a usable answer, after which no more are asked
# For estimates: letters of English per token, and tokens of an answer.
LETTERS_PER_TOKEN, TOKENS_OF_NAMES, TOKENS_OF_NUMBER = 4.0, 150, 8

logger = logging.getLogger(__name__)


# --- what is asked and answered ---------------------------------------------------------------------


@dataclass(frozen=True)
class Prompt:
    """A file of `prompts/`: instructions, a line with ---, and the question with $places to fill."""

    name: str
    text: str

    @classmethod
    def load(cls, name: str) -> Prompt:
        """The prompt of that name."""
        file = importlib.resources.files("sae_core.labels") / "prompts" / f"{name}.md"
        return cls(name, file.read_text(encoding="utf-8"))

    @cached_property
    def digest(self) -> str:
        """Changes with every letter of the prompt."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def version(self) -> str:
        """Name and digest, as evidence has them."""
        return f"{self.name}@{self.digest}"

    def messages(self, places: Mapping[str, str]) -> list[dict[str, str]]:
        """What is sent; `places` are filled in once, so that a $ in a document stays a $."""
        instructions, _, question = self.text.partition("\n---\n")
        return [
            {"role": "system", "content": Template(instructions).substitute(mark=MARK).strip()},
            {"role": "user", "content": Template(question).substitute(places).strip()},
        ]


INTERPRETER, PREDICTOR, FAMILY = (Prompt.load(name) for name in ("interpreter", "predictor", "family"))


class Interpretation(BaseModel):
    """Names for a feature or a family, best first, and why."""

    reasoning: str = ""
    labels: list[str]

    @field_validator("reasoning")
    @classmethod
    def _tidy(cls, value: str) -> str:
        return tidy(value, MAX_REASONING)

    @field_validator("labels")
    @classmethod
    def _keep_names(cls, value: list[str]) -> list[str]:
        kept: dict[str, str] = {}
        for text in map(_name, value):
            if text:
                kept.setdefault(text.casefold(), text)
        if not kept:
            raise ValueError(f"no name in it, or none of at most {MAX_WORDS} words")
        return list(kept.values())[:MAX_LABELS]


class Confidences(BaseModel):
    """For each text of a question, by its number, how sure the model is that the feature fires: -1 to 1."""

    confidence: dict[int, float]

    @field_validator("confidence")
    @classmethod
    def _check(cls, value: dict[int, float], info: ValidationInfo) -> dict[int, float]:
        wanted = set(range(1, (info.context or {})["n"] + 1))
        if value.keys() != wanted:
            raise ValueError(f"numbers for {len(value)} texts, not for texts 1 to {len(wanted)}")
        if not all(-1 <= number <= 1 for number in value.values()):  # also refuses what is not a number
            raise ValueError("a confidence outside -1 to 1")
        return value


@dataclass(frozen=True)
class Question:
    """One call: a filled prompt, and the form that the answer must have."""

    prompt: Prompt
    messages: list[dict[str, str]]
    form: type[BaseModel]
    n: int = 0  # texts that need a number

    def read(self, text: str) -> BaseModel:
        """The answer in a model's text. ValueError if it is not there."""
        return self.parse(find_json(text))

    def parse(self, value: Any) -> BaseModel:
        """The answer, checked. ValidationError, a ValueError, if it is another thing."""
        return self.form.model_validate(value, context={"n": self.n})

    def key(self, model: str) -> str:
        """The same for the same model, prompt and texts."""
        whole = json.dumps([model, self.prompt.digest, self.messages], ensure_ascii=False)
        return hashlib.sha256(whole.encode()).hexdigest()

    @property
    def tokens_in(self) -> int:
        """About how many tokens are sent."""
        return math.ceil(sum(len(each["content"]) for each in self.messages) / LETTERS_PER_TOKEN)

    @property
    def tokens_out(self) -> int:
        """About how many tokens come back, from a model that does not think aloud."""
        return TOKENS_OF_NUMBER * (self.n + 1) if self.n else TOKENS_OF_NAMES


@dataclass(frozen=True)
class Answer:
    """What was answered, and when."""

    value: Any  # of the question's form
    made: str  # ISO date
    tokens_in: int = 0  # as the endpoint counts; 0: it does not say, or the answer was in the cache
    tokens_out: int = 0


def interpreter_question(
    sample: Sample, strengths: NDArray[np.float64], read: Callable[[Sequence[int]], list[Document]]
) -> tuple[Question, list[int], list[int]]:
    """What a feature's name is asked with, and the positions of the documents shown with and without it.

    `strengths` are those of `sample.positives`, 0 to 10; `read` gives documents by position.
    """
    positives = sample.positives
    places = list(range(min(N_STRONGEST, len(positives))))
    rest = np.arange(len(places), len(positives))
    if len(rest):
        places += np.unique(rest[np.linspace(0, len(rest) - 1, N_TYPICAL).round().astype(int)]).tolist()
    shown = positives[places].tolist()
    silent = [*sample.near[:N_NEAR].tolist(), *sample.random[:N_RANDOM].tolist()]
    notes = [f"fires, strength {strengths[place]:.1f}" for place in places] + ["silent"] * len(silent)
    quoted = _quote(read([*shown, *silent]), notes)
    messages = INTERPRETER.messages({"documents": quoted})
    return Question(INTERPRETER, messages, Interpretation), shown, silent


def family_question(parent: str, children: Sequence[str]) -> Question:
    """What a family's name is asked with: the names of its features."""
    listed = "\n".join(f"* {_quotable(child)}" for child in children[:N_CHILDREN])
    messages = FAMILY.messages({"parent": _quotable(parent), "children": listed})
    return Question(FAMILY, messages, Interpretation)


def _quote(documents: Sequence[Document], notes: Sequence[str]) -> str:
    """Documents between marks that none of them can forge."""
    blocks = []
    for number, (document, note) in enumerate(zip(documents, notes, strict=True), start=1):
        text = _quotable(f"{document.title}. {document.abstract}")
        head = f"{MARK} text {number}" + (f", {note}" if note else "")
        blocks.append(f"{head} {MARK}\n{text}\n{MARK} end of text {number} {MARK}")
    return "\n\n".join(blocks)


@functools.lru_cache(maxsize=8192)  # a document is asked about for every candidate
def _quotable(text: str) -> str:
    return tidy(re.sub(r"~{2,}", "~", text[: 2 * MAX_TEXT]), MAX_TEXT)


def _name(text: str) -> str:
    """A label as it may be shown; "" for what is no name."""
    if len(text) > 2 * MAX_LETTERS:
        return ""
    shown = tidy(text).strip("\"'`*.“”«» ")
    return shown if len(shown.split()) <= MAX_WORDS and any(map(str.isalnum, shown)) else ""


# --- the cache --------------------------------------------------------------------------------------


class _Cache:
    """The answers of one model to one prompt: a file to which a line is added for each.

    A line that a kill cut off, that is damaged, or that another version wrote is left out; all are counted
    in a message.
    """

    def __init__(self, folder: Path, model: str, prompt: Prompt) -> None:
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", model).strip("-.")[:40]
        digest = hashlib.sha256(model.encode()).hexdigest()[:8]
        self.path = folder / f"{readable}-{digest}-{prompt.name}-{prompt.digest}.jsonl"
        self._lines: dict[str, dict[str, Any]] = {}
        self._needs_break = False
        if self.path.is_file():
            self._read(self.path.read_bytes())

    def _read(self, content: bytes) -> None:
        self._needs_break = not content.endswith(b"\n")
        n_damaged = n_foreign = 0
        for line in filter(None, content.split(b"\n")):
            try:
                entry = json.loads(line)
                version, key, check = entry["version"], entry["key"], entry.pop("check")
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                n_damaged += 1
                continue
            if version != VERSION:
                n_foreign += 1
            elif check != _checksum(entry):
                n_damaged += 1
            else:
                self._lines[key] = entry
        for n, why in ((n_damaged, "are damaged"), (n_foreign, "were written by another version")):
            if n:
                logger.warning("%d answers in %s %s; they are asked for again.", n, self.path, why)

    def find(self, key: str) -> dict[str, Any] | None:
        return self._lines.get(key)

    def add(self, key: str, value: Any, made: str) -> None:
        entry = {"version": VERSION, "key": key, "made": made, "answer": value}
        line = json.dumps({**entry, "check": _checksum(entry)}, ensure_ascii=False).encode() + b"\n"
        with explain_write_errors(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One write to the end of the file: two processes do not tear each other's lines.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, b"\n" + line if self._needs_break else line)
            finally:
                os.close(descriptor)
        self._needs_break = False
        self._lines[key] = entry


def _checksum(entry: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]


# --- asking -----------------------------------------------------------------------------------------


@dataclass
class LanguageModel:
    """A model that is asked many questions at a time, each only once in the life of its cache."""

    endpoint: Endpoint
    folder: Path  # of the cache
    progress: Callable[[int, str], None] = lambda _done, _detail: None  # calls so far, and what failed
    failures: list[AnswerError] = field(default_factory=list)
    problem: SaefariError | None = None  # why no more is asked
    n_asked: int = 0  # answered in this run
    tokens_in: int = 0  # of these, as the endpoint counts
    tokens_out: int = 0

    def __post_init__(self) -> None:
        _ = self.endpoint.url, self.endpoint.headers  # an address or a key that cannot be, is said at once
        self._caches: dict[str, _Cache] = {}
        self._in_a_row = 0

    @property
    def source(self) -> str:
        """As labels have it."""
        return f"llm:{tidy(self.endpoint.model)}"

    def find(self, question: Question) -> Answer | None:
        """The answer, if the cache has it."""
        entry = self._cache(question.prompt).find(question.key(self.endpoint.model))
        if entry is None:
            return None
        try:
            return Answer(question.parse(entry["answer"]), str(entry["made"]))
        except (ValidationError, KeyError):
            return None

    def ask(self, questions: Sequence[Question]) -> list[Answer | None]:
        """The answers in order, None where there is no usable one (`failures`) or none was asked (`problem`).

        What the cache has is not asked. Ctrl-C and kill leave every answer that came in the cache.
        """
        keys = [question.key(self.endpoint.model) for question in questions]
        wanted = dict(zip(keys, questions, strict=True))
        answers = {key: answer for key, question in wanted.items() if (answer := self.find(question))}
        todo = {key: question for key, question in wanted.items() if key not in answers}
        if todo and self.problem is None:
            run_apart(self._ask_all, todo, answers)
        return [answers.get(key) for key in keys]

    async def _ask_all(self, todo: Mapping[str, Question], answers: dict[str, Answer]) -> None:
        pending = iter(todo.items())

        async def work(client: Client) -> None:
            for key, question in pending:
                if self.problem is not None:
                    return
                answer = await self._ask_one(client, key, question)
                if answer is not None:
                    answers[key] = answer
                failed = f"{len(self.failures):,} failed" if self.failures else ""
                self.progress(self.n_asked + len(self.failures), failed)

        async with Client(self.endpoint, OPTIONS) as client, asyncio.TaskGroup() as tasks:
            for _ in range(min(self.endpoint.concurrency, len(todo))):
                tasks.create_task(work(client))

    async def _ask_one(self, client: Client, key: str, question: Question) -> Answer | None:
        made = datetime.now(UTC).date().isoformat()
        try:
            reply = await ask(client, self.endpoint.model, question.messages, question.read)
            self._cache(question.prompt).add(key, reply.value.model_dump(mode="json"), made)
        except AnswerError as error:
            self.failures.append(error)
            self._in_a_row += 1
            if self._in_a_row >= MAX_IN_A_ROW and self.problem is None:
                what = f"{self._in_a_row} questions in a row had no usable answer. The last one: {error.what}"
                self.problem = EndpointError(what, remedy=error.remedy)
            return None
        except SaefariError as error:  # the endpoint, or the disk
            self.problem = self.problem or error
            return None
        self._in_a_row = 0
        self.n_asked += 1
        self.tokens_in += reply.tokens_in
        self.tokens_out += reply.tokens_out
        return Answer(reply.value, made, reply.tokens_in, reply.tokens_out)

    def _cache(self, prompt: Prompt) -> _Cache:
        if prompt.name not in self._caches:
            self._caches[prompt.name] = _Cache(self.folder, self.endpoint.model, prompt)
        return self._caches[prompt.name]


# --- predicting -------------------------------------------------------------------------------------


class LLMPredictor:
    """The model reads a label and, ten at a time in random order, documents: a confidence for each.

    Ten together cost a fraction of ten calls, but are not judged independently of each other.
    """

    def __init__(self, model: LanguageModel, read: Callable[[Sequence[int]], list[Document]]) -> None:
        self._model, self._read = model, read
        self.name = (
            f"confidence of {tidy(model.endpoint.model)}, which reads the label and {N_TOGETHER} documents "
            f"at a time ({PREDICTOR.version})"
        )
        self.unanswered: set[bytes] = set()  # the document lists for which an answer is missing

    def has_answered(self, documents: NDArray[np.int64]) -> bool:
        """Whether every question about these documents had an answer."""
        return documents.tobytes() not in self.unanswered

    def predict(
        self, texts: Sequence[str], documents: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        """Confidences of text i on documents i, -1 to 1; 0 where there was no answer, see `has_answered`."""
        asked = [list(self.questions(text, some)) for text, some in zip(texts, documents, strict=True)]
        answers = iter(self._model.ask([question for each in asked for question, _ in each]))
        results = []
        for some, each in zip(documents, asked, strict=True):
            values = np.zeros(len(some), dtype=np.float32)
            for (_, places), answer in zip(each, answers, strict=False):
                if answer is None:
                    self.unanswered.add(some.tobytes())
                else:
                    values[places] = [answer.value.confidence[number + 1] for number in range(len(places))]
            results.append(values)
        return results

    def questions(
        self, text: str, documents: NDArray[np.int64]
    ) -> Iterator[tuple[Question, NDArray[np.int64]]]:
        """The questions about one label, each with the places in `documents` that it is about."""
        # The order tells nothing of the answer, and is the same when the question comes again.
        seed = hashlib.sha256(text.encode() + documents.astype(np.int64).tobytes()).digest()
        order = np.random.default_rng(int.from_bytes(seed[:8], "little")).permutation(len(documents))
        for start in range(0, len(order), N_TOGETHER):
            places = order[start : start + N_TOGETHER]
            quoted = _quote(self._read(documents[places].tolist()), [""] * len(places))
            filled = {"label": _quotable(text), "documents": quoted, "n": str(len(places))}
            yield Question(PREDICTOR, PREDICTOR.messages(filled), Confidences, len(places)), places


def estimate(questions: Iterable[Question]) -> tuple[int, int, int]:
    """Number of calls, and about how many tokens they send and get back."""
    n = tokens_in = tokens_out = 0
    for question in questions:
        n, tokens_in, tokens_out = n + 1, tokens_in + question.tokens_in, tokens_out + question.tokens_out
    return n, tokens_in, tokens_out
