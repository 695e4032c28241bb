"""A language model for tests: a real server on 127.0.0.1 that answers as told, well or badly.

It listens, speaks HTTP and counts; what it answers to a call is the test's to say. `sensible` reads the
planted words in the prompts, as a good model would, and writes them as a bad one might.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.planted import WORDS

SECONDS_OF_PATIENCE = 30.0  # a handler that hangs gives up then, or when the server is closed


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    number: int  # from 0
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def question(self) -> str:
        return str(self.body["messages"][-1]["content"])

    @property
    def prompt(self) -> str:
        """Which prompt it is."""
        if "How sure are you" in self.question:
            return "predictor"
        return "family" if self.question.startswith("Parent:") else "interpreter"


@dataclass(frozen=True)
class Raw:
    """An answer byte by byte: a status, headers, a body in parts with a pause before each."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    n_parts: int = 1
    is_reset: bool = False  # the connection is torn down instead


HANG = Raw(pause=SECONDS_OF_PATIENCE)
RESET = Raw(is_reset=True)


def completion(content: str, **more: Any) -> Raw:
    """A well-formed answer with this content."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    whole = {"id": "x", "object": "chat.completion", "choices": [{**choice, **more}], "usage": usage}
    return Raw(body=json.dumps(whole).encode(), headers={"Content-Type": "application/json"})


def names(*labels: str, reasoning: str = "They share it.") -> Raw:
    """An interpreter's answer."""
    return completion(json.dumps({"reasoning": reasoning, "labels": labels}))


class FakeModel:
    """The server while it runs: its address, and the calls that came."""

    def __init__(self, answer: Callable[[Call], Raw]) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, prompt: str) -> int:
        """Calls with this prompt."""
        return sum(call.prompt == prompt for call in self.calls)

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Raw:
        with self._lock:
            call = Call(len(self.calls), path, headers, body)
            self.calls.append(call)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.answer(call)
        finally:
            with self._lock:
                self._at_once -= 1

    def wait(self, seconds: float) -> None:
        self._closed.wait(seconds)


@contextmanager
def serving(answer: Callable[[Call], Raw]) -> Iterator[FakeModel]:
    """A server that answers so, for the length of the context."""
    model = FakeModel(answer)
    try:
        yield model
    finally:
        model.close()


def _handler(model: FakeModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            send(
                self, model.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body), model.wait
            )

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
            pass

    return Handler


def send(handler: BaseHTTPRequestHandler, raw: Raw, wait: Callable[[float], object]) -> None:
    """Answer a request so."""
    if raw.is_reset:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.close_connection = True
        return
    size = len(raw.body) // raw.n_parts + 1
    if raw.n_parts == 1:
        wait(raw.pause)
    handler.send_response(raw.status)
    for name, value in {"Content-Length": str(len(raw.body)), **raw.headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    for start in range(0, len(raw.body), size):
        if raw.n_parts > 1:
            wait(raw.pause)
        handler.wfile.write(raw.body[start : start + size])


TEXT = re.compile(r"^~~~~ text (\d+)(?:, (fires|silent)[^~]*)? ~~~~\n(.*)$", re.MULTILINE)


def sensible(call: Call) -> Raw:
    """What a good model answers about the planted collection."""
    if call.prompt == "family":
        return names("family of " + call.question.split("\n")[0].removeprefix("Parent: "))
    texts = TEXT.findall(call.question)
    if call.prompt == "predictor":
        label = call.question.split("\n")[0]
        wanted = [word for word in WORDS if word in label]
        sure = {n: 0.9 if any(word in text for word in wanted) else -0.9 for n, _, text in texts}
        return completion(json.dumps({"confidence": sure}))
    found: Counter[str] = Counter()
    for _, state, text in texts:
        for word in set(WORDS) & set(re.findall(r"[a-z]+", text)):
            found[word] += 1 if state == "fires" else -1
    best = [word for word, _ in found.most_common(2)] or ["nothing"]
    return names(f"the {best[0]} <script>phenomenon</script>\u202e\u0007", best[-1])
