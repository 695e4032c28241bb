"""The words of an address and those of Python are the same words."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from fastapi.testclient import TestClient

from app import query
from sae_core.collection import MAX_STRENGTH, Collection
from tests.app.served import Planted
from tests.planted import WORDS

ASKED: list[dict[str, Any]] = [
    {"q": WORDS[3]},
    {"q": WORDS[3], "f": {5: 0.4, 9: -0.25}, "page": 2},
    {"q": WORDS[3], "like": ["doc-0017", "doc-0044"], "unlike": "doc-0090", "ignore": [5, 12]},
    {"q": f"{WORDS[3]} {WORDS[9]}", "f": {5: 1.5}, "keep": 0.8, "refine": True},
    {"f": {5: 1.0, 7: 0.5}, "year_min": 2004, "year_max": 2015},
    {"q": WORDS[8], "exclude": [4], "cited_min": 3, "diverse": True},
    {"q": WORDS[8], "f": {5: 0.4}, "keywords": 0.4, "venue": ["Journal 1", "Journal 2"]},
    {"q": WORDS[8], "category": "group-2", "f": {11: 0.3}},
]


def address(asked: dict[str, Any]) -> str:
    pairs: list[tuple[str, str]] = []
    for name, value in asked.items():
        if isinstance(value, dict):
            pairs += [(name, f"{latent}:{strength:+.2f}") for latent, strength in value.items()]
        elif isinstance(value, list):
            pairs += [(name, str(each)) for each in value]
        else:
            pairs.append((name, str(int(value)) if isinstance(value, bool) else str(value)))
    return urlencode(pairs)


def same(planted: Planted, client: TestClient, asked: dict[str, Any]) -> None:
    page = client.get(f"{planted.search}.json?{address(asked)}").json()
    found = Collection(planted.explorer).search(**asked)
    assert page["results"]
    assert [each["document"]["id"] for each in page["results"]] == [each.document.id for each in found]
    assert [each["document"]["title"] for each in page["results"]] == [each.document.title for each in found]
    assert [each["score"] for each in page["results"]] == [each.score for each in found]
    assert [each["moved"] for each in page["results"]] == [each.moved for each in found]
    assert (page["page"]["total"], page["cosine"]) == (found.total, found.cosine)


@pytest.mark.parametrize("asked", ASKED, ids=address)
def test_python_finds_what_the_address_finds(
    planted: Planted, client: TestClient, asked: dict[str, Any]
) -> None:
    same(planted, client, asked)


def test_a_family_moves_as_far(planted: Planted, client: TestClient) -> None:
    family = planted.set.families[0]
    asked = {"q": WORDS[3], "family": {family.id: 0.5}, "f": {family.members[1]: 0.2}}
    same(planted, client, {**asked, "lock": [family.members[2]]})


def test_demands_are_the_same(planted: Planted, client: TestClient) -> None:
    often = int(planted.set.features.n_documents_N.argmax())
    same(planted, client, {"q": WORDS[8], "require": [often], "f": {5: 0.4}})


def test_bounds_are_the_same() -> None:
    assert MAX_STRENGTH == query.MAX_STRENGTH
