"""A hub for tests: a real server on 127.0.0.1 with as much of the Hugging Face hub's API as reading needs.

It holds one dataset, acme/papers, and one that is gated, acme/gated. A test may answer any request itself
(`fault`): with an error, other bytes, or nothing at all.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.language_model import Raw, send

NAME, GATED, COMMIT = "acme/papers", "acme/gated", "a" * 40
Fault = Callable[[str], Raw | None]  # by path


@dataclass
class Hub:
    """A server that runs, and what it was asked."""

    url: str
    files: Mapping[str, bytes]
    fault: Fault = lambda _path: None
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str, byte_range: str) -> Raw:
        if (raw := self.fault(path)) is not None:
            return raw
        if path.startswith((f"/api/datasets/{NAME}", f"/datasets/{NAME}/resolve/")):
            begin = f"/api/datasets/{NAME}"
            return self._about(path[len(begin) :]) if path.startswith(begin) else self._file(path, byte_range)
        code = "GatedRepo" if GATED in path else "RepoNotFound"
        said = {
            "error": f"Access to dataset {GATED} is restricted: it is gated." if GATED in path else "None"
        }
        status = 403 if GATED in path else 404
        return Raw(
            status, json.dumps(said).encode(), {"X-Error-Code": code, "X-Error-Message": said["error"]}
        )

    def _about(self, rest: str) -> Raw:
        if not rest.startswith("/tree/"):
            siblings = [{"rfilename": name} for name in self.files]
            flags = {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
            about = {"id": NAME, "sha": COMMIT, "tags": [], "siblings": siblings, **flags}
            return Raw(200, json.dumps(about).encode(), _JSON)
        folder = rest.removeprefix("/tree/").partition("/")[2]
        entries: dict[str, dict[str, Any]] = {}
        for name, content in self.files.items():
            inside = name.removeprefix(f"{folder}/") if folder else name
            if folder and inside == name:
                continue
            head, slash, _ = inside.partition("/")
            path = f"{folder}/{head}" if folder else head
            size = 0 if slash else len(content)
            entries[path] = {
                "type": "directory" if slash else "file", "oid": "b" * 40, "size": size, "path": path
            }  # fmt: skip
        return Raw(200, json.dumps(list(entries.values())).encode(), _JSON)

    def _file(self, path: str, byte_range: str) -> Raw:
        content = self.files.get(path.split("/", 6)[6])
        if content is None:
            return Raw(404, b"", {"X-Error-Code": "EntryNotFound"})
        tag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if not byte_range:
            return Raw(200, content, headers)
        first, last = byte_range.removeprefix("bytes=").split("-")
        end = min(int(last or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
        return Raw(206, content[int(first) : end + 1], headers)


_JSON = {"Content-Type": "application/json"}


@contextmanager
def hub(files: Mapping[str, bytes], fault: Fault = lambda _path: None) -> Iterator[Hub]:
    """Such a hub, whose dataset has these files; it ends with the context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            running.asked.append(path)
            send(self, running.answer(path, self.headers.get("Range", "")), closed.wait)

        def do_HEAD(self) -> None:
            path = self.path.partition("?")[0]
            running.asked.append(path)
            raw = running.answer(path, "")
            self.send_response(raw.status)
            for name, value in raw.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw.body)))
            self.end_headers()

    closed = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up
    running = Hub(f"http://127.0.0.1:{server.server_port}", files, fault)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        closed.set()
        server.shutdown()
        server.server_close()
        thread.join()
