"""One question to a language model, through any endpoint that speaks OpenAI's chat completions.

Ollama, vLLM, llama.cpp and OpenAI do. Nothing of what an endpoint sends is trusted: how long it takes, how
much it sends and what that is are all bounded and checked, and the key is cut out of everything it says.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, Field, ValidationError

from sae_core.errors import AnswerError, EndpointError, SaefariError
from sae_core.labels import tidy

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

MAX_BYTES = 2**20  # of an answer; thousands of words of reasoning fit
MAX_ANSWER_TOKENS = 4096
CONNECT_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a question is asked again; doubled each time
PATIENCE = 120.0  # seconds; an endpoint that wants a longer pause is left in peace
MAX_STARTS = 2000  # braces in an answer at which an object is looked for
MAX_SAID = 200  # characters of what an endpoint says about an error
# How often a question is asked when it fails in this way.
TRIES_BUSY, TRIES_BROKEN, TRIES_LATE, TRIES_UNUSABLE, TRIES_TOO_LARGE = 6, 4, 2, 3, 2
# What some servers refuse; left out, one after the other, where they do.
OPTIONS: dict[str, Any] = {
    "response_format": {"type": "json_object"},
    "max_tokens": MAX_ANSWER_TOKENS,
    "temperature": 0,
}

OK, BAD_REQUEST, UNPROCESSABLE = 200, 400, 422
REFUSED = {401: "refuses the key", 402: "wants to be paid first", 403: "refuses the key"}
BUSY = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}

T = TypeVar("T")


@dataclass(frozen=True)
class Endpoint:
    """Where a language model answers, and how it may be asked."""

    base_url: str  # as http://localhost:11434/v1; without a path, /v1 is meant
    model: str
    key: str = field(default="", repr=False)
    concurrency: int = 4  # questions at the same time
    timeout: float = 120.0  # seconds for one answer, from the first byte sent to the last one read

    @property
    def url(self) -> str:
        """The address of chat completions. SaefariError for what is no address."""
        try:
            parts = urlsplit(self.base_url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or parts.username or parts.query or parts.fragment:
            what = f"{tidy(self.base_url)!r} is not the address of an endpoint."
            raise SaefariError(what, remedy="Give one like http://localhost:11434/v1.")
        path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
        return f"{parts.scheme}://{parts.netloc}{path}/chat/completions"

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def headers(self) -> dict[str, str]:
        """With the key, if there is one. SaefariError (which does not repeat it) if it fits no header."""
        if not self.key:
            return {}
        if not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            what = "The key of the language model has characters that no key has."
            raise SaefariError(what, remedy="Set SAEFARI_LLM_API_KEY again, without spaces or line breaks.")
        return {"Authorization": f"Bearer {self.key}"}


class Reply(NamedTuple, Generic[T]):
    """An answer, and the tokens that the endpoint says it took (0: it does not say)."""

    value: T
    tokens_in: int
    tokens_out: int


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message
    finish_reason: Any = None


class _Completion(BaseModel):
    """The part of an answer that is read; the rest differs from server to server."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Any = None


