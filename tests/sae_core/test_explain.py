"""A score is the sum of its parts, and a preview says what a search then finds."""

from __future__ import annotations

import numpy as np
import pytest

from sae_core.explain import N_PREVIEWED, Part, Why, faithfulness, preview, why, why_above
from sae_core.explorer import Explorer, FeatureSet
from sae_core.steer import Edit, FamilyMove, Moves, make_edit
from tests import planted as truth

QUERIES = [*truth.WORDS, *(f"{a} and {b}" for a, b in zip(truth.WORDS, truth.WORDS[7:], strict=False))]
N_EXPLAINED = 10


@pytest.fixture(scope="module")
def space(planted: Explorer) -> FeatureSet:
    (found,) = planted.saes.values()
    return found


def own_of(space: FeatureSet, x_D: np.ndarray) -> dict[int, float]:
    latents, values = space.sae.encode(x_D[None]).row()
    return dict(zip(latents.tolist(), values.tolist(), strict=True))


def moves_for(own: dict[int, float]) -> list[Moves]:
    """Nothing; strengths up and down; ignored features, one of the query and one not; a family; a cosine."""
    first = next(iter(own))
    members = {first: 0.8, 40: 0.6}
    return [
        Moves(),
        Moves({first: 2.0, 7: -0.4}),
        Moves({9: 0.5}, ignored=frozenset({first, 31})),
        Moves(families=(FamilyMove(members, 0.7),), keep=0.9),
    ]


def edits(space: FeatureSet, x_D: np.ndarray) -> list[tuple[Moves, Edit]]:
    own = own_of(space, x_D)
    return [(moves, make_edit(x_D, moves, own, space.sae.directions_ND)) for moves in moves_for(own)]


def explain(planted: Explorer, space: FeatureSet, position: int, edit: Edit) -> Why:
    return why(planted.vector(position), *space.codes.of_document(position), edit, space.sae)


def best_of(planted: Explorer, x_D: np.ndarray, n: int) -> np.ndarray:
    return np.argsort(-(planted.index.vectors() @ x_D), kind="stable")[:n]


def total(parts: list[Part]) -> float:
    return sum(part.value for part in parts)


@pytest.mark.parametrize("query", QUERIES)
def test_parts_add_up_to_the_score_of_every_result(planted: Explorer, space: FeatureSet, query: str) -> None:
    x_D = planted.embed(query)
    for _moves, edit in edits(space, x_D):
        for position in best_of(planted, edit.steered_D, N_EXPLAINED).tolist():
            y_D = planted.vector(position)
            found = explain(planted, space, position, edit)
            assert found.score == pytest.approx(float(y_D @ edit.steered_D), abs=1e-6)
            assert total(found.parts) + found.bias + found.missed == pytest.approx(found.score, abs=1e-6)
            assert found.query + total(found.moves) == pytest.approx(found.score, abs=1e-6)
            assert found.query == pytest.approx(float(x_D @ y_D) / edit.length, abs=1e-5)
            assert {part.latent for part in found.moves} == edit.deltas.keys()
            sizes = [abs(part.value) for part in found.parts]
            assert sizes == sorted(sizes, reverse=True)


def test_a_part_is_the_activation_times_the_agreement_of_query_and_direction(
    planted: Explorer, space: FeatureSet
) -> None:
    x_D = planted.embed(truth.WORDS[3])
    _, edit = edits(space, x_D)[1]
    position = int(best_of(planted, x_D, 1)[0])
    latents, activations = space.codes.of_document(position)
    found = {part.latent: part for part in explain(planted, space, position, edit).parts}
    assert found.keys() == set(latents.tolist())
    for latent, activation in zip(latents.tolist(), activations.tolist(), strict=True):
        expected = activation * float(edit.steered_D @ space.sae.directions_ND[latent])
        assert found[latent].value == pytest.approx(expected, abs=1e-6)
        assert found[latent].activation == activation


