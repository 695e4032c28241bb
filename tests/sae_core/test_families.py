"""The paper's families, on codes whose co-activations are counted by hand and on planted families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_core.codes import Codes, make_codes
from sae_core.errors import SaefariError
from sae_core.families import Family, FamilyConfig, coactivate, grow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

N_DOCUMENTS = 1000


def codes_of(fires: Mapping[int, Iterable[int]], *, n_latents: int, n_documents: int = N_DOCUMENTS) -> Codes:
    """Codes in which latent `i` fires with activation 1 on the documents `fires[i]`."""
    pairs = [(document, latent) for latent, documents in fires.items() for document in documents]
    rows, latents = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    ones = np.ones(len(rows), dtype=np.float32)
    return make_codes(rows, latents, ones, n_documents=n_documents, n_latents=n_latents)


PAPER = FamilyConfig(algorithm="paper")


def paper(**options: Any) -> FamilyConfig:
    return FamilyConfig(algorithm="paper", **options)


def grow_families(codes: Codes, config: FamilyConfig = PAPER) -> list[Family]:
    return grow(coactivate(codes), config).families


def by_id(families: list[Family]) -> dict[int, Family]:
    return {family.id: family for family in families}


def test_an_edge_is_the_share_of_the_sparser_that_the_denser_shares() -> None:
    """Latent 7 fires on 80 documents; of the children's 10, 20 and 40 it shares 10, 15 and 12."""
    fires = {7: range(80), 2: range(10), 9: [*range(20, 35), *range(200, 205)]}
    fires[4] = [*range(50, 62), *range(300, 328)]
    (family,) = grow_families(codes_of(fires, n_latents=10))
    assert family.id == 7
    assert dict(zip(family.members, family.parents, strict=True)) == {7: -1, 2: 7, 9: 7, 4: 7}
    assert dict(zip(family.members, family.conditionals, strict=True)) == {7: 1, 2: 1, 9: 0.75, 4: 0.3}
    assert family.n_documents == 80 + 5 + 28


def test_members_stand_root_first_then_depth_first_the_denser_sibling_first() -> None:
    fires = {0: range(100), 1: range(30), 2: range(40, 90), 3: range(90, 100), 4: range(40, 60)}
    (family,) = grow_families(codes_of(fires, n_latents=5))
    assert family.members == [0, 2, 4, 1, 3]
    assert family.parents == [-1, 0, 2, 0, 0]


def test_a_child_inside_several_hangs_under_the_closest() -> None:
    """Both ancestors hold all of latent 3; the smaller one is its parent."""
    fires = {0: range(200), 1: range(60), 2: range(60, 120), 4: range(120, 180), 3: range(10, 30)}
    (family,) = grow_families(codes_of(fires, n_latents=5))
    assert dict(zip(family.members, family.parents, strict=True))[3] == 1


def test_of_equally_dense_latents_the_lower_index_is_the_parent() -> None:
    fires = {latent: range(latent, latent + 20) for latent in (1, 2, 3, 4)}
    config = paper(n_iterations=1, min_children=1, min_size=2, max_jaccard=1)
    for family in grow_families(codes_of(fires, n_latents=5), config):
        for member, parent in zip(family.members[1:], family.parents[1:], strict=True):
            assert parent < member


@pytest.mark.parametrize("n_children", [2, 3])
def test_a_root_needs_more_than_two_children(n_children: int) -> None:
    fires: dict[int, Iterable[int]] = {0: range(100)}
    fires |= {1 + child: range(30 * child, 30 * child + 30) for child in range(n_children)}
    fires[5] = range(10)  # a grandchild, so that size is not what decides
    assert len(grow_families(codes_of(fires, n_latents=6))) == (n_children > 2)


def test_a_family_within_a_family_is_found_too() -> None:
    inner: dict[int, Iterable[int]] = {1: range(90), 5: range(30), 6: range(30, 60), 7: range(60, 90)}
    outer: dict[int, Iterable[int]] = {0: range(300), 2: range(90, 140), 3: range(140, 190)}
    outer |= {4: range(190, 300)}
    families = by_id(grow_families(codes_of(outer | inner, n_latents=8)))
    assert set(families[0].members) == set(range(8))
    assert set(families[1].members) == {1, 5, 6, 7}
    assert families[1].parents[0] == -1


