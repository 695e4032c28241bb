"""The planted truth is found, and a search that nobody steered is plain semantic search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sae_core.errors import EmbedderNotReady, NotFoundError
from sae_core.explorer import DEPTH, Explorer, FeatureSet, SearchAnswer
from sae_core.filters import Filters
from sae_core.steer import CancelledQuery, FamilyMove, Moves
from tests import planted as truth
from tests.sae_core import searched
from tests.sae_core.searched import Demands


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


def demands(planted: Explorer, space: FeatureSet, rng: np.random.Generator) -> Demands:
    """Anything that may be asked beside the moves."""
    latents = np.argsort(-np.asarray(space.features.n_documents_N))[:30]
    filters = [
        Filters(),
        Filters(),
        Filters(year_min=2006),
        Filters(venues=("Journal 1", "Journal 3"), cited_min=2),
        Filters(categories=("group-1",)),
        Filters(venues=("nowhere",)),
    ]
    return Demands(
        filters=filters[rng.integers(len(filters))],
        required=rng.permutation(latents)[: rng.choice([0, 0, 1, 2])].tolist(),
        excluded=rng.permutation(latents)[: rng.choice([0, 0, 1])].tolist(),
        keywords=rng.permutation(planted.n_documents)[: rng.choice([0, 40, 300])],
        weight=float(rng.choice([0.0, 0.3, 1.0])),
        diverse=bool(rng.random() < 0.3),
    )


@pytest.mark.parametrize("seed", range(6))
def test_words_find_and_order_and_what_is_moved_shifts(
    planted: Explorer, space: FeatureSet, seed: int
) -> None:
    """Without an encoder: against its definition, with loops."""
    rng = np.random.default_rng(seed)
    words, asked = rng.permutation(planted.n_documents)[:200], demands(planted, space, rng)
    x_D = planted.start(like=[17] if seed % 3 == 0 else [], words=words.tolist())
    mean_D = planted.start(like=words[:10].tolist())
    moves = moves_of(rng, Moves({3: 0.5})) if seed % 2 else Moves()
    chosen: dict[str, Any] = {
        name: getattr(asked, name) for name in ("filters", "required", "excluded", "diverse")
    }
    answer = planted.search_words(space.name, x_D, moves, words=words, **chosen, limit=20)
    kept = [int(each) for each in words if searched.passes(planted, space, int(each), asked)]
    ranks = []
    for vector_D in (mean_D, answer.edit.steered_D):
        products = planted.index.products(vector_D)
        ranked = sorted(kept, key=lambda each: -products[each])
        ranks.append({each: 1 / (60 + place) for place, each in enumerate(ranked, start=1)})
    scores = {
        each: 1 / (60 + place) + ranks[1][each] - ranks[0][each] for place, each in enumerate(kept, start=1)
    }
    found = sorted(kept, key=lambda each: -scores[each])
    if asked.diverse:
        found = searched.one_each(space, found)
    assert answer.total == len(found)
    assert answer.hits.positions.tolist() == found[:20]
    if not moves.strengths and seed % 3 and not asked.diverse:
        assert found == kept  # nothing moved: the order of the words, exactly
    expected = planted.index.products(answer.edit.steered_D)[found[:20]]
    assert answer.hits.scores.tolist() == expected.tolist()


def moves_of(rng: np.random.Generator, before: Moves) -> Moves:
    """Mostly one slider on from those before."""
    strengths = dict(before.strengths)
    if rng.random() < 0.2:
        strengths = {int(i): float(rng.normal()) for i in rng.permutation(64)[: rng.integers(0, 7)]}
    elif strengths:
        strengths[int(rng.choice(list(strengths)))] = round(float(rng.normal()), 3)
    ignored = frozenset(rng.permutation(64)[: rng.choice([0, 0, 0, 2])].tolist())
    families = (FamilyMove({5: 0.6, 9: 0.8}, float(rng.normal())),) if rng.random() < 0.2 else ()
    return Moves(strengths, ignored, families, [None, None, 0.8][rng.integers(3)], bool(rng.random() < 0.2))


@pytest.mark.parametrize("seed", range(4))
def test_an_address_gives_the_same_whatever_was_asked_before(
    planted: Explorer, space: FeatureSet, seed: int
) -> None:
    """Each step of a walk against a scan with full sorts: ids, scores, ranks before and after."""
    rng = np.random.default_rng(seed)
    x_D, moves = planted.start(truth.WORDS[seed], like=[17] if seed % 2 else []), Moves()
    for _ in range(12):
        moves, asked = moves_of(rng, moves), demands(planted, space, rng)
        offset, limit = int(rng.choice([0, 0, 10, 1200])), int(rng.choice([3, 10]))
        answer = planted.search(space.name, x_D, moves, **vars(asked), offset=offset, limit=limit)
        found, scores, fused = searched.search(planted, space, answer.edit.steered_D, asked)
        assert answer.total == len(found)
        assert answer.hits.positions.tolist() == found[offset : offset + limit]
        assert answer.hits.scores.tolist() == scores[offset : offset + limit]
        assert answer.pool.positions.tolist() == found[:DEPTH]
        if fused is None:
            assert answer.fused is None
        else:
            assert answer.fused is not None
            assert answer.fused.tolist() == pytest.approx(fused[offset : offset + limit], rel=1e-12)
        assert answer.best == pytest.approx((scores if fused is None else fused or [0])[0] if found else 0)
        check_movement(planted, space, x_D, asked, answer, found)


def check_movement(  # noqa: PLR0917
    planted: Explorer,
    space: FeatureSet,
    x_D: np.ndarray,
    asked: Demands,
    answer: SearchAnswer,
    found: list[int],
) -> None:
    """Ranks against the search without moves and demands."""
    if not (answer.edit.deltas or asked.required or asked.excluded):
        assert (answer.baseline, answer.baseline_ranks, answer.moved_ranks) == (None, None, None)
        return
    plain, scores, _ = searched.search(planted, space, x_D, replace(asked, required=(), excluded=()))
    assert answer.baseline is not None
    assert answer.baseline_ranks is not None
    assert answer.moved_ranks is not None
    n = len(answer.baseline.positions)
    assert n == min(len(plain), 10) or n == 3
    assert answer.baseline.positions.tolist() == plain[:n]
    assert answer.baseline.scores.tolist() == scores[:n]
    before = {position: rank for rank, position in enumerate(plain[:DEPTH])}
    assert answer.baseline_ranks.tolist() == [before.get(int(p), -1) for p in answer.hits.positions]
    now = {position: rank for rank, position in enumerate(found[:DEPTH])}
    for position, rank in zip(plain[:n], answer.moved_ranks.tolist(), strict=True):
        is_out = not searched.passes(planted, space, position, asked)
        assert rank == (-1 if is_out else now.get(position, DEPTH))


@pytest.mark.parametrize(
    "moves", [Moves(), Moves(keep=0.5), Moves(refine=True)], ids=["none", "keep", "refine"]
)
def test_nothing_moved_is_plain_semantic_ranking_with_every_demand(
    planted: Explorer, space: FeatureSet, moves: Moves
) -> None:
    rng = np.random.default_rng(9)
    for word in truth.WORDS[:6]:
        x_D = planted.start(word)
        asked = replace(demands(planted, space, rng), required=(), excluded=(), weight=0.0, diverse=False)
        answer = planted.search(space.name, x_D, moves, **vars(asked))
        hits = planted.index.search(x_D, 10, planted.metadata.allowed(asked.filters))
        np.testing.assert_array_equal(answer.hits.positions, hits.positions)
        np.testing.assert_array_equal(answer.hits.scores, hits.scores)
        assert answer.baseline is None
        assert answer.edit.steered_D is x_D or (answer.edit.steered_D == x_D).all()


def test_a_search_may_start_from_documents(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.start(like=[17])
    np.testing.assert_array_equal(x_D, planted.vector(17))
    assert planted.search(space.name, x_D).hits.positions[0] == 17
    text_D = planted.start("a text")
    assert text_D is planted.embed("a text")
    mixed_D = planted.start("a text", like=[3, 5], unlike=[8])
    summed_D = text_D + planted.vector(3) + planted.vector(5) - planted.vector(8)
    np.testing.assert_allclose(mixed_D, summed_D / np.linalg.norm(summed_D), atol=1e-6)
    np.testing.assert_allclose(planted.start(unlike=[8]), -planted.vector(8), atol=1e-6)
    for like, unlike in (((), ()), ((4,), (4,))):
        with pytest.raises(CancelledQuery):
            planted.start("", like, unlike)


def test_required_and_excluded_at_once_leave_nothing(planted: Explorer, space: FeatureSet) -> None:
    answer = planted.search(space.name, planted.start(truth.WORDS[3]), required=[5], excluded=[5])
    assert (answer.total, len(answer.hits.positions), answer.best) == (0, 0, 0.0)
    assert answer.baseline is not None
    assert answer.moved_ranks is not None
    assert len(answer.baseline.positions) == 10
    assert (answer.moved_ranks == -1).all()


def test_it_knows_which_searches_only_add_up(planted: Explorer, space: FeatureSet) -> None:
    planted.start("a text that was asked before")
    assert planted.has_embedded("a text that was asked before")
    assert not planted.has_embedded("another text")
    fresh = Explorer.load(planted.path.parent.parent)
    x_D, filters, moves = fresh.start(like=[10]), Filters(year_min=2012), Moves({3: 0.5, 4: 0.2})

    def knows(moves: Moves, **demands: Any) -> bool:
        return fresh.knows(space.name, x_D, moves, **demands)

    assert not knows(Moves()), "the query itself"
    fresh.search(space.name, x_D)
    fresh.faithfulness(space.name, x_D)
    assert knows(Moves())
    assert not knows(moves), "two columns"
    fresh.search(space.name, x_D, moves)
    assert knows(moves)
    assert not knows(Moves({3: 0.6, 4: 0.2})), "a column"
    fresh.search(space.name, x_D, Moves({3: 0.6, 4: 0.2}))
    assert knows(Moves({3: 0.9, 4: 0.2}))
    assert not knows(moves, filters=filters)
    assert not knows(moves, required=[7])
    fresh.search(space.name, x_D, moves, filters=filters, required=[7])
    assert knows(moves, filters=filters, required=[7])
    assert not knows(Moves({3: 0.9, 4: 0.2}, refine=True)), "a refinement is no sum"
    assert knows(Moves(ignored=frozenset(range(64)))), "nothing to search for"
