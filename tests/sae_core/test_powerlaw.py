"""Fits find the exponents that were planted, and those that the paper reports."""

from __future__ import annotations

import numpy as np
import pytest

from sae_core.powerlaw import Point, paper_laws, power_laws

KS, LATENTS = (8, 16, 32, 64), (512, 1024, 2048, 4096)


def planted(alpha: float, beta: float, gamma: float = 0.0, noise: float = 0.0, seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [
        Point(
            k,
            n,
            float(
                np.exp(
                    0.7
                    + alpha * np.log(n)
                    + beta * np.log(k)
                    + gamma * np.log(k) * np.log(n)
                    + noise * rng.standard_normal()
                )
            ),
        )
        for k in KS
        for n in LATENTS
    ]


def test_planted_exponents_are_found() -> None:
    laws = power_laws(planted(-0.13, -0.4))
    assert list(laws.by_k) == list(KS)
    for fit in laws.by_k.values():
        assert fit.term("n").value == pytest.approx(-0.13)
        assert fit.r2 == pytest.approx(1)
        assert fit.is_good
        assert fit.n_points == 4
    assert laws.joint is not None
    assert [term.value for term in laws.joint.terms] == pytest.approx([0.7, -0.13, -0.4])


def test_a_planted_interaction_is_found() -> None:
    crossed = power_laws(planted(-0.1, -0.3, -0.02)).crossed
    assert crossed is not None
    assert {term.name: term.value for term in crossed.terms} == pytest.approx(
        {"constant": 0.7, "n": -0.1, "k": -0.3, "k × n": -0.02}
    )


def test_intervals_hold_what_was_planted_as_often_as_they_say() -> None:
    n_held = 0
    for seed in range(300):
        term = power_laws(planted(-0.13, -0.4, noise=0.03, seed=seed)).by_k[16].term("n")
        assert term.low is not None
        assert term.high is not None
        n_held += term.low < -0.13 < term.high
    assert 0.91 < n_held / 300 < 0.985


@pytest.mark.parametrize(
    ("corpus", "reported"),
    [
        ("astro-ph", {16: -0.123, 32: -0.130, 64: -0.148, 128: -0.129}),
        ("cs.LG", {16: -0.134, 64: -0.174}),
    ],
)
def test_the_paper_s_errors_have_the_paper_s_exponents(corpus: str, reported: dict[int, float]) -> None:
    laws = paper_laws(corpus)
    found = {k: fit.term("n").value for k, fit in laws.by_k.items()}
    assert found == pytest.approx(reported, abs=0.003)
    assert all(fit.is_good for fit in laws.by_k.values())
    assert laws.joint is not None


def test_two_points_make_a_line_without_an_error() -> None:
    fit = power_laws([Point(8, 100, 0.4), Point(8, 200, 0.2)]).by_k[8]
    assert fit.term("n").value == pytest.approx(-1)
    assert (fit.term("n").error, fit.term("n").low, fit.r2) == (None, None, 1)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [Point(8, 100, 0.4)],
        [Point(8, 100, 0.4), Point(16, 100, 0.3)],
        [Point(8, 9, 0.4), Point(8, 9, 0.3)],
    ],
)
def test_what_cannot_be_fitted_is_left_out(points: list[Point]) -> None:
    laws = power_laws(points)
    assert (laws.by_k, laws.joint, laws.crossed) == ({}, None, None)


def test_one_k_has_no_exponent_of_k() -> None:
    laws = power_laws([point for point in planted(-0.1, -0.3) if point.k == 8])
    assert laws.by_k[8].term("n").value == pytest.approx(-0.1)
    assert laws.joint is None


def test_errors_that_are_no_numbers_have_no_say() -> None:
    points = [*planted(-0.1, -0.3), Point(8, 9999, float("nan")), Point(8, 3, 0.0)]
    assert power_laws(points).by_k[8].n_points == 4


def test_points_that_are_no_line_are_not_called_one() -> None:
    errors = (0.30, 0.25, 0.26, 0.31)
    fit = power_laws([Point(8, n, fvu) for n, fvu in zip(LATENTS, errors, strict=True)]).by_k[8]
    assert not fit.is_good
    low, high = fit.term("n").low, fit.term("n").high
    assert low is not None
    assert high is not None
    assert low < 0 < high
