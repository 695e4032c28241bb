"""Geometry of charts with axes, and of sliders: numbers in, coordinates out. Templates turn these into SVG.

Coordinates are in units of the picture's viewBox, y downwards. Nothing here knows of HTML or of colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from app.views.common import Histogram
from app.views.scorecard import GridRow
from app.views.search import FamilySlider, Slider

MIN_LOG_TICKS = 3
TICK_HEIGHT = 48.0  # of a linear upward axis: about so far apart
SMALL_SIDE = 0.06  # of the larger: what the other side of zero has at least


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
class Axis:
    """Values `low`..`high` along `length`, linear or logarithmic; an upward axis begins at the bottom."""

    low: float
    high: float
    length: float
    is_log: bool = False
    is_up: bool = False

    def at(self, value: float) -> float:
        """The coordinate of a value; one beyond an end stands at that end."""
        low, high, value = self._scaled(self.low), self._scaled(self.high), self._scaled(value)
        share = (value - low) / (high - low) if high > low else 0.5
        share = min(max(share, 0.0), 1.0)
        return round(self.length * (1 - share if self.is_up else share), 2)

    def ticks(self, n: int) -> list[Tick]:
        """Round values on the axis: about `n`, or, on a logarithmic one, as many as powers of ten ask for."""
        values = log_ticks(self.low, self.high) if self.is_log else nice_ticks(self.low, self.high, n)
        return [Tick(self.at(value), value) for value in values]

    def _scaled(self, value: float) -> float:
        return math.log(max(value, math.ulp(0.0))) if self.is_log else value


@dataclass(frozen=True)
class Lines:
    """Curves over a common x, each an SVG path, laid out in a box of `width` x `height`."""

    paths: list[str]
    points: list[list[tuple[float, float]]]  # the places of each curve's values
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    marker: float | None
    width: float
    height: float


@dataclass(frozen=True)
class EndLabel:
    """The name of a curve, at height `at` beside its last point (x, y)."""

    k: int
    is_heldout: bool
    x: float
    y: float
    at: float


@dataclass(frozen=True)
class GridPlot:
    """Errors against the number of latents on logarithmic axes: one curve of each set for each k."""

    axes: Lines
    heldout: list[tuple[str, list[tuple[float, float]]]]  # path and points, by k
    train: list[tuple[str, list[tuple[float, float]]]]
    labels: list[EndLabel]


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
class SignedScale:
    """Where zero is on 0..100, and how long a bar of 1 would be."""

    zero: float
    unit: float

    def length(self, value: float) -> float:
        """Of the bar of a number."""
        return round(abs(value) * self.unit, 1)

    def start(self, value: float) -> float:
        """Where its bar begins: at zero, or, of a negative one, to the left of it."""
        return self.zero if value >= 0 else round(self.zero - self.length(value), 1)


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


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers inside `low`..`high` for a logarithmic axis: more to a decade where it spans fewer."""
    if not (0 < low < high < math.inf):
        return [low]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        found = [m * 10.0**p for p in powers for m in mantissas]
        inside = [round(v, 12) for v in found if low * (1 - 1e-9) <= v <= high * (1 + 1e-9)]
        if len(inside) >= MIN_LOG_TICKS:
            return inside
    return nice_ticks(low, high, 3)


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


def rail(slider: Slider | FamilySlider) -> Rail:
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


def signed_scale(values: Iterable[float]) -> SignedScale:
    """Room for signed numbers on 0..100: as much on each side of zero as the largest of them needs."""
    lowest, highest = 0.0, 0.0
    for value in values:
        lowest, highest = min(lowest, value), max(highest, value)
    reach = max(highest, -lowest) or 1.0
    low, high = max(-lowest, SMALL_SIDE * reach), max(highest, SMALL_SIDE * reach)
    return SignedScale(round(100 * low / (low + high), 1), 100 / (low + high))


def _count_ticks(tallest: int, *, is_log: bool) -> list[float]:
    if tallest <= 0:
        return [0.0]
    if is_log:
        return [0.0, *(10.0**i for i in range(int(math.log10(tallest)) + 1))]
    return [v for v in nice_ticks(0, tallest, 4) if v == int(v)]


