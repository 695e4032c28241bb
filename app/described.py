"""What the interface for programs is made of: pages as they describe themselves, read from the code.

Parameters are what a page's own reader asks for; it is called with `Recorder`, which answers that there are
none and remembers the question. So a bound that is described is the bound that is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.formats import Files
from app.query import FamilyQuery, Parameters
from sae_core.families import FamilyConfig
from sae_core.families.model import ALGORITHMS

Schema = dict[str, Any]


class Recorder(Parameters):
    """Parameters of no request, that remember how they were read: name to JSON Schema."""

    def __init__(self) -> None:
        super().__init__("")
        self.asked: dict[str, Schema] = {}

    def all(self, name: str) -> list[str]:
        self.asked.setdefault(name, {"type": "array", "items": {"type": "string"}})
        return []

    def text(self, name: str, longest: int) -> str:
        self.asked.setdefault(name, {"type": "string", "maxLength": longest})
        return ""

    def integer(self, name: str, low: int, high: int) -> int | None:
        self.asked.setdefault(name, {"type": "integer", "minimum": low, "maximum": high})
        return None

    def number(self, name: str, low: float, high: float) -> float | None:
        self.asked.setdefault(name, {"type": "number", "minimum": low, "maximum": high})
        return None

    def choice(self, name: str, choices: Sequence[str]) -> str:
        self.asked.setdefault(name, {"type": "string", "enum": list(choices), "default": choices[0]})
        return choices[0]


def read_families(parameters: Parameters) -> None:
    """Read what any way to find families listens to."""
    for algorithm in ALGORITHMS:
        FamilyQuery.parse("", "", parameters, FamilyConfig(algorithm=algorithm), ALGORITHMS)


@dataclass(frozen=True)
class About:
    """A page in words. `view` is what its JSON twin holds, `reads` reads its parameters as the page does."""

    name: str
    group: str
    summary: str
    view: type
    reads: Callable[[Parameters], object] = lambda parameters: parameters
    example: dict[str, str] = field(default_factory=dict)  # parameters; {latent} and such are filled in


@dataclass(frozen=True)
class Described:
    path: str  # with {names}, or {name:path} where slashes are allowed
    about: About
    files: Files | None

    def parameters(self) -> dict[str, Schema]:
        recorder = Recorder()
        self.about.reads(recorder)
        return recorder.asked


PAGES: list[Described] = []  # filled by `app.deps.add_page`, in the order in which routes are imported
GROUPS = ("Collections", "Search", "Features", "Families", "Documents", "People")


def described(*, with_people: bool = False) -> list[Described]:
    """The pages of the interface in the order in which they are read about; `with_people`: also theirs."""
    shown = [page for page in PAGES if with_people or page.about.group != "People"]
    return sorted(shown, key=lambda page: (GROUPS.index(page.about.group), len(page.path)))
