"""One home for each latent: by lift among denser latents, and along the nesting of a Matryoshka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sae_core.codes import Codes, encode_codes
from sae_core.errors import SaefariError
from sae_core.families import Family, FamilyConfig, Forest, Link, coactivate, default_config, grow
from sae_core.recipe import TrainConfig
from sae_core.train import train
from tests import planted as truth
from tests.sae_core import brute
from tests.sae_core.test_families import by_id, codes_of, planted_codes, planted_truth

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sae_core.sae import SAE


def forest_of(codes: Codes, levels_N: list[int] | None = None, **options: Any) -> Forest:
    levels = None if levels_N is None else np.array(levels_N)
    return grow(coactivate(codes), FamilyConfig(**options), levels)


def parents_of(families: Iterable[Family]) -> dict[int, int]:
    return {m: p for family in families for m, p in zip(family.members, family.parents, strict=True)}


def inside_each_other() -> Codes:
    """Latent 0 holds 1 and 2, which hold three each; 10 and 11 lie in 0 alone."""
    fires: dict[int, Iterable[int]] = {0: range(400), 1: range(180), 2: range(200, 380)}
    fires |= {3 + at: range(60 * at, 60 * at + 50) for at in range(3)}
    fires |= {6 + at: range(200 + 60 * at, 250 + 60 * at) for at in range(3)}
    fires |= {10: range(380, 390), 11: range(390, 400)}
    return codes_of(fires, n_latents=12, n_documents=2000)


def test_a_child_hangs_under_the_closest_of_those_that_hold_it() -> None:
    (family,) = forest_of(inside_each_other()).families
    assert parents_of([family]) == {0: -1, 1: 0, 2: 0, 3: 1, 4: 1, 5: 1, 6: 2, 7: 2, 8: 2, 10: 0, 11: 0}
    assert family.n_documents == 400
    assert family.links == []


def test_too_large_a_family_loses_its_heaviest_subtrees_which_become_families() -> None:
    """Eleven members, at most 8: of the two subtrees of four, equally heavy and heavily tied, one goes."""
    families = by_id(forest_of(inside_each_other(), max_size=8).families)
    assert {root: sorted(family.members) for root, family in families.items()} == {
        0: [0, 2, 6, 7, 8, 10, 11],
        1: [1, 3, 4, 5],
    }
    assert families[1].links[0] == Link(member=1, parent=0, conditional=1.0)


def test_the_heavier_subtree_is_detached() -> None:
    """Room comes with the six of latent 1 gone; it would come with the four of latent 2 gone as well."""
    fires: dict[int, Iterable[int]] = {0: range(400), 1: range(180), 2: range(200, 380)}
    fires |= {3 + at: range(36 * at, 36 * at + 30) for at in range(5)}
    fires |= {8 + at: range(200 + 60 * at, 250 + 60 * at) for at in range(3)}
    families = by_id(forest_of(codes_of(fires, n_latents=11, n_documents=2000), max_size=8).families)
    assert {root: len(family.members) for root, family in families.items()} == {1: 6, 0: 5}


def test_what_is_detached_without_being_a_family_finds_the_next_best_home_with_room() -> None:
    """Latent 0 has six children and room for four; two of them lie in latent 1 as well, less well."""
    fires: dict[int, Iterable[int]] = {0: range(300)}
    fires |= {2 + at: range(40 * at, 40 * at + 30) for at in range(4)}
    fires |= {6: [*range(200, 220), *range(1000, 1015)], 7: [*range(230, 250), *range(1020, 1035)]}
    fires[1] = [*range(1000, 1260)]
    fires |= {8 + at: range(1050 + 30 * at, 1075 + 30 * at) for at in range(3)}
    codes = codes_of(fires, n_latents=11, n_documents=5000)
    assert parents_of(forest_of(codes).families)[6] == 0
    families = by_id(forest_of(codes, max_size=6).families)
    assert sorted(families[0].members) == [0, 2, 3, 4, 5, 6] or sorted(families[0].members) == [
        0,
        2,
        3,
        4,
        5,
        7,
    ]
    left = 7 if 6 in families[0].members else 6
    assert parents_of(families.values())[left] == 1
    (link,) = [link for link in families[1].links if link.member == left]
    assert link.parent == 0


def test_a_latent_that_fires_almost_everywhere_is_no_junk_drawer() -> None:
    """By conditional alone it would be the parent of all; its lift is 1.1."""
    fires: dict[int, Iterable[int]] = {0: range(900), 1: range(100), 2: range(100, 200)}
    fires |= {3 + at: range(30 * at, 30 * at + 28) for at in range(6)}
    families = by_id(forest_of(codes_of(fires, n_latents=9)).families)
    assert set(families) == {1, 2}
    assert 0 not in parents_of(families.values()).values()


def test_density_is_capped() -> None:
    codes = inside_each_other()
    assert set(by_id(forest_of(codes, max_density=0.19).families)) == {1, 2}
    assert set(by_id(forest_of(codes, max_density=0.2).families)) == {0}


def test_links_are_good_parents_outside_the_home() -> None:
    """Latent 9 lies in 1 and for the most part in 2: one is its home, the other a link."""
    fires: dict[int, Iterable[int]] = {1: range(200), 2: range(170, 370)}
    fires |= {3 + at: range(50 * at, 50 * at + 40) for at in range(3)}
    fires |= {6 + at: range(220 + 50 * at, 260 + 50 * at) for at in range(3)}
    fires[9] = range(168, 198)
    families = by_id(forest_of(codes_of(fires, n_latents=10, n_documents=2000)).families)
    assert 9 in families[1].members
    assert 9 not in families[2].members
    assert families[1].links == [Link(member=9, parent=2, conditional=28 / 30)]


# --- nesting --------------------------------------------------------------------------------------


def test_along_the_nesting_a_parent_is_of_an_earlier_group_whatever_its_density() -> None:
    """Latents 1 and 2 swap groups with their children, of which some are sparser."""
    levels = [0, 1, 1, 2, 2, 2, 2, 2, 2, 3, 2, 2]
    (family,) = forest_of(inside_each_other(), levels, algorithm="nesting").families
    assert parents_of([family])[3] == 1
    turned = [1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    found = parents_of(forest_of(inside_each_other(), turned, algorithm="nesting").families)
    assert found[0] == 1  # P(1 | 0) = .45
    assert {found[3], found[6]} == {1, 2}
    assert 10 not in found  # lies in 0 alone, which is of the same group


@pytest.mark.parametrize("seed", range(5))
def test_every_parent_along_the_nesting_is_the_best_of_the_earlier_groups(seed: int) -> None:
    codes, levels = brute.random_codes(seed), np.arange(25) // 7
    config = FamilyConfig(algorithm="nesting", max_size=1000, min_z=0, min_lift=1.0)
    C_NN, f_N = brute.together(codes), codes.counts()
    found = parents_of(grow(coactivate(codes), config, levels).families)
    assert found
    for child, parent in found.items():
        both = [
            brute.Edge(p, child, int(C_NN[p, child])) for p in np.flatnonzero(levels < levels[child]).tolist()
        ]
        allowed = [
            edge
            for edge in both
            if edge.together >= 5
            and edge.together >= 0.2 * f_N[child]
            and edge.together >= f_N[edge.parent] * f_N[child] / codes.n_documents
            and max(f_N[edge.parent], f_N[child]) <= 0.5 * codes.n_documents
        ]
        best = max(allowed, key=lambda edge: (brute.weight(codes, edge), -edge.parent), default=None)
        assert parent == (-1 if best is None else best.parent)


def test_an_sae_without_nested_groups_has_no_families_along_them() -> None:
    with pytest.raises(SaefariError, match="no nested groups"):
        forest_of(inside_each_other(), algorithm="nesting")


def test_the_default_follows_the_nesting_where_there_is_one() -> None:
    assert default_config(None).algorithm == "lift"
    assert default_config(np.zeros(3, dtype=np.int64)).algorithm == "nesting"


# --- planted families -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_families_are_found_and_noise_is_not(seed: int) -> None:
    planted, codes = planted_truth(seed), planted_codes(seed)
    families = by_id(forest_of(codes).families)
    assert set(families) == set(planted)
    for root, members in planted.items():
        found = set(families[root].members)
        assert len(found & members) / len(found | members) > 0.8
        for null in (families[root].hub_null, families[root].block_null):
            assert null is not None
            assert null.p <= 0.02


def forced(k: int, work: Path) -> tuple[SAE, Codes]:
    """An SAE that must pick more latents for a document than it has topics."""
    x_MD = truth.PlantedEmbedder().embed([document.text for document in truth.documents()])
    config = TrainConfig.for_corpus(len(x_MD), truth.WIDTH, n_latents=64, k=k, steps=1500)
    sae = train(x_MD, x_MD[:300], config, work)
    return sae, encode_codes(sae, x_MD)


@pytest.mark.parametrize(("k", "n_roots", "share"), [(4, 4, 0.9), (6, 3, 0.6)])
def test_planted_families_are_found_through_picks_that_nothing_asked_for(
    tmp_path: Path, k: int, n_roots: int, share: float
) -> None:
    """The paper's algorithm loses roots here: a parent that fires on a third of all documents has no lift."""
    sae, codes = forced(k, tmp_path)
    cosines_NT = sae.directions_ND @ truth.directions().T
    topic_N = np.where(cosines_NT.max(axis=1) > 0.9, cosines_NT.argmax(axis=1), -1)
    size = truth.N_CHILDREN + 1
    home: dict[int, int] = {}  # of each planted topic, the topic of its family's root
    for family in forest_of(codes).families:
        home |= {int(topic_N[member]): int(topic_N[family.id]) for member in reversed(family.members)}
    found = [
        [home.get(size * f + child) == size * f for child in range(size)] for f in range(truth.N_FAMILIES)
    ]
    assert sum(own[0] for own in found) >= n_roots
    assert np.mean(found) > share
