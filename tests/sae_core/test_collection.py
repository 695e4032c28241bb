"""In Python the words of an address mean what they mean there, and answers have names."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import sae_core
from sae_core.collection import Collection
from sae_core.errors import EmbedderNotReady, NotFoundError, SaefariError
from sae_core.explorer import Explorer
from sae_core.filters import Filters
from sae_core.steer import Moves
from tests import planted as truth


@pytest.fixture(scope="module")
def collection(planted: Explorer) -> Collection:
    return Collection(planted)


@pytest.fixture(scope="module")
def latent_of(collection: Collection) -> list[int]:
    """The latent that found each planted topic."""
    cosines = truth.directions() @ collection.space.sae.directions_ND.T
    return [int(i) for i in cosines.argmax(axis=1)]


def test_nothing_moved_is_plain_semantic_search_with_titles(collection: Collection) -> None:
    documents = truth.documents()
    for q in truth.WORDS[::6]:
        plain = collection.explorer.index.search(collection.explorer.embed(q), 10)
        found = collection.search(q)
        assert [result.position for result in found] == plain.positions.tolist()
        assert [result.score for result in found] == plain.scores.tolist()
        assert [result.document for result in found] == [documents[at] for at in plain.positions]
        assert [result.rank for result in found] == list(range(1, 11))
        assert {result.moved for result in found} == {None}
        assert (found.cosine, found.total, found.remarks) == (1.0, len(collection), [])


def test_a_strength_does_what_it_does_in_the_engine(collection: Collection, latent_of: list[int]) -> None:
    explorer, q, latent = collection.explorer, truth.WORDS[30], latent_of[40]
    found = collection.search(q, {latent: 1.5}, require=latent, year_min=2005, year_max=2012, n=5, page=2)
    answer = explorer.search(
        collection.sae,
        explorer.embed(q),
        Moves({latent: 1.5}),
        filters=Filters(2005, 2012),
        required=[latent],
        offset=5,
        limit=5,
    )
    assert [result.position for result in found] == answer.hits.positions.tolist()
    assert [result.rank for result in found] == [6, 7, 8, 9, 10]
    assert found.cosine == answer.edit.cosine < 1
    assert all(2005 <= (result.document.year or 0) <= 2012 for result in found)
    assert truth.WORDS[40] in found[0].document.text


def test_features_are_raised_lowered_ignored_and_excluded(
    collection: Collection, latent_of: list[int]
) -> None:
    q = f"{truth.WORDS[30]} {truth.WORDS[40]}"

    def share(word: str, **words: Any) -> float:
        return float(
            np.mean([word in result.document.text for result in collection.search(q, n=20, **words)])
        )

    wanted, other = truth.WORDS[40], latent_of[40]
    assert share(wanted, f={other: 2.0}) >= share(wanted) > share(wanted, f={other: -1.0})
    assert share(wanted, ignore=[other]) < share(wanted)
    assert share(wanted, exclude=other) < 0.1
    assert collection.search(q, {other: 2.0}, keep=0.9).cosine == pytest.approx(0.9, abs=1e-6)


def test_a_family_moves_all_its_members_but_those_locked(collection: Collection) -> None:
    family = collection.families()[0]
    members = [member.feature.latent for member in family.members]
    found = collection.search(family={family.id: 1.0}, n=30)
    words = [word for word in truth.WORDS if any(word in member.feature.label for member in family.members)]
    assert np.mean([any(word in each.document.text for word in words) for each in found]) > 0.9
    with pytest.raises(SaefariError, match="cancels out"):
        collection.search(family={family.id: 1.0}, lock=members)


def test_a_search_begins_from_documents_by_their_ids(collection: Collection) -> None:
    found = collection.search(like="doc-0017")
    assert found[0].document.id == "doc-0017"
    assert found[0].score == pytest.approx(1, abs=1e-5)
    away = collection.search(like=["doc-0017", "doc-0020"], unlike="odd/1.v1")
    assert {"doc-0017", "doc-0020"} & {result.document.id for result in away}


def test_words_have_the_weight_they_are_given(collection: Collection) -> None:
    q = f"Study 77 of {truth.WORDS[3]}"
    assert collection.search(q, keywords=1.0)[0].document.title.startswith("Study 77 ")
    assert [each.position for each in collection.search(q, keywords=0.0)] == [
        each.position for each in collection.search(q)
    ]


def test_a_score_is_the_sum_of_its_reasons(collection: Collection, latent_of: list[int]) -> None:
    found = collection.search(truth.WORDS[30], {latent_of[40]: 1.0}, n=4, page=2)
    for result in found:
        why = found.why(result.rank)
        parts = sum(part.activation for part in why.parts)
        assert parts + why.bias + why.missed == pytest.approx(result.score, abs=1e-4)
        assert why.result == result
    with pytest.raises(NotFoundError, match="from 5 to 8"):
        found.why(1)


def test_a_document_has_its_features_and_neighbours(collection: Collection) -> None:
    page = collection.document("doc-0017")
    latents, values = collection.space.codes.of_document(17)
    assert [firing.feature.latent for firing in page.features] == latents.tolist()
    assert [firing.activation for firing in page.features] == values.tolist()
    assert "doc-0017" not in [shown.document.id for shown in page.neighbours]
    assert 0.5 < page.explained <= 1


def test_a_feature_has_its_evidence(collection: Collection, latent_of: list[int]) -> None:
    latent = latent_of[40]
    feature = collection.feature(latent, n=5)
    assert truth.WORDS[40] in feature.label
    assert feature.auc is not None
    assert feature.density == feature.n_documents / len(collection)
    assert [shown.value for shown in feature.documents] == sorted(
        (shown.value for shown in feature.documents), reverse=True
    )
    assert feature.documents[0].value == pytest.approx(feature.max)
    assert all(truth.WORDS[40] in shown.document.text for shown in feature.documents)
    having = set(collection.space.codes.of_latent(latent)[0].tolist())
    silent = [collection.document(shown.document.id).position for shown in feature.near_misses]
    assert len(silent) == 5
    assert not having & set(silent)


def test_features_are_found_by_words_and_by_meaning(collection: Collection, latent_of: list[int]) -> None:
    for topic in (9, 30, 40):
        assert latent_of[topic] in [each.latent for each in collection.features(truth.WORDS[topic])]
    best = collection.features()
    quality = collection.space.quality_N
    assert [each.latent for each in best] == np.argsort(-quality, kind="stable")[:10].tolist()


def test_a_family_is_a_tree(collection: Collection) -> None:
    stored = collection.space.families[0]
    family = collection.family(stored.id)
    assert family == collection.families()[0]
    assert [member.feature.latent for member in family.members] == stored.members
    assert [member.depth for member in family.members][:2] == [0, 1]
    assert family.label
    assert family.id in [each.id for each in collection.families(family.label)]


def test_answers_are_made_to_be_read(collection: Collection, latent_of: list[int]) -> None:
    found = collection.search(truth.WORDS[30], {latent_of[40]: 1.0})
    printed = [found, found.why(), collection.feature(latent_of[40]), collection.document("doc-0017")]
    for answer in [*printed, collection.families()[0], collection]:
        text = repr(answer)
        assert max(map(len, text.splitlines())) < 140
        assert "0x" not in text
    lines = str(found).splitlines()
    assert lines[0].startswith(f"{truth.WORDS[30]}, #{latent_of[40]} ")
    assert len(lines) == 11
    assert found[0].document.id in lines[1]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({}, "nothing to search for"),
        ({"q": "a", "f": {64: 1.0}}, "has no feature 64. Its features are numbered from 0 to 63"),
        ({"q": "a", "ignore": -1}, "has no feature -1"),
        ({"q": "a", "f": {3: float("nan")}}, "cannot be set to nan"),
        ({"q": "a", "f": {3: 11.0}}, "from -10 to 10"),
        ({"q": "a", "family": {-5: 1.0}}, "has no family -5"),
        ({"q": "a", "keep": 1.0}, "keep cannot be 1.0"),
        ({"q": "a", "keywords": 2.0}, "keywords cannot be 2.0"),
        ({"q": "a", "require": [5], "exclude": [5]}, "both has and lacks #5"),
        ({"q": "a", "page": 0}, "Pages count from 1"),
        ({"q": "a", "n": 5000}, "at most 1,000 documents"),
        ({"like": "nobody"}, 'no document "nobody" in planted'),
        ({"like": "doc-0017", "unlike": "doc-0017"}, "cancels out"),
    ],
)
def test_what_cannot_be_asked_gets_a_sentence(
    collection: Collection, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SaefariError, match=sentence.replace("(", r"\(")):
        collection.search(**asked)


def test_a_collection_is_opened_from_its_folder(planted: Explorer) -> None:
    folder = planted.path.parent.parent
    opened = sae_core.Collection.open(str(folder), next(iter(planted.saes)))
    assert (opened.name, opened.saes) == ("planted", list(planted.saes))
    assert opened.search(like="doc-0017")[0].document.id == "doc-0017"
    with pytest.raises(EmbedderNotReady, match="cannot be embedded"):
        opened.search("nobody wrote this")
    found = opened.search(truth.WORDS[30], n=20)
    assert "Found by words only" in found.remarks[0]
    assert all(truth.WORDS[30] in result.document.text for result in found)
    assert found[0].document.title in str(found)
    with pytest.raises(NotFoundError, match="has no SAE gone"):
        opened.under("gone")


def test_the_door_opens_only_what_is_asked_for() -> None:
    script = "import sae_core, sys; assert 'torch' not in sys.modules; sae_core.Explorer; sae_core.nothing"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("AttributeError: sae_core has no nothing")