def series(rows: Sequence[object], x: str, y: str) -> list[tuple[float, float | None]]:
    """The curve of field `y` over field `x`; empty where no row has a `y`."""
    pairs = [(getattr(row, x), getattr(row, y)) for row in rows]
    return pairs if any(value is not None for _, value in pairs) else []


def lines(
    curves: Sequence[Sequence[tuple[float, float | None]]],
    width: float,
    height: float,
    *,
    low: float | None = None,
    high: float | None = None,
    at_least: float = -math.inf,
    is_log: bool = False,
    is_log_x: bool = False,
    x_ticks: Sequence[float] | None = None,
    marker: float | None = None,
) -> Lines:
    """Curves (x, y) with shared axes; a missing y interrupts its curve, and so does one <= 0 on a log axis.

    `low` and `high` are the ends of the upward axis, by default those of the values, the upper one
    `at_least` so high; `x_ticks` are the values
    named on the other, by default round ones; `marker` is an x to be marked.
    """
    xs = [x for points in curves for x, _ in points]
    ys = [y for points in curves for _, y in points if _is_shown(y, is_log=is_log)]
    across = Axis(min(xs, default=0.0), max(xs, default=1.0), width, is_log_x)
    up = Axis(
        min(ys, default=0.1) if low is None else low,
        max([at_least, *(ys or [1.0])]) if high is None else high,
        height,
        is_log,
        is_up=True,
    )

    def path(points: Sequence[tuple[float, float | None]]) -> str:
        commands: list[str] = []
        is_down = False
        for x, y in points:
            if _is_shown(y, is_log=is_log):
                commands.append(f"{'L' if is_down else 'M'}{across.at(x)} {up.at(y)}")
                is_down = True
            else:
                is_down = False
        return "".join(commands)

    return Lines(
        paths=[path(points) for points in curves],
        points=[
            [(across.at(x), up.at(y)) for x, y in points if _is_shown(y, is_log=is_log)] for points in curves
        ],
        x_ticks=across.ticks(5) if x_ticks is None else [Tick(across.at(x), x) for x in x_ticks],
        y_ticks=up.ticks(max(2, round(height / TICK_HEIGHT))),
        marker=None if marker is None else across.at(marker),
        width=width,
        height=height,
    )


def _is_shown(y: float | None, *, is_log: bool) -> TypeGuard[float]:
    return y is not None and math.isfinite(y) and (y > 0 or not is_log)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """`places` moved apart, as little as may be, so that labels `gap` high do not overlap; order is kept."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    # Less what the labels below take up, the places must not fall: isotonic regression, by pooling.
    pools: list[tuple[float, int]] = []
    for i, label in enumerate(order):
        mean, n = places[label] - i * gap, 1
        while pools and pools[-1][0] > mean:
            other, m = pools.pop()
            mean, n = (mean * n + other * m) / (n + m), n + m
        pools.append((mean, n))
    bases = [mean for mean, n in pools for _ in range(n)]
    found = [0.0] * len(places)
    for i, label in enumerate(order):
        found[label] = round(bases[i] + i * gap, 2)
    return found


def grid_plot(rows: Sequence[GridRow], width: float, height: float, *, label_height: float = 17) -> GridPlot:
    """The errors of a grid of SAEs; each curve has a name beside its last point."""
    ks = sorted({row.k for row in rows})
    by_k = [sorted((row for row in rows if row.k == k), key=lambda row: row.n_latents) for k in ks]
    plot = lines(
        [series(members, "n_latents", name) for name in ("fvu_heldout", "fvu_train") for members in by_k],
        width,
        height,
        is_log=True,
        is_log_x=True,
        x_ticks=sorted({row.n_latents for row in rows}),
    )
    curves = list(zip(plot.paths, plot.points, strict=True))
    heldout, train = curves[: len(ks)], curves[len(ks) :]
    ends = [
        (k, is_heldout, points[-1])
        for curves_of, is_heldout in ((heldout, True), (train, False))
        for k, (_, points) in zip(ks, curves_of, strict=True)
        if points
    ]
    places = spread([y for _, _, (_, y) in ends], label_height)
    labels = [
        EndLabel(k, is_heldout, x, y, at) for (k, is_heldout, (x, y)), at in zip(ends, places, strict=True)
    ]
    return GridPlot(plot, heldout, train, labels)
