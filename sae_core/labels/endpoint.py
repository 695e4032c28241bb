"""A question to a language model, through any endpoint that speaks OpenAI's chat completions.

Ollama, vLLM, llama.cpp and OpenAI do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, Field, ValidationError

from sae_core.endpoint import Client

MAX_ANSWER_TOKENS = 4096
MAX_STARTS = 2000  # braces in an answer at which an object is looked for
# What some servers refuse; left out, one after the other, where they do.
OPTIONS: dict[str, Any] = {
    "response_format": {"type": "json_object"},
    "max_tokens": MAX_ANSWER_TOKENS,
    "temperature": 0,
}

T = TypeVar("T")


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


async def ask(
    client: Client, model: str, messages: list[dict[str, str]], read: Callable[[str], T]
) -> Reply[T]:
    """The answer to these messages as `read` understands it; `read` raises ValueError if it does not.

    Raises what `Client.ask` does.
    """
    payload = {"model": model, "messages": messages}
    return await client.ask(payload, lambda body: _understand(body, read))


def _understand(body: str, read: Callable[[str], T]) -> Reply[T]:
    """ValueError, in words, for what is no answer."""
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError as error:
        raise ValueError(f"not a chat completion ({error.errors()[0]['msg']})") from error
    choice = completion.choices[0]
    try:
        value = read(choice.message.content)
    except ValueError as error:
        if choice.finish_reason == "length":
            problem = "an answer that was cut off: it reasons too long, or its context is too short"
        else:
            problem = f"an answer of another form ({_first_problem(error)})"
        raise ValueError(problem) from error
    return Reply(value, *(_count(completion.usage, name) for name in ("prompt_tokens", "completion_tokens")))


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
