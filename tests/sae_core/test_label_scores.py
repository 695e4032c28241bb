"""Scores of labels: documents kept apart, measures whose intervals hold them, an honest tournament."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_core.errors import tidy
from sae_core.explorer import Explorer
from sae_core.intervals import Interval
from sae_core.labels import MAX_LETTERS, Candidate, Evidence, Former, Label, Score, left_out
from sae_core.labels.families import split_family
from sae_core.labels.scores import (
    MIN_SCORED,
    MIN_TO_CHOOSE,
    WINS_BY,
    Sample,
    Split,
    choose_threshold,
    f1,
    hold_tournament,
    pearson,
    share_out,
    split_documents,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Numbers = st.lists(st.floats(-10, 10, width=32), min_size=MIN_SCORED, max_size=40).map(np.array)


def samples(split: Split) -> list[Sample]:
    return [split.mined, split.choosing, split.heldout]


# --- which documents --------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(0, 60), st.integers(0, 300), st.integers(0, 5))
def test_no_document_is_in_two_samples(n_with: int, n_near: int, n_others: int, seed: int) -> None:
    n = n_with + n_near + n_others
    order = np.random.default_rng(seed).permutation(n)
    ranked, near = order[:n_with], order[n_with : n_with + n_near]
    split = share_out(ranked, near, n, (seed,))
    every = np.concatenate([sample.documents for sample in samples(split)]).tolist()
    assert len(every) == len(set(every))
    for sample in samples(split):
        assert set(sample.positives.tolist()) <= set(ranked.tolist())
        assert set(sample.near.tolist()) <= set(near.tolist())
        assert not set(sample.random.tolist()) & {*ranked.tolist(), *near.tolist()}
        assert len(sample.negatives) <= len(sample.positives)
    assert (len(split.choosing.positives) > 0) == (n_with >= MIN_TO_CHOOSE)
    assert len(split.heldout.positives) <= 30 >= len(split.choosing.positives)


def test_with_enough_documents_the_samples_are_balanced_half_of_it_hard() -> None:
    order = np.arange(1000)
    split = share_out(order[:300], order[300:360], 1000, (0,))
    for sample, n in zip(samples(split), (60, 30, 30), strict=True):
        assert (len(sample.positives), len(sample.near), len(sample.random)) == (n, n // 2, n // 2)
        strongest, weakest = sample.positives.min(), sample.positives.max()
        assert strongest < 3
        assert weakest >= 297


def test_negatives_of_a_family_are_silent_on_every_member_and_near_to_some(planted: Explorer) -> None:
    space = next(iter(planted.saes.values()))
    for family in space.forest.families:
        split = split_family(space.codes, space.features, family.members, 0)
        active = {d for member in family.members for d in space.codes.of_latent(member)[0].tolist()}
        near = {d for member in family.members for d in space.features.near_NM[member].tolist()}
        for sample in samples(split):
            assert set(sample.positives.tolist()) <= active
            assert not active & set(sample.negatives.tolist())
            assert set(sample.near.tolist()) <= near


def test_the_strongest_documents_of_a_family_have_several_members(planted: Explorer) -> None:
    space = next(iter(planted.saes.values()))
    family = max(space.forest.families, key=lambda family: len(family.members))
    split = split_family(space.codes, space.features, family.members, 0)
    n_members = [
        len(set(space.codes.of_document(position)[0].tolist()) & set(family.members))
        for position in split.heldout.positives.tolist()
    ]
    assert min(n_members[:5]) > 1 == n_members[-1]


# --- measures ---------------------------------------------------------------------------------------


@given(Numbers, Numbers)
def test_pearson_is_the_correlation_with_0_and_1(positives: NDArray[Any], negatives: NDArray[Any]) -> None:
    found = pearson(positives, negatives)
    assert -1 <= found.low <= found.value <= found.high <= 1
    values = np.concatenate((positives, negatives))
    if values.std() > 1e-3:
        truth = np.repeat((1, 0), (len(positives), len(negatives)))
        assert found.value == pytest.approx(np.corrcoef(values, truth)[0, 1], abs=1e-6)


def test_a_prediction_that_is_always_the_same_correlates_with_nothing() -> None:
    found = pearson(np.ones(30), np.ones(30))
    assert found.value == 0
    assert found.low == pytest.approx(-math.tanh(1.959964 / math.sqrt(57)))


@given(Numbers, Numbers, st.floats(-10, 10, width=32))
def test_f1_is_that_of_its_definition(
    positives: NDArray[Any], negatives: NDArray[Any], threshold: float
) -> None:
    hits, false = int((positives > threshold).sum()), int((negatives > threshold).sum())
    found = f1(positives, negatives, threshold)
    assert found.value == pytest.approx(2 * hits / (2 * hits + false + (len(positives) - hits)))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_interval_of_f1_covers_it_about_95_times_in_100() -> None:
    """Hits .8 of 30, false alarms .3 of 30: F1 is 1.6 / (1 + 1.1)."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        found = f1((rng.random(30) < 0.8).astype(float), (rng.random(30) < 0.3).astype(float), 0.5)
        covered += found.low <= 1.6 / 2.1 <= found.high
    assert 0.91 < covered / 400 < 1


