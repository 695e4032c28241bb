"""Laws of the geometry: what stands on an axis stands where its number says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.charts import Axis, lines, log_ticks, series, signed_scale, spread


@dataclass
class Row:
    x: int
    y: float | None


def test_an_upward_axis_begins_at_the_bottom() -> None:
    axis = Axis(1, 3, 100, is_up=True)
    assert [axis.at(value) for value in (1, 2, 3)] == [100, 50, 0]
    assert [axis.at(value) for value in (0, 9)] == [100, 0]


def test_on_a_logarithmic_axis_equal_factors_are_equal_ways() -> None:
    axis = Axis(0.1, 1000, 100, is_log=True)
    assert [axis.at(value) for value in (0.1, 1, 10, 100, 1000)] == [0, 25, 50, 75, 100]
    assert axis.at(0) == axis.at(-3) == 0


def test_an_axis_of_one_value_has_it_in_the_middle() -> None:
    assert Axis(5, 5, 100).at(5) == 50
    assert lines([[(7, 0.2)]], 100, 60, is_log=True).points == [[(50, 30)]]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 10, [0.001, 0.01, 0.1, 1, 10]),
        (0.15, 1, [0.2, 0.5, 1]),
        (0.14, 0.45, [0.15, 0.2, 0.3, 0.4]),
        (0.31, 0.34, [0.31, 0.32, 0.33, 0.34]),
        (2, 2, [2]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(expected)


@given(
    low=st.floats(1e-6, 1e6),
    factor=st.floats(1.0001, 1e6),
)
def test_there_is_a_tick_on_every_logarithmic_axis_and_none_beside_it(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert ticks
    assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in ticks)


def test_a_missing_value_interrupts_its_curve() -> None:
    plot = lines([[(0, 1.0), (1, None), (2, 3.0), (3, 2.0), (4, math.nan)]], 40, 20)
    assert plot.paths == ["M0.0 20.0M20.0 0.0L30.0 10.0"]
    assert len(plot.points[0]) == 3


def test_what_has_no_logarithm_is_not_drawn() -> None:
    assert lines([[(0, 0.0), (1, 0.1), (2, 1.0)]], 40, 20, is_log=True).paths == ["M20.0 20.0L40.0 0.0"]


def test_curves_of_nothing_have_axes_all_the_same() -> None:
    plot = lines([[], []], 40, 20, low=0)
    assert plot.paths == ["", ""]
    assert plot.x_ticks
    assert plot.y_ticks


def test_the_upper_end_is_at_least_so_high_and_a_marker_stands_at_its_value() -> None:
    plot = lines([[(0, 0.0), (10, 0.0)]], 100, 20, low=0, at_least=0.01, marker=5)
    assert plot.paths == ["M0.0 20.0L100.0 20.0"]
    assert plot.marker == 50


def test_named_ticks_stand_at_their_values() -> None:
    plot = lines([[(512, 0.3), (2048, 0.2)]], 100, 20, is_log_x=True, x_ticks=[512, 1024, 2048])
    assert [(tick.at, tick.value) for tick in plot.x_ticks] == [(0, 512), (50, 1024), (100, 2048)]


def test_a_field_that_no_row_has_is_no_curve() -> None:
    assert series([Row(1, None), Row(2, None)], "x", "y") == []
    assert series([Row(1, 0.5), Row(2, None)], "x", "y") == [(1, 0.5), (2, None)]


@given(st.lists(st.floats(0, 300), max_size=12))
def test_labels_are_spread_apart_in_their_order(places: list[float]) -> None:
    moved = spread(places, 12)
    order = sorted(range(len(places)), key=lambda i: places[i])
    for lower, upper in pairwise(order):
        assert moved[upper] - moved[lower] >= 12 - 0.02


def test_labels_at_one_place_are_spread_around_it() -> None:
    assert spread([20, 20, 20], 10) == [10, 20, 30]


def test_labels_with_room_stay_where_they_are() -> None:
    assert spread([50, 10, 30], 12) == [50, 10, 30]


@given(values=st.lists(st.floats(-1, 1).filter(lambda v: abs(v) > 1e-6), min_size=1, max_size=20))
def test_signed_bars_stay_on_their_side_and_fill_the_room(values: list[float]) -> None:
    scale = signed_scale(values)
    ends = [scale.zero + value * scale.unit for value in values]
    assert all(-0.1 <= end <= 100.1 for end in ends)
    assert 5 <= scale.zero <= 95
    assert max(ends) == pytest.approx(100, abs=0.1) or min(ends) == pytest.approx(0, abs=0.1)
    assert signed_scale([]) == signed_scale([0.0])
