"""The planted truth is found, and a search that nobody steered is plain semantic search."""

from __future__ import annotations

import numpy as np
import pytest

from sae_core.errors import EmbedderNotReady, NotFoundError
from sae_core.explorer import DEPTH, Explorer, FeatureSet
from sae_core.filters import Filters
from sae_core.steer import Moves
from tests import planted as truth


@pytest.fixture(scope="module")
def space(planted: Explorer) -> FeatureSet:
    (found,) = planted.saes.values()
    return found


@pytest.fixture(scope="module")
def latent_of(space: FeatureSet) -> list[int]:
    """The latent that found each planted topic."""
    cosines = truth.directions() @ space.sae.directions_ND.T
    assert cosines.max(axis=1).min() > 0.9
    return [int(i) for i in cosines.argmax(axis=1)]


QUERIES = [*truth.WORDS, *(f"{a} and {b}" for a, b in zip(truth.WORDS, truth.WORDS[7:], strict=False))]


def test_every_planted_direction_is_recovered(latent_of: list[int]) -> None:
    assert len(set(latent_of)) == truth.N_TOPICS


def test_every_planted_family_is_recovered(space: FeatureSet, latent_of: list[int]) -> None:
    families = {family.id: set(family.members) for family in space.families}
    size = truth.N_CHILDREN + 1
    for f in range(truth.N_FAMILIES):
        root = latent_of[f * size]
        wanted = {latent_of[f * size + child] for child in range(1, size)}
        assert root in families, f"family {f} has no root"
        assert len(wanted & families[root]) >= truth.N_CHILDREN - 1


def test_a_topic_is_labelled_with_its_word(space: FeatureSet, latent_of: list[int]) -> None:
    labels = [space.labels[latent].text.lower() for latent in latent_of]
    named = [word in label for word, label in zip(truth.WORDS, labels, strict=True)]
    assert np.mean(named) > 0.8


@pytest.mark.parametrize("query", QUERIES)
def test_unsteered_search_is_plain_semantic_search(planted: Explorer, space: FeatureSet, query: str) -> None:
    x_D = planted.embed(query)
    latents, activations = space.sae.encode(x_D[None]).row()
    untouched = dict(zip(latents.tolist(), activations.tolist(), strict=True))
    plain = planted.index.vectors() @ x_D
    expected = np.argsort(-plain, kind="stable")[:10]
    for strengths in ({}, untouched):
        answer = planted.search(space.name, x_D, Moves(strengths))
        np.testing.assert_array_equal(answer.hits.positions, planted.index.search(x_D, 10).positions)
        np.testing.assert_array_equal(answer.hits.scores, planted.index.search(x_D, 10).scores)
        np.testing.assert_allclose(answer.hits.scores, plain[expected], atol=1e-6)
        assert answer.edit.cosine == 1
        assert answer.baseline_ranks is None


def test_more_of_a_topic_brings_its_documents_and_less_removes_them(
    planted: Explorer, space: FeatureSet, latent_of: list[int]
) -> None:
    topic, other = 30, 40
    x_D = planted.embed(f"{truth.WORDS[topic]} {truth.WORDS[other]}")
    fires = {int(i) for i in space.codes.of_latent(latent_of[topic])[0]}

    def share(strength: float) -> float:
        hits = planted.search(space.name, x_D, Moves({latent_of[topic]: strength}), limit=40).hits
        return float(np.mean([int(position) in fires for position in hits.positions]))

    assert share(-1.0) < 0.1 < share(2.0)
    assert share(2.0) > 0.9


def test_a_steered_score_is_the_cosine_with_the_steered_vector_and_ranks_are_those_before(
    planted: Explorer, space: FeatureSet
) -> None:
    x_D = planted.embed(truth.WORDS[5])
    filters, moves = Filters(year_min=2011), Moves({1: 0.7, 2: -0.4})
    answer = planted.search(space.name, x_D, moves, filters=filters, offset=5, limit=20)
    vectors = planted.index.vectors()[answer.hits.positions]
    np.testing.assert_allclose(answer.hits.scores, vectors @ answer.edit.steered_D, atol=1e-6)
    allowed = planted.metadata.years_M > 2010
    assert allowed[answer.hits.positions].all()
    assert answer.total == int(allowed.sum())
    before = planted.search(space.name, x_D, filters=filters, limit=planted.n_documents).hits.positions
    places = {int(position): rank for rank, position in enumerate(before)}
    assert answer.baseline_ranks is not None
    ranks = [places[int(position)] for position in answer.hits.positions]
    assert answer.baseline_ranks.tolist() == [rank if rank < DEPTH else -1 for rank in ranks]


def test_pages_of_a_ranking_fit_together(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.embed(truth.WORDS[9])

    def positions(offset: int, limit: int) -> np.ndarray:
        return planted.search(space.name, x_D, Moves({4: 0.3}), offset=offset, limit=limit).hits.positions

    whole = positions(0, 30)
    parts = [positions(offset, 10) for offset in (0, 10, 20)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_document_is_not_its_own_neighbour(planted: Explorer) -> None:
    hits = planted.neighbours(17, 8)
    assert 17 not in hits.positions
    assert len(hits.positions) == 8


def test_a_query_is_embedded_once(planted: Explorer) -> None:
    embedder = planted._embedder
    assert isinstance(embedder, truth.PlantedEmbedder)
    planted.embed("a text that no other test embeds")
    before = embedder.n_embedded
    planted.embed("a text that no other test embeds")
    assert embedder.n_embedded == before


def test_an_unknown_name_says_what_there_is(planted: Explorer, space: FeatureSet) -> None:
    with pytest.raises(NotFoundError, match=space.name):
        planted.get_sae("k1-n1-000000")


def test_an_encoder_that_did_not_embed_the_documents_is_refused(planted: Explorer) -> None:
    bare = Explorer.load(planted.path.parent.parent)
    assert bare.embedder_state == "absent"
    with pytest.raises(EmbedderNotReady, match="made elsewhere"):
        bare.embed("anything")
    bare.manifest["embedder"]["fingerprint"] = "another"
    bare.attach_encoder(truth.PlantedEmbedder())
    assert bare.embedder_state == "failed"
    with pytest.raises(EmbedderNotReady, match="not the one"):
        bare.embed("anything")


def test_dead_features_have_no_quality(space: FeatureSet) -> None:
    dead = np.asarray(space.features.n_documents_N) == 0
    assert (space.quality_N[dead] == 0).all()
    assert (space.quality_N[~dead] > 0).all()
    assert space.quality_N.max() <= 1