def test_of_two_families_that_overlap_too_much_the_smaller_is_dropped() -> None:
    """The inner family has 6 of the outer family's 8 members: Jaccard .75."""
    fires: dict[int, Iterable[int]] = {0: range(400), 1: range(200), 7: range(350, 400)}
    fires |= {2 + child: range(30 * child, 30 * child + 30) for child in range(5)}
    fires[1] = range(210)
    fires[8] = range(300, 340)
    codes = codes_of(fires, n_latents=9)
    dropping = grow_families(codes, paper(max_jaccard=0.6, min_children=3, n_iterations=1))
    keeping = grow_families(codes, paper(max_jaccard=0.8, min_children=3, n_iterations=1))
    assert [len(family.members) for family in keeping] == [9, 6]
    assert [len(family.members) for family in dropping] == [9]


def test_deleting_a_root_lets_the_next_family_appear() -> None:
    """Latents 0 and 1 hold the same three children; only the tighter can have them at first."""
    fires: dict[int, Iterable[int]] = {0: range(90), 1: [*range(80), *range(500, 530)]}
    fires |= {2: range(30), 3: range(30, 60), 4: range(60, 90)}
    codes = codes_of(fires, n_latents=5)
    once = grow_families(codes, paper(n_iterations=1, max_jaccard=1))
    thrice = grow_families(codes, paper(n_iterations=3, max_jaccard=1))
    assert {family.id for family in once} < {family.id for family in thrice} == {0, 1}


def test_a_latent_that_fires_everywhere_is_nobodys_parent() -> None:
    fires: dict[int, Iterable[int]] = {0: range(N_DOCUMENTS)}
    fires |= {1 + at: range(50 * at, 50 * at + 50) for at in range(10)}
    assert grow_families(codes_of(fires, n_latents=11)) == []
    junk = grow_families(codes_of(fires, n_latents=11), paper(min_lift=0, min_z=0))
    assert [family.id for family in junk] == [0]


def test_a_handful_of_documents_makes_no_edge() -> None:
    fires: dict[int, Iterable[int]] = {0: range(100)}
    fires |= {1 + child: range(4 * child, 4 * child + 4) for child in range(5)}
    codes = codes_of(fires, n_latents=6)
    assert grow_families(codes) == []
    assert len(grow_families(codes, paper(min_together=4))) == 1


def test_measures_of_a_family_counted_by_hand() -> None:
    """C~(root, child) = 1; of three pairs of children one shares 5 of 10: mean 1/6, so R = 6.

    Latent 4 shares 2 of its 8 documents with one child, and thereby with the root: outside mean
    (1/4 + 1/4) / 4; inside mean (3 + 1/2) / 6.
    """
    fires = {0: range(30), 1: range(10), 2: range(5, 15), 3: range(20, 30), 4: [28, 29, *range(90, 96)]}
    codes = codes_of(fires, n_latents=6)
    (family,) = grow_families(codes)
    assert set(family.members) == {0, 1, 2, 3}
    assert family.hub_ratio == pytest.approx(6)
    assert family.block_ratio == pytest.approx((3.5 / 6) / (0.5 / 4))


def test_measures_without_a_denominator_are_none() -> None:
    fires = {0: range(30), 1: range(10), 2: range(10, 20), 3: range(20, 30)}
    (alone,) = grow_families(codes_of(fires, n_latents=4))
    assert alone.hub_ratio is None
    assert alone.block_ratio is None
    (silent_outside,) = grow_families(codes_of(fires | {4: range(500, 530)}, n_latents=5))
    assert silent_outside.block_ratio is None


def test_no_activation_no_family() -> None:
    assert grow_families(codes_of({}, n_latents=5)) == []


def test_one_family_may_hold_every_latent() -> None:
    fires: dict[int, Iterable[int]] = {0: range(300)}
    fires |= {1 + child: range(10 * child, 10 * child + 10) for child in range(29)}
    (family,) = grow_families(codes_of(fires, n_latents=30))
    assert len(family.members) == 30
    assert family.n_documents == 300


PLANTED = 12
CHILDREN = 6


