"""One question to an endpoint that speaks OpenAI's protocol: JSON out, JSON back, over HTTP.

Nothing of what an endpoint sends is trusted: how long it takes, how much it sends and what that is are all
bounded and checked, and the key is cut out of everything it says. What is asked, and how an answer is
understood, is the caller's.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import json
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import httpx2
from anyio.from_thread import start_blocking_portal

from sae_core.errors import AnswerError, EndpointError, QuestionRefused, SaefariError, tidy
from sae_core.patience import BUSY, retry_after

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

MAX_BYTES = 2**20  # of an answer, where the caller expects no more
CONNECT_SECONDS = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a question is asked again; doubled each time
PATIENCE = 120.0  # seconds; an endpoint that wants a longer pause is left in peace
SECONDS_ASLEEP = 0.5  # of who waits for answers
MAX_SAID = 200  # characters of what an endpoint says about an error
# How often a question is asked when it fails in this way.
TRIES_BUSY, TRIES_BROKEN, TRIES_LATE, TRIES_UNUSABLE, TRIES_TOO_LARGE = 6, 4, 2, 3, 2

OK, BAD_REQUEST, TOO_LARGE, UNPROCESSABLE = 200, 400, 413, 422
REFUSED = {401: "refuses the key", 402: "wants to be paid first", 403: "refuses the key"}

T = TypeVar("T")


class Service(NamedTuple):
    """What is asked of an endpoint: where that is behind its address, and what messages call it."""

    path: str
    model: str  # what answers
    question: str
    url_option: str
    model_option: str
    timeout_option: str
    concurrency_option: str
    key_variable: str


CHAT = Service(
    "chat/completions", "language model", "question", "--llm-base-url", "--llm-model", "--timeout",
    "--concurrency", "SAEFARI_LLM_API_KEY",
)  # fmt: skip
EMBEDDINGS = Service(
    "embeddings", "embedding model", "text", "--embed-base-url", "--embedder", "--embed-timeout",
    "--embed-concurrency", "SAEFARI_EMBED_API_KEY",
)  # fmt: skip


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers, and how it may be asked."""

    base_url: str  # as http://localhost:11434/v1; without a path, /v1 is meant
    model: str
    key: str = field(default="", repr=False)
    concurrency: int = 4  # questions at the same time
    timeout: float = 120.0  # seconds for one answer, from the first byte sent to the last one read
    limit: float = math.inf  # seconds for one question, with all that is asked again and all pauses
    service: Service = CHAT

    @property
    def url(self) -> str:
        """The address that is asked. SaefariError for what is no address."""
        try:
            parts = urlsplit(self.base_url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            httpx2.URL(self.base_url)  # knows more of host names
        except (ValueError, httpx2.InvalidURL):
            is_usable = False
        if not is_usable or parts.username or parts.query or parts.fragment:
            what = f"{tidy(self.base_url)!r} is not the address of an endpoint."
            raise SaefariError(what, remedy="Give one like http://localhost:11434/v1.")
        path = parts.path.rstrip("/").removesuffix(f"/{self.service.path}") or "/v1"
        return f"{parts.scheme}://{parts.netloc}{path}/{self.service.path}"

    @property
    def where(self) -> str:
        """The address without what is asked there, as messages have it."""
        return self.url.removesuffix(f"/{self.service.path}")

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def tells_key(self) -> bool:
        """Whether the key would cross a network unencrypted."""
        return bool(self.key) and self.url.startswith("http:") and not self.is_local

    @property
    def headers(self) -> dict[str, str]:
        """With the key, if there is one. SaefariError (which does not repeat it) if it fits no header."""
        if not self.key:
            return {}
        if not (self.key.isascii() and self.key.isprintable() and " " not in self.key):
            what = f"The key of the {self.service.model} has characters that no key has."
            remedy = f"Set {self.service.key_variable} again, without spaces or line breaks."
            raise SaefariError(what, remedy=remedy)
        return {"Authorization": f"Bearer {self.key}"}


class _Again(Exception):
    """One try did not work; the same question may, after a pause of at least `pause` seconds."""

    def __init__(self, error: SaefariError, tries: int, pause: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.tries, self.pause = error, tries, pause


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # takes some 30 ms


def run_apart(work: Callable[..., Awaitable[T]], *given: Any) -> T:
    """What `work(*given)` returns, run in a thread of its own: the caller's may have an event loop already.

    The caller wakes now and then: Ctrl-C may reach any thread of a process, and only the first one sees it,
    when it wakes.
    """
    with start_blocking_portal() as portal:
        future = portal.start_task_soon(work, *given)
        while not future.done():
            wait([future], timeout=SECONDS_ASLEEP)
        return future.result()


class Client:
    """Asks an endpoint, within one event loop; `async with` it.

    `options` go with every question; where the server refuses them they are left out, one after the other.
    """

    def __init__(self, endpoint: Endpoint, options: Mapping[str, Any] | None = None) -> None:
        self._endpoint = endpoint
        self._url = endpoint.url
        self._options = dict(options or {})
        self._quiet_until = 0.0  # the endpoint asked for a pause: for all questions
        limit = httpx2.Limits(max_connections=endpoint.concurrency)
        self._http = httpx2.AsyncClient(
            headers={"Accept": "application/json", "Accept-Encoding": "identity", **endpoint.headers},
            # The total is watched in `_post`; this ends a connection that nothing comes from.
            timeout=httpx2.Timeout(endpoint.timeout, connect=min(CONNECT_SECONDS, endpoint.timeout)),
            limits=limit,
            verify=_tls(),
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

    async def ask(
        self, payload: Mapping[str, Any], read: Callable[[str], T], max_bytes: int = MAX_BYTES
    ) -> T:
        """The answer as `read` understands its body; `read` raises ValueError, in words, if it does not.

        Asks again, after pauses, where that may help. Raises AnswerError when this question has no usable
        answer (QuestionRefused when the endpoint will not have it), and EndpointError when no question will
        have one.
        """
        limit = self._endpoint.limit
        try:
            async with asyncio.timeout(limit if math.isfinite(limit) else None):
                return await self._ask_patiently(payload, read, max_bytes)
        except TimeoutError as error:
            what = f"No answer from {self._where} within {limit:g} s."
            raise AnswerError(what, remedy="Ask again later.") from error

    async def _ask_patiently(self, payload: Mapping[str, Any], read: Callable[[str], T], max_bytes: int) -> T:
        tries = 0
        while True:
            await asyncio.sleep(max(0.0, self._quiet_until - time.monotonic()))
            try:
                return await self._ask_once(payload, read, max_bytes)
            except _Again as again:
                tries += 1
                if tries >= again.tries:
                    raise again.error from again
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1))
                # Jitter: questions that failed together do not come back together.
                await asyncio.sleep(max(again.pause, pause * random.uniform(0.5, 1.5)))  # noqa: S311

    async def _ask_once(self, payload: Mapping[str, Any], read: Callable[[str], T], max_bytes: int) -> T:
        options = dict(self._options)
        while True:
            status, headers, body = await self._post({**payload, **options}, max_bytes)
            if status in (BAD_REQUEST, UNPROCESSABLE) and options:
                named = [name for name in options if name in body]
                del options[named[0] if named else next(iter(options))]
                continue
            if status != OK:
                raise self._refusal(status, headers, body)
            try:
                value = read(body)
            except ValueError as error:
                if body.lstrip()[:1] == "<":
                    problem = f"HTML where JSON was expected; is {self._service.url_option} that of an API?"
                else:
                    problem = str(error)
                raise _Again(self._unusable(problem), TRIES_UNUSABLE) from error
            self._options = options  # what this server accepts
            return value

    async def _post(self, payload: Mapping[str, Any], max_bytes: int) -> tuple[int, httpx2.Headers, str]:
        timeout = self._endpoint.timeout
        try:
            async with (
                asyncio.timeout(timeout),
                self._http.stream("POST", self._url, json=payload) as response,
            ):
                body = bytearray()
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > max_bytes:
                        raise _Again(self._unusable(f"more than {max_bytes:,} bytes"), TRIES_TOO_LARGE)
        except (TimeoutError, httpx2.ReadTimeout, httpx2.WriteTimeout) as error:
            what = f"No answer from {self._where} within {timeout:g} s."
            remedy = f"Give it longer with {self._service.timeout_option}."
            raise _Again(AnswerError(what, remedy=remedy), TRIES_LATE) from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            what = f"{self._where} cannot be reached: {self._plain(str(error)) or type(error).__name__}."
            remedy = (
                f"Start the server or check {self._service.url_option}, then give the same command again."
            )
            raise _Again(EndpointError(what, remedy=remedy), TRIES_BROKEN) from error
        except httpx2.RequestError as error:  # reset, cut off, not HTTP
            what = f"{self._where} broke the connection: {self._plain(str(error)) or type(error).__name__}."
            raise _Again(AnswerError(what, remedy="Ask again later."), TRIES_BROKEN) from error
        text = body.decode("utf-8", errors="replace")
        if self._endpoint.key:
            text = text.replace(self._endpoint.key, "(the key)")  # some repeat it, in errors or in answers
        return response.status_code, response.headers, text

    def _refusal(self, status: int, headers: httpx2.Headers, body: str) -> Exception:
        """What to raise for a status that is not 200."""
        said = f"{self._where} answers {status}"
        if message := self._message(body):
            said += f" ({message})"
        if status in REFUSED:
            what = f"{self._where} {REFUSED[status]} ({status}{f': {message}' if message else ''})."
            return EndpointError(what, remedy=f"Set {self._service.key_variable} to a key that it accepts.")
        if status in BUSY:
            pause = retry_after(headers.get("retry-after", ""), headers.get("date", ""))
            if pause > min(PATIENCE, self._endpoint.limit):
                what = f"{said} and asks to wait {pause:,.0f} s."
                return EndpointError(what, remedy="Give the same command again then.")
            self._quiet_until = max(self._quiet_until, time.monotonic() + pause)
            remedy = f"Ask again later, or with a lower {self._service.concurrency_option}."
            return _Again(AnswerError(f"{said}.", remedy=remedy), TRIES_BUSY, pause)
        if status in (BAD_REQUEST, TOO_LARGE, UNPROCESSABLE):
            remedy = f"The {self._service.question} may be too long for the model."
            return QuestionRefused(f"{said}.", remedy=remedy)
        remedy = f"Check {self._service.url_option} and {self._service.model_option}."
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
    def _service(self) -> Service:
        return self._endpoint.service

    @property
    def _where(self) -> str:
        return self._endpoint.where

    def _unusable(self, problem: str) -> AnswerError:
        return AnswerError(f"{self._where} sent {problem}.", remedy="Another model may do better.")
