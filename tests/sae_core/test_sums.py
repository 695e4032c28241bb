"""Sums are as close to the products they stand for as they say, whatever the way to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sae_core import sums as module
from sae_core.index import VectorIndex, add_scaled
from sae_core.steer import Edit, Moves, make_edit
from sae_core.sums import Sums

N, D, M = 40, 24, 3000
SPACE = "a space"


def unit(rows: np.ndarray) -> np.ndarray:
    unit_rows: np.ndarray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit_rows


RNG = np.random.default_rng(11)
DIRECTIONS = unit(RNG.standard_normal((N, D)))
VECTORS = unit(RNG.standard_normal((M, D)))
VECTORS[1000:1100] = VECTORS[:100]  # duplicates: ties
QUERIES = unit(RNG.standard_normal((3, D)))


class CountedIndex(VectorIndex):
    """Counts scans of all vectors."""

    n_scans = 0

    def products(self, x_D: np.ndarray) -> np.ndarray:
        self.n_scans += 1
        return super().products(x_D)


@pytest.fixture
def index() -> CountedIndex:
    return CountedIndex(VectorIndex.build(VECTORS)._index)


@pytest.fixture
def sums(index: CountedIndex) -> Sums:
    return Sums(index)


def check(index: VectorIndex, sums: Sums, x_D: np.ndarray, edit: Edit) -> None:
    """Ids and scores are those of a scan, bit for bit; sums are as near as they say."""
    ranking = sums.steered(SPACE, x_D, edit, DIRECTIONS)
    exact = VectorIndex.products(index, edit.steered_D)
    wanted = exact.astype(np.float64) * (edit.length / edit.scale)
    assert np.abs(ranking.sums_M - wanted).max() <= ranking.error + 1e-12
    expected = np.lexsort((np.arange(M), -exact))[:120]
    hits = ranking.top(120)
    np.testing.assert_array_equal(hits.positions, expected)
    np.testing.assert_array_equal(hits.scores, exact[expected])


def walk(rng: np.random.Generator, n: int) -> Iterator[Moves]:
    """A person at the sliders: mostly one moves on; now and then others, what is ignored, or what is kept."""
    strengths: dict[int, float] = {int(i): 0.4 for i in rng.permutation(N)[:12]}
    ignored: frozenset[int] = frozenset()
    keep = None
    for _ in range(n):
        what = rng.random()
        if what < 0.7:
            strengths[int(rng.choice(sorted(strengths or {3: 0})))] = round(float(rng.normal()), 3)
        elif what < 0.8:
            strengths = {int(i): float(rng.normal()) for i in rng.permutation(N)[: rng.integers(0, 9)]}
        elif what < 0.9:
            ignored = frozenset(rng.permutation(N)[: rng.integers(0, 3)].tolist())
        else:
            keep = [None, 0.5, 0.9][rng.integers(3)]
        yield Moves(dict(strengths), ignored, keep=keep)


@pytest.mark.parametrize("seed", range(6))
def test_wherever_a_walk_of_moves_leads_the_ranking_is_that_of_a_scan(
    index: CountedIndex, sums: Sums, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    walks = [walk(np.random.default_rng((seed, i)), 60) for i in range(len(QUERIES))]
    for _ in range(60 * len(QUERIES) - 60):
        who = int(rng.integers(len(QUERIES)))
        moves = next(walks[who], Moves({1: 1.0}))
        check(index, sums, QUERIES[who], make_edit(QUERIES[who], moves, {}, DIRECTIONS))


def test_one_slider_is_one_pass_and_no_scan(
    index: CountedIndex, sums: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[float] = []

    def counted(sums_M: np.ndarray, factor: float, column_M: np.ndarray) -> np.ndarray:
        added.append(factor)
        return add_scaled(sums_M, factor, column_M)

    monkeypatch.setattr(module, "add_scaled", counted)
    x_D, strengths = QUERIES[0], dict.fromkeys(range(20), 0.3)

    def move(keep: float | None = None) -> tuple[int, int]:
        scans, passes = index.n_scans, len(added)
        check(index, sums, x_D, make_edit(x_D, Moves(strengths, keep=keep), {}, DIRECTIONS))
        return index.n_scans - scans, len(added) - passes

    sums.plain(x_D)
    assert move() == (1, 0), "nothing is known of twenty features: a scan is less work"
    assert move() == (0, 0), "the same again"
    strengths[7] = 0.5
    assert move() == (1, 1), "the column of the slider that moves"
    for strength in (0.6, 0.7, -0.3):
        strengths[7] = strength
        assert move() == (0, 1)
    assert move(keep=0.8) == (0, 1), "mixed with the query"
    strengths[7] = 0.2
    assert move(keep=0.8) == (0, 2)
    strengths.update({8: 0.1, 9: -0.1})
    assert move() == (2, 0), "two columns are more work than a scan, but one is made for the next time"
    strengths.update({8: 0.2, 9: -0.2})
    assert move() == (1, 2), "the other one"
    strengths.update({8: 0.4, 9: -0.4})
    assert move() == (0, 2)


def test_a_sum_that_was_added_to_too_often_is_made_anew(index: CountedIndex, sums: Sums) -> None:
    x_D = QUERIES[0]
    sums.plain(x_D)
    for i in range(400):
        edit = make_edit(x_D, Moves({3: 0.01 * i - 1}), {}, DIRECTIONS)
        ranking = sums.steered(SPACE, x_D, edit, DIRECTIONS)
        assert ranking.error < 8 * D * module.ROUNDING * (2 + abs(0.01 * i - 1) + edit.length)
    assert index.n_scans == 2, "the query and one column"


def test_the_queries_that_are_remembered_are_bounded(
    index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_QUERIES", 3)
    sums = Sums(index)
    for x_D in unit(np.random.default_rng(3).standard_normal((8, D))):
        sums.plain(x_D)
        assert len(sums._kept._sums) <= 3
        assert sums._kept.get(x_D.tobytes()), "the newest one stays"
    assert sums._kept._held == 3 * 4 * M


def test_what_is_remembered_is_bounded_in_bytes(index: VectorIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    one = 4 * M
    monkeypatch.setattr(module, "MAX_COLUMN_BYTES", 5 * one)
    monkeypatch.setattr(module, "MAX_SUM_BYTES", 7 * one)
    sums = Sums(index)
    rng = np.random.default_rng(2)
    for i, x_D in enumerate(unit(rng.standard_normal((12, D)))):
        for latent in range(N):
            check(index, sums, x_D, make_edit(x_D, Moves({latent: 0.1 + i}), {}, DIRECTIONS))
        kept = sums._kept
        assert kept._held == sum(each.sums_M.nbytes for some in kept._sums.values() for each in some)
        assert kept._held <= 7 * one
        assert all(len(some) <= module.MAX_SUMS for some in kept._sums.values())
        assert sums._columns._held <= 5 * one


def test_it_knows_what_needs_no_scan(index: CountedIndex, sums: Sums) -> None:
    x_D = QUERIES[1]
    for moves in (
        Moves(),
        Moves({1: 0.5, 2: 0.5}),
        Moves({1: 0.6, 2: 0.5}),
        Moves({1: 0.7, 2: 0.5}, keep=0.9),
    ):
        edit = make_edit(x_D, moves, {}, DIRECTIONS)
        is_far = sums.n_passes(SPACE, x_D, edit) >= D
        before = index.n_scans
        sums.plain(x_D)
        sums.steered(SPACE, x_D, edit, DIRECTIONS)
        assert (index.n_scans > before) == is_far
        assert sums.n_passes(SPACE, x_D, edit) < D


def test_many_threads_get_what_each_asked_for(index: VectorIndex, sums: Sums) -> None:
    together = threading.Barrier(8)

    def person(seed: int) -> None:
        together.wait()
        x_D = QUERIES[seed % len(QUERIES)]
        for moves in walk(np.random.default_rng(seed), 40):
            check(index, sums, x_D, make_edit(x_D, moves, {}, DIRECTIONS))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(person, range(8)))
