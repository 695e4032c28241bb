"""What the page about the interface for programs shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ParameterView:
    name: str
    is_in_path: bool
    words: str
    allowed: str  # in words
    example: str


@dataclass(frozen=True)
class ColumnView:
    name: str
    type: str
    meaning: str


@dataclass(frozen=True)
class ListView:
    """A list that a page's file can hold."""

    name: str  # of the parameter `list`
    kind: str
    version: int
    words: str
    columns: list[ColumnView]
    formats: list[tuple[str, str]]  # what a link says, and an example


@dataclass(frozen=True)
class AddressView:
    """A page of the interface."""

    name: str
    summary: str
    path: str  # with {names}
    url: str  # the page of the example
    json_url: str
    is_there: bool  # whether something is at these two, or they only show the form
    parameters: list[ParameterView]
    lists: list[ListView]


@dataclass(frozen=True)
class ApiView:
    version: str
    groups: list[tuple[str, list[AddressView]]]
    openapi_url: str
    curl: str  # a command that can be tried
    url: str
    json_url: str