@pytest.mark.parametrize("query", QUERIES[::5])
def test_an_ignored_feature_has_no_part_in_any_score(
    planted: Explorer, space: FeatureSet, query: str
) -> None:
    x_D = planted.embed(query)
    first = next(iter(own_of(space, x_D)))
    plain, _, ignoring, _ = edits(space, x_D)
    documents = [int(i) for i in space.codes.of_latent(first)[0][:20]]
    parts = [
        next(part.value for part in explain(planted, space, position, edit).parts if part.latent == first)
        for edit in (plain[1], ignoring[1])
        for position in documents
    ]
    assert min(parts[: len(documents)]) > 0.01
    np.testing.assert_allclose(parts[len(documents) :], 0, atol=1e-6)


def test_why_one_is_above_another_adds_up_to_the_difference(planted: Explorer, space: FeatureSet) -> None:
    for query in QUERIES[::4]:
        _, edit = edits(space, planted.embed(query))[1]
        a, b = (
            explain(planted, space, int(position), edit)
            for position in best_of(planted, edit.steered_D, 9)[::8]
        )
        found = why_above(a, b)
        assert found.score == pytest.approx(a.score - b.score)
        assert total(found.parts) + found.bias + found.missed == pytest.approx(found.score, abs=1e-6)
        assert found.query + total(found.moves) == pytest.approx(found.score, abs=1e-6)
        assert found.bias == pytest.approx(0, abs=1e-9)
        assert {part.latent for part in found.parts} == {p.latent for p in a.parts} | {
            p.latent for p in b.parts
        }
        assert why_above(b, a).score == -found.score


# --- preview --------------------------------------------------------------------------------------


def foresee(  # noqa: PLR0917
    planted: Explorer,
    space: FeatureSet,
    x_D: np.ndarray,
    moves: Moves,
    edit: Edit,
    ranked: np.ndarray,
    steps: list[tuple[int, float]],
) -> np.ndarray:
    found: np.ndarray = preview(
        planted.index.vectors(),
        ranked,
        steps,
        x_D=x_D,
        moves=moves,
        edit=edit,
        directions_ND=space.sae.directions_ND,
    )
    return found


def correlations(planted: Explorer, space: FeatureSet) -> list[float]:
    """Of foretold and real rank changes of the first 200, in a whole ranking of 3,000 documents.

    For every query, every way to have moved before, and every slider of it: the query's features and two
    others, a notch up or down (a fifth of the largest activation, as the buttons of the panel do).
    """
    rng = np.random.default_rng(4)
    found = []
    for query in QUERIES[::6]:
        x_D = planted.embed(query)
        own = own_of(space, x_D)
        for moves, edit in edits(space, x_D):
            ranked = best_of(planted, edit.steered_D, 1000)
            latents = [*own, *(int(i) for i in rng.choice(space.sae.n_latents, 2))]
            notches = [(i, float(rng.choice([-0.2, 0.2])) * float(space.features.max_N[i])) for i in latents]
            foretold = foresee(planted, space, x_D, moves, edit, ranked, notches)
            for (latent, step), change in zip(notches, foretold, strict=True):
                real = real_change(planted, space, x_D, moves, ranked[:N_PREVIEWED], latent, step)
                if np.ptp(real) == 0:
                    assert np.ptp(change) == 0
                    continue
                found.append(float(np.corrcoef(change, real)[0, 1]))
    return found


