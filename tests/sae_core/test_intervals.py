"""Intervals, against tables and by their laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_core.intervals import Z_95, difference, fisher, mean_interval, share_interval, wilson


@pytest.mark.parametrize(
    ("n_yes", "n", "low", "high"),
    [(0, 10, 0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_intervals_are_those_of_the_tables(n_yes: int, n: int, low: float, high: float) -> None:
    found = wilson(n_yes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == n_yes / n


@given(st.integers(1, 80), st.data())
def test_wilsons_interval_holds_its_share_and_rises_with_it(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n - 1))
    less, more = wilson(hits, n), wilson(hits + 1, n)
    assert 0 <= less.low <= less.value <= less.high <= 1
    assert less.low < more.low
    assert less.high < more.high or more.high == 1


def test_nothing_counted_says_nothing() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


def test_fishers_interval_is_symmetric_in_z_and_has_no_width_at_its_ends() -> None:
    found = fisher(0.5, 60)
    reach = Z_95 / math.sqrt(57)
    assert math.atanh(found.high) - math.atanh(0.5) == pytest.approx(reach)
    assert math.atanh(0.5) - math.atanh(found.low) == pytest.approx(reach)
    assert fisher(1.0, 60).high == 1.0
    assert fisher(-1.0, 60).low == -1.0


def test_intervals() -> None:
    one = mean_interval([0.5])
    assert one.low < 0.5 < one.high
    assert share_interval([1.0, 1.0, 0.0]).high == 1
    lead = difference([1.0] * 50 + [0.9] * 50, [0.2] * 50 + [0.3] * 50)
    assert lead.value == pytest.approx(0.7)
    assert 0.6 < lead.low < lead.value < lead.high < 0.8