class _Again(Exception):
    """One try did not work; the same question may, after a pause of at least `pause` seconds."""

    def __init__(self, error: SaefariError, tries: int, pause: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.tries, self.pause = error, tries, pause


class Client:
    """Asks an endpoint, within one event loop; `async with` it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._url = endpoint.url
        self._options = OPTIONS
        self._quiet_until = 0.0  # the endpoint asked for a pause: for all questions
        limit = httpx2.Limits(max_connections=endpoint.concurrency)
        self._http = httpx2.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "identity", **endpoint.headers},
            # The total is watched in `_post`; this ends a connection that nothing comes from.
            timeout=httpx2.Timeout(endpoint.timeout, connect=min(CONNECT_SECONDS, endpoint.timeout)),
            limits=limit,
            trust_env=not endpoint.is_local,  # no proxy leads to this machine
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def ask(self, messages: list[dict[str, str]], read: Callable[[str], T]) -> Reply[T]:
        """The answer to these messages as `read` understands it; `read` raises ValueError if it does not.

        Asks again, after pauses, where that may help. Raises AnswerError when this question has no usable
        answer, and EndpointError when no question will have one.
        """
        tries = 0
        while True:
            await asyncio.sleep(max(0.0, self._quiet_until - time.monotonic()))
            try:
                return await self._ask_once(messages, read)
            except _Again as again:
                tries += 1
                if tries >= again.tries:
                    raise again.error from again
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))
                # Jitter: questions that failed together do not come back together.
                await asyncio.sleep(max(again.pause, pause * random.uniform(0.5, 1.5)))  # noqa: S311

    async def _ask_once(self, messages: list[dict[str, str]], read: Callable[[str], T]) -> Reply[T]:
        options = dict(self._options)
        while True:
            status, headers, body = await self._post(messages, options)
            if status in (BAD_REQUEST, UNPROCESSABLE) and options:
                named = [name for name in options if name in body]
                del options[named[0] if named else next(iter(options))]
                continue
            if status != OK:
                raise self._refusal(status, headers, body)
            reply = self._understand(body, read)
            self._options = options  # what this server accepts
            return reply

    async def _post(
        self, messages: list[dict[str, str]], options: dict[str, Any]
    ) -> tuple[int, httpx2.Headers, str]:
        payload = {"model": self._endpoint.model, "messages": messages, **options}
        try:
            async with (
                asyncio.timeout(self._endpoint.timeout),
                self._http.stream("POST", self._url, json=payload) as response,
            ):
                body = bytearray()
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > MAX_BYTES:
                        raise _Again(self._unusable(f"more than {MAX_BYTES:,} bytes"), TRIES_TOO_LARGE)
        except (TimeoutError, httpx2.ReadTimeout, httpx2.WriteTimeout) as error:
            what = f"No answer from {self._where} within {self._endpoint.timeout:g} s."
            raise _Again(AnswerError(what, remedy="Give it longer with --timeout."), TRIES_LATE) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            what = f"{self._where} cannot be reached: {self._plain(str(error)) or type(error).__name__}."
            remedy = "Start the server or check --llm-base-url, then give the same command again."
            raise _Again(EndpointError(what, remedy=remedy), TRIES_BROKEN) from error
        except httpx2.RequestError as error:  # reset, cut off, not HTTP
            what = f"{self._where} broke the connection: {self._plain(str(error)) or type(error).__name__}."
            raise _Again(AnswerError(what, remedy="Ask again later."), TRIES_BROKEN) from error
        text = body.decode("utf-8", errors="replace")
        if self._endpoint.key:
            text = text.replace(self._endpoint.key, "(the key)")  # some repeat it, in errors or in answers
        return response.status_code, response.headers, text

    def _understand(self, body: str, read: Callable[[str], T]) -> Reply[T]:
        try:
            completion = _Completion.model_validate_json(body)
        except ValidationError as error:
            if body.lstrip()[:1] == "<":
                problem = "HTML where JSON was expected; is --llm-base-url that of an API?"
            else:
                problem = f"not a chat completion ({error.errors()[0]['msg']})"
            raise _Again(self._unusable(problem), TRIES_UNUSABLE) from error
        choice = completion.choices[0]
        try:
            value = read(choice.message.content)
        except ValueError as error:
            if choice.finish_reason == "length":
                problem = "an answer that was cut off: it reasons too long, or its context is too short"
            else:
                problem = f"an answer of another form ({_first_problem(error)})"
            raise _Again(self._unusable(problem), TRIES_UNUSABLE) from error
        return Reply(
            value, *(_count(completion.usage, name) for name in ("prompt_tokens", "completion_tokens"))
        )

    def _refusal(self, status: int, headers: httpx2.Headers, body: str) -> Exception:
        """What to raise for a status that is not 200."""
        said = f"{self._where} answers {status}"
        if message := self._message(body):
            said += f" ({message})"
        if status in REFUSED:
            what = f"{self._where} {REFUSED[status]} ({status}{f': {message}' if message else ''})."
            return EndpointError(what, remedy="Set SAEFARI_LLM_API_KEY to a key that it accepts.")
        if status in BUSY:
            pause = _retry_after(headers.get("retry-after", ""))
            if pause > PATIENCE:
                what = f"{said} and asks to wait {pause:,.0f} s."
                return EndpointError(what, remedy="Give the same command again then.")
            self._quiet_until = max(self._quiet_until, time.monotonic() + pause)
            error = AnswerError(f"{said}.", remedy="Ask again later, or with a lower --concurrency.")
            return _Again(error, TRIES_BUSY, pause)
        if status in (BAD_REQUEST, UNPROCESSABLE):
            return AnswerError(f"{said}.", remedy="The question may be too long for the model.")
        remedy = "Check --llm-base-url and --llm-model."
        return EndpointError(f"{said}.", remedy=remedy)

    def _message(self, body: str) -> str:
        """What an error says, in one short line."""
        try:
            said = json.loads(body)
            said = said.get("error", said) if isinstance(said, dict) else said
            said = said.get("message", "") if isinstance(said, dict) else said
        except (ValueError, RecursionError):
            said = "" if body.lstrip()[:1] == "<" else body
        return self._plain(str(said))

    def _plain(self, text: str) -> str:
        return tidy(text[: 4 * MAX_SAID])[:MAX_SAID].rstrip(".")

    @property
    def _where(self) -> str:
        return self._url.removesuffix("/chat/completions")

    def _unusable(self, problem: str) -> AnswerError:
        return AnswerError(f"{self._where} sent {problem}.", remedy="Another model may do better.")


def find_json(text: str) -> dict[str, Any]:
    """The last whole JSON object in an answer: alone, in a code fence, or after the model's own thoughts.

    ValueError if there is none.
    """
    decoder = json.JSONDecoder()
    found: dict[str, Any] | None = None
    at = text.find("{")
    for _ in range(MAX_STARTS):
        if at < 0:
            break
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
        else:
            found, at = value, text.find("{", end)
    if found is None:
        raise ValueError("no JSON object in it")
    return found


def _first_problem(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'answer'}: {first['msg']}"
    return str(error)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value > 0 else 0


def _retry_after(value: str) -> float:
    """Seconds from the header, which has seconds or a date; 0 if it has neither."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