@given(Numbers, Numbers)
def test_the_chosen_threshold_has_the_highest_f1(positives: NDArray[Any], negatives: NDArray[Any]) -> None:
    best = f1(positives, negatives, choose_threshold(positives, negatives)).value
    for threshold in (*positives, *negatives, -11.0):
        assert f1(positives, negatives, float(threshold)).value <= best + 1e-9


# --- tournament -------------------------------------------------------------------------------------


class Oracle:
    """Predicts each text as well as it was told to, and keeps what it was asked."""

    name = "oracle"

    def __init__(self, accuracy: dict[str, float], positives: set[int], noise: dict[int, float]) -> None:
        self.accuracy, self.positives, self.noise = accuracy, positives, noise
        self.asked: list[tuple[set[str], set[int]]] = []

    def predict(
        self, texts: Sequence[str], documents: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        seen = {int(position) for some in documents for position in some}
        self.asked.append((set(texts), seen))
        return [
            np.array([self._one(text, int(position)) for position in some], np.float32)
            for text, some in zip(texts, documents, strict=True)
        ]

    def _one(self, text: str, position: int) -> float:
        share = (position * 0.6180339887) % 1  # the same for every text
        is_right = share < self.accuracy[text]
        return float((position in self.positives) == is_right) + self.noise.get(position, 0.0)


def tournament(
    accuracy: dict[str, float], noise: dict[int, float] | None = None, n_with: int = 300
) -> tuple[Label, Oracle, Split]:
    split = share_out(np.arange(n_with), np.arange(n_with, n_with + 60), 1000, (0,))
    oracle = Oracle(accuracy, set(range(n_with)), noise or {})
    candidates = [Candidate(text, "phrases") for text in accuracy]
    return hold_tournament([candidates], [split], oracle)[0], oracle, split


def test_the_candidate_that_predicts_best_wins_and_is_scored_on_other_documents() -> None:
    label, oracle, split = tournament({"poor": 0.6, "good": 0.95, "fair": 0.8})
    assert label.text == "good"
    assert [candidate.text for candidate in label.candidates] == ["good", "fair", "poor"]
    assert label.score is not None
    assert (label.score.n_positives, label.score.n_negatives) == (30, 30)
    assert label.score.auc.value > 0.85
    first, *_ = oracle.asked
    assert first == ({"poor", "good", "fair"}, set(split.choosing.documents.tolist()))


def test_nothing_is_predicted_on_held_out_documents_before_all_is_chosen() -> None:
    _, oracle, split = tournament({"poor": 0.6, "good": 0.95})
    heldout = set(split.heldout.documents.tolist())
    seen = [bool(heldout & documents) for _, documents in oracle.asked]
    assert seen == sorted(seen)
    assert all(texts == {"good"} for texts, documents in oracle.asked if heldout & documents)


@given(st.dictionaries(st.integers(0, 29), st.floats(-5, 5), max_size=30))
def test_held_out_documents_have_no_say_in_the_choice(changes: dict[int, float]) -> None:
    accuracy = {"a": 0.85, "b": 0.9, "c": 0.8}
    label, _, split = tournament(accuracy)
    noise = {int(split.heldout.documents[at]): change for at, change in changes.items()}
    assert tournament(accuracy, noise)[0].candidates == label.candidates


def test_a_small_lead_is_a_tie_and_the_first_keeps_its_place() -> None:
    split = share_out(np.arange(300), np.arange(300, 360), 1000, (0,))
    one = split.choosing.positives[:1].tolist()

    class Nearly(Oracle):
        def _one(self, text: str, position: int) -> float:
            return float(position in self.positives and not (text == "first" and position in one))

    oracle = Nearly({}, set(range(300)), {})
    label = hold_tournament([[Candidate("first", "x"), Candidate("second", "x")]], [split], oracle)[0]
    lead = (label.candidates[1].chosen_by or 0) - (label.candidates[0].chosen_by or 0)
    assert 0 < lead <= WINS_BY
    assert label.text == "first"


def test_with_few_documents_the_first_candidate_is_taken_and_still_scored() -> None:
    label, _, split = tournament({"first": 0.7, "second": 1.0}, n_with=MIN_TO_CHOOSE - 4)
    assert label.text == "first"
    assert [candidate.chosen_by for candidate in label.candidates] == [None, None]
    assert label.score is not None
    assert label.score.n_positives == len(split.heldout.positives) == (MIN_TO_CHOOSE - 4) // 2


def test_with_too_few_there_is_no_score_but_the_reason() -> None:
    label, *_ = tournament({"first": 0.7}, n_with=6)
    assert label.score is None
    assert label.remark == (
        "too few documents to measure: 3 with the feature and 3 without it were left, 5 of each are needed"
    )


def test_a_feature_without_candidates_has_no_label() -> None:
    split = share_out(np.arange(300), np.arange(300, 360), 1000, (0,))
    label = hold_tournament([[]], [split], Oracle({}, set(), {}))[0]
    assert (label.text, label.source, label.score) == ("", "none", None)


def test_several_judges_choose_by_their_mean() -> None:
    split = share_out(np.arange(300), np.arange(300, 360), 1000, (0,))
    truth = set(range(300))
    one, two = Oracle({"a": 0.9, "b": 0.8}, truth, {}), Oracle({"a": 0.6, "b": 0.95}, truth, {})
    candidates = [Candidate("a", "x"), Candidate("b", "x")]
    alone = hold_tournament([candidates], [split], one, [two])[0]
    together = hold_tournament([candidates], [split], one, [two], judges=[one, two])[0]
    assert (alone.text, together.text) == ("a", "b")
    assert together.score is not None
    assert [score.predictor for score in together.other_scores] == ["oracle"]


# --- labels as they are kept ------------------------------------------------------------------------


def test_a_label_comes_back_as_it_was_stored() -> None:
    value = Interval(0.8, 0.7, 0.9)
    score = Score("oracle", 30, 30, value, value, value)
    label = Label(
        "dust", "phrases", score, [Candidate("dust", "phrases", {"ranking": 0.5}, 0.8)],
        Evidence([1], [2], "p@1", "because", "2026-11-23"), [Former("grain", "phrases", 0.6, "2026-11-22")],
        [score], "",
    )  # fmt: skip
    assert Label.parse(asdict(label)) == label
    nothing = Label("", "none", remark="active on no document")
    assert Label.parse(asdict(nothing)) == nothing


@given(st.text(max_size=300))
def test_a_label_from_outside_is_one_clean_line(text: str) -> None:
    shown = tidy(text)
    assert len(shown) <= MAX_LETTERS
    assert shown == " ".join(shown.split())
    assert tidy(shown) == shown


def test_a_label_of_10_000_characters_is_cut_at_a_word() -> None:
    assert tidy("galaxy " * 2000) == " ".join(["galaxy"] * 17) + "…"
    assert len(tidy("x" * 10_000)) == MAX_LETTERS
    assert tidy("a\u202e\x00b\nc") == "ab c"


def test_what_was_left_out_is_counted_by_reason() -> None:
    poor = Label("dust", "phrases", remark="too few documents to measure: 3 with the feature")
    other = replace(poor, remark="too few documents to measure: 4 with the feature")
    dead = Label("", "none", remark="active on no document")
    assert left_out([dead, poor, Label("gas", "phrases"), other]) == {
        "too few documents to measure": 2,
        "active on no document": 1,
    }


def test_all_pairs_of_a_split_are_apart(planted: Explorer) -> None:
    space = next(iter(planted.saes.values()))
    for latent in np.flatnonzero(space.codes.counts()).tolist():
        split = split_documents(space.codes, space.features, latent, 0)
        for one, other in combinations(samples(split), 2):
            assert not np.intersect1d(one.documents, other.documents).size
