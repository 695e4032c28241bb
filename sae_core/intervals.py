"""Measured values with their 95 % intervals: one definition of each kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Z_95 = 1.959964  # standard deviations on either side of the mean that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Interval:
    """A measured value with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(n_yes: int, n: int) -> Interval:
    """A share, after Wilson (1927); 0 between 0 and 1 where nothing was counted."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0)
    value, z2 = n_yes / n, Z_95**2
    centre = (value + z2 / (2 * n)) / (1 + z2 / n)
    reach = Z_95 / (1 + z2 / n) * math.sqrt(value * (1 - value) / n + z2 / (4 * n * n))
    return Interval(value, max(0.0, min(centre - reach, value)), min(1.0, max(centre + reach, value)))


def fisher(r: float, n: int) -> Interval:
    """A correlation of n > 3 pairs, after Fisher's z. At +-1 it has no width."""
    centre, reach = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12)), Z_95 / math.sqrt(n - 3)
    return Interval(r, min(math.tanh(centre - reach), r), max(math.tanh(centre + reach), r))


def mean_interval(values: Sequence[float] | NDArray[np.floating[Any]]) -> Interval:
    """A mean, by the normal approximation; one value is within 1 of itself."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if len(found) < 2:  # noqa: PLR2004 (a spread needs two)
        return Interval(mean, mean - 1, mean + 1)
    reach = Z_95 * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Interval(mean, mean - reach, mean + reach)


def quotient(ours: Interval, others: Interval) -> Interval:
    """One positive value over another, measured on other things: their relative errors add in squares."""
    value = ours.value / others.value
    spread = math.hypot(*((each.high - each.value) / each.value for each in (ours, others)))
    return Interval(value, value * math.exp(-spread), value * math.exp(spread))


def share_interval(values: Sequence[float] | NDArray[np.floating[Any]]) -> Interval:
    """The same of values between 0 and 1, which their mean cannot leave."""
    found = mean_interval(values)
    return Interval(found.value, max(0.0, found.low), min(1.0, found.high))


def difference(ours: Sequence[float], others: Sequence[float]) -> Interval:
    """The mean of `ours` less that of `others`, of independent values."""
    a, b = mean_interval(ours), mean_interval(others)
    reach = math.hypot(a.high - a.value, b.high - b.value)
    return Interval(a.value - b.value, a.value - b.value - reach, a.value - b.value + reach)
