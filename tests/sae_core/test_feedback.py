"""A few moves in words do what marks ask for, and nothing that words would not say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sae_core.errors import SaefariError
from sae_core.explorer import NO_MOVES, Explorer, FeatureSet
from sae_core.feedback import MOST_PROPOSALS, Marked, Proposal
from sae_core.steer import Moves
from tests import planted as truth

DOCUMENTS = truth.documents()
BASE, LIKED, DISLIKED = 30, 40, 45  # topics without a family


@pytest.fixture(scope="module")
def space(planted: Explorer) -> FeatureSet:
    (found,) = planted.saes.values()
    return found


@pytest.fixture(scope="module")
def latent_of(space: FeatureSet) -> list[int]:
    return [int(i) for i in (truth.directions() @ space.sae.directions_ND.T).argmax(axis=1)]


def about(*topics: int, without: int | None = None, n: int = 6) -> list[int]:
    """Documents with all these topics, and without another one."""
    words = [truth.WORDS[topic] for topic in topics]
    titles = [each.title.split() for each in DOCUMENTS]
    found = [at for at, title in enumerate(titles) if all(word in title for word in words)]
    return [at for at in found if without is None or truth.WORDS[without] not in titles[at]][:n]


def propose(planted: Explorer, space: FeatureSet, marked: Marked, moves: Moves = NO_MOVES) -> list[Proposal]:
    return planted.propose(space.name, planted.embed(truth.WORDS[BASE]), moves, marked)


def typical_rank(planted: Explorer, space: FeatureSet, moves: Moves, documents: list[int]) -> float:
    """The median rank of some documents in the whole search."""
    x_D = planted.embed(truth.WORDS[BASE])
    found = planted.search(space.name, x_D, moves, limit=planted.n_documents).hits.positions
    return float(np.median([np.flatnonzero(found == at)[0] for at in documents]))


def test_what_is_marked_up_is_proposed_and_brings_more_of_it(
    planted: Explorer, space: FeatureSet, latent_of: list[int]
) -> None:
    found = propose(planted, space, Marked(up=about(BASE, LIKED)))
    liked = next(each for each in found if each.latent == latent_of[LIKED])
    assert liked.strength > liked.own == 0
    others = about(LIKED, n=200)[10:]  # documents that nobody marked
    moves = Moves({each.latent: each.strength for each in found})
    before, after = (typical_rank(planted, space, each, others) for each in (NO_MOVES, moves))
    assert after < 0.75 * before


def test_what_is_marked_down_is_proposed_downwards(
    planted: Explorer, space: FeatureSet, latent_of: list[int]
) -> None:
    up, down = about(BASE, LIKED), about(BASE, DISLIKED)
    found = {each.latent: each for each in propose(planted, space, Marked(up, down))}
    assert found[latent_of[LIKED]].strength > found[latent_of[LIKED]].own
    assert found[latent_of[DISLIKED]].strength < found[latent_of[DISLIKED]].own
    alone = propose(planted, space, Marked(up=(), down=down))
    assert latent_of[DISLIKED] in {each.latent for each in alone}
    assert all(each.strength < each.own for each in alone if each.latent == latent_of[DISLIKED])


def test_there_are_at_most_five_each_in_the_direction_that_its_words_say(
    planted: Explorer, space: FeatureSet
) -> None:
    rng = np.random.default_rng(8)
    activations_MN = space.codes.matrix().toarray()
    for _ in range(20):
        drawn = rng.permutation(planted.n_documents)
        up, down = drawn[:4].tolist(), drawn[4:9].tolist()
        found = propose(planted, space, Marked(up, down))
        assert 0 < len(found) <= MOST_PROPOSALS
        assert len({each.latent for each in found}) == len(found)
        assert [each.gain for each in found] == sorted((each.gain for each in found), reverse=True)
        more_N = activations_MN[up].mean(axis=0) - activations_MN[down].mean(axis=0)
        for each in found:
            assert np.sign(each.strength - each.own) == np.sign(more_N[each.latent])
            strong = float(space.features.quantiles_NQ[each.latent, -1])
            assert abs(each.strength) <= max(strong, abs(each.own)) + 1e-6


def test_what_was_accepted_is_not_proposed_again(planted: Explorer, space: FeatureSet) -> None:
    marked = Marked(up=about(BASE, LIKED))
    first = propose(planted, space, marked)
    moves = Moves({each.latent: each.strength for each in first})
    size = sum(abs(each.strength - each.own) for each in first)
    again = propose(planted, space, marked, moves)
    assert sum(abs(each.strength - each.own) for each in again) < 0.7 * size


def test_ignored_dead_and_nameless_features_are_never_proposed(
    planted: Explorer, space: FeatureSet, latent_of: list[int]
) -> None:
    marked = Marked(up=about(BASE, LIKED), down=about(BASE, DISLIKED))
    ignored = frozenset({latent_of[LIKED]})
    assert latent_of[LIKED] not in {
        each.latent for each in propose(planted, space, marked, Moves(ignored=ignored))
    }
    labels = [
        replace(label, text="", source="none") if latent == latent_of[DISLIKED] else label
        for latent, label in enumerate(space.labels)
    ]
    changed = Explorer.load(planted.path.parent.parent)
    changed.saes = {space.name: replace(space, labels=labels)}
    x_D = planted.embed(truth.WORDS[BASE])
    named = {each.latent for each in changed.propose(space.name, x_D, Moves(), marked)}
    assert named
    assert latent_of[DISLIKED] not in named
    assert not space.named_N[space.codes.counts() == 0].any()


def test_without_marks_nothing_can_be_proposed(planted: Explorer, space: FeatureSet) -> None:
    with pytest.raises(SaefariError, match="No result is marked"):
        propose(planted, space, Marked(up=()))
