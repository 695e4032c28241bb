"""Steering trials: the geometry is exact, and the judge can be right, wrong and undecided."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sae_core.claims import trials
from sae_core.labels import Evidence, Label

WIDTH, N_TOPICS, N_DOCUMENTS = 16, 8, 400


def unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return found


class TopicPredictor:
    """Reads a label `topic 3` and says 1 for documents of that topic."""

    name = "topics"

    def predict(self, texts: Sequence[str], documents: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [
            (some % N_TOPICS == int(text.split()[1])).astype(np.float32)
            for text, some in zip(texts, documents, strict=True)
        ]


@pytest.fixture(scope="module")
def named() -> trials.Named:
    directions_ND = np.eye(N_TOPICS, WIDTH, dtype=np.float32)
    return trials.Named(directions_ND, [Label(f"topic {i}", "phrases") for i in range(N_TOPICS)])


@pytest.fixture(scope="module")
def library(named: trials.Named) -> trials.Library:
    rng = np.random.default_rng(0)
    noise_MD = 0.3 * rng.standard_normal((N_DOCUMENTS, WIDTH))
    x_MD = unit(named.directions_ND[np.arange(N_DOCUMENTS) % N_TOPICS] + noise_MD)
    return trials.Library(x_MD, np.arange(N_DOCUMENTS), TopicPredictor())


def test_geometry_is_checked_against_the_steering_of_searches(
    library: trials.Library, named: trials.Named
) -> None:
    found = trials.check_geometry(library.x_MD[:50], named.directions_ND)
    assert found["orthogonal"] < 1e-6
    assert found["exact"] < 1e-6
    assert found["as if orthogonal"] > 1e-3


def test_the_right_feature_is_named_and_a_wrong_move_is_not(
    library: trials.Library, named: trials.Named
) -> None:
    queries = np.arange(60)
    found = trials.draw_trials(
        library.x_MD[queries], queries.tolist(), named, [0.5], lambda at: [int(queries[at]) % N_TOPICS]
    )
    assert len(found) > 50
    for trial in found:
        assert int(queries[trial.own]) % N_TOPICS not in trial.features
    right = trials.judge(found, named, library, [trials.turned(trial, 0.5) for trial in found])
    assert np.mean([outcome.credit for outcome in right]) > 0.95
    assert np.mean([outcome.gain for outcome in right]) > 0.5
    wrong = [trial._replace(direction_D=named.directions_ND[trial.features[1]]) for trial in found]
    moved = [trials.turned(trial, 0.5) for trial in wrong if trials.can_turn(trial, trial.direction_D, 0.5)]
    asked = [found[i] for i, trial in enumerate(wrong) if trials.can_turn(trial, trial.direction_D, 0.5)]
    assert np.mean([outcome.credit for outcome in trials.judge(asked, named, library, moved)]) < 0.1
    still = trials.judge(found, named, library, [trial.x_D for trial in found])
    assert {round(outcome.credit, 6) for outcome in still} == {0.2}  # nothing moved: all five alike


def test_downwards_the_words_that_go_are_named(library: trials.Library, named: trials.Named) -> None:
    rng = np.random.default_rng(1)
    five = [sorted(rng.choice(N_TOPICS, 5, replace=False).tolist()) for _ in range(40)]
    x_QD = unit(np.stack([named.directions_ND[topics].sum(axis=0) for topics in five]))
    found = trials.draw_trials(x_QD, [-1] * 40, named, [0.7], lambda at: five[at], sign=-1)
    assert len(found) == 40
    for trial in found:
        assert trial.direction_D @ named.directions_ND[trial.features[0]] == pytest.approx(-1)
    outcomes = trials.judge(found, named, library, [trials.turned(trial, 0.7) for trial in found])
    assert np.mean([outcome.credit for outcome in outcomes]) > 0.3


def test_what_made_a_label_is_never_among_the_results(library: trials.Library, named: trials.Named) -> None:
    seen: list[np.ndarray] = []

    class Watching(TopicPredictor):
        def predict(self, texts: Sequence[str], documents: Sequence[np.ndarray]) -> list[np.ndarray]:
            seen.extend(documents)
            return super().predict(texts, documents)

    evidence = Evidence(list(range(0, N_DOCUMENTS, 2)), [])
    made = trials.Named(
        named.directions_ND, [Label(label.text, "phrases", evidence=evidence) for label in named.labels]
    )
    trial = trials.Trial(library.x_MD[7], 7, (0, 1, 2, 3, 4), made.directions_ND[0])
    watching = trials.Library(library.x_MD, library.positions_M, Watching())
    trials.judge([trial], made, watching, [trials.turned(trial, 0.8)])
    shown = np.concatenate(seen)
    assert len(shown)
    assert not (shown % 2 == 0).any()
    assert 7 not in shown
