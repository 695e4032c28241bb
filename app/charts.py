"""Geometry of the pictures: numbers in, coordinates out. Templates turn these into SVG.

Coordinates are in units of the picture's viewBox, y downwards. Nothing here knows of HTML or of colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from app.views import Histogram, Slider


@dataclass(frozen=True)
class Tick:
    """A place on an axis and the number that stands there."""

    at: float
    value: float


@dataclass(frozen=True)
class Column:
    """One bar of a histogram, with the numbers it stands for."""

    x: float
    y: float
    width: float
    height: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Columns:
    """A histogram laid out in a box of `width` x `height`."""

    columns: list[Column]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    marker: float | None
    width: float
    height: float


@dataclass(frozen=True)
class Lines:
    """Curves over a common x, each an SVG path, laid out in a box of `width` x `height`."""

    paths: list[str]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: float
    height: float


@dataclass(frozen=True)
class Box:
    """A rectangle of a treemap; `index` is its place among the sizes that were given."""

    index: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Rail:
    """Places on a slider's track: zero, the query's own activation, what is filled, the ridge behind."""

    zero: float
    own: float
    fill_x: float
    fill_width: float
    ridge_x: float
    ridge_width: float
    ridge: str  # SVG path in a box of 100 x 12


@dataclass(frozen=True)
class Cell:
    """A square of a heat map; `weight` is its value, 0..1."""

    x: float
    y: float
    weight: float


def nice_ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About `n` round numbers inside `low`..`high`: steps of 1, 2, 2.5 or 5 times a power of ten."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(n, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def columns(histogram: Histogram, width: float, height: float, *, is_log: bool = False) -> Columns:
    """Bars of equal bins. With `is_log` heights are log10(1 + count), so that single documents show."""
    n_bins = max(len(histogram.counts), 1)
    span = histogram.high - histogram.low
    tallest = max(histogram.counts, default=0)

    def rise(count: float) -> float:
        if tallest <= 0:
            return 0.0
        share = math.log10(1 + count) / math.log10(1 + tallest) if is_log else count / tallest
        return height * share

    def across(value: float) -> float:
        return width * (value - histogram.low) / span if span > 0 else 0.0

    bin_width = width / n_bins
    bars = [
        Column(
            x=round(i * bin_width, 2),
            y=round(height - rise(count), 2),
            width=round(bin_width, 2),
            height=round(rise(count), 2),
            low=histogram.low + span * i / n_bins,
            high=histogram.low + span * (i + 1) / n_bins,
            count=count,
        )
        for i, count in enumerate(histogram.counts)
    ]
    return Columns(
        columns=bars,
        x_ticks=[Tick(round(across(v), 2), v) for v in nice_ticks(histogram.low, histogram.high, 6)],
        y_ticks=[Tick(round(height - rise(v), 2), v) for v in _count_ticks(tallest, is_log=is_log)],
        marker=None if histogram.marker is None else round(min(max(across(histogram.marker), 0.0), width), 2),
        width=width,
        height=height,
    )


def silhouette(histogram: Histogram, width: float, height: float) -> str:
    """The outline of a histogram as one SVG path, heights as log10(1 + count): the ridge behind a slider."""
    tallest = max([1, *histogram.counts])  # a feature that never fires has a flat ridge
    scale = height / math.log10(1 + tallest)
    bin_width = width / max(len(histogram.counts), 1)
    steps = [
        f"V{height - scale * math.log10(1 + count):.2f}H{bin_width * (i + 1):.2f}"
        for i, count in enumerate(histogram.counts)
    ]
    return f"M0 {height}{''.join(steps)}V{height}Z"


def rail(slider: Slider) -> Rail:
    """A slider's track over 0..100."""
    scale = 100 / (slider.high - slider.low)

    def place(value: float) -> float:
        return round(scale * (value - slider.low), 2)

    zero, at = place(0.0), place(slider.strength)
    ridge = slider.histogram
    return Rail(
        zero=zero,
        own=place(slider.own),
        fill_x=min(zero, at),
        fill_width=round(abs(at - zero), 2),
        ridge_x=place(ridge.low),
        ridge_width=round(scale * (ridge.high - ridge.low), 2),
        ridge=silhouette(ridge, 100, 12),
    )


