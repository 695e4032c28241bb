"""Co-activation, edges, algorithms and measures against the dense definitions, on small random codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_core.families import FamilyConfig, coactivate, grow, is_quick
from sae_core.families.coactivation import FLOOR, PAIRS_PER_BLOCK, find_edges
from tests.sae_core import brute

SEEDS = st.integers(0, 10_000)
OPEN = {"min_lift": 0.0, "min_z": 0.0, "min_together": 1, "max_density": 1.0}
CONFIGS = st.builds(
    FamilyConfig,
    algorithm=st.sampled_from(["lift", "paper"]),
    edge=st.sampled_from(["parent", "child"]),
    threshold=st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5]),
    min_lift=st.sampled_from([0.0, 1.0, 1.2, 2.0]),
    min_z=st.sampled_from([0.0, 2.0, 3.0]),
    min_together=st.sampled_from([1, 3, 5]),
    max_density=st.sampled_from([0.2, 0.4, 1.0]),
    min_children=st.integers(1, 3),
    min_size=st.integers(2, 4),
    max_size=st.sampled_from([4, 6, 10, 1000]),
)


@settings(max_examples=25)
@given(SEEDS, st.integers(1, 70))
def test_every_pair_is_counted(seed: int, n_latents: int) -> None:
    codes = brute.random_codes(seed, n_latents=n_latents)
    found, expected = coactivate(codes), brute.together(codes)
    i, j = np.triu_indices(n_latents, 1)
    np.testing.assert_array_equal(found.look_up(i, j), expected[i, j])
    np.testing.assert_array_equal(found.look_up(j, i), expected[i, j])
    upper = np.zeros_like(expected)
    for pairs in found.pairs():
        upper[pairs.i, pairs.j] = pairs.together
    np.testing.assert_array_equal(upper, np.triu(expected, 1))
    assert found.n_pairs == np.count_nonzero(expected[i, j])
    f_N = codes.counts()
    shares_NN = expected / np.maximum(np.minimum.outer(f_N, f_N), 1)
    np.testing.assert_allclose(found.share_sums_N, shares_NN.sum(axis=1) - (f_N > 0))


def test_progress_ends_at_the_last_latent() -> None:
    told: list[tuple[int, int]] = []
    coactivate(brute.random_codes(0, n_latents=70), lambda done, total: told.append((done, total)))
    assert told == [(64, 70), (70, 70)]


def test_more_pairs_than_fit_into_a_block_are_looked_up() -> None:
    codes = brute.random_codes(1)
    i, j = np.random.default_rng(0).integers(0, 25, (2, 2 * PAIRS_PER_BLOCK + 7))
    i, j = i[i != j], j[i != j]
    np.testing.assert_array_equal(coactivate(codes).look_up(i, j), brute.together(codes)[i, j])


@given(SEEDS, CONFIGS)
def test_edges_are_the_pairs_within_the_limits(seed: int, config: FamilyConfig) -> None:
    codes = brute.random_codes(seed)
    found = find_edges(coactivate(codes), config)
    expected = {(edge.parent, edge.child): edge.together for edge in brute.edges(codes, config)}
    pairs = list(zip(found.parents.tolist(), found.children.tolist(), strict=True))
    assert dict(zip(pairs, found.together.tolist(), strict=True)) == expected
    f_N = codes.counts()
    keys = [(-expected[p, c] / f_N[c], -expected[p, c] / f_N[p], p, c) for p, c in pairs]
    assert keys == sorted(keys)


@given(SEEDS, st.sampled_from(sorted(FLOOR)))
def test_stored_edges_and_a_pass_over_all_pairs_agree(seed: int, name: str) -> None:
    codes = brute.random_codes(seed)
    counted = coactivate(codes)
    at_floor = FamilyConfig(**{**OPEN, **FLOOR})  # type: ignore[arg-type]
    lower: dict[str, Any] = {name: FLOOR[name] - (1 if name == "min_together" else 0.01)}
    below = replace(at_floor, **lower)
    assert is_quick(at_floor)
    assert not is_quick(below)
    quick, slow = find_edges(counted, at_floor), find_edges(counted, below)
    both = set(zip(quick.parents.tolist(), quick.children.tolist(), strict=True))
    assert both <= set(zip(slow.parents.tolist(), slow.children.tolist(), strict=True))


@settings(max_examples=60)
@given(SEEDS, CONFIGS)
def test_the_papers_families_are_those_of_the_definition(seed: int, config: FamilyConfig) -> None:
    codes = brute.random_codes(seed)
    config = replace(config, algorithm="paper", max_jaccard=1.0)
    found = grow(coactivate(codes), config).families
    assert {family.id: set(family.members) for family in found} == brute.paper_families(codes, config)


@settings(max_examples=60)
@given(SEEDS, CONFIGS)
def test_without_a_limit_every_latent_hangs_under_its_best_parent(seed: int, config: FamilyConfig) -> None:
    codes = brute.random_codes(seed)
    config = replace(config, algorithm="lift", max_size=1000)
    best: dict[int, brute.Edge] = {}
    for edge in brute.edges(codes, config):
        rank = (-brute.weight(codes, edge), edge.parent)
        if edge.child not in best or rank < (-brute.weight(codes, best[edge.child]), best[edge.child].parent):
            best[edge.child] = edge
    arrows = [(edge.parent, edge.child) for edge in best.values()]
    trees = {root: brute.descendants(root, arrows) for root in range(codes.n_latents) if root not in best}
    fan = {latent: sum(parent == latent for parent, _ in arrows) for latent in range(codes.n_latents)}
    expected = {
        root: members
        for root, members in trees.items()
        if len(members) >= config.min_size and max(map(fan.__getitem__, members)) >= config.min_children
    }
    families = grow(coactivate(codes), config).families
    assert {family.id: set(family.members) for family in families} == expected
    for family in families:
        assert family.parents[1:] == [best[member].parent for member in family.members[1:]]


@settings(max_examples=60)
@given(SEEDS, CONFIGS)
def test_a_latent_has_one_home_of_a_bounded_size(seed: int, config: FamilyConfig) -> None:
    codes = brute.random_codes(seed)
    config = replace(config, algorithm="lift")
    forest = grow(coactivate(codes), config)
    allowed = {(edge.parent, edge.child): edge.together for edge in brute.edges(codes, config)}
    f_N = codes.counts()
    members = [member for family in forest.families for member in family.members]
    assert len(members) == len(set(members)) == forest.n_covered
    assert forest.n_shared == 0
    assert forest.sizes == sorted(forest.sizes, reverse=True)
    for family in forest.families:
        assert config.min_size <= len(family.members) <= config.max_size
        assert family.members[0] == family.id
        assert family.parents[0] == -1
        n_children = [family.parents.count(member) for member in family.members]
        assert max(n_children) >= config.min_children
        for place, (member, parent) in enumerate(zip(family.members, family.parents, strict=True)):
            if place:
                assert parent in family.members[:place]
                assert family.conditionals[place] == allowed[parent, member] / f_N[member]
        for link in family.links:
            assert link.member in family.members
            assert link.parent not in family.members
            assert link.conditional == allowed[link.parent, link.member] / f_N[link.member]


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(["lift", "paper"]))
def test_measures_are_those_of_the_definition(seed: int, algorithm: str) -> None:
    codes = brute.random_codes(seed)
    config = FamilyConfig(algorithm=algorithm, **{**OPEN, "threshold": 0.2})  # type: ignore[arg-type]
    forest = grow(coactivate(codes), config)
    for family in forest.families[:4]:
        assert family.hub_ratio == pytest.approx(brute.hub_ratio(codes, family.members))
        assert family.block_ratio == pytest.approx(brute.block_ratio(codes, family.members))
        assert (family.hub_null is None) == (family.hub_ratio is None)
        assert (family.block_null is None) == (family.block_ratio is None)
