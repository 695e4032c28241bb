"""Commands of ours that a test breaks: forks of a process that has imported all (tests/killable.py)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from app.authored import access
from app.authored.store import Role, Store
from sae_core import artifact
from tests import killable
from tests.app.editors import HERE, token
from tests.planted import PlantedEmbedder, documents

COLLECTION = "c"
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "4"))  # `make faults` wants 200
N_DOCUMENTS = 300


def until(holds: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something that happens elsewhere; what it came to."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


def write_corpus(folder: Path) -> None:
    """Texts and their vectors, as `build_words` names them."""
    chosen = documents(N_DOCUMENTS)
    rows = [{"id": each.id, "title": each.title, "abstract": each.abstract} for each in chosen]
    (folder / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    np.save(folder / "texts.npy", PlantedEmbedder().embed([each.text for each in chosen]))


def build_words(corpus: Path, home: Path, seed: int = 0, steps: int = 60) -> list[str]:
    sizes = f"--latents 64 --k 3 --steps {steps} --seed {seed}".split()
    where = ["--home", str(home), "--name", COLLECTION, "--embeddings", str(corpus / "texts.npy"), "--quiet"]
    return ["build", str(corpus / "texts.jsonl"), *where, *sizes]


@dataclass
class Commands:
    """Runs `saefari`, one command at a time, in a process that may be killed."""

    worker: subprocess.Popen[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, *words: str) -> int:
        self.log.write_bytes(b"")
        return killable.start(self.worker, "saefari", self.log, json.dumps(self.environment), *words)

    def end(self) -> int:
        """The exit status; below 0 for the signal that ended it."""
        return killable.end(self.worker)

    def run(self, *words: str) -> int:
        self.start(*words)
        return self.end()

    @property
    def said(self) -> str:
        text = self.log.read_text(encoding="utf-8")
        assert "Traceback" not in text, text
        return text

    @contextmanager
    def serving(self, home: Path) -> Iterator[Server]:
        """`saefari serve`; ended at the end, unless it is dead."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pid = self.start("serve", "--home", str(home), "--port", str(port))
        server = Server(pid, f"http://127.0.0.1:{port}", home)
        try:
            until(server.answers)
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            self.end()


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    pid: int
    url: str
    home: Path

    def answers(self) -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/ready", timeout=60).status_code == 200
        return False

    def client(self, session: str = "") -> httpx2.Client:
        """A browser that does not follow redirects, with this session."""
        client = httpx2.Client(base_url=self.url, headers=HERE, timeout=60)
        if session:
            client.cookies.set("saefari", session)
        return client

    def about(self, latent: int) -> dict[str, str]:
        """What a form says it is about."""
        return {"collection": COLLECTION, "kind": "feature", "sae": sae_of(self.home), "key": str(latent)}


def sae_of(home: Path) -> str:
    return next((artifact.current(home / "collections" / COLLECTION) / "saes").iterdir()).name


def session_of(url: str, name: str) -> str:
    """The secret of a new session of an editor."""
    store = Store.open(url)
    _, secret = access.sign_in(store, token(url, name, Role.EDITOR))
    store.close()
    return secret