def real_change(  # noqa: PLR0917
    planted: Explorer,
    space: FeatureSet,
    x_D: np.ndarray,
    moves: Moves,
    documents: np.ndarray,
    latent: int,
    step: float,
) -> np.ndarray:
    """Places that documents win in the whole ranking when the strength of a latent is set anew."""
    own = own_of(space, x_D)
    shares = sum(family.amount * family.shares.get(latent, 0.0) for family in moves.families)
    stands = moves.strengths.get(latent, own.get(latent, 0.0) + shares)
    then = Moves({**moves.strengths, latent: stands + step}, moves.ignored, moves.families, moves.keep)
    ranks = []
    for each in (moves, then):
        edit = make_edit(x_D, each, own, space.sae.directions_ND)
        order = best_of(planted, edit.steered_D, planted.n_documents)
        places = np.empty(len(order), dtype=np.int64)
        places[order] = np.arange(len(order))
        ranks.append(places[documents])
    change: np.ndarray = ranks[0] - ranks[1]
    return change


def test_foretold_movements_are_those_that_come(planted: Explorer, space: FeatureSet) -> None:
    found = correlations(planted, space)
    assert len(found) > 200
    assert np.mean(found) >= 0.9
    assert np.percentile(found, 5) >= 0.9


def test_a_step_of_an_ignored_feature_and_no_step_move_nothing(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.embed(truth.WORDS[4])
    own = own_of(space, x_D)
    moves = Moves({9: 0.5}, ignored=frozenset({11, next(iter(own))}))
    edit = make_edit(x_D, moves, own, space.sae.directions_ND)
    ranked = best_of(planted, edit.steered_D, 300)
    steps = [(latent, 0.5) for latent in sorted(moves.ignored)] + [(5, 0.0)]
    found = foresee(planted, space, x_D, moves, edit, ranked, steps)
    assert found.shape == (3, N_PREVIEWED)
    assert not found.any()


@pytest.mark.parametrize("n", [0, 1, 5, 200, 201])
def test_any_number_of_results_can_be_previewed(planted: Explorer, space: FeatureSet, n: int) -> None:
    x_D = planted.embed(truth.WORDS[4])
    moves, edit = edits(space, x_D)[1]
    ranked = best_of(planted, edit.steered_D, n)
    found = foresee(planted, space, x_D, moves, edit, ranked, [(3, 0.4)])
    assert found.shape == (1, min(n, N_PREVIEWED))
    assert n >= N_PREVIEWED or found.sum() == 0  # what one wins, another loses


# --- faithfulness -----------------------------------------------------------------------------------


def test_planted_queries_are_spoken_for_and_noise_is_not(planted: Explorer, space: FeatureSet) -> None:
    rng = np.random.default_rng(2)
    noise_D = rng.standard_normal(planted.width).astype(np.float32)
    noise_D /= np.linalg.norm(noise_D)
    known = [faithfulness(planted.index, space.sae, planted.embed(query)) for query in QUERIES[:12]]
    other = faithfulness(planted.index, space.sae, noise_D)
    assert min(each.explained for each in known) > 0.9 > other.explained
    assert np.mean([each.overlap for each in known]) > other.overlap
    assert all(each.n == 20 for each in known)


def test_the_explorer_explains_previews_and_remembers(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.embed(truth.WORDS[8])
    moves, edit = edits(space, x_D)[1]
    answer = planted.search(space.name, x_D, moves)
    found = planted.why(space.name, int(answer.hits.positions[0]), answer.edit)
    assert found.score == pytest.approx(float(answer.hits.scores[0]), abs=1e-5)
    ranked = best_of(planted, edit.steered_D, 1000)
    steps = [(3, 0.4), (9, -0.2)]
    np.testing.assert_array_equal(
        planted.preview(space.name, x_D, moves, answer, steps),
        foresee(planted, space, x_D, moves, edit, ranked, steps),
    )
    first = planted.faithfulness(space.name, x_D)
    assert planted.faithfulness(space.name, x_D) is first
    assert first == faithfulness(planted.index, space.sae, x_D)


def test_a_search_that_nobody_steered_can_be_previewed(planted: Explorer, space: FeatureSet) -> None:
    x_D = planted.embed(truth.WORDS[8])
    answer = planted.search(space.name, x_D)
    assert planted.preview(space.name, x_D, Moves(), answer, [(3, 0.4)]).any()
