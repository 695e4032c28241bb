"""Lenses: read back as they were written, refused in sentences, carried over by direction."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_core.lenses import (
    MAX_MOVES,
    MODES,
    VALUED,
    BadLens,
    Lens,
    LensMove,
    Match,
    carry,
    dump,
    nearest,
    parse,
    unique,
)

moves = st.one_of(
    st.builds(LensMove, st.sampled_from([m for m in MODES if m not in VALUED]), st.integers(0, 99)),
    st.builds(LensMove, st.sampled_from(VALUED), st.integers(0, 99), st.floats(-10, 10)),
)


@given(st.text(max_size=20), st.lists(moves, min_size=1, max_size=8).map(unique))
def test_a_lens_is_read_back_as_it_was_written(name: str, some: tuple[LensMove, ...]) -> None:
    lens = Lens(name, "k4-n64-abc123", some)
    assert parse(dump(lens, "papers", {1: "dust", 2: '</script>"'}, {3: "stars"})) == lens


def test_the_text_can_be_read_by_people() -> None:
    lens = Lens(
        "far", "s", (LensMove("strength", 1, 0.4), LensMove("family", 3, -0.2), LensMove("require", 2))
    )
    entries = json.loads(dump(lens, "papers", {1: "dust", 2: "gas"}, {3: "stars"}))["moves"]
    assert entries == [
        {"feature": 1, "label": "dust", "mode": "strength", "value": 0.4},
        {"feature": 3, "label": "stars", "mode": "family", "value": -0.2},
        {"feature": 2, "label": "gas", "mode": "require"},
    ]


def lens_with(**changes: Any) -> str:
    move = {"feature": 1, "mode": "strength", "value": 0.4} | changes.pop("move", {})
    whole = {"saefari_lens": 1, "name": "n", "sae": "s", "moves": [move]} | changes
    return json.dumps({key: value for key, value in whole.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("hello", "no JSON"),
        ("[" * 15_000, "no JSON"),
        ("[1]", "no lens"),
        ('{"lens": 1}', "no lens"),
        (lens_with(saefari_lens=2), "version 2"),
        (lens_with(saefari_lens="x" * 300), "version"),
        (lens_with(name=None), "lacks"),
        (lens_with(sae=3), "lacks"),
        (lens_with(moves={}), "lacks"),
        (lens_with(moves=[]), "moves nothing"),
        (lens_with(moves=[7]), "a move 7"),
        (lens_with(move={"mode": "explode"}), "explode"),
        (lens_with(move={"mode": ["require"]}), "a move"),
        (lens_with(move={"feature": -1}), "feature -1"),
        (lens_with(move={"feature": 1.5}), "feature 1.5"),
        (lens_with(move={"feature": True}), "feature true"),
        (lens_with(move={"feature": 10**12}), "feature 1000000000000"),
        (lens_with(move={"value": float("nan")}), "NaN"),
        (lens_with(move={"value": float("inf")}), "Infinity"),
        (lens_with(move={"value": 10**400}), "to 1000"),
        (lens_with(move={"value": "much"}), '"much"'),
        (lens_with(moves=[{"feature": i, "mode": "ignore"} for i in range(MAX_MOVES + 1)]), "129 moves"),
        (lens_with(name="x" * 20_000), "characters"),
    ],
)
def test_what_is_no_lens_is_refused_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(BadLens, match=words) as refused:
        parse(text)
    assert refused.value.remedy.endswith((".", "1."))
    assert len(str(refused.value)) < 300


def test_the_last_word_on_a_feature_counts() -> None:
    twice = [LensMove("strength", 1, 0.1), LensMove("require", 1), LensMove("strength", 1, 0.3)]
    assert unique(twice) == (LensMove("strength", 1, 0.3), LensMove("require", 1))


# --- on another SAE -------------------------------------------------------------------------------


def test_features_are_found_again_where_directions_were_shuffled() -> None:
    rng = np.random.default_rng(0)
    here_ND = rng.standard_normal((40, 16)).astype(np.float32)
    here_ND /= np.linalg.norm(here_ND, axis=1, keepdims=True)
    order = rng.permutation(40)
    living_N = np.ones(40, dtype=np.bool_)
    found = nearest([0, 3, 39, 40], here_ND[order], here_ND, living_N)
    assert {latent: match.here for latent, match in found.items()} == {i: int(order[i]) for i in (0, 3, 39)}
    assert all(match.cosine == pytest.approx(1, abs=1e-5) for match in found.values())
    living_N[order[3]] = False  # what never fires stands for nothing
    assert nearest([3], here_ND[order], here_ND, living_N)[3].here != order[3]
    assert nearest([3], here_ND, here_ND, np.zeros(40, dtype=np.bool_)) == {}


def test_what_has_no_counterpart_is_named_and_left_out() -> None:
    lens = Lens(
        "n",
        "there",
        (
            LensMove("strength", 1, 0.4),
            LensMove("require", 2),
            LensMove("ignore", 3),
            LensMove("family", 1, 0.2),
            LensMove("exclude", 4),
            LensMove("require", 1),
        ),
    )
    matches = {1: Match(1, 11, 0.9), 2: Match(2, 12, 0.69), 3: Match(3, 11, 0.8)}
    carried = carry(lens, "here", matches)
    assert carried.lens == Lens("n", "here", (LensMove("strength", 11, 0.4), LensMove("require", 11)))
    assert carried.matches == (Match(1, 11, 0.9),)
    # 2 is too far, 3 has the same nearest as 1 and is further, a family is of one SAE, 4 has none
    assert [(move.mode, move.target) for move in carried.lost] == [
        ("require", 2),
        ("ignore", 3),
        ("family", 1),
        ("exclude", 4),
    ]