def planted_codes(seed: int) -> Codes:
    """Twelve parents with six children each, and 100 latents that fire at random.

    A parent fires on nine in ten documents of its children, which overlap in places, and on as many
    documents again of its own; latent numbers are shuffled.
    """
    rng = np.random.default_rng(seed)
    n_documents, n_noise = 6000, 100
    names = rng.permutation(PLANTED * (CHILDREN + 1) + n_noise)
    fires: dict[int, Iterable[int]] = {}
    for family in range(PLANTED):
        pool = rng.choice(n_documents, 500, replace=False)
        children = [rng.choice(pool[:300], rng.integers(20, 60), replace=False) for _ in range(CHILDREN)]
        covered = np.unique(np.concatenate(children))
        parent = rng.choice(covered, int(0.9 * len(covered)), replace=False)
        first = family * (CHILDREN + 1)
        fires[int(names[first])] = [*parent, *pool[300:]]
        fires |= {int(names[first + 1 + at]): child for at, child in enumerate(children)}
    for noise in names[PLANTED * (CHILDREN + 1) :]:
        fires[int(noise)] = rng.choice(n_documents, rng.integers(20, 400), replace=False)
    return codes_of(fires, n_latents=len(names), n_documents=n_documents)


def planted_truth(seed: int) -> dict[int, set[int]]:
    names = np.random.default_rng(seed).permutation(PLANTED * (CHILDREN + 1) + 100)
    blocks = names[: PLANTED * (CHILDREN + 1)].reshape(PLANTED, CHILDREN + 1)
    return {int(block[0]): set(block.tolist()) for block in blocks}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_families_are_found_and_noise_is_not(seed: int) -> None:
    truth = planted_truth(seed)
    families = by_id(grow_families(planted_codes(seed)))
    assert truth.keys() <= families.keys()
    for root, members in truth.items():
        found = set(families[root].members)
        assert len(found & members) / len(found | members) > 0.8
        assert (families[root].hub_ratio or 0) > 1.5
        assert (families[root].block_ratio or 0) > 5
    noise = set(range(PLANTED * (CHILDREN + 1) + 100)).difference(*truth.values())
    in_families = set().union(*(family.members for family in families.values()))
    assert len(noise & in_families) <= 5


def test_families_do_not_depend_on_the_order_of_the_documents() -> None:
    codes = planted_codes(0)
    order = np.random.default_rng(5).permutation(codes.n_documents)
    rows = order[np.repeat(np.arange(codes.n_documents), np.diff(codes.document_ptr))]
    shuffled = make_codes(
        rows,
        codes.latents.astype(np.int64),
        codes.values,
        n_documents=codes.n_documents,
        n_latents=codes.n_latents,
    )
    assert grow_families(shuffled) == grow_families(codes)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.floats(0, 1))
def test_laws_of_every_family(seed: int, min_children: int, max_jaccard: float) -> None:
    rng = np.random.default_rng(seed)
    fires = {latent: np.flatnonzero(rng.random(80) < rng.random() * 0.5).tolist() for latent in range(25)}
    codes = codes_of(fires, n_latents=25, n_documents=80)
    config = paper(min_children=min_children, max_jaccard=max_jaccard, min_lift=0, min_z=0, min_together=1)
    families = grow_families(codes, config)
    counts = codes.counts()
    assert len({family.id for family in families}) == len(families)
    for at, family in enumerate(families):
        assert family.members[0] == family.id
        assert len(set(family.members)) == len(family.members) >= config.min_size
        assert family.parents.count(family.id) >= min_children
        for place, (member, parent) in enumerate(zip(family.members, family.parents, strict=True)):
            if place:
                assert parent in family.members[:place]
                assert (counts[parent], -parent) > (counts[member], -member)
                both = len(set(fires[member]) & set(fires[parent]))
                assert family.conditionals[place] == pytest.approx(both / counts[member])
                assert family.conditionals[place] >= config.threshold
        assert family.n_documents == len(set().union(*(fires[member] for member in family.members)))
        for other in families[:at]:
            a, b = set(family.members), set(other.members)
            assert len(a) <= len(b)
            assert len(a & b) / len(a | b) <= max_jaccard


@pytest.mark.parametrize(
    ("field", "value"), [("threshold", 1.5), ("max_jaccard", -0.1), ("n_iterations", 0), ("min_z", -1)]
)
def test_an_impossible_setting_is_named(field: str, value: float) -> None:
    with pytest.raises(SaefariError, match=field):
        paper(**{field: value})
