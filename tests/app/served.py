"""The planted collection as the web tests see it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
