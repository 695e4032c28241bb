"""What the pages of lists of features show."""

from __future__ import annotations

from dataclasses import dataclass

from app.views.common import FeatureChip


@dataclass(frozen=True)
class EntryView:
    """A feature in a list."""

    latent: int
    remark: str
    feature: FeatureChip | None  # None where its SAE is not here any more


@dataclass(frozen=True)
class ListCard:
    """A list as it stands among others."""

    slug: str
    name: str
    sae: str
    author: str
    visibility: str  # "public", "unlisted", "private"
    changed: str  # ISO 8601
    url: str


@dataclass(frozen=True)
class ListsView:
    """The lists of a collection that somebody sees among others."""

    collection: str
    lists: list[ListCard]  # the latest first
    saes: list[str]  # of which a list can be made
    has_more: bool
    url: str
    json_url: str


@dataclass(frozen=True)
class ListView:
    """A list of features of one SAE."""

    slug: str
    name: str
    description: str
    collection: str
    sae: str
    is_here: bool  # the SAE is served
    entries: list[EntryView]
    author: str
    visibility: str  # "public", "unlisted", "private"
    revision: int
    changed: str  # ISO 8601
    origin: str  # where it was carried from, and how near; "": it was made here
    may_change: bool
    features: str  # number and remark, a line each, as the form has them
    search_url: str | None  # a search moved along its features
    url: str
    json_url: str
    list_url: str
