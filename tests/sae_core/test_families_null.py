"""What chance and density make of the measures, forests on disk, and codes with nothing to find."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sae_core import families
from sae_core.errors import SaefariError
from sae_core.families import (
    Chance,
    FamilyConfig,
    Forest,
    Link,
    by_chance,
    coactivate,
    grow,
    is_quick,
    load_coactivation,
)
from sae_core.families.measures import FEWEST_DRAWS, MOST_DRAWS, ForestMeasures, measure
from sae_core.families.trees import Tree
from sae_core.labels import Label
from tests.sae_core import brute
from tests.sae_core.test_families import codes_of, planted_codes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sae_core.codes import Codes
    from sae_core.explorer import Explorer


def independent_codes(seed: int) -> Codes:
    """200 latents that know nothing of each other, from 1 to 40 % dense."""
    rng = np.random.default_rng(seed)
    return brute.dense_codes(rng.random((3000, 200)) < np.geomspace(0.01, 0.4, 200))


def measured(codes: Codes, *families: list[int]) -> ForestMeasures:
    trees = [Tree(members, [], []) for members in families]
    return measure(coactivate(codes), trees)


def test_density_alone_makes_a_hub_but_passes_no_null() -> None:
    hubs, blocks = [], []
    for seed in range(12):
        found = measured(independent_codes(seed), [199, *range(20, 30)], [*range(190, 200)])
        hub, block = found.hubs[0], found.blocks[1]
        assert hub.value is not None
        assert block.value is not None
        assert hub.null is not None
        assert block.null is not None
        assert hub.value > 4
        assert hub.null.mean == pytest.approx(hub.value, rel=0.25)
        assert block.null.mean == pytest.approx(block.value, rel=0.05)
        hubs.append(hub.null.p)
        blocks.append(block.null.p)
    assert 0.2 < np.mean(hubs) < 0.8
    assert 0.2 < np.mean(blocks) < 0.8


def test_planted_families_are_not_there_by_chance_unless_the_guards_are_down() -> None:
    codes = planted_codes(0)
    assert grow(coactivate(codes)).n_covered > 80
    assert by_chance(codes).n_covered < 8
    guardless = FamilyConfig(algorithm="paper", threshold=0.05, min_together=1, min_lift=0, min_z=0)
    assert by_chance(codes, guardless).n_covered > 80


def test_by_chance_latents_keep_their_densities_and_fire_on_other_documents() -> None:
    codes = planted_codes(0)
    redrawn = families._redrawn(codes, 0)
    assert np.array_equal(redrawn.counts(), codes.counts())
    assert (redrawn.fires() != redrawn.matrix().astype(bool)).nnz == 0
    for latent in (0, 50, codes.n_latents - 1):
        assert len(set(redrawn.of_latent(latent)[0].tolist())) == codes.counts()[latent]
    rows = [set(redrawn.of_document(at)[0].tolist()) for at in range(50)]
    assert all((at in redrawn.of_latent(latent)[0]) for at, row in enumerate(rows) for latent in row)
    kept = [np.isin(redrawn.of_latent(i)[0], codes.of_latent(i)[0]).mean() for i in range(codes.n_latents)]
    assert np.mean(kept) < 0.1


def test_a_block_of_dense_latents_that_do_belong_together_passes() -> None:
    codes = independent_codes(0)
    fires_MN = codes.matrix().toarray() > 0
    rng = np.random.default_rng(1)
    about = rng.random(3000) < 0.3
    fires_MN[:, 190:200] = (about[:, None] & (rng.random((3000, 10)) < 0.6)) | (rng.random((3000, 10)) < 0.1)
    (block,) = measured(brute.dense_codes(fires_MN), [*range(190, 200)]).blocks
    assert block.null is not None
    assert block.value is not None
    assert block.value > block.null.high
    assert block.null.p == 1 / (1 + MOST_DRAWS)


def test_a_p_value_is_never_zero_and_rests_on_as_many_draws_as_may_be_looked_up() -> None:
    counted = coactivate(planted_codes(0))
    whole, coarse = grow(counted), grow(counted, most_lookups=1)
    assert (whole.n_draws, coarse.n_draws) == (MOST_DRAWS, FEWEST_DRAWS)
    assert replace(coarse.families[0], block_null=None, hub_null=None) == replace(
        whole.families[0], block_null=None, hub_null=None
    )
    for forest in (whole, coarse):
        assert forest.block_null is not None
        assert forest.block_null.p == 1 / (1 + forest.n_draws)
        assert forest.block_null.mean < forest.block_null.high < (forest.block_ratio or 0)


def test_of_all_families_together_each_counts_alike() -> None:
    codes = planted_codes(1)
    forest = grow(coactivate(codes))
    found = [measured(codes, family.members) for family in forest.families]
    assert [one.block.value for one in found] == [family.block_ratio for family in forest.families]
    lowest, highest = (pick(family.block_ratio or 0 for family in forest.families) for pick in (min, max))
    assert lowest < (forest.block_ratio or 0) < highest


@pytest.mark.parametrize("pairs_at_once", [50, 2**18])
def test_a_large_family_is_measured_exactly_against_the_null_of_some_of_its_pairs(
    monkeypatch: pytest.MonkeyPatch, pairs_at_once: int
) -> None:
    monkeypatch.setattr("sae_core.families.measures.PAIRS_AT_ONCE", pairs_at_once)
    codes, members = independent_codes(3), [199, *range(30, 130)]
    C_NN, f_N = brute.together(codes), codes.counts()
    shares_NN = C_NN / np.minimum.outer(f_N, f_N)
    upper_NN = np.triu(np.ones((100, 100), dtype=np.bool_), 1)
    rest = shares_NN[np.ix_(members[1:], members[1:])][upper_NN].mean()
    inside = (shares_NN[199, members[1:]].sum() + rest * 4950) / 5050
    outside = shares_NN[np.ix_(members, sorted(set(range(200)) - set(members)))].mean()
    found = measured(codes, members)
    assert found.hubs[0].value == pytest.approx(shares_NN[199, members[1:]].mean() / rest)
    assert found.blocks[0].value == pytest.approx(inside / outside)
    assert found.blocks[0].null is not None
    assert found.blocks[0].null.mean == pytest.approx(inside / outside, rel=0.02)
    assert found.blocks[0].null.p > 0.05


def test_the_same_codes_give_the_same_forest() -> None:
    first, second = (grow(coactivate(planted_codes(0))) for _ in range(2))
    assert replace(first, seconds=0) == replace(second, seconds=0)


# --- on disk and on a page ------------------------------------------------------------------------


def test_a_forest_is_what_its_json_says() -> None:
    forest = grow(coactivate(planted_codes(0)))
    label = Label(text="stars", source="phrases")
    first = replace(forest.families[0], label=label, links=[Link(member=1, parent=2, conditional=0.5)])
    forest = replace(forest, families=[first, *forest.families[1:]], chance=Chance(1, 4, 4))
    assert Forest.parse(json.loads(json.dumps(asdict(forest)))) == forest


def test_a_loaded_co_activation_grows_the_same_forests(tmp_path: Path) -> None:
    codes = planted_codes(0)
    counted = coactivate(codes)
    for name, values in counted.arrays().items():
        np.save(tmp_path / f"{name}.npy", values)
    arrays = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in counted.arrays()}
    loaded = load_coactivation(codes, arrays)
    for config in (FamilyConfig(), FamilyConfig(algorithm="paper"), FamilyConfig(threshold=0.0)):
        assert replace(grow(loaded, config), seconds=0) == replace(grow(counted, config), seconds=0)


def test_a_feature_set_grows_other_forests_and_remembers_them(planted: Explorer) -> None:
    (space,) = planted.saes.values()
    assert space.grow(space.forest.config) is space.forest
    other = space.grow(FamilyConfig(algorithm="paper"))
    assert other.config.algorithm == "paper"
    assert space.grow(FamilyConfig(algorithm="paper")) is other
    again = grow(coactivate(space.codes), space.forest.config)
    assert [family.members for family in again.families] == [family.members for family in space.families]


def test_what_needs_a_pass_over_all_pairs_is_known_before() -> None:
    assert all(is_quick(FamilyConfig(algorithm=name)) for name in ("lift", "paper", "nesting"))
    assert not is_quick(FamilyConfig(threshold=0.01))
    assert not is_quick(FamilyConfig(min_z=0))


# --- nothing to be found --------------------------------------------------------------------------

ALGORITHMS = pytest.mark.parametrize("algorithm", ["lift", "paper", "nesting"])


def forest_of(codes: Codes, algorithm: str, **options: Any) -> Forest:
    levels_N = np.arange(codes.n_latents)
    return grow(coactivate(codes), FamilyConfig(algorithm=algorithm, **options), levels_N)


@ALGORITHMS
@pytest.mark.parametrize(("n_documents", "n_latents"), [(0, 5), (10, 5), (10, 1)])
def test_where_no_document_fires_there_is_an_empty_forest(
    algorithm: str, n_documents: int, n_latents: int
) -> None:
    forest = forest_of(codes_of({}, n_latents=n_latents, n_documents=n_documents), algorithm)
    assert forest.families == []
    assert (forest.n_alive, forest.n_covered, forest.coverage) == (0, 0, 0.0)
    assert (forest.hub_ratio, forest.block_ratio, forest.hub_null, forest.block_null) == (None,) * 4


@ALGORITHMS
def test_one_latent_is_no_family(algorithm: str) -> None:
    forest = forest_of(codes_of({0: range(10)}, n_latents=1), algorithm)
    assert forest.families == []
    assert forest.n_alive == 1


@ALGORITHMS
def test_latents_that_fire_everywhere_have_no_family(algorithm: str) -> None:
    fires = dict.fromkeys(range(6), range(1000))
    assert forest_of(codes_of(fires, n_latents=6), algorithm).families == []
    loose = forest_of(codes_of(fires, n_latents=6), algorithm, min_lift=0, min_z=0, max_density=1)
    for family in loose.families:
        assert family.hub_ratio == pytest.approx(1)
        assert family.hub_null is not None
        assert family.hub_null.p == 1


@ALGORITHMS
def test_latents_with_the_same_documents_are_a_family_without_a_cycle(algorithm: str) -> None:
    fires = dict.fromkeys(range(8), range(50))
    (family,) = forest_of(codes_of(fires, n_latents=8), algorithm).families
    assert family.id == 0
    assert sorted(family.members) == list(range(8))
    assert set(family.conditionals) == {1.0}
    assert family.hub_ratio == pytest.approx(1)
    assert family.block_ratio is None


@ALGORITHMS
def test_one_family_may_hold_everything(algorithm: str) -> None:
    fires: dict[int, Iterable[int]] = {0: range(300)}
    fires |= {2 + at: range(10 * at, 10 * at + 10) for at in range(28)}
    (family,) = forest_of(codes_of(fires, n_latents=30), algorithm).families
    assert len(family.members) == 29
    assert (family.block_ratio, family.block_null) == (None, None)
    forest = forest_of(codes_of(fires, n_latents=30), algorithm)
    assert (forest.n_alive, forest.coverage, forest.block_ratio) == (29, 1.0, None)


def test_a_family_that_cannot_be_of_any_size_is_refused() -> None:
    with pytest.raises(SaefariError, match="max_size is 3 and min_size 4"):
        FamilyConfig(max_size=3)
    with pytest.raises(SaefariError, match='"magic", which is not known'):
        FamilyConfig(algorithm="magic")
