"""What a copy says of itself, which a server has no need to."""

from __future__ import annotations

from dataclasses import dataclass

from app.views.common import Option
from app.views.library import CollectionCard


@dataclass(frozen=True)
class Note:
    """A word on every page of a copy."""

    made: str  # ISO date
    about_url: str
    is_search: bool = False


@dataclass(frozen=True)
class AboutView:
    """The page about a copy: what is in it, and what is not."""

    collection: CollectionCard
    saes: list[str]  # names of those that were copied
    made: str  # ISO date
    n_features: int
    n_families: int
    n_documents: int
    has_evidence: bool  # all kinds of evidence of a feature
    searches: list[Option]
    command: str  # that serves the collection