def _count_ticks(tallest: int, *, is_log: bool) -> list[float]:
    if tallest <= 0:
        return [0.0]
    if is_log:
        return [0.0, *(10.0**i for i in range(int(math.log10(tallest)) + 1))]
    return [v for v in nice_ticks(0, tallest, 4) if v == int(v)]


def lines(
    series: Sequence[Sequence[tuple[float, float | None]]],
    width: float,
    height: float,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Lines:
    """Curves (x, y) with shared axes; a missing y interrupts its curve."""
    xs = [x for points in series for x, _ in points]
    ys = [y for points in series for _, y in points if y is not None]
    x_low, x_high = (min(xs), max(xs)) if xs else (0.0, 1.0)
    y_low = low if low is not None else min(ys, default=0.0)
    y_high = high if high is not None else max(ys, default=1.0)
    x_span, y_span = (x_high - x_low) or 1.0, (y_high - y_low) or 1.0

    def across(x: float) -> float:
        return round(width * (x - x_low) / x_span, 2)

    def up(y: float) -> float:
        return round(height - height * min(max((y - y_low) / y_span, 0.0), 1.0), 2)

    def path(points: Sequence[tuple[float, float | None]]) -> str:
        commands: list[str] = []
        is_down = False
        for x, y in points:
            if y is not None:
                commands.append(f"{'L' if is_down else 'M'}{across(x)} {up(y)}")
            is_down = y is not None
        return "".join(commands)

    return Lines(
        paths=[path(points) for points in series],
        x_ticks=[Tick(across(x), x) for x in nice_ticks(x_low, x_high, 5)],
        y_ticks=[Tick(up(y), y) for y in nice_ticks(y_low, y_high, 4)],
        width=width,
        height=height,
    )


def heat_cells(values: Sequence[Sequence[float]], size: float, *, least: float = 0.005) -> list[Cell]:
    """The squares of a heat map of `size` x `size`, row by row; below `least`, none."""
    side = size / max(len(values), 1)
    return [
        Cell(round(j * side, 2), round(i * side, 2), round(min(value, 1.0), 2))
        for i, row in enumerate(values)
        for j, value in enumerate(row)
        if value >= least
    ]


def treemap(sizes: Sequence[float], width: float, height: float) -> list[Box]:
    """Rectangles with areas in proportion to `sizes`, as square as rows allow (squarified, Bruls 2000)."""
    order = sorted((i for i, size in enumerate(sizes) if size > 0), key=lambda i: -sizes[i])
    total = sum(sizes[i] for i in order)
    if total <= 0:
        return []
    areas = [(i, sizes[i] / total * width * height) for i in order]
    boxes: list[Box] = []
    x, y, free_width, free_height = 0.0, 0.0, width, height
    while areas:
        side = min(free_width, free_height)
        n = _row_length([area for _, area in areas], side)
        row, areas = areas[:n], areas[n:]
        thickness = sum(area for _, area in row) / side if side > 0 else 0.0
        offset = 0.0
        for index, area in row:
            length = area / thickness if thickness > 0 else 0.0
            if free_width >= free_height:
                boxes.append(_box(index, x, y + offset, thickness, length))
            else:
                boxes.append(_box(index, x + offset, y, length, thickness))
            offset += length
        if free_width >= free_height:
            x, free_width = x + thickness, free_width - thickness
        else:
            y, free_height = y + thickness, free_height - thickness
    return boxes


def _row_length(areas: Sequence[float], side: float) -> int:
    """How many areas to lay along `side` before the worst shape gets worse."""

    def worst(n: int) -> float:
        total = sum(areas[:n])
        return max(max(side * side * area / total**2, total**2 / (side * side * area)) for area in areas[:n])

    n = 1
    while n < len(areas) and side > 0 and worst(n + 1) <= worst(n):
        n += 1
    return n


def _box(index: int, x: float, y: float, width: float, height: float) -> Box:
    return Box(index, round(x, 2), round(y, 2), round(max(width, 0.0), 2), round(max(height, 0.0), 2))
