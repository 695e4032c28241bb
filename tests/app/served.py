"""The planted collection as the web tests see it."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from app import urls
from app.main import create_app
from app.settings import Settings
from sae_core.cache import Cache
from sae_core.explorer import Explorer, FeatureSet
from sae_core.labels import Candidate
from tests.planted import WORDS

Run = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Planted:
    """The collection behind the tests."""

    home: Path
    explorer: Explorer

    @property
    def sae(self) -> str:
        name: str = next(iter(self.explorer.saes))
        return name

    @property
    def set(self) -> FeatureSet:
        return self.explorer.saes[self.sae]

    @property
    def base(self) -> str:
        """Where the pages of the SAE begin."""
        return urls.sae(self.explorer.name, self.sae)

    @property
    def search(self) -> str:
        return urls.search(self.explorer.name, self.sae)

    @property
    def queries(self) -> list[str]:
        """Every planted word, and pairs of them."""
        return [*WORDS, *(f"{a} {b}" for a, b in zip(WORDS, WORDS[7:], strict=False))]

    def without_encoder(self, state: str = "absent") -> Explorer:
        """The same collection, its encoder "absent", "failed" or still "loading"; no text was embedded."""
        changed = copy.copy(self.explorer)
        changed._embedder, changed.embedder_state = None, state
        changed._queries = Cache(1, lambda _: 1)
        changed.load_encoder = lambda **_: None  # type: ignore[method-assign]
        return changed

    def with_labels(self, text: str, source: str) -> Explorer:
        """The same collection with every feature labelled like this."""
        changed = copy.copy(self.explorer)
        labels = [
            replace(label, text=text, source=source, candidates=[Candidate(text, source)] if text else [])
            for label in self.set.labels
        ]
        changed.saes = {self.sae: replace(self.set, labels=labels)}
        return changed


def serve(planted: Planted, explorer: Explorer | None = None, **settings: Any) -> FastAPI:
    """An application that shows the planted collection, or this version of it."""
    shown = explorer or planted.explorer
    return create_app(Settings(home=planted.home, **settings), {shown.name: shown})


class Listening:
    """The planted collection behind a real port, in a thread of this process."""

    def __init__(self, planted: Planted, **settings: Any) -> None:
        self.app = serve(planted, **settings)
        config = uvicorn.Config(
            self.app,
            port=0,
            http="app.connections:Bounded",
            ws="none",
            timeout_keep_alive=self.app.state.settings.idle_seconds,
            log_config=None,
            lifespan="on",
            proxy_headers=False,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self) -> int:
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)
